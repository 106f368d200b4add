// The values of `--storage_format`.

/// The layout of activations on disk.
package enum StorageFormat: String, CaseIterable, Codable, Sendable {
    /// One file `….npz` with the whole array, zeros included.
    case dense
    /// One file `….sparse.npz` with the nonzero values in CSR form.
    case sparse
    /// Both files.
    case both

    /// The files that each hook has: true is the sparse file, false is the dense file.
    package var kinds: [Bool] {
        switch self {
        case .dense: [false]
        case .sparse: [true]
        case .both: [false, true]
        }
    }
}
