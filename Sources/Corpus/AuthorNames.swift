// Finds names in `--include_authors` and `--exclude_authors` that no corpus record has. Without a warning, a misspelt
// name would silently change the results.

import ByteJSON
import Files

/// Returns one sentence for each author name in `selection` that is not in `authors`. The sentence suggests an author
/// whose name is almost the same, if there is one.
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
                return "\(found); did you mean '\(near)'\(difference(name, near))?"
            }
            let parts = name.split { ",;\n".contains($0) }.map(String.init)
            let known = parts.compactMap { byFolded[folded($0)] }
            if parts.count > 1 || name.contains(","), !known.isEmpty {
                return
                    "\(found); names are not split at commas; give \(flag) \(known.map(shellWord).joined(separator: " "))"
            }
            let shown = authors.prefix(5).map { "'\($0)'" }.joined(separator: ", ")
            return
                "\(found); the corpus has \(shown)\(authors.count > 5 ? " and \(authors.count - 5) more" : "")"
        }
    }
}

/// Returns `name` in lower case, without white space, invisible characters and quotes. Unicode forms of one name give
/// equal results, because Swift compares strings by characters.
private func folded(_ name: String) -> String {
    let scalars = name.lowercased().unicodeScalars.filter { scalar in
        !scalar.properties.isWhitespace && scalar.properties.generalCategory != .format
            && scalar.properties.generalCategory != .control
            && !"'\"".unicodeScalars.contains(scalar)
    }
    return String(String.UnicodeScalarView(scalars))
}

/// Returns a remark for the end of the warning if `a` and `b` differ only in their Unicode form, otherwise "".
private func difference(_ a: String, _ b: String) -> String {
    // Swift's `==` compares characters. The bytes of `a` and `b` differ, because `unmatchedAuthors` has looked for
    // equal bytes before.
    a == b ? ", in another Unicode form" : ""
}
