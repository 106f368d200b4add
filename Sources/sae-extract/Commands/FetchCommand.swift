// `sae-extract fetch`: downloads what a run needs.

import ArgumentParser
import Hub
import Planning

/// The command `sae-extract fetch`.
struct FetchCommand: Command {
    static let configuration = CommandConfiguration(
        commandName: "fetch",
        abstract:
            "Downloads what a run with the same flags needs from the Hugging Face Hub.",
        discussion: """
            First prints the files that are needed and their sizes. Files that are already in the cache are not downloaded \
            again, and an interrupted download is continued. With --dry_run only the model's configuration and lists of \
            files are downloaded, because they determine which files are needed.

            Afterwards the run needs no network: HF_HUB_OFFLINE=1 sae-extract ...
            """)

    @OptionGroup var flags: RunFlags

    /// Prints what a run needs and downloads it. Throws `UsageError`, `HubError` and the errors of file readers.
    func execute(_ environment: [String: String]) async throws {
        flags.startLogging()
        let setup = try HubCommandSetup(flags, of: "fetch", environment: environment)
        let (options, resolver) = (setup.options, setup.resolver)
        guard let hub = try resolver.makeHubIfNeeded() else {
            try options.check()
            try printLine("Nothing to download: all inputs are local paths.")
            return
        }
        let inputs = try await resolver.resolve(hub)
        try printLines(HubFileList(inputs.requests, hub).lines)
        if flags.output.isDryRun {
            try await hub.check(inputs.requests.map(\.request))
            return
        }
        try await inputs.download(from: hub, log: setup.log)
        try printLines([
            "",
            "Everything is in \(hub.settings.cacheDirectory). A run with the same flags needs no network: set HF_HUB_OFFLINE=1.",
        ])
    }
}
