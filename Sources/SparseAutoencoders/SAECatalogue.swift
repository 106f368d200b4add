// Lists the SAEs of a site and chooses one SAE for each layer.
// Folders have the layout of huggingface.co/google/gemma-scope-2b-pt-res, which other Gemma Scope repositories also
// have.

import ByteJSON
import Files
import Hooks

/// Errors that are thrown if no SAE can be chosen. The user can solve each error by changing a flag.
package enum SAEChoiceError: Error, Equatable, CustomStringConvertible {
    /// No folder exists in which the program looks for the SAEs of this site.
    case noRepository(site: String, tried: [String])
    /// The repository has no SAEs for the layer.
    case noLayer(repository: String, layer: Int, existing: [Int])
    /// The layer has no SAE of this width.
    case noWidth(repository: String, layer: Int, width: String, existing: [String])
    /// The width has no SAE with this average L0. If `averageL0` is nil, the width has no SAE at all.
    case noL0(repository: String, layer: Int, width: String, averageL0: Int?, existing: [Int])

    /// The repository that lacks the SAE; nil if the repository does not exist.
    package var repository: String? {
        switch self {
        case .noRepository: nil
        case .noLayer(let repository, _, _), .noWidth(let repository, _, _, _),
            .noL0(let repository, _, _, _, _):
            repository
        }
    }

    /// The message: the SAE that was asked for, the existing ones, and the flag to change.
    package var description: String {
        func list(_ items: [some Any]) -> String {
            items.isEmpty ? "none" : items.map { "\($0)" }.joined(separator: ", ")
        }
        return switch self {
        case .noRepository(let site, let tried):
            "--sae_dir has no \(site) SAEs: none of these folders exists: \(tried.joined(separator: ", ")); give the folder that contains one of them, or leave the site out with --layer_types"
        case .noLayer(let repository, let layer, let existing):
            "\(repository) has no SAEs for layer \(layer); existing layers: \(list(existing)); change --layers"
        case .noWidth(let repository, let layer, let width, let existing):
            "\(repository)/layer_\(layer) has no SAE of width \(width); existing widths: \(list(existing)); change --sae_features"
        case .noL0(let repository, let layer, let width, let l0, let existing):
            "\(repository)/layer_\(layer)/width_\(width) has no SAE \(l0.map { "average_l0_\($0)" } ?? "named average_l0_N"); existing average L0s: \(list(existing)); change \(l0 == nil ? "--sae_features" : "--sae_id")"
        }
    }
}

/// A local folder with the SAEs of one or more sites.
package struct SAETree: Sendable {
    /// The path of the folder, as the user gave it.
    package let directory: String
    private let size: ScopeSize

    /// Creates the tree at `directory`, for models of `size`.
    package init(directory: String, size: ScopeSize) {
        self.directory = directory
        self.size = size
    }

    /// Whether the folder has no SAEs of any site.
    package var isEmpty: Bool {
        !["res", "mlp", "att"].contains { (try? repository(site: $0)) != nil }
    }

    /// The end of a message if the folder is only part of a tree: the folder of one site, one layer or one SAE. It
    /// says what the folder is and what the user can do. Nil for other folders.
    package var partOfTree: String? {
        guard isEmpty, let names = try? directoryContents(directory) else { return nil }
        let whole =
            "gemma-scope-\(size.rawValue)-pt-res/layer_L/width_W/average_l0_N"
        if names.contains(where: SAEFile.fileNames.contains) {
            return
                "is one SAE's folder; give the folder that contains \(whole) (or mlp, att instead of res), and choose this SAE in it with --sae_id SITE:layer_L/width_W/average_l0_N"
        }
        if names.contains(where: { $0.hasPrefix("width_") || $0.hasPrefix("average_l0_") }) {
            return "is a folder of one layer's SAEs; give the folder that contains \(whole)"
        }
        if let layer = names.first(where: { number($0, after: "layer_") != nil }) {
            return
                "is the folder of one site's SAEs (\(layer) is in it); give its parent folder, in which this folder must be named gemma-scope-\(size.rawValue)-pt-res (or mlp, att) or res; or make a parent folder and give that: mkdir saes && ln -s \(shellWord(directory)) saes/res"
        }
        return nil
    }

    /// Returns the folder with a site's SAEs: the first existing folder of `gemma-scope-2b-pt-SITE`,
    /// `google/gemma-scope-2b-pt-SITE` (9b for the larger model) and `SITE`. Throws `SAEChoiceError` if none exists.
    package func repository(site: String) throws(SAEChoiceError) -> String {
        let name = size.repositoryName(site: site)
        let tried = [name, "google/\(name)", site].map { "\(directory)/\($0)" }
        guard let found = tried.first(where: isDirectory) else {
            throw .noRepository(site: site, tried: tried)
        }
        return found
    }
}

/// The list of the SAEs of one site, in a local folder or on the Hub.
package struct SAECatalogue: Sendable {
    /// The path of the local folder or the Hub id of the repository, for messages.
    package let repository: String
    /// The average L0s that exist, by layer and by width.
    private var averageL0s: [Int: [String: [Int]]] = [:]

    /// Lists the layers and SAEs in the folder `directory`. With `layers`, lists SAEs only for these layers. Throws
    /// `FileError`.
    package init(directory: String, layers: [Int]? = nil) throws {
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

    /// Lists the SAEs of a repository with files at `paths`, which are relative to its top folder.
    package init(repository: String, paths: [String]) {
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

    /// The indices of the layers that have a folder or an SAE, ascending.
    package var layers: [Int] { averageL0s.keys.sorted() }

    /// Returns the widths of the SAEs of `layer`, the narrowest first.
    package func widths(layer: Int) -> [String] {
        (averageL0s[layer] ?? [:]).keys.sorted {
            (featureCount($0), $0) < (featureCount($1), $1)
        }
    }

    /// Returns the average L0s of the SAEs of `layer` and `width`, ascending. Throws `SAEChoiceError` if the layer or
    /// the width does not exist.
    package func averageL0s(layer: Int, width: String) throws(SAEChoiceError) -> [Int] {
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

    /// Returns the SAE of `width` for `layer` whose average L0 is nearest to `target`. If two are equally near,
    /// returns the SAE with the lower L0. Throws `SAEChoiceError` if the layer has no SAE of this width.
    package func nearest(
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

    /// Throws `SAEChoiceError` if the SAE `id` does not exist.
    package func check(_ id: SAEIdentifier) throws(SAEChoiceError) {
        let existing = try averageL0s(layer: id.layer, width: id.width)
        guard existing.contains(id.averageL0) else {
            throw .noL0(
                repository: repository, layer: id.layer, width: id.width, averageL0: id.averageL0,
                existing: existing)
        }
    }
}

/// Returns the number of features of a width in units of 1024, for sorting: 16 for 16k, 1024 for 1m. A width in
/// another form comes last.
private func featureCount(_ width: String) -> Int {
    guard let count = Int(width.dropLast()) else { return .max }
    return width.hasSuffix("m") ? count << 10 : width.hasSuffix("k") ? count : .max
}
