// Reads a file descriptor line by line.

import Glibc

/// Reads a file descriptor line by line, each line as soon as it is complete.
final class LineReader {
    private let descriptor: Int32
    private var buffer: [UInt8] = []
    private var searched = 0

    init(descriptor: Int32) {
        self.descriptor = descriptor
    }

    /// Returns the next line without its line break, or nil at the end of the input. Waits until a line is complete.
    func next() -> [UInt8]? {
        while true {
            if let end = buffer[searched...].firstIndex(of: 0x0A) {
                let line = Array(buffer[..<end])
                buffer.removeSubrange(...end)
                searched = 0
                return line
            }
            searched = buffer.count
            let chunk = [UInt8](unsafeUninitializedCapacity: 1 << 16) { out, count in
                var got = -1
                // EINTR is not the end of the input. For example, Swift's crash reporter interrupts threads.
                repeat {
                    got = read(descriptor, out.baseAddress, out.count)
                } while got < 0 && errno == EINTR
                count = max(0, got)
            }
            if chunk.isEmpty {
                guard !buffer.isEmpty else { return nil }
                defer { (buffer, searched) = ([], 0) }
                return buffer
            }
            buffer += chunk
        }
    }
}
