// One exchange with the Hub or whom it sends on to: where a request goes, who one is there, and who it was that failed.

import FoundationEssentials
import Logging
import Synchronization

extension HubClient {
    /// Most answers to follow from one address to the next.
    private static let maximumRedirects = 8

    /// Most bytes of an address that an answer leads to: as many as servers take.
    static let longestAddress = 8 << 10

    /// `BodyReceiver` with the address that answers.
    typealias Body = @Sendable (URL, HTTPResponse, UnsafeRawBufferPointer) throws -> Bool

    /// Whose answer it is, and who sent on to it.
    struct Route {
        var url: URL
        /// The hosts that answered before, for messages.
        var senders: [String]
        /// Whether the last of them sends all requests on to it, as mirrors do, and not this file's.
        var isForGood = false

        var sender: String? { senders.isEmpty ? nil : senders.joined(separator: " and ") }
    }

    /// Sends `request` and goes where it is sent on to. The last answer, and whose it is. With `stoppingAtStorage` it does
    /// not leave the Hub for the storage of a file; the answer that would is the last. `body` gets what an answer that is no redirect
    /// has, and `redirected` each head that sends on, and the last.
    func follow(
        _ request: HTTPRequest, stoppingAtStorage: Bool, body: @escaping Body,
        redirected: (HTTPResponse) throws -> Void = { _ in }
    ) async throws -> (HTTPResponse, Route) {
        // An address of a storage's has come from the Hub before.
        var route = Route(
            url: request.url, senders: isEndpoint(request.url) ? [] : [settings.namedEndpoint])
        for _ in 0...HubClient.maximumRedirects {
            let url = route.url
            var headers = request.headers
            if mayIdentify(to: url), let token = settings.token {
                headers["Authorization"] = "Bearer \(token.secret)"
            }
            log.trace("\(request.method) \(place(url)) \(headers["Range"] ?? "")")
            var hop = request
            (hop.url, hop.headers) = (url, headers)
            let response: HTTPResponse
            do {
                response = try await transport.send(hop) { response, bytes in
                    // What a redirect has besides its head may have no end.
                    guard !(300..<400).contains(response.status) else { return false }
                    // Looked at with the head, before the first byte.
                    guard try !bytes.isEmpty || hasPlainBody(response, url) else { return false }
                    return try body(url, response, bytes)
                }
            } catch let failure as NetworkFailure {
                throw unreachable(route, failure)
            }
            guard [301, 302, 303, 307, 308].contains(response.status) else {
                try redirected(response)
                return (response, route)
            }
            guard let location = response["Location"],
                location.utf8.count <= HubClient.longestAddress,
                let next = URL(string: addressText(location), relativeTo: url)?.absoluteURL
            else {
                throw badRedirect(route, "leads to an address that is none, and is not followed")
            }
            guard isSafe(next, after: url) else {
                throw badRedirect(
                    route,
                    "leads to \(address(next)), which is not followed: \(next.user != nil ? "it holds a user's name" : "that is no https")"
                )
            }
            try redirected(response)
            // Mirrors that send on for good have the Hub itself behind them.
            let isForGood = [301, 308].contains(response.status)
            if stoppingAtStorage, !isEndpoint(next), !isForGood { return (response, route) }
            if address(next) != address(url) {
                route.senders.append(address(url))
                route.isForGood = isForGood
            }
            route.url = next
        }
        throw badRedirect(route, "leads in circles")
    }

    /// Whether the body of the answer of `url` can be read as it comes. An error's words can be done without. Throws `HubError`
    /// where it is compressed: that was not asked for, and a few bytes may unpack to any number.
    private func hasPlainBody(_ response: HTTPResponse, _ url: URL) throws(HubError) -> Bool {
        let codings = ["Content-Encoding", "Transfer-Encoding"].compactMap { response[$0] }
            .flatMap { $0.split(separator: ",") }.map { trimmed($0).lowercased() }
        guard let coding = codings.first(where: { !["identity", "chunked", ""].contains($0) })
        else { return true }
        guard response.status < 400 else { return false }
        throw .notAHub(
            endpoint: address(url),
            reason:
                "\(place(url)) comes compressed (\(coding.prefix(20))), which was not asked for"
        )
    }

