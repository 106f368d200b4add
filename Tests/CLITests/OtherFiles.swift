// Test cases with inputs that are valid files or folders, but of another kind than the expected one.

import Foundation
import TestSupport

extension MalformedInputTests {
    static let pointer = Array(
        "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 5228717512\n".utf8)
    private static let page = Array("<!DOCTYPE html><html><title>Sign in</title>".utf8)
    private static let refusal = Array(
        "Access to model google/gemma-2-2b is restricted. Please log in.".utf8)

    /// Test cases with a Git LFS pointer, a web page or a server's refusal in place of each file of a checkpoint.
    private static let checkpointFiles: [MalformedInput] = [
        ("a pointer", pointer, "is a Git LFS pointer"), ("a page", page, "is a web page (HTML)"),
        ("a refusal", refusal, "a server's answer"),
    ].flatMap { what, bytes, sentence in
        [
            "config.json", "model.safetensors", "model-00002-of-00003.safetensors",
            "model.safetensors.index.json", "tokenizer.json", "tokenizer.model",
        ].map { name in
            MalformedInput(
                "\(what) for \(name)", exits: 65, mentioning: ["\(name): ", sentence, "download"]
            ) {
                if name.contains("model-") || name.contains("index") {
                    try $0.changeShards(name) { $0 = bytes }
                } else {
                    try $0.changeModel(name) { $0 = bytes }
                }
                if name == "tokenizer.model" {
                    try FileManager.default.removeItem(atPath: $0.model + "/tokenizer.json")
                }
            }
        }
    }

