// Sparse matrices: which features fire at which row, and their activations.

/// A sparse matrix in CSR format. Columns ascend within a row.
package struct SparseRows: Sendable, Equatable {
    /// The index of each row's first entry in `columns` and `values`, and at the end the number of entries.
    package var starts: [Int]
    /// The column of each entry.
    package var columns: [Int32]
    /// The value of each entry.
    package var values: [Float]

    /// Stores the three arrays of a CSR matrix. The default arguments make a matrix without rows.
    package init(starts: [Int] = [0], columns: [Int32] = [], values: [Float] = []) {
        precondition(starts.last == columns.count && columns.count == values.count)
        self.starts = starts
        self.columns = columns
        self.values = values
    }

    /// Joins the rows of `parts`, one part after the other.
    package init(joining parts: [SparseRows]) {
        self.init()
        for part in parts {
            starts += part.starts.dropFirst().map { $0 + columns.count }
            columns += part.columns
            values += part.values
        }
    }

    /// The number of rows.
    package var rowCount: Int { starts.count - 1 }

    /// Returns the range of the entries of row `index` in `columns` and `values`.
    package func entries(of index: Int) -> Range<Int> { starts[index]..<starts[index + 1] }

    /// Returns the rows in `ranges`, one range after the other.
    package func selecting(_ ranges: [Range<Int>]) -> SparseRows {
        columns.withUnsafeBufferPointer { columns in
            values.withUnsafeBufferPointer { values in
                SparseRows(gathering: ranges, columns: columns, values: values) {
                    (starts[$0], starts[$0 + 1] - starts[$0])
                }
            }
        }
    }

    /// Copies the rows in `ranges`, one range after the other. `place` returns where the entries of a row are in
    /// `columns` and `values`: the index of the first entry, and the number of entries.
    package init(
        gathering ranges: [Range<Int>], columns: UnsafeBufferPointer<Int32>,
        values: UnsafeBufferPointer<Float>, place: (_ row: Int) -> (start: Int, count: Int)
    ) {
        let rows = ranges.reduce(0) { $0 + $1.count }
        var starts = [0]
        starts.reserveCapacity(rows + 1)
        for row in ranges.joined() { starts.append(starts.last! + place(row).count) }
        func gather<Element>(_ source: UnsafeBufferPointer<Element>) -> [Element] {
            [Element](unsafeUninitializedCapacity: starts.last!) { out, initialized in
                initialized = starts.last!
                guard initialized > 0, var target = out.baseAddress else { return }
                for row in ranges.joined() {
                    let (start, count) = place(row)
                    guard count > 0 else { continue }
                    target.initialize(from: source.baseAddress! + start, count: count)
                    target += count
                }
            }
        }
        self.init(starts: starts, columns: gather(columns), values: gather(values))
    }

    /// Returns a copy that has only the entries whose value is above `floor`. The number of rows stays the same.
    package func filtered(above floor: Float) -> SparseRows {
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

/// The firing features of a batch, in the layout in which the device returned them. Several threads can read a value
/// at once.
package struct FiringFeatures: @unchecked Sendable {
    private let select: ([Range<Int>]) -> SparseRows

    /// Stores `select`, which returns the rows in the given ranges. `select` must be thread-safe.
    package init(_ select: @escaping ([Range<Int>]) -> SparseRows) { self.select = select }

    /// Returns the rows in `ranges`, one range after the other.
    package func rows(_ ranges: [Range<Int>]) -> SparseRows { select(ranges) }
}
