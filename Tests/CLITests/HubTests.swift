// Tests of the real binary with a local server that answers like the Hub.

import ByteJSON
import Crypto
import Files
import Foundation
import TestSupport
import Testing

struct HubTests: UsingFolder {
    let folder: TemporaryFolder
    let hub: TestHub

    init() throws {
        folder = try TemporaryFolder()
        hub = try TestHub(fixtureIn: folder)
    }

    var home: String { folder.file("hf") }

    /// Returns the arguments of the fixture's main job, with all inputs from the Hub.
    func arguments(_ saveDirectory: String) -> [String] {
        [
            "--layers", "0", "1", "2", "3", "--n_docs_per_author", "6", "--batch_size", "4",
            "--save_dir", folder.file(saveDirectory),
        ]
    }

    func run(
        _ arguments: [String], home: String? = nil, _ environment: [String: String?] = [:],
        launcher: [String] = []
    ) throws -> TestCommand.Outcome {
        try Tool.run(
            arguments, environment: hub.environment(home: home ?? self.home, environment),
            launcher: launcher)
    }

    /// Checks the hashes of the blobs, the symlinks in the snapshots, and the number of partial downloads.
    func checkCache(
        _ home: String? = nil, leftovers: Int = 0, _ place: SourceLocation = #_sourceLocation
    ) throws {
        let root = (home ?? self.home) + "/hub"
        var blobs = 0
        var partials = 0
        let paths = try #require(FileManager.default.enumerator(atPath: root))
        for case let path as String in paths {
            let full = "\(root)/\(path)"
            if path.contains("/blobs/") {
                let name = path.split(separator: "/").last!
                let content = try TestData.bytes(full)
                let digest =
                    name.count == 64
                    ? sha256(content)
                    : Insecure.SHA1.hash(data: Array("blob \(content.count)\0".utf8) + content)
                        .map { String(format: "%02x", $0) }.joined()
                #expect(digest == name, sourceLocation: place)
                blobs += 1
            } else if path.contains(".sae-extract/"), path.hasSuffix(".partial") {
                // Counts only files in folders that are named by a hash. A killed process may leave other `.partial`
                // files, which do no harm.
                partials += path.contains(/\.sae-extract\/[0-9a-f]{40,64}\//) ? 1 : 0
            } else if path.contains("/snapshots/"), !isDirectory(full) {
                let target = try FileManager.default.destinationOfSymbolicLink(atPath: full)
                #expect(target.hasPrefix("../") && fileExists(full), sourceLocation: place)
            }
        }
        #expect(blobs > 0, sourceLocation: place)
        #expect(partials == leftovers, sourceLocation: place)
    }

    // MARK: Complete runs

    @Test func anEmptyCacheGivesTheBytesOfLocalPaths() throws {
        expect(try Tool.run(Tool.tinyArguments(saveDirectory: folder.file("local"))), exits: 0)
        let expected = try results("local")
        #expect(expected.count == 80)

        expect(try run(arguments("first")), exits: 0, saying: ["downloading 17 files"])
        #expect(try results("first") == expected)
        try checkCache()
        let bodies = try hub.requests().filter(\.isForBody)
        #expect(bodies.allSatisfy { $0.headers["accept-encoding"] == "identity" })
        // The run must not download files that it does not need, such as another tokenizer or other SAEs.
        #expect(!bodies.contains { $0.path.contains("tokenizer.model") })
        #expect(!bodies.contains { $0.path.contains("width_65k") })

        try hub.clearLog()
        expect(try run(arguments("second")), exits: 0)
        #expect(try results("second") == expected)
        #expect(try hub.requests().count { $0.isForBody } == 0)
        #expect(try !hub.requests().contains { $0.path.contains("/tree/") })

        hub.stop()
        expect(try run(arguments("third"), ["HF_HUB_OFFLINE": "1"]), exits: 0)
        #expect(try results("third") == expected)
        // If the Hub does not answer, the run must use the files in the cache, even without HF_HUB_OFFLINE.
        let outcome = try run(arguments("fourth"))
        expect(outcome, exits: 0, saying: ["cannot reach", "using the cache for"])
        #expect(try results("fourth") == expected)
    }

    @Test func theManifestNamesCommits() throws {
        expect(try run(arguments("out") + ["--n_docs", "1"]), exits: 0)
        let bytes = try TestData.bytes(folder.file("out/run.json"))
        let value = try bytes.withUnsafeBufferPointer { try JSONValue(parsing: $0) }
        let entry = try #require(value.object?["runs"]?.array?.first?.object)
        let main = try TestData.bytes(home + "/hub/models--google--gemma-2-2b/refs/main")
        let model = try #require(entry["model"]?.object)
        #expect(model["repository"]?.string == "google/gemma-2-2b")
        #expect(model["revision"]?.string == "main")
        #expect(model["commit"]?.string == String(decoding: main, as: UTF8.self))
        #expect(entry["corpus"]?.object?["repository"]?.string == "hallisky/AuthorMix")
        let saes = try #require(entry["saes"]?.array).compactMap(\.object)
        #expect(
            Set(saes.compactMap { $0["repository"]?.string })
                == Set(["res", "mlp", "att"].map { "google/gemma-scope-2b-pt-\($0)" }))
        #expect(saes.allSatisfy { $0["commit"]?.string?.count == 40 })
    }

