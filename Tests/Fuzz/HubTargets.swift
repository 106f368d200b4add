// Fuzz targets for the Hub client: responses of the Hub, and stored lists of files.

import ByteJSON
import Dispatch
import Files
import Foundation
import Logging
import Synchronization
import TestSupport

@testable import Hub

private let commit = String(repeating: "0a", count: 20)
private let digest = String(repeating: "0b", count: 32)
private let hubWords = [
    commit, digest, "\"type\":\"file\"", "\"path\":\"", "\"oid\":\"", "\"size\":", "\"lfs\":{",
    "cardData",
    "configs", "data_files", "config_name", "default", "split", "train", "data_dir",
    "train-00000-of-00002.jsonl",
    ".json.gz", "**/", "[!a]*",
]

extension FuzzTarget {
    static let hubs = [hubListing, hubAnswers, hubHeads]

    // MARK: Listings

    private static let hubListing = FuzzTarget("hub-listing", dictionary: jsonWords + hubWords) {
        let tree = """
            [{"type": "directory", "path": "data"},
            {"type": "file", "path": "data/train-00000-of-00002.jsonl", "size": 5, "oid": "\(commit)"},
            {"type": "file", "path": "model.safetensors", "size": 9, "oid": "\(commit)",
            "lfs": {"oid": "\(digest)", "size": 1000, "pointerSize": 9}}]
            """
        let card = """
            {"configs": [{"config_name": "default", "data_dir": "data",
            "data_files": [{"split": "train", "path": "data/train-*.jsonl"}, {"split": "test", "path": ["x"]}]}]}
            """
        let kept = """
            {"format_version": 1, "files": {"a.json": {"size": 3, "blob_id": "\(commit)"},
            "b": {"size": 1, "lfs_sha256": "\(digest)", "lfs_size": 7}},
            "is_checked": true, "configs": [{"config_name": "x", "data_files": "*.json", "data_dir": "d"}]}
            """
        return [tree, "{\"tree\": \(tree), \"cardData\": \(card)}", card, kept].map {
            Array($0.utf8)
        }
    } body: { input in
        let path = Workspace.file(input)
        if let kept = RepositoryListing(path: path) { checkListing(kept) }
        let value = try JSONValue(parsing: input)
        var listing = RepositoryListing()
        _ = listing.add(page: value.object?["tree"] ?? value)
        listing.card = DatasetCard(value.object?["cardData"] ?? value)
        checkListing(listing)
    }

    /// Checks that a listing stays the same when it is stored and read, and that no path leads out of the
    /// repository's folder.
    private static func checkListing(_ listing: RepositoryListing) {
        let paths = listing.paths
        for path in paths {
            check(
                !path.hasPrefix("/") && !pathSteps(path).contains(".."),
                "a path that leads out of the folder: \(path)")
        }
        var text: [UInt8] = []
        JSONText.append(listing.json, to: &text)
        let again = RepositoryListing(path: Workspace.file(text, "listing"))
        // A stored listing without files is invalid, so reading it returns nil.
        check(
            again == (listing.files.isEmpty ? nil : listing),
            "storing and reading changes the listing")
        if let card = listing.card, let chosen = try? TrainSplit.choose(paths, card) {
            check(
                !chosen.files.isEmpty && Set(chosen.files).isSubset(of: paths),
                "chosen files that are not listed")
            _ = missingShards(chosen.files)
        }
    }

    // MARK: Answers

