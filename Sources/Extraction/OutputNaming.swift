// The names of the final files.

import ArrayFiles
import Crypto
import FoundationEssentials
import Gemma2

/// Makes the file names of one model label.
public struct OutputNaming: Sendable {
    /// The label as part of a file name: its slashes become underscores.
    public let labelName: String

    /// Names for `label`.
    public init(label: String) {
        labelName = label.replacing("/", with: "_")
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
    func activations(_ hook: HookPoint, author: String) -> [String] {
        [false, true].map { activations(hook, author: author, isSparse: $0) }
    }

    /// An author's name as part of a file name. Readers split at `__`, so no such pair may come from a name.
    public func encoded(_ author: String) -> String {
        let bytes = Array(author.utf8)
        guard !bytes.isEmpty else { return "%" }
        var units: [[UInt8]] = []  // one byte or one escape each
        for (i, byte) in bytes.enumerated() {
            let isUnsafe =
                switch byte {
                case UInt8(ascii: "/"), UInt8(ascii: "%"), 0..<0x20, 0x7F: true
                case UInt8(ascii: "."): i == 0
                case UInt8(ascii: "_"):
                    i == 0 || i == bytes.count - 1 || bytes[i - 1] == byte || bytes[i + 1] == byte
                default: false
                }
            units.append(isUnsafe ? Array("%\(hexadecimal([byte]).uppercased())".utf8) : [byte])
        }
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
