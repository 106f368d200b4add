// Files can claim any count. Sums and products of such counts must not overflow, which would end the process.

extension Int {
    /// Returns `self + other`, limited to the range of `Int`.
    public func clampedAdding(_ other: Int) -> Int {
        let (sum, isBeyond) = addingReportingOverflow(other)
        return isBeyond ? (other < 0 ? .min : .max) : sum
    }

    /// Returns `self · other`, limited to the range of `Int`.
    public func clampedMultiplied(by other: Int) -> Int {
        let (product, isBeyond) = multipliedReportingOverflow(by: other)
        return isBeyond ? ((self < 0) == (other < 0) ? .max : .min) : product
    }

    /// Converts `value` without its fraction, limited to the range of `Int`; 0 for NaN.
    public init(clamping value: Double) {
        // `Int.max` is not a Double. The next Double above it is 2⁶³.
        self =
            value.isNaN ? 0 : value >= 0x1p63 ? .max : value < -0x1p63 ? .min : Int(value)
    }
}

extension Sequence<Int> {
    /// The sum of the elements, limited to the range of `Int` at each addition.
    public var clampedSum: Int { reduce(0) { $0.clampedAdding($1) } }
}
