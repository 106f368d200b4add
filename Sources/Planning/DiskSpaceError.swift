// The error for a file system with too little free space for a run.

import Files

/// The file system of `save_dir` has too little free space, or too few free inodes, for the files of the plan.
package struct DiskSpaceError: Error, Equatable, CustomStringConvertible {
    /// The resource that is short.
    package enum Shortage: Equatable, Sendable {
        /// The estimated number of bytes that the run will write, and the number of free bytes.
        case bytes(needed: Int, free: Int)
        /// The estimated number of files that the run will make, and the number of free inodes.
        case files(needed: Int, free: Int)
    }

    /// The path of `save_dir`.
    package let saveDirectory: String
    /// The resource that is short, with the numbers.
    package let shortage: Shortage

    /// The message: the number that is needed, the number that is free, and the next step.
    package var description: String {
        let overruling =
            "; if the file system has more free space than it reports, add --ignore_free_space"
        switch shortage {
        case .bytes(let needed, let free):
            return
                "\(saveDirectory): about \(byteCount(needed)) will be written, but \(byteCount(free)) are free; free some space, or give another --save_dir, fewer --layers, a lower --n_docs_per_author, or --storage_format sparse\(overruling)"
        case .files(let needed, let free):
            return
                "\(saveDirectory): about \(needed) files will be made, but its file system has inodes for \(free) more; remove files from it, or give another --save_dir, fewer --layers, fewer --layer_types, or fewer authors\(overruling)"
        }
    }
}
