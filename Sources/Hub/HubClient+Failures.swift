// Interprets responses with a status of 400 or more, and retries failed requests.

import ByteJSON
import Files
import FoundationEssentials
import Glibc
import Logging

extension HubClient {
    /// How often a request is retried during an outage.
    enum Patience {
        case full
        /// Few and short retries, because the program can continue without the response.
        case little
    }

    /// The maximum number of attempts in which a request makes no progress (see `leastHeadway`).
    private static let attempts = 6

    /// The number of new bytes after which the count of attempts starts again. With a smaller number, a server could
    /// keep the client busy forever by sending a few bytes in each attempt.
    private static let leastHeadway = 64 << 10

    /// The longest wait in seconds that is accepted from a server. For a longer wait, the request is not retried.
    private static let maximumPause = 600.0

    // MARK: Refusals

    /// Throws the error for a response with a status of 400 or more. Does nothing for a lower status.
    func check(
        _ response: HTTPResponse, from route: Route, body: [UInt8],
        _ reference: RepositoryReference, file: String?, isByCommit: Bool = true
    ) throws {
        guard response.status >= 400 else { return }
        let page = settings.endpoint + reference.page
        let source = settings.token?.source
        let code = response["X-Error-Code"]
        switch (response.status, code) {
        case (_, "GatedRepo") where !isEndpoint(route.url),
            (401, _) where !isEndpoint(route.url):
            throw HubError.tokenNotSent(
                reference, host: address(route.url), sender: route.sender ?? settings.endpoint,
                status: response.status, hasToken: source != nil)
        case (_, "GatedRepo"):
            throw source.map { .gatedForToken(reference, page: page, tokenSource: $0) }
                ?? HubError.gatedWithoutToken(
                    reference, page: page, unreadable: settings.unreadableToken)
        case (_, "RevisionNotFound"):
            // Only the first request names the revision; later requests name its commit. If the Hub does not know the
            // commit, the repository has changed since the first request.
            throw isByCommit && !reference.isCommit
                ? HubError.changed(reference) : HubError.noRevision(reference, page: page)
        case (_, "EntryNotFound"):
            throw HubError.noFile(reference, file: file ?? "", page: page)
        case (401, _) where message(response, body).contains("Invalid credentials"):
            throw HubError.invalidToken(source: source ?? "the environment")
        case (_, "RepoNotFound"), (401, _),
            (404, _) where file == nil:
            throw HubError.noRepository(
                reference, page: page, tokenSource: source, unreadable: settings.unreadableToken,
                isHubs: response.status != 404 || code != nil)
        case (404, _): throw HubError.noFile(reference, file: file ?? "", page: page)
        case (429, _):
            throw HubError.rateLimited(
                endpoint: address(route.url),
                seconds: pause(response).map { Int($0.rounded(.up)) }.flatMap { $0 > 0 ? $0 : nil },
                hasToken: source != nil)
        default:
            throw Refusal(
                error: .refused(
                    what: "\(reference)\(file.map { "/\($0)" } ?? "")",
                    host: answerer(route.url), sender: route.sender, status: response.status,
                    message: message(response, body)),
                pause: pause(response))
        }
    }

    /// Returns the server's error text: one line of at most 200 characters, without the token and proxy passwords.
    func message(_ response: HTTPResponse, _ body: [UInt8]) -> String {
        let parsed = body.withUnsafeBufferPointer { try? JSONValue(parsing: $0) }
        var text =
            response["X-Error-Message"] ?? parsed?.object?["error"]?.string
            ?? HubClient.reason(in: String(decoding: body.prefix(1 << 16), as: UTF8.self))
        text = String(text.map { $0.isNewline ? " " : $0 })
        text = String(text.unicodeScalars.filter { $0.properties.generalCategory != .control })
        return String(redacted(settings.proxies.redacted(text)).prefix(200))
    }

    /// Returns the useful part of an error body: code and message of a file's storage (XML), the title of a page
    /// (HTML), or the first line of plain text.
    private static func reason(in body: String) -> String {
        func element(_ name: String) -> String? {
            guard let start = body.firstRange(of: "<\(name)>"),
                let end = body[start.upperBound...].firstRange(of: "</\(name)>")
            else { return nil }
            let text = trimmed(body[start.upperBound..<end.lowerBound])
            return text.isEmpty || text.contains("<") ? nil : text
        }
        let parts = [element("Code"), element("Message")].compactMap { $0 }
        if !parts.isEmpty { return parts.joined(separator: ": ") }
        if let title = element("title") ?? element("TITLE") ?? element("h1") { return title }
        let text = trimmed(body)
        guard !text.hasPrefix("<"), !text.hasPrefix("{"), !text.hasPrefix("[") else { return "" }
        return String(text.prefix { !$0.isNewline })
    }

