// Runs scripts/fakes/hub-server for a test, usually with the fixture as its repositories.

import ByteJSON
import Foundation

/// A running `scripts/fakes/hub-server`: a test server on loopback that answers as the Hub does.
public final class TestHub {
    /// A request that the server has received.
    public struct Request {
        /// The server's port that received the request: `hub`, or `storage`, to which the Hub redirects requests for LFS files.
        public let port: String
        /// The HTTP method, such as `GET`.
        public let method: String
        /// The path with the query string.
        public let path: String
        /// The header values by lower-case name.
        public let headers: [String: String]
        /// The HTTP status of the response; nil if the server sent no response.
        public let status: Int?
        /// The number of bytes of the response's body that were sent.
        public let sent: Int

        /// Whether the request asks for the content of a file.
        public var isForBody: Bool {
            method == "GET" && (port == "storage" || path.contains("/resolve"))
        }
    }

    /// An error of the test server or of a request to its control interface.
    struct SetupError: Error {
        let reason: String
    }

    /// The folder of the server's repositories. A test may change the files in it while the server runs.
    public let root: String
    /// The Hub's URL, for `HF_ENDPOINT`.
    public let endpoint: String
    /// The URL of the storage to which the Hub redirects requests for LFS files.
    public let storage: String
    private let process: RunningCommand
    private let input = Pipe()

    /// Starts hub-server on `root` with the command-line `options`. Throws if the server does not start.
    public init(root: String, options: [String] = []) throws {
        self.root = root
        let (input, output) = (self.input, Pipe())
        let command = [
            "python3", TestData.packageRoot + "/scripts/fakes/hub-server", root, "--until_eof",
        ]
        process = try RunningCommand(command + options) {
            $0.standardInput = input
            $0.standardOutput = output
            $0.standardError = FileHandle.standardError
        }
        // Waits for the line that the server prints when it is ready. The server ends with this process (--until_eof).
        var line = Data()
        while line.last != 0x0A {
            let piece = output.fileHandleForReading.availableData
            guard !piece.isEmpty else { throw SetupError(reason: "hub-server does not start") }
            line += piece
        }
        guard
            let addresses = try JSONSerialization.jsonObject(with: line) as? [String: String],
            let endpoint = addresses["endpoint"], let storage = addresses["storage"]
        else {
            throw SetupError(reason: "hub-server says \(String(decoding: line, as: UTF8.self))")
        }
        (self.endpoint, self.storage) = (endpoint, storage)
        process.removeTimeLimit()
    }

    /// Serves the tiny fixture as the repositories of Gemma 2 2B, Gemma Scope and AuthorMix. The links to the fixture are created
    /// in `folder`. Files of more than 100,000 bytes are LFS files.
    public convenience init(fixtureIn folder: TemporaryFolder, options: [String] = []) throws {
        func link(_ name: String, to target: String) throws {
            try folder.link("hub/" + name, to: "\(TestData.tiny)/\(target)")
        }
        try link("models/google/gemma-2-2b", to: "model")
        for site in ["res", "mlp", "att"] {
            let name = "gemma-scope-2b-pt-\(site)"
            try link("models/google/\(name)", to: "sae/\(name)")
        }
        try link("datasets/hallisky/AuthorMix/train.jsonl", to: "authormix.jsonl")
        try self.init(
            root: folder.file("hub"), options: ["--lfs_above", "100000"] + options)
    }

    deinit { stop() }

    /// Kills the server and waits until it has ended.
    public func stop() { process.stop() }

    /// Returns environment variables for a tool that uses this Hub and has its cache in `home`, with the changes `more`.
    public func environment(home: String, _ more: [String: String?] = [:]) -> [String: String?] {
        var variables: [String: String?] = [
            "HF_ENDPOINT": endpoint, "HF_HOME": home, "SAE_EXTRACT_RETRY_SECONDS": "0.05",
        ]
        for (name, value) in more { variables[name] = value }
        return variables
    }

    /// Replaces the rules for faults by `rules`, a JSON array; `hub-server --help` documents it.
    public func setFaults(_ rules: String) throws {
        let answer = try exchange("POST", "/__faults", rules)
        guard answer == "{}" else { throw SetupError(reason: answer) }
    }

    /// Empties the server's list of requests.
    public func clearLog() throws { _ = try exchange("DELETE", "/__log", "") }

    /// Returns the requests that the server has answered so far, oldest first.
    public func requests() throws -> [Request] {
        let text = try exchange("GET", "/__log", "")
        let value = try Array(text.utf8).withUnsafeBufferPointer { try JSONValue(parsing: $0) }
        return (value.array ?? []).compactMap(\.object).map { entry in
            var headers: [String: String] = [:]
            for (name, value) in entry["headers"]?.object?.members ?? [] {
                headers[name] = value.string
            }
            return Request(
                port: entry["port"]?.string ?? "", method: entry["method"]?.string ?? "",
                path: entry["path"]?.string ?? "", headers: headers,
                status: entry["status"]?.integer, sent: entry["sent"]?.integer ?? 0)
        }
    }

    /// Sends one request with Python's HTTP client, not with the client under test, and returns the response's body.
    private func exchange(_ method: String, _ path: String, _ body: String) throws -> String {
        // The body goes through standard input: it can be longer than an argument may be.
        let client = try TestCommand.run(
            [
                "python3", "-c",
                """
                import sys, urllib.request
                data = sys.stdin.buffer.read() or None
                request = urllib.request.Request(sys.argv[2], method=sys.argv[1], data=data)
                opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
                sys.stdout.write(opener.open(request).read().decode())
                """, method, endpoint + path,
            ], input: body)
        guard client.status == 0 else {
            throw SetupError(reason: "\(method) \(path) failed: \(client.errors)")
        }
        return client.output
    }
}
