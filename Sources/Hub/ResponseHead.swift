// Parses the head of an HTTP response, line by line (RFC 9112).

/// Collects the lines of a response's head. Ignores interim heads (status 1xx) and the lines after the body
/// (trailers).
struct ResponseHead {
    /// The maximum length of a line in bytes.
    static let longestLine = 64 << 10
    /// The maximum length in bytes of all lines of an exchange.
    static let longest = 256 << 10

    /// The headers that must not occur with two different values.
    private static let single: Set<String> = ["content-length", "content-range", "location"]

    private var count = 0
    private var status: Int?
    private var headers: [String: String] = [:]
    /// The complete head; nil until its last line has arrived.
    private(set) var response: HTTPResponse?

    /// Adds the next line, including its line break. Throws `NetworkFailure` if the lines are too long, if the status
    /// is missing, or if a header contradicts an earlier one.
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
            "the headers of the answer are longer than \(longestLine >> 10) kB in a line or \(longest >> 10) kB in all",
        isTransient: false)

    /// Returns the status 200 for the line `HTTP/1.1 200 OK`. Throws `NetworkFailure` if the line has no status.
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

    /// Adds the header in a line `Name: value`. Ignores a line in another form.
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
                    reason: "the answer has the header \(name) twice, with different values",
                    isTransient: false)
            }
        } else {
            headers[name]! += ", " + value
        }
    }
}
