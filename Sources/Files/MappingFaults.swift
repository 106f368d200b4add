// The handler of the signal SIGBUS. A process gets SIGBUS if it reads from a memory-mapped file that became shorter
// or whose disk failed. The handler prints a message and ends the process with a fixed exit status.

import Glibc
import Synchronization

/// The addresses and the path of a memory-mapped file. The path is a C string, because a signal handler must not use
/// `String`.
private struct Mapping {
    var start: UInt = 0
    var end: UInt = 0
    var path: UnsafeMutablePointer<CChar>?
}

// These globals have constant initial values, because a signal handler must not run initializers.
private nonisolated(unsafe) var mappings: UnsafeMutablePointer<Mapping>?
private nonisolated(unsafe) var exitStatus: Int32 = 74

/// The maximum number of memory-mapped files whose paths the message can name. No command maps so many files at once.
private let capacity = 1024

/// Writes `text` to standard error. May be called in a signal handler.
private func say(_ text: StaticString) {
    _ = write(STDERR_FILENO, text.utf8Start, text.utf8CodeUnitCount)
}

extension MappedFile {
    private static let table = Mutex(())

    /// Installs the handler of SIGBUS, which prints a message to standard error and ends the process with `status`.
    /// Call this function once, before files are mapped.
    public static func explainFaults(status: Int32) {
        let memory = UnsafeMutablePointer<Mapping>.allocate(capacity: capacity)
        memory.initialize(repeating: Mapping(), count: capacity)
        (mappings, exitStatus) = (memory, status)
        var action = sigaction()
        action.__sigaction_handler.sa_sigaction = { _, info, _ in
            // A signal handler must not allocate memory or take locks.
            let address = info.map { UInt(bitPattern: $0.pointee._sifields._sigfault.si_addr) } ?? 0
            var path: UnsafeMutablePointer<CChar>?
            if let mappings {
                for place in 0..<capacity {
                    let mapping = mappings[place]
                    if mapping.path != nil, mapping.start <= address, address < mapping.end {
                        path = mapping.path
                    }
                }
            }
            say("Error: ")
            if let path {
                _ = Glibc.write(STDERR_FILENO, path, strlen(path))
            } else {
                say("a file")
            }
            say(
                ": became shorter while it was read, or its disk failed; wait until no program writes to it, then run the same command again\n"
            )
            _exit(exitStatus)
        }
        action.sa_flags = SA_SIGINFO
        sigaction(SIGBUS, &action, nil)
    }

    /// Tells the signal handler that the file at `path` is memory-mapped at `base`.
    static func remember(_ base: UnsafeRawPointer, _ size: Int, _ path: String) {
        table.withLock { _ in
            guard let mappings,
                let place = (0..<capacity).first(where: { mappings[$0].path == nil })
            else { return }
            let start = UInt(bitPattern: base)
            // A terminal would execute control characters in a path, so "?" replaces them.
            let name = path.utf8.map { $0 < 0x20 || $0 == 0x7F ? UInt8(ascii: "?") : $0 } + [0]
            mappings[place] = Mapping(
                start: start, end: start + UInt(size),
                path: name.withUnsafeBytes {
                    strdup($0.baseAddress!.assumingMemoryBound(to: CChar.self))
                })
        }
    }

    /// Tells the signal handler that the file at `base` is no longer memory-mapped.
    static func forget(_ base: UnsafeRawPointer) {
        table.withLock { _ in
            let start = UInt(bitPattern: base)
            guard let mappings,
                let place = (0..<capacity).first(where: {
                    mappings[$0].path != nil && mappings[$0].start == start
                })
            else { return }
            let path = mappings[place].path
            mappings[place] = Mapping()
            free(path)
        }
    }
}
