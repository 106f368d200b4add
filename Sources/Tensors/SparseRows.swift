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

    /// The rows of `parts`, one part after the other.
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
        columns.withUnsafeBufferPointer { columns in
            values.withUnsafeBufferPointer { values in
                SparseRows(gathering: ranges, columns: columns, values: values) {
                    (starts[$0], starts[$0 + 1] - starts[$0])
                }
            }
        }
    }

    /// The rows in `ranges` of what lies in `columns` and `values`: row r has `count` entries from `start` on, both as
    /// `place` says.
    init(
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

/// Firing features of a batch, as a device leaves them. May be read from several threads.
public struct FiringFeatures: @unchecked Sendable {
    private let select: ([Range<Int>]) -> SparseRows

    /// What `select` gives of ranges of rows.
    init(_ select: @escaping ([Range<Int>]) -> SparseRows) { self.select = select }

    /// The rows in `ranges`, one range after the other.
    public func rows(_ ranges: [Range<Int>]) -> SparseRows { select(ranges) }
}
