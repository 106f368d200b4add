// Test cases with invalid flags and with system calls that fail.

import Foundation
import TestSupport

extension MalformedInputTests {
    static let flags: [MalformedInput] = [
        MalformedInput(
            "a layer that the model does not have", exits: 64,
            mentioning: ["--layers: 4 is out of range", "4 layers, 0 to 3"]
        ) {
            $0.extra = ["--layers", "0", "4"]
        },
        MalformedInput(
            "a negative layer", exits: 64, mentioning: ["--layers: -1 is out of range", "0 to 3"]
        ) {
            $0.extra = ["--layers", "-1"]
        },
        MalformedInput(
            "an unknown model", exits: 64,
            mentioning: ["--model", "'gpt2'", "google/gemma-2-2b, google/gemma-2-9b"]
        ) {
            $0.extra = ["--model", "gpt2"]
        },
        MalformedInput(
            "a width that does not exist", exits: 64,
            mentioning: ["no SAE of width 32k", "16k, 65k", "--sae_features"]
        ) {
            $0.saes = TestData.tiny + "/sae"
            $0.extra = ["--sae_features", "32k"]
        },
        MalformedInput(
            "an L0 that does not exist", exits: 64,
            mentioning: ["no SAE average_l0_50", "13, 46, 105", "--sae_id"]
        ) {
            $0.saes = TestData.tiny + "/sae"
            $0.extra = ["--sae_id", "res:layer_0/width_16k/average_l0_50"]
        },
        MalformedInput(
            "an SAE id for a layer not asked for", exits: 64,
            mentioning: ["--sae_id", "res:layer_1", "--layers"]
        ) {
            $0.extra = ["--sae_id", "res:layer_1/width_16k/average_l0_40"]
        },
        MalformedInput(
            "an SAE id that is none", exits: 64, mentioning: ["--sae_id", "res/layer_1"]
        ) {
            $0.extra = ["--sae_id", "res/layer_1"]
        },
        MalformedInput(
            "a site that does not exist", exits: 64,
            mentioning: ["--layer_types", "resid", "'res', 'mlp'"]
        ) {
            $0.extra = ["--layer_types", "resid"]
        },
        MalformedInput(
            "a folder without SAEs", exits: 64,
            mentioning: ["--sae_dir has no res SAEs", "gemma-scope-2b-pt-res", "--layer_types"]
        ) {
            $0.saes = $0.folder.path
        },
        MalformedInput(
            "an SAE folder that does not exist", exits: 64,
            mentioning: ["--sae_dir: /nowhere does not exist", "check"]
        ) {
            $0.saes = "/nowhere"
        },
        MalformedInput(
            "a model folder that does not exist", exits: 64,
            mentioning: ["--model_path: /nowhere does not exist", "check"]
        ) {
            $0.model = "/nowhere"
        },
        MalformedInput(
            "a corpus that does not exist", exits: 64,
            mentioning: ["--data_path: /nowhere does not exist", "check"]
        ) {
            $0.corpus = "/nowhere"
        },
        MalformedInput(
            "a folder for a corpus", exits: 64,
            mentioning: ["--data_path", "is a folder", "give a file"]
        ) {
            $0.corpus = TestData.tiny
        },
        MalformedInput(
            "a file for a save folder", exits: 74, mentioning: ["corpus.jsonl", "cannot create"]
        ) {
            try $0.useCorpus(good.utf8)
            $0.saveDirectory = $0.corpus
        },
        MalformedInput(
            "an empty save folder", exits: 64,
            mentioning: ["--save_dir: is empty", "give the folder"]
        ) { $0.saveDirectory = "" },
        MalformedInput(
            "one key for author and text", exits: 64,
            mentioning: ["--text_field", "also the value of --author_field", "two different keys"]
        ) { $0.extra = ["--author_field", "text"] },
        MalformedInput(
            "more threads than any machine has", exits: 64,
            mentioning: ["--threads: 100000 is too many", "at most 1024"]
        ) { $0.extra = ["--threads", "100000"] },
        MalformedInput(
            "a model's name that no file can carry", exits: 64,
            mentioning: ["--model", "too long a name", "rename the folder"]
        ) {
            try $0.copyModel()
            let long = $0.folder.file(String(repeating: "m", count: 220))
            try FileManager.default.moveItem(atPath: $0.model, toPath: long)
            $0.model = long
            $0.extra = ["--model", long]
        },
        MalformedInput("a batch of nothing", exits: 64, mentioning: ["--batch_size", "'0'"]) {
            $0.extra = ["--batch_size", "0"]
        },
        MalformedInput(
            "no threads", exits: 64, mentioning: ["--threads: 0 is too small", "1 or more"]
        ) {
            $0.extra = ["--threads", "0"]
        },
        MalformedInput(
            "a sequence of one token", exits: 64,
            mentioning: ["--max_seq_len: 1 is out of range", "2 to 512"]
        ) {
            $0.extra = ["--max_seq_len", "1"]
        },
        MalformedInput(
            "a sequence longer than the model's", exits: 64,
            mentioning: ["--max_seq_len: 513 is out of range", "2 to 512"]
        ) {
            $0.extra = ["--max_seq_len", "513"]
        },
        MalformedInput(
            "a prefix too long for the model", exits: 64,
            mentioning: ["--prefix", "512 positions", "shorten"]
        ) {
            $0.extra = ["--max_seq_len", "510", "--prefix", "The tide rose over the old pier."]
        },
        MalformedInput(
            "a negative threshold", exits: 64, mentioning: ["--feature_threshold", "-1"]
        ) {
            $0.extra = ["--feature_threshold", "-1"]
        },
        MalformedInput(
            "an unknown flag", exits: 64, mentioning: ["Unknown option '--layer'", "'--layers'"]
        ) {
            $0.extra = ["--layer", "3"]
        },
    ]

