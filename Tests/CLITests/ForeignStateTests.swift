// Tests of journals and receipts with impossible contents but valid checksums, of files that become shorter while the
// program reads them, and of low limits on open files.

import ArrayFiles
import Files
import Foundation
import TestSupport
import Testing

struct ForeignStateTests: Resuming {
    let folder: TemporaryFolder
    let corpus: String

    // MARK: Journals

    private func little<N: FixedWidthInteger>(_ value: N) -> [UInt8] {
        withUnsafeBytes(of: value.littleEndian, Array.init)
    }

    private func number<N: FixedWidthInteger>(_ bytes: [UInt8], _ place: Int, _: N.Type) -> Int {
        bytes.withUnsafeBytes {
            Int(N(littleEndian: $0.loadUnaligned(fromByteOffset: place, as: N.self)))
        }
    }

    /// Changes the first record's payload, and corrects its checksums. Returns the bytes of the new journal.
    private func changed(_ journal: [UInt8], _ change: (inout [UInt8]) -> Void) -> [UInt8] {
        // A journal begins with a signature of 8 bytes and the header's frame. A frame's payload begins at byte 32.
        let start = 8 + 32 + number(journal, 8 + 16, UInt64.self)
        let end = start + 32 + number(journal, start + 16, UInt64.self)
        var payload = Array(journal[(start + 32)..<end])
        change(&payload)
        var head = Array(journal[start..<start + 24])
        head.replaceSubrange(16..<24, with: little(UInt64(payload.count)))
        head += little(payload.withUnsafeBytes { crc32($0) })
        head += little(head.withUnsafeBytes { crc32($0) })
        return journal[..<start] + head + payload + journal[end...]
    }

    /// Returns the byte offsets of two sections of a payload: the documents, and the features of the first hook.
    private func places(_ payload: [UInt8]) -> (documents: Int, features: Int) {
        let documents = 4 + 16 * number(payload, 0, UInt32.self)
        return (documents, documents + number(payload, 4 + 8, UInt64.self))
    }

