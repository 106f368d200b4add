// Talking to the Hub: who one is, redirects, repetitions, and what its refusals mean.
// The headers and error codes are those that huggingface_hub goes by (utils/_http.py, file_download.py).

import ArrayFiles
import ByteJSON
import FoundationEssentials
import Glibc
import Logging
import Synchronization

/// Requests to one Hub.
struct HubClient: Sendable {
    let settings: HubSettings
    let log: Logger
    let transport: any HTTPTransport
    let endpoint: URL

    /// Longest answer that is not a file.
    private static let maximumMetadata = 256 << 20

    init(_ settings: HubSettings, transport: any HTTPTransport, log: Logger) {
        (self.settings, self.transport, self.log) = (settings, transport, log)
        endpoint = URL(string: settings.endpoint)!
        if let token = settings.token, !mayIdentify(to: endpoint) {
            log.warning(
                "\(token) is not sent: \(settings.endpoint) is not https, and others could read it")
        }
    }

    // MARK: Metadata

    /// The commit that a repository's revision is, and what is said with it. Throws `HubError`.
    func information(
        _ reference: RepositoryReference, patience: Patience
    ) async throws -> RepositoryInformation {
        let path = "\(reference.apiPath)/revision/\(escaped(reference.revision))"
        let (value, _) = try await json(
            url(path), reference, isByCommit: false, patience: patience)
        guard let information = RepositoryInformation(value) else {
            throw HubError.notAHub(
                endpoint: settings.endpoint, reason: "\(path) names no commit (sha)")
        }
        guard !reference.isCommit || information.commit == reference.revision else {
            throw HubError.notAHub(
                endpoint: settings.namedEndpoint,
                reason:
                    "asked for the commit \(reference.revision) of \(reference.id), it answers with the commit \(information.commit)"
            )
        }
        return information
    }

    /// All files of `commit`. Throws `HubError`.
    func listing(
        _ reference: RepositoryReference, commit: String
    ) async throws -> RepositoryListing {
        var listing = RepositoryListing()
        var next: URL? = url("\(reference.apiPath)/tree/\(commit)?recursive=true")
        var seen: Set<URL> = []
        while let page = next {
            let value: JSONValue
            let response: HTTPResponse
            do {
                (value, response) = try await json(page, reference, isByCommit: true, isList: true)
            } catch let error as HubError {
                guard case .noListing = error, let siblings = try? await siblings(reference, commit)
                else { throw error }
                return siblings
            }
            guard listing.add(page: value) else {
                throw HubError.notAHub(
                    endpoint: settings.endpoint,
                    reason:
                        "the list of \(reference)'s files is not of the form expected (of each file path, size and id)"
                )
            }
            guard seen.insert(page).inserted, seen.count < 10_000 else {
                throw HubError.notAHub(
                    endpoint: settings.endpoint,
                    reason: "the list of \(reference)'s files does not end")
            }
            next = try nextPage(response, after: page)
        }
        return listing
    }

    /// The files of `commit` as the answer that names it has them (`siblings`), for mirrors that have no other list. Nil where it
    /// lacks their digests. Throws `HubError`.
    func siblings(
        _ reference: RepositoryReference, _ commit: String
    ) async throws -> RepositoryListing? {
        let address = url("\(reference.apiPath)/revision/\(commit)?blobs=true")
        let (value, _) = try await json(address, reference, isByCommit: true, patience: .little)
        var listing = RepositoryListing()
        guard let files = value.object?["siblings"], listing.add(siblings: files) else {
            return nil
        }
        return listing
    }

    /// The address in `Link: <…>; rel="next"` (RFC 8288).
    private func nextPage(_ response: HTTPResponse, after page: URL) throws -> URL? {
        for link in (response["Link"] ?? "").matches(of: /<([^>]*)>([^<]*)/) {
            let parameters = link.2.split { ";, ".contains($0) }
            guard parameters.contains("rel=\"next\"") || parameters.contains("rel=next") else {
                continue
            }
            guard let next = URL(string: String(link.1), relativeTo: page)?.absoluteURL else {
                throw HubError.notAHub(
                    endpoint: settings.endpoint, reason: "its next page has no address")
            }
            if isEndpoint(next) { return next }
            // A mirror passes on the Hub's own addresses. The one that was asked is asked on.
            guard var parts = URLComponents(url: next, resolvingAgainstBaseURL: true) else {
                return nil
            }
            (parts.scheme, parts.host) = (endpoint.scheme, endpoint.host)
            (parts.port, parts.user, parts.password) = (endpoint.port, nil, nil)
            return parts.url
        }
        return nil
    }

    /// Fails unless the file may be had. Throws `HubError`.
    func checkAccess(
        to file: RepositoryFile, _ reference: RepositoryReference, commit: String
    ) async throws {
        let request = HTTPRequest(
            method: "HEAD", url: resolveURL(file, reference, commit), headers: standardHeaders,
            timeout: settings.metadataTimeout, timeoutName: HubSettings.metadataTimeoutName,
            limit: 10 * settings.metadataTimeout)
        try await repeating(what: "\(reference)/\(file.path)") { _ in
            let (response, route) = try await follow(request, stoppingAtStorage: true) { _, _, _ in
            }
            // A mirror that does not know HEAD will say at the file itself what there is to say.
            if [405, 501].contains(response.status) { return }
            try check(response, from: route, body: [], reference, file: file.path)
            try check(response, is: file, commit, reference)
        }
    }

