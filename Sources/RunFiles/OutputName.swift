// Parses the names of output files.

import Files
import FoundationEssentials
import Hooks

/// The parts of the name of a file that a run wrote.
package struct OutputName {
    /// `sae__{model}__`.
    package let start: String
    /// The kind of file; nil for an activations file.
    package let kind: OutputNaming.Kind?
    /// The site of an activations file; nil for other files.
    package let site: Site?
    /// The author's name as encoded in the file name.
    package let author: String

    /// Parses `name`. Nil if a run does not write files of such a name.
    package init?(_ name: String) {
        guard name.hasPrefix("sae__") else { return nil }
        for kind in OutputNaming.Kind.allCases {
            let (middle, end) = ("__\(kind.rawValue)__", ".\(kind.fileExtension)")
            // The author is the last part. Encoded author names contain no "__".
            guard name.hasSuffix(end), let place = OutputName.last(middle, in: name) else {
                continue
            }
            (start, self.kind, site) = (String(name[..<place.lowerBound]) + "__", kind, nil)
            author = String(name[place.upperBound...].dropLast(end.count))
            return
        }
        for site in Site.allCases {
            let middle = "__\(site.rawValue)__activations__"
            guard let place = OutputName.last(middle, in: name),
                let end = OutputName.last("__layer_", in: name), end.lowerBound >= place.upperBound
            else { continue }
            (start, kind, self.site) = (String(name[..<place.lowerBound]) + "__", nil, site)
            author = String(name[place.upperBound..<end.lowerBound])
            return
        }
        return nil
    }

    /// Parses the last component of `path`.
    package init?(path: String) {
        self.init(path.split(separator: "/").last.map(String.init) ?? path)
    }

    /// Returns the path of the same author's file of `kind`, in the folder of the file at `path`.
    package func sibling(_ kind: OutputNaming.Kind, of path: String) -> String {
        let folder = parentFolder(of: path)
        return (folder.isEmpty ? "" : folder + "/") + sibling(kind)
    }

    /// Returns the name of the same author's file of `kind`.
    package func sibling(_ kind: OutputNaming.Kind) -> String {
        "\(start)\(kind.rawValue)__\(author).\(kind.fileExtension)"
    }

    private static func last(_ part: String, in name: String) -> Range<String.Index>? {
        name.ranges(of: part).last
    }
}
