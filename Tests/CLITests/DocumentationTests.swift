// Tests of the documents. The commands in them must print the output that is shown, and flags and links must exist.

import ArgumentParser
import Foundation
import TestSupport
import Testing

@testable import sae_extract

struct DocumentationTests {
    static let documents: [String] = {
        let folder = TestData.packageRoot + "/docs"
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        return ["README.md", "scripts/README.md", "scripts/python/README.md"]
            + names.filter { $0.hasSuffix(".md") && $0 != "gpu-report.md" }.sorted().map {
                "docs/\($0)"
            }
    }()

    private static func lines(of document: String) throws -> [String] {
        let bytes = try TestData.bytes("\(TestData.packageRoot)/\(document)")
        return String(decoding: bytes, as: UTF8.self).components(separatedBy: "\n")
    }

    // MARK: Commands

    /// A `console` block of a document: commands for one shell, with the expected output of each command.
    struct Block: CustomTestStringConvertible {
        var document = ""
        var line = 0
        /// The words of the block's test condition: "fault POINT", "file-system NAME=VALUE…", "limit ULIMIT", "gpu
        /// BYTES" or "hub OPTIONS". Empty if the block has no condition.
        var circumstances: [String] = []
        var steps: [(command: String, output: [String])] = []

        var testDescription: String { "\(document):\(line)" }
    }

    /// Returns the `console` blocks of a document. A comment `<!-- test: … -->` gives the next block's circumstances.
    static func blocks(of document: String) throws -> [Block] {
        var blocks: [Block] = []
        var current: Block?
        var circumstances: [String] = []
        for (number, line) in try lines(of: document).enumerated() {
            if line.hasPrefix("<!-- test: ") {
                circumstances = line.dropFirst(11).dropLast(4).split(separator: " ").map(
                    String.init)
            } else if line == "```console" {
                current = Block(document: document, line: number + 1, circumstances: circumstances)
                circumstances = []
            } else if line == "```", let block = current {
                blocks.append(block)
                current = nil
            } else if current != nil, line.hasPrefix("$ ") {
                current!.steps.append((String(line.dropFirst(2)), []))
            } else if current != nil {
                current!.steps[current!.steps.count - 1].output.append(line)
            }
        }
        return blocks
    }

    /// Returns whether `lines` match `pattern`, in which "…" is any text, and a line "…" is any number of lines.
    static func matches(_ lines: ArraySlice<String>, _ pattern: ArraySlice<String>) -> Bool {
        guard let first = pattern.first else { return lines.isEmpty }
        if first == "…" {
            return (lines.startIndex...lines.endIndex).contains {
                matches(lines[$0...], pattern.dropFirst())
            }
        }
        guard let line = lines.first, fits(line, first) else { return false }
        return matches(lines.dropFirst(), pattern.dropFirst())
    }

    private static func fits(_ line: String, _ pattern: String) -> Bool {
        let parts = pattern.components(separatedBy: "…")
        guard parts.count > 1 else { return line == pattern }
        guard line.hasPrefix(parts[0]) else { return false }
        var rest = line.dropFirst(parts[0].count)
        for part in parts.dropFirst().dropLast() {
            guard let place = rest.range(of: part) else { return false }
            rest = rest[place.upperBound...]
        }
        return rest.hasSuffix(parts.last!)
    }