    private func json(
        _ url: URL, _ reference: RepositoryReference, isByCommit: Bool, isList: Bool = false,
        patience: Patience = .full
    ) async throws -> (JSONValue, HTTPResponse) {
        let request = HTTPRequest(
            url: url, headers: standardHeaders, timeout: settings.metadataTimeout,
            timeoutName: HubSettings.metadataTimeoutName, limit: 10 * settings.metadataTimeout)
        return try await repeating(patience: patience, what: place(url)) { _ in
            let content = Content()
            let (response, route) = try await follow(request, stoppingAtStorage: false) {
                _, _, bytes in
                guard content.append(bytes, limit: HubClient.maximumMetadata) else {
                    throw HubError.notAHub(
                        endpoint: settings.endpoint, reason: "\(place(url)) does not end")
                }
            }
            if isList, response.status == 404, response["X-Error-Code"] == nil {
                throw HubError.noListing(
                    reference, address: origin(url) + url.path, endpoint: settings.namedEndpoint)
            }
            try check(
                response, from: route, body: content.bytes, reference, file: nil,
                isByCommit: isByCommit)
            do {
                let value = try content.bytes.withUnsafeBufferPointer {
                    try JSONValue(parsing: $0)
                }
                return (value, response)
            } catch {
                throw HubError.notAHub(
                    endpoint: settings.endpoint, reason: "\(place(url)) is not JSON: \(error)")
            }
        }
    }

    // MARK: Files

    /// Bytes asked for at a time. What has come and is not written yet is in memory, and URLSession on Linux cannot be
    /// made to wait for a slow disk.
    private static let window = 32 << 20
    /// The first of them, and the first after a failure: while a connection is made for an exchange, URLSession on Linux
    /// keeps a core busy until that ends. The next exchange finds it made.
    private static let firstWindow = 128 << 10

    /// Fetches the bytes of `file` from `sink.count` on, in order, into `sink`, for as long as `isWanted`. Throws `HubError`
    /// and what the sink throws.
    func download(
        _ file: RepositoryFile, _ reference: RepositoryReference, commit: String,
        into sink: DownloadSink, while isWanted: () -> Bool
    ) async throws {
        let start = resolveURL(file, reference, commit)
        var source = start
        var isFirst = true
        while sink.count < file.size, isWanted() {
            try Task.checkCancellation()
            source = try await repeating(
                what: "\(reference)/\(file.path)", progress: { sink.count }
            ) { attempt in
                // A storage's address is good for a while only: after a failure the Hub is asked for a new one.
                try await fetch(
                    file, reference, commit, from: attempt == 0 ? source : start,
                    window: isFirst || attempt > 0 ? HubClient.firstWindow : HubClient.window,
                    into: sink)
            }
            isFirst = false
        }
    }

    /// One window of `file`; where it was had from.
    private func fetch(
        _ file: RepositoryFile, _ reference: RepositoryReference, _ commit: String,
        from source: URL, window: Int, into sink: DownloadSink
    ) async throws -> URL {
        let exchange = sink.beginExchange()
        let begin = sink.count
        let end = min(file.size, begin + window)
        var headers = standardHeaders
        if begin > 0 || end < file.size { headers["Range"] = "bytes=\(begin)-\(end - 1)" }
        let request = HTTPRequest(
            url: source, headers: headers, timeout: settings.bodyTimeout,
            timeoutName: HubSettings.bodyTimeoutName)
        let content = Content()
        let (response, route) = try await follow(request, stoppingAtStorage: false) {
            url, response, bytes in
            switch response.status {
            case 200, 206:
                // A server may answer a range with the whole; no other beginning is one that was asked for.
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
            default: _ = content.append(bytes, limit: 1 << 16)
            }
        } redirected: { response in
            try check(response, is: file, commit, reference)
        }
        // A Hub's answer, of whichever host; a storage's says nothing of repositories and tokens.
        if isEndpoint(route.url) || route.isForGood || response["X-Error-Code"] != nil {
            try check(response, from: route, body: content.bytes, reference, file: file.path)
        }
        guard [200, 206].contains(response.status) else {
            // A storage's address is refused when its time is over, and the Hub gives another.
            throw Refusal(
                error: .refused(
                    what: "\(reference)/\(file.path)", host: answerer(route.url),
                    sender: route.sender, status: response.status,
                    message: message(response, content.bytes)),
                pause: pause(response), isTransient: response.status != 401)
        }
        guard sink.count >= end || sink.count == file.size else {
            throw unreachable(
                route,
                NetworkFailure(reason: "the body ended at byte \(sink.count), expected \(end)"))
        }
        return route.url
    }

    /// The first byte of `Content-Range: bytes FIRST-LAST/SIZE`.
    private func contentStart(_ response: HTTPResponse) -> Int? {
        guard let match = response["Content-Range"]?.wholeMatch(of: /bytes (\d+)-\d+\/.*/) else {
            return nil
        }
        return Int(match.1)
    }

    /// What the Hub says of a file on the way to it must be what its listing says.
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

/// Bytes that come in on the transport's thread.
private final class Content: Sendable {
    private let storage = Mutex<[UInt8]>([])

    var bytes: [UInt8] { storage.withLock { $0 } }

    /// False where it would be longer than `limit`.
    func append(_ more: UnsafeRawBufferPointer, limit: Int) -> Bool {
        storage.withLock {
            guard $0.count + more.count <= limit else { return false }
            $0.append(contentsOf: more)
            return true
        }
    }
}
