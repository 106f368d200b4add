// Finds author names in the selection that no record has. A misspelt name would change a result without a warning.

import ByteJSON
import Files

/// Returns a sentence for each author that `selection` names but `authors` does not have. If an author's name looks almost the
/// same, the sentence names that author.
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

/// Returns `name` in lower case, without white space, invisible characters and quotes. Swift compares the rest by characters,
/// so different Unicode forms of a name are equal.
private func folded(_ name: String) -> String {
    let scalars = name.lowercased().unicodeScalars.filter { scalar in
        !scalar.properties.isWhitespace && scalar.properties.generalCategory != .format
            && scalar.properties.generalCategory != .control
            && !"'\"".unicodeScalars.contains(scalar)
    }
    return String(String.UnicodeScalarView(scalars))
}

/// Returns the end of the sentence if two names differ only in their Unicode form; empty for other names.
private func difference(_ a: String, _ b: String) -> String {
    // The names are equal as characters, but their bytes differ.
    a == b ? ", in another Unicode form" : ""
}
