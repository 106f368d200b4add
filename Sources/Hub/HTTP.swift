// HTTP requests, responses and helper functions, independent of the transport.

import Files
import FoundationEssentials
import Glibc

/// An HTTP request without a body.
struct HTTPRequest: Sendable {
    var method = "GET"
    var url: URL
    var headers: [String: String] = [:]
    /// The request fails if no byte arrives for this number of seconds.
    let timeout: Double
    /// The environment variable that sets `timeout`, for messages.
    let timeoutName: String
    /// The limit for the whole response. It applies even while bytes keep arriving.
    let bound: Bound

    /// The limit for the duration of a response.
    enum Bound: Sendable {
        /// The whole response may take this multiple of `timeout`.
        case time(Int)
        /// In each period of `times` × `timeout` seconds, at least `bytes` bytes per second must arrive on average.
        case rate(bytes: Int, times: Int)
    }
}

/// The names and addresses by which a machine reaches itself. Requests to them use no proxy.
let loopbackHosts = ["localhost", "127.0.0.1", "::1"]

/// The head of an HTTP response: status and headers.
struct HTTPResponse: Sendable {
    let status: Int
    /// Header values by lower-case name. The values of a repeated header are joined by ", " (RFC 9110, section 5.3).
    let headers: [String: String]

    subscript(name: String) -> String? { headers[name.lowercased()] }
}

/// Returns the URL `field`, with `%XX` in place of each byte that a URL must not contain. Existing escapes stay.
/// Foundation would turn `%20` into `%2520`.
func addressText(_ field: String) -> String {
    percentEncoded(field) { (0x21...0x7E).contains($0) && !"\"<>\\^`{|}".utf8.contains($0) }
}

/// Returns `text` with each byte replaced by `%XX`, except the bytes for which `isPlain` is true.
func percentEncoded(_ text: some StringProtocol, but isPlain: (UInt8) -> Bool) -> String {
    text.utf8.map {
        isPlain($0) ? String(UnicodeScalar($0)) : "%" + hexadecimal([$0]).uppercased()
    }.joined()
}

/// Returns the value of an entity tag (header `ETag`), without its quotes and without its prefix `W/`.
func entityTag(_ field: String) -> String {
    let strong = field.hasPrefix("W/") ? field.dropFirst(2) : field[...]
    return trimmed(strong) { $0 == "\"" }
}

/// Returns `text` without the characters at its ends for which `isBlank` is true. The default is white space.
func trimmed(
    _ text: some StringProtocol, _ isBlank: (Character) -> Bool = \.isWhitespace
) -> String {
    let start = text.drop(while: isBlank)
    return String(start.reversed().drop(while: isBlank).reversed())
}

/// Returns the 4 or 16 bytes of the IP address `text`; nil if `text` is not an IP address.
func addressBytes(_ text: String) -> [UInt8]? {
    for (family, count) in [(AF_INET, 4), (AF_INET6, 16)] {
        var bytes = [UInt8](repeating: 0, count: count)
        if inet_pton(family, text, &bytes) == 1 { return bytes }
    }
    return nil
}

/// A failure of the network, such as no connection, a lost connection or a time-out.
struct NetworkFailure: Error {
    let reason: String
    /// Whether a retry may succeed.
    var isTransient = true
}

/// Receives a response. The first call has the head and no bytes. Each later call has the head and a piece of the
/// body. If the function returns false or throws an error, the exchange ends.
typealias BodyReceiver = @Sendable (HTTPResponse, UnsafeRawBufferPointer) throws -> Bool

/// Carries out HTTP exchanges. Follows no redirects, because the caller decides which host gets the token.
protocol HTTPTransport: Sendable {
    /// Sends `request` and passes the response to `body`. Returns the head of the response. Throws `NetworkFailure`
    /// if the exchange does not complete. Also throws `CancellationError` and the errors of `body`.
    func send(_ request: HTTPRequest, body: @escaping BodyReceiver) async throws -> HTTPResponse
}
