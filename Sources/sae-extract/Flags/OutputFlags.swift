// The flags of the results.

import ArgumentParser
import Planning
import RunFiles

/// The flags of the results: where they are written, and in which form.
struct OutputFlags: ParsableArguments {
    @Option(
        name: .customLong("save_dir"),
        help: ArgumentHelp("The folder for the results.", valueName: "dir"), completion: .directory)
    var directory = RunOptions().saveDirectory

    @Option(
        name: .customLong("storage_format"),
        help: ArgumentHelp(
            "How features are stored: dense (whole arrays), sparse (CSR matrices), or both.",
            valueName: "format"))
    var format = RunOptions().storageFormat

    @Option(
        name: .customLong("activation_values"),
        help: ArgumentHelp(
            "What is stored where a feature fires: 1 (binary) or its activation (raw).",
            valueName: "kind"))
    var values = RunOptions().activationValues

    @Flag(
        name: .customLong("overwrite"),
        help:
            "Remove the results of this model in --save_dir that this command would write, and compute them again."
    )
    var isOverwriting = false

    @Flag(
        name: .customLong("ignore_free_space"),
        help:
            "Start even if the file system reports less free space than the run needs. For file systems that report less than they have."
    )
    var ignoresFreeSpace = false

    @Flag(
        name: .customLong("dry_run"),
        help: "Show what the run would do and what is done already, without computing anything.")
    var isDryRun = false
}
