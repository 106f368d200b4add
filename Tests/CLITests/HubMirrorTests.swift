// Tests of a Hub or a mirror whose answers are incomplete or do not belong to the request.

import Files
import Foundation
import TestSupport
import Testing

extension HubTests {
    private var tree: String { #"gemma-scope-2b-pt-res/tree/"# }

    /// A list with one file, as from a mirror that passes on only the first page of the Hub's list.
    private var short: String {
        #"[{\"type\": \"file\", \"path\": \"layer_0/width_16k/average_l0_13/params.npz\", \"size\": 9, \"oid\": \"\#(String(repeating: "a", count: 40))\"}]"#
    }

    private func saes(_ more: [String: String?] = [:]) throws -> TestCommand.Outcome {
        try run(["saes", "--layers", "0", "--layer_types", "res"], more)
    }

    // MARK: Lists

    @Test func aListThatWasCutShortIsNotTaken() throws {
        let bodies = [
            (short, "lacks"), ("[]", "is empty"),
            (
                short.dropLast()
                    + #", {\"type\": \"directory\", \"path\": \"layer_1\", \"size\": 0, \"oid\": \"x\"}]"#,
                "lacks"
            ),
        ]
        for (index, (body, words)) in bodies.enumerated() {
            let home = ["HF_HOME": folder.file("home\(index)")] as [String: String?]
            let fault = #"{"path": "\#(tree)", "status": 200, "body": "\#(body)"}"#
            // Only the list from `/tree/` is incomplete. The answer that names the commit has the complete list.
            try hub.setFaults("[\(fault)]")
            let whole = try saes(home)
            expect(
                whole, exits: 0,
                saying: ["the list of files", words, "in its answer about the commit"])
            #expect(whole.output.contains("13 46* 105"), "\(whole.output)")
            // The first run has stored the complete list, so the second run prints no warning.
            #expect(try saes(home).errors == "")
        }
    }

    @Test func aListThatWasCutShortIsNotKept() throws {
        let other = #"{"path": "blobs=true", "status": 404}"#
        try hub.setFaults(
            #"[{"path": "\#(tree)", "status": 200, "body": "\#(short)"}, \#(other)]"#)
        expect(
            try saes(), exits: 69,
            saying: [
                hub.endpoint, "google/gemma-scope-2b-pt-res's files lacks",
                "named in the answer about the commit",
            ])
        // This mirror lists the folder `layer_0` without its files. Its answer that names the commit has no list.
        let names = #"{"path": "res/revision/main", "status": 200, "body": "{\"sha\": \"SHA\"}"}"#
        let sha = String(repeating: "b", count: 40)
        let folders =
            #"[{\"type\": \"file\", \"path\": \"README.md\", \"size\": 9, \"oid\": \"\#(sha)\"}, {\"type\": \"directory\", \"path\": \"layer_0\", \"size\": 0, \"oid\": \"\#(sha)\"}]"#
        try hub.setFaults(
            "[\(names.replacing("SHA", with: sha)), {\"path\": \"\(tree)\", \"status\": 200, \"body\": \"\(folders)\"}, \(other)]"
        )
        expect(try saes(), exits: 69, saying: ["has the folder layer_0 but no file in this folder"])
        try hub.setFaults("[]")
        let right = try saes()
        expect(right, exits: 0)
        #expect(right.output.contains("13 46* 105"), "\(right.output)")
    }

    /// Checks that a stored list that lacks files is requested again. Earlier versions stored such lists.
    @Test func aKeptListThatLacksFilesIsAskedForAgain() throws {
        expect(try saes(), exits: 0)
        let own = home + "/hub/models--google--gemma-scope-2b-pt-res/.sae-extract"
        let list = try #require(try directoryContents(own).first { $0.hasSuffix(".json") })
        let text = short.replacing("\\", with: "")
        #expect(text.contains("average_l0_13"))
        let kept =
            #"{"format_version": 1, "files": {"layer_0/width_16k/average_l0_13/params.npz": {"size": 9, "blob_id": "\#(String(repeating: "a", count: 40))"}}}"#
        for (content, revision) in [
            (kept, "main"), (#"{"format_version": 1, "files": {}}"#, "main"),
            (kept, String(list.dropLast(5))),
        ] {
            try TestData.write(Array(content.utf8), to: "\(own)/\(list)")
            let outcome = try run(
                ["saes", "--layers", "0", "--layer_types", "res", "--sae_revision", revision])
            expect(outcome, exits: 0)
            #expect(outcome.output.contains("13 46* 105"), "\(outcome.output)")
        }
    }

    // MARK: Commits

    @Test func anotherCommitThanTheOneAskedForIsNotTaken() throws {
        let asked = String(repeating: "c", count: 40)
        let main = String(repeating: "d", count: 40)
        try hub.setFaults(
            #"[{"path": "gemma-2-2b/revision/\#(asked)", "status": 200, "body": "{\"sha\": \"\#(main)\"}"}]"#
        )
        expect(
            try run(small("out") + ["--revision", asked]), exits: 69,
            saying: [
                hub.endpoint, "asked for the commit \(asked) of google/gemma-2-2b",
                "answers with the commit \(main)",
            ])
        #expect(!fileExists(folder.file("out")))
    }

    /// Checks that a refusal (403) of one repository does not affect the other repositories.
    @Test func oneRefusalDoesNotShutOutTheOthers() throws {
        expect(try run(["fetch"] + small("out")), exits: 0)
        try hub.setFaults(
            #"[{"path": "api/models/google/gemma-2-2b/", "status": 403, "body": "{\"error\": \"blocked here\"}"}]"#
        )
        let outcome = try run(small("out") + ["--layers", "1"])
        expect(
            outcome, exits: 0,
            saying: ["blocked here", "using the cache for google/gemma-2-2b\n"])
        #expect(try hub.requests().contains { $0.isForBody && $0.path.contains("layer_1") })
    }

    // MARK: The dataset card

    /// Checks a Hub whose answer has no dataset card. The program must then read the card in README.md.
    @Test func aCardThatIsNotPassedOn() throws {
        let root = "hub/datasets/some/corpus"
        for name in ["a.jsonl", "train.jsonl"] {
            try folder.copy(TestData.tiny + "/authormix.jsonl", "\(root)/\(name)")
        }
        let some = [
            "fetch", "--layers", "0", "--data_repo", "some/corpus", "--model_path",
            TestData.tiny + "/model", "--sae_dir", TestData.tiny + "/sae",
        ]
        try folder.write(
            "---\nlicense: mit\n---\nIt has no\nconfigs: none\n".utf8, root + "/README.md")
        let plain = try run(some)
        expect(plain, exits: 0)
        #expect(plain.output.contains("train.jsonl"))
        try hub.clearLog()
        expect(try run(some, ["HF_HUB_OFFLINE": "1"]), exits: 0)
        let again = try run(some)
        #expect(again.errors == "")
        #expect(try !hub.requests().contains(where: \.isForBody))
        try folder.write(
            "---\nconfigs:\n- config_name: default\n  data_files: a.jsonl\n---\n".utf8,
            root + "/README.md")
        for environment in [[:], ["HF_HUB_OFFLINE": "1"]] as [[String: String?]] {
            let outcome = try run(some, environment)
            if environment.isEmpty {
                expect(
                    outcome, exits: 64,
                    saying: [
                        "some/corpus: its card (", "README.md", "under configs", hub.endpoint,
                        "--data_path",
                    ])
            } else {
                // Without the network, the run uses the previous commit, which is in the cache.
                expect(outcome, exits: 0)
            }
        }
    }

    /// Checks that the card in a cached README.md counts without a list of files, as in a cache of huggingface_hub.
    @Test func aCardThatIsOnlyInTheCache() throws {
        let root = "hub/datasets/some/corpus"
        try folder.copy(TestData.tiny + "/authormix.jsonl", root + "/a.jsonl")
        try folder.write(
            #"{"configs": [{"config_name": "default", "data_files": "a.jsonl"}]}"#.utf8,
            root + "/.card.json")
        let some = [
            "fetch", "--layers", "0", "--data_repo", "some/corpus", "--model_path",
            TestData.tiny + "/model", "--sae_dir", TestData.tiny + "/sae",
        ]
        expect(try run(some), exits: 0)
        let cached = home + "/hub/datasets--some--corpus"
        try shell("rm -r '\(cached)/.sae-extract'")
        expect(
            try run(some, ["HF_HUB_OFFLINE": "1"]), exits: 0,
            saying: ["the list of its files is not known", "the whole corpus: a.jsonl"])
        let commit = try #require(try commits(cached).first)
        let readme = "hf/hub/datasets--some--corpus/snapshots/\(commit)/README.md"
        try folder.write("---\nconfigs:\n- config_name: x\n---\n".utf8, readme)
        expect(
            try run(some, ["HF_HUB_OFFLINE": "1"]), exits: 64,
            saying: ["its card (", "under configs", "HF_HUB_OFFLINE is set", "--data_path"])
    }

    @Test func whatIsDoubtfulInACorpusIsSaid() throws {
        let root = "hub/datasets/some/corpus"
        for name in ["train/train.jsonl", "train/test.jsonl"] {
            try folder.copy(TestData.tiny + "/authormix.jsonl", "\(root)/\(name)")
        }
        try folder.write("x".utf8, root + "/corpus.py")
        let some = [
            "fetch", "--layers", "0", "--data_repo", "some/corpus", "--model_path",
            TestData.tiny + "/model", "--sae_dir", TestData.tiny + "/sae",
        ]
        expect(
            try run(some), exits: 0,
            saying: [
                "also match another split: train/test.jsonl", "the Python script corpus.py",
            ])
        try folder.write(
            #"{"configs": [{"config_name": "default", "data_files": ["train/train.jsonl", "none.jsonl"]}]}"#
                .utf8, root + "/.card.json")
        expect(try run(some), exits: 64, saying: ["has no file none.jsonl", "--data_path"])
    }
}
