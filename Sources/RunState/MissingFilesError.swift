// The error for output files that are missing at the end of a run.

/// The error for output files that are missing or have another size than recorded at the end of a run.
package struct MissingFilesError: Error, Equatable, CustomStringConvertible {
    /// The path of `save_dir`.
    package let saveDirectory: String
    /// The names of the files.
    package let names: [String]

    /// Creates the error for the files `names` in `saveDirectory`.
    package init(saveDirectory: String, names: [String]) {
        (self.saveDirectory, self.names) = (saveDirectory, names)
    }

    /// The name of the first file, the number of other files, and the next step.
    package var description: String {
        let others = names.count > 1 ? " and \(names.count - 1) more of this run's files" : ""
        return
            "\(saveDirectory)/\(names.first ?? "")\(others): missing or changed at the end of the run, although all work is done; another program may have removed or changed such files; run the same command again to make them again"
    }
}
