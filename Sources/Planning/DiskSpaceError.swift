// The error for a file system with too little room.

import Files

/// The file system of `save_dir` has too little room for the files of the plan.
public struct DiskSpaceError: Error, Equatable, CustomStringConvertible {
    /// The resource that is short.
    public enum Shortage: Equatable, Sendable {
        /// The estimated number of bytes that will be written, and the number that are free.
        case bytes(needed: Int, free: Int)
        /// The estimated number of files that will be made, and the number of files that the file system can still hold.
        case files(needed: Int, free: Int)
    }

    /// The path of `save_dir`.
    public let saveDirectory: String
    /// The resource that is short, with the numbers.
    public let shortage: Shortage

    /// Both numbers and what to do.
    public var description: String {
        let overruling = "; if the file system reports less than it has, add --ignore_free_space"
        switch shortage {
        case .bytes(let needed, let free):
            return
                "\(saveDirectory): about \(byteCount(needed)) will be written, but \(byteCount(free)) are free; free some space, give another --save_dir, fewer --layers or --n_docs_per_author, or --storage_format sparse\(overruling)"
        case .files(let needed, let free):
            return
                "\(saveDirectory): about \(needed) files will be made, but its file system has inodes for \(free) more; remove files there, give another --save_dir, or fewer --layers, --layer_types or authors\(overruling)"
        }
    }
}
