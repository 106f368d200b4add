// The error for a file system that refuses names of the output files.

import Glibc

/// The file system of `save_dir` refuses names of output files, or treats two names as one.
package enum FileNameError: Error, Equatable, CustomStringConvertible {
    /// The file system refuses characters in the file names of `authors`. `code` is the error code of the system.
    case characters([Unicode.Scalar], authors: [String], saveDirectory: String, code: Int32)
    /// The file system refuses characters of the model's label, which is part of all file names.
    case charactersOfLabel([Unicode.Scalar], label: String, saveDirectory: String, code: Int32)
    /// The file system refuses the longest name of a file of `author`. The name has this number of bytes.
    case length(Int, author: String, saveDirectory: String, code: Int32)
    /// The file system treats the file names of these two authors as one name.
    case sameFile(authors: [String], saveDirectory: String)

    /// The message: the refused characters or names, their authors, and the next step.
    package var description: String {
        let elsewhere = "give a --save_dir on another file system"
        func reason(_ code: Int32) -> String { String(cString: strerror(code)) }
        switch self {
        case .characters(let scalars, let authors, let directory, let code):
            return
                "\(directory): its file system refuses names with the \(FileNameError.shown(scalars)) (\(reason(code))); the files of \(authors.count == 1 ? "author" : "authors") \(FileNameError.listed(authors)) would have such names; \(elsewhere), leave the authors out with --exclude_authors, or rename them in the corpus"
        case .charactersOfLabel(let scalars, let label, let directory, let code):
            return
                "\(directory): its file system refuses names with the \(FileNameError.shown(scalars)) (\(reason(code))); all output files would have such names, because of the model's name '\(label)'; \(elsewhere), or rename the model's folder"
        case .length(let count, let author, let directory, let code):
            return
                "\(directory): its file system refuses names of \(count) bytes (\(reason(code))); files of author '\(author)' would have such names; \(elsewhere), leave the author out with --exclude_authors, or give a shorter name to the author in the corpus or to the model's folder"
        case .sameFile(let authors, let directory):
            return
                "\(directory): its file system treats the names of authors \(FileNameError.listed(authors)) as one (upper and lower case, or two encodings of one letter), so the files of one author would replace the files of the other; \(elsewhere), leave one author out with --exclude_authors, or rename one in the corpus"
        }
    }

    private static func shown(_ scalars: [Unicode.Scalar]) -> String {
        let shown = scalars.prefix(10).map { scalar in
            let number = String(scalar.value, radix: 16, uppercase: true)
            return
                "'\(scalar)' (U+\(String(repeating: "0", count: max(0, 4 - number.count)))\(number))"
        }
        let more = scalars.count > 10 ? " and \(scalars.count - 10) more" : ""
        return (scalars.count == 1 ? "character " : "characters ")
            + shown.joined(separator: ", ") + more
    }

    private static func listed(_ authors: [String]) -> String {
        let more = authors.count > 3 ? " and \(authors.count - 3) more" : ""
        return authors.prefix(3).map { "'\($0)'" }.joined(separator: ", ") + more
    }
}
