// The client of the Hub: requests for the commit of a revision and for its list of files. The headers and error codes
// are those of huggingface_hub (utils/_http.py, file_download.py).

import ByteJSON
import FoundationEssentials
import Glibc
import Logging
import Synchronization

/// The client of the Hub, or of one mirror of the Hub.
struct HubClient: Sendable {
    let settings: HubSettings
    let log: Logger
    let transport: any HTTPTransport
    let endpoint: URL

    /// The maximum size in bytes of a response that is not a file.
    private static let maximumMetadata = 64 << 20
    /// The maximum number of bytes that are read from the body of an error. The body is used only for a message.
    static let longestError = 64 << 10

    /// The maximum number of files and folders in the list of a commit's files.
    private static let longestListing = 2_000_000
    /// The maximum size in bytes of all pages of the list together.
    private static let largestListing = 1 << 30

    /// The limit for the duration of a response that is not a file, as a multiple of HF_HUB_ETAG_TIMEOUT.
    static let metadataSpan = 10

    init(_ settings: HubSettings, transport: any HTTPTransport, log: Logger) {
        (self.settings, self.transport, self.log) = (settings, transport, log)
        endpoint = URL(string: settings.endpoint)!
        if let token = settings.token, !mayIdentify(to: endpoint) {
            log.warning(
                "\(token) is not sent: \(settings.endpoint) is not https, and others in the network could read the token; give an https address in HF_ENDPOINT"
            )
        }
    }

    // MARK: Metadata

    /// Returns the commit of the revision, and the Hub's further information about this commit. Throws `HubError`.
    func information(
        _ reference: RepositoryReference, patience: Patience
    ) async throws -> RepositoryInformation {
        let path = "\(reference.apiPath)/revision/\(percentEncoded(reference.revision))"
        let answer = try await json(
            url(path), reference, isByCommit: false, patience: patience)
        guard let information = RepositoryInformation(answer.value) else {
            throw HubError.notAHub(
                endpoint: settings.endpoint, reason: "the answer of \(path) names no commit (sha)")
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

    /// Returns the list of all files of `commit`. Throws `HubError`.
    func listing(
        _ reference: RepositoryReference, commit: String
    ) async throws -> RepositoryListing {
        var listing = RepositoryListing()
        var next: URL? = url("\(reference.apiPath)/tree/\(commit)?recursive=true")
        var seen: Set<URL> = []
        var (entries, bytes) = (0, 0)
        while let page = next {
            let answer: Answer
            do {
                answer = try await json(page, reference, isByCommit: true, isList: true)
            } catch let error as HubError {
                guard case .noListing = error, let siblings = try await siblings(reference, commit)
                else { throw error }
                return siblings
            }
            entries += answer.value.array?.count ?? 0
            bytes += answer.count
            try checkLength(entries: entries, bytes: bytes, of: reference)
            guard listing.add(page: answer.value) else {
                throw HubError.notAHub(
                    endpoint: settings.endpoint,
                    reason:
                        "the list of \(reference)'s files does not have the expected form (path, size and id of each file)"
                )
            }
            guard seen.insert(page).inserted, seen.count < 10_000 else {
                throw HubError.notAHub(
                    endpoint: settings.endpoint,
                    reason:
                        "the list of \(reference)'s files does not end (a page comes twice, or it has 10000 pages)"
                )
            }
            next = try nextPage(answer.response, after: page)
        }
        return listing
    }

    /// Returns the list of files in the Hub's response about `commit` (`siblings`). Some mirrors have no other list.
    /// Nil if the request fails or the list lacks digests. Throws `HubError` if the list is too long.
    func siblings(
        _ reference: RepositoryReference, _ commit: String
    ) async throws -> RepositoryListing? {
        let address = url("\(reference.apiPath)/revision/\(commit)?blobs=true")
        guard
            let answer = try? await json(address, reference, isByCommit: true, patience: .little),
            let files = answer.value.object?["siblings"]
        else { return nil }
        try checkLength(entries: files.array?.count ?? 0, bytes: answer.count, of: reference)
        var listing = RepositoryListing()
        return listing.add(siblings: files) ? listing : nil
    }

    /// Throws `HubError` if the list of files exceeds the limits. No repository has so many files.
    private func checkLength(
        entries: Int, bytes: Int, of reference: RepositoryReference
    ) throws(HubError) {
        guard entries > HubClient.longestListing || bytes > HubClient.largestListing else { return }
        throw .notAHub(
            endpoint: settings.endpoint,
            reason:
                "the list of \(reference)'s files is longer than the limit of \(HubClient.longestListing) entries or \(HubClient.largestListing >> 20) MiB"
        )
    }

    /// Returns the URL of the next page of a list, from the header `Link`; nil if no next page exists. Throws
    /// `HubError` if the URL is invalid.
    private func nextPage(_ response: HTTPResponse, after page: URL) throws -> URL? {
        guard let target = response["Link"].flatMap(nextLink) else { return nil }
        guard target.utf8.count <= HubClient.longestAddress,
            let next = URL(string: addressText(target), relativeTo: page)?.absoluteURL
        else {
            throw HubError.notAHub(
                endpoint: settings.endpoint,
                reason: "the list of files has a next page with an invalid address (header Link)")
        }
        if isEndpoint(next) { return next }
        // A mirror may pass on URLs of the Hub. The next page must come from the mirror, so the mirror's host
        // replaces the Hub's host in the URL.
        guard var parts = URLComponents(url: next, resolvingAgainstBaseURL: true) else {
            return nil
        }
        (parts.scheme, parts.host) = (endpoint.scheme, endpoint.host)
        (parts.port, parts.user, parts.password) = (endpoint.port, nil, nil)
        return parts.url
    }

    /// A response whose body is JSON.
    private struct Answer {
        let value: JSONValue
        /// The size of the body in bytes.
        let count: Int
        let response: HTTPResponse
    }

    private func json(
        _ url: URL, _ reference: RepositoryReference, isByCommit: Bool, isList: Bool = false,
        patience: Patience = .full
    ) async throws -> Answer {
        let request = HTTPRequest(
            url: url, headers: standardHeaders, timeout: settings.metadataTimeout,
            timeoutName: HubSettings.metadataTimeoutName, bound: .time(HubClient.metadataSpan))
        return try await repeating(patience: patience, what: place(url)) { _ in
            let content = Content()
            let (response, route) = try await follow(request, stoppingAtStorage: false) {
                _, response, bytes in
                if response.status >= 400 {
                    return content.append(bytes, limit: HubClient.longestError)
                }
                guard content.append(bytes, limit: HubClient.maximumMetadata) else {
                    throw HubError.notAHub(
                        endpoint: settings.endpoint,
                        reason:
                            "the answer of \(place(url)) is longer than the limit of \(HubClient.maximumMetadata >> 20) MiB"
                    )
                }
                return true
            }
            if isList, response.status == 404, response["X-Error-Code"] == nil {
                throw HubError.noListing(
                    reference, address: origin(url) + url.path, endpoint: settings.namedEndpoint)
            }
            let bytes = content.bytes
            try check(
                response, from: route, body: bytes, reference, file: nil, isByCommit: isByCommit)
            do {
                let value = try bytes.withUnsafeBufferPointer { try JSONValue(parsing: $0) }
                return Answer(value: value, count: bytes.count, response: response)
            } catch {
                throw HubError.notAHub(
                    endpoint: settings.endpoint,
                    reason: "the answer of \(place(url)) is not JSON: \(error)")
            }
        }
    }
}
