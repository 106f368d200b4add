// Reads an answer's head, line by line (RFC 9112).

/// Collects the lines of the heads in one exchange. Ignores heads that only announce another one (1xx), and the lines after the
/// body (trailers).
struct ResponseHead {
    /// Most bytes of a line, and of all lines of an exchange.
    static let longestLine = 64 << 10
    static let longest = 256 << 10

    /// Fields that may not have two different values.
    private static let single: Set<String> = ["content-length", "content-range", "location"]

    private var count = 0
    private var status: Int?
    private var headers: [String: String] = [:]
    /// The head; nil until it is complete.
    private(set) var response: HTTPResponse?

    /// Adds the next line, which includes its line break. Throws `NetworkFailure` if it cannot be a line of a head.
    mutating func add(_ line: UnsafeRawBufferPointer) throws(NetworkFailure) {
        count += line.count
        guard line.count <= ResponseHead.longestLine, count <= ResponseHead.longest else {
            throw ResponseHead.tooLong
        }
        guard response == nil else { return }
        var text = line[...]
        while let last = text.last, last == 0x0A || last == 0x0D { text = text.dropLast() }
        guard let status else {
            status = try ResponseHead.status(text)
            headers = [:]
            return
        }
        if !text.isEmpty {
            try addField(text)
        } else if (100..<200).contains(status), status != 101 {
            self.status = nil
        } else {
            response = HTTPResponse(status: status, headers: headers)
        }
    }

    /// The failure for a head that is too long.
    static let tooLong = NetworkFailure(
        reason:
            "the answer's head is longer than \(longestLine >> 10) kB in a line or \(longest >> 10) kB in all",
        isTransient: false)

    /// Returns the status in `HTTP/1.1 200 OK`. Throws `NetworkFailure` if the line has none.
    private static func status(
        _ line: Slice<UnsafeRawBufferPointer>
    ) throws(NetworkFailure) -> Int {
        let words = line.split(separator: 0x20, maxSplits: 2, omittingEmptySubsequences: false)
        guard words.count >= 2, words[0].starts(with: Array("HTTP/".utf8)), words[1].count == 3,
            let number = Int(String(decoding: words[1], as: UTF8.self)), number >= 100
        else {
            throw NetworkFailure(
                reason: "the answer is not HTTP: its first line has no status")
        }
        return number
    }

    /// Adds `Name: value`. Ignores a line that has another form.
    private mutating func addField(
        _ line: Slice<UnsafeRawBufferPointer>
    ) throws(NetworkFailure) {
        guard let colon = line.firstIndex(of: UInt8(ascii: ":")), colon > line.startIndex,
            line[..<colon].allSatisfy({ (0x21...0x7E).contains($0) })
        else { return }
        let name = String(decoding: line[..<colon], as: UTF8.self).lowercased()
        let value = trimmed(String(decoding: line[(colon + 1)...], as: UTF8.self))
        guard headers[name] != nil else {
            headers[name] = value
            return
        }
        if ResponseHead.single.contains(name) {
            guard headers[name] == value else {
                throw NetworkFailure(
                    reason: "the answer's head has \(name) twice, with different values",
                    isTransient: false)
            }
        } else {
            headers[name]! += ", " + value
        }
    }
}
