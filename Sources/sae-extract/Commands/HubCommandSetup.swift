// Setup that the commands `fetch` and `saes` share.

import Logging
import Planning

/// The options and the input resolver of a subcommand that uses the Hub.
struct HubCommandSetup {
    let options: RunOptions
    let log = Logger(label: "sae-extract")
    let resolver: InputResolver

    /// Reads the options from `flags`, and begins to handle stop signals. `subcommand` is "fetch" or "saes". Throws
    /// `UsageError`.
    init(_ flags: RunFlags, of subcommand: String, environment: [String: String]) throws {
        options = try flags.options()
        resolver = InputResolver(
            options, environment: environment, log: log,
            arguments: ProcessArguments.all, subcommand: subcommand)
        let control = StopControl(advice: "run the same command again to continue")
        StopSignals.handle { control.receive($0) }
    }
}