    @Test func fetchThenNoNetwork() throws {
        let dry = try run(["fetch"] + arguments("out") + ["--dry_run"])
        expect(dry, exits: 0)
        #expect(dry.output.contains("to be downloaded: 17 files, 1.6 MB"), "\(dry.output)")
        #expect(dry.output.contains("layer_2/width_16k/average_l0_51/params.npz"))
        // A dry run downloads only the small files that say which other files are needed.
        let small = try hub.requests().filter(\.isForBody).map(\.path)
        #expect(small.allSatisfy { $0.contains("config.json") || $0.contains("index.json") })

        let fetched = try run(["fetch"] + arguments("out"))
        expect(fetched, exits: 0)
        #expect(fetched.output.contains("HF_HUB_OFFLINE=1"))
        #expect(!fileExists(folder.file("out")))
        hub.stop()
        expect(try run(arguments("out"), ["TRANSFORMERS_OFFLINE": "yes"]), exits: 0)
        let again = try run(["fetch"] + arguments("out"), ["HF_HUB_OFFLINE": "1"])
        expect(again, exits: 0)
        #expect(again.output.contains("to be downloaded: 0 files"))
    }

    @Test func aDryRunDownloadsNothingLarge() throws {
        let outcome = try run(arguments("out") + ["--dry_run"])
        expect(outcome, exits: 0)
        #expect(outcome.output.contains("to be downloaded: 17 files"))
        #expect(outcome.output.contains("sae-extract fetch --layers 0 1 2 3"))
        // The advised command must download the files, so it must not contain `--dry_run`.
        #expect(!outcome.output.contains("--dry_run"))
        #expect(try !hub.requests().contains { $0.port == "storage" && $0.method == "GET" })
        #expect(!fileExists(folder.file("out")))
    }

    @Test func theAdviceIsACommandThatHelps() throws {
        let offline: [String: String?] = ["HF_HUB_OFFLINE": "1"]
        for (arguments, environment, command) in [
            (["--layers", "0", "--dry_run"], [:], "`sae-extract fetch --layers 0`"),
            (
                ["--save_dir", "o p"], ["SAE_EXTRACT_LAYERS": "0,1"],
                "`sae-extract fetch --layers 0 1 --save_dir 'o p'`"
            ),
            (
                ["--n_docs", "3", "fetch", "--layers", "0"], [:],
                "`sae-extract fetch --n_docs 3 --layers 0`"
            ),
            (["saes"], [:], "`sae-extract fetch --layers ...`"),
        ] as [([String], [String: String?], String)] {
            let outcome = try run(arguments, offline.merging(environment) { $1 })
            expect(outcome, exits: 69, saying: [command])
        }
    }

