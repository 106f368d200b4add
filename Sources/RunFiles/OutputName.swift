// The pattern of the names of output files. `OutputNaming` makes names, and `OutputName` parses them:
//
//   sae__{label}__{site}__activations__{author}__layer_{N}.npz            activations of a hook, dense
//   sae__{label}__{site}__activations__{author}__layer_{N}.sparse.npz     activations of a hook, CSR
//   sae__{label}__{kind}__{author}.{npy|json}                             the other files of an author
//
// The label and the author are encoded so that they have no "__". Only labels of earlier versions can have "__".

import Files
import Hooks

/// The parts of the name of an output file.
package struct OutputName {
    /// The start that the names of all files of the label share: `sae__{label}__`.
    package let start: String
    /// The kind of file; nil for an activations file.
    package let kind: OutputNaming.Kind?
    /// The site of an activations file; nil for other files.
    package let site: Site?
    /// The author's name as the file name has it, encoded.
    package let author: String

    /// The start of the names of all output files.
    package static let prefix = "sae\(separator)"
    private static let separator = "__"
    private static let activations = "activations"
    private static let layer = "layer_"

    /// Parses `name`. Nil if it does not fit the pattern. For an activations file, accepts any text after `__layer_`.
    package init?(_ name: String) {
        // Works on bytes. As a `String`, a combining mark at the start of the author would join the "_" before it.
        let bytes = Array(name.utf8)[...]
        guard bytes.starts(with: OutputName.prefix.utf8) else { return nil }
        for kind in OutputNaming.Kind.allCases {
            guard let (head, author) = OutputName.split(bytes, ending: ".\(kind.fileExtension)"),
                let start = OutputName.removing(kind.rawValue, from: head)
            else { continue }
            (self.start, self.kind, site, self.author) = (start, kind, nil, author)
            return
        }
        let layer = OutputName.separator + OutputName.layer
        guard let end = bytes.lastRange(of: layer)?.lowerBound,
            let (head, author) = OutputName.split(bytes[..<end], ending: "")
        else { return nil }
        for site in Site.allCases {
            let middle = site.rawValue + OutputName.separator + OutputName.activations
            guard let start = OutputName.removing(middle, from: head) else { continue }
            (self.start, kind, self.site, self.author) = (start, nil, site, author)
            return
        }
        return nil
    }

    /// Parses the last component of `path`.
    package init?(path: String) {
        self.init(path.split(separator: "/").last.map(String.init) ?? path)
    }

    /// Removes `ending` and splits the rest at its last `__`. Nil if `bytes` do not end in `ending` or have no `__`.
    private static func split(
        _ bytes: ArraySlice<UInt8>, ending: String
    ) -> (head: ArraySlice<UInt8>, author: String)? {
        guard bytes.ends(with: ending) else { return nil }
        let rest = bytes.dropLast(ending.utf8.count)
        guard let place = rest.lastRange(of: separator) else { return nil }
        return (
            rest[..<place.lowerBound], String(decoding: rest[place.upperBound...], as: UTF8.self)
        )
    }

    /// Removes `part` from the end of `head`, and keeps the `__` before it. Nil if `head` does not end in `__` and
    /// `part`.
    private static func removing(_ part: String, from head: ArraySlice<UInt8>) -> String? {
        head.ends(with: separator + part)
            ? String(decoding: head.dropLast(part.utf8.count), as: UTF8.self) : nil
    }

    /// Returns the path of the same author's file of `kind`. It is in the same folder as the file at `path`.
    package func sibling(_ kind: OutputNaming.Kind, of path: String) -> String {
        let folder = parentFolder(of: path)
        return (folder.isEmpty ? "" : folder + "/") + sibling(kind)
    }

    /// Returns the name of the same author's file of `kind`.
    package func sibling(_ kind: OutputNaming.Kind) -> String {
        OutputName.file(kind, start: start, author: author)
    }

    // MARK: Making

    /// Returns the start of all names of a label. `labelName` is the encoded label.
    static func start(labelName: String) -> String { prefix + labelName + separator }

    /// Returns the name of the file of `kind`. `author` is the encoded name.
    static func file(_ kind: OutputNaming.Kind, start: String, author: String) -> String {
        start + kind.rawValue + separator + author + "." + kind.fileExtension
    }

    /// Returns the name of the file of the activations at `hook`. `author` is the encoded name.
    static func activations(
        _ hook: HookPoint, start: String, author: String, isSparse: Bool
    ) -> String {
        let parts = [hook.site.rawValue, activations, author, "\(layer)\(hook.layer)"]
        return start + parts.joined(separator: separator) + (isSparse ? ".sparse.npz" : ".npz")
    }
}

extension ArraySlice<UInt8> {
    fileprivate func ends(with text: String) -> Bool {
        suffix(text.utf8.count).elementsEqual(text.utf8)
    }

    /// Returns the range of the last occurrence of `text`. Nil if `text` does not occur.
    fileprivate func lastRange(of text: String) -> Range<Int>? {
        let text = Array(text.utf8)
        var start = endIndex - text.count
        while start >= startIndex {
            if self[start..<start + text.count].elementsEqual(text) {
                return start..<start + text.count
            }
            start -= 1
        }
        return nil
    }
}