    /// Checks that the commands of a document print the output that the document shows.
    @Test(arguments: documents)
    func commandsDoWhatIsShown(document: String) throws {
        let folder = try TemporaryFolder()
        for name in ["Fixtures", "scripts"] {
            try folder.link(name, to: "\(TestData.packageRoot)/\(name)")
        }
        var exports: [String] = []
        for block in try DocumentationTests.blocks(of: document)
        where Tool.hasLimits || !block.circumstances.starts(with: ["limit", "-v"]) {
            let found = try run(block, in: folder, exports)
            exports += block.steps.map(\.command).filter { $0.hasPrefix("export ") }
            for (step, output) in zip(block.steps, found) {
                #expect(
                    DocumentationTests.matches(output[...], step.output[...]),
                    "\(block): $ \(step.command)\n\(output.joined(separator: "\n"))")
            }
            #expect(found.count == block.steps.count, "\(block)")
        }
    }

    private func run(_ block: Block, in folder: TemporaryFolder, _ exports: [String]) throws
        -> [[String]]
    {
        var environment: [String: String?] = [
            "PATH":
                "\(URL(fileURLWithPath: Tool.path).deletingLastPathComponent().path):\(ProcessInfo.processInfo.environment["PATH"] ?? "")"
        ]
        var script = "exec 2>&1\n"
        var hub: TestHub?
        // Each block has a separate folder for its Hub, because several blocks may start a Hub.
        let hubFolder = try TemporaryFolder()
        switch block.circumstances.first {
        case nil: break
        case "fault":
            let fault = "\(block.circumstances[1]):\(folder.file("struck-\(block.line)"))"
            environment["FAULT_AT"] = fault
            environment = try FaultShim.environment(environment, folder)
        case "file-system":
            environment = try FaultShim.environment(environment, folder)
            for variable in block.circumstances.dropFirst() {
                let parts = variable.split(separator: "=", maxSplits: 1).map(String.init)
                environment[parts[0]] = parts[1]
            }
        case "limit":
            script += "ulimit \(block.circumstances.dropFirst().joined(separator: " "))\n"
        case "gpu":
            environment.merge(FakeCUDA.environment(["FAKE_CUDA_MEM": block.circumstances[1]])) {
                $1
            }
        case "hub":
            hub = try TestHub(
                fixtureIn: hubFolder, options: Array(block.circumstances.dropFirst()))
            environment["HF_ENDPOINT"] = hub!.endpoint
            environment["HF_HOME"] = folder.file("cache")
        default: Issue.record("\(block): \(block.circumstances) is not known")
        }
        let mark = "=-=-=-="
        script += exports.map { $0 + "\n" }.joined()
        for step in block.steps {
            script += "\(step.command)\nstatus=$?; echo \(mark); (exit $status)\n"
        }
        let output = try TestCommand.run(
            ["/bin/bash", "-c", script], in: folder.path,
            environment: Tool.environment(environment)
        ).output
        withExtendedLifetime((hub, hubFolder)) {}
        return output.components(separatedBy: mark + "\n").dropLast().map {
            var lines = $0.components(separatedBy: "\n")
            if lines.last == "" { lines.removeLast() }
            return lines
        }
    }

    @Test func patternsAreMatched() {
        func matches(_ lines: [String], _ pattern: [String]) -> Bool {
            DocumentationTests.matches(lines[...], pattern[...])
        }
        #expect(
            matches(["a", "b 12 c"], ["a", "b … c"]) && !matches(["a", "b 12 d"], ["a", "b … c"]))
        #expect(matches(["a", "b", "c"], ["…", "c"]) && matches(["c"], ["…", "c"]))
        #expect(!matches(["a", "b"], ["a"]) && !matches([], ["a"]) && matches([], ["…"]))
        #expect(!matches(["a x"], ["a"]) && matches(["ab"], ["a…b"]) && !matches(["a"], ["a…a"]))
    }

    // MARK: Flags

    /// The flags in the help of each subcommand, by the subcommand's name. The key "" has the flags of a run.
    private static let flags: [String: Set<String>] = {
        var flags: [String: Set<String>] = [:]
        for command in [""] + SAEExtract.configuration.subcommands.map({ $0._commandName }) {
            let arguments = (command.isEmpty ? [] : [command]) + ["--help"]
            let help = (try? Tool.run(arguments).output) ?? ""
            flags[command] = Set(names(in: help))
        }
        return flags
    }()

    /// Returns the flags in `text`, which are words like `--batch_size`. Returns `--n_docs` for `--n-docs`.
    private static func names(in text: String) -> [String] {
        text.split(whereSeparator: { !($0.isLetter || $0.isNumber || $0 == "-" || $0 == "_") })
            .filter { $0.hasPrefix("--") && $0.count > 2 && $0.dropFirst(2).first!.isLetter }
            .map { $0 == "--n-docs" ? "--n_docs" : String($0) }
    }

    /// Checks that the program has every flag that the code blocks of a document give to `sae-extract`.
    @Test(arguments: documents)
    func documentedFlagsExist(document: String) throws {
        var inBlock = false
        var call: String?
        for (number, line) in try DocumentationTests.lines(of: document).enumerated() {
            if line.hasPrefix("```") { inBlock.toggle() }
            guard inBlock else { continue }
            let start = line.range(of: "sae-extract ").map { String(line[$0.upperBound...]) }
            // If a call of `sae-extract` ends with a backslash, the next line continues the call.
            let text = start ?? (call != nil ? line : "")
            call = text.hasSuffix("\\") ? text : nil
            let code = String(text.split(separator: " #", maxSplits: 1).first ?? "")
            let command = code.split(separator: " ").first.map(String.init) ?? ""
            let known = DocumentationTests.flags[command] ?? DocumentationTests.flags[""]!
            let all = known.union(DocumentationTests.flags[""]!)
            for flag in DocumentationTests.names(in: code) {
                // troubleshooting.md shows this misspelt flag and its error message.
                let isShown = document == "docs/troubleshooting.md" && flag == "--batch_sise"
                #expect(
                    (start == nil ? all : known).contains(flag) || isShown,
                    "\(document):\(number + 1): \(flag)")
            }
        }
    }

    /// Checks that the documents mention every subcommand and every flag of each subcommand.
    @Test func everythingIsDocumented() throws {
        let text = try DocumentationTests.documents.map {
            try DocumentationTests.lines(of: $0).joined(separator: "\n")
        }.joined(separator: "\n")
        for (command, flags) in DocumentationTests.flags {
            #expect(flags.count > 2 || command == "devices")
            for flag in flags where !["--help", "--version"].contains(flag) {
                #expect(text.contains("`\(flag)"), "\(command) \(flag)")
            }
            #expect(command.isEmpty || text.contains("sae-extract \(command)"), "\(command)")
        }
    }

    /// Checks that every link in a document leads to an existing file and heading.
    @Test(arguments: documents)
    func linksLead(document: String) throws {
        let folder = (document as NSString).deletingLastPathComponent
        let text = try DocumentationTests.lines(of: document).joined(separator: "\n")
        for match in text.matches(of: /\]\(([^)\s]+)\)/) {
            let target = String(match.output.1)
            guard !target.hasPrefix("http") else { continue }
            let parts = target.split(separator: "#", omittingEmptySubsequences: false).map(
                String.init)
            let path = parts[0].isEmpty ? document : (folder.isEmpty ? "" : folder + "/") + parts[0]
            let full = "\(TestData.packageRoot)/\(path)"
            #expect(FileManager.default.fileExists(atPath: full), "\(document): \(target)")
            guard parts.count > 1, let bytes = try? TestData.bytes(full) else { continue }
            let anchors = String(decoding: bytes, as: UTF8.self).components(separatedBy: "\n")
                .filter { $0.hasPrefix("#") }
                .map { heading in
                    heading.drop { $0 == "#" || $0 == " " }.lowercased()
                        .filter {
                            $0.isLetter || $0.isNumber || $0 == "-" || $0 == " " || $0 == "_"
                        }
                        .replacing(" ", with: "-")
                }
            #expect(anchors.contains(parts[1]), "\(document): \(target)")
        }
    }
}