    static let otherFiles: [MalformedInput] =
        checkpointFiles + [
            MalformedInput(
                "a pointer for params.npz", exits: 65,
                mentioning: ["params.npz: is a Git LFS pointer", "git lfs pull"]
            ) { try $0.changeArchive { $0 = pointer } },
            MalformedInput(
                "what PyTorch saves for params.npz", exits: 65,
                mentioning: ["params.npz: is a PyTorch file", "numpy.savez"]
            ) {
                try $0.changeArchive {
                    var zip = ZipBuilder()
                    zip.add("archive/data.pkl", [0x80, 2], crc: 0)
                    $0 = zip.bytes
                }
            },
            MalformedInput(
                "parquet for a corpus", exits: 65,
                mentioning: ["corpus.jsonl, line 1: is parquet", "read_parquet", "to_json"]
            ) { try $0.useCorpus(Array("PAR1".utf8) + [0x15, 0x04, 0x15, 0x10, 0, 0]) },
            MalformedInput(
                "CSV for a corpus", exits: 65,
                mentioning: ["line 1: is a table with commas (CSV)", "read_csv", "to_json"]
            ) { try $0.useCorpus(lines: ["style,text", "a,\"one two three\""]) },
            MalformedInput(
                "plain text for a corpus", exits: 65,
                mentioning: [
                    "line 1: is text, not JSONL", "'It was calm.'", "one JSON object a line",
                ]
            ) { try $0.useCorpus(lines: ["It was calm.", "It was not."]) },
            MalformedInput(
                "UTF-16 for a corpus", exits: 65,
                mentioning: ["line 1: is UTF-16LE, not UTF-8", "iconv -f UTF-16LE -t UTF-8"]
            ) {
                try $0.useCorpus(good.utf16.flatMap { [UInt8($0 & 0xFF), UInt8($0 >> 8)] })
            },
            MalformedInput(
                "UTF-16 within gzip", exits: 65,
                mentioning: ["corpus.gz, line 1: decompressed, it is UTF-16", "iconv"]
            ) {
                let units = Array(good.utf16).flatMap { [UInt8($0 >> 8), UInt8($0 & 0xFF)] }
                try $0.useCorpus(compressed([0xFE, 0xFF] + units), "corpus.gz")
            },
            MalformedInput(
                "gzip within gzip", exits: 65,
                mentioning: [
                    "line 1: is compressed twice, with gzip and within that with gzip", "gzip -d",
                ]
            ) { try $0.useCorpus(compressed(compressed(Array(good.utf8))), "corpus.gz") },
            MalformedInput(
                "text behind gzip", exits: 65,
                mentioning: ["corpus.gz", "other bytes follow the gzip stream"]
            ) {
                try $0.useCorpus(
                    compressed(Array(good.utf8)) + Array("garbage\n".utf8), "corpus.gz")
                $0.extra = ["--n_docs", "10"]
            },
            MalformedInput(
                "xz for a corpus", exits: 65, mentioning: ["compressed with xz", "xz -d"]
            ) { try $0.useCorpus([0xFD, 0x37, 0x7A, 0x58, 0x5A, 0, 0, 4, 0xE6]) },
            MalformedInput(
                "a second byte order mark", exits: 65,
                mentioning: ["line 1", "byte order mark", "remove it"]
            ) { try $0.useCorpus(("\u{FEFF}\u{FEFF}" + good).utf8) },
            MalformedInput(
                "files with byte order marks joined", exits: 65,
                mentioning: ["line 2", "byte order mark is in the middle of the file", "sed"]
            ) { try $0.useCorpus(("\u{FEFF}" + good + "\n\u{FEFF}" + good).utf8) },
            MalformedInput(
                "UTF-16 added to UTF-8", exits: 65,
                mentioning: ["line 2: from this line on, the file is UTF-16LE", "iconv"]
            ) {
                try $0.useCorpus(
                    Array((good + "\n").utf8)
                        + good.utf16.flatMap { [UInt8($0 & 0xFF), UInt8($0 >> 8)] })
            },
            MalformedInput(
                "NUL bytes at the end", exits: 65,
                mentioning: ["line 2: 5000 NUL bytes", "crash", "remove this line"]
            ) { try $0.useCorpus(Array((good + "\n").utf8) + [UInt8](repeating: 0, count: 5000)) },
            MalformedInput(
                "NUL bytes in a record", exits: 65, mentioning: ["line 1: 1 NUL byte in the record"]
            ) { try $0.useCorpus(Array(good.dropLast(9).utf8) + [0] + Array(good.suffix(9).utf8)) },
            MalformedInput(
                "nothing but NUL bytes", exits: 65, mentioning: ["line 1", "NUL bytes", "crash"]
            ) { try $0.useCorpus([UInt8](repeating: 0, count: 1 << 20)) },
            MalformedInput(
                "lines that end in CR alone", exits: 65,
                mentioning: ["line 1: lines end in CR alone", "tr '\\r' '\\n'"]
            ) { try $0.useCorpus((good + "\r" + good + "\r").utf8) },
            MalformedInput(
                "a pretty-printed record", exits: 65,
                mentioning: ["line 1", "over several lines", "jq -c .", "JSON array"]
            ) { try $0.useCorpus(lines: ["{", "  \"style\": \"a\",", "  \"text\": \"b\"", "}"]) },
            MalformedInput(
                "records one level down", exits: 65,
                mentioning: [
                    "line 1: has no \"style\"", "list \"data\" has records", "jq -c '.data[]'",
                ]
            ) { try $0.useCorpus(lines: ["{\"data\": [\(good), \(good)]}"]) },
            MalformedInput(
                "columns of lists", exits: 65,
                mentioning: ["\"style\" and \"text\" are lists", "columns", "orient='records'"]
            ) { try $0.useCorpus(lines: ["{\"style\": [\"a\"], \"text\": [\"b\"]}"]) },
            MalformedInput(
                "columns of objects", exits: 65,
                mentioning: ["\"style\" and \"text\" are objects", "columns"]
            ) {
                try $0.useCorpus(lines: ["{\"style\": {\"0\": \"a\"}, \"text\": {\"0\": \"b\"}}"])
            },
            MalformedInput(
                "an author within an object", exits: 65,
                mentioning: [
                    "has no \"meta.author\"", "\"meta\" holds \"author\"",
                    "jq -c '.\"meta.author\" = .meta.author'",
                ]
            ) {
                try $0.useCorpus(lines: ["{\"meta\": {\"author\": \"a\"}, \"text\": \"b\"}"])
                $0.extra = ["--author_field", "meta.author"]
            },
            MalformedInput(
                "a key in another case", exits: 65,
                mentioning: ["has no \"style\", but it has \"Style\"", "--author_field 'Style'"]
            ) { try $0.useCorpus(lines: ["{\"Style\": \"a\", \"text\": \"b\"}"]) },
            MalformedInput(
                "a number for an author", exits: 65,
                mentioning: ["line 1: \"style\" is a number (7): give a string, \"7\""]
            ) { try $0.useCorpus(lines: ["{\"style\": 7, \"text\": \"b\"}"]) },
            MalformedInput(
                "null for a text", exits: 65,
                mentioning: ["line 1: \"text\" is null: give a string"]
            ) { try $0.useCorpus(lines: ["{\"style\": \"a\", \"text\": null}"]) },
            MalformedInput(
                "Python's notation", exits: 65, mentioning: ["line 1", "Python", "json.dumps"]
            ) { try $0.useCorpus(lines: ["{'style': 'a', 'text': 'b'}"]) },
        ] + folders

