// The values of `--storage_format`.

/// The layout of activations on disk.
public enum StorageFormat: String, CaseIterable, Codable, Sendable {
    /// `….npz` with the whole array, zeros included.
    case dense
    /// `….sparse.npz` in CSR form.
    case sparse
    /// Both files.
    case both

    /// The files of a hook: true for a sparse file, false for a dense file.
    public var kinds: [Bool] {
        switch self {
        case .dense: [false]
        case .sparse: [true]
        case .both: [false, true]
        }
    }
}
