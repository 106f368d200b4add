// Glob patterns of paths in dataset cards, by the rules of Python's fsspec. `*`, `?` and `[…]` match within one path
// component. `**` matches any number of path components. Braces have no special meaning.

/// A glob pattern of paths.
struct GlobPattern {
    private enum Part {
        /// `**`: any number of path components, including none.
        case any
        case name([Token])
    }

    private enum Token {
        case letter(Unicode.Scalar)
        /// `?`: any one character.
        case one
        /// `*`: any number of characters, including none.
        case many
        /// `[a-z]`: a character in the ranges. `[!a-z]`: a character outside the ranges.
        case oneOf([ClosedRange<UInt32>], isNegated: Bool)
    }

    private let parts: [Part]
    /// The pattern without empty path components (`//`) and without the path component `.`.
    let text: String
    /// Whether the pattern has a wildcard and so may match several files.
    let isWild: Bool

    /// Parses `text`. Nil if it is not a pattern of paths within a repository:
    /// 1. It is empty or absolute, or a URL (`hf://`, `zip://…::…`).
    /// 2. It has the path component `..`, or a path component with `**` and other characters.
    init?(_ text: String) {
        guard !text.hasPrefix("/"), !text.contains("://"), !text.contains("::") else { return nil }
        let names = text.split(separator: "/").filter { $0 != "." }
        guard !names.isEmpty, !names.contains("..") else { return nil }
        var parts: [Part] = []
        for name in names {
            if name == "**" {
                parts.append(.any)
            } else if name.contains("**") {
                return nil
            } else {
                parts.append(.name(GlobPattern.tokens(Array(name.unicodeScalars))))
            }
        }
        self.parts = parts
        self.text = names.joined(separator: "/")
        isWild = text.contains { "*?[".contains($0) }
    }

    private static func tokens(_ name: [Unicode.Scalar]) -> [Token] {
        var tokens: [Token] = []
        var index = 0
        while index < name.count {
            let letter = name[index]
            index += 1
            switch letter {
            case "?": tokens.append(.one)
            case "*":
                if case .many? = tokens.last { continue }
                tokens.append(.many)
            case "[":
                var end = index
                if end < name.count, name[end] == "!" { end += 1 }
                if end < name.count, name[end] == "]" { end += 1 }
                while end < name.count, name[end] != "]" { end += 1 }
                guard end < name.count else {
                    tokens.append(.letter(letter))
                    continue
                }
                tokens.append(letters(name[index..<end]))
                index = end + 1
            default: tokens.append(.letter(letter))
            }
        }
        return tokens
    }

    /// Returns the token for `text`, the characters between `[` and `]`.
    private static func letters(_ text: ArraySlice<Unicode.Scalar>) -> Token {
        let isNegated = text.first == "!"
        let text = Array(isNegated ? text.dropFirst() : text)
        var ranges: [ClosedRange<UInt32>] = []
        var index = 0
        while index < text.count {
            let low = text[index].value
            if index + 2 < text.count, text[index + 1] == "-" {
                let high = text[index + 2].value
                if low <= high { ranges.append(low...high) }
                index += 3
            } else {
                ranges.append(low...low)
                index += 1
            }
        }
        return .oneOf(ranges, isNegated: isNegated)
    }

    /// Whether the pattern matches `path`. The running time is at most proportional to the product of both lengths.
    func matches(_ path: String) -> Bool {
        let names = path.split(separator: "/").map { Array($0.unicodeScalars) }
        // The possible numbers of path components that the parts of the pattern so far match.
        var used: Set<Int> = [0]
        for (index, part) in parts.enumerated() {
            switch part {
            case .any:
                guard let least = used.min() else { return false }
                if index == parts.count - 1 { return least < names.count }
                used = Set(least...names.count)
            case .name(let tokens):
                used = Set(
                    used.filter {
                        $0 < names.count && GlobPattern.matches(names[$0], tokens)
                    }.map { $0 + 1 })
            }
        }
        return used.contains(names.count)
    }

    private static func matches(_ name: [Unicode.Scalar], _ tokens: [Token]) -> Bool {
        var (place, token) = (0, 0)
        /// The index of the last `*` in `tokens`, and the index in `name` at which the match of this `*` ends so far.
        var star: (token: Int, end: Int)?
        while place < name.count {
            if token < tokens.count {
                if case .many = tokens[token] {
                    star = (token, place)
                    token += 1
                    continue
                }
                if matches(name[place], tokens[token]) {
                    place += 1
                    token += 1
                    continue
                }
            }
            guard let last = star else { return false }
            star = (last.token, last.end + 1)
            (place, token) = (last.end + 1, last.token + 1)
        }
        return tokens[token...].allSatisfy { if case .many = $0 { true } else { false } }
    }

    private static func matches(_ letter: Unicode.Scalar, _ token: Token) -> Bool {
        switch token {
        case .letter(let own): own == letter
        case .one: true
        case .many: false
        case .oneOf(let ranges, let isNegated):
            ranges.contains { $0.contains(letter.value) } != isNegated
        }
    }
}
