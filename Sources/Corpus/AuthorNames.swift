// Names in the selection that no record has: misspelt ones would change a result without a word.

import ByteJSON
import Files

/// A sentence for each author that `selection` names and that is none of `authors`, with the one that may have been meant.
func unmatchedAuthors(of selection: Selection, among authors: [String]) -> [String] {
    let there = Set(authors.map(ExactString.init))
    var byFolded: [String: String] = [:]
    for author in authors where byFolded[folded(author)] == nil {
        byFolded[folded(author)] = author
    }
    return [
        ("--exclude_authors", selection.excludedAuthors),
        ("--include_authors", selection.includedAuthors),
    ].flatMap { flag, names in
        var seen: Set<ExactString> = []
        return names.filter {
            !there.contains(ExactString($0)) && seen.insert(ExactString($0)).inserted
        }.map { name in
            let found = "\(flag): no record's \"\(selection.authorField)\" is '\(name)'"
            if let near = byFolded[folded(name)] {
                return "\(found); there is '\(near)'\(difference(name, near))"
            }
            let parts = name.split { ",;\n".contains($0) }.map(String.init)
            let known = parts.compactMap { byFolded[folded($0)] }
            if parts.count > 1 || name.contains(","), !known.isEmpty {
                return
                    "\(found); names are not split at commas: give \(flag) \(known.map(shellWord).joined(separator: " "))"
            }
            let shown = authors.prefix(5).map { "'\($0)'" }.joined(separator: ", ")
            return
                "\(found); there \(authors.count == 1 ? "is" : "are") \(shown)\(authors.count > 5 ? " and \(authors.count - 5) more" : "")"
        }
    }
}

/// `name` without what eyes pass over: case, white space, invisible characters and quotes. Swift compares the rest by
/// characters, so that the Unicode form makes no difference.
private func folded(_ name: String) -> String {
    let scalars = name.lowercased().unicodeScalars.filter { scalar in
        !scalar.properties.isWhitespace && scalar.properties.generalCategory != .format
            && scalar.properties.generalCategory != .control
            && !"'\"".unicodeScalars.contains(scalar)
    }
    return String(String.UnicodeScalarView(scalars))
}

/// Where two names look the same, what tells them apart.
private func difference(_ a: String, _ b: String) -> String {
    // As characters they are equal, as bytes they are not.
    a == b ? ", in another Unicode form" : ""
}