    static let system: [MalformedInput] = [
        MalformedInput(
            "a corpus that may not be read", exits: 64,
            mentioning: ["--data_path", "cannot be read", "permissions"]
        ) {
            try $0.useCorpus(good.utf8)
            try FileManager.default.setAttributes([.posixPermissions: 0], ofItemAtPath: $0.corpus)
            $0.launcher = .withoutPrivilege
        },
        MalformedInput(
            "weights that may not be read", exits: 74,
            mentioning: ["model.safetensors", "Permission denied", "permissions"]
        ) {
            try $0.copyModel()
            try FileManager.default.setAttributes(
                [.posixPermissions: 0], ofItemAtPath: $0.model + "/model.safetensors")
            $0.launcher = .withoutPrivilege
        },
        MalformedInput(
            "a folder that may not be written", exits: 74,
            mentioning: ["cannot create", "Permission denied", "permissions"]
        ) {
            $0.launcher = .withoutPrivilege
            try FileManager.default.setAttributes(
                [.posixPermissions: 0o555], ofItemAtPath: $0.folder.path)
        },
        MalformedInput(
            "a disk that is full", exits: 74,
            mentioning: ["cannot write", "File too large", "run the same command again"]
        ) {
            // The limit is in KiB: enough for the log, but not for a results file.
            $0.launcher = .limit("-f 4")
        },
        MalformedInput(
            "too little memory for products", exits: 74,
            mentioning: ["cannot reserve", "ulimit -v", "--threads"]
        ) {
            // The limit is in KiB. It lets the program start, but OpenBLAS cannot map its buffers.
            $0.launcher = .limit("-v 420000")
            $0.extra = ["--threads", "2"]
        },
        MalformedInput(
            "a pipe called run.json", exits: 64,
            mentioning: ["--save_dir", "run.json", "move this file"]
        ) {
            try $0.folder.write([], "out/x")
            try FileManager.default.removeItem(atPath: $0.saveDirectory + "/x")
            mkfifo($0.saveDirectory + "/run.json", 0o666)
        },
        MalformedInput(
            "a run.json of somebody else's", exits: 64,
            mentioning: ["--save_dir", "run.json", "move this file"]
        ) {
            try $0.folder.write("[]".utf8, "out/run.json")
        },
    ]
}
