// Recognises kinds of text files: placeholders of large files, web pages, error answers of servers, tables, JSON.

import ByteJSON

extension FileKind {
    /// Returns the kind of a text file that begins with `head`. Nil if `head` is not text, or only white space.
    static func ofText(_ head: [UInt8]) -> FileKind? {
        let isMarked = head.starts(with: [0xEF, 0xBB, 0xBF])
        let body = isMarked ? head[3...] : head[...]
        // Bytes from 0x80 to 0xFD count as text, because they are letters in some encoding.
        func isOfText(_ byte: UInt8) -> Bool {
            byte >= 0x20
                ? ![0x7F, 0xFE, 0xFF].contains(byte)
                : [0x09, 0x0A, 0x0C, 0x0D].contains(byte)
        }
        guard body.allSatisfy(isOfText) else { return nil }
        let text = String(decoding: body, as: UTF8.self)
        let visible = text.drop(while: \.isWhitespace)
        guard !visible.isEmpty else { return nil }
        if let found = pointer(visible) ?? markup(visible) ?? refusal(visible, size: head.count) {
            return found
        }
        if visible.hasPrefix("{") || visible.hasPrefix("[") { return isMarked ? .marked : .json }
        // A text that is a single JSON word or number is JSON too.
        let word = String(visible).split(whereSeparator: \.isWhitespace)
        if word.count == 1, ["null", "true", "false"].contains(word[0]) || Double(word[0]) != nil {
            return .json
        }
        if visible.utf8.starts(with: [0xEF, 0xBB, 0xBF]) { return .marked }
        if ["(dp", "(lp", "ccopy_reg", "cnumpy"].contains(where: visible.hasPrefix) {
            return .pickle
        }
        return table(text) ?? .text(excerpt(visible))
    }

    /// Returns the first line of `text`, shortened to at most `limit` characters.
    static func excerpt(_ text: Substring, limit: Int = 60) -> String {
        let line = text.prefix { !$0.isNewline }
        return line.count > limit ? line.prefix(limit - 3) + "..." : String(line)
    }

    /// Recognises the small files that stand for large files in a clone by Git LFS, git-annex or Git Xet.
    private static func pointer(_ text: Substring) -> FileKind? {
        if text.hasPrefix("version https://git-lfs.github.com/spec/")
            || text.hasPrefix("version https://hawser.github.com/spec/")
        {
            let size = text.split(whereSeparator: \.isNewline).first { $0.hasPrefix("size ") }
            return .pointer(
                tool: "Git LFS", command: "git lfs pull",
                size: size.flatMap { Int($0.dropFirst(5)) })
        }
        if text.hasPrefix("/annex/objects/") || text.hasPrefix("../.git/annex/objects/")
            || text.hasPrefix(".git/annex/objects/")
        {
            return .pointer(tool: "git-annex", command: "git annex get", size: nil)
        }
        if text.hasPrefix("# xet version") {
            return .pointer(tool: "Git Xet", command: "git xet checkout", size: nil)
        }
        return nil
    }

    private static func markup(_ text: Substring) -> FileKind? {
        guard text.hasPrefix("<") else { return nil }
        let lower = text.lowercased()
        if lower.hasPrefix("<!doctype html") || lower.contains("<html") || lower.hasPrefix("<head")
            || lower.hasPrefix("<body")
        {
            return .webPage(title: content(of: /(?i)<title[^>]*>([^<]*)</, in: text))
        }
        let isXML = lower.hasPrefix("<?xml") || lower.hasPrefix("<!doctype")
        var rest = text
        while let start = rest.firstIndex(of: "<") {
            rest = rest[start...].dropFirst()
            let name = rest.prefix { $0.isLetter || $0.isNumber || "_.:-".contains($0) }
            guard let first = name.first, first.isLetter else { continue }
            let isElement = ">/ \n\r\t".contains(rest.dropFirst(name.count).first ?? "?")
            guard
                isXML
                    || isElement
                        && (lower.contains("</\(name.lowercased())>") || rest.contains("xmlns"))
            else {
                return nil
            }
            guard name == "Error" else { return .xml(root: String(name)) }
            // If a storage server refuses a request, it sends an XML element <Error>.
            let words = [
                content(of: /<Code>([^<]*)</, in: text),
                content(of: /<Message>([^<]*)</, in: text),
            ]
            let said = words.compactMap(\.self).joined(separator: ": ")
            return .refusal(said.isEmpty ? "Error" : said)
        }
        return isXML ? .xml(root: "") : nil
    }

