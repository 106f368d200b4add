// Whether the file system of `save_dir` takes the names that results will have. What it refuses is found out by trying,
// before the model runs: each special character and each pair of names that it may take for one, not each author.

import AuthorReceipts
import Corpus
import Files
import FoundationEssentials
import Glibc
import RunFiles
import RunState

/// The file system refuses names of results, or takes two for one.
public enum FileNameError: Error, Equatable, CustomStringConvertible {
    /// Characters, in the names of these authors' files.
    case characters([Unicode.Scalar], authors: [String], saveDirectory: String, code: Int32)
    /// Characters of the model's label, which is in all names.
    case charactersOfLabel([Unicode.Scalar], label: String, saveDirectory: String, code: Int32)
    /// The longest name, of so many bytes.
    case length(Int, author: String, saveDirectory: String, code: Int32)
    /// Two authors' files would be one.
    case sameFile(authors: [String], saveDirectory: String)

    /// What is refused, whose name it is, and what to do.
    public var description: String {
        let elsewhere = "give a --save_dir on another file system"
        func reason(_ code: Int32) -> String { String(cString: strerror(code)) }
        switch self {
        case .characters(let scalars, let authors, let directory, let code):
            return
                "\(directory): its file system refuses names with the \(FileNameError.shown(scalars)) (\(reason(code))), which the files of author \(FileNameError.listed(authors)) would have; \(elsewhere), leave them out with --exclude_authors, or rename them in the corpus"
        case .charactersOfLabel(let scalars, let label, let directory, let code):
            return
                "\(directory): its file system refuses names with the \(FileNameError.shown(scalars)) (\(reason(code))), which is in the model's name '\(label)'; \(elsewhere), or rename the model's folder"
        case .length(let count, let author, let directory, let code):
            return
                "\(directory): its file system refuses names of \(count) bytes (\(reason(code))), as files of author '\(author)' would have; \(elsewhere), leave the author out with --exclude_authors, or rename it in the corpus or the model's folder to something shorter"
        case .sameFile(let authors, let directory):
            return
                "\(directory): its file system takes the names of authors \(FileNameError.listed(authors)) for one (upper and lower case, or two ways to write one letter), so that the files of one would replace the other's; \(elsewhere), leave one out with --exclude_authors, or rename it in the corpus"
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

/// Tries the names that a plan's files will have.
public struct FileNameCheck {
    private let plan: RunPlan
    /// Each author's part of file names.
    private let names: [String]

    /// Longer names are tried: some file systems (eCryptfs) take 143 bytes.
    private static let usualLength = 128
    /// Characters that are tried at a time.
    private static let groupSize = 50
    /// Pairs of names that are tried at most, where they differ in more than the case of Latin letters.
    private static let pairLimit = 100
    /// Errors that are about the disk rather than about a name.
    private static let otherCodes: Set<Int32> = [
        ENOSPC, EDQUOT, EIO, EROFS, EMFILE, ENFILE, ENOMEM, EINTR, ESTALE, ENOTCONN,
    ]

    /// A check of the names of `plan`'s files.
    public init(_ plan: RunPlan) {
        self.plan = plan
        names = plan.authors.map { plan.naming.encoded($0.author) }
    }

    /// What a run will try, in words; nil where there is nothing to try but letters and lengths.
    var description: String? {
        let characters = specialCharacters.filter(\.isASCII).map { "'\($0)'" }
        let pairs = similarNames.prefix(3).map { first, second in
            "'\(plan.authors[first].author)' and '\(plan.authors[second].author)'"
        }
        let parts = [
            characters.isEmpty
                ? nil : "characters that some refuse: \(characters.joined(separator: " "))",
            pairs.isEmpty
                ? nil : "authors that some take for one: \(pairs.joined(separator: ", "))",
        ].compactMap { $0 }
        return parts.isEmpty
            ? nil
            : "\(parts.joined(separator: "; ")) (a run tries its file system before it computes)"
    }

    /// Fails where the file system of `--save_dir` refuses a name. Names of letters, digits and what every file system
    /// takes are not tried; for others a folder is made in our own, and removed again. Throws `FileNameError` and
    /// `FileError`.
    public func check() throws {
        let characters = specialCharacters
        let longest = longestName
        let pairs = similarNames
        guard !characters.isEmpty || longest != nil || !pairs.isEmpty else { return }
        let runs = StateFolder.runs(of: plan.saveDirectory)
        let place = runs / (uniqueName() + ".partial")
        let trial = NameTrial(folder: try place.makeFolder())
        defer { try? place.remove() }
        // What fails with any name is not about names.
        if let code = try trial.refusal("plain") {
            throw FileError("create", place.path, code: code)
        }
        var refused: [(scalar: Unicode.Scalar, code: Int32)] = []
        for start in stride(from: 0, to: characters.count, by: FileNameCheck.groupSize) {
            let end = min(start + FileNameCheck.groupSize, characters.count)
            refused += try trial.refused(of: Array(characters[start..<end]))
        }
        if !refused.isEmpty { throw error(refused.map(\.scalar), refused[0].code) }
        if let (author, count) = longest,
            let code = try trial.refusal(String(repeating: "n", count: count))
        {
            throw FileNameError.length(
                count, author: author, saveDirectory: plan.saveDirectory, code: code)
        }
        for (first, second) in pairs where try trial.areOne(names[first], names[second]) {
            throw FileNameError.sameFile(
                authors: [first, second].map { plan.authors[$0].author },
                saveDirectory: plan.saveDirectory)
        }
    }

    private func error(_ scalars: [Unicode.Scalar], _ code: Int32) -> FileNameError {
        let all = Set(scalars)
        let ofLabel = scalars.filter(plan.naming.labelName.unicodeScalars.contains)
        guard ofLabel.isEmpty else {
            return .charactersOfLabel(
                ofLabel, label: plan.label, saveDirectory: plan.saveDirectory, code: code)
        }
        let authors = names.indices.filter {
            names[$0].unicodeScalars.contains(where: all.contains)
        }
        return .characters(
            scalars, authors: authors.map { plan.authors[$0].author },
            saveDirectory: plan.saveDirectory, code: code)
    }

    /// Characters of the names that not every file system takes, in order of appearance.
    private var specialCharacters: [Unicode.Scalar] {
        var seen: Set<Unicode.Scalar> = []
        var characters: [Unicode.Scalar] = []
        for name in [plan.naming.labelName] + names {
            for scalar in name.unicodeScalars
            where !scalar.isASCII
                || OutputNaming.refusedCharacters.contains(UInt8(scalar.value))
            {
                if seen.insert(scalar).inserted { characters.append(scalar) }
            }
        }
        return characters
    }

    /// The author with the longest name of a file, and its bytes, where it is longer than usual.
    private var longestName: (author: String, count: Int)? {
        guard let number = names.indices.max(by: { names[$0].utf8.count < names[$1].utf8.count })
        else { return nil }
        let author = plan.authors[number].author
        let count = plan.items.map { $0.name(plan.naming, author: author).utf8.count }.max() ?? 0
        return count > FileNameCheck.usualLength ? (author, count) : nil
    }

    /// Places of authors whose names a file system may take for one: they differ in case or in how letters are written.
    /// Where several pairs differ in the case of Latin letters alone, one stands for all.
    private var similarNames: [(Int, Int)] {
        // Strings of canonically equivalent characters are equal in Swift.
        var first: [String: Int] = [:]
        var (ofLatinCase, others) = ([(Int, Int)](), [(Int, Int)]())
        for (number, name) in names.enumerated() {
            let key = name.uppercased().lowercased()
            guard let known = first[key] else {
                first[key] = number
                continue
            }
            func folded(_ name: String) -> [UInt8] {
                name.utf8.map { (0x41...0x5A).contains($0) ? $0 | 0x20 : $0 }
            }
            if folded(names[known]) == folded(name) {
                ofLatinCase.append((known, number))
            } else {
                others.append((known, number))
            }
        }
        return Array(ofLatinCase.prefix(1) + others.prefix(FileNameCheck.pairLimit))
    }

    /// Makes files to see whether they can be made.
    private struct NameTrial {
        let folder: Folder

        /// The error of making a file called `name`; nil where it was made, and removed again. Throws `FileError` for an error
        /// that is not about the name.
        func refusal(_ name: String) throws(FileError) -> Int32? {
            do {
                try make(name)
            } catch {
                if FileNameCheck.otherCodes.contains(error.code) { throw error }
                return error.code
            }
            try folder.remove(name)
            return nil
        }

        private func make(_ name: String) throws(FileError) {
            guard let descriptor = try folder.open(name, O_WRONLY | O_CREAT | O_EXCL) else {
                throw FileError("create", folder.path(of: name), code: ENOENT)
            }
            close(descriptor)
        }

        /// Those of `characters` that a name cannot have, and the errors.
        func refused(
            of characters: [Unicode.Scalar]
        ) throws -> [(scalar: Unicode.Scalar, code: Int32)] {
            var name = "a"
            name.unicodeScalars.append(contentsOf: characters)
            guard let code = try refusal(name + "z") else { return [] }
            guard characters.count > 1 else { return [(characters[0], code)] }
            let middle = characters.count / 2
            return try refused(of: Array(characters[..<middle]))
                + refused(of: Array(characters[middle...]))
        }

        /// Whether a file called `first` is found under the name of `second`.
        func areOne(_ first: String, _ second: String) throws -> Bool {
            try make(first)
            defer { try? folder.remove(first) }
            return try folder.status(of: second) != nil
        }
    }
}
