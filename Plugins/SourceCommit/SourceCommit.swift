// Writes the commit of the program's sources into a Swift source file. The plugin asks git before every build.
// Package.swift could read the commit from `Context.gitInformation`. But SwiftPM caches that value, so it would go
// stale.

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
