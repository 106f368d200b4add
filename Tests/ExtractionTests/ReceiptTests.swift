// Tests of receipts: they are written line by line, each is read once, and damaged ones are ignored. Also tests of labels in
// names, and of the ranks of an author.

import Corpus
import Files
import Foundation
import Hooks
import TestSupport
import Testing

@testable import AuthorReceipts
@testable import Planning
@testable import RunFiles
@testable import RunState

struct ReceiptTests {
    private let folder: TemporaryFolder
    private let plan: RunPlan
    private let inputs: InputFingerprints
    private var state: StateFolder

    init() throws {
        folder = try TemporaryFolder()
        var options = RunOptions()
        options.layers = [1]
        options.modelPath = TestData.tiny + "/model"
        options.saeDirectory = TestData.tiny + "/sae"
        options.dataPath = TestData.tiny + "/authormix.jsonl"
        options.saveDirectory = folder.path
        plan = try RunPlan(local: options)
        inputs = try InputFingerprints(plan)
        state = StateFolder(plan.files, ResumeSettings(plan, inputs))
        try state.open()
    }

    private func receipt(_ number: Int, saes: [String: String]? = nil) -> AuthorReceipt {
        let author = plan.authors[number].author
        let names = plan.items.map { $0.name(plan.naming, author: author) }
        return AuthorReceipt(
            author: author, number: number, lines: plan.authors[number].documents.map(\.line),
            tokens: plan.authors[number].documents.map { _ in 3 }, truncatedRows: [],
            dividedBatches: [], crossEntropySum: 1, entropySum: 1, firingCounts: [:],
            saes: saes ?? state.settings.saes, kernels: "k",
            files: Dictionary(
                uniqueKeysWithValues: names.map { ($0, FileSeal(size: 5, crc32: 7)) }))
    }

    private func files(_ ending: String) throws -> [String] {
        try directoryContents(state.directory.path, endingIn: ending).map {
            "\(state.directory.path)/\($0)"
        }
    }

    /// The same folder, as another process sees it.
    private func other() -> StateFolder { StateFolder(plan.files, state.settings) }

    private func known(_ state: StateFolder) throws -> [Int] {
        try state.completed().summaries.map(\.number).sorted()
    }

    @Test func aProcessHasOneFileAndOthersReadItAsItGrows() throws {
        let other = other()
        #expect(try known(other) == [])
        for number in 0..<4 {
            try state.add(receipt(number))
            #expect(try known(other) == Array(0...number))
        }
        #expect(try files(".receipts").count == 1)
        #expect(try known(state) == [0, 1, 2, 3])
        // Receipts that were read are remembered, so the file is no longer needed.
        try FileManager.default.removeItem(atPath: try files(".receipts")[0])
        #expect(try known(other) == [0, 1, 2, 3])
        #expect(try known(self.other()) == [])
    }

    /// Checks that a wrong byte never costs all lines (a wrong line break costs two), and that a line without an end is not read
    /// yet.
    @Test func damagedLinesAttestNothing() throws {
        for number in 0..<3 { try state.add(receipt(number)) }
        let path = try files(".receipts")[0]
        let bytes = try TestData.bytes(path)
        var kept: Set<[Int]> = []
        for position in stride(from: 0, to: bytes.count, by: 7) {
            var damaged = bytes
            damaged[position] ^= 0x10
            try TestData.write(damaged, to: path)
            let found = try known(other())
            #expect(found.count < 3, "byte \(position) is not protected")
            kept.insert(found)
        }
        #expect(kept.isSuperset(of: [[0, 1], [0, 2], [1, 2]]))
        #expect(kept.allSatisfy { $0.count >= 1 })
        let reader = other()
        try TestData.write(bytes.dropLast(10), to: path)
        #expect(try known(reader) == [0, 1])
        try TestData.write(bytes, to: path)
        #expect(try known(reader) == [0, 1, 2])
    }