    /// Returns the text that the regular expression `element` captures, shortened and on one line. Nil if `element`
    /// does not match, or captures only white space.
    private static func content(
        of element: Regex<(Substring, Substring)>, in text: Substring
    ) -> String? {
        guard let match = text.firstMatch(of: element) else { return nil }
        let words = match.1.split(whereSeparator: \.isWhitespace).joined(separator: " ")
        return words.isEmpty ? nil : excerpt(words[...])
    }

    /// Recognises a short error answer of a server. Some download programs save such an answer in place of the file.
    private static func refusal(_ text: Substring, size: Int) -> FileKind? {
        guard size < 2000 else { return nil }
        let found = FileKind.refusal(excerpt(text, limit: 120))
        let lower = text.lowercased()
        let beginnings = [
            "access to model ", "access to dataset ", "cannot access gated repo",
            "invalid username or password",
        ]
        if beginnings.contains(where: lower.hasPrefix) { return found }
        // The whole text must be one of these phrases, because other texts can begin with them. A status such as 404
        // may come before the phrase.
        let letters = lower.filter { $0.isLetter || $0.isNumber || $0 == " " }
        let words = letters.split(separator: " ").map(String.init)
            .drop { $0.count == 3 && $0.allSatisfy(\.isNumber) }.joined(separator: " ")
        let whole = [
            "access denied", "accessdenied", "entry not found", "repository not found",
            "revision not found", "not found", "invalid credentials", "unauthorized", "forbidden",
            "too many requests", "internal server error", "bad gateway", "service unavailable",
            "gateway timeout",
        ]
        if whole.contains(words) { return found }
        return errorObject(text).map { .refusal(excerpt($0[...], limit: 120)) }
    }

    /// Returns the value of the key `error` if `text` is a JSON object whose keys are all known from servers' error
    /// answers. Otherwise nil.
    private static func errorObject(_ text: Substring) -> String? {
        guard text.hasPrefix("{") else { return nil }
        let value = Array(text.utf8).withUnsafeBufferPointer { try? JSONValue(parsing: $0) }
        let keys: Set<String> = [
            "cause", "code", "detail", "error", "error_code", "error_description", "errors",
            "message", "path", "request_id", "requestId", "status", "statusCode", "timestamp",
        ]
        guard let object = value?.object, object.members.allSatisfy({ keys.contains($0.key) }),
            let said = object["error"]?.string, !said.isEmpty
        else { return nil }
        return said
    }

    /// Recognises a table: its first line has short names, and its second line has at least as many separators.
    private static func table(_ text: String) -> FileKind? {
        let lines = text.split(
            maxSplits: 2, omittingEmptySubsequences: true, whereSeparator: \.isNewline)
        guard let header = lines.first else { return nil }
        for (separator, name, reader) in [
            (Character("\t"), "a table with tabs (TSV)", "read_table"),
            (",", "a table with commas (CSV)", "read_csv"),
            (";", "a table with semicolons (CSV)", "read_csv"),
        ] {
            let names = header.split(separator: separator, omittingEmptySubsequences: false)
            guard names.count >= 2,
                names.allSatisfy({ $0.count <= 40 && !$0.hasPrefix(" ") && !$0.isEmpty }),
                // A table of one line is accepted. It is not a sentence with commas, because no name begins with a
                // space.
                lines.count < 2 || lines[1].count(where: { $0 == separator }) >= names.count - 1
            else { continue }
            return .table(name: name, reader: reader)
        }
        return nil
    }
}