    private func badRedirect(_ route: Route, _ reason: String) -> HubError {
        .notAHub(endpoint: address(route.url), reason: "\(place(route.url)) \(reason)")
    }

    /// Who answers at `url`, for messages: its host, or a proxy on the way to it.
    func answerer(_ url: URL) -> String {
        address(url) + (settings.proxies.proxy(for: url).map { ", or the proxy \($0)," } ?? "")
    }

    /// What the network's `failure` on the way to a host is, with the proxy that stands before it.
    func unreachable(_ route: Route, _ failure: NetworkFailure) -> Refusal {
        let proxy = settings.proxies.proxy(for: route.url).map { "through the proxy \($0): " }
        return Refusal(
            error: .unreachable(
                host: address(route.url), sender: route.sender,
                reason: redacted((proxy ?? "") + failure.reason)),
            pause: nil, isTransient: failure.isTransient)
    }

    var standardHeaders: [String: String] {
        // Compressed bodies have other lengths and no ranges.
        ["Accept-Encoding": "identity", "User-Agent": settings.userAgent]
    }

    // MARK: Addresses

    func url(_ path: String) -> URL { URL(string: settings.endpoint + path)! }

    func resolveURL(
        _ file: RepositoryFile, _ reference: RepositoryReference, _ commit: String
    ) -> URL {
        let path = file.path.split(separator: "/").map { percentEncoded($0) }.joined(separator: "/")
        return url("\(reference.page)/resolve/\(commit)/\(path)")
    }

    /// An address for logs: signatures are in the query.
    func place(_ url: URL) -> String {
        redacted("\(url.host ?? "")\(url.port.map { ":\($0)" } ?? "")\(url.path)")
    }

    /// Scheme and host of `url`, for messages; the endpoint as it was given.
    func address(_ url: URL) -> String {
        isEndpoint(url) ? settings.namedEndpoint : origin(url)
    }

    /// Scheme, host and port of `url`, for messages.
    func origin(_ url: URL) -> String {
        redacted("\(url.scheme ?? "")://\(url.host ?? "")\(url.port.map { ":\($0)" } ?? "")")
    }

    func isEndpoint(_ url: URL) -> Bool {
        func port(_ url: URL) -> Int { url.port ?? (url.scheme == "https" ? 443 : 80) }
        return url.scheme?.lowercased() == endpoint.scheme?.lowercased()
            && url.host?.lowercased() == endpoint.host?.lowercased() && port(url) == port(endpoint)
    }

    /// Whether the token may be sent there: to the Hub alone, and so that nobody between can read it.
    func mayIdentify(to url: URL) -> Bool {
        let host = url.host?.lowercased() ?? ""
        let isLoopback = loopbackHosts.contains(host)
        return isEndpoint(url) && (url.scheme?.lowercased() == "https" || isLoopback)
    }

    private func isSafe(_ next: URL, after url: URL) -> Bool {
        switch next.scheme?.lowercased() {
        case "https": next.user == nil
        case "http": url.scheme?.lowercased() == "http" && next.user == nil
        default: false
        }
    }
}

/// An answer's body, which comes in on the transport's thread.
final class Content: Sendable {
    private let storage = Mutex<[UInt8]>([])

    var bytes: [UInt8] { storage.withLock { $0 } }

    /// Appends what of `more` makes it no longer than `limit`. False where that is not all.
    func append(_ more: UnsafeRawBufferPointer, limit: Int) -> Bool {
        storage.withLock {
            let room = limit - $0.count
            $0.append(contentsOf: more.prefix(room))
            return more.count <= room
        }
    }
}