    /// Checks that receipts with valid checksums that cannot be of this plan's authors count as damaged and give a warning.
    @Test func impossibleReceiptsAttestNothing() throws {
        func attempt(_ change: (inout AuthorReceipt) -> Void) throws -> (
            known: [Int], warnings: Int
        ) {
            var wrong = receipt(1)
            change(&wrong)
            var writer = other()
            try writer.open()
            try writer.add(wrong)
            let reader = other()
            let found = try known(reader)
            try FileManager.default.removeItem(atPath: try files(".receipts")[0])
            return (found, reader.receiptWarnings.count)
        }
        #expect(try attempt { _ in } == ([1], 0))
        let changes: [(inout AuthorReceipt) -> Void] = [
            { $0.author = "nobody" }, { $0.number = 0 }, { $0.number = -1 }, { $0.number = .max },
            { $0.tokens[0] = -1 }, { $0.tokens[0] = plan.columns + 1 }, { $0.tokens[0] = .max },
            { $0.tokens.append(3) }, { ($0.tokens, $0.lines) = ([], []) },
            { $0.truncatedRows = [1 << 40] }, { $0.dividedBatches = [-1] },
            { $0.firingCounts = ["blocks.1.hook_resid_post": .max] },
            { $0.firingCounts = ["blocks.1.hook_resid_post": -1] },
            { $0.crossEntropySum = -1 }, { $0.files["x"] = FileSeal(size: -1, crc32: 0) },
        ]
        for change in changes { #expect(try attempt(change) == ([], 1)) }
    }

    /// Checks that large counts in receipts cause no overflow when they are added.
    @Test func claimsOfReceiptsAreBounded() throws {
        for number in plan.authors.indices.dropFirst() {
            var large = receipt(number)
            large.tokens = large.tokens.map { _ in 0 }
            large.tokens[0] = 1
            large.firingCounts = Dictionary(
                uniqueKeysWithValues: plan.saes.map { ($0.hook.description, 1 << 50) })
            try state.add(large)
        }
        _ = try SizeEstimate(plan, inputs, other(), overwriting: false)
    }

    /// Checks that receipts in separate files, as earlier versions wrote them, are read.
    @Test func receiptsInFilesOfTheirOwnAreRead() throws {
        try state.add(receipt(0))
        let line = try TestData.bytes(try files(".receipts")[0]).dropLast()
        try TestData.write(
            line.dropFirst(9), to: state.directory.path + "/0123456789abcdef.receipt")
        try FileManager.default.removeItem(atPath: try files(".receipts")[0])
        #expect(try known(other()) == [0])
        #expect(try other().hasResults())
    }

    @Test func filesOfAnotherSAEAreKnownAsSuch() throws {
        let hook = HookPoint(layer: 1, site: .res)
        var saes = state.settings.saes
        saes[hook.description] = "another"
        try state.add(receipt(0, saes: saes))
        let receipts = try other().completed()
        let name = plan.naming.activations(
            hook, author: plan.authors[0].author, isSparse: false)
        #expect(!receipts.knows(name))
        #expect(receipts.foreign.map(\.names) == [[name]])
        // If the file exists, a run with this SAE would mix with it and is refused.
        try other().check()
        try folder.write([1], name)
        #expect(throws: ConfigurationConflict.self) { try other().check() }
    }

    /// Checks that a run whose folder was overwritten notices it when it adds a receipt.
    @Test func aRemovedFolderIsNoticed() throws {
        try state.add(receipt(0))
        var successor = other()
        _ = try successor.clear(plan.files)
        try successor.open()
        #expect(!state.isInPlace && successor.isInPlace)
        #expect(throws: StateRemovedError.self) { try state.add(receipt(1)) }
        #expect(throws: StateRemovedError.self) { try state.add(receipt(1)) }
        #expect(try known(other()) == [])
    }

    // MARK: Names

    @Test(arguments: [
        ("google/gemma-2-2b", "google_gemma-2-2b", "google_gemma-2-2b"),
        ("gemma__ft", "gemma%5F%5Fft", "gemma%5F%5Fft"), ("a_/b", "a%5F%5Fb", "a%5F%5Fb"),
        ("_x_", "%5Fx%5F", "%5Fx%5F"), ("a b%c", "a b%25c", "a b%25c"),
        ("tab\there", "tab%09here", "tab%09here"), (".x", "%2Ex", "%2Ex"),
        // File names continue after the label, folder names do not. Only folder names encode a final dot or space, reserved
        // device names, and the characters that Windows refuses.
        ("end.", "end.", "end%2E"), ("end ", "end ", "end%20"), ("con", "con", "%63on"),
        ("COM1.x", "COM1.x", "%43OM1.x"), ("comma", "comma", "comma"),
        ("a:b?", "a:b?", "a%3Ab%3F"),
    ])
    func labelsAreEncoded(label: String, name: String, folder: String) {
        let naming = OutputNaming(label: label)
        #expect(naming.labelName == name && naming.folderName == folder)
        #expect(naming.file(.tokens, author: "x") == "sae__\(name)__tokens__x.json")
        #expect(OutputNaming(labelName: naming.labelName) == naming)
        #expect(
            OutputNaming(earlierSpellingOf: label).labelName == label.replacing("/", with: "_"))
    }

    @Test func ranksOfAnAuthorAreThoseWithShares() {
        for (authors, world) in [(1, 1), (5, 2), (3, 4), (3, 7), (7, 7), (10, 3)] {
            for number in 0..<authors {
                let ranks = (0..<world).filter {
                    AuthorShare.shares(rank: $0, worldSize: world, authorCount: authors)
                        .contains { $0.number == number }
                }
                #expect(
                    AuthorShare.ranks(ofAuthor: number, worldSize: world, authorCount: authors)
                        == ranks)
            }
        }
    }

    // MARK: Space

    @Test func freeSpaceIsThatOfTheNearestFolder() throws {
        let here = FreeSpace(at: folder.path)
        #expect(try #require(here.bytes) > 0)
        #expect(FreeSpace(at: folder.file("not/there/yet")).bytes != nil)
        // /proc reports no blocks, so its free space is unknown.
        #expect(FreeSpace(at: "/proc/self") == FreeSpace(at: "/proc"))
        #expect(FreeSpace(at: "/proc").bytes == nil)
    }
}
