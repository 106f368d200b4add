// Which SAEs lie in a local tree, and which of them to take.
// Layout: huggingface.co/google/gemma-scope-2b-pt-res and its siblings.

import ArrayFiles
import ByteJSON

/// The SAE repositories of one model size.
public enum ScopeSize: String, Codable, Sendable {
    /// gemma-scope-2b-pt-…
    case small = "2b"
    /// gemma-scope-9b-pt-…
    case large = "9b"

    /// The size that a model's label names: 9b if it says so, else 2b.
    public init(label: String) {
        self = label.lowercased().contains("9b") ? .large : .small
    }
}

/// Where an SAE lies within its repository: `layer_5/width_16k/average_l0_51`.
public struct SAEIdentifier: Hashable, Codable, Sendable, CustomStringConvertible {
    /// The layer it was made for.
    public let layer: Int
    /// Its width as published, `16k`.
    public let width: String
    /// Its average L0, the mean number of features on at a token.
    public let averageL0: Int

    /// The SAE of `layer` with `width` and `averageL0`.
    public init(layer: Int, width: String, averageL0: Int) {
        self.layer = layer
        self.width = width
        self.averageL0 = averageL0
    }

    /// Reads `layer_L/width_W/average_l0_N`; nil for anything else.
    public init?(_ text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 3, let layer = number(parts[0], after: "layer_"),
            parts[1].hasPrefix("width_"), parts[1].count > 6,
            let averageL0 = number(parts[2], after: "average_l0_")
        else { return nil }
        self.init(layer: layer, width: String(parts[1].dropFirst(6)), averageL0: averageL0)
    }

    /// The path within the repository.
    public var description: String { "layer_\(layer)/width_\(width)/average_l0_\(averageL0)" }
}

/// The decimal number that follows `prefix` and makes up the rest of `text`.
private func number(_ text: some StringProtocol, after prefix: String) -> Int? {
    guard text.hasPrefix(prefix) else { return nil }
    let digits = text.dropFirst(prefix.count)
    guard digits.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }) else {
        return nil
    }
    return Int(digits)
}

/// Why no SAE can be chosen. All are answered by another flag value.
public enum SAEChoiceError: Error, Equatable, CustomStringConvertible {
    /// None of the places where a site's SAEs may lie exists.
    case noRepository(site: String, tried: [String])
    /// The repository has nothing for the layer.
    case noLayer(repository: String, layer: Int, existing: [Int])
    /// The layer has no SAE of that width.
    case noWidth(repository: String, layer: Int, width: String, existing: [String])
    /// The width has no SAE of that average L0, or none at all.
    case noL0(repository: String, layer: Int, width: String, averageL0: Int?, existing: [Int])

    /// What was asked for, what exists, and which flag to change.
    public var description: String {
        func list(_ items: [some Any]) -> String {
            items.isEmpty ? "none" : items.map { "\($0)" }.joined(separator: ", ")
        }
        return switch self {
        case .noRepository(let site, let tried):
            "--sae_dir has no \(site) SAEs: looked for \(tried.joined(separator: ", ")); give the folder that holds one of these, or leave the site out with --layer_types"
        case .noLayer(let repository, let layer, let existing):
            "\(repository) has no SAEs for layer \(layer); layers there: \(list(existing)); change --layers"
        case .noWidth(let repository, let layer, let width, let existing):
            "\(repository)/layer_\(layer) has no SAE of width \(width); widths there: \(list(existing)); change --sae_features"
        case .noL0(let repository, let layer, let width, let l0, let existing):
            "\(repository)/layer_\(layer)/width_\(width) has no SAE \(l0.map { "average_l0_\($0)" } ?? "named average_l0_N"); average L0s there: \(list(existing)); change \(l0 == nil ? "--sae_features" : "--sae_id")"
        }
    }
}

/// A local tree of SAEs.
public struct SAETree: Sendable {
    /// The tree's root, as given.
    public let directory: String
    private let size: ScopeSize

    /// The tree at `directory`, for models of `size`.
    public init(directory: String, size: ScopeSize) {
        self.directory = directory
        self.size = size
    }

    /// The folder of a site's SAEs: the first that exists of the three layouts.
    public func repository(site: String) throws(SAEChoiceError) -> String {
        let name = "gemma-scope-\(size.rawValue)-pt-\(site)"
        let tried = [name, "google/\(name)", site].map { "\(directory)/\($0)" }
        guard let found = tried.first(where: isDirectory) else {
            throw .noRepository(site: site, tried: tried)
        }
        return found
    }

    /// The SAE of `width` for a site and layer whose average L0 is nearest to `target`; on a tie the lower.
    /// Throws `SAEChoiceError` or `FileError`.
    public func nearest(
        site: String, layer: Int, width: String, target: Int
    ) throws -> SAEIdentifier {
        let existing = try averageL0s(site: site, layer: layer, width: width)
        guard let best = existing.min(by: { (distance($0), $0) < (distance($1), $1) }) else {
            throw SAEChoiceError.noL0(
                repository: try repository(site: site), layer: layer, width: width,
                averageL0: nil, existing: [])
        }
        func distance(_ l0: Int) -> Int { abs(l0 - target) }
        return SAEIdentifier(layer: layer, width: width, averageL0: best)
    }

    /// Fails unless `id` exists for `site`. Throws `SAEChoiceError` or `FileError`.
    public func check(_ id: SAEIdentifier, site: String) throws {
        let existing = try averageL0s(site: site, layer: id.layer, width: id.width)
        guard existing.contains(id.averageL0) else {
            throw SAEChoiceError.noL0(
                repository: try repository(site: site), layer: id.layer, width: id.width,
                averageL0: id.averageL0, existing: existing)
        }
    }

    /// The average L0s that exist, ascending.
    private func averageL0s(site: String, layer: Int, width: String) throws -> [Int] {
        let root = try repository(site: site)
        let layerFolder = "\(root)/layer_\(layer)"
        guard isDirectory(layerFolder) else {
            let layers = try directoryContents(root).compactMap { number($0, after: "layer_") }
            throw SAEChoiceError.noLayer(
                repository: root, layer: layer, existing: layers.sorted())
        }
        let folder = "\(layerFolder)/width_\(width)"
        guard !width.contains("/"), isDirectory(folder) else {
            let widths = try directoryContents(layerFolder).filter { $0.hasPrefix("width_") }
            throw SAEChoiceError.noWidth(
                repository: root, layer: layer, width: width,
                existing: widths.map { String($0.dropFirst(6)) })
        }
        return try directoryContents(folder).compactMap { number($0, after: "average_l0_") }
            .sorted()
    }
}
