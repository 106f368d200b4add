// Tests with hostile or broken servers in place of the Hub.

import Files
import Foundation
import Synchronization
import TestSupport
import Testing

struct HubHostileServerTests: UsingFolder {
    let folder: TemporaryFolder

    init() throws {
        folder = try TemporaryFolder()
    }

    /// Runs the program with the Hub at `endpoint`.
    private func run(
        _ arguments: [String], _ endpoint: String, _ changes: [String: String?] = [:]
    ) throws -> TestCommand.Outcome {
        var environment: [String: String?] = [
            "HF_ENDPOINT": endpoint, "HF_HOME": folder.file("hf"),
            "SAE_EXTRACT_RETRY_SECONDS": "0.01", "HF_HUB_ETAG_TIMEOUT": "2",
        ]
        for (name, value) in changes { environment[name] = value }
        return try Tool.run(arguments, environment: environment)
    }

    /// Runs `saes`, which requests only lists of files from the Hub.
    private func run(
        _ endpoint: String, _ changes: [String: String?] = [:]
    ) throws -> TestCommand.Outcome { try run(["saes", "--layers", "0"], endpoint, changes) }

    // MARK: Response heads

    /// An invalid or unusual response head, the text that the error must contain, and the expected exit code.
    struct Head: CustomTestStringConvertible, Sendable {
        let name: String
        let bytes: String
        var words = "cannot reach"
        var status: Int32 = 69

        var testDescription: String { name }
    }

    private static let ok = "HTTP/1.1 200 OK\r\n"

    static let heads: [Head] = [
        Head(name: "nothing", bytes: "", words: "the connection was lost"),
        Head(name: "cut within the status", bytes: "HTTP/1.1 20"),
        Head(
            name: "cut within a name", bytes: ok + "Content-Le", words: "the connection was lost"),
        Head(name: "cut before the empty line", bytes: ok + "Content-Type: text/plain\r\n"),
        Head(name: "no HTTP", bytes: "hello\r\n\r\n", words: "the answer is not HTTP"),
        Head(name: "no HTTP, one line", bytes: "\u{0}\u{1}\u{2}", words: "cannot reach"),
        Head(name: "no number", bytes: "HTTP/1.1 abc\r\n\r\n"),
        Head(name: "a negative number", bytes: "HTTP/1.1 -12 x\r\n\r\n"),
        Head(name: "a large number", bytes: "HTTP/1.1 99999999999999999999 x\r\n\r\n"),
        Head(
            name: "999", bytes: "HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n",
            words: "answers 999"),
        Head(
            name: "a line without a name",
            bytes: ok + ": x\r\nno colon\r\n\r\n{}"),
        Head(
            name: "a long line",
            bytes: ok + "X: \(String(repeating: "x", count: 70_000))\r\n\r\n",
            words: "longer than 64 kB in a line or 256 kB in all"),
        Head(
            name: "a line that libcurl does not hold",
            bytes: ok + "X: \(String(repeating: "x", count: 400_000))\r\n\r\n",
            words: "longer than 64 kB in a line or 256 kB in all"),
        Head(
            name: "many lines",
            bytes: ok + String(repeating: "A: b\r\n", count: 100_000) + "\r\n",
            words: "longer than 64 kB in a line or 256 kB in all"),
        Head(
            name: "many announcements",
            bytes: String(repeating: "HTTP/1.1 102 Processing\r\n\r\n", count: 100_000),
            words: "longer than 64 kB in a line or 256 kB in all"),
        Head(
            name: "two lengths", bytes: ok + "Content-Length: 5\r\nContent-Length: 50\r\n\r\n{}",
            words: "has the header content-length twice, with different values"),
        Head(name: "a negative length", bytes: ok + "Content-Length: -5\r\n\r\n{}"),
        Head(
            name: "a length too long", bytes: ok + "Content-Length: 50\r\n\r\n{}",
            words: "the connection was lost"),
        Head(
            name: "two places",
            bytes: "HTTP/1.1 302 Found\r\nLocation: /a\r\nLocation: http://b/\r\n\r\n",
            words: "has the header location twice, with different values"),
        Head(
            name: "a chunk of any size",
            bytes: ok + "Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n{}"),
        Head(
            name: "trailers",
            bytes: ok
                + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nHTTP/1.1 500 x: y\r\nA: b\r\n\r\n",
            words: "names no commit"),
        Head(
            name: "digits of other scripts",
            bytes: "HTTP/1.1 429 Slow\r\nRateLimit: \"a\";r=0;t=٣٣\r\nContent-Length: 0\r\n\r\n",
            words: "trying again in 0.0 s"),
        Head(
            name: "a basic question",
            bytes:
                "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n",
            words: "or it is private", status: 64),
        Head(
            name: "the same place", bytes: "HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n",
            words: "in circles"),
        Head(
            name: "another protocol",
            bytes: "HTTP/1.1 302 Found\r\nLocation: gopher://127.0.0.1/\r\n\r\n",
            words: "not followed"),
        Head(
            name: "a host of two readings",
            bytes: "HTTP/1.1 302 Found\r\nLocation: http://127.1/\r\n\r\n",
            words: "can be read in more than one way"),
    ]

