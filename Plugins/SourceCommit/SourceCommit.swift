// Writes the commit that the program is built from into a Swift source file. The plugin asks git before every build: SwiftPM
// caches what Package.swift reads from git (Context.gitInformation), and the cached value goes stale.

import Foundation
import PackagePlugin

@main
struct SourceCommit: BuildToolPlugin {
    func createBuildCommands(context: PluginContext, target: any Target) throws -> [Command] {
        let package = context.package.directoryURL
        let output = context.pluginWorkDirectoryURL
        return [
            .prebuildCommand(
                displayName: "Reading the commit",
                executable: package.appending(path: "Plugins/SourceCommit/write-commit"),
                arguments: [package, output].map { $0.path(percentEncoded: false) },
                outputFilesDirectory: output)
        ]
    }
}
