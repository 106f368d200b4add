// Tests of caches that are read-only, full, in a place that cannot be used, or written by other tools. Also tests of
// messages that name the environment variable from which a setting came.

import ByteJSON
import Files
import Foundation
import TestSupport
import Testing

extension HubTests {
    /// Returns the arguments of a run with one layer of one site, with all inputs from the Hub.
    func small(_ saveDirectory: String) -> [String] {
        [
            "--layers", "0", "--layer_types", "res", "--n_docs", "2", "--save_dir",
            folder.file(saveDirectory),
        ]
    }

    /// Returns a launcher that runs `script` and then the command in a separate mount namespace.
    func mounted(_ script: String) -> [String] {
        .mountNamespace("set -e; \(script)\n\"$@\"")
    }

    /// Gives the Hub a model repository that the test can change. Returns the repository's folder in the cache.
    func ownModel() throws -> String {
        let model = "hub/models/google/gemma-2-2b"
        try FileManager.default.removeItem(atPath: folder.file(model))
        try folder.copy(TestData.tiny + "/model", model)
        try shell("chmod -R u+w \(model)")
        return home + "/hub/models--google--gemma-2-2b"
    }

    func commits(_ repository: String) throws -> [String] {
        try directoryContents(repository + "/snapshots")
    }

    // MARK: Read-only and full caches

    /// Checks a cache that cannot be written to and lacks the Hub's new commit. The run must use the old commit if
    /// the needed files are the same in both.
    @Test(arguments: ["chmod", "read-only", "full"])
    func aCacheThatCannotBeAddedTo(kind: String) throws {
        let repository = try ownModel()
        expect(try run(small("first")), exits: 0)
        let old = try #require(try commits(repository).first)
        try folder.write("news".utf8, "hub/models/google/gemma-2-2b/README.md")
        defer { try? shell("chmod -R u+w hf") }
        let launcher: [String]
        switch kind {
        case "chmod":
            try shell("chmod -R a-w hf")
            launcher = .withoutPrivilege
        case "read-only":
            launcher = mounted(
                "mount --bind \"$HF_HOME\" \"$HF_HOME\"; mount -o remount,bind,ro \"$HF_HOME\"")
        default:
            launcher = mounted(
                """
                cp -a "$HF_HOME" "$HF_HOME.full"
                mount -t tmpfs -o size=20m,nr_inodes=400 tmpfs "$HF_HOME"
                cp -a "$HF_HOME.full/." "$HF_HOME"
                i=0; while : 2>/dev/null >"$HF_HOME/filler$i"; do i=$((i + 1)); done 2>/dev/null
                """)
        }
        expect(
            try run(small("second"), launcher: launcher), exits: 0,
            saying: [
                "google/gemma-2-2b is at commit", "nothing can be added to the cache",
                "using the identical files of commit \(old)",
            ])
        #expect(try results("second") == results("first"))
        let entry = try recordedRuns("second").first
        #expect(entry?["model"]?.object?["commit"]?.string == old)
        #expect(try commits(repository) == [old])

        // If a needed file has changed in the new commit, the run must fail and name the old commit. With the old
        // commit as `--revision`, the run must succeed.
        let config = hub.root + "/models/google/gemma-2-2b/config.json"
        try TestData.write(try TestData.bytes(config) + Array("\n".utf8), to: config)
        expect(
            try run(small("third"), launcher: launcher), exits: 74,
            saying: [
                "config.json of google/gemma-2-2b", "\(home)/hub (from HF_HOME)", "Set HF_HOME",
                old,
            ])
        #expect(!fileExists(folder.file("third")))
        expect(try run(small("fourth") + ["--revision", old], launcher: launcher), exits: 0)
        #expect(try commits(repository) == [old])
    }

    /// Checks a cache with copies in place of symlinks, which huggingface_hub writes on some systems.
    @Test(arguments: [false, true]) func aCacheOfCopies(isReadOnly: Bool) throws {
        let repository = try ownModel()
        expect(try run(small("first")), exits: 0)
        let old = try #require(try commits(repository).first)
        try shell(
            """
            cd '\(repository)'
            for f in snapshots/*/*; do cp --remove-destination "$(realpath "$f")" "$f"; done
            rm -r blobs .sae-extract
            """)
        try folder.write("news".utf8, "hub/models/google/gemma-2-2b/README.md")
        try hub.clearLog()
        if isReadOnly { try shell("chmod -R a-w hf") }
        defer { try? shell("chmod -R u+w hf") }
        let outcome = try run(small("second"), launcher: isReadOnly ? .withoutPrivilege : [])
        expect(outcome, exits: 0, saying: isReadOnly ? ["identical files of commit \(old)"] : [])
        #expect(try results("second") == results("first"))
        #expect(try !hub.requests().contains(where: \.isForBody))
        #expect(try commits(repository).count == (isReadOnly ? 1 : 2))
        // A copy with the right size but wrong bytes must not be used.
        try shell("chmod -R u+w hf; rm -rf '\(repository)/blobs' '\(repository)/.sae-extract'")
        try shell(
            "rm -rf $(ls -d '\(repository)'/snapshots/* | grep -v \(old)); sed -i s/10000.0/10001.0/ '\(repository)/snapshots/\(old)/config.json'"
        )
        expect(try run(small("third")), exits: 0)
        #expect(try results("third") == results("first"))
        #expect(try hub.requests().contains { $0.isForBody && $0.path.contains("config.json") })
    }

