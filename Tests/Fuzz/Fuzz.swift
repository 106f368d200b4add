// Feeds damaged input to the code that reads untrusted bytes. scripts/checks/fuzz builds and runs this program.
//
//   fuzz --targets                      prints the names of the targets
//   fuzz --prepare TARGET FOLDER        writes the target's seeds and its dictionary to FOLDER/seeds and
//                                       FOLDER/dictionary
//   FUZZ_TARGET=TARGET fuzz [argument]  runs libFuzzer on a target with libFuzzer's arguments

import CLibFuzzer
import Foundation
import TestSupport

/// A reader with its seeds. An input is a finding if it ends the process, takes too long or takes too much memory.
struct FuzzTarget: Sendable {
    /// Reads one input. The bytes are valid only during the call.
    typealias Body = @Sendable (_ input: UnsafeBufferPointer<UInt8>) throws -> Void

    let name: String
    /// Words of the file format, which random changes alone would rarely produce.
    var dictionary: [String] = []
    /// Additional arguments for libFuzzer.
    var arguments: [String] = []
    /// Returns the valid inputs with which fuzzing starts.
    let seeds: @Sendable () throws -> [[UInt8]]
    /// Reads one input. Throws an error if the reader correctly refuses the input.
    let body: Body

    init(
        _ name: String, dictionary: [String] = [], arguments: [String] = [],
        seeds: @escaping @Sendable () throws -> [[UInt8]], body: @escaping Body
    ) {
        (self.name, self.dictionary, self.arguments) = (name, dictionary, arguments)
        (self.seeds, self.body) = (seeds, body)
    }

    static let all: [FuzzTarget] =
        [json] + corpora + arrays + tokenizers + models + states + hubs

    /// Writes the seeds to `folder`/seeds and the dictionary to `folder`/dictionary.
    func prepare(_ folder: String) throws {
        try FileManager.default.createDirectory(
            atPath: folder + "/seeds", withIntermediateDirectories: true)
        for (number, seed) in try seeds().enumerated() {
            try TestData.write(seed, to: "\(folder)/seeds/\(number)")
        }
        let entries = dictionary.map { word in
            "\""
                + word.utf8.map { byte in
                    (0x20..<0x7F).contains(byte) && byte != UInt8(ascii: "\"")
                        && byte != UInt8(ascii: "\\")
                        ? String(UnicodeScalar(byte))
                        : "\\x" + String(byte >> 4, radix: 16) + String(byte & 15, radix: 16)
                }.joined() + "\"\n"
        }
        try TestData.write(entries.joined().utf8, to: folder + "/dictionary")
    }
}

/// Ends the process with the message `what` if `isRight` is false.
func check(_ isRight: Bool, _ what: @autoclosure () -> String) {
    if !isRight { fatalError(what()) }
}

/// A temporary folder with the input file, which each input overwrites, and with other files that readers need.
enum Workspace {
    static let folder: String = {
        // Uses /dev/shm, which is in memory, if it is writable.
        let root = isDirectoryWritable("/dev/shm") ? "/dev/shm" : NSTemporaryDirectory()
        let path = "\(root)/sae-extract-fuzz-\(getpid())"
        try! FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        atexit { try? FileManager.default.removeItem(atPath: Workspace.folder) }
        return path
    }()

    private static func isDirectoryWritable(_ path: String) -> Bool {
        access(path, W_OK | X_OK) == 0
    }

    /// Writes `bytes` to the file `name` in the folder and returns its path.
    static func file(_ bytes: UnsafeRawBufferPointer, _ name: String = "input") -> String {
        let path = "\(folder)/\(name)"
        let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        check(descriptor >= 0, "\(path) cannot be written")
        defer { close(descriptor) }
        check(
            bytes.isEmpty || write(descriptor, bytes.baseAddress, bytes.count) == bytes.count,
            "\(path) cannot be written")
        return path
    }

    static func file(_ bytes: UnsafeBufferPointer<UInt8>, _ name: String = "input") -> String {
        file(UnsafeRawBufferPointer(bytes), name)
    }

    static func file(_ bytes: [UInt8], _ name: String = "input") -> String {
        bytes.withUnsafeBytes { file($0, name) }
    }
}

@main
enum Fuzz {
    nonisolated(unsafe) private static var target = FuzzTarget.all[0]

    static func main() throws {
        let arguments = CommandLine.arguments.dropFirst()
        switch arguments.first {
        case "--targets":
            for target in FuzzTarget.all { print(target.name) }
        case "--prepare" where arguments.count == 3:
            try named(arguments[2]).prepare(arguments[3])
        default:
            target = named(ProcessInfo.processInfo.environment["FUZZ_TARGET"] ?? "")
            // libFuzzer uses these strings until the process ends, so they are never freed.
            let words = CommandLine.arguments + target.arguments
            let list = UnsafeMutableBufferPointer<UnsafeMutablePointer<CChar>?>
                .allocate(capacity: words.count + 1)
            _ = list.initialize(from: words.map { strdup($0) } + [nil])
            var (count, values) = (Int32(words.count), list.baseAddress)
            exit(
                LLVMFuzzerRunDriver(&count, &values) { start, count in
                    do {
                        try Fuzz.target.body(UnsafeBufferPointer(start: start, count: count))
                    } catch {
                        // Also builds the error's message, which contains parts of the input.
                        check(!"\(error)".isEmpty, "an error with an empty message")
                    }
                    return 0
                })
        }
    }

    private static func named(_ name: String) -> FuzzTarget {
        if let target = FuzzTarget.all.first(where: { $0.name == name }) { return target }
        FileHandle.standardError.write(Data("fuzz: unknown target '\(name)'\n".utf8))
        exit(64)
    }
}
