// Makes the names of output files from a model label, a hook or kind, and an author.

import Crypto
import Files
import FoundationEssentials
import Hooks

/// Makes the names of the output files of one model label. `OutputName.swift` describes the pattern of the names.
package struct OutputNaming: Codable, Equatable, Sendable {
    /// The label in the form that file names have, percent-encoded.
    package let labelName: String
    /// The label as the name of a folder in `.sae-extract`. Characters that some file systems refuse are encoded too.
    package let folderName: String

    /// Creates the naming for `label`. Slashes become underscores, and the rest is encoded like the names of authors.
    /// So the encoded label has no `__`, at which other programs split file names.
    package init(label: String) {
        labelName = String(
            decoding: OutputNaming.units(OutputNaming.withoutSlashes(label)).joined(), as: UTF8.self
        )
        folderName = OutputNaming.folderName(labelName)
    }

    /// Creates the naming for `label` as earlier versions encoded it: only slashes are replaced.
    package init(earlierSpellingOf label: String) {
        labelName = OutputNaming.withoutSlashes(label)
        folderName = labelName
    }

    /// Creates the naming for a label that is already encoded as `labelName`.
    package init(labelName: String) {
        self.labelName = labelName
        folderName = OutputNaming.folderName(labelName)
    }

    /// Replaces slashes by underscores. Works on Unicode scalars, because a slash joins with a combining mark after
    /// it into one `Character`.
    private static func withoutSlashes(_ label: String) -> String {
        String(String.UnicodeScalarView(label.unicodeScalars.map { $0 == "/" ? "_" : $0 }))
    }

    /// The ASCII characters that some file systems, mostly those of Windows, refuse in names; without control
    /// characters.
    package static let refusedCharacters = Array(":?\"<>|*\\".utf8)

    /// Encodes what the file systems of Windows refuse in the name of a folder: special characters, a dot or space at
    /// the end, and names of devices such as `CON`, of which the first character is encoded.
    private static func folderName(_ name: String) -> String {
        let bytes = Array(name.utf8)
        let stem = name.prefix { $0 != "." }.uppercased()
        let isDevice =
            ["CON", "PRN", "AUX", "NUL"].contains(stem)
            || stem.wholeMatch(of: /(COM|LPT)[0-9]/) != nil
        let units = bytes.enumerated().map { i, byte in
            let isRefused =
                refusedCharacters.contains(byte) || (i == 0 && isDevice)
                || (i == bytes.count - 1 && [UInt8(ascii: "."), UInt8(ascii: " ")].contains(byte))
            return isRefused ? escape(byte) : [byte]
        }
        return String(decoding: units.joined(), as: UTF8.self)
    }

    /// The start of all names of this label: `sae__{label}__`.
    package var start: String { OutputName.start(labelName: labelName) }

    /// The kinds of an author's files other than activations. D is the largest number of documents of an author. T is
    /// the largest number of tokens of a document.
    package enum Kind: String, CaseIterable, Codable, Sendable {
        /// The entropy of the prediction at each token, in nats: float16 (D, T).
        case entropy = "entropy_loss"
        /// -log p of each token, in nats: float16 (D, T).
        case crossEntropy = "cross_entropy_loss"
        /// The token pieces: for each document, a JSON array of T strings.
        case tokens
        /// The texts: for each document, a JSON string.
        case texts = "full_texts"

        /// The file's extension without the dot: `npy` or `json`.
        package var fileExtension: String {
            switch self {
            case .entropy, .crossEntropy: "npy"
            case .tokens, .texts: "json"
            }
        }
    }

    /// Returns the name of the author's file of `kind`.
    package func file(_ kind: Kind, author: String) -> String {
        OutputName.file(kind, start: start, author: encoded(author))
    }

    /// Returns the name of the author's file of the activations at `hook`.
    package func activations(_ hook: HookPoint, author: String, isSparse: Bool) -> String {
        OutputName.activations(
            hook, start: start, author: encoded(author), isSparse: isSparse)
    }

    /// Returns the two names that a file of the activations at `hook` can have: dense, then sparse.
    package func activations(_ hook: HookPoint, author: String) -> [String] {
        [false, true].map { activations(hook, author: author, isSparse: $0) }
    }

    /// Percent-encodes a byte with upper-case hexadecimal digits.
    private static func escape(_ byte: UInt8) -> [UInt8] {
        Array("%\(hexadecimal([byte]).uppercased())".utf8)
    }

    /// Encodes `name` as a part of a file name. Each element of the result is one byte or one escape. An underscore
    /// is escaped at the start, at the end, and next to another one, because readers split names at `__`. An empty
    /// name becomes `%`.
    private static func units(_ name: String) -> [[UInt8]] {
        let bytes = Array(name.utf8)
        guard !bytes.isEmpty else { return [Array("%".utf8)] }
        return bytes.enumerated().map { i, byte in
            let isUnsafe =
                switch byte {
                case UInt8(ascii: "/"), UInt8(ascii: "%"), 0..<0x20, 0x7F: true
                case UInt8(ascii: "."): i == 0
                case UInt8(ascii: "_"):
                    i == 0 || i == bytes.count - 1 || bytes[i - 1] == byte || bytes[i + 1] == byte
                default: false
                }
            return isUnsafe ? escape(byte) : [byte]
        }
    }

    /// Returns an author's name in the form that file names have. If it would have more than 150 bytes, it is cut.
    /// Then `%-` and 16 hexadecimal digits follow, which are the first 8 bytes of the SHA-256 of the whole name.
    package func encoded(_ author: String) -> String {
        let bytes = Array(author.utf8)
        let units = OutputNaming.units(author)
        guard units.reduce(0, { $0 + $1.count }) > 150 else {
            return String(decoding: units.joined(), as: UTF8.self)
        }
        var prefix: [UInt8] = []
        for (i, unit) in units.enumerated() {
            guard prefix.count + unit.count <= 132 else {
                // Cuts between two characters. In UTF-8, every byte of a character except its first is 10xxxxxx.
                var cut = i
                while cut > 0, bytes[cut] & 0xC0 == 0x80 {
                    cut -= 1
                    prefix.removeLast()
                }
                break
            }
            prefix += unit
        }
        let digest = SHA256.hash(data: bytes).prefix(8)
        let hex = hexadecimal(digest)
        return String(decoding: prefix, as: UTF8.self) + "%-" + hex
    }
}