    /// Checks that a new commit uses the files that were downloaded for the previous commit.
    @Test func anUpdateKeepsWhatIsThere() throws {
        let name = "gemma-scope-2b-pt-res"
        let repository = "\(hub.root)/models/google/\(name)"
        try FileManager.default.removeItem(atPath: repository)
        try folder.copy("\(TestData.tiny)/sae/\(name)", "hub/models/google/\(name)")
        let res = ["--layer_types", "res", "--save_dir", folder.file("out")]
        expect(try run(["fetch", "--layers", "0"] + res), exits: 0)
        try folder.write("news".utf8, "hub/models/google/\(name)/NEWS.md")
        expect(try run(["fetch", "--layers", "1"] + res), exits: 0)
        expect(
            try run(["--layers", "0", "--n_docs", "1"] + res, ["HF_HUB_OFFLINE": "1"]), exits: 0)
    }

    /// Checks that a run succeeds with a token that the Hub refuses, if the cache has all files of the run.
    @Test func aRefusedTokenStopsNothingThatIsThere() throws {
        expect(try run(["fetch"] + arguments("out")), exits: 0)
        expect(
            try run(arguments("out") + ["--n_docs", "1"], ["HF_TOKEN": "hf_old"]), exits: 0,
            saying: ["does not accept the token from HF_TOKEN", "using the cache for"])
    }

