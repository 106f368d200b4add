// Counts that files claim may be any: their sums and products must not end the process.



extension Int {
    /// `self + other`, or the least or largest number where that is beyond them.
    public func clampedAdding(_ other: Int) -> Int {
        let (sum, isBeyond) = addingReportingOverflow(other)
        return isBeyond ? (other < 0 ? .min : .max) : sum
    }

    /// `self · other`, or the least or largest number where that is beyond them.
    public func clampedMultiplied(by other: Int) -> Int {
        let (product, isBeyond) = multipliedReportingOverflow(by: other)
        return isBeyond ? ((self < 0) == (other < 0) ? .max : .min) : product
    }

    /// `value` as a whole number, or the nearest that there is; 0 for NaN.
    public init(clamping value: Double) {
        // The largest number is no Double: the next one above it is 2⁶³.
        self =
            value.isNaN ? 0 : value >= 0x1p63 ? .max : value < -0x1p63 ? .min : Int(value)
    }
}

extension Sequence<Int> {
    /// The sum, as `clampedAdding` makes it.
    public var clampedSum: Int { reduce(0) { $0.clampedAdding($1) } }
}
