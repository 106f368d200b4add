// One HTTP exchange, whoever carries it out.

import Files
import FoundationEssentials
import Glibc

/// A request without a body.
struct HTTPRequest: Sendable {
    var method = "GET"
    var url: URL
    var headers: [String: String] = [:]
    /// Seconds without a byte after which it has failed.
    let timeout: Double
    /// The variable that says so, for messages.
    let timeoutName: String
    /// What else ends it, while bytes keep coming.
    let bound: Bound

    /// How long an answer may go on.
    enum Bound: Sendable {
        /// So many times `timeout` in all.
        case time(Int)
        /// For as long as it brings `bytes` a second, averaged over each `times` times `timeout`.
        case rate(bytes: Int, times: Int)
    }
}

/// The hosts that are this machine. No proxy stands before them, so that what is said to them stays here.
let loopbackHosts = ["localhost", "127.0.0.1", "::1"]

/// An answer's head.
struct HTTPResponse: Sendable {
    let status: Int
    /// By lower-case name; of a name that came more than once the values in their order, joined by ", " (RFC 9110, 5.3).
    let headers: [String: String]

    subscript(name: String) -> String? { headers[name.lowercased()] }
}

/// `field`, a URL, with what no URL may have as `%XX`. Foundation would encode all of it anew, what is encoded already too.
func addressText(_ field: String) -> String {
    percentEncoded(field) { (0x21...0x7E).contains($0) && !"\"<>\\^`{|}".utf8.contains($0) }
}

/// `text` with each byte but those that `isPlain` is true of as `%XX`.
func percentEncoded(_ text: some StringProtocol, but isPlain: (UInt8) -> Bool) -> String {
    text.utf8.map {
        isPlain($0) ? String(UnicodeScalar($0)) : "%" + hexadecimal([$0]).uppercased()
    }.joined()
}

/// The value of an entity tag without its quotes and weakness, as huggingface_hub makes file names of it.
func entityTag(_ field: String) -> String {
    let strong = field.hasPrefix("W/") ? field.dropFirst(2) : field[...]
    return trimmed(strong) { $0 == "\"" }
}

/// `text` without the characters at its ends that `isBlank` is true of, white space without it.
func trimmed(
    _ text: some StringProtocol, _ isBlank: (Character) -> Bool = \.isWhitespace
) -> String {
    let start = text.drop(while: isBlank)
    return String(start.reversed().drop(while: isBlank).reversed())
}

/// The bytes of the IP address `text`, four or sixteen; nil where it is none.
func addressBytes(_ text: String) -> [UInt8]? {
    for (family, count) in [(AF_INET, 4), (AF_INET6, 16)] {
        var bytes = [UInt8](repeating: 0, count: count)
        if inet_pton(family, text, &bytes) == 1 { return bytes }
    }
    return nil
}

/// The network's part in a failure: no connection, a connection lost, time out.
struct NetworkFailure: Error {
    let reason: String
    /// Whether it may be otherwise in a moment.
    var isTransient = true
}

/// Takes an answer's head and the pieces of its body in order. First it is called with the head and no byte. Where the result is
/// false no more is wanted, and the exchange ends there; what is thrown ends it too.
typealias BodyReceiver = @Sendable (HTTPResponse, UnsafeRawBufferPointer) throws -> Bool

/// Carries out exchanges. Redirects are the caller's, who knows what may be sent where.
protocol HTTPTransport: Sendable {
    /// Sends `request` and gives the answer to `body`. Throws `NetworkFailure` where the exchange does not come to its end, what
    /// `body` throws, and `CancellationError`.
    func send(_ request: HTTPRequest, body: @escaping BodyReceiver) async throws -> HTTPResponse
}