    /// Fuzz target for responses. The first byte of an input selects the operation of the client. The responses
    /// follow, separated by the byte 30. A response is a line with the status, header lines, an empty line, and the
    /// body.
    private static let hubAnswers = FuzzTarget(
        "hub-answers",
        dictionary: hubWords + [
            "\n\n", "\u{1E}", "200\n", "206\n", "302\n", "404\n", "429\n", "503\n", "Link: <",
            ">; rel=\"next\"",
            "Location: https://", "Content-Range: bytes 0-2/3", "Retry-After: ",
            "RateLimit: \"api\";r=0;t=5",
            "X-Error-Code: GatedRepo", "X-Error-Message: ", "X-Repo-Commit: ", "X-Linked-Etag: \"",
            "W/\"",
            "X-Linked-Size: ", "Wed, 21 Oct 2015 07:28:00 GMT", "{\"error\":\"",
            "Invalid credentials",
            "http://hub.test", "https://hub.test/", "\u{0663}",
        ],
        // Switches off the search for leaks. It is slow, and libFuzzer would search after every input, because other
        // threads allocate memory.
        arguments: ["-detect_leaks=0"]
    ) {
        let page = "[{\"type\":\"file\",\"path\":\"a\",\"size\":3,\"oid\":\"\(commit)\"}]"
        return [
            "i200\nContent-Type: application/json\n\n{\"sha\":\"\(commit)\",\"cardData\":{\"configs\":[]}}",
            "l200\nLink: <https://hub.test/api/next?cursor=x>; rel=\"next\"\n\n\(page)\u{1E}200\n\n\(page)",
            "l302\nLocation: /api/elsewhere\n\n\u{1E}200\n\n\(page)",
            "a302\nX-Repo-Commit: \(commit)\nX-Linked-Etag: \"\(digest)\"\nX-Linked-Size: 3\nLocation: https://storage.test/x?signature=y\n\n",
            "d302\nX-Linked-Size: 3\nLocation: https://storage.test/x\n\n\u{1E}200\n\nabc",
            "d206\nContent-Range: bytes 0-2/3\n\nabc",
            "i429\nRetry-After: Wed, 21 Oct 2015 07:28:00 GMT\n\n",
            "i503\nRetry-After: 7\n\n{\"error\":\"busy\"}",
            "i429\nRateLimit: \"api\";r=0;t=55\n\n", "l404\nX-Error-Code: RevisionNotFound\n\n",
            "i401\nX-Error-Message: Invalid credentials\n\n",
        ].map { Array($0.utf8) }
    } body: { input in
        guard let operation = input.first else { return }
        let transport = ScriptedTransport(
            input.dropFirst().split(separator: 0x1E, omittingEmptySubsequences: false)
                .map { Array($0) })
        let client = HubClient(settings, transport: transport, log: log)
        let outcome = Mutex<Result<Void, any Error>>(.success(()))
        let isDone = DispatchSemaphore(value: 0)
        Task {
            do {
                try await ask(client, operation)
            } catch {
                outcome.withLock { $0 = .failure(error) }
            }
            isDone.signal()
        }
        isDone.wait()
        try outcome.withLock { try $0.get() }
    }

    // MARK: Heads

    /// Fuzz target for the parser of response heads, which gets the input line by line.
    private static let hubHeads = FuzzTarget(
        "hub-heads",
        dictionary: [
            "HTTP/1.1 200 OK\r\n", "HTTP/1.0 100\r\n\r\n", "Link: <", ">; rel=\"next\"", "rel=next",
            "Content-Length: ", "Location: /", ": ", "\r\n\r\n", "\\\"",
        ]
    ) {
        [
            "HTTP/1.1 103 Early\r\nLink: <x>\r\n\r\nHTTP/1.1 200 OK\r\nA: b\r\na: c\r\n\r\nT: x\r\n",
            "HTTP/1.1 200 OK\r\nLink: <a?b=1,2;c>; title=\"<\\\">\", <d>; rel=\"last next\"\r\n\r\n",
            "HTTP/1.1 302 Found\r\nLocation: /a\r\nLocation: /b\r\n\r\n",
        ].map { Array($0.utf8) }
    } body: { input in
        var head = ResponseHead()
        var rest = UnsafeRawBufferPointer(input)[...]
        while !rest.isEmpty {
            let end = rest.firstIndex(of: 0x0A).map { $0 + 1 } ?? rest.endIndex
            try head.add(UnsafeRawBufferPointer(rebasing: rest[..<end]))
            rest = rest[end...]
        }
        guard let response = head.response else { return }
        check((100...999).contains(response.status), "the status \(response.status)")
        if let target = response["Link"].flatMap(nextLink) {
            check(
                Array(response["Link"]!.utf8).contains(Array("<\(target)>".utf8)),
                "a target that the header lacks")
        }
    }

