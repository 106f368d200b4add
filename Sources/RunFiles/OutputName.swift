// What a file's name tells of it.

import Files
import FoundationEssentials
import Hooks

/// The parts of the name of a file that a run wrote.
package struct OutputName {
    /// `sae__{model}__`.
    package let start: String
    /// What it is, where it is no activations file.
    package let kind: OutputNaming.Kind?
    /// The site whose activations it has.
    package let site: Site?
    /// The author as it stands in the name.
    package let author: String

    /// Reads `name`; nil where no run writes such a name.
    package init?(_ name: String) {
        guard name.hasPrefix("sae__") else { return nil }
        for kind in OutputNaming.Kind.allCases {
            let (middle, end) = ("__\(kind.rawValue)__", ".\(kind.fileExtension)")
            // The author is last and has no "__" in it.
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

    /// Reads the name of the file at `path`.
    package init?(path: String) {
        self.init(path.split(separator: "/").last.map(String.init) ?? path)
    }

    /// The path of the same author's file of `kind`, beside the file at `path`.
    package func sibling(_ kind: OutputNaming.Kind, of path: String) -> String {
        let folder = parentFolder(of: path)
        return (folder.isEmpty ? "" : folder + "/") + sibling(kind)
    }

    /// The name of the same author's file of `kind`.
    package func sibling(_ kind: OutputNaming.Kind) -> String {
        "\(start)\(kind.rawValue)__\(author).\(kind.fileExtension)"
    }

    private static func last(_ part: String, in name: String) -> Range<String.Index>? {
        name.ranges(of: part).last
    }
}