    @Test(arguments: heads) func strangeHeads(head: Head) throws {
        let server = try RawServer { _, connection in
            connection.send(head.bytes)
            return false
        }
        expect(try run(server.endpoint), exits: head.status, saying: [head.words])
    }

    // MARK: Bodies

    /// Checks that a compressed answer is refused and not read, because a few bytes can expand to very many.
    @Test(arguments: ["Content-Encoding: gzip", "Transfer-Encoding: gzip", "Content-Encoding: br"])
    func compressedAnswersAreRefused(field: String) throws {
        let server = try RawServer { _, connection in
            connection.send("HTTP/1.1 200 OK\r\n\(field)\r\n\r\n")
            connection.repeating([UInt8](repeating: 0, count: 1 << 16), limit: 15)
            return false
        }
        expect(
            try run(server.endpoint), exits: 69,
            saying: [
                "\(server.endpoint) (HF_ENDPOINT) does not answer as a Hugging Face Hub",
                "is compressed (", "check HF_ENDPOINT",
            ])
        #expect(server.sent < 32 << 20)
    }

    /// Checks that the program does not read the endless body of a redirect or of an error response.
    @Test(arguments: ["302 Found", "404 Gone", "503 Busy"]) func endlessBodies(status: String)
        throws
    {
        let server = try RawServer { _, connection in
            connection.send(
                "HTTP/1.1 \(status)\r\nLocation: /x\r\nTransfer-Encoding: chunked\r\n\r\n")
            let chunk = "10000\r\n" + String(repeating: "x", count: 1 << 16) + "\r\n"
            connection.repeating(chunk.utf8, limit: 15)
            return false
        }
        let outcome = try run(server.endpoint)
        #expect([64, 69].contains(outcome.status), "\(outcome.errors)")
        if status.hasPrefix("302") { #expect(outcome.errors.contains("in circles")) }
        #expect(server.sent < 200 << 20)
    }

    /// Checks that a download of one byte every 0.1 s is given up, although the server is never silent for long.
    @Test func aBodyThatDrips() throws {
        let server = try RawServer { _, connection in
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
            connection.repeating([0], every: 0.1, limit: 20)
            return false
        }
        let outcome = try download(from: server, timeout: "0.5")
        expect(
            outcome, exits: 69,
            saying: [
                "less than 1024 bytes a second for 3 s (6 times HF_HUB_DOWNLOAD_TIMEOUT)",
                "cannot reach \(server.endpoint)",
            ])
    }

    /// Checks a server that ends each response after 100 bytes. The program must give up after some attempts.
    @Test func aBodyInCrumbs() throws {
        let server = try RawServer { _, connection in
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
            connection.send([UInt8](repeating: 0, count: 100))
            return false
        }
        expect(
            try download(from: server, timeout: "2"), exits: 69, saying: ["cannot reach"])
        #expect(server.requests.count < 20, "\(server.requests.count)")
    }

    /// Downloads weights from a Hub that redirects one of the files to `server` in place of its storage.
    private func download(from server: RawServer, timeout: String) throws -> TestCommand.Outcome {
        let hub = try TestHub(fixtureIn: folder)
        try hub.setFaults(
            #"[{"path": "/resolve/.*00001-of.*safetensors", "method": "GET", "redirect": "\#(server.endpoint)/x"}]"#
        )
        return try run(
            ["fetch", "--layers", "0", "--save_dir", folder.file("out")], hub.endpoint,
            ["HF_HUB_DOWNLOAD_TIMEOUT": timeout])
    }

    // MARK: Lists

    /// Checks that a list without end is given up when it reaches the limit on entries or on bytes.
    @Test(arguments: [
        (#"{"type":"a"},"#, 100_000, "longer than the limit of 2000000 entries"),
        (String(repeating: " ", count: 1 << 20), 48, "or 1024 MiB"),
    ])
    func endlessLists(entry: String, count: Int, words: String) throws {
        let page = "[" + String(repeating: entry, count: count) + #"{"type":"a"}]"#
        let number = Atomic(0)
        let server = try RawServer { head, connection in
            guard head.contains("/tree/") else {
                let commit = String(repeating: "ab", count: 20)
                let body = "{\"sha\": \"\(commit)\"}"
                connection.send("HTTP/1.1 200 OK\r\nContent-Length: \(body.count)\r\n\r\n\(body)")
                return true
            }
            let next = number.add(1, ordering: .relaxed).newValue
            let link = next < 40 ? "Link: </x/tree/\(next)>; rel=\"next\"\r\n" : ""
            connection.send("HTTP/1.1 200 OK\r\n\(link)Content-Length: \(page.utf8.count)\r\n\r\n")
            return connection.send(page)
        }
        expect(
            try run(server.endpoint, ["HF_HUB_ETAG_TIMEOUT": "60"]), exits: 69, saying: [words])
    }

    // MARK: Other servers in the Hub's place

    /// Checks that the cache is used after a 404 without X-Error-Code, which may come from another server.
    @Test func aPlain404SaysNothingOfTheCache() throws {
        let hub = try TestHub(fixtureIn: folder)
        let fetch = ["fetch", "--layers", "0", "--save_dir", folder.file("out")]
        expect(try run(fetch, hub.endpoint), exits: 0, saying: [])
        try hub.setFaults(#"[{"status": 404, "body": "<html><h1>none</h1></html>"}]"#)
        expect(
            try run(fetch, hub.endpoint), exits: 0,
            saying: ["there is no model google/gemma-2-2b", "using the cache for"])
        expect(
            try run(fetch, hub.endpoint, ["HF_HOME": folder.file("new")]), exits: 64,
            saying: ["there is no model google/gemma-2-2b"])
        try hub.setFaults(
            #"[{"status": 404, "headers": {"X-Error-Code": "RepoNotFound"}, "body": "{}"}]"#)
        expect(
            try run(fetch, hub.endpoint), exits: 64,
            saying: ["there is no model google/gemma-2-2b"])
    }

    // MARK: Proxies

    /// Checks a proxy with the method CONNECT. The proxy must not receive the Hub's token. The program must not take
    /// the proxy's response for the Hub's.
    @Test func aProxyThatConnects() throws {
        try shell(
            """
            openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=hub.test \
                -addext subjectAltName=DNS:hub.test,IP:127.0.0.1 >/dev/null 2>&1
            """)
        let hub = try TestHub(
            fixtureIn: folder,
            options: ["--tls", folder.file("cert.pem"), folder.file("key.pem")])
        let port = try #require(hub.endpoint.split(separator: ":").last.flatMap { UInt16($0) })
        let proxy = try RawServer.proxy(to: ["hub.test": port])
        var changes: [String: String?] = [
            "https_proxy": "http://me:s%40secret@127.0.0.1:\(proxy.port)",
            "SSL_CERT_FILE": folder.file("cert.pem"), "HF_HUB_ETAG_TIMEOUT": "10",
            "REQUESTS_CA_BUNDLE": nil, "CURL_CA_BUNDLE": nil, "HF_TOKEN": "hf_x",
        ]
        let fetch = ["fetch", "--layers", "0", "--save_dir", folder.file("out")]
        let outcome = try run(fetch, "https://hub.test", changes)
        // The Hub refuses this token. The proxy must not receive the token.
        expect(outcome, exits: 69, saying: ["does not accept the token"])
        #expect(!proxy.requests.contains { $0.contains("hf_x") }, "\(proxy.requests)")
        #expect(
            proxy.requests.contains { $0.contains("Proxy-Authorization: Basic bWU6c0BzZWNyZXQ=") })
        changes["HF_TOKEN"] = .some(nil)
        expect(try run(fetch, "https://hub.test", changes), exits: 0, saying: [])
        #expect(!proxy.requests.isEmpty)
        let blobs = folder.file("hf/hub/datasets--hallisky--AuthorMix/snapshots")
        let commit = try #require(try directoryContents(blobs).first)
        #expect(
            try TestData.bytes("\(blobs)/\(commit)/train.jsonl")
                == TestData.bytes(TestData.tiny + "/authormix.jsonl"))
        // This proxy refuses to connect to the Hub.
        let other = try RawServer.proxy(to: [:])
        changes["https_proxy"] = "http://127.0.0.1:\(other.port)"
        changes["HF_HOME"] = folder.file("none")
        expect(
            try run(fetch, "https://hub.test", changes), exits: 69,
            saying: [
                "through the proxy http://127.0.0.1:\(other.port) (https_proxy)", "(403)",
            ])
    }

    /// Checks that no message contains a proxy's password, whatever form the proxy's address has.
    @Test(arguments: [
        "http://me:secretword@127.0.0.1:9", "http://me:p@secretword@127.0.0.1:9",
        "me:secretword@127.0.0.1:9", "http://me:secretword%40127.0.0.1:9",
        "http://me:secretword@", "secretword:x", "http://me:secretword@no such host",
        "ftp://me:secretword@127.0.0.1:9", "http://me:secret%77ord@proxy.invalid:9",
    ])
    func passwordsOfProxiesAreNotPrinted(address: String) throws {
        for (variable, endpoint) in [
            ("http_proxy", "http://hub.test"), ("https_proxy", "https://hub.test"),
        ] {
            let outcome = try run(
                ["saes", "--layers", "0", "--log_level", "trace"], endpoint, [variable: address])
            expect(outcome, exits: 69, saying: ["through the proxy", variable])
            for secret in ["secretword", "secret%77ord"] {
                #expect(!outcome.errors.contains(secret), "\(outcome.errors)")
            }
        }
        // The proxy's answer repeats the password.
        let server = try RawServer { _, connection in
            connection.send(
                "HTTP/1.1 403 No\r\nContent-Length: 36\r\n\r\nyou are me:secretword or secretword "
            )
            return true
        }
        let outcome = try run(
            "http://hub.test", ["http_proxy": "http://me:secretword@127.0.0.1:\(server.port)"])
        expect(outcome, exits: 69, saying: ["answers 403"])
        #expect(!outcome.errors.contains("secretword"), "\(outcome.errors)")
    }

    // MARK: The home folder

    @Test func nothingIsWrittenIntoTheHomeFolder() throws {
        let hub = try TestHub(fixtureIn: folder)
        let home = folder.file("home")
        try FileManager.default.createDirectory(
            atPath: home, withIntermediateDirectories: true)
        expect(
            try run(
                hub.endpoint,
                ["HOME": home, "XDG_CACHE_HOME": nil, "XDG_DATA_HOME": nil]),
            exits: 0, saying: [])
        #expect(try directoryContents(home) == [])
    }
}
