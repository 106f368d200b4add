// Runs scripts/fakes/hub-server, usually with the fixture's files as its repositories.

import ByteJSON
import Foundation

/// A running `scripts/fakes/hub-server`: a test server on loopback that answers as the Hub does.
package final class TestHub {
    /// A request that the server has received.
    package struct Request {
        /// The server that received the request: `hub`, or `storage` for the content of LFS files.
        package let port: String
        /// The HTTP method, such as `GET`.
        package let method: String
        /// The path with the query string.
        package let path: String
        /// The header values by lower-case name.
        package let headers: [String: String]
        /// The HTTP status of the response; nil if the server sent no response.
        package let status: Int?
        /// The number of bytes of the response's body that were sent.
        package let sent: Int

        /// Whether the request asks for the content of a file.
        package var isForBody: Bool {
            method == "GET" && (port == "storage" || path.contains("/resolve"))
        }
    }

    /// The test server does not start, or refuses a request to its control interface.
    struct SetupError: Error {
        let reason: String
    }

    /// The folder of the server's repositories. A test may change the files in it while the server runs.
    package let root: String
    /// The Hub's URL, for `HF_ENDPOINT`.
    package let endpoint: String
    /// The URL of the storage to which the Hub redirects requests for LFS files.
    package let storage: String
    private let process: RunningCommand
    private let input = Pipe()

    /// Starts hub-server on the repositories in `root`, with the command-line `options`. Throws if the server does
    /// not start.
    package init(root: String, options: [String] = []) throws {
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
        // The server prints a line when it is ready. Because of --until_eof, the server ends with this process.
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

    /// Starts a Hub with the repositories of the tiny fixture: Gemma 2 2B, Gemma Scope and AuthorMix. They are links
    /// to the fixture, created in `folder`. Files of more than 100,000 bytes are LFS files.
    package convenience init(fixtureIn folder: TemporaryFolder, options: [String] = []) throws {
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
    package func stop() { process.stop() }

    /// Returns the environment of a program that uses this Hub, with the cache in `home` and the changes `more`.
    package func environment(home: String, _ more: [String: String?] = [:]) -> [String: String?] {
        var variables: [String: String?] = [
            "HF_ENDPOINT": endpoint, "HF_HOME": home, "SAE_EXTRACT_RETRY_SECONDS": "0.05",
        ]
        for (name, value) in more { variables[name] = value }
        return variables
    }

    /// Replaces the server's fault rules by `rules`, a JSON array. `hub-server --help` describes the rules.
    package func setFaults(_ rules: String) throws {
        let answer = try exchange("POST", "/__faults", rules)
        guard answer == "{}" else { throw SetupError(reason: answer) }
    }

    /// Empties the server's list of requests.
    package func clearLog() throws { _ = try exchange("DELETE", "/__log", "") }

    /// Returns the requests that the server has answered so far, oldest first.
    package func requests() throws -> [Request] {
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

    /// Sends one request and returns the body of the response. Uses Python's HTTP client, because the Swift client is
    /// under test.
    private func exchange(_ method: String, _ path: String, _ body: String) throws -> String {
        // The body is passed on standard input, because it can be longer than a command-line argument may be.
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
