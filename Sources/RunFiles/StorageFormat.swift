// How activations are stored: which files, and which values.

/// How activations are laid out on disk.
public enum StorageFormat: String, CaseIterable, Codable, Sendable {
    /// `….npz` with the whole array.
    case dense
    /// `….sparse.npz`, CSR.
    case sparse
    /// Both files.
    case both

    /// Whether files are sparse, for each file that a hook gets.
    public var kinds: [Bool] {
        switch self {
        case .dense: [false]
        case .sparse: [true]
        case .both: [false, true]
        }
    }
}

/// What is stored for a feature that fires.
public enum ActivationValues: String, CaseIterable, Codable, Sendable {
    /// 1.
    case binary
    /// The activation itself.
    case raw
}
