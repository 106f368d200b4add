// Tests of caches that have several commits, are read-only, or have symlinks in place of folders.

import ByteJSON
import Files
import Foundation
import TestSupport
import Testing

extension HubTests {
    private var saes: String { "hub/models/google/gemma-scope-2b-pt-res" }

    /// Gives the Hub an SAE repository that the test can change. Returns the repository's folder in the cache.
    private func ownSAEs() throws -> String {
        try FileManager.default.removeItem(atPath: folder.file(saes))
        let source = try #require(
            ["/sae/gemma-scope-2b-pt-res", "/sae/res"].map { TestData.tiny + $0 }.first(
                where: isDirectory))
        try shell("cp -rL '\(source)' '\(saes)'; chmod -R u+w '\(saes)'")
        return home + "/hub/models--google--gemma-scope-2b-pt-res"
    }

    private func change(_ text: String) throws { try folder.write(text.utf8, saes + "/NOTE") }

    private func commits(in saveDirectory: String) throws -> (model: String?, sae: String?) {
        let entry = try recordedRuns(saveDirectory).first
        return (
            entry?["model"]?.object?["commit"]?.string,
            entry?["saes"]?.array?.first?.object?["commit"]?.string
        )
    }

    // MARK: Read-only caches

    /// Checks a read-only cache that lacks the Hub's newest commit. The run must use an older commit if the needed
    /// files are the same in both.
    @Test func theCommitThatHasWhatIsNeeded() throws {
        let repository = try ownSAEs()
        expect(try run(small("first")), exits: 0)
        let first = try #require(try commits(repository).first)
        try change("2")
        expect(try run(["fetch"] + small("x") + ["--layers", "1", "2", "3"]), exits: 0)
        try change("3")
        defer { try? shell("chmod -R u+w hf") }
        try shell("chmod -R a-w hf")
        expect(
            try run(small("second"), launcher: .withoutPrivilege), exits: 0,
            saying: ["using the identical files of commit \(first)"])
        #expect(try commits(in: "second").sae == first)
        #expect(try results("second") == results("first"))
        // This run needs layers 0 and 1, which are in two different commits of the cache.
        let both = try run(small("both") + ["--layers", "0", "1"], launcher: .withoutPrivilege)
        expect(both, exits: 0, saying: ["commit \(first)"])
        #expect(
            both.errors.components(separatedBy: "using the identical files").count == 3,
            "\(both.errors)")
        let now = try #require(try commits(in: "both").sae)
        #expect(try !commits(repository).contains(now), "the commit whose contents they all have")
        // No commit in the cache has an SAE with this L0, so the advice must not name a commit.
        let other = try run(small("x") + ["--target_l0", "13"], launcher: .withoutPrivilege)
        expect(other, exits: 74, saying: ["average_l0_13/params.npz", "Set HF_HOME"])
        #expect(!other.errors.contains("take the commit"))
        let all = ["--layers", "0", "--target_l0", "46"]
        let note = folder.file(saes + "/layer_0/width_16k/average_l0_46/params.npz")
        try TestData.write(try TestData.bytes(note) + [0], to: note)
        let changed = try run(small("x") + all, launcher: .withoutPrivilege)
        expect(
            changed, exits: 74,
            saying: ["give \(first) as the revision", "--sae_revision for SAEs"])
        // The advised command must succeed. The next two commands need an SAE that this commit lacks in the cache.
        // The first SAE is in another commit, the second is in no commit.
        expect(
            try run(small("y") + all + ["--sae_revision", first], launcher: .withoutPrivilege),
            exits: 0)
        expect(
            try run(
                small("x") + ["--sae_revision", first, "--layers", "1"], launcher: .withoutPrivilege
            ),
            exits: 0, saying: ["using the identical files"])
        expect(
            try run(
                small("x") + ["--sae_revision", first, "--target_l0", "13"],
                launcher: .withoutPrivilege),
            exits: 74, saying: ["must be added to the cache", "Set HF_HOME"])
    }

    /// Checks a cache that has all files of the model's old commit, but only the small files of its new commit.
    @Test func aModelThatLiesInTwoCommits() throws {
        let repository = try ownModel()
        expect(try run(small("first")), exits: 0)
        let old = try #require(try commits(repository).first)
        try shell("echo >> hub/models/google/gemma-2-2b/config.json")
        expect(try run(["fetch"] + small("x") + ["--dry_run"]), exits: 0)
        #expect(try commits(repository).count == 2)
        defer { try? shell("chmod -R u+w hf") }
        try shell("chmod -R a-w hf")
        expect(
            try run(small("second"), launcher: .withoutPrivilege), exits: 0,
            saying: ["using the identical files of commit \(old)"])
        #expect(try results("second") == results("first"))
        let now = try #require(try commits(repository).first { $0 != old })
        #expect(try commits(in: "second").model == now)
    }

    /// Checks that a snapshot is not used if it has a model.safetensors, which would be read instead of the shards.
    @Test func aFolderWithAnotherFileBesideIsNotTaken() throws {
        let repository = try ownModel()
        expect(try run(small("first")), exits: 0)
        let old = try #require(try commits(repository).first)
        try folder.write("news".utf8, "hub/models/google/gemma-2-2b/README.md")
        let single = "\(repository)/snapshots/\(old)/model.safetensors"
        try TestData.write(
            try TestData.bytes(TestData.tiny + "/model-single/model.safetensors"), to: single)
        defer { try? shell("chmod -R u+w hf") }
        try shell("chmod -R a-w hf")
        expect(
            try run(small("second"), launcher: .withoutPrivilege), exits: 74,
            saying: ["must be added to the cache", "Set HF_HOME"])
    }

    /// Checks that the error names the folder that cannot be written to: a layer's, then a partial download's.
    @Test func foldersOfOthersWithinTheCache() throws {
        let some = ["fetch"] + small("x")
        expect(try run(some), exits: 0)
        let repository = home + "/hub/models--google--gemma-scope-2b-pt-res"
        let layer = try "\(repository)/snapshots/\(#require(try commits(repository).first))/layer_0"
        defer { try? shell("chmod -R u+w hf") }
        try shell("chmod -R a-w '\(layer)'")
        expect(
            try run(some + ["--target_l0", "13"], launcher: .withoutPrivilege), exits: 74,
            saying: ["average_l0_13/params.npz", "cannot add to \(layer)", "Set HF_HOME"])
        #expect(try hub.requests().filter { $0.isForBody && $0.path.contains("l0_13") }.isEmpty)
        try shell("chmod -R u+w '\(layer)'")
        let blob = URL(fileURLWithPath: "\(layer)/width_16k/average_l0_46/params.npz")
            .resolvingSymlinksInPath().lastPathComponent
        let part = "\(repository)/.sae-extract/\(blob)"
        try shell("rm '\(repository)/blobs/\(blob)'; mkdir '\(part)'; chmod a-w '\(part)'")
        expect(
            try run(some, launcher: .withoutPrivilege), exits: 74,
            saying: ["cannot add to \(part)", "Set HF_HOME"])
    }

    // MARK: Without the network

    @Test func theCommitThatIsThereIsNamed() throws {
        expect(try run(["fetch"] + small("x")), exits: 0)
        let repository = home + "/hub/models--google--gemma-2-2b"
        let there = try #require(try commits(repository).first)
        let offline = ["HF_HUB_OFFLINE": "1"] as [String: String?]
        // Makes a newer commit of which the cache has only config.json, as another tool may leave it.
        let new = String(repeating: "a", count: 40)
        try shell(
            """
            cd '\(repository)'; mkdir snapshots/\(new); cp -P snapshots/\(there)/config.json snapshots/\(new)
            printf \(new) > refs/main
            """)
        let advice = ["The cache has it at commit \(there)", "--revision for the model"]
        expect(try run(small("x"), offline), exits: 69, saying: advice)
        expect(try run(small("a") + ["--revision", there], offline), exits: 0)
        // First, refs/main names a commit that is not in the cache. Then refs/main is missing.
        try shell("cd '\(repository)'; rm -r snapshots/\(new) .sae-extract")
        expect(try run(small("x"), offline), exits: 69, saying: advice)
        try shell("rm -r '\(repository)/refs'")
        expect(try run(small("x"), offline), exits: 69, saying: advice)
        try hub.setFaults(#"[{"status": 503}]"#)
        expect(
            try run(small("x")), exits: 69,
            saying: ["503", "the cache has files of google/gemma-2-2b at commit \(there)"])
        try shell("rm -r '\(repository)'/snapshots/*")
        #expect(try !run(small("x"), offline).errors.contains("The cache has it"))
    }

    /// Checks that a damaged corpus is found without a list of the commit's files. The name of the blob has its hash.
    @Test func aCorpusThatWasCutShort() throws {
        expect(try run(["fetch"] + small("x")), exits: 0)
        let repository = home + "/hub/datasets--hallisky--AuthorMix"
        try shell("rm -r '\(repository)/.sae-extract'")
        let offline = ["HF_HUB_OFFLINE": "1"] as [String: String?]
        expect(try run(small("a"), offline), exits: 0)
        let blob = try
            "\(repository)/blobs/\(#require(try directoryContents(repository + "/blobs").first))"
        let content = try TestData.bytes(blob)
        let lines = content.split(separator: 10).prefix(6).joined(separator: [10])
        for damaged in [Array(lines) + [10], content.map { $0 == 0x61 ? 0x62 : $0 }] {
            try TestData.write(damaged, to: blob)
            expect(
                try run(small("b"), offline), exits: 65,
                saying: [
                    "train.jsonl of hallisky/AuthorMix", blob, "Remove this file", "--data_path",
                ])
        }
        #expect(!fileExists(folder.file("b")))
        try TestData.write(content, to: blob)
        // A copy in place of the link has no hash in its name, so it is accepted without a check.
        try shell(
            "cd '\(repository)/snapshots/'*; cp --remove-destination \"$(realpath train.jsonl)\" train.jsonl"
        )
        expect(try run(small("c"), offline), exits: 0)
    }

    // MARK: Folders elsewhere, and mirrors

    /// Checks caches in which `blobs`, `snapshots` or a repository's folder is a symlink to another file system.
    @Test(arguments: ["blobs", "snapshots", ""]) func foldersElsewhere(name: String) throws {
        let elsewhere = "/dev/shm/sae-extract-\(UInt64.random(in: 0 ... .max))"
        defer { try? FileManager.default.removeItem(atPath: elsewhere) }
        for repository in ["models--google--gemma-2-2b", "models--google--gemma-scope-2b-pt-res"] {
            let place = "\(elsewhere)/\(repository)"
            let link = "\(home)/hub/\(repository)" + (name.isEmpty ? "" : "/\(name)")
            try shell("mkdir -p '\(place)' \"$(dirname '\(link)')\"; ln -s '\(place)' '\(link)'")
        }
        expect(try run(small("first")), exits: 0)
        let left =
            try FileManager.default.subpathsOfDirectory(atPath: folder.path)
            + FileManager.default.subpathsOfDirectory(atPath: elsewhere)
        #expect(
            !left.contains {
                $0.hasSuffix(".incomplete") || $0.hasSuffix(".partial") || $0.hasSuffix(".link")
            })
        try hub.clearLog()
        expect(try run(small("second")), exits: 0)
        #expect(try !hub.requests().contains(where: \.isForBody))
        expect(try run(small("third"), ["HF_HUB_OFFLINE": "1"]), exits: 0)
        // Cuts a blob to 0 bytes. It must be downloaded again.
        try shell(
            "cd '\(home)/hub/models--google--gemma-2-2b'; f=$(ls -d snapshots/*/model-00001*); : > \"$(realpath \"$f\")\""
        )
        expect(try run(small("fourth")), exits: 0)
        #expect(try results("fourth") == results("first"))
    }

    /// Checks that a new commit downloads no unchanged files from a mirror that lists no SHA-256 of large files.
    @Test func aMirrorWithoutDigestsMovesOn() throws {
        let mirror = try TestHub(root: hub.root, options: ["--no_lfs", "--lfs_above", "100000"])
        let repository = try ownModel()
        func fetch() throws -> TestCommand.Outcome {
            try Tool.run(["fetch"] + small("x"), environment: mirror.environment(home: home))
        }
        expect(try fetch(), exits: 0)
        for own in ["", "rm -r '\(repository)/.sae-extract'"] {
            try shell(own)
            try mirror.clearLog()
            try folder.write("news \(own)".utf8, "hub/models/google/gemma-2-2b/README.md")
            expect(try fetch(), exits: 0)
            #expect(try !mirror.requests().contains { $0.port == "storage" && $0.isForBody })
        }
        #expect(try commits(repository).count == 3)
        try checkCache()
    }
}