    @Test func batchesThatCannotBeAreComputedAgain() throws {
        try run(job("whole"))
        let expected = try results("whole")
        try stopHalfway(job("stopped"))
        // Removes the receipts, so that no author is complete and the run reads every batch of the journal.
        for path in try own(".receipts", in: "stopped") {
            try FileManager.default.removeItem(atPath: path)
        }
        let journal = try #require(try own(".journal", in: "stopped").first)
        let bytes = try TestData.bytes(journal)
        func put(_ value: some FixedWidthInteger, _ place: (([UInt8]) -> Int)) -> [UInt8] {
            changed(bytes) {
                let start = place($0)
                let new = little(value)
                $0.replaceSubrange(start..<start + new.count, with: new)
            }
        }
        func columns(_ payload: [UInt8]) -> Int {
            let start = places(payload).features
            return start + 16 + 8 * (number(payload, start, Int64.self) + 1)
        }
        let wrong: [(String, [UInt8])] = [
            ("documents -1", put(Int64(-1)) { places($0).documents }),
            ("2^60 tokens", put(Int64(1) << 60) { places($0).documents + 8 }),
            ("a token that there is not", put(Int32(2_000_000_000)) { places($0).documents + 16 }),
            ("another token", put(Int32(7)) { places($0).documents + 16 }),
            ("2^61 entries", put(Int64(1) << 61) { places($0).features + 8 }),
            ("a start of 2^40", put(Int64(1) << 40) { places($0).features + 24 }),
            ("column 2^30", put(Int32(1) << 30, columns)),
            ("column -5", put(Int32(-5), columns)),
        ]
        for (what, damaged) in wrong {
            let name = what.replacing(" ", with: "_")
            _ = try folder.copy(folder.file("stopped"), name)
            let copy = try #require(try own(".journal", in: name).first)
            try TestData.write(damaged, to: copy)
            let outcome = try run(job(name))
            #expect(
                outcome.errors.contains(
                    ".journal: batch 0 of author 0 is damaged; the missing batches are computed again"
                ),
                "\(what): \(outcome.errors)")
            #expect(computed(outcome) > 0)
            #expect(try results(name) == expected, "\(what)")
        }
    }

    /// Checks a receipt with impossible numbers but a valid checksum. The author must be computed again.
    @Test(arguments: [
        (#""number":\d+"#, #""number":4096"#), (#""tokens":\[\d+"#, #""tokens":[67108864"#),
        (#""tokens":\["#, #""tokens":[3,"#), (#""(blocks[^"]*)":\d+"#, #""$1":1125899906842625"#),
        (#""truncatedRows":\["#, #""truncatedRows":[-1,"#),
    ])
    func receiptsThatCannotBeCountForNothing(pattern: String, replacement: String) throws {
        let job = Tool.tinyArguments(saveDirectory: folder.file("out")) + ["--device", "cpu"]
        try run(job)
        let expected = try results("out")
        let path = try #require(try own(".receipts").first)
        let lines = try TestData.text(path).split(separator: "\n")
        let changed = lines.map { line -> String in
            let text = String(line.dropFirst(9)).replacingOccurrences(
                of: pattern, with: replacement, options: .regularExpression)
            let crc = Array(text.utf8).withUnsafeBytes { crc32($0) }
            return String(format: "%08x ", crc) + text + "\n"
        }
        #expect(changed.joined() != lines.map { $0 + "\n" }.joined())
        try TestData.write(changed.joined().utf8, to: path)
        let outcome = try run(job)
        #expect(
            outcome.errors.contains(
                "byte 0: a receipt that is damaged or does not fit this run"),
            "\(outcome.errors)")
        #expect(computed(outcome) > 0)
        #expect(try results("out") == expected)
    }

    // MARK: Files that become shorter

    /// Runs `arguments`. The file whose path contains `part` is cut to 0 bytes as soon as it is mapped.
    private func cut(_ arguments: [String], _ part: String) throws -> TestCommand.Outcome {
        try Tool.run(arguments, environment: try shim(["FAULT_CUT": part]))
    }

    @Test func filesThatBecomeShorterAreNamed() throws {
        let array = try folder.write(
            NPYHeader(descr: "<f4", shape: [100_000]).encoded
                + [UInt8](repeating: 1, count: 400_000), "array.npy")
        let model = try folder.copy(TestData.tiny + "/model-single", "model")
        try run(job("out"))
        let out = folder.file("out")
        let result = try #require(
            try Tool.results(in: out).keys.first { $0.contains("res__activations") })
        var fresh = job("new")
        fresh.replace([TestData.tiny + "/model"], with: [model])
        for (arguments, path) in [
            (["inspect", array], array), (["verify", out], "\(out)/\(result)"),
            (["report", out], "\(out)/\(result)"), (fresh, model + "/model.safetensors"),
        ] {
            let whole = try TestData.bytes(path)
            let outcome = try cut(arguments, path)
            #expect(outcome.status == 74, "\(arguments): \(outcome.status) \(outcome.errors)")
            #expect(
                outcome.errors.hasSuffix(
                    "Error: \(path): became shorter while it was read, or its disk failed; wait until no program writes to it, then run the same command again\n"
                ), "\(outcome.errors)")
            #expect(!outcome.errors.contains("Backtracing"))
            try TestData.write(whole, to: path)
        }
    }

    // MARK: Open files

    @Test(arguments: [(64, 10, 112), (39, 1, 40), (12, 1, 40), (47, 2, 48)])
    func fewOpenFilesAreNamed(limit: Int, workers: Int, needed: Int) throws {
        let outcome = try Tool.run(
            job("out") + ["--workers", "\(workers)", "--threads", "1"], exits: 74,
            launcher: .limit("-n \(limit)"))
        #expect(
            outcome.errors.contains(
                "Error: \(limit) files may be open at once (ulimit -n), but "), "\(outcome.errors)")
        #expect(outcome.errors.contains("ulimit -n \(needed)"))
        // Where 40 files are needed, the number of workers is not known yet, so there is no advice about it.
        #expect(needed == 40 || outcome.errors.contains("give fewer --workers"))
    }

    @Test func enoughOpenFilesAreEnough() throws {
        for (limit, workers) in [(40, 1), (56, 3)] {
            try Tool.run(
                job("out \(workers)") + ["--workers", "\(workers)", "--threads", "1"], exits: 0,
                launcher: .limit("-n \(limit)"))
        }
    }
}