    @Test func thePartsMayComeFromDifferentPlaces() throws {
        let tiny = TestData.tiny
        let mixed =
            arguments("out") + [
                "--sae_dir", tiny + "/sae", "--data_path", tiny + "/authormix.jsonl",
            ]
        expect(try run(mixed + ["--n_docs", "3"]), exits: 0)
        #expect(
            try !hub.requests().contains { $0.path.contains("scope") || $0.path.contains("Mix") })
        let outcome = try run(mixed + ["--n_docs", "3", "--sae_revision", "v1"])
        expect(outcome, exits: 0, saying: ["--sae_revision v1 has no effect"])
    }

    // MARK: Revisions

    @Test func revisionsAreBranchesTagsAndCommits() throws {
        for (name, model) in [("v1.0", "model-single"), ("refs%2Fpr%2F1", "model-single")] {
            try folder.link("hub/models/google/gemma-2-2b@\(name)", to: "\(TestData.tiny)/\(model)")
        }
        let some = ["--layers", "0", "--layer_types", "res", "--n_docs", "2"]
        func run(_ revision: String, _ name: String, _ more: [String: String?] = [:]) throws {
            let outcome = try self.run(
                some + ["--revision", revision, "--save_dir", folder.file(name)], more)
            expect(outcome, exits: 0)
        }
        try run("main", "main")
        try run("v1.0", "tag")
        try run("refs/pr/1", "pull")
        let root = home + "/hub/models--google--gemma-2-2b"
        let commit = String(
            decoding: try TestData.bytes(root + "/refs/refs/pr/1"), as: UTF8.self)
        #expect(
            try TestData.bytes(root + "/refs/v1.0") == Array(commit.utf8), "one tree, one commit")
        try hub.clearLog()
        try run(commit, "commit")
        // A commit never changes, so the program must send no request about the model.
        #expect(try !hub.requests().contains { $0.path.contains("gemma-2-2b") })
        let results = try ["main", "tag", "pull", "commit"].map {
            try Tool.results(in: folder.file($0))
        }
        #expect(results[0] != results[1] && results[1] == results[2] && results[2] == results[3])
        // Offline, a revision that is not in the cache must be an error, although the cache has other revisions.
        let offline = try self.run(
            some + ["--revision", "v2", "--save_dir", folder.file("x")], ["HF_HUB_OFFLINE": "1"])
        expect(
            offline, exits: 69,
            saying: ["HF_HUB_OFFLINE is set", "revision v2", "sae-extract fetch --layers 0"])
    }

    /// Checks that a run without the network uses the old commit while the download of the new commit is incomplete.
    @Test func anUnfinishedUpdateHidesNothing() throws {
        let some = ["--layers", "0", "--layer_types", "res", "--n_docs", "2"]
        expect(try run(some + ["--save_dir", folder.file("old")]), exits: 0)
        let corpus = hub.root + "/datasets/hallisky/AuthorMix/train.jsonl"
        let content = try TestData.bytes(corpus)
        try FileManager.default.removeItem(atPath: corpus)
        try TestData.write(content + Array("\n".utf8), to: corpus)
        try hub.setFaults(#"[{"method": "GET", "path": "resolve.*train", "status": 503}]"#)
        expect(try run(some + ["--save_dir", folder.file("new")]), exits: 69, saying: ["503"])
        let offline = try run(
            some + ["--save_dir", folder.file("offline")], ["HF_HUB_OFFLINE": "1"])
        expect(offline, exits: 0)
        #expect(try results("offline") == results("old"))
        try hub.setFaults("[]")
        expect(try run(some + ["--save_dir", folder.file("new")]), exits: 0)
        let snapshots = home + "/hub/datasets--hallisky--AuthorMix/snapshots"
        #expect(try directoryContents(snapshots).count == 2)
    }

    // MARK: Lists of files and SAEs

    @Test func longListsComeInPages() throws {
        let paged = try TestHub(root: hub.root, options: ["--page", "3", "--lfs_above", "100000"])
        let outcome = try Tool.run(
            ["saes", "--layers", "2"], environment: paged.environment(home: home))
        expect(outcome, exits: 0)
        #expect(try paged.requests().count { $0.path.contains("cursor=") } > 10)
        #expect(outcome.output.contains("res       2  16k    9 51* 102"), "\(outcome.output)")
    }

    /// Checks that the next page of a list comes from the mirror, although the link to this page names another
    /// server.
    @Test func theNextPageIsOfTheOneThatWasAsked() throws {
        let paged = try TestHub(root: hub.root, options: ["--page", "3"])
        let tree = "/api/models/google/gemma-scope-2b-pt-res/tree/"
        let first = try Tool.run(
            ["saes", "--layer_types", "res"], environment: paged.environment(home: home))
        expect(first, exits: 0)
        let second = try #require(
            try paged.requests().first { $0.path.hasPrefix(tree) && $0.path.contains("cursor") })
        try paged.setFaults(
            #"[{"path": "tree/[0-9a-f]*.recursive=true$", "times": 1, "status": 200, "body": "[]", "headers": {"Link": "<https://me:word@huggingface.test:4/\#(second.path.dropFirst())>; rel=\"next\""}}]"#
        )
        let outcome = try Tool.run(
            ["saes", "--layer_types", "res"],
            environment: paged.environment(home: folder.file("other")))
        expect(outcome, exits: 0)
        // The first page was replaced by an empty page. The program must still read the later pages.
        #expect(outcome.output.contains("res      10  16k    50*"), "\(outcome.output)")
    }

    @Test func theTableMarksWhatWouldBeTaken() throws {
        let table = try run(["saes", "--target_l0", "100", "--layer_types", "res"])
        expect(table, exits: 0)
        for row in ["res       0  16k    13 46 105*", "res       0  65k    50", "res      10  16k"]
        {
            #expect(table.output.contains(row), "\(table.output)")
        }
        #expect(try !hub.requests().contains { $0.isForBody })
        let local = try Tool.run([
            "saes", "--target_l0", "100", "--layer_types", "res", "--sae_dir",
            TestData.tiny + "/sae",
        ])
        #expect(local.output == table.output)
        // The program has stored the list in the cache, so it can print the table offline.
        let offline = try run(
            ["saes", "--layers", "0", "--layer_types", "res"], ["HF_HUB_OFFLINE": "1"])
        #expect(offline.output.contains("13 46* 105"), "\(offline.errors)")
    }

    @Test func aWidthThatDoesNotExistListsThoseThatDo() throws {
        let outcome = try run(arguments("out") + ["--sae_features", "131k"])
        expect(
            outcome, exits: 64,
            saying: [
                "google/gemma-scope-2b-pt-res/layer_0 has no SAE of width 131k",
                "existing widths: 16k, 65k", "change --sae_features",
            ])
        #expect(try !hub.requests().contains { $0.port == "storage" && $0.method == "GET" })
        expect(
            try run(["--layers", "9", "--save_dir", folder.file("out")]), exits: 64,
            saying: ["--layers", "9 is out of range", "4 layers"])
    }

    // MARK: Corpora

    @Test func datasetsInOtherForms() throws {
        let text = String(
            decoding: try TestData.bytes(TestData.tiny + "/authormix.jsonl"), as: UTF8.self)
        let lines = text.split(separator: "\n").map { $0 + "\n" }
        let half = lines.count / 2
        let root = "hub/datasets/some/corpus"
        try folder.write(lines[..<half].joined().utf8, root + "/data/train-00000-of-00002.jsonl")
        try folder.write(lines[half...].joined().utf8, root + "/data/train-00001-of-00002.jsonl")
        try folder.write("not JSON".utf8, root + "/data/test-00000-of-00001.jsonl")
        try folder.write("a dataset".utf8, root + "/README.md")
        let some = ["--layers", "0", "--layer_types", "att", "--n_docs_per_author", "3"]
        let inShards = some + ["--data_repo", "some/corpus", "--save_dir", folder.file("shards")]
        expect(try run(inShards), exits: 0)
        expect(try run(some + ["--save_dir", folder.file("one")]), exits: 0)
        #expect(try results("shards") == results("one"))

        // The dataset card must take precedence over the file names.
        try folder.write(
            #"{"configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/test-*"}]}]}"#
                .utf8, root + "/.card.json")
        expect(
            try run(some + ["--data_repo", "some/corpus", "--save_dir", folder.file("card")]),
            exits: 65, saying: ["data/test-00000-of-00001.jsonl, line 1", "is text, not JSONL"])

        // The card of the earlier request is stored in the cache, so it must also count offline.
        let offline = try run(
            some + ["--data_repo", "some/corpus", "--save_dir", folder.file("off")],
            ["HF_HUB_OFFLINE": "1"])
        expect(offline, exits: 65, saying: ["data/test-00000-of-00001.jsonl, line 1"])

        try folder.write(
            #"{"configs": [{"config_name": "en"}, {"config_name": "fr"}]}"#.utf8,
            root + "/.card.json")
        expect(
            try run(some + ["--data_repo", "some/corpus", "--save_dir", folder.file("several")]),
            exits: 64, saying: ["several configurations", "en, fr", "--data_path"])

        try folder.write([1], "hub/datasets/some/parquet/train.parquet")
        expect(
            try run(some + ["--data_repo", "some/parquet", "--save_dir", folder.file("p")]),
            exits: 64, saying: ["some/parquet", "only parquet files", "--data_path"])
    }

    // MARK: Tokens and gates

    @Test func gatedModels() throws {
        let gated = try TestHub(
            root: hub.root,
            options: [
                "--gated", "google/gemma-2-2b", "--token", "hf_good", "--denied_token", "hf_poor",
            ])
        func run(_ token: String?) throws -> TestCommand.Outcome {
            try Tool.run(
                arguments("out") + ["--n_docs", "2"],
                environment: gated.environment(home: home, ["HF_TOKEN": token]))
        }
        let page = "visit \(gated.endpoint)/google/gemma-2-2b"
        expect(try run(nil), exits: 69, saying: ["google/gemma-2-2b is gated", page, "HF_TOKEN"])
        expect(
            try run("hf_poor"), exits: 69, saying: ["from HF_TOKEN has no access", page])
        expect(
            try run("hf_wrong"), exits: 69, saying: ["does not accept the token from HF_TOKEN"])
        expect(try run("hf_good"), exits: 0)
    }

    @Test func aTokenGoesToTheHubAloneAndIntoNoFile() throws {
        let secret = "hf_VerySecretIndeed"
        let gated = try TestHub(
            root: hub.root,
            options: ["--gated", "google/gemma-2-2b", "--token", secret, "--lfs_above", "100000"])
        try folder.write((secret + "\n").utf8, "hf/token")
        for (name, environment) in [
            ("file", [:]), ("variable", ["HF_TOKEN": secret]),
            ("old", ["HUGGING_FACE_HUB_TOKEN": secret]),
        ] as [(String, [String: String?])] {
            try? FileManager.default.removeItem(atPath: home + "/hub")
            let outcome = try Tool.run(
                arguments(name) + ["--n_docs", "2", "--log_level", "trace"],
                environment: gated.environment(home: home, environment))
            expect(outcome, exits: 0)
            #expect(!(outcome.errors + outcome.output).contains(secret))
            let written = try #require(FileManager.default.enumerator(atPath: folder.path))
            for case let path as String in written
            where path != "hf/token" && !isDirectory(folder.file(path)) {
                let content = try TestData.text(folder.file(path))
                #expect(!content.contains(secret), "\(path)")
            }
        }
        let requests = try gated.requests()
        #expect(requests.count { $0.headers["authorization"] == "Bearer " + secret } > 20)
        let storage = requests.filter { $0.port == "storage" }
        #expect(storage.count > 20 && storage.allSatisfy { $0.headers["authorization"] == nil })
    }

    /// Checks that a token is not sent over plain http to another machine. Here `hub` is a proxy that could read it.
    @Test func aTokenIsNotSentInTheOpen() throws {
        let outcome = try run(
            arguments("out") + ["--n_docs", "2"],
            ["HF_ENDPOINT": "http://hub.test", "http_proxy": hub.endpoint, "HF_TOKEN": "hf_x"])
        expect(outcome, exits: 0, saying: ["the token from HF_TOKEN is not sent", "not https"])
        let requests = try hub.requests()
        #expect(requests.contains { $0.headers["host"] == "hub.test" })
        #expect(requests.allSatisfy { $0.headers["authorization"] == nil })
    }

    /// Checks that requests to this machine do not go through a proxy, because the proxy would see the token.
    @Test func noProxyStandsBeforeThisMachine() throws {
        let other = try TestHub(root: hub.root, options: ["--token", "hf_x"])
        let proxied = try TestHub(root: hub.root, options: ["--token", "hf_x"])
        for variable in ["http_proxy", "ALL_PROXY"] {
            let outcome = try Tool.run(
                ["saes", "--layers", "0"],
                environment: other.environment(
                    home: folder.file(variable), [variable: proxied.endpoint, "HF_TOKEN": "hf_x"]))
            expect(outcome, exits: 0)
        }
        #expect(try proxied.requests().isEmpty)
        #expect(try other.requests().contains { $0.headers["authorization"] != nil })
    }

    @Test func whatAServerEchoesIsNotPrinted() throws {
        let secret = "hf_VerySecretIndeed"
        let own = try TestHub(root: hub.root, options: ["--token", secret])
        for fault in [
            #"{"path": "config", "headers": {"X-Repo-Commit": "SECRET", "Location": "/"}, "status": 307}"#,
            #"{"status": 400, "headers": {"X-Error-Message": "bad token SECRET"}}"#,
            #"{"status": 400, "body": "{\"error\": \"SEC\\u0007RET\"}"}"#,
            #"{"path": "config", "redirect": "/SECRET/x"}"#,
            #"{"path": "config", "redirect": "http://SECRET/x"}"#,
        ] {
            let halves = (secret.prefix(6), secret.dropFirst(6))
            try own.setFaults(
                "["
                    + fault.replacing("SECRET", with: secret)
                    .replacing("SEC\\u0007RET", with: "\(halves.0)\\u0007\(halves.1)") + "]")
            let outcome = try Tool.run(
                arguments("out") + ["--log_level", "trace"],
                environment: own.environment(
                    home: home, ["HF_TOKEN": secret]))
            #expect(outcome.status != 0)
            #expect(!outcome.errors.lowercased().contains(secret.lowercased()), "\(outcome.errors)")
        }
    }
}
