// HTTP requests, answers and their parts, independent of the transport.

import Files
import FoundationEssentials
import Glibc

/// A request without a body.
struct HTTPRequest: Sendable {
    var method = "GET"
    var url: URL
    var headers: [String: String] = [:]
    /// Seconds without a byte after which the request has failed.
    let timeout: Double
    /// The variable that sets `timeout`, for messages.
    let timeoutName: String
    /// The limit on the whole answer, which also holds while bytes keep coming.
    let bound: Bound

    /// How long an answer may take.
    enum Bound: Sendable {
        /// At most this many times `timeout` in all.
        case time(Int)
        /// As long as it brings `bytes` a second, averaged over each period of `times` × `timeout`.
        case rate(bytes: Int, times: Int)
    }
}

/// The hosts that are this machine. They are reached without a proxy, so that what is sent to them stays on this machine.
let loopbackHosts = ["localhost", "127.0.0.1", "::1"]

/// The head of an answer.
struct HTTPResponse: Sendable {
    let status: Int
    /// Values by lower-case name. If a name came more than once, its values are joined by ", " in their order (RFC 9110, 5.3).
    let headers: [String: String]

    subscript(name: String) -> String? { headers[name.lowercased()] }
}

/// Returns `field`, a URL, with every byte that no URL may have as `%XX`. Foundation would encode the whole text again, including
/// what is encoded already.
func addressText(_ field: String) -> String {
    percentEncoded(field) { (0x21...0x7E).contains($0) && !"\"<>\\^`{|}".utf8.contains($0) }
}

/// Returns `text` with each byte as `%XX`, except those for which `isPlain` is true.
func percentEncoded(_ text: some StringProtocol, but isPlain: (UInt8) -> Bool) -> String {
    text.utf8.map {
        isPlain($0) ? String(UnicodeScalar($0)) : "%" + hexadecimal([$0]).uppercased()
    }.joined()
}

/// Returns the value of an entity tag without its quotes and the prefix `W/`: huggingface_hub makes file names of it in this way.
func entityTag(_ field: String) -> String {
    let strong = field.hasPrefix("W/") ? field.dropFirst(2) : field[...]
    return trimmed(strong) { $0 == "\"" }
}

/// Returns `text` without the characters at both ends for which `isBlank` is true (by default white space).
func trimmed(
    _ text: some StringProtocol, _ isBlank: (Character) -> Bool = \.isWhitespace
) -> String {
    let start = text.drop(while: isBlank)
    return String(start.reversed().drop(while: isBlank).reversed())
}

/// The bytes of the IP address `text`, 4 or 16; nil if it is not an IP address.
func addressBytes(_ text: String) -> [UInt8]? {
    for (family, count) in [(AF_INET, 4), (AF_INET6, 16)] {
        var bytes = [UInt8](repeating: 0, count: count)
        if inet_pton(family, text, &bytes) == 1 { return bytes }
    }
    return nil
}

/// A failure of the network: no connection, a lost connection, a time-out.
struct NetworkFailure: Error {
    let reason: String
    /// Whether a retry may succeed.
    var isTransient = true
}

/// Receives an answer's head and the pieces of its body in order. The first call has the head and no bytes. If the result is
/// false, no more is wanted and the exchange ends. An error that is thrown ends it too.
typealias BodyReceiver = @Sendable (HTTPResponse, UnsafeRawBufferPointer) throws -> Bool

/// Carries out exchanges. Does not follow redirects: the caller follows them, because it knows what may be sent to which host.
protocol HTTPTransport: Sendable {
    /// Sends `request` and passes the answer to `body`. Returns the answer's head. Throws `NetworkFailure` if the exchange does
    /// not complete, what `body` throws, and `CancellationError`.
    func send(_ request: HTTPRequest, body: @escaping BodyReceiver) async throws -> HTTPResponse
}
