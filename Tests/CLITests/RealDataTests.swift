// Tests of the real binary with Gemma's tokenizer and real AuthorMix records, but with a synthetic model.

import ByteJSON
import Foundation
import TestSupport
import Testing

@Suite(.enabled(if: TestData.shared != nil, Comment(rawValue: TestData.skipReason)))
struct RealDataTests {
    @Test(arguments: ["tokenizer.json", "tokenizer.model"])
    func tokensAreHuggingFaces(tokenizer: String) throws {
        let shared = try #require(TestData.shared)
        let folder = try TemporaryFolder()
        var model = SyntheticModel()
        model.dVocab = 256_000
        model.nLayers = 1
        try model.write(to: folder)
        try folder.copy("\(shared)/tokenizer/gemma2/\(tokenizer)", "model/\(tokenizer)")
        try Tool.run(
            [
                "--layers", "0", "--model_path", folder.file("model"), "--sae_dir",
                folder.file("sae"),
                "--data_path", shared + "/data/authormix_sample.jsonl", "--save_dir",
                folder.file("out"),
                "--storage_format", "sparse", "--batch_size", "auto",
            ], exits: 0)
        // This file has the SHA-256 of each author's tokens file. scripts/make/token_digests.py computes them.
        let bytes = try TestData.bytes(TestData.packageRoot + "/Fixtures/authormix-tokens.json")
        let digests = try #require(
            try bytes.withUnsafeBufferPointer { try JSONValue(parsing: $0) }.object)
        #expect(digests.members.count == 5)
        for (author, digest) in digests.members {
            let path = folder.file("out/sae__google_gemma-2-2b__tokens__\(author).json")
            #expect(try sha256(TestData.bytes(path)) == digest.string, "\(author)")
        }
    }
}
