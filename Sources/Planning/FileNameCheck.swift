// Checks whether the file system of `save_dir` accepts the names of the output files. The check creates files before the model
// runs: for special characters, for the longest name, and for pairs of names that a file system can treat as one.

import Corpus
import Files
import FoundationEssentials
import Glibc
import RunFiles
import RunState

/// Tries the names of a plan's output files on the file system.
public struct FileNameCheck {
    private let plan: RunPlan
    /// Each author's name as encoded in file names.
    private let names: [String]

    /// The longest name in bytes that is not tried. Some file systems accept few bytes; eCryptfs accepts 143.
    private static let usualLength = 128
    /// The number of characters that are tried in one name.
    private static let groupSize = 50
    /// The largest number of pairs that are tried, of those that differ in more than the case of Latin letters.
    private static let pairLimit = 100
    /// The errors that concern the disk and not a name.
    private static let otherCodes: Set<Int32> = [
        ENOSPC, EDQUOT, EIO, EROFS, EMFILE, ENFILE, ENOMEM, EINTR, ESTALE, ENOTCONN,
    ]

    /// Creates the check of the names of the files of `plan`.
    public init(_ plan: RunPlan) {
        self.plan = plan
        names = plan.authors.map { plan.naming.encoded($0.author) }
    }

    /// The special ASCII characters and similar names that a run will try, as text; nil if there are none.
    var description: String? {
        let characters = specialCharacters.filter(\.isASCII).map { "'\($0)'" }
        let pairs = similarNames.prefix(3).map { first, second in
            "'\(plan.authors[first].author)' and '\(plan.authors[second].author)'"
        }
        let parts = [
            characters.isEmpty
                ? nil
                : "characters that some file systems refuse: \(characters.joined(separator: " "))",
            pairs.isEmpty
                ? nil
                : "authors whose names some file systems treat as one: \(pairs.joined(separator: ", "))",
        ].compactMap { $0 }
        return parts.isEmpty
            ? nil
            : "\(parts.joined(separator: "; ")) (a run tries its file system before it computes)"
    }

    /// Throws `FileNameError` if the file system of `--save_dir` refuses a name or treats two as one. Characters that all file
    /// systems accept are not tried. The check makes a folder in `.sae-extract` and removes it again. Throws `FileError`.
    public func check() throws {
        let characters = specialCharacters
        let longest = longestName
        let pairs = similarNames
        guard !characters.isEmpty || longest != nil || !pairs.isEmpty else { return }
        let runs = StateFolder.runs(of: plan.saveDirectory)
        let place = runs / (uniqueName() + ".partial")
        let trial = NameTrial(folder: try place.makeFolder())
        defer { try? place.remove() }
        // If a plain name fails too, the problem is not the names.
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

    /// Returns the error for refused characters: about the label if it has any of them, otherwise about the authors.
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

    /// The characters of the names that some file systems refuse, in order of appearance.
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

    /// The author with the longest file name, and its number of bytes; nil if it has at most `usualLength` bytes.
    private var longestName: (author: String, count: Int)? {
        guard let number = names.indices.max(by: { names[$0].utf8.count < names[$1].utf8.count })
        else { return nil }
        let author = plan.authors[number].author
        let count = plan.items.map { $0.name(plan.naming, author: author).utf8.count }.max() ?? 0
        return count > FileNameCheck.usualLength ? (author, count) : nil
    }

    /// The places of pairs of authors whose names a file system can treat as one: they differ in case or in how letters are
    /// encoded. Of pairs that differ only in the case of Latin letters, the first represents all.
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

    /// Creates files to find out which names the file system accepts.
    private struct NameTrial {
        let folder: Folder

        /// Creates a file called `name` and removes it again. Returns the error if the file cannot be created; nil if it can.
        /// Throws `FileError` for an error that does not concern the name.
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

        /// Returns those of `characters` that names cannot contain, with the errors. It tries them in one name, and halves them
        /// if the name is refused.
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
