// `scripts/hub-server` with the fixture on it.

import ByteJSON
import Foundation

/// A Hub on loopback.
public final class TestHub {
    /// A request that it has had.
    public struct Request {
        /// `hub`, or `storage`, where large files are redirected to.
        public let port: String
        /// `GET`.
        public let method: String
        /// With the query.
        public let path: String
        /// By lower-case name.
        public let headers: [String: String]
        /// The answer's status; nil where there was none.
        public let status: Int?
        /// Bytes of the body that were sent.
        public let sent: Int

        /// Whether it is for a file's content.
        public var isForBody: Bool {
            method == "GET" && (port == "storage" || path.contains("/resolve"))
        }
    }

    /// What cannot be set up.
    struct SetupError: Error {
        let reason: String
    }

    /// The folder of its repositories, which may be changed while it runs.
    public let root: String
    /// For `HF_ENDPOINT`.
    public let endpoint: String
    /// Where it redirects to for large files.
    public let storage: String
    private let process = Process()
    private let input = Pipe()

    /// Serves `root` with `options`.
    public init(root: String, options: [String] = []) throws {
        self.root = root
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments =
            ["python3", TestData.packageRoot + "/scripts/hub-server", root, "--until_eof"]
            + options
        let output = Pipe()
        process.standardOutput = output
        process.standardInput = input
        try process.run()
        // Until it serves; it ends with this process.
        let watchdog = Watchdog(process)
        defer { watchdog.stop() }
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
    }

    /// Serves the tiny fixture under the names of what it stands for, from `folder`. Its larger files are LFS files.
    public convenience init(fixtureIn folder: TemporaryFolder, options: [String] = []) throws {
        let root = folder.file("hub")
        let files = FileManager.default
        try files.createDirectory(
            atPath: root + "/models/google", withIntermediateDirectories: true)
        try files.createDirectory(
            atPath: root + "/datasets/hallisky/AuthorMix", withIntermediateDirectories: true)
        func link(_ path: String, to target: String) throws {
            try files.createSymbolicLink(
                atPath: "\(root)/\(path)", withDestinationPath: "\(TestData.tiny)/\(target)")
        }
        try link("models/google/gemma-2-2b", to: "model")
        for site in ["res", "mlp", "att"] {
            let name = "gemma-scope-2b-pt-\(site)"
            try link("models/google/\(name)", to: "sae/\(name)")
        }
        try link("datasets/hallisky/AuthorMix/train.jsonl", to: "authormix.jsonl")
        try self.init(root: root, options: ["--lfs_above", "100000"] + options)
    }

    deinit { stop() }

    /// Ends it.
    public func stop() {
        guard process.isRunning else { return }
        // A thread of Dispatch's leaves its children deaf to other signals.
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
    }

    /// The environment of a tool whose Hub this is, with its cache in `home`.
    public func environment(home: String, _ more: [String: String?] = [:]) -> [String: String?] {
        var variables: [String: String?] = [
            "HF_ENDPOINT": endpoint, "HF_HOME": home, "SAE_EXTRACT_RETRY_SECONDS": "0.05",
        ]
        for (name, value) in more { variables[name] = value }
        return variables
    }

    /// Replaces the rules for faults, a JSON array: see `hub-server --help`.
    public func setFaults(_ rules: String) throws {
        let answer = try exchange("POST", "/__faults", rules)
        guard answer == "{}" else { throw SetupError(reason: answer) }
    }

    /// Forgets the requests so far.
    public func clearLog() throws { _ = try exchange("DELETE", "/__log", "") }

    /// The requests so far.
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

    /// One exchange by a client of nobody's but Python's.
    private func exchange(_ method: String, _ path: String, _ body: String) throws -> String {
        let client = Process()
        client.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        client.arguments = [
            "python3", "-c",
            """
            import sys, urllib.request
            data = sys.stdin.buffer.read() or None
            request = urllib.request.Request(sys.argv[2], method=sys.argv[1], data=data)
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            sys.stdout.write(opener.open(request).read().decode())
            """, method, endpoint + path,
        ]
        let output = Pipe()
        client.standardOutput = output
        // Not as an argument: those are not so long.
        let content = Pipe()
        client.standardInput = content
        try client.run()
        try content.fileHandleForWriting.write(contentsOf: Data(body.utf8))
        try content.fileHandleForWriting.close()
        let watchdog = Watchdog(client)
        defer { watchdog.stop() }
        let data = output.fileHandleForReading.readDataToEndOfFile()
        client.waitUntilExit()
        guard client.terminationStatus == 0 else {
            throw SetupError(reason: "\(method) \(path) failed")
        }
        return String(decoding: data, as: UTF8.self)
    }
}
