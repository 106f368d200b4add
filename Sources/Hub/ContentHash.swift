// Proves by a hash that a content belongs to a file on the Hub.

import Crypto
import Files
import Glibc

/// Computes the hash of a content piece by piece. The hash is SHA-256 or git's id, like the digest in the Hub's
/// listing.
struct ContentHash {
    private enum Kind {
        case sha256(SHA256)
        /// The git id of the content, and its SHA-256. SHA-256 is needed if the listed id is that of an LFS pointer.
        case git(Insecure.SHA1, SHA256)
    }

    private let file: RepositoryFile
    private var kind: Kind

    /// Starts the hash of a content that is expected to be the content of `file`.
    init(of file: RepositoryFile) {
        self.file = file
        switch file.digest {
        case .sha256: kind = .sha256(SHA256())
        case .gitBlob: kind = .git(ContentHash.gitHash(size: file.size), SHA256())
        }
    }

    mutating func update(_ bytes: UnsafeRawBufferPointer) {
        switch kind {
        case .sha256(var hash):
            hash.update(bufferPointer: bytes)
            kind = .sha256(hash)
        case .git(var git, var hash):
            git.update(bufferPointer: bytes)
            hash.update(bufferPointer: bytes)
            kind = .git(git, hash)
        }
    }

    /// The digest of the bytes so far, in hexadecimal digits, of the same kind as the listed digest.
    var digits: String {
        switch kind {
        case .sha256(let hash): hexadecimal(hash.finalize())
        case .git(let hash, _): hexadecimal(hash.finalize())
        }
    }

    /// The digest that names the bytes so far in the cache; nil if they are not the content of `file`. If a git id is
    /// listed, it may belong to the content itself, or to its Git LFS pointer: a small text with the SHA-256 and the
    /// size of the content. If the id of the pointer matches, the SHA-256 names the content in the cache.
    var proof: RepositoryFile.Digest? {
        if digits == file.digest.name { return file.digest }
        guard case .git(_, let hash) = kind else { return nil }
        let sha256 = hexadecimal(hash.finalize())
        let pointer = Array(
            "version https://git-lfs.github.com/spec/v1\noid sha256:\(sha256)\nsize \(file.size)\n"
                .utf8)
        var git = ContentHash.gitHash(size: pointer.count)
        git.update(data: pointer)
        return hexadecimal(git.finalize()) == file.digest.name ? .sha256(sha256) : nil
    }

    /// Starts the hash of a git object. Git hashes the header `blob SIZE\0` and then the content.
    private static func gitHash(size: Int) -> Insecure.SHA1 {
        var hash = Insecure.SHA1()
        hash.update(data: Array("blob \(size)\0".utf8))
        return hash
    }

    /// Hashes the file at `path`. Returns the digest that names its content in the cache. Nil if the content is not
    /// that of `file`, or cannot be read.
    static func proof(that path: String, is file: RepositoryFile) -> RepositoryFile.Digest? {
        // O_NONBLOCK: another user may have put a FIFO at `path`. Without this flag, `open` would wait for a writer.
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var info = stat()
        guard fstat(descriptor, &info) == 0, info.st_mode & S_IFMT == S_IFREG else { return nil }
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 16)
        defer { buffer.deallocate() }
        var hash = ContentHash(of: file)
        var rest = file.size
        while true {
            let count = read(descriptor, buffer.baseAddress, buffer.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0, count <= rest else { return nil }
            if count == 0 { return rest == 0 ? hash.proof : nil }
            hash.update(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
            rest -= count
        }
    }
}
