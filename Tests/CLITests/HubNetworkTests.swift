// Tests of mirrors, of servers that do not answer, of certificates and of tokens.

import Files
import Foundation
import TestSupport
import Testing

extension HubTests {
    // MARK: Mirrors

    /// Checks a mirror that lists only git IDs of large files. They must be enough to verify the downloads.
    @Test func aMirrorThatListsNoDigests() throws {
        let plain = try TestHub(root: hub.root, options: ["--lfs_above", "100000", "--no_lfs"])
        let environment = plain.environment(home: home)
        let outcome = try Tool.run(small("out"), environment: environment)
        expect(outcome, exits: 0)
        #expect(!outcome.errors.contains("again"), "\(outcome.errors)")
        try checkCache()
        let blobs = try directoryContents(home + "/hub/models--google--gemma-2-2b/blobs")
        #expect(blobs.contains { $0.count == 64 }, "named as huggingface_hub names them")
        try plain.clearLog()
        expect(try Tool.run(small("again"), environment: environment), exits: 0)
        #expect(try !plain.requests().contains(where: \.isForBody))

        try plain.setFaults(#"[{"path": "file=.*params.npz", "corrupt": 7}]"#)
        expect(
            try Tool.run(
                small("damaged"), environment: plain.environment(home: folder.file("other"))),
            exits: 69, saying: ["params.npz was downloaded twice", "without HF_ENDPOINT"])
    }

    /// Checks a mirror that answers 404 at `/tree/`. The program must use the list in the answer that names the
    /// commit, if that list has digests.
    @Test func aMirrorWithoutListsOfFiles() throws {
        let missing = #"{"path": "/tree/", "status": 404, "body": "<html><h1>none</h1></html>"}"#
        try hub.setFaults("[\(missing)]")
        expect(try run(["fetch"] + small("out")), exits: 0)
        try checkCache()
        try hub.setFaults(
            #"[\#(missing), {"path": "blobs=true", "status": 200, "body": "{\"siblings\": [{\"rfilename\": \"config.json\"}]}"}]"#
        )
        expect(
            try run(small("out"), home: folder.file("other")), exits: 69,
            saying: [
                "\(hub.endpoint)/api/models/google/gemma-2-2b/tree/",
                "does not exist at", "(404)", "names the commit", "unset HF_ENDPOINT",
            ])
        // If the cache has the files, the run must use them.
        try shell("rm hf/hub/*/.sae-extract/*.json")
        expect(
            try run(small("out")), exits: 0,
            saying: ["does not exist at", "(404)", "using the cache for"])
    }

    /// Checks a mirror that redirects to a Hub on which the model is gated. The token must not be sent to that Hub,
    /// so the run must fail.
    @Test func aMirrorThatSendsOn() throws {
        let gated = try TestHub(
            root: hub.root,
            options: ["--gated", "google/gemma-2-2b", "--token", "hf_x", "--lfs_above", "100000"])
        try hub.setFaults(#"[{"status": 308, "redirect": "\#(gated.endpoint){path}"}]"#)
        let outcome = try run(small("out"), ["HF_TOKEN": "hf_x"])
        expect(
            outcome, exits: 69,
            saying: [
                "google/gemma-2-2b: \(gated.endpoint) asks for a token (401)",
                "\(hub.endpoint) (HF_ENDPOINT) redirects to it",
                "set HF_ENDPOINT=\(gated.endpoint)",
            ])
        #expect(!outcome.errors.contains("trying again"), "\(outcome.errors)")
        #expect(try gated.requests().allSatisfy { $0.headers["authorization"] == nil })
        #expect(try !gated.requests().isEmpty)
        // Repositories that are not gated can be downloaded through this mirror.
        let open = try TestHub(root: hub.root, options: ["--lfs_above", "100000"])
        try hub.setFaults(#"[{"status": 308, "redirect": "\#(open.endpoint){path}"}]"#)
        expect(try run(["fetch"] + small("out")), exits: 0)
        try checkCache()
    }

    /// Checks that the cache is used if a login page or a firewall answers in place of the Hub.
    @Test(arguments: [
        #"{"status": 200, "body": "<html><title>Log in</title></html>"}"#,
        #"{"status": 403, "body": "<html><title>Blocked by policy</title></html>"}"#,
    ])
    func somethingElseAnswers(fault: String) throws {
        expect(try run(["fetch"] + small("out")), exits: 0)
        try hub.setFaults("[\(fault)]")
        expect(try run(small("out")), exits: 0, saying: ["using the cache for"])
        let words = fault.contains("403") ? "answers 403 (Blocked by policy)" : "is not JSON"
        expect(
            try run(small("new"), home: folder.file("other")), exits: 69,
            saying: [words, "HF_ENDPOINT"])
    }

    // MARK: Servers that do not answer

    @Test func theStorageDoesNotAnswer() throws {
        let patience =
            ["HF_HUB_DOWNLOAD_TIMEOUT": "0.5", "HF_HUB_ETAG_TIMEOUT": "5"]
            as [String: String?]
        func fails(_ rule: String, _ words: [String]) throws {
            try hub.setFaults("[\(rule)]")
            let outcome = try run(
                small("out"), home: folder.file("h\(UInt32.random(in: 0...9999))"), patience)
            expect(outcome, exits: 69, saying: words)
            #expect(!outcome.errors.contains("cannot reach \(hub.endpoint)"), "\(outcome.errors)")
        }
        func toHost(_ host: String) -> String {
            #"{"path": "/resolve/.*safetensors", "redirect": "http://\#(host)/x?sig=1"}"#
        }
        let answered = "\(hub.endpoint) (HF_ENDPOINT) answered and redirects to"
        try fails(
            toHost("127.0.0.1:9"), ["cannot reach http://127.0.0.1:9: no connection", answered])
        try fails(
            toHost("storage.invalid"),
            ["cannot reach http://storage.invalid: the host name cannot be resolved", answered])
        try fails(
            #"{"port": "storage", "delay": 30}"#,
            [
                "cannot reach \(hub.storage): no answer within 0.5 s (HF_HUB_DOWNLOAD_TIMEOUT)",
                answered,
            ])
        try fails(
            #"{"port": "storage", "status": 403, "body": "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><Message>Too late</Message></Error>"}"#,
            ["\(hub.storage) answers 403 (AccessDenied: Too late)", answered, "clock is wrong"])
        try fails(
            #"{"port": "storage", "status": 503, "body": "no room\nmore"}"#,
            ["\(hub.storage) answers 503 (no room)", answered])
        try hub.clearLog()
        try fails(
            #"{"port": "storage", "status": 401, "body": "who"}"#,
            ["\(hub.storage) answers 401 (who)", answered])
        #expect(
            try hub.requests().count { $0.port == "storage" && $0.status == 401 } <= 4,
            "nobody asks again")
        try fails(
            #"{"port": "storage", "redirect": "\#(hub.storage){path}"}"#,
            ["\(hub.storage) does not answer as a Hugging Face Hub", "in circles"])
    }

    /// Checks that the error names the proxy, without its password.
    @Test func aProxyThatDoesNotAnswer() throws {
        for (variable, endpoint) in [
            ("http_proxy", "http://hub.test"), ("HTTPS_PROXY", "https://hub.test"),
            ("all_proxy", "https://hub.test"),
        ] {
            let outcome = try run(
                small("out"), ["HF_ENDPOINT": endpoint, variable: "http://me:secret@127.0.0.1:9"])
            expect(
                outcome, exits: 69,
                saying: [
                    "cannot reach \(endpoint) (HF_ENDPOINT): through the proxy http://127.0.0.1:9 (\(variable)): "
                ])
            #expect(!outcome.errors.contains("secret"))
        }
        try hub.setFaults(#"[{"status": 407}]"#)
        expect(
            try run(small("out"), ["HF_ENDPOINT": "http://hub.test", "http_proxy": hub.endpoint]),
            exits: 69,
            saying: ["or the proxy \(hub.endpoint) (http_proxy), answers 407", "USER:PASSWORD"])
    }

    // MARK: Certificates

    @Test func authoritiesOfTheEnvironmentCount() throws {
        try shell(
            """
            (openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=test-ca -addext basicConstraints=critical,CA:TRUE
            openssl req -newkey rsa:2048 -nodes -keyout key.pem -out request.pem -subj /CN=127.0.0.1
            printf 'subjectAltName=IP:127.0.0.1\\n' >extensions
            openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out cert.pem
            openssl req -x509 -newkey rsa:2048 -nodes -keyout other.key -out other.pem -days 2 -subj /CN=other-ca
            mkdir folder; cp ca.pem "folder/$(openssl x509 -in ca.pem -noout -hash).0"; echo rubbish >rubbish.pem) >/dev/null 2>&1
            """)
        let secure = try TestHub(
            root: hub.root, options: ["--tls", folder.file("cert.pem"), folder.file("key.pem")])
        let variables = ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"]
        func list(_ changes: [String: String]) throws -> TestCommand.Outcome {
            var all: [String: String?] = Dictionary(
                uniqueKeysWithValues: variables.map { ($0, nil as String?) })
            for (name, value) in changes { all[name] = value }
            var environment = secure.environment(home: folder.file("tls"))
            for (name, value) in all { environment.updateValue(value, forKey: name) }
            return try Tool.run(["saes", "--layers", "0"], environment: environment)
        }
        let failure = ["cannot reach \(secure.endpoint) (HF_ENDPOINT): SSL certificate problem"]
        expect(
            try list([:]), exits: 69,
            saying: failure + ["the system's certificate authorities", "set SSL_CERT_FILE"])
        let outcome = try list([
            "CURL_CA_BUNDLE": folder.file("gone.pem"), "SSL_CERT_FILE": folder.file("other.pem"),
        ])
        expect(
            outcome, exits: 69,
            saying: failure + [
                "authorities in \(folder.file("other.pem")) (SSL_CERT_FILE) are trusted",
                "CURL_CA_BUNDLE names \(folder.file("gone.pem")), which cannot be read: No such",
            ])
        #expect(!outcome.errors.contains("trying again"), "\(outcome.errors)")
        expect(
            try list(["SSL_CERT_FILE": folder.file("rubbish.pem")]), exits: 69,
            saying: ["cannot be read", "rubbish.pem (SSL_CERT_FILE)", "Correct or unset"])
        for (variable, name) in [
            ("REQUESTS_CA_BUNDLE", "ca.pem"), ("CURL_CA_BUNDLE", "ca.pem"),
            ("SSL_CERT_FILE", "ca.pem"), ("SSL_CERT_DIR", "folder"),
            ("REQUESTS_CA_BUNDLE", "folder"),
        ] {
            try? FileManager.default.removeItem(atPath: folder.file("tls"))
            expect(try list([variable: folder.file(name)]), exits: 0)
        }
        // This server does not speak TLS.
        expect(
            try Tool.run(
                ["saes", "--layers", "0"],
                environment: hub.environment(
                    home: folder.file("plain"),
                    ["HF_ENDPOINT": hub.endpoint.replacing("http:", with: "https:")])),
            exits: 69, saying: ["the server does not speak TLS"])
    }

    // MARK: Tokens

    @Test func tokensThatAreNone() throws {
        let gated = try TestHub(
            root: hub.root, options: ["--gated", "google/gemma-2-2b", "--token", "hf_good"])
        func run(_ changes: [String: String?]) throws -> TestCommand.Outcome {
            try Tool.run(
                small("out"), environment: gated.environment(home: home, changes),
                launcher: .withoutPrivilege)
        }
        for token in ["\"hf_good\"", "'hf_good'", "“hf_good”"] {
            let outcome = try run(["HF_TOKEN": token])
            expect(outcome, exits: 64, saying: ["HF_TOKEN", "quotation marks"])
            #expect(!outcome.errors.contains("hf_good"))
        }
        let file = try folder.write("hf_good\n".utf8, "hf/token")
        expect(try run(["HF_TOKEN": ""]), exits: 0)
        try? FileManager.default.removeItem(atPath: home + "/hub")
        chmod(file, 0)
        defer { chmod(file, 0o600) }
        expect(
            try run([:]), exits: 69,
            saying: ["is gated", "the token file \(file) cannot be read (Permission denied)"])
    }
}