    private static let log = Logger(label: "fuzz") { _ in SwiftLogNoOpLogHandler() }
    private static let settings = try! HubSettings(environment: [
        "HOME": Workspace.folder, "HF_ENDPOINT": "https://hub.test",
        "HF_TOKEN": ScriptedTransport.token,
        "SAE_EXTRACT_RETRY_SECONDS": "0.000001",
    ])

    private static func ask(_ client: HubClient, _ operation: UInt8) async throws {
        let reference = RepositoryReference(.dataset, "a/b", revision: "main")!
        let file = RepositoryFile(path: "d/ä b", size: 3, digest: .sha256(digest))
        switch operation {
        case UInt8(ascii: "l"):
            checkListing(try await client.listing(reference, commit: commit))
        case UInt8(ascii: "a"):
            try await client.checkAccess(to: file, reference, commit: commit)
        case UInt8(ascii: "d"):
            let sink = try DownloadSink(for: file, in: Folder(Workspace.folder)) { _, _ in }
            defer { sink.remove() }
            try await client.download(file, reference, commit: commit, into: sink) { true }
            check(sink.count == file.size, "a download of \(sink.count) bytes")
        default:
            let found = try await client.information(reference, patience: .little)
            check(isCommitID(found.commit), "an invalid commit ID")
            if let card = found.card {
                _ = try? TrainSplit.choose(["train.json", "data/test.jsonl.gz"], card)
            }
        }
    }
}

/// A transport that returns the responses of an input one after the other. Checks that every request uses https, and
/// that only requests to the Hub have the token.
private final class ScriptedTransport: HTTPTransport {
    static let token = "hf_secret"
    private let answers: Mutex<[[UInt8]]>

    init(_ answers: [[UInt8]]) {
        self.answers = Mutex(answers.reversed())
    }

    func send(
        _ request: HTTPRequest, body: @escaping BodyReceiver
    ) async throws -> HTTPResponse {
        if request.headers["Authorization"] != nil {
            check(
                request.url.scheme?.lowercased() == "https"
                    && request.url.host?.lowercased() == "hub.test",
                "the token is sent to \(request.url)")
        }
        check(
            request.url.scheme?.lowercased() == "https",
            "an https request continues at \(request.url)")
        guard let answer = answers.withLock({ $0.popLast() }) else {
            throw NetworkFailure(reason: "no more answers", isTransient: false)
        }
        let lines = answer.split(separator: 0x0A, omittingEmptySubsequences: false)
        let head = lines.prefix { !$0.isEmpty }
        var headers: [String: String] = [:]
        for line in head.dropFirst() {
            let parts = line.split(separator: UInt8(ascii: ":"), maxSplits: 1)
            guard parts.count == 2 else { continue }
            headers[String(decoding: parts[0], as: UTF8.self).lowercased()] =
                trimmed(String(decoding: parts[1], as: UTF8.self))
        }
        let status = head.first.flatMap { Int(String(decoding: $0, as: UTF8.self)) } ?? 200
        // After any other status, the client may wait as long as the response asks. So the task is cancelled.
        let isFinal = ![200, 206, 301, 302, 303, 307, 308].contains(status)
        if isFinal { withUnsafeCurrentTask { $0?.cancel() } }
        let response = HTTPResponse(status: status, headers: headers)
        guard try body(response, UnsafeRawBufferPointer(start: nil, count: 0)) else {
            return response
        }
        let content = Array(lines.dropFirst(head.count + 1).joined(separator: [0x0A]))
        _ = try content.withUnsafeBytes { try body(response, $0) }
        return response
    }
}
