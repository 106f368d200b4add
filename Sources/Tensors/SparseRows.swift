// Which features fired at which row, and how strongly.

/// A sparse matrix by rows (CSR), columns ascending within a row.
public struct SparseRows: Sendable, Equatable {
    /// Where each row begins in `columns`, and after the last where it ends: one more than rows.
    public var starts: [Int]
    /// The column of each entry.
    public var columns: [Int32]
    /// The value of each entry.
    public var values: [Float]

    /// Takes the three arrays of a CSR matrix.
    public init(starts: [Int] = [0], columns: [Int32] = [], values: [Float] = []) {
        precondition(starts.last == columns.count && columns.count == values.count)
        self.starts = starts
        self.columns = columns
        self.values = values
    }

    /// The rows of `parts`, one after the other.
    public init(joining parts: [SparseRows]) {
        self.init()
        for part in parts {
            starts += part.starts.dropFirst().map { $0 + columns.count }
            columns += part.columns
            values += part.values
        }
    }

    /// How many rows there are.
    public var rowCount: Int { starts.count - 1 }

    /// Where row `index` lies in `columns` and `values`.
    public func entries(of index: Int) -> Range<Int> { starts[index]..<starts[index + 1] }

    /// The rows in `ranges`, one range after the other.
    public func selecting(_ ranges: [Range<Int>]) -> SparseRows {
        var out = SparseRows()
        for range in ranges {
            let entries = starts[range.lowerBound]..<starts[range.upperBound]
            let shift = out.columns.count - entries.lowerBound
            out.starts += starts[range].dropFirst().map { $0 + shift }
            if !range.isEmpty { out.starts.append(entries.upperBound + shift) }
            out.columns += columns[entries]
            out.values += values[entries]
        }
        return out
    }

    /// The entries whose value is above `floor`.
    public func filtered(above floor: Float) -> SparseRows {
        var out = SparseRows()
        for row in 0..<rowCount {
            for entry in entries(of: row) where values[entry] > floor {
                out.columns.append(columns[entry])
                out.values.append(values[entry])
            }
            out.starts.append(out.columns.count)
        }
        return out
    }
}