    @Test func whatCannotBeReadIsNamed() throws {
        let repository = try ownModel()
        expect(try run(["fetch"] + small("out")), exits: 0)
        defer { try? shell("chmod -R u+rwX hf") }
        for (path, mode) in [("refs/main", "000"), ("snapshots", "000")] {
            try shell("rm -rf '\(repository)/.sae-extract'; chmod \(mode) '\(repository)/\(path)'")
            expect(
                try run(small("out"), ["HF_HUB_OFFLINE": "1"], launcher: .withoutPrivilege),
                exits: 69,
                saying: ["HF_HUB_OFFLINE is set", "\(repository)/\(path): Permission denied"])
            try shell("chmod -R u+rwX '\(repository)'")
        }
    }

    @Test func whereTheCacheIsAndWhoSaysSo() throws {
        let nowhere = [String].withoutPrivilege + ["/usr/bin/env"]
        for (changes, words) in [
            (["HOME=/proc", "-u", "HF_HOME"], ["/proc/.cache/huggingface/hub (from HOME)"]),
            (
                ["XDG_CACHE_HOME=/proc", "-u", "HF_HOME"],
                ["/proc/huggingface/hub (from XDG_CACHE_HOME)"]
            ),
            (["HF_HOME=/proc/x"], ["/proc/x/hub (from HF_HOME)"]),
            (["HF_HUB_CACHE=/proc/y"], ["/proc/y (from HF_HUB_CACHE)"]),
        ] {
            let options = changes.filter { $0.hasPrefix("-") || $0 == "HF_HOME" }
            let launcher = nowhere + options + changes.filter { $0.contains("=") }
            expect(
                try run(small("out"), launcher: launcher), exits: 74,
                saying: words + ["Set HF_HOME to a folder that you may write to"])
            // A run with only local inputs must not use the cache.
            expect(
                try run(
                    Tool.tinyArguments(saveDirectory: folder.file("local")) + ["--dry_run"],
                    launcher: launcher), exits: 0)
        }
    }

    /// Checks that a variable with invalid UTF-8 is refused. Swift would replace the bytes, and so change a path.
    @Test func variablesThatAreNotUTF8() throws {
        let odd = folder.file("caf")
        for variable in ["HF_HOME", "HF_HUB_CACHE", "HF_TOKEN_PATH"] {
            expect(
                try run(
                    small("out"),
                    launcher: .shell("export \(variable)='\(odd)'$'\\xe9'; \"$@\"")), exits: 64,
                saying: ["\(variable): is not valid UTF-8"])
        }
        expect(
            try run(
                ["--layers", "0"],
                launcher: .shell("export SAE_EXTRACT_SAVE_DIR='\(odd)'$'\\xe9'; \"$@\"")),
            exits: 64, saying: ["SAE_EXTRACT_SAVE_DIR: is not valid UTF-8"])
        #expect(try !directoryContents(folder.path).contains { $0.hasPrefix("caf") })
    }

    @Test func aFlagFromTheEnvironmentIsNamedWithItsVariable() throws {
        let layers = ["SAE_EXTRACT_LAYERS": "99"] as [String: String?]
        expect(
            try Tool.run(
                Array(Tool.tinyArguments(saveDirectory: folder.file("out")).dropFirst(5)),
                environment: layers), exits: 64,
            saying: ["--layers (SAE_EXTRACT_LAYERS): 99 is out of range"])
        expect(
            try Tool.run(["--layers", "0"], environment: ["SAE_EXTRACT_N_DOCS": "many"]), exits: 64,
            saying: ["'many' is invalid", "--n_docs comes from SAE_EXTRACT_N_DOCS"])
        let own = try Tool.run(["--layers", "0", "--n_docs", "many"])
        #expect(!own.errors.contains("comes from"))
    }
}
