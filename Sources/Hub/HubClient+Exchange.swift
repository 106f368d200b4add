// One exchange with the Hub or with a host to which the Hub redirects: where a request goes, whether the token is sent, and which
// host has failed.

import FoundationEssentials
import Logging
import Synchronization

extension HubClient {
    /// Most redirects that are followed.
    private static let maximumRedirects = 8

    /// Most bytes of an address in an answer. Servers accept no longer addresses.
    static let longestAddress = 8 << 10

    /// `BodyReceiver` with the address that answered.
    typealias Body = @Sendable (URL, HTTPResponse, UnsafeRawBufferPointer) throws -> Bool

    /// The address that answered, and the hosts that redirected to it.
    struct Route {
        var url: URL
        /// The hosts that redirected the request, in their order, for messages.
        var senders: [String]
        /// Whether the last redirect was permanent: mirrors redirect all requests in this way. A redirect to the storage of a
        /// file is temporary.
        var isForGood = false

        var sender: String? { senders.isEmpty ? nil : senders.joined(separator: " and ") }
    }

    /// Sends `request`, follows redirects, and returns the last answer and its route. With `stoppingAtStorage`, a temporary
    /// redirect away from the Hub is not followed; this redirect is then the last answer. `body` receives the head and the bytes
    /// of an answer that is no redirect. `redirected` is called once for the head of every answer.
    func follow(
        _ request: HTTPRequest, stoppingAtStorage: Bool, body: @escaping Body,
        redirected: (HTTPResponse) throws -> Void = { _ in }
    ) async throws -> (HTTPResponse, Route) {
        // If `request` goes to a file's storage, the Hub gave the address in an earlier answer.
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
                    // The body of a redirect is not read: it may have no end.
                    guard !(300..<400).contains(response.status) else { return false }
                    // Checked with the head, before the first byte of the body.
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
                throw badRedirect(route, "leads to an invalid address, and is not followed")
            }
            guard isSafe(next, after: url) else {
                throw badRedirect(
                    route,
                    "leads to \(address(next)), which is not followed: \(next.user != nil ? "it holds a user's name" : "it is not https")"
                )
            }
            try redirected(response)
            // A permanent redirect comes from a mirror and leads to the Hub itself.
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

    /// Whether the body of the answer of `url` is not compressed. Returns false for a compressed error, whose text is not needed.
    /// Throws `HubError` for any other compressed answer: compression was not asked for, and a few bytes may unpack to any number
    /// of bytes.
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

    /// Returns words for messages that name who may have answered at `url`: the host and, if there is one, the proxy.
    func answerer(_ url: URL) -> String {
        address(url) + (settings.proxies.proxy(for: url).map { ", or the proxy \($0)," } ?? "")
    }

    /// Returns the refusal for a network `failure` when the host of `route` was asked. The refusal's text names the proxy, if
    /// there is one.
    func unreachable(_ route: Route, _ failure: NetworkFailure) -> Refusal {
        let proxy = settings.proxies.proxy(for: route.url).map { "through the proxy \($0): " }
        return Refusal(
            error: .unreachable(
                host: address(route.url), sender: route.sender,
                reason: redacted((proxy ?? "") + failure.reason)),
            pause: nil, isTransient: failure.isTransient)
    }

    var standardHeaders: [String: String] {
        // Compressed bodies have other lengths and allow no ranges.
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

    /// Host, port and path of `url`, for logs. The query is left out, because it may hold a signature.
    func place(_ url: URL) -> String {
        redacted("\(url.host ?? "")\(url.port.map { ":\($0)" } ?? "")\(url.path)")
    }

    /// Scheme, host and port of `url`, for messages; for the Hub, the endpoint as it was given.
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

    /// Whether the token may be sent to `url`: only to the Hub, and only by https or to this machine, so that nobody on the way
    /// can read the token.
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

/// Collects an answer's body, which comes in on the transport's thread.
final class Content: Sendable {
    private let storage = Mutex<[UInt8]>([])

    var bytes: [UInt8] { storage.withLock { $0 } }

    /// Appends bytes of `more` until there are `limit` bytes in all. Returns whether all of `more` was appended.
    func append(_ more: UnsafeRawBufferPointer, limit: Int) -> Bool {
        storage.withLock {
            let room = limit - $0.count
            $0.append(contentsOf: more.prefix(room))
            return more.count <= room
        }
    }
}
