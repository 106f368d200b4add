// The commit that the program is built from, as Swift source. Asked of git before every build: what Package.swift reads of
// git (Context.gitInformation) is cached by SwiftPM and goes stale.

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
