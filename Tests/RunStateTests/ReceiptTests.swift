// Tests of the receipts in a state folder. A process appends its receipts to one file, which other processes read.

import Files
import Foundation
import Hooks
import RunFiles
import TestSupport
import Testing

@testable import AuthorReceipts
@testable import RunState

struct ReceiptTests {
    private let run: SmallRun
    private var state: StateFolder

    init() throws {
        run = try SmallRun(hook: HookPoint(layer: 1, site: .res))
        state = run.state()
        try state.open()
    }

    private func files(_ ending: String) throws -> [String] {
        try directoryContents(state.directory.path, endingIn: ending).map {
            "\(state.directory.path)/\($0)"
        }
    }

    private func known(_ state: StateFolder) throws -> [Int] {
        try state.completed().summaries.map(\.number).sorted()
    }

    @Test func aProcessHasOneFileAndOthersReadItAsItGrows() throws {
        let other = run.state()
        #expect(try known(other) == [])
        for number in 0..<4 {
            try state.add(run.receipt(number))
            #expect(try known(other) == Array(0...number))
        }
        #expect(try files(".receipts").count == 1)
        #expect(try known(state) == [0, 1, 2, 3])
        // A process remembers the receipts that it has read, so it no longer needs the file.
        try FileManager.default.removeItem(atPath: try files(".receipts")[0])
        #expect(try known(other) == [0, 1, 2, 3])
        #expect(try known(run.state()) == [])
    }

    /// Checks the warnings for a damaged receipt and for a receipt that cannot belong to the run.
    @Test func badReceiptsGiveWarnings() throws {
        var wrong = run.receipt(1)
        wrong.tokens[0] = 360
        for receipt in [run.receipt(0), wrong, run.receipt(2), run.receipt(3)] {
            try state.add(receipt)
        }
        let path = try files(".receipts")[0]
        var bytes = try TestData.bytes(path)
        bytes[bytes.count - 10] ^= 1
        try TestData.write(bytes, to: path)
        let reader = run.state()
        #expect(try known(reader) == [0, 2])
        #expect(reader.receiptWarnings.count == 2)
        #expect(reader.receiptWarnings.allSatisfy { $0.hasPrefix(path) })
    }

    /// Checks that receipts in separate files count as results. Earlier versions wrote one file for each receipt.
    @Test func receiptsInFilesOfTheirOwnAreResults() throws {
        #expect(try !run.state().hasResults())
        try state.add(run.receipt(0))
        let line = try TestData.bytes(try files(".receipts")[0]).dropLast()
        try TestData.write(
            line.dropFirst(9), to: state.directory.path + "/0123456789abcdef.receipt")
        try FileManager.default.removeItem(atPath: try files(".receipts")[0])
        #expect(try known(run.state()) == [0])
        #expect(try run.state().hasResults())
    }

    /// Checks that files of another SAE do not count as results. If they exist, a run is refused, because the results
    /// of two SAEs would mix.
    @Test func filesOfAnotherSAEAreRefused() throws {
        try state.add(run.receipt(0, saes: [run.hook.description: "another"]))
        let name = run.files.naming.activations(
            run.hook, author: run.files.authors[0].name, isSparse: false)
        #expect(try run.state().missing(run.files, authors: [0]).contains(name))
        try run.state().check()
        try run.folder.write([1], name)
        #expect(throws: ConfigurationConflict.self) { try run.state().check() }
    }

    /// Checks that a run notices, when it adds a receipt, that `--overwrite` has replaced its state folder.
    @Test func aRemovedFolderIsNoticed() throws {
        try state.add(run.receipt(0))
        var successor = run.state()
        _ = try successor.clear(run.files)
        try successor.open()
        #expect(!state.isInPlace && successor.isInPlace)
        #expect(throws: StateRemovedError.self) { try state.add(run.receipt(1)) }
        #expect(throws: StateRemovedError.self) { try state.add(run.receipt(1)) }
        #expect(try known(run.state()) == [])
    }
}
