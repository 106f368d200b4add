// Checks whether the file system of `save_dir` accepts the names of the output files. Creates files to try special
// characters, the longest name, and pairs of names that a file system may treat as one.

import Corpus
import Files
import FoundationEssentials
import Glibc
import RunFiles
import RunState

/// Tries whether the file system accepts the names of a plan's output files.
package struct FileNameCheck {
    private let plan: RunPlan
    /// The authors' names, encoded as in file names.
    private let names: [String]

    /// Names of up to this number of bytes are not tried, because file systems accept them. The limit of eCryptfs,
    /// for example, is 143 bytes.
    private static let usualLength = 128
    /// The maximum number of characters that are tried together in one name.
    private static let groupSize = 50
    /// The maximum number of pairs that are tried. Pairs that differ only in the case of ASCII letters do not count.
    private static let pairLimit = 100
    /// The error codes that do not depend on the name, such as that of a full disk.
    private static let otherCodes: Set<Int32> = [
        ENOSPC, EDQUOT, EIO, EROFS, EMFILE, ENFILE, ENOMEM, EINTR, ESTALE, ENOTCONN,
    ]

    /// Creates the check for the names of `plan`'s files.
    package init(_ plan: RunPlan) {
        self.plan = plan
        names = plan.authors.map { plan.naming.encoded($0.author) }
    }

    /// A text for `--dry_run`: the special ASCII characters in the plan's names, and the names that a file system may
    /// treat as one. Nil if there are none.
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
            : "\(parts.joined(separator: "; ")) (a run checks its file system before it computes)"
    }

    /// Throws `FileNameError` if the file system of `--save_dir` refuses a name or treats two names as one. Makes a
    /// folder in `.sae-extract` for the trials, and removes it again. Throws `FileError` for other errors of the file
    /// system.
    package func check() throws {
        let characters = specialCharacters
        let longest = longestName
        let pairs = similarNames
        guard !characters.isEmpty || longest != nil || !pairs.isEmpty else { return }
        let runs = StateFolder.runs(of: plan.saveDirectory)
        let place = runs / (uniqueName() + ".partial")
        let trial = NameTrial(folder: try place.makeFolder())
        defer { try? place.remove() }
        // If even a plain name is refused, the cause is not the names.
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

    /// Returns the error for refused characters. It is about the label if the label has one of them, otherwise about
    /// authors.
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

    /// The characters of the names that some file systems refuse, in order of first appearance.
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

    /// The author with the longest file name, and the length of this name in bytes. Nil if the length is at most
    /// `usualLength`.
    private var longestName: (author: String, count: Int)? {
        guard let number = names.indices.max(by: { names[$0].utf8.count < names[$1].utf8.count })
        else { return nil }
        let author = plan.authors[number].author
        let count = plan.items.map { $0.name(plan.naming, author: author).utf8.count }.max() ?? 0
        return count > FileNameCheck.usualLength ? (author, count) : nil
    }

    /// Pairs of authors, as indices, whose names a file system may treat as one. Such names differ only in case or in
    /// their Unicode form. Of the pairs that differ only in the case of ASCII letters, the first stands for all.
    private var similarNames: [(Int, Int)] {
        // Names that differ only in their Unicode form are equal as `String`, so they have one key.
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

        /// Creates a file called `name` and removes it again. Returns the error code if the file system refuses the
        /// name. Throws `FileError` for an error that does not depend on the name.
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

        /// Returns the characters that the file system refuses in names, each with its error code. Tries all
        /// `characters` in one name. If the name is refused, tries each half of the characters.
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

        /// Whether the file system finds a file called `first` also under the name `second`.
        func areOne(_ first: String, _ second: String) throws -> Bool {
            try make(first)
            defer { try? folder.remove(first) }
            return try folder.status(of: second) != nil
        }
    }
}
