// One exchange with the Hub, or with a host to which the Hub redirects. This file decides where a request goes,
// whether the token is sent, and which host an error names.

import FoundationEssentials
import Logging
import Synchronization

extension HubClient {
    /// The maximum number of HTTP redirects that are followed.
    private static let maximumRedirects = 8

    /// The maximum length in bytes of a URL in a response. Servers do not accept longer URLs.
    static let longestAddress = 8 << 10

    /// A `BodyReceiver` that also gets the URL of the response.
    typealias Body = @Sendable (URL, HTTPResponse, UnsafeRawBufferPointer) throws -> Bool

    /// The URL of a response, and the hosts that redirected the request to this URL.
    struct Route {
        var url: URL
        /// The hosts that redirected the request, in their order, for messages.
        var senders: [String]
        /// Whether the last redirect to another host was permanent (status 301 or 308). A mirror redirects to the Hub
        /// permanently. The Hub redirects to a file's storage temporarily.
        var isForGood = false

        var sender: String? { senders.isEmpty ? nil : senders.joined(separator: " and ") }
    }

    /// Sends `request` and follows HTTP redirects. Returns the last response and its route. With `stoppingAtStorage`,
    /// a temporary redirect away from the Hub is not followed, but returned. `body` receives the last response,
    /// unless it is a redirect. `redirected` receives the head of each response.
    func follow(
        _ request: HTTPRequest, stoppingAtStorage: Bool, body: @escaping Body,
        redirected: (HTTPResponse) throws -> Void = { _ in }
    ) async throws -> (HTTPResponse, Route) {
        // If `request` does not go to the Hub, an earlier response of the Hub has named its URL. So messages name the
        // Hub as the sender.
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
                    // The body of a redirect is not read, because it may be endless.
                    guard !(300..<400).contains(response.status) else { return false }
                    // `bytes` is empty only in the first call, with the head. Then `hasPlainBody` checks the headers.
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
                throw badRedirect(route, "redirects to an invalid address")
            }
            guard isSafe(next, after: url) else {
                throw badRedirect(
                    route,
                    "redirects to \(address(next)), which is not followed: \(next.user != nil ? "the address contains a user name" : "the address is not https")"
                )
            }
            try redirected(response)
            // A permanent redirect comes from a mirror and leads to the Hub itself, not to a file's storage.
            let isForGood = [301, 308].contains(response.status)
            if stoppingAtStorage, !isEndpoint(next), !isForGood { return (response, route) }
            if address(next) != address(url) {
                route.senders.append(address(url))
                route.isForGood = isForGood
            }
            route.url = next
        }
        throw badRedirect(
            route, "redirects in circles, or more than \(HubClient.maximumRedirects) times")
    }

    /// Whether the body of the response from `url` is not compressed. Returns false for a compressed error response,
    /// whose text is not needed. Throws `HubError` for any other compressed response, because the request forbids
    /// compression.
    private func hasPlainBody(_ response: HTTPResponse, _ url: URL) throws(HubError) -> Bool {
        let codings = ["Content-Encoding", "Transfer-Encoding"].compactMap { response[$0] }
            .flatMap { $0.split(separator: ",") }.map { trimmed($0).lowercased() }
        guard let coding = codings.first(where: { !["identity", "chunked", ""].contains($0) })
        else { return true }
        guard response.status < 400 else { return false }
        throw .notAHub(
            endpoint: address(url),
            reason:
                "the answer of \(place(url)) is compressed (\(coding.prefix(20))), although the request forbids compression"
        )
    }

    private func badRedirect(_ route: Route, _ reason: String) -> HubError {
        .notAHub(endpoint: address(route.url), reason: "\(place(route.url)) \(reason)")
    }

    /// Returns the possible senders of a response from `url`, for messages: the host, and the proxy if one is used.
    func answerer(_ url: URL) -> String {
        address(url) + (settings.proxies.proxy(for: url).map { ", or the proxy \($0)," } ?? "")
    }

    /// Returns the error for a network failure at the URL of `route`. The error names the proxy, if one is used.
    func unreachable(_ route: Route, _ failure: NetworkFailure) -> Refusal {
        let proxy = settings.proxies.proxy(for: route.url).map { "through the proxy \($0): " }
        return Refusal(
            error: .unreachable(
                host: address(route.url), sender: route.sender,
                reason: redacted((proxy ?? "") + failure.reason)),
            pause: nil, isTransient: failure.isTransient)
    }

    var standardHeaders: [String: String] {
        // `identity` forbids compression: the body must have the size of the file, and byte ranges must work.
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

    /// Returns host, port and path of `url` for log lines. Omits the query, because it may contain a signature.
    func place(_ url: URL) -> String {
        redacted("\(url.host ?? "")\(url.port.map { ":\($0)" } ?? "")\(url.path)")
    }

    /// Returns scheme, host and port of `url` for messages. For the Hub, returns the endpoint as it was given.
    func address(_ url: URL) -> String {
        isEndpoint(url) ? settings.namedEndpoint : origin(url)
    }

    /// Returns scheme, host and port of `url` for messages.
    func origin(_ url: URL) -> String {
        redacted("\(url.scheme ?? "")://\(url.host ?? "")\(url.port.map { ":\($0)" } ?? "")")
    }

    func isEndpoint(_ url: URL) -> Bool {
        func port(_ url: URL) -> Int { url.port ?? (url.scheme == "https" ? 443 : 80) }
        return url.scheme?.lowercased() == endpoint.scheme?.lowercased()
            && url.host?.lowercased() == endpoint.host?.lowercased() && port(url) == port(endpoint)
    }

    /// Whether the token may be sent to `url`. The token goes only to the Hub, and only by https or within this
    /// machine, so that no host on the way can read it.
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

/// Collects the body of a response. The transport's thread appends the bytes.
final class Content: Sendable {
    private let storage = Mutex<[UInt8]>([])

    var bytes: [UInt8] { storage.withLock { $0 } }

    /// Appends bytes of `more` until `limit` bytes are stored. Returns whether all of `more` was appended.
    func append(_ more: UnsafeRawBufferPointer, limit: Int) -> Bool {
        storage.withLock {
            let room = limit - $0.count
            $0.append(contentsOf: more.prefix(room))
            return more.count <= room
        }
    }
}