    func redacted(_ text: String) -> String {
        guard let token = settings.token else { return text }
        // A server may repeat the token in a host name, which is in lower case.
        return text.replacing(token.secret, with: "…")
            .replacing(token.secret.lowercased(), with: "…")
    }

    /// Returns the wait in seconds that the server asks for; nil if it asks for none. Reads the header `RateLimit`
    /// (draft-ietf-httpapi-ratelimit-headers) if it says that no requests remain, otherwise `Retry-After` (RFC 9110).
    func pause(_ response: HTTPResponse) -> Double? {
        if let match = response["RateLimit"]?.firstMatch(of: /;\s*r\s*=\s*0\s*;\s*t\s*=\s*([0-9]+)/)
        {
            return seconds(match.1)
        }
        guard let text = response["Retry-After"].map({ trimmed($0) }) else { return nil }
        if !text.isEmpty, text.utf8.allSatisfy({ (0x30...0x39).contains($0) }) {
            return seconds(text[...])
        }
        return date(text).map { min(max(0, Double($0 - time(nil))), 1e9) }
    }

    /// Returns the seconds from 1970 to an HTTP date such as `Sun, 06 Nov 1994 08:49:37 GMT`; nil for other forms.
    private func date(_ text: String) -> Int? {
        let months = "JanFebMarAprMayJunJulAugSepOctNovDec"
        // Not `\d`, because `\d` also matches the digits of other scripts.
        let form =
            /[A-Z][a-z]{2}, ([0-9]{2}) ([A-Z][a-z]{2}) ([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) GMT/
        guard let match = text.wholeMatch(of: form), let place = months.ranges(of: match.2).first
        else {
            return nil
        }
        let month = months.distance(from: months.startIndex, to: place.lowerBound) / 3
        let numbers = [match.1, match.3, match.4, match.5, match.6].map { Int32($0)! }
        var date = tm()
        (date.tm_mday, date.tm_mon, date.tm_year) = (numbers[0], Int32(month), numbers[1] - 1900)
        (date.tm_hour, date.tm_min, date.tm_sec) = (numbers[2], numbers[3], numbers[4])
        return timegm(&date)
    }

    /// Parses a number of seconds with any number of digits. Returns at most 1e9.
    private func seconds(_ digits: Substring) -> Double { min(Double(digits) ?? 1e9, 1e9) }

    /// The error of a failed request, and the wait in seconds that the server asks for (nil if it asks for none).
    struct Refusal: Error {
        let error: HubError
        let pause: Double?
        /// Whether a retry may succeed. If nil, `error.isOutage` decides.
        var isTransient: Bool?
    }

    // MARK: Repetition

    /// Calls `body` until it succeeds, its error is permanent, or all attempts are used. Whenever `progress` has
    /// grown by `leastHeadway` bytes, the count of attempts starts again.
    func repeating<R>(
        patience: Patience = .full, what: String, progress: () -> Int = { 0 },
        _ body: (_ attempt: Int) async throws -> R
    ) async throws -> R {
        var attempt = 0
        var last = progress()
        while true {
            let problem: HubError
            var asked: Double?
            var isTransient: Bool?
            do {
                return try await body(attempt)
            } catch let refusal as Refusal {
                (problem, asked, isTransient) = (refusal.error, refusal.pause, refusal.isTransient)
            } catch let error as HubError {
                problem = error
                if case .rateLimited(_, let seconds, _) = error { asked = seconds.map(Double.init) }
            }
            let now = progress()
            if now - last >= HubClient.leastHeadway {
                (attempt, last) = (1, now)
            } else {
                attempt += 1
            }
            let limit = patience == .full ? (HubClient.attempts, HubClient.maximumPause) : (3, 5)
            guard isTransient ?? problem.isOutage, attempt < limit.0, asked ?? 0 <= limit.1 else {
                throw problem
            }
            let own = settings.firstPause * Double(1 << (attempt - 1)) * .random(in: 0.75...1.25)
            let seconds = max(asked ?? 0, min(own, 60 * settings.firstPause))
            log.warning(
                "\(what): \(reason(problem)); trying again in \(decimals(seconds, 1)) s")
            try await Task.sleep(for: .seconds(seconds))
        }
    }

    private func reason(_ problem: HubError) -> String {
        switch problem {
        case .unreachable(let host, let sender, let reason):
            sender == nil ? reason : "\(host): \(reason)"
        case .rateLimited: "too many requests (429)"
        case .refused(_, let host, _, let status, let message):
            "\(host) answers \(status)\(message.isEmpty ? "" : " (\(message))")"
        default: "\(problem)"
        }
    }
}
