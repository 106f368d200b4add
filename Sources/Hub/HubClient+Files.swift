// Requests for a file of a repository: a check of access, and the download of its bytes.

import FoundationEssentials
import Synchronization

extension HubClient {
    /// The minimum rate of a download: 1024 bytes per second, averaged over six times HF_HUB_DOWNLOAD_TIMEOUT.
    /// Without it, a server could keep a download alive forever by sending single bytes.
    private static let leastRate = HTTPRequest.Bound.rate(bytes: 1024, times: 6)

    /// The seconds between two calls of `isWanted` during a download.
    private static let lookInterval = 1.0

    /// Throws `HubError` if this user may not download the file. Downloads nothing.
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
            // If a mirror does not support HEAD, the download itself shows whether this user may download the file.
            if [405, 501].contains(response.status) { return }
            try check(response, from: route, body: [], reference, file: file.path)
            try check(response, is: file, commit, reference)
        }
    }

    /// Downloads `file` from byte offset `sink.count` on, and appends the bytes to `sink`. Stops when `isWanted`
    /// returns false. Throws `HubError` and the errors of `sink`.
    func download(
        _ file: RepositoryFile, _ reference: RepositoryReference, commit: String,
        into sink: DownloadSink, while isWanted: @escaping @Sendable () -> Bool
    ) async throws {
        guard sink.count < file.size else { return }
        try await repeating(what: "\(reference)/\(file.path)", progress: { sink.count }) { _ in
            try await fetch(file, reference, commit, into: sink, while: isWanted)
        }
    }

    /// Requests the rest of `file` once. The request goes to the Hub, which redirects to the file's storage. The
    /// storage's URL is not used again, because it expires.
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
            // A server may respond to a range request with the whole file (status 200). With status 206, the body
            // must start at the requested byte.
            try sink.append(bytes, of: exchange, limit: file.size) {
                if response.status == 200 { return 0 }
                let offset = contentStart(response)
                guard offset == begin else {
                    throw HubError.notAHub(
                        endpoint: address(url),
                        reason:
                            "asked for \(file.path) from byte \(begin) on, it sends the file from \(offset.map { "byte \($0)" } ?? "an unknown byte") on"
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
        // A file's storage says nothing about repositories and tokens. So its responses do not go to `check`.
        if isEndpoint(route.url) || route.isForGood || response["X-Error-Code"] != nil {
            try check(response, from: route, body: content.bytes, reference, file: file.path)
        }
        guard [200, 206].contains(response.status) else {
            // If the URL of the file's storage has expired, the next attempt gets a new URL from the Hub.
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
                    reason: "the answer ended after \(sink.count) of \(file.size) bytes"))
        }
    }

    /// Returns FIRST of the header `Content-Range: bytes FIRST-LAST/SIZE`; nil if the response has no such header.
    private func contentStart(_ response: HTTPResponse) -> Int? {
        guard let match = response["Content-Range"]?.wholeMatch(of: /bytes ([0-9]+)-[0-9]+\/.*/)
        else {
            return nil
        }
        return Int(match.1)
    }

    /// Throws `HubError` if the Hub's headers contradict its listing: another commit, digest or size of `file`.
    private func check(
        _ response: HTTPResponse, is file: RepositoryFile, _ commit: String,
        _ reference: RepositoryReference
    ) throws(HubError) {
        func mismatch(_ what: String, _ expected: String, _ got: String) -> HubError {
            .notAHub(
                endpoint: settings.endpoint,
                reason:
                    "\(reference): \(file.path) has the \(what) \(expected) in the list of files, but the \(what) \(got) in the headers of the download"
            )
        }
        if let got = response["X-Repo-Commit"], got != commit {
            throw mismatch("commit", commit, isCommitID(got) ? got : "(invalid)")
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
