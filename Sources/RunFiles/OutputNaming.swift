// The names of the final files.

import Crypto
import Files
import FoundationEssentials
import Hooks

/// Makes the file names of one model label.
public struct OutputNaming: Codable, Equatable, Sendable {
    /// The label as part of a file name.
    public let labelName: String
    /// The label as the name of folders of our own, which every file system takes.
    public let folderName: String

    /// Names for `label`: its slashes become underscores, the rest is encoded as authors are, so that who splits names at
    /// `__` finds it whole.
    public init(label: String) {
        labelName = String(
            decoding: OutputNaming.units(OutputNaming.withoutSlashes(label)).joined(), as: UTF8.self
        )
        folderName = OutputNaming.folderName(labelName)
    }

    /// Names for `label` as versions before this one spelt them, with nothing but its slashes replaced.
    public init(earlierSpellingOf label: String) {
        labelName = OutputNaming.withoutSlashes(label)
        folderName = labelName
    }

    /// Names for the label that stands in file names as `labelName`.
    public init(labelName: String) {
        self.labelName = labelName
        folderName = OutputNaming.folderName(labelName)
    }

    /// By scalars: a slash with a combining mark behind it is one `Character` with that.
    private static func withoutSlashes(_ label: String) -> String {
        String(String.UnicodeScalarView(label.unicodeScalars.map { $0 == "/" ? "_" : $0 }))
    }

    /// Characters that some file systems refuse, those of Windows above all, beside control characters.
    package static let refusedCharacters = Array(":?\"<>|*\\".utf8)

    /// `name` without what a folder's name cannot have on Windows' file systems: their special characters, a dot or space
    /// at the end, names of devices.
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

    /// What all names of this label begin with.
    public var start: String { "sae__\(labelName)__" }

    /// The kinds of file an author has besides activations.
    public enum Kind: String, CaseIterable, Codable, Sendable {
        /// float16 (D, T), nats: the entropy of the prediction made at each token.
        case entropy = "entropy_loss"
        /// float16 (D, T), nats: -log p of each token.
        case crossEntropy = "cross_entropy_loss"
        /// T pieces a document.
        case tokens
        /// One string a document.
        case texts = "full_texts"

        /// `npy` or `json`.
        public var fileExtension: String {
            switch self {
            case .entropy, .crossEntropy: "npy"
            case .tokens, .texts: "json"
            }
        }
    }

    /// `sae__{model}__{kind}__{author}.{npy|json}`.
    public func file(_ kind: Kind, author: String) -> String {
        "\(start)\(kind.rawValue)__\(encoded(author)).\(kind.fileExtension)"
    }

    /// `sae__{model}__{site}__activations__{author}__layer_{N}.npz`, or `….sparse.npz`.
    public func activations(_ hook: HookPoint, author: String, isSparse: Bool) -> String {
        "\(start)\(hook.site.rawValue)__activations__\(encoded(author))__layer_\(hook.layer)"
            + (isSparse ? ".sparse.npz" : ".npz")
    }

    /// Both names that a hook's activations may have.
    package func activations(_ hook: HookPoint, author: String) -> [String] {
        [false, true].map { activations(hook, author: author, isSparse: $0) }
    }

    /// A byte percent-encoded.
    private static func escape(_ byte: UInt8) -> [UInt8] {
        Array("%\(hexadecimal([byte]).uppercased())".utf8)
    }

    /// `name` as part of a file name: one byte or one escape each. Readers split at `__`, so no such pair may come from a
    /// name; an empty one is `%`.
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

    /// An author's name as part of a file name.
    public func encoded(_ author: String) -> String {
        let bytes = Array(author.utf8)
        let units = OutputNaming.units(author)
        guard units.reduce(0, { $0 + $1.count }) > 150 else {
            return String(decoding: units.joined(), as: UTF8.self)
        }
        var prefix: [UInt8] = []
        for (i, unit) in units.enumerated() {
            guard prefix.count + unit.count <= 132 else {
                // Not in the middle of a character: its later bytes are 10xxxxxx.
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
