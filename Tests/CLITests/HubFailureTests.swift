// Tests of a Hub that refuses or fails, of bad connections, and of a disk that is too small.

import Foundation
import TestSupport
import Testing

extension HubTests {
    // MARK: Refusals

    @Test func whatDoesNotExistIsNamed() throws {
        let some = ["--layers", "0", "--save_dir", folder.file("out")]
        expect(
            try run(some + ["--model", "google/gemma-2-9b"]), exits: 64,
            saying: ["no model google/gemma-2-9b", "private", "check the spelling"])
        expect(
            try run(some + ["--data_repo", "hallisky/AuthorMax"]), exits: 64,
            saying: ["no dataset hallisky/AuthorMax", "/datasets/hallisky/AuthorMax"])
        expect(
            try run(some + ["--revision", "v9"]), exits: 64,
            saying: ["google/gemma-2-2b has no revision 'v9'", "check the spelling"])
        expect(
            try run(some + ["--revision", "../x"]), exits: 64,
            saying: ["--revision", "is not a valid revision"])
        expect(
            try run(some + ["--data_repo", "a/b/c"]), exits: 64,
            saying: ["--data_repo", "not a repository"])
        try folder.write("no tokenizer".utf8, "hub/models/google/gemma-2-2b@broken/README.md")
        expect(
            try run(some + ["--revision", "broken"]), exits: 64,
            saying: ["google/gemma-2-2b (revision broken) has no file config.json"])
    }

    @Test func theNetworkIsDown() throws {
        hub.stop()
        let some = ["--layers", "0", "--save_dir", folder.file("out")]
        expect(
            try run(some), exits: 69,
            saying: ["cannot reach \(hub.endpoint)", "check the network", "trying again in"])
        expect(
            try run(some, ["HF_HUB_OFFLINE": "1"]), exits: 69,
            saying: [
                "HF_HUB_OFFLINE is set", "google/gemma-2-2b is not in the cache",
                "sae-extract fetch --layers 0 --save_dir",
            ])
        expect(
            try run(some, ["HF_ENDPOINT": "ftp://x"]), exits: 64,
            saying: ["HF_ENDPOINT", "correct"])
        expect(
            try run(some, ["HF_ENDPOINT": "http://me:word@127.0.0.1"]), exits: 64,
            saying: ["HF_ENDPOINT", "HF_TOKEN"])
    }

