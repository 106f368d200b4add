// Tests of the Hub's cache: read-only and damaged caches, and downloads that are killed or run at the same time.

import Files
import Foundation
import TestSupport
import Testing

extension HubTests {
    // MARK: The cache

    @Test func aReadOnlyCacheIsGoodForWhatItHas() throws {
        expect(try run(["fetch"] + arguments("out")), exits: 0)
        defer { try? shell("chmod -R u+w hf/hub") }
        try shell("chmod -R a-w hf/hub")
        expect(try run(arguments("online"), launcher: .withoutPrivilege), exits: 0)
        expect(
            try run(arguments("offline"), ["HF_HUB_OFFLINE": "1"], launcher: .withoutPrivilege),
            exits: 0)
    }

    @Test func aFileThatWasCutShortIsDownloadedAgain() throws {
        expect(try run(["fetch"] + arguments("out")), exits: 0)
        let shard = "model-00002-of-00003.safetensors"
        let snapshots = home + "/hub/models--google--gemma-2-2b/snapshots"
        let path = "\(snapshots)/\(try directoryContents(snapshots)[0])/\(shard)"
        truncate(path, 1000)
        let outcome = try run(["fetch"] + arguments("out"))
        expect(outcome, exits: 0)
        #expect(outcome.output.contains("to be downloaded: 1 file,"), "\(outcome.output)")
        try checkCache()
    }

