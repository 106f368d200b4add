// The error for output files that are missing at the end of a run.

/// Output files that are not in their places at the end of a run.
public struct MissingFilesError: Error, Equatable, CustomStringConvertible {
    /// The path of `save_dir`.
    public let saveDirectory: String
    /// The names of the files.
    public let names: [String]

    /// Creates the error for the files `names` in `saveDirectory`.
    public init(saveDirectory: String, names: [String]) {
        (self.saveDirectory, self.names) = (saveDirectory, names)
    }

    /// One of the names, the number of the others, and what to do.
    public var description: String {
        let others = names.count > 1 ? " and \(names.count - 1) more of this run's files" : ""
        return
            "\(saveDirectory)/\(names.first ?? "")\(others): not in place at the end of the run, though all work is done; something may have removed or changed the files. Run the same command again to make the missing files"
    }
}
