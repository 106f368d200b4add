// Tests of inspect, verify and report on complete and damaged results of real runs.

import ArrayFiles
import ByteJSON
import Files
import Foundation
import RunFiles
import TestSupport
import Testing

struct ResultCommandTests: UsingFolder {
    let folder: TemporaryFolder
    private let out: String

    init() throws {
        folder = try TemporaryFolder()
        out = folder.file("out")
    }

    @discardableResult
    private func make(_ name: String = "out", _ extra: [String] = []) throws -> String {
        try Tool.run(
            Tool.tinyArguments(saveDirectory: folder.file(name)) + extra
                + ["--layers", "2", "--log_level", "error"], exits: 0)
        return folder.file(name)
    }

    private func inspect(_ path: String, _ extra: [String] = []) throws -> [String: Any] {
        let outcome = try Tool.run(["inspect", path, "--json"] + extra, exits: 0)
        let object = try JSONSerialization.jsonObject(with: Data(outcome.output.utf8))
        return object as? [String: Any] ?? [:]
    }

    private static let start = "sae__google_gemma-2-2b__"
    private var dense: String {
        "\(out)/\(ResultCommandTests.start)res__activations__harbour__layer_2.npz"
    }
    private var sparse: String { dense.dropLast(4) + ".sparse.npz" }
    private func file(_ kind: String, _ ending: String) -> String {
        "\(out)/\(ResultCommandTests.start)\(kind)__harbour.\(ending)"
    }

    // MARK: inspect

    /// Checks that `inspect` prints the same numbers as a computation on the whole array, for dense and sparse files.
    @Test func activationsAreDescribed() throws {
        try make("out", ["--storage_format", "both"])
        let (header, data) = try NPZReader(path: dense).array("activations")
        let values = data.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
        let features = header.shape[2]
        var counts = [Int](repeating: 0, count: features)
        for (i, value) in values.enumerated() where value != 0 { counts[i % features] += 1 }
        for path in [dense, sparse] {
            let found = try inspect(path, ["--top", "3", "--document", "1"])
            #expect(found["shape"] as? [Int] == header.shape)
            #expect(found["nonzero"] as? Int == counts.reduce(0, +))
            #expect(found["values"] as? String == "binary")
            let top = found["top_features"] as? [[String: Int]] ?? []
            #expect(top.map { $0["tokens"]! } == Array(counts.sorted(by: >).prefix(3)))
            #expect(top.allSatisfy { counts[$0["feature"]!] == $0["tokens"] })
            let metadata = found["metadata"] as? [String: Any]
            #expect(metadata?["author"] as? String == "harbour")
            let lengths = metadata?["tokens_per_doc"] as? [Int] ?? []
            #expect(found["tokens"] as? Int == lengths.reduce(0, +))
            let l0 = found["l0"] as? [String: Double]
            let mean = Double(counts.reduce(0, +)) / Double(lengths.reduce(0, +))
            #expect(abs(l0!["mean"]! - mean) < 1e-3)
            // For each position of the document, `inspect` must list the features that are nonzero in the array.
            let document = found["document"] as? [String: Any]
            let positions = document?["positions"] as? [[String: Any]] ?? []
            #expect(positions.count == lengths[1])
            let tokens =
                try JSONSerialization.jsonObject(
                    with: Data(TestData.bytes(file("tokens", "json")))) as? [[String]]
            for (position, entry) in positions.enumerated() {
                let row = (header.shape[1] + position) * features
                let on = (0..<features).filter { values[row + $0] != 0 }
                let shown = (entry["features"] as? [[Double]] ?? []).map { Int($0[0]) }
                #expect(shown.sorted() == on)
                #expect(entry["token"] as? String == tokens?[1][position])
            }
        }
        let text = try Tool.run(["inspect", dense]).output
        for part in [
            "harbour", "layer_2/width_16k/", "blocks.2.hook_resid_post", "L0 ", "p95", "density",
        ] {
            #expect(text.contains(part), "\(text)")
        }
    }

