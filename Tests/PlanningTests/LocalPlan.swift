// Makes plans from local files, without the command line.

import Gemma2
import Hooks
import SparseAutoencoders
import Testing

@testable import Planning

extension RunPlan {
    /// Makes a plan for `options`, which must give local paths.
    init(local options: RunOptions) throws {
        try options.check()
        let (label, folder) = try options.namedModel()
        let directory = try #require(folder)
        try options.check(try Gemma2Config(path: directory + "/config.json"))
        let tree = try #require(try options.saeTree(label: label))
        func catalogue(_ site: Site) throws -> SAECatalogue {
            try SAECatalogue(
                directory: try tree.repository(site: site.rawValue), layers: options.layers)
        }
        let saes = try options.chosenSAEs(of: catalogue).map { hook, id in
            ChosenSAE(
                hook: hook, id: id,
                directory: "\(try tree.repository(site: hook.site.rawValue))/\(id)")
        }
        try self.init(
            options,
            at: InputLocations(
                label: label, model: ModelFolders(directory), saes: saes,
                dataPaths: [try #require(options.dataPath)]), devices: [])
    }
}
