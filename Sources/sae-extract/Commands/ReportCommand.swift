// `sae-extract report`: writes an HTML page about the results of a run.

import ArgumentParser
import ByteJSON
import Files
import FoundationEssentials
import Glibc
import Hooks
import Planning
import Results
import RunFiles

/// The command `sae-extract report`.
struct ReportCommand: Command {
    static let configuration = CommandConfiguration(
        commandName: "report",
        abstract: "Writes an HTML page about the results of a run.",
        discussion: """
            The page is one file and needs no network. It shows token counts, cross-entropy and entropy by author, L0 by \
            layer and site, the features that tell authors apart, and where they fire. Features that have a page on \
            Neuronpedia link to it.

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

    @Option(help: ArgumentHelp("Maximum number of features for each SAE.", valueName: "n"))
    var top = ReportOptions().featureCount

    @Option(help: ArgumentHelp("Maximum number of passages for each feature.", valueName: "n"))
    var contexts = ReportOptions().contextCount

    @Option(
        name: .customLong("feature"), parsing: .upToNextOption,
        help: ArgumentHelp(
            "Features to show besides the chosen ones, e.g. res:5:1234.",
            valueName: "site:layer:number ..."))
    var features: [NamedFeature] = []

    @OptionGroup var model: ModelLabel

    static let startsTasks = false

    func execute(_ environment: [String: String]) throws {
        for (flag, value, limit) in [("--top", top, 2000), ("--contexts", contexts, 100)]
        where !(0...limit).contains(value) {
            throw UsageError(flag, "\(value) is out of range; give 0 to \(limit)")
        }
        let directory = try UsageError.expandingHome(directory, of: "DIRECTORY")
        let run = try FinishedRun(directory, model: model.label)
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
            // The new page keeps the permissions of the old one, so that a private page stays private.
            if isThere { $0.setMode(before.st_mode & 0o777) }
            try $0.write(page)
        }
        let seconds = (ContinuousClock.now - clock) / .seconds(1)
        try printLine(
            "\(path): \(counted(run.authors.count, "author")), \(counted(run.saes.count, "SAE")), \(byteCount(page.count)), made in \(decimals(seconds, 1)) s"
        )
    }

    /// Returns the path of the page. Throws `UsageError` and `FileError` if no page can be written there.
    private func destination(of run: FinishedRun) throws -> String {
        // If the folder has results of several models, each model has its own page.
        let isOnly = run.labels.count == 1
        let name = isOnly ? "report.html" : "report-\(run.naming.folderName).html"
        var path =
            try output.map { try UsageError.expandingHome($0, of: "--output") }
            ?? "\(run.directory)/\(name)"
        guard !path.isEmpty else { throw UsageError("--output", "is empty; name a file") }
        if output == nil {
            // Refuses a link at the default path, because another user may have put it there.
            if let info = try GuardedPath(file: path).status(), info.st_mode & S_IFMT == S_IFLNK {
                throw FileError(path, isA: .link, expected: "a file")
            }
        } else if fileExists(path), let resolved = realpath(path, nil) {
            // If --output names a link, the page is written to the link's target.
            path = String(cString: resolved)
            free(resolved)
        }
        guard !isDirectory(path) else {
            throw UsageError("--output", "\(path) is a folder; name a file")
        }
        var info = stat()
        guard stat(path, &info) != 0 || info.st_mode & S_IFMT == S_IFREG else {
            throw UsageError("--output", "\(path) is not a regular file; name a regular file")
        }
        let folder = parentFolder(of: path)
        guard folder.isEmpty || isDirectory(folder) else {
            throw UsageError("--output", "the folder \(folder) does not exist; make it first")
        }
        return path
    }
}