    @Test func aHubThatIsNone() throws {
        let some = ["--layers", "0", "--save_dir", folder.file("out")]
        for (fault, words) in [
            (#"{"status": 200, "body": "<html>please log in</html>"}"#, "is not JSON"),
            (#"{"status": 200, "body": "{}"}"#, "names no commit"),
            (#"{"redirect": "file:///etc/passwd"}"#, "not followed"),
            (
                #"{"path": "revision", "redirect": "/api/models/google/gemma-2-2b/revision/main"}"#,
                "in circles"
            ),
        ] {
            try hub.setFaults("[\(fault)]")
            expect(
                try run(some), exits: 69,
                saying: ["does not answer as a Hugging Face Hub", words, "check HF_ENDPOINT"])
        }
        try hub.setFaults(
            #"[{"path": "/tree/", "status": 200, "body": "[{\"type\": \"file\", \"path\": \"../../x\", \"size\": 1, \"oid\": \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}]"}]"#
        )
        expect(try run(some), exits: 69, saying: ["does not have the expected form"])
        // This size is so large that a sum of sizes would overflow.
        try hub.setFaults(
            #"[{"path": "/tree/", "status": 200, "body": "[{\"type\": \"file\", \"path\": \"x\", \"size\": 9223372036854775000, \"oid\": \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}]"}]"#
        )
        expect(try run(some), exits: 69, saying: ["does not have the expected form"])
        // This page names itself as the next page, so the list does not end. The address of the first link has `;`
        // and `,`, which also separate links.
        let page = try #require(try hub.requests().last { $0.path.contains("/tree/") }).path
        try hub.setFaults(
            #"[{"path": "/tree/", "status": 200, "body": "[]", "headers": {"Link": "</x;a=1,b>; rel=\"last\", <\#(page)>; rel=\"next\""}}]"#
        )
        expect(try run(some), exits: 69, saying: ["does not end"])
    }

    @Test func limitsOnRequests() throws {
        try hub.setFaults(#"[{"status": 429, "headers": {"Retry-After": "9999"}}]"#)
        expect(
            try run(arguments("out")), exits: 69,
            saying: ["429", "wait 9999 seconds", "HF_HUB_OFFLINE=1"])
        // If the server asks for a short wait, the program must wait and retry.
        try hub.setFaults(
            #"[{"times": 1, "status": 429, "headers": {"RateLimit": "\"api\";r=0;t=1"}}, {"times": 1, "status": 429, "headers": {"Retry-After": "1"}}]"#
        )
        let start = Date()
        expect(
            try run(["saes", "--layers", "0"]), exits: 0,
            saying: ["too many requests (429); trying again in 1.0 s"])
        #expect(Date().timeIntervalSince(start) > 2)
    }

    /// Checks extremely long waiting times. The program must neither wait nor crash.
    @Test(arguments: [
        #""Retry-After": "99999999999999999999""#,
        #""RateLimit": "\"api\";r=0;t=99999999999999999999999""#,
        #""Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT""#,
    ])
    func absurdWaits(header: String) throws {
        try hub.setFaults("[{\"status\": 429, \"headers\": {\(header)}}]")
        expect(try run(arguments("out")), exits: 69, saying: ["429", "it asks to wait"])
    }

    @Test(arguments: ["inf", "-5", "0x10", "soon", ""]) func waitsThatAreNone(value: String) throws
    {
        try hub.setFaults(
            "[{\"times\": 2, \"status\": 429, \"headers\": {\"Retry-After\": \"\(value)\"}}]")
        expect(try run(["saes", "--layers", "0"]), exits: 0, saying: ["trying again in 0."])
    }

    /// Checks that `fetch` retries during a short outage, even if the cache has files from an earlier `--dry_run`.
    @Test(arguments: [429, 503]) func aLookBeforehandCostsNoPatience(status: Int) throws {
        expect(try run(["fetch"] + arguments("out") + ["--dry_run"]), exits: 0)
        try hub.setFaults(
            "[{\"times\": 2, \"status\": \(status), \"headers\": {\"Retry-After\": \"1\"}}]")
        expect(try run(["fetch"] + arguments("out")), exits: 0, saying: ["trying again"])
    }

    @Test func aSilentServerIsGivenUp() throws {
        try hub.setFaults(#"[{"path": "revision", "delay": 1000}]"#)
        expect(
            try run(arguments("out"), ["HF_HUB_ETAG_TIMEOUT": "0.3"]), exits: 69,
            saying: [
                "no answer within 0.3 s (HF_HUB_ETAG_TIMEOUT); trying again",
                "cannot reach \(hub.endpoint) (HF_ENDPOINT)",
            ])
        // The program must also give up a server that sends its answer at only 100 bytes a second.
        try hub.setFaults(#"[{"path": "tree", "rate": 100, "times": 1}]"#)
        expect(
            try run(["saes"], ["HF_HUB_ETAG_TIMEOUT": "0.3"]), exits: 0,
            saying: [
                "the answer was not complete within 3 s (10 times HF_HUB_ETAG_TIMEOUT)",
                "; trying again",
            ]
        )
    }

    @Test func aRepositoryThatChangesMeanwhile() throws {
        try hub.setFaults(
            #"[{"path": "tree", "times": 1, "status": 404, "headers": {"X-Error-Code": "RevisionNotFound"}}]"#
        )
        expect(
            try run(arguments("out")), exits: 69,
            saying: ["google/gemma-2-2b has changed on the Hub", "run the same command again"])
    }

    // MARK: Bad connections

    static let passing = [
        #"{"times": 3, "status": 503}"#,
        #"{"method": "GET", "path": "resolve|file=", "times": 5, "status": 500}"#,
        #"{"port": "storage", "times": 4, "truncate": 20000}"#,
        #"{"path": "resolve-cache.*config", "times": 2, "truncate": 100}"#,
        #"{"port": "storage", "times": 3, "close": true}"#,
        #"{"port": "storage", "times": 2, "content_length": 1000}"#,
        #"{"port": "storage", "times": 2, "content_length": 10000000}"#,
        #"{"port": "storage", "times": 2, "stall": 30000}"#,
        #"{"path": "tree", "times": 2, "stall": 10}"#,
        #"{"port": "storage", "times": 1, "corrupt": 12345}"#,
        #"{"method": "GET", "path": "resolve-cache.*train", "times": 1, "corrupt": 99}"#,
        #"{"port": "storage", "times": 3, "status": 403, "body": "expired"}"#,
        #"{"port": "storage", "times": 2, "status": 416}"#,
        #"{"port": "storage", "times": 3, "rate": 2000000, "truncate": 100000}"#,
    ]

    @Test(arguments: passing) func faultsThatPassAreSurvived(fault: String) throws {
        try hub.setFaults("[\(fault)]")
        let outcome = try run(
            ["fetch"] + arguments("out"),
            ["HF_HUB_DOWNLOAD_TIMEOUT": "1", "HF_HUB_ETAG_TIMEOUT": "1"])
        expect(outcome, exits: 0, saying: ["again"])
        try checkCache()
        hub.stop()
        let offline = try run(["fetch"] + arguments("out"), ["HF_HUB_OFFLINE": "1"])
        expect(offline, exits: 0)
        #expect(offline.output.contains("to be downloaded: 0 files"), "\(offline.output)")
    }

    @Test func aServerWithoutRanges() throws {
        try hub.setFaults(
            #"[{"port": "storage", "method": "GET", "times": 2, "truncate": 50000}, {"port": "storage", "ignore_range": true}]"#
        )
        expect(try run(["fetch"] + arguments("out")), exits: 0)
        try checkCache()
    }

    /// Checks a server that breaks the connection and ignores range requests. Every attempt begins at byte 0.
    @Test func aServerWithoutRangesThatBreaksOff() throws {
        let file = #""port": "storage", "method": "GET", "path": "00001-of", "ignore_range": true"#
        try hub.setFaults(
            "["
                + [100_000, 300_000, 100_000, 300_000].map {
                    "{\(file), \"times\": 1, \"truncate\": \($0)},"
                }.joined() + "{\(file)}]")
        let outcome = try run(["fetch"] + arguments("out"))
        expect(outcome, exits: 0)
        #expect(!outcome.errors.contains("not what it should be"))
        try checkCache()
    }

    @Test func oneFailureEndsTheOtherDownloads() throws {
        try hub.setFaults(
            #"[{"path": "resolve.*tokenizer.json", "method": "GET", "status": 404, "headers": {"X-Error-Code": "EntryNotFound"}}, {"port": "storage", "method": "GET", "rate": 20000}]"#
        )
        expect(
            try run(arguments("out")), exits: 64,
            saying: ["google/gemma-2-2b has no file tokenizer.json"])
        let sent = try hub.requests().filter { $0.port == "storage" }.reduce(0) { $0 + $1.sent }
        #expect(sent < 1_000_000, "\(sent)")
        // Without the slow storage, the failure comes while other downloads are being redirected.
        try hub.setFaults(
            #"[{"path": "resolve.*tokenizer.json", "method": "GET", "status": 404, "headers": {"X-Error-Code": "EntryNotFound"}}]"#
        )
        for round in 0..<12 {
            let home = folder.file("home\(round)")
            expect(try run(["fetch"] + arguments("out"), home: home), exits: 64)
        }
    }

    @Test func whatStaysWrongIsAnError() throws {
        let some = ["--layers", "0", "--save_dir", folder.file("out")]
        let file = "file=layer_0/width_16k/average_l0_46/params.npz"
        try hub.setFaults(#"[{"path": "\#(file)", "corrupt": 7}]"#)
        expect(
            try run(some), exits: 69,
            saying: [
                "google/gemma-scope-2b-pt-res: layer_0/width_16k/average_l0_46/params.npz was downloaded twice",
                "expected ", "got ", "try again later",
            ])
        try hub.setFaults(#"[{"path": "\#(file)", "method": "GET", "content_length": 0}]"#)
        expect(
            try run(some), exits: 69, saying: ["the answer ended after 0 of"])
        try hub.setFaults(#"[{"path": "\#(file)", "status": 500}]"#)
        expect(
            try run(some), exits: 69,
            saying: ["params.npz: \(hub.storage) answers 500", "again later"])
        // The failed runs have downloaded all other files, so the cache lacks only this file.
        try hub.setFaults("[]")
        expect(
            try run(some, ["HF_HUB_OFFLINE": "1"]), exits: 69,
            saying: ["average_l0_46/params.npz of google/gemma-scope-2b-pt-res"])
        try hub.clearLog()
        expect(try run(some), exits: 0)
        let names = Set(
            try hub.requests().filter(\.isForBody).map(\.path).map { $0.split(separator: "?")[0] })
        #expect(names.count <= 2, "\(names)")
    }

    /// Checks that too little free space is reported before anything is downloaded.
    @Test func tooLittleRoomIsSaidBeforehand() throws {
        let outcome = try run(
            ["fetch"] + arguments("out"),
            launcher: .mountNamespace(
                "mkdir -p \"$HF_HOME\" && mount -t tmpfs -o size=800k tmpfs \"$HF_HOME\" && \"$@\"")
        )
        expect(
            outcome, exits: 74,
            saying: ["the downloads need", "bytes are free", "set HF_HOME to a larger"])
        #expect(try !hub.requests().contains { $0.port == "storage" && $0.method == "GET" })
    }

    @Test(.enabled(if: Tool.hasLimits)) func aFullDiskIsSaid() throws {
        let outcome = try run(
            ["fetch"] + arguments("out"),
            // The limit is in KiB: enough for the lists of files, but not for the weights.
            launcher: .limit("-f 100"))
        expect(
            outcome, exits: 74,
            saying: ["cannot write", "File too large", "run the same command again"])
        expect(try run(["fetch"] + arguments("out")), exits: 0)
        try checkCache()
    }
}