    /// Test cases with folders and links in place of the expected files.
    private static let folders: [MalformedInput] =
        [
            MalformedInput(
                "an adapter's folder", exits: 65,
                mentioning: ["is an adapter (LoRA) for google/gemma-2-2b", "merge"]
            ) {
                try $0.copyModel()
                try removeWeights(&$0)
                try FileManager.default.removeItem(atPath: $0.model + "/config.json")
                try $0.folder.write(
                    "{\"base_model_name_or_path\": \"google/gemma-2-2b\"}".utf8,
                    "model/adapter_config.json")
            }
        ]
        + [
            (
                "pytorch_model.bin", Array("PK\u{3}\u{4}".utf8),
                ["pytorch_model.bin", "save_pretrained"]
            ),
            ("consolidated.safetensors", [], ["consolidated.safetensors", "own layout"]),
            ("gemma-2-2b.Q4_K_M.gguf", Array("GGUF".utf8), ["Q4_K_M.gguf", "llama.cpp"]),
            (
                "model-00001-of-00002.safetensors", [],
                ["no model.safetensors.index.json", "download this list too"]
            ),
        ].map { name, bytes, mentions in
            MalformedInput("only \(name)", exits: 65, mentioning: mentions) {
                try $0.copyModel()
                try removeWeights(&$0)
                try $0.folder.write(bytes, "model/\(name)")
            }
        } + [
            MalformedInput(
                "a file of weights for a folder", exits: 64,
                mentioning: ["--model_path", "a file (GGUF", "give a folder"]
            ) { $0.model = try $0.folder.write(Array("GGUF".utf8) + [3, 0, 0, 0], "x.gguf") },
            MalformedInput(
                "a file of a checkpoint for its folder", exits: 64,
                mentioning: ["--model_path", "a file (safetensors)", "the folder that contains it"]
            ) { $0.model = TestData.tiny + "/model-single/model.safetensors" },
            MalformedInput(
                "links that lead nowhere", exits: 65,
                mentioning: ["config.json: is a link to ../../blobs/", "cp -rL"]
            ) {
                try $0.copyModel()
                for name in try FileManager.default.contentsOfDirectory(atPath: $0.model) {
                    try FileManager.default.removeItem(atPath: "\($0.model)/\(name)")
                    try FileManager.default.createSymbolicLink(
                        atPath: "\($0.model)/\(name)", withDestinationPath: "../../blobs/\(name)")
                }
            },
            MalformedInput(
                "the folder above a checkpoint", exits: 65,
                mentioning: ["has no checkpoint itself", "its folder model has one;", "give "]
            ) {
                try $0.copyModel()
                $0.model = $0.folder.path
            },
            MalformedInput(
                "weights that are a link to nowhere", exits: 65,
                mentioning: ["model.safetensors: is a link to x", "cp -rL"]
            ) {
                try $0.copyModel()
                try removeWeights(&$0)
                try FileManager.default.createSymbolicLink(
                    atPath: $0.model + "/model.safetensors", withDestinationPath: "x")
            },
            MalformedInput(
                "a corpus that is a link to nowhere", exits: 64,
                mentioning: ["--data_path", "is a link to x", "cp -rL"]
            ) {
                $0.corpus = try $0.folder.link("c.jsonl", to: "x")
            },
            MalformedInput(
                "a repository's folder of the cache", exits: 64,
                mentioning: [
                    "--model_path", "the folder of google/gemma-2-2b in Hugging Face's cache",
                    "give ", "/models--google--gemma-2-2b/snapshots/0123abcd",
                ]
            ) { $0.model = try cache(in: $0.folder) + "/models--google--gemma-2-2b" },
            MalformedInput(
                "the cache itself", exits: 64,
                mentioning: [
                    "--model_path", "is Hugging Face's cache", "snapshots/0123abcd",
                    "HF_HUB_CACHE=",
                ]
            ) { $0.model = try cache(in: $0.folder) },
            MalformedInput(
                "the cache for SAEs", exits: 64,
                mentioning: ["--sae_dir", "is Hugging Face's cache", "leave --sae_dir out"]
            ) { $0.saes = try cache(in: $0.folder) },
            MalformedInput(
                "one site's SAEs for the tree", exits: 64,
                mentioning: ["--sae_dir", "one site's SAEs", "layer_", "gemma-scope-2b-pt-res"]
            ) { $0.saes = TestData.tiny + "/sae/gemma-scope-2b-pt-res" },
            MalformedInput(
                "one SAE for the tree", exits: 64, mentioning: ["--sae_dir", "is one SAE's folder"]
            ) { $0.saes = "\(TestData.tiny)/sae/\(Job.resSAE)" },
            MalformedInput(
                "a folder with a corpus in it", exits: 64,
                mentioning: ["--data_path", "is a folder; give a file, e.g.", "authormix.jsonl"]
            ) { $0.corpus = TestData.tiny },
            MalformedInput(
                "layers that are no numbers", exits: 64,
                mentioning: ["--layers: 'all' is not the number of a layer", "5 10 15", "5-8"]
            ) { $0.extra = ["--layers", "all"] },
            MalformedInput(
                "layers as Python slices", exits: 64, mentioning: ["--layers: '0:2'", "5 10 15"]
            ) { $0.extra = ["--layers", "0:2"] },
            MalformedInput(
                "layers from high to low", exits: 64,
                mentioning: ["--layers: '3-1' is a range from high to low; give 1-3"]
            ) { $0.extra = ["--layers", "3-1"] },
            MalformedInput(
                "more layers than memory", exits: 64,
                mentioning: ["--layers: '0-999999999' is out of range"]
            ) { $0.extra = ["--layers", "0-999999999"] },
            MalformedInput(
                "the home folder of nobody", exits: 64,
                mentioning: ["--save_dir: '~no-such-user/x'", "no such user", "whole path"]
            ) { $0.extra = ["--save_dir", "~no-such-user/x"] },
        ]

    private static func removeWeights(_ job: inout Job) throws {
        try FileManager.default.removeItem(atPath: job.model + "/model.safetensors")
    }

    /// Makes a Hugging Face cache with one model. Returns its path.
    private static func cache(in folder: TemporaryFolder) throws -> String {
        let repository = "hub/models--google--gemma-2-2b"
        try folder.write("0123abcd".utf8, repository + "/refs/main")
        try folder.write("{}".utf8, repository + "/snapshots/0123abcd/config.json")
        return folder.file("hub")
    }
}
