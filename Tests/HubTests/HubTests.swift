// Tests of names, settings, lists and choices that need no server. Tests with a server are in CLITests.

import ByteJSON
import Files
import Foundation
import Logging
import TestSupport
import Testing

@testable import Hub

struct HubTests {
    private let folder: TemporaryFolder
    private let log = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    init() throws {
        folder = try TemporaryFolder()
    }

    // MARK: Names

    @Test func repositoriesAreNamedAsTheHubNamesThem() throws {
        let model = try #require(
            RepositoryReference(.model, "google/gemma-2-2b", revision: "refs/pr/1"))
        #expect(model.folderName == "models--google--gemma-2-2b")
        #expect(model.apiPath == "/api/models/google/gemma-2-2b")
        #expect(model.page == "/google/gemma-2-2b" && !model.isCommit)
        let dataset = try #require(
            RepositoryReference(
                .dataset, "hallisky/AuthorMix", revision: String(repeating: "a1", count: 20)))
        #expect(dataset.folderName == "datasets--hallisky--AuthorMix" && dataset.isCommit)
        #expect(dataset.page == "/datasets/hallisky/AuthorMix")
        #expect(RepositoryReference(.model, "gpt2", revision: "main") != nil)
        for (id, revision) in [
            ("", "main"), ("a/b/c", "main"), ("a/..", "main"), ("../b", "main"), ("a//b", "main"),
            ("a/b--c", "main"), ("a/b", ""), ("a/b", "../../x"), ("a/b", "/x"), ("a/b?x", "main"),
            ("a/b", "x y"), ("a/b\n", "main"), ("ä/b", "main"),
        ] {
            #expect(RepositoryReference(.model, id, revision: revision) == nil, "\(id) \(revision)")
        }
    }

    @Test func entityTagsLoseTheirQuotes() {
        for tag in ["abc", "\"abc\"", "W/\"abc\""] { #expect(entityTag(tag) == "abc") }
        // Only the prefix `W/` is removed, and not any sequence of the characters W and /.
        #expect(entityTag("WW/abc") == "WW/abc")
    }

    // MARK: Settings

    private func settings(_ environment: [String: String]) throws -> HubSettings {
        try HubSettings(environment: ["HOME": folder.path].merging(environment) { $1 })
    }

    @Test func theFirstVariableWins() throws {
        #expect(try settings([:]).endpoint == "https://huggingface.co")
        #expect(try settings(["HF_ENDPOINT": "http://h:1/x//"]).endpoint == "http://h:1/x")
        for (variables, place) in [
            ([:], "\(folder.path)/.cache/huggingface/hub"),
            (["XDG_CACHE_HOME": "/x"], "/x/huggingface/hub"),
            (["XDG_CACHE_HOME": "/x", "HF_HOME": "/h"], "/h/hub"),
            (["HF_HOME": "/h", "HUGGINGFACE_HUB_CACHE": "/o"], "/o"),
            (["HUGGINGFACE_HUB_CACHE": "/o", "HF_HUB_CACHE": "/n"], "/n"),
            (["HF_HUB_CACHE": "~/n"], "\(folder.path)/n"),
            (
                ["HF_HUB_CACHE": "${SCRATCH}/n/$USER/$NONE", "SCRATCH": "/s", "USER": "u"],
                "/s/n/u/$NONE"
            ),
            (["HF_HOME": ""], "\(folder.path)/.cache/huggingface/hub"),
            (["HOME": "/"], "/.cache/huggingface/hub"),
            (["HOME": "/h//"], "/h/.cache/huggingface/hub"),
            (["HF_HOME": "my cache/x"], "my cache/x/hub"),
        ] {
            #expect(try settings(variables).cacheDirectory == place)
        }
        for (variables, name) in [
            (["HF_HUB_OFFLINE": "1"], "HF_HUB_OFFLINE"), (["HF_HUB_OFFLINE": "0"], nil),
            (["HF_HUB_OFFLINE": "yes"], "HF_HUB_OFFLINE"),
            (["TRANSFORMERS_OFFLINE": "True"], "TRANSFORMERS_OFFLINE"),
            (["HF_HUB_OFFLINE": "", "TRANSFORMERS_OFFLINE": "on"], "TRANSFORMERS_OFFLINE"),
        ] as [([String: String], String?)] {
            #expect(try settings(variables).offlineVariable == name)
        }
    }

    @Test func theFirstTokenWins() throws {
        try folder.write("  from_file\n".utf8, ".cache/huggingface/token")
        try folder.write("elsewhere".utf8, "t")
        for (variables, secret) in [
            ([:], "from_file"), (["HUGGING_FACE_HUB_TOKEN": "old"], "old"),
            (["HUGGING_FACE_HUB_TOKEN": "old", "HF_TOKEN": "new\r\n"], "new"),
            (["HF_TOKEN": " "], "from_file"), (["HF_TOKEN_PATH": folder.file("t")], "elsewhere"),
            (["HF_HOME": folder.file("none")], nil),
            (["HF_TOKEN": "new", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"], nil),
        ] as [([String: String], String?)] {
            #expect(try settings(variables).token?.secret == secret)
        }
        for bad in ["a b", "a\nHost: evil", "ä"] {
            let error = #expect(throws: HubError.self) { try settings(["HF_TOKEN": bad]) }
            #expect(error.map { "\($0)".contains("HF_TOKEN") && !"\($0)".contains(bad) } == true)
        }
        let token = try #require(try settings(["HF_TOKEN": "secret"]).token)
        #expect("\(token)" == "the token from HF_TOKEN")
    }

    @Test(arguments: [
        ["HF_ENDPOINT": "huggingface.co"], ["HF_ENDPOINT": "ftp://h"], ["HF_ENDPOINT": "https://"],
        ["HF_ENDPOINT": "https://h?x=1"], ["HF_ENDPOINT": "https://me:pass@h"],
        ["HF_HUB_ETAG_TIMEOUT": "soon"], ["HF_HUB_DOWNLOAD_TIMEOUT": "0"],
        ["SAE_EXTRACT_RETRY_SECONDS": "nan"],
    ])
    func settingsThatCannotBe(variables: [String: String]) throws {
        let error = #expect(throws: HubError.self) { try settings(variables) }
        #expect(error.map { "\($0)".contains(variables.keys.first!) } == true)
    }

    // MARK: Lists

    private func json(_ text: String) throws -> JSONValue {
        try Array(text.utf8).withUnsafeBufferPointer { try JSONValue(parsing: $0) }
    }

    private let blob = String(repeating: "0a", count: 20)
    private let sha = String(repeating: "0b", count: 32)

    @Test func listingsSurviveTheCache() throws {
        var listing = RepositoryListing()
        let page = try json(
            """
            [{"type": "directory", "oid": "\(blob)", "size": 0, "path": "d"},
             {"type": "file", "oid": "\(blob)", "size": 7, "path": "d/é.json"},
             {"type": "file", "oid": "\(blob)", "size": 134, "path": "w.npz",
              "lfs": {"oid": "\(sha)", "size": 5000000000, "pointerSize": 134}}]
            """)
        let isList = listing.add(page: page)
        #expect(isList)
        #expect(
            listing["d/é.json"]
                == RepositoryFile(path: "d/é.json", size: 7, digest: .gitBlob(blob)))
        #expect(
            listing["w.npz"]
                == RepositoryFile(path: "w.npz", size: 5_000_000_000, digest: .sha256(sha)))
        var card = DatasetCard()
        card.configs = try json(#"[{"config_name": "a", "data_files": "*.json"}]"#)
        for (known, isChecked) in [(nil, false), (DatasetCard(), true), (card, false)] {
            listing.card = known
            listing.isChecked = isChecked
            var text: [UInt8] = []
            JSONText.append(listing.json, to: &text)
            let path = try folder.write(text, "listing.json")
            #expect(RepositoryListing(path: path) == listing)
        }
        // The form in which huggingface_hub 2 writes a list.
        let theirs = try folder.write(
            """
            {"format_version": 1, "files": {"c": {"size": 5, "blob_id": "\(blob)"},
             "w": {"size": 130, "blob_id": "\(blob)", "lfs_sha256": "\(sha)", "lfs_size": 9, "xet_hash": "x"}}}
            """.utf8, "theirs.json")
        let read = try #require(RepositoryListing(path: theirs))
        #expect(read["w"]?.size == 9 && read["w"]?.digest == .sha256(sha))
        #expect(read["c"]?.digest == .gitBlob(blob))
        #expect(read.card == nil && !read.isChecked, "the file has no card")
        let empty = try folder.write(#"{"format_version": 1, "files": {}}"#.utf8, "empty.json")
        #expect(RepositoryListing(path: empty) == nil, "no repository is empty")
    }

    /// Checks that a list counts as incomplete if it was cut short or if it has folders without files.
    @Test func listsThatLackFiles() throws {
        func flaw(_ page: String, _ names: [String]?) throws -> String? {
            var listing = RepositoryListing()
            let isList = listing.add(
                page: try json(
                    "[" + page.replacing("OID", with: "\"oid\": \"\(blob)\", \"size\": 1") + "]"))
            #expect(isList)
            let siblings = names.map { names in
                #", "siblings": ["#
                    + names.map { #"{"rfilename": "\#($0)"}"# }.joined(separator: ",") + "]"
            }
            let information = try #require(
                RepositoryInformation(try json(#"{"sha": "\#(blob)"\#(siblings ?? "")}"#)))
            return listing.flaw(information)
        }
        let one = #"{"type": "file", "path": "d/e/a", OID}"#
        let folders =
            #"{"type": "directory", "path": "d", OID}, {"type": "directory", "path": "d/e", OID}"#
        #expect(try flaw(one, nil) == nil)
        #expect(try flaw(one, []) == nil, "a mirror may name no files")
        #expect(try flaw(one, ["d/e/a"]) == nil)
        #expect(try flaw("\(folders), \(one)", ["d/e/a"]) == nil)
        // For a very large repository, the Hub's answer about a commit may leave out files.
        #expect(try flaw(#"\#(one), {"type": "file", "path": "b", OID}"#, ["b"]) == nil)
        #expect(try flaw("", nil) == "is empty")
        #expect(try flaw(folders, nil) == "is empty")
        #expect(
            try flaw(#"\#(one), {"type": "directory", "path": "f", OID}"#, nil)
                == "has the folder f but no file in this folder")
        #expect(
            try flaw(one, ["d/e/a", "z", "y"])
                == "lacks 2 of the 3 files named in the answer about the commit, such as y")
    }

    @Test(arguments: [
        #"{"type": "file"}"#, #"[{"path": "x"}]"#, #"[{"type": "file", "path": "x", "size": 1}]"#,
        #"[{"type": "file", "path": "../x", "size": 1, "oid": "BLOB"}]"#,
        #"[{"type": "file", "path": "a/../\u0301x", "size": 1, "oid": "BLOB"}]"#,
        #"[{"type": "file", "path": "/x", "size": 1, "oid": "BLOB"}]"#,
        #"[{"type": "file", "path": "a/./x", "size": 1, "oid": "BLOB"}]"#,
        #"[{"type": "file", "path": "x", "size": -1, "oid": "BLOB"}]"#,
        #"[{"type": "file", "path": "x", "size": 1, "oid": "../../../etc/passwd"}]"#,
        #"[{"type": "file", "path": "x", "size": 1, "oid": "BLOB", "lfs": {"oid": "zz", "size": 2}}]"#,
    ])
    func pagesThatAreNoLists(page: String) throws {
        var listing = RepositoryListing()
        let isList = listing.add(page: try json(page.replacing("BLOB", with: blob)))
        #expect(!isList)
    }

    // MARK: The cache

    private func cache(_ revision: String = "main") throws -> HubCache {
        HubCache(
            try #require(RepositoryReference(.model, "a/b", revision: revision)), in: folder.path)
    }

    @Test func theLayoutIsHuggingFaces() throws {
        let cache = try cache()
        #expect(cache.commit == nil)
        try cache.setCommit(blob)
        #expect(
            try TestData.bytes(folder.file("models--a--b/refs/main")) == Array(blob.utf8))
        #expect(cache.commit == blob)
        try folder.write("content".utf8, "models--a--b/blobs/\(sha)")
        let file = RepositoryFile(path: "", size: 7, digest: .sha256(sha))
        try cache.link("d/e/f.txt", of: blob, to: file)
        try cache.link("g.txt", of: blob, to: file)
        let snapshot = folder.file("models--a--b/snapshots/\(blob)")
        let files = FileManager.default
        #expect(
            try files.destinationOfSymbolicLink(atPath: snapshot + "/d/e/f.txt")
                == "../../../../blobs/\(sha)")
        #expect(
            try files.destinationOfSymbolicLink(atPath: snapshot + "/g.txt")
                == "../../blobs/\(sha)")
        #expect(try cache.files(of: blob) == ["d/e/f.txt", "g.txt"])
        #expect(cache.has("g.txt", of: blob, size: 7) && !cache.has("g.txt", of: blob, size: 8))
        // Linking again must replace the existing link.
        try cache.link("g.txt", of: blob, to: file)
        // A link to a content that does not exist must be an error.
        let other = RepositoryFile(path: "", size: 7, digest: .gitBlob(blob))
        #expect(throws: FileError.self) { try cache.link("h.txt", of: blob, to: other) }
        // A newline at the end, which some editors add, must not matter.
        try folder.write((blob + "\n").utf8, "models--a--b/refs/main")
        #expect(cache.commit == blob)
        try folder.write("../../x".utf8, "models--a--b/refs/main")
        #expect(cache.commit == nil)
        #expect(try self.cache(blob).commit == blob)
    }

    /// Checks that leftovers of killed processes are removed if they are old, or if their content is in the cache.
    @Test func leftoversGo() throws {
        let cache = try cache()
        let own = "models--a--b/.sae-extract/"
        let old = [
            try folder.write("x".utf8, own + "1.partial"), try folder.write([], own + "2.link"),
        ]
        for path in old {
            try FileManager.default.setAttributes(
                [.modificationDate: Date(timeIntervalSinceNow: -7200)], ofItemAtPath: path)
        }
        let new = try folder.write("x".utf8, own + "3.partial")
        let listing = try folder.write("{}".utf8, own + blob + ".json")
        let useful = try folder.write("x".utf8, own + sha + "/4.partial")
        let useless = try folder.write("x".utf8, own + blob + "/5.partial")
        try folder.write("content".utf8, "models--a--b/blobs/" + blob)
        cache.tidy()
        #expect([new, listing, useful].allSatisfy(fileExists))
        #expect(!(old + [useless]).contains(where: fileExists))
    }

    @Test func offlineOneFindsWhatIsThere() async throws {
        let reference = try #require(RepositoryReference(.model, "a/b", revision: "main"))
        let settings = try settings([
            "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": folder.path,
        ])
        let hub = Hub(settings, log: log)
        await #expect(throws: HubError.self) { try await hub.snapshot(reference) }
        try cache().setCommit(blob)
        try folder.write("x".utf8, "models--a--b/snapshots/\(blob)/layer_1/p.npz")
        let snapshot = try await hub.snapshot(reference)
        #expect(snapshot.commit == blob && !snapshot.isListed)
        #expect(try snapshot.paths() == ["layer_1/p.npz"])
        let there = [HubRequest(snapshot, ["layer_1/p.npz"])]
        try await hub.check(there)
        try await hub.download(there)
        let error = await #expect(throws: HubError.self) {
            try await hub.check([HubRequest(snapshot, ["q"])])
        }
        #expect(error.map { "\($0)".contains("q of a/b") } == true)
    }

    // MARK: Shards

    @Test func shardsThatLackAreNamed() {
        #expect(missingShards(["a.jsonl", "train-00000-of-00001.json"]) == [])
        #expect(
            missingShards(["d/train-00001-of-00003.json", "d/train-00002-of-00003.json"])
                == ["d/train-00000-of-00003.json"])
        // Each series of shards is checked separately. Digits of another script do not count as shard numbers.
        #expect(
            missingShards([
                "a-00000-of-00002.json", "b-00001-of-00002.json", "b-٠٠٠٠٠-of-٠٠٠٠٢.json",
            ])
                == ["a-00001-of-00002.json", "b-00000-of-00002.json"])
    }

    /// Checks a repository with thousands of shards. The test is slow unless each name is looked up in a set.
    @Test func manyShardsAreManyNames() {
        let paths = (0..<9000).map { index in
            let digits = "\(index)"
            return "train-\(String(repeating: "0", count: 5 - digits.count))\(digits)-of-09001.json"
        }
        #expect(missingShards(paths) == ["train-09000-of-09001.json"])
    }

    // MARK: Waiting

    private struct NoTransport: HTTPTransport {
        func send(
            _ request: HTTPRequest, body: @escaping BodyReceiver
        ) async throws -> HTTPResponse {
            throw NetworkFailure(reason: "there is no network")
        }
    }

    /// Checks that a text that is not a date, or that has digits of other scripts, gives no waiting time.
    @Test func onlyDatesAreWaitedFor() throws {
        let client = HubClient(try settings([:]), transport: NoTransport(), log: log)
        func pause(_ text: String) -> Double? {
            client.pause(HTTPResponse(status: 429, headers: ["retry-after": text]))
        }
        #expect(pause("Wed, 21 Oct 2015 07:28:00 GMT") == 0)
        #expect(pause("Fri, 31 Dec 9999 23:59:59 GMT") == 1e9)
        for text in [
            "Wed, ٢١ Oct 2015 07:28:00 GMT", "Wed, 21 Oct ٢٠١٥ 07:28:00 GMT",
            "Wed, 21 Oct 2015 07:28:0٠ GMT", "Wed, 21 anF 2015 07:28:00 GMT", "٧", "", "soon",
        ] {
            #expect(pause(text) == nil, "\(text)")
        }
    }
}
