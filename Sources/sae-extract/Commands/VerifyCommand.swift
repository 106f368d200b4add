// `sae-extract verify`: checks every file of a run.

import ArgumentParser
import Files
import Glibc
import Planning
import Results

/// The command `sae-extract verify`.
struct VerifyCommand: Command {
    static let configuration = CommandConfiguration(
        commandName: "verify",
        abstract: "Checks every file of a run.",
        discussion: """
            Prints one line per file. Compares size and CRC-32 with run.json. Also checks the content: header, shape, type, \
            metadata, and the checksums inside the file; that padding is zero, and that values are ones (or above the \
            threshold); that a sparse file has the same values as the dense file; and that metrics are finite and have the \
            recorded mean.

            Exit codes: 0 all files are good, 65 a file is bad or the run is not complete.

            Example:
              sae-extract verify data/raw_features/AuthorMix
            """)

    @Argument(help: "The --save_dir of a run.", completion: .directory)
    var directory: String

    @OptionGroup var model: ModelLabel

    @Flag(help: "Print no lines for good files.")
    var quiet = false

    static let startsTasks = false

    func execute(_ environment: [String: String]) throws {
        let directory = try UsageError.expandingHome(directory, of: "DIRECTORY")
        let run = try FinishedRun(directory, model: model.label)
        let verification = Verification(run)
        var (count, bad) = (0, 0)
        let isGood = try verification.check { finding in
            count += 1
            if let problem = finding.problem {
                bad += 1
                try printLine("BAD   \(finding.name): \(problem)")
            } else if !quiet {
                try printLine("ok    \(finding.name): \(finding.description)")
            }
        }
        let strangers = try verification.strangers()
        if let first = strangers.first {
            let more = strangers.count > 1 ? " and \(strangers.count - 1) more" : ""
            try printLine(
                "note  \(first)\(more): not checked, because run.json does not list \(more.isEmpty ? "it" : "them") as complete"
            )
        }
        let unsealed = verification.namesWithoutSeal.count
        if unsealed > 0 {
            try printLine(
                "note  run.json has no checksum of \(counted(unsealed, "file")), so only the content was checked"
            )
        }
        for note in run.notes { try printLine("note  \(note)") }
        let isComplete = run.isComplete
        let waiting =
            run.incompleteAuthors.isEmpty
            ? ""
            : " (\(run.incompleteAuthors.count == 1 ? "1 more author is" : "\(run.incompleteAuthors.count) more authors are") missing)"
        let verdict = bad > 0 ? "\(bad) bad" : isGood ? "all good" : "bad"
        try printLine(
            "\(directory): \(counted(count, "file")) of \(counted(run.authors.count, "author")), \(verdict)\(isComplete ? "" : ", but the run is not complete\(waiting)")"
        )
        if !isGood || !isComplete { _exit(ExitStatus.badData.rawValue) }
    }
}
