// The subcommands that read what a run wrote: inspect, report, verify.

import ArgumentParser
import ArrayFiles
import ByteJSON
import Files
import FoundationEssentials
import Glibc
import Hooks
import Planning
import Results
import RunFiles

extension SAEExtract {
    /// `sae-extract inspect`.
    struct Inspect: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Shows what a file or folder of results is and what it holds.",
            discussion: """
                PATH is the --save_dir of a run, one of the files in it, or any .npz, .npy or .safetensors file. Shown are \
                shape, type and metadata; for activations density, L0 per token and the features that fire most; with \
                --document its tokens, each with its strongest features. Dense arrays are gone through, never loaded.

                Examples:
                  sae-extract inspect data/raw_features/AuthorMix
                  sae-extract inspect some.npz --document 3 --top 5
                  sae-extract inspect model.safetensors --array model.norm.weight --json
                """)

        @Argument(help: "The file or folder.", completion: .file())
        var path: String

        @Option(help: ArgumentHelp("How many features or tokens to list.", valueName: "n"))
        var top = InspectionOptions().top

        @Option(help: ArgumentHelp("Show this document, from 0.", valueName: "n"))
        var document: Int?

        @Option(help: ArgumentHelp("Go through this array or tensor alone.", valueName: "name"))
        var array: String?

        @Option(
            help: ArgumentHelp(
                "Of a folder with results of several models, which.", valueName: "model"))
        var label: String?

        @Flag(help: "Print one JSON object, for scripts.")
        var json = false

        func run() throws {
            var options = InspectionOptions()
            guard top >= 0 else { throw UsageError("--top", "\(top) is too small; give 0 or more") }
            (options.top, options.document) = (top, document)
            (options.array, options.model) = (array, label)
            let path = try UsageError.expandingHome(path, of: "PATH")
            let inspection = try Inspection(path, options)
            guard json else {
                return try printLines(inspection.lines)
            }
            var text: [UInt8] = []
            JSONText.append(.object(inspection.json), compactScalars: true, to: &text)
            try printJSON(text)
        }
    }

    /// `sae-extract report`.
    struct Report: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Writes one HTML page that shows what a run found.",
            discussion: """
                The page needs nothing else, no network either: token counts, cross-entropy and entropy by author, L0 by \
                layer and site, the features that tell authors apart, and where they fire. Features with pages on \
                Neuronpedia are linked to them.

                Example:
                  sae-extract report data/raw_features/AuthorMix
                """)

        @Argument(help: "The --save_dir of a run.", completion: .directory)
        var directory: String

        @Option(
            help: ArgumentHelp(
                "Where to write the page. (default: report.html in the folder)", valueName: "file"),
            completion: .file())
        var output: String?

        @Option(help: ArgumentHelp("Features of each SAE.", valueName: "n"))
        var top = ReportOptions().featureCount

        @Option(help: ArgumentHelp("Passages of each feature.", valueName: "n"))
        var contexts = ReportOptions().contextCount

        @Option(
            name: .customLong("feature"), parsing: .upToNextOption,
            help: ArgumentHelp(
                "Features to have in any case: res:5:1234.", valueName: "site:layer:number ..."))
        var features: [NamedFeature] = []

        @Option(
            help: ArgumentHelp(
                "Of a folder with results of several models, which.", valueName: "model"))
        var label: String?

        func run() throws {
            for (flag, value, limit) in [("--top", top, 2000), ("--contexts", contexts, 100)]
            where !(0...limit).contains(value) {
                throw UsageError(flag, "\(value) cannot be; give 0 to \(limit)")
            }
            let directory = try UsageError.expandingHome(directory, of: "DIRECTORY")
            let run = try FinishedRun(directory, model: label)
            guard !run.authors.isEmpty else {
                throw ResultsError.nothingComplete(directory: directory)
            }
            let path = try destination(of: run)
            try run.checkForLinks()
            var options = ReportOptions()
            (options.featureCount, options.contextCount) = (top, contexts)
            for feature in features {
                options.extraFeatures[feature.hook, default: []].append(feature.number)
            }
            for note in run.notes { writeErrorLine("warning: \(note)") }
            let clock = ContinuousClock.now
            let data: JSONObject
            do {
                data = try ReportData(run, options).json { sae in
                    writeErrorLine("\(sae.hook)")
                }
            } catch {
                throw ResultsError.ofResult(error)
            }
            let page = ReportPage.html(data, title: "\(run.label): \(directory)")
            let parent = parentFolder(of: path)
            let folder = parent.isEmpty ? (path.hasPrefix("/") ? "/" : ".") : parent
            var before = stat()
            let isThere = stat(path, &before) == 0
            try OutputFile.make(path: path, temporaryDirectory: folder) {
                // A page that others may not read stays so.
                if isThere { $0.setMode(before.st_mode & 0o777) }
                try $0.write(page)
            }
            let seconds = (ContinuousClock.now - clock) / .seconds(1)
            try printLine(
                "\(path): \(counted(run.authors.count, "author")), \(counted(run.saes.count, "SAE")), \(byteCount(page.count)), made in \(decimals(seconds, 1)) s"
            )
        }

        /// Where the page goes; that it can go there is looked at before the work. Throws `UsageError` and `FileError`.
        private func destination(of run: FinishedRun) throws -> String {
            // Of several models each has its own.
            let isOnly = run.labels.count == 1
            let name = isOnly ? "report.html" : "report-\(run.naming.folderName).html"
            var path =
                try output.map { try UsageError.expandingHome($0, of: "--output") }
                ?? "\(run.directory)/\(name)"
            guard !path.isEmpty else { throw UsageError("--output", "is empty; name a file") }
            if output == nil {
                // Somebody else may have put a link there: it would lead to any file of the user's.
                if let info = try GuardedPath(file: path).status(), info.st_mode & S_IFMT == S_IFLNK
                {
                    throw FileError(path, isA: .link, expected: "a file")
                }
            } else if fileExists(path), let resolved = realpath(path, nil) {
                // Of a link that a user names, the file that it leads to.
                path = String(cString: resolved)
                free(resolved)
            }
            guard !isDirectory(path) else {
                throw UsageError("--output", "\(path) is a folder; name a file")
            }
            var info = stat()
            guard stat(path, &info) != 0 || info.st_mode & S_IFMT == S_IFREG else {
                throw UsageError("--output", "\(path) is no regular file; name one")
            }
            let folder = parentFolder(of: path)
            guard folder.isEmpty || isDirectory(folder) else {
                throw UsageError("--output", "the folder \(folder) does not exist; make it first")
            }
            return path
        }
    }

    /// `sae-extract verify`.
    struct Verify: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Checks every file of a run.",
            discussion: """
                One line a file: size and CRC-32 against run.json; then, whatever that says, header, shape and type, the \
                checksums inside, that padding is zero, that values are ones (or above the threshold), metadata, that a \
                sparse file has what the dense one has, that metrics are finite and have the recorded mean.

                Exit codes: 0 all is well, 65 something is not, or the run is not complete.

                Example:
                  sae-extract verify data/raw_features/AuthorMix
                """)

        @Argument(help: "The --save_dir of a run.", completion: .directory)
        var directory: String

        @Option(
            help: ArgumentHelp(
                "Of a folder with results of several models, which.", valueName: "model"))
        var label: String?

        @Flag(help: "Name only what is wrong.")
        var quiet = false

        func run() throws {
            let directory = try UsageError.expandingHome(directory, of: "DIRECTORY")
            let run = try FinishedRun(directory, model: label)
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
                    "note  \(first)\(more): not in run.json as made by a run that is complete")
            }
            let unsealed = verification.namesWithoutSeal.count
            if unsealed > 0 {
                try printLine(
                    "note  of \(unsealed) files run.json has no checksum: their content alone was looked at"
                )
            }
            for note in run.notes { try printLine("note  \(note)") }
            let isComplete = run.isComplete
            let waiting =
                run.incompleteAuthors.isEmpty
                ? ""
                : " (\(run.incompleteAuthors.count == 1 ? "1 more author is" : "\(run.incompleteAuthors.count) more authors are") not)"
            let verdict = bad > 0 ? "\(bad) bad" : isGood ? "all good" : "bad"
            try printLine(
                "\(directory): \(counted(count, "file")) of \(counted(run.authors.count, "author")), \(verdict)\(isComplete ? "" : ", but the run is not complete\(waiting)")"
            )
            if !isGood || !isComplete { _exit(ExitStatus.badData.rawValue) }
        }
    }
}

/// `SITE:LAYER:NUMBER`.
struct NamedFeature: ExpressibleByArgument {
    let hook: HookPoint
    let number: Int

    init?(argument: String) {
        let parts = argument.split(separator: ":", omittingEmptySubsequences: false).map(
            String.init)
        guard parts.count == 3, let site = Site(rawValue: parts[0]), let layer = Int(parts[1]),
            let number = Int(parts[2]), layer >= 0, number >= 0
        else { return nil }
        (hook, self.number) = (HookPoint(layer: layer, site: site), number)
    }
}
