// Putting files into their places in a cache whose folders are on several file systems: `blobs` or `snapshots` may be links.

import ArrayFiles
import Glibc

extension HubCache {
    /// Gives the file at `path` the name `target`, replacing what is there; from one file system to another it is copied. Throws
    /// `FileError`.
    func move(_ path: String, to target: String) throws(FileError) {
        if rename(path, target) == 0 { return }
        guard errno == EXDEV else { throw FileError("rename", path) }
        try copyIntoPlace(path, target)
        unlink(path)
    }

    /// Copies the file at `path` to `target`, which appears whole or not at all. Throws `FileError`.
    func copyIntoPlace(_ path: String, _ target: String) throws(FileError) {
        let source = open(path, O_RDONLY | O_CLOEXEC)
        guard source >= 0 else { throw FileError("open", path) }
        defer { close(source) }
        // Named as huggingface_hub names what is not complete.
        let temporary =
            "\(target).\(String(UInt64.random(in: .min ... .max), radix: 16)).incomplete"
        let copy = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
        guard copy >= 0 else { throw FileError("create", temporary) }
        defer { close(copy) }
        do throws(FileError) {
            let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 16)
            defer { buffer.deallocate() }
            while true {
                let count = read(source, buffer.baseAddress, buffer.count)
                if count < 0, errno == EINTR { continue }
                guard count >= 0 else { throw FileError("read", path) }
                if count == 0 { break }
                try writeAll(
                    UnsafeRawBufferPointer(rebasing: buffer[..<count]), to: copy, path: temporary)
            }
            guard synchronizeToDisk(copy) else { throw FileError("write", temporary) }
            guard rename(temporary, target) == 0 else { throw FileError("rename", target) }
        } catch {
            unlink(temporary)
            throw error
        }
    }

    /// Makes a link to `content` at `path` without a name beside it, in place of what is there. Throws `FileError`.
    func replace(_ path: String, byLinkTo content: String) throws(FileError) {
        if symlink(content, path) == 0 { return }
        guard errno == EEXIST, unlink(path) == 0, symlink(content, path) == 0 else {
            throw FileError("create", path)
        }
    }

    /// The path of `path` without links. Throws `FileError`.
    func realPath(_ path: String) throws(FileError) -> String {
        guard let real = realpath(path, nil) else { throw FileError("open", path) }
        defer { free(real) }
        return String(cString: real)
    }
}
