// Which SAEs there are, and which of them to take.
// Layout: huggingface.co/google/gemma-scope-2b-pt-res and its siblings.

import ByteJSON
import Files
import Hooks

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

    /// The repository that lacks it; nil where there is none.
    public var repository: String? {
        switch self {
        case .noRepository: nil
        case .noLayer(let repository, _, _), .noWidth(let repository, _, _, _),
            .noL0(let repository, _, _, _, _):
            repository
        }
    }

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

    /// Whether it has no site's SAEs.
    public var isEmpty: Bool {
        !["res", "mlp", "att"].contains { (try? repository(site: $0)) != nil }
    }

    /// What the folder is, and what to do, where it is a part of such a tree: a site's, a layer's or an SAE's own folder.
    public var partOfTree: String? {
        guard isEmpty, let names = try? directoryContents(directory) else { return nil }
        let whole =
            "gemma-scope-\(size.rawValue)-pt-res/layer_L/width_W/average_l0_N"
        if names.contains(where: SAEFile.fileNames.contains) {
            return
                "is one SAE's folder; give the folder that holds \(whole), or choose it by --sae_id"
        }
        if names.contains(where: { $0.hasPrefix("width_") || $0.hasPrefix("average_l0_") }) {
            return "is a folder of one layer's SAEs; give the folder that holds \(whole)"
        }
        if let layer = names.first(where: { number($0, after: "layer_") != nil }) {
            return
                "is the folder of one site's SAEs itself (it has \(layer)); give the folder above, in which it is called gemma-scope-\(size.rawValue)-pt-res (or mlp, att) or res: mkdir saes && ln -s \(shellWord(directory)) saes/res"
        }
        return nil
    }

    /// The folder of a site's SAEs: the first that exists of the three layouts.
    public func repository(site: String) throws(SAEChoiceError) -> String {
        let name = size.repositoryName(site: site)
        let tried = [name, "google/\(name)", site].map { "\(directory)/\($0)" }
        guard let found = tried.first(where: isDirectory) else {
            throw .noRepository(site: site, tried: tried)
        }
        return found
    }
}

/// The SAEs of one site, wherever they are.
public struct SAECatalogue: Sendable {
    /// The repository's folder or Hub id, for messages.
    public let repository: String
    /// The average L0s that exist, by layer and width.
    private var averageL0s: [Int: [String: [Int]]] = [:]

    /// The SAEs in the folder `directory`. Of other layers than `layers`, where they are given, only their being there is
    /// looked at. Throws `FileError`.
    public init(directory: String, layers: [Int]? = nil) throws {
        repository = directory
        for name in try directoryContents(directory) {
            guard let layer = number(name, after: "layer_"), isDirectory("\(directory)/\(name)")
            else { continue }
            averageL0s[layer] = [:]
            guard layers?.contains(layer) ?? true else { continue }
            for width in try directoryContents("\(directory)/\(name)")
            where width.hasPrefix("width_") {
                let folder = "\(directory)/\(name)/\(width)"
                guard isDirectory(folder) else { continue }
                averageL0s[layer]![String(width.dropFirst(6))] =
                    try directoryContents(folder).compactMap { number($0, after: "average_l0_") }
            }
        }
    }

    /// The SAEs that a repository with files at `paths` has.
    public init(repository: String, paths: [String]) {
        self.repository = repository
        for path in paths {
            guard let slash = path.lastIndex(of: "/"),
                SAEFile.fileNames.contains(String(path[path.index(after: slash)...])),
                let id = SAEIdentifier(String(path[..<slash]))
            else { continue }
            var existing = averageL0s[id.layer]?[id.width] ?? []
            if !existing.contains(id.averageL0) { existing.append(id.averageL0) }
            averageL0s[id.layer, default: [:]][id.width] = existing
        }
    }

    /// The layers that there is anything for, ascending.
    public var layers: [Int] { averageL0s.keys.sorted() }

    /// The widths that `layer` has, the narrowest first.
    public func widths(layer: Int) -> [String] {
        (averageL0s[layer] ?? [:]).keys.sorted {
            (featureCount($0), $0) < (featureCount($1), $1)
        }
    }

    /// The average L0s of `layer` and `width`, ascending. Throws `SAEChoiceError` where the layer has no such width.
    public func averageL0s(layer: Int, width: String) throws(SAEChoiceError) -> [Int] {
        guard let widths = averageL0s[layer] else {
            throw .noLayer(repository: repository, layer: layer, existing: layers)
        }
        guard let existing = widths[width] else {
            throw .noWidth(
                repository: repository, layer: layer, width: width,
                existing: self.widths(layer: layer))
        }
        return existing.sorted()
    }

    /// The SAE of `width` for `layer` whose average L0 is nearest to `target`; on a tie the lower.
    public func nearest(
        layer: Int, width: String, target: Int
    ) throws(SAEChoiceError) -> SAEIdentifier {
        func distance(_ l0: Int) -> Int { abs(l0 - target) }
        let existing = try averageL0s(layer: layer, width: width)
        guard let best = existing.min(by: { (distance($0), $0) < (distance($1), $1) }) else {
            throw .noL0(
                repository: repository, layer: layer, width: width, averageL0: nil, existing: [])
        }
        return SAEIdentifier(layer: layer, width: width, averageL0: best)
    }

    /// Fails unless `id` exists.
    public func check(_ id: SAEIdentifier) throws(SAEChoiceError) {
        let existing = try averageL0s(layer: id.layer, width: id.width)
        guard existing.contains(id.averageL0) else {
            throw .noL0(
                repository: repository, layer: id.layer, width: id.width, averageL0: id.averageL0,
                existing: existing)
        }
    }
}

/// What a width says about itself: 16k is 16, 1m is 1024; the unreadable last.
private func featureCount(_ width: String) -> Int {
    guard let count = Int(width.dropLast()) else { return .max }
    return width.hasSuffix("m") ? count << 10 : width.hasSuffix("k") ? count : .max
}