    @Test func everyKindOfFileIsDescribed() throws {
        try make("out", ["--activation_values", "raw"])
        #expect(try inspect(out)["kind"] as? String == "run")
        #expect((try inspect(out + "/run.json")["authors"] as? [Any])?.count == 5)
        let raw = try inspect(dense)
        #expect(raw["values"] as? String == "raw" && (raw["minimum"] as? Double ?? 0) > 1)
        let loss = try inspect(file("cross_entropy_loss", "npy"), ["--document", "0"])
        let entropy = try inspect(file("entropy_loss", "npy"))
        let run = try inspect(out)
        let author = (run["authors"] as? [[String: Any]])?.first {
            $0["author"] as? String == "harbour"
        }
        for (metric, key) in [(loss, "mean_cross_entropy"), (entropy, "mean_entropy")] {
            let mean = (metric["nats"] as? [String: Double])?["mean"]
            #expect(abs((mean ?? 0) - (author?[key] as? Double ?? 1)) < 1e-5)
            #expect(metric["tokens"] as? Int == author?["tokens"] as? Int)
        }
        let tokens = try inspect(file("tokens", "json"), ["--document", "0"])
        #expect(tokens["tokens"] as? Int == author?["tokens"] as? Int)
        #expect(
            (tokens["document"] as? [String])?.count
                == ((loss["document"] as? [String: Any])?["nats"] as? [Double])?.count)
        #expect(try inspect(file("full_texts", "json"))["documents"] as? Int == 6)
        let tensors = try inspect(
            TestData.tiny + "/model/model-00003-of-00003.safetensors",
            ["--array", "model.norm.weight"])
        #expect((tensors["tensors"] as? [Any])?.count == 11)
        #expect((tensors["statistics"] as? [String: Any])?["elements"] as? Int == 64)
        let sae = try inspect(
            TestData.tiny + "/sae/gemma-scope-2b-pt-res/layer_2/width_16k/average_l0_51/params.npz")
        #expect((sae["arrays"] as? [[String: Any]])?.map { $0["name"] as? String }.count == 5)
    }

    /// Checks that each command names the file that it cannot read and the next step, and never crashes.
    @Test func whatCannotBeReadIsSaid() throws {
        try make()
        let text = try folder.write("hello".utf8, "a.txt")
        let noArray = try folder.write("PK".utf8, "bad.npz")
        func check(_ arguments: [String], _ status: Int32, _ parts: String...) throws {
            let outcome = try Tool.run(arguments)
            #expect(outcome.status == status, "\(arguments): \(outcome.errors)")
            for part in parts { #expect(outcome.errors.contains(part), "\(outcome.errors)") }
        }
        try check(["inspect", text], 65, text, "not one of .npz, .npy, .safetensors")
        try check(["inspect", noArray], 65, noArray, "download or export it again")
        try check(["inspect", folder.file("none.npz")], 65, "No such file", "check the spelling")
        try check(
            ["inspect", folder.path], 65, "no run.json", "give the folder that a run wrote to")
        try check(["inspect", dense, "--document", "6"], 65, "document 6", "0 to 5", "--document")
        try check(
            ["inspect", dense, "--array", "x"], 65, "array x", "activations, metadata", "--array")
        try check(["inspect", dense, "--top=-1"], 64, "--top", "0 or more")
        try check(["inspect"], 64, "<path>")
        for command in ["report", "verify"] {
            try check([command, folder.path], 65, folder.path, "no run.json")
            try check([command, out, "--label", "x"], 65, "no results of x", "google/gemma-2-2b")
        }
        try check(["report", out, "--feature", "res:2"], 64, "'res:2'", "site:layer:number")
        try check(["report", out, "--feature", "res:3:1"], 65, "blocks.3.hook_resid_post", "res:2")
        try check(["report", out, "--feature", "res:2:70"], 65, "feature 70", "0 to 69")
        try check(["report", out, "--output", "/nowhere/x.html"], 64, "/nowhere")
        try check(["inspct", out], 64, "did you mean 'inspect'?")
        try check(["verify", out, "--layers", "2"], 64, "--layers", "not of 'verify'")
        // An environment variable for a flag of another command must not affect `verify`.
        try Tool.run(["verify", out], exits: 0, environment: ["SAE_EXTRACT_LAYERS": "1"])
    }

    /// Checks impossibly large shapes, negative zeros, NaN, infinity, and other contents in files with results'
    /// names.
    @Test func oddArraysAreNoTrouble() throws {
        func npy(_ descr: String, _ shape: [Int], _ data: [UInt8]) -> [UInt8] {
            NPYHeader(descr: descr, shape: shape).encoded + data
        }
        func bytes(_ values: [Float]) -> [UInt8] { values.withUnsafeBytes { Array($0) } }
        func npz(_ name: String, _ members: [(String, [UInt8])]) throws -> String {
            var zip = ZipBuilder()
            for (member, data) in members {
                zip.add(member + ".npy", data, crc: data.withUnsafeBytes { crc32($0) })
            }
            return try folder.write(zip.bytes, name)
        }
        let huge = 1 << 40
        for (name, shape) in [
            ("a.npy", [huge, huge]), ("sae__m__entropy_loss__a.npy", [huge, huge]),
            ("sae__m__entropy_loss__b.npy", [100_000, 20_000]),
        ] {
            let path = try folder.write(npy("<f2", shape, []), name)
            let outcome = try Tool.run(["inspect", path])
            #expect(outcome.status == 65 && outcome.errors.contains(path), "\(outcome.errors)")
        }
        for shape in [[0, 3, 1_000_000_000_000], [huge, 0, 5], [0, 3, 1_000_000_000]] {
            let path = try npz("x.npz", [("activations", npy("<f4", shape, []))])
            #expect(try inspect(path)["kind"] as? String == "npz")
        }
        let signed = try folder.write(npy("<f4", [4], bytes([-0.0, 0, 1, -0.0])), "z.npy")
        #expect((try inspect(signed)["statistics"] as? [String: Any])?["zeros"] as? Int == 3)
        let odd = try npz(
            "o.npz", [("activations", npy("<f4", [1, 1, 4], bytes([-0.0, .nan, 1, .infinity])))])
        #expect(try inspect(odd)["nonzero"] as? Int == 3)
        #expect(try Tool.run(["inspect", odd]).output.contains("2 are not finite"))
        let other = try npz(
            "f8.npz", [("activations", npy("<f8", [2], [UInt8](repeating: 0, count: 16)))])
        #expect(try inspect(other)["kind"] as? String == "npz")
        let text = try folder.write(npy("<U1", [1], [65, 0, 0, 0]), "u.npy")
        #expect(try Tool.run(["inspect", text]).output.contains("no statistics for dtype"))
    }

    /// Checks two authors whose names have different bytes but are equal for Swift. They must have separate files.
    @Test func spellingsAreToldApart() throws {
        let lines = ["\u{E9}", "e\u{301}"].enumerated().map { number, author in
            #"{"style": "\#(author)", "text": "\#((0..<40 + number).map { "word\($0)" }.joined(separator: " "))"}"#
        }
        let corpus = try folder.write(lines.joined(separator: "\n").utf8, "c.jsonl")
        let job =
            Tool.arguments(corpus: corpus, layers: [2], saveDirectory: out) + [
                "--log_level", "error",
            ]
        try Tool.run(job, exits: 0)
        try Tool.run(["verify", out, "--quiet"], exits: 0)
        let names = try FileManager.default.contentsOfDirectory(atPath: out).filter {
            $0.contains("__entropy_loss__")
        }
        #expect(names.count == 2)
        func path(_ author: String) -> String {
            "\(out)/\(ResultCommandTests.start)entropy_loss__\(author).npy"
        }
        try TestData.write(TestData.bytes(path("e\u{301}")), to: path("\u{E9}"))
        try Tool.run(["verify", out, "--quiet"], exits: 65)
        try Tool.run(job, exits: 0)
        try Tool.run(["verify", out, "--quiet"], exits: 0)
    }

    /// Checks that no command crashes on a file with a wrong byte. About half of the files are also cut short.
    @Test func damagedFilesDoNotCrash() throws {
        try make("out", ["--storage_format", "both", "--n_docs", "6"])
        var random = SeededGenerator(2)
        for path in [
            dense, sparse, file("entropy_loss", "npy"), file("tokens", "json"), out + "/run.json",
        ] {
            let good = try TestData.bytes(path)
            for _ in 0..<12 {
                var bad = good
                bad[Int.random(in: 0..<bad.count, using: &random)] ^= UInt8.random(
                    in: 1...255, using: &random)
                if Bool.random(using: &random) {
                    bad = Array(bad.prefix(Int.random(in: 0..<bad.count, using: &random)))
                }
                try TestData.write(bad, to: path)
                for command in [["inspect", path], ["verify", out], ["report", out]] {
                    let outcome = try Tool.run(command)
                    #expect(
                        [0, 65].contains(outcome.status),
                        "\(command): \(outcome.status) \(outcome.errors)")
                }
            }
            try TestData.write(good, to: path)
        }
        try Tool.run(["verify", out], exits: 0)
    }

    // MARK: verify

    @Test(arguments: ["dense", "sparse", "both"], ["binary", "raw"])
    func aGoodRunIsGood(format: String, values: String) throws {
        try make("out", ["--storage_format", format, "--activation_values", values])
        let outcome = try Tool.run(["verify", out], exits: 0)
        let lines = outcome.output.split(separator: "\n")
        #expect(lines.dropLast().allSatisfy { $0.hasPrefix("ok ") })
        #expect(lines.count == 1 + 5 * (4 + 3 * (format == "both" ? 2 : 1)))
        #expect(try Tool.run(["verify", out, "--quiet"]).output.split(separator: "\n").count == 1)
    }

    private func bad(_ path: String, _ part: String) throws {
        let outcome = try Tool.run(["verify", out, "--quiet"], exits: 65)
        let lines = outcome.output.split(separator: "\n").filter { $0.hasPrefix("BAD ") }
        let name = path.split(separator: "/").last!
        #expect(
            lines.count == 1 && lines[0].contains(name) && lines[0].contains(part),
            "\(outcome.output)")
        #expect(lines.allSatisfy { $0.contains("repeat the run's command") }, "\(outcome.output)")
    }

    @Test func whatIsNotAsItWasIsNamed() throws {
        try make("out", ["--storage_format", "both"])
        for (path, place) in [
            (dense, 3000), (sparse, 900), (file("entropy_loss", "npy"), 300),
            (file("full_texts", "json"), 50),
        ] {
            let good = try TestData.bytes(path)
            var changed = good
            changed[place] ^= 1
            try TestData.write(changed, to: path)
            try bad(path, "CRC-32")
            try TestData.write(good.dropLast(), to: path)
            try bad(path, "bytes, but the run wrote \(good.count)")
            try FileManager.default.removeItem(atPath: path)
            try bad(path, "is missing")
            try TestData.write(good, to: path)
        }
        try FileManager.default.copyItem(
            atPath: dense, toPath: dense.replacing("layer_2", with: "layer_3"))
        let outcome = try Tool.run(["verify", out])
        #expect(
            outcome.status == 0 && outcome.output.contains("note ")
                && outcome.output.contains("layer_3"))
    }

    /// Checks that `verify` finds wrong contents even if run.json has no checksums.
    @Test func contentIsCheckedWithoutChecksums() throws {
        try make("out", ["--storage_format", "both"])
        let manifest = out + "/run.json"
        let text = try TestData.text(manifest)
        try TestData.write(text.replacing("\"files\"", with: "\"nothing\"").utf8, to: manifest)
        #expect(try Tool.run(["verify", out]).output.contains("no checksum on record"))
        let (header, data) = try NPZReader(path: dense).array("activations")
        let pickle = try NPZReader(path: dense).array("metadata").data
        let good = try TestData.bytes(dense)
        let metadata = try FeatureMetadata(pickle: pickle)
        func rewrite(_ shape: [Int], _ metadata: FeatureMetadata, _ change: (inout [Float]) -> Void)
            throws
        {
            var values = data.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
            change(&values)
            try OutputFile.make(path: dense, temporaryDirectory: folder.path) { file in
                let archive = NPZWriter(file, level: 1)
                try values.withUnsafeBytes {
                    try archive.add("activations", NPYHeader(descr: "<f4", shape: shape), $0)
                }
                try metadata.pickle.withUnsafeBytes {
                    try archive.add("metadata", FeatureMetadata.header, $0)
                }
                try archive.finish()
            }
        }
        try rewrite(header.shape, metadata) { _ in }
        try Tool.run(["verify", out], exits: 0)
        // Document 1 has fewer tokens than the array has positions, so this element is padding.
        let padding = (2 * header.shape[1] - 1) * header.shape[2] + 5
        try rewrite(header.shape, metadata) { $0[padding] = 1 }
        try bad(dense, "feature 5 fires at document 1, position 358, which is padding")
        try rewrite(header.shape, metadata) { $0[$0.firstIndex(of: 1)!] = 2 }
        try bad(dense, "is 2.0, expected 1 or 0")
        var other = metadata
        other.layer = 3
        try rewrite(header.shape, other) { _ in }
        try bad(dense, "layer 3, expected 2")
        try rewrite([header.shape[0], header.shape[1] * 2, header.shape[2] / 2], metadata) { _ in }
        try bad(dense, "has shape")
        // If the dense and the sparse file differ, the error must name the sparse file.
        try rewrite(header.shape, metadata) { $0[$0.firstIndex(of: 1)!] = 0 }
        try bad(sparse, "differs from the dense file")
        try TestData.write(good, to: dense)
        var loss = try TestData.bytes(file("cross_entropy_loss", "npy"))
        loss[loss.count - 1] = 0x40
        try TestData.write(loss, to: file("cross_entropy_loss", "npy"))
        try bad(file("cross_entropy_loss", "npy"), "is padding, but its value is 2.0")
    }

    // MARK: report

    private func data(of page: String) throws -> [String: Any] {
        let text = try TestData.text(page)
        let start = try #require(text.range(of: #"id="data">"#)).upperBound
        let end = try #require(text[start...].range(of: "</script>")).lowerBound
        return try JSONSerialization.jsonObject(with: Data(text[start..<end].utf8))
            as? [String: Any] ?? [:]
    }

    /// Checks that the counts and passages of a report are those in the files, for dense and for sparse files.
    @Test func aReportShowsWhatTheFilesHold() throws {
        try make("out")
        let outcome = try Tool.run(
            [
                "report", out, "--top", "20", "--contexts", "3", "--feature", "res:2:0", "res:2:69",
            ], exits: 0)
        #expect(outcome.output.contains("report.html: 5 authors, 3 SAEs"))
        let report = try data(of: out + "/report.html")
        let authors = report["authors"] as? [[String: Any]] ?? []
        #expect(
            authors.map { $0["name"] as? String } == [
                "orchard", "harbour", "quarry works", "marsh-9", "lantérne",
            ])
        for author in authors {
            let loss = author["cross_entropy"] as? [String: Any]
            #expect((loss?["histogram"] as? [Int])?.reduce(0, +) == author["tokens"] as? Int)
        }
        let saes = report["saes"] as? [[String: Any]] ?? []
        #expect(saes.map { $0["site"] as? String } == ["res", "mlp", "att"])
        let (header, bytes) = try NPZReader(path: dense).array("activations")
        let values = bytes.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
        let width = header.shape[2]
        let tokens =
            try JSONSerialization.jsonObject(
                with: Data(TestData.bytes(file("tokens", "json")))) as? [[String]] ?? []
        let features = saes[0]["features"] as? [[String: Any]] ?? []
        #expect((20...22).contains(features.count))
        #expect(Set(features.map { $0["id"] as? Int }).isSuperset(of: [0, 69]))
        var passages = 0
        for feature in features {
            let id = feature["id"] as? Int ?? -1
            let count = stride(from: id, to: values.count, by: width).count { values[$0] != 0 }
            #expect((feature["counts"] as? [Int])?[1] == count)
            let contexts = feature["contexts"] as? [[String: Any]] ?? []
            #expect(contexts.count == 3)
            for context in contexts where context["author"] as? Int == 1 {
                let (document, start) = (
                    context["document"] as? Int ?? -1, context["start"] as? Int ?? -1
                )
                let pieces = context["tokens"] as? [String] ?? []
                #expect(pieces == Array(tokens[document][start..<start + pieces.count]))
                let on = pieces.indices.filter {
                    values[(document * header.shape[1] + start + $0) * width + id] != 0
                }
                #expect((context["fires"] as? [[Double]])?.map { Int($0[0]) } == on)
                passages += 1
            }
        }
        #expect(passages > 0)
        // Sparse files must give the same report. `--output` gives the path of this report.
        let other = try make("other", ["--storage_format", "sparse"])
        try Tool.run(
            [
                "report", other, "--top", "20", "--contexts", "3", "--feature", "res:2:0",
                "res:2:69", "--output", folder.file("r.html"),
            ], exits: 0)
        let again = try data(of: folder.file("r.html"))
        #expect(
            NSArray(array: again["saes"] as? [Any] ?? [])
                == NSArray(array: report["saes"] as? [Any] ?? [0]))
        #expect(!fileExists(other + "/report.html"))
        // `report` must leave the results complete and unchanged.
        try Tool.run(["verify", out, "--quiet"], exits: 0)
    }

    @Test func aRunThatIsNotCompleteSaysSo() throws {
        try make("out", ["--rank", "0", "--world_size", "2"])
        let outcome = try Tool.run(["report", out])
        #expect(outcome.status == 0 && outcome.errors.contains("ranks 1 of 2 have not run here"))
        let report = try data(of: out + "/report.html")
        #expect((report["notes"] as? [String])?.count == 1)
        let verified = try Tool.run(["verify", out, "--quiet"])
        #expect(verified.status == 65 && verified.output.contains("but the run is not complete"))
        #expect((report["authors"] as? [Any])?.count == 3)
    }

    /// Checks a failed run that adds a layer. Authors without files of the new layer must not count as complete.
    @Test func anAuthorWithoutANewLayerIsNotComplete() throws {
        try make()
        let struck = folder.file("struck")
        try Tool.run(
            Tool.tinyArguments(saveDirectory: out) + [
                "--layers", "2", "3", "--log_level", "error",
            ], exits: 74, environment: try shim(["FAULT_AT": "append:2:EIO:\(struck)"]))
        let run = try inspect(out)
        #expect((run["notes"] as? [String] ?? []).contains { $0.contains("a worker failed") })
        let newest = try lastRecordedRun("out")
        #expect(newest["authors_not_complete"]?.array?.count == 5, "\(newest)")
        #expect(newest["authors"]?.array?.isEmpty == true)
    }
}
