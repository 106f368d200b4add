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
        help: ArgumentHelp("Whole arrays, CSR matrices, or both.", valueName: "format"))
    var format = RunOptions().storageFormat

    @Option(
        name: .customLong("activation_values"),
        help: ArgumentHelp(
            "Store 1 where a feature fires, or its activation.", valueName: "kind"))
    var values = RunOptions().activationValues

    @Flag(
        name: .customLong("overwrite"),
        help:
            "Remove the files in --save_dir that earlier runs of this model made and that this command makes, and begin anew."
    )
    var isOverwriting = false

    @Flag(
        name: .customLong("ignore_free_space"),
        help:
            "Begin even if the file system reports less free space than the run needs; for file systems that report less than they have."
    )
    var ignoresFreeSpace = false

    @Flag(
        name: .customLong("dry_run"),
        help: "Show what the run would do and what is done already; do nothing.")
    var isDryRun = false
}