    @Test func theVariablesOfPythonsCacheAreKnown() throws {
        let some = ["saes", "--layers", "0", "--layer_types", "res"]
        for (environment, place) in [
            (["HF_HOME": "~/a"], "a/hub"), (["HF_HUB_CACHE": "$HOME/b"], "b"),
            (["HUGGINGFACE_HUB_CACHE": folder.file("c")], "c"),
            (["XDG_CACHE_HOME": folder.file("d"), "HF_HOME": nil], "d/huggingface/hub"),
            (
                ["HF_ENDPOINT": hub.endpoint.replacing("http", with: "HTTP"), "HF_HOME": "~/e"],
                "e/hub"
            ),
            (["HF_HOME": nil], ".cache/huggingface/hub"),
        ] as [([String: String?], String)] {
            var all = environment
            all["HOME"] = folder.path
            expect(try run(some, all), exits: 0)
            #expect(
                isDirectory(folder.file(place + "/models--google--gemma-scope-2b-pt-res")),
                "\(place)")
        }
    }

    @Test func emptyFilesAreFiles() throws {
        let data = "hub/datasets/some/corpus"
        try folder.copy(TestData.tiny + "/authormix.jsonl", data + "/train-0.jsonl")
        try folder.write([], data + "/train-1.jsonl")
        let some = ["fetch", "--layers", "0", "--data_repo", "some/corpus"]
        // Makes an empty partial download, which a process leaves if it is killed before the first byte arrives.
        let empty = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
        let cached = "hf/hub/datasets--some--corpus"
        try folder.write([], "\(cached)/.sae-extract/\(empty)/1.partial")
        expect(try run(some), exits: 0)
        let snapshots = folder.file(cached + "/snapshots")
        let path = "\(snapshots)/\(try directoryContents(snapshots)[0])/train-1.jsonl"
        #expect(fileExists(path))
        try FileManager.default.removeItem(atPath: path)
        expect(try run(some), exits: 0)
        #expect(fileExists(path))
        try checkCache()
    }

    /// Checks that a partial download is continued in place. The disk has no room for a second copy of the file.
    @Test func whatIsThereNeedsNoRoomTwice() throws {
        let line = #"{"style": "a", "text": "\#(String(repeating: "word ", count: 200))"}"# + "\n"
        let content = Array(String(repeating: line, count: 6000).utf8)
        let digest = sha256(content)
        let data = try folder.write(content, "hub/datasets/some/corpus/train.jsonl")
        #expect(content.count > 6_000_000)
        let script = """
            set -e
            mkdir -p "$HF_HOME"
            mount -t tmpfs -o size=9m tmpfs "$HF_HOME"
            part="$HF_HOME/hub/datasets--some--corpus/.sae-extract/\(digest)"
            mkdir -p "$part"
            head -c 5500000 '\(data)' > "$part/1.partial"
            "$@"
            sha256sum < "$HF_HOME/hub/datasets--some--corpus/blobs/\(digest)"
            find "$HF_HOME" -name '*.partial' -printf 'left over: %p\\n'
            """
        let outcome = try run(
            [
                "fetch", "--layers", "0", "--data_repo", "some/corpus", "--model_path",
                TestData.tiny + "/model", "--sae_dir", TestData.tiny + "/sae",
            ],
            launcher: .mountNamespace(script))
        expect(outcome, exits: 0)
        #expect(outcome.output.contains(digest + "  -"), "\(outcome.output)\(outcome.errors)")
        #expect(!outcome.output.contains("left over"))
        let sent = try hub.requests().filter { $0.port == "storage" }.reduce(0) { $0 + $1.sent }
        #expect(sent < content.count, "\(sent)")
    }

    // MARK: Killed and simultaneous downloads

    private func startFetch() throws -> RunningCommand {
        try Tool.start(["fetch"] + arguments("out"), environment: hub.environment(home: home))
    }

    /// Runs `count` fetches at the same time and checks that all of them succeed.
    private func fetchAtOnce(_ count: Int) throws {
        for fetch in try (0..<count).map({ _ in try startFetch() }) { #expect(fetch.wait() == 0) }
    }

    /// The total size of all partial downloads, in bytes.
    private func partialBytes() -> Int {
        let paths = FileManager.default.enumerator(atPath: home)?.compactMap { $0 as? String } ?? []
        return paths.filter { $0.hasSuffix(".partial") }.reduce(0) {
            $0 + fileSize("\(home)/\($1)")
        }
    }

    @Test func killedDownloadsAreContinued() throws {
        try hub.setFaults(#"[{"port": "storage", "method": "GET", "rate": 300000}]"#)
        var most = 0
        for round in 1...6 {
            let fetch = try startFetch()
            // Kills the process when all partial downloads together have `round * 60_000` bytes.
            while fetch.isRunning, partialBytes() < round * 60_000 { usleep(1000) }
            fetch.stop()
            most = max(most, partialBytes())
        }
        #expect(partialBytes() > 0)
        try hub.setFaults("[]")
        expect(try run(["fetch"] + arguments("out")), exits: 0)
        try checkCache()
        let ranges = try hub.requests().filter { $0.port == "storage" }
            .compactMap { $0.headers["range"] }
        #expect(ranges.contains { !$0.hasPrefix("bytes=0-") }, "\(ranges)")
        // A complete download is 1.6 MB. Partial downloads must not pile up, and most bytes must be sent only once.
        #expect(most < 3_200_000, "\(most)")
        let sent = try hub.requests().filter(\.isForBody).reduce(0) { $0 + $1.sent }
        #expect(sent < 3 * 1_600_000, "\(sent)")
    }

    /// Checks a cache whose model folder is removed during a download. The same command must then succeed.
    @Test func aCacheThatIsClearedMeanwhile() throws {
        try hub.setFaults(#"[{"port": "storage", "method": "GET", "rate": 300000, "times": 12}]"#)
        let fetch = try startFetch()
        while fetch.isRunning, partialBytes() < 100_000 { usleep(1000) }
        let model = home + "/hub/models--google--gemma-2-2b"
        try FileManager.default.removeItem(atPath: model)
        let status = fetch.wait()
        // The first command may fail with exit code 74, because files that it had downloaded are gone.
        #expect([0, 74].contains(status))
        expect(try run(["fetch"] + arguments("out")), exits: 0)
        try checkCache()
    }

    @Test func equalFilesAreDownloadedOnce() throws {
        let data = "hub/datasets/some/corpus"
        for name in ["train-a.jsonl", "train-b.jsonl"] {
            try folder.copy(TestData.tiny + "/authormix.jsonl", "\(data)/\(name)")
        }
        let outcome = try run(["fetch", "--layers", "0", "--data_repo", "some/corpus"])
        expect(outcome, exits: 0)
        #expect(!outcome.errors.contains("waiting"))
        #expect(try hub.requests().count { $0.isForBody && $0.path.contains("train-") } <= 2)
        let offline = try run(
            ["fetch", "--layers", "0", "--data_repo", "some/corpus"], ["HF_HUB_OFFLINE": "1"])
        expect(offline, exits: 0)
        #expect(offline.output.contains("to be downloaded: 0 files"), "\(offline.output)")
    }

    @Test func eightAtOnceGiveOneGoodFileEach() throws {
        try hub.setFaults(#"[{"port": "storage", "method": "GET", "rate": 2000000}]"#)
        try fetchAtOnce(8)
        try checkCache()
        // While one process downloads a content, the other processes wait for it. So each content is sent about once.
        let sent = try hub.requests().filter { $0.port == "storage" }.reduce(0) { $0 + $1.sent }
        #expect(sent < 2 * 1_600_000, "\(sent)")
    }

    /// Checks several processes that cannot lock the cache. All must succeed, and the cache must be valid afterwards.
    @Test func withoutLocksTheFilesAreGoodToo() throws {
        let locks = home + "/hub/.locks"
        try folder.make("hf/hub")
        // A file in place of the folder `.locks` prevents all locks.
        try TestData.write([], to: locks)
        // Makes a partial download with wrong bytes, as if an earlier process had left it.
        let shard = try TestData.bytes(TestData.tiny + "/model/model-00002-of-00003.safetensors")
        let digest = sha256(shard)
        try folder.write(
            [UInt8](repeating: 7, count: 300_000),
            "hf/hub/models--google--gemma-2-2b/.sae-extract/\(digest)/1.partial")
        try hub.setFaults(#"[{"port": "storage", "method": "GET", "rate": 2000000}]"#)
        try fetchAtOnce(4)
        try checkCache()
    }
}
