// Arithmetic that limits its result to the range of `Int`. A damaged file can state any number, and ordinary
// arithmetic would end the process on an overflow.

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

    /// Rounds `value` toward zero and limits it to the range of `Int`. NaN gives 0.
    public init(clamping value: Double) {
        // `Double` cannot represent `Int.max` (2⁶³ - 1). So the comparison uses the next larger number, 2⁶³.
        self =
            value.isNaN ? 0 : value >= 0x1p63 ? .max : value < -0x1p63 ? .min : Int(value)
    }
}

extension Sequence<Int> {
    /// The sum of the elements, limited to the range of `Int` at each addition.
    public var clampedSum: Int { reduce(0) { $0.clampedAdding($1) } }
}
