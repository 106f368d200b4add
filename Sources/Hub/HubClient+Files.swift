// Files of a repository: whether this user may download one, and its bytes.

import FoundationEssentials
import Synchronization

extension HubClient {
    /// The lowest rate of a file's bytes, in bytes a second, averaged over six times the time in which a server must send
    /// something. No real connection is as slow. Without this limit a server could go on for ever with one byte now and then.
    private static let leastRate = HTTPRequest.Bound.rate(bytes: 1024, times: 6)

    /// Seconds between two checks whether a file is still wanted.
    private static let lookInterval = 1.0

    /// Throws `HubError` unless this user may download the file.
    func checkAccess(
        to file: RepositoryFile, _ reference: RepositoryReference, commit: String
    ) async throws {
        let request = HTTPRequest(
            method: "HEAD", url: resolveURL(file, reference, commit), headers: standardHeaders,
            timeout: settings.metadataTimeout, timeoutName: HubSettings.metadataTimeoutName,
            bound: .time(HubClient.metadataSpan))
        try await repeating(what: "\(reference)/\(file.path)") { _ in
            let (response, route) = try await follow(request, stoppingAtStorage: true) { _, _, _ in
                false
            }
            // If a mirror does not support HEAD, the request for the file itself shows whether it may be downloaded.
            if [405, 501].contains(response.status) { return }
            try check(response, from: route, body: [], reference, file: file.path)
            try check(response, is: file, commit, reference)
        }
    }

    /// Downloads the bytes of `file` from offset `sink.count` on into `sink`, in order, as long as `isWanted` is true. Throws
    /// `HubError` and what the sink throws.
    func download(
        _ file: RepositoryFile, _ reference: RepositoryReference, commit: String,
        into sink: DownloadSink, while isWanted: @escaping @Sendable () -> Bool
    ) async throws {
        guard sink.count < file.size else { return }
        try await repeating(what: "\(reference)/\(file.path)", progress: { sink.count }) { _ in
            try await fetch(file, reference, commit, into: sink, while: isWanted)
        }
    }

    /// Requests the rest of `file` in one exchange. The request goes to the Hub each time: a storage's address is valid only for
    /// a while.
    private func fetch(
        _ file: RepositoryFile, _ reference: RepositoryReference, _ commit: String,
        into sink: DownloadSink, while isWanted: @escaping @Sendable () -> Bool
    ) async throws {
        let exchange = sink.beginExchange()
        let begin = sink.count
        guard begin < file.size, isWanted() else { return }
        var headers = standardHeaders
        if begin > 0 { headers["Range"] = "bytes=\(begin)-\(file.size - 1)" }
        let request = HTTPRequest(
            url: resolveURL(file, reference, commit), headers: headers,
            timeout: settings.bodyTimeout, timeoutName: HubSettings.bodyTimeoutName,
            bound: HubClient.leastRate)
        let content = Content()
        let look = Mutex((last: ContinuousClock.now, isWanted: true))
        let (response, route) = try await follow(request, stoppingAtStorage: false) {
            url, response, bytes in
            guard [200, 206].contains(response.status) else {
                return content.append(bytes, limit: HubClient.longestError)
            }
            // A server may answer a request for a range with the whole file. Any other start that was not asked for is an error.
            try sink.append(bytes, of: exchange, limit: file.size) {
                if response.status == 200 { return 0 }
                let offset = contentStart(response)
                guard offset == begin else {
                    throw HubError.notAHub(
                        endpoint: address(url),
                        reason:
                            "asked for \(file.path) from byte \(begin) on, it sends it from \(offset.map { "\($0)" } ?? "somewhere")"
                    )
                }
                return begin
            }
            return look.withLock {
                let now = ContinuousClock.now
                guard now - $0.last >= .seconds(HubClient.lookInterval) else { return true }
                $0 = (now, isWanted())
                return $0.isWanted
            }
        } redirected: { response in
            try check(response, is: file, commit, reference)
        }
        // Only for a Hub's answer, from any host. A storage's answer says nothing about repositories and tokens.
        if isEndpoint(route.url) || route.isForGood || response["X-Error-Code"] != nil {
            try check(response, from: route, body: content.bytes, reference, file: file.path)
        }
        guard [200, 206].contains(response.status) else {
            // A storage refuses an address that has expired. The next attempt gets a new one from the Hub.
            throw Refusal(
                error: .refused(
                    what: "\(reference)/\(file.path)", host: answerer(route.url),
                    sender: route.sender, status: response.status,
                    message: message(response, content.bytes)),
                pause: pause(response), isTransient: response.status != 401)
        }
        guard sink.count == file.size || !look.withLock(\.isWanted) else {
            throw unreachable(
                route,
                NetworkFailure(
                    reason: "the body ended at byte \(sink.count), expected \(file.size)"))
        }
    }

    /// The first byte in `Content-Range: bytes FIRST-LAST/SIZE`; nil if there is none.
    private func contentStart(_ response: HTTPResponse) -> Int? {
        guard let match = response["Content-Range"]?.wholeMatch(of: /bytes ([0-9]+)-[0-9]+\/.*/)
        else {
            return nil
        }
        return Int(match.1)
    }

    /// Throws `HubError` if what the Hub says about a file in the head differs from its listing.
    private func check(
        _ response: HTTPResponse, is file: RepositoryFile, _ commit: String,
        _ reference: RepositoryReference
    ) throws(HubError) {
        func mismatch(_ what: String, _ expected: String, _ got: String) -> HubError {
            .notAHub(
                endpoint: settings.endpoint,
                reason:
                    "\(reference): \(file.path) has the \(what) \(got), and \(expected) in the list of files"
            )
        }
        if let got = response["X-Repo-Commit"], got != commit {
            throw mismatch("commit", commit, isCommitID(got) ? got : "something else")
        }
        if let got = response["X-Linked-Etag"].map(entityTag),
            isHexadecimal(got, count: file.digest.name.utf8.count), got != file.digest.name
        {
            throw mismatch("id", file.digest.name, got)
        }
        if let got = response["X-Linked-Size"].flatMap({ Int($0) }), got != file.size {
            throw mismatch("size", "\(file.size)", "\(got)")
        }
    }
}
