// One HTTP exchange, whoever carries it out.

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
    /// Seconds after which it has failed however much has come; nil for no such limit.
    var limit: Double?
}

/// The hosts that are this machine. No proxy stands before them, so that what is said to them stays here.
let loopbackHosts = ["localhost", "127.0.0.1", "::1"]

/// An answer's head.
struct HTTPResponse: Sendable {
    let status: Int
    /// By lower-case name.
    let headers: [String: String]

    subscript(name: String) -> String? { headers[name.lowercased()] }
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

/// The network's part in a failure: no connection, a connection lost, time out.
struct NetworkFailure: Error {
    let reason: String
    /// Whether it may be otherwise in a moment.
    var isTransient = true
}

/// Carries out exchanges. Redirects are the caller's, who knows what may be sent where.
protocol HTTPTransport: Sendable {
    /// Sends `request`. `body` is called with the answer's head and each piece of its body in order; what it throws ends the
    /// exchange and is thrown on. Throws `NetworkFailure` where the exchange does not come to its end.
    func send(
        _ request: HTTPRequest,
        body: @escaping @Sendable (HTTPResponse, UnsafeRawBufferPointer) throws -> Void
    ) async throws -> HTTPResponse
}
