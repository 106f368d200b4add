// Whether bytes are a file of the Hub.

import Crypto
import Files
import Glibc

/// The hash of a file's content, piece by piece, as the listing has it.
struct ContentHash {
    private enum Kind {
        case sha256(SHA256)
        /// Git's, and the other in case that what is listed is a pointer's.
        case git(Insecure.SHA1, SHA256)
    }

    private let file: RepositoryFile
    private var kind: Kind

    /// The hash of no bytes, for a content that should be `file`'s.
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

    /// What the bytes so far hash to, as the listing has it.
    var digits: String {
        switch kind {
        case .sha256(let hash): hexadecimal(hash.finalize())
        case .git(let hash, _): hexadecimal(hash.finalize())
        }
    }

    /// The digest under which the bytes so far lie in the cache; nil where they are not the file's. A git id that is not theirs
    /// may be that of the file with which git stands for them (a Git LFS pointer, whose text follows from digest and
    /// size): then it proves them all the same.
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

    /// What git hashes is the content after this header.
    private static func gitHash(size: Int) -> Insecure.SHA1 {
        var hash = Insecure.SHA1()
        hash.update(data: Array("blob \(size)\0".utf8))
        return hash
    }

    /// The digest under which the file at `path` lies in the cache if its content is that of `file`; nil where it is not, or
    /// cannot be read.
    static func proof(that path: String, is file: RepositoryFile) -> RepositoryFile.Digest? {
        // Not to wait at a pipe that somebody puts there.
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
