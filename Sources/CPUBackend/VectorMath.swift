// Elementary functions on vectors of eight lanes. They use only SSE2 instructions, no fused multiply-add and no
// function of libm. So results have the same bits on every x86-64 processor.

/// A vector of eight floats.
typealias Lanes = SIMD8<Float>

extension SIMD8<Float> {
    /// Returns the lanes of `a` where `isChosen` is true, and the lanes of `b` elsewhere.
    ///
    /// The loop compiles to one or three vector instructions, `replacing(with:where:)` to twice as many.
    @inline(__always)
    static func choose(_ a: Lanes, else b: Lanes, where isChosen: (_ lane: Int) -> Bool) -> Lanes {
        var result = b
        for lane in 0..<scalarCount { result[lane] = isChosen(lane) ? a[lane] : b[lane] }
        return result
    }

    /// Returns the larger of each pair of lanes; the lane of `a` if one of the two is NaN.
    @inline(__always)
    static func larger(_ a: Lanes, _ b: Lanes) -> Lanes {
        choose(b, else: a) { b[$0] > a[$0] }
    }

    /// Returns the smaller of each pair of lanes; the lane of `a` if one of the two is NaN.
    @inline(__always)
    static func smaller(_ a: Lanes, _ b: Lanes) -> Lanes {
        choose(b, else: a) { b[$0] < a[$0] }
    }

    /// The factors of eˣ = 2ⁿ · eʳ for each lane x in -87…88: `power` is 2ⁿ, and `rest` is eʳ - 1.
    ///
    /// n = round(x / ln 2), so |r| ≤ ln 2 / 2. A polynomial with least-squares coefficients approximates eʳ - 1.
    @inline(__always)
    private var factors: (power: Lanes, rest: Lanes) {
        // Adding 1.5 · 2²³ rounds x / ln 2 to the nearest integer n, and stores n in the low bits of the mantissa.
        let shifted = self * 1.442_695_04 + 12_582_912
        let n = shifted - 12_582_912
        let r = self - n * 0.693_359_375 + n * 2.121_944_4e-4
        var tail = 0.001_375_135_6 * r + 0.008_368_931
        tail = (tail * r + 0.041_669_536) * r + 0.166_665_18
        tail = tail * r + 0.499_999_88
        let exponent = unsafeBitCast(shifted, to: SIMD8<Int32>.self) &<< 23
        return (unsafeBitCast(exponent &+ 0x3F80_0000, to: Lanes.self), tail * r * r + r)
    }

    /// eˣ for each lane x: 0 below -87, e⁸⁸ above 88. The relative error is below 1.5e-7.
    @inline(__always)
    var exponential: Lanes {
        let x = Lanes.smaller(Lanes.larger(self, Lanes(repeating: -87)), Lanes(repeating: 88))
        let (power, rest) = x.factors
        return Lanes.choose(Lanes(), else: (rest + 1) * power) { self[$0] < -87 }
    }

    /// The hyperbolic tangent of each lane. The relative error is below 2e-7.
    ///
    /// tanh(x) = t / (t + 2) with t = e²ˣ - 1 = 2ⁿ · (eʳ - 1) + (2ⁿ - 1). Near zero, n is 0 and t = eʳ - 1, so no
    /// precision is lost. The soft-caps multiply the error by 30 and 50, so it must be small.
    @inline(__always)
    var hyperbolicTangent: Lanes {
        let bits = unsafeBitCast(self, to: SIMD8<UInt32>.self)
        let magnitude = unsafeBitCast(bits & 0x7FFF_FFFF, to: Lanes.self)
        let (power, rest) = Lanes.smaller(magnitude * 2, Lanes(repeating: 88)).factors
        let t = power * rest + (power - 1)
        let result = unsafeBitCast(t / (t + 2), to: SIMD8<UInt32>.self)
        return unsafeBitCast(result | bits & 0x8000_0000, to: Lanes.self)
    }
}

extension UnsafePointer<Float> {
    /// Loads the eight elements from index `i` on. Their address may have any alignment.
    @inline(__always)
    func lanes(_ i: Int) -> Lanes {
        UnsafeRawPointer(self + i).loadUnaligned(as: Lanes.self)
    }

    /// Returns the last `count` % 8 of `count` elements in the first lanes. All other lanes are `rest`.
    @inline(__always)
    fileprivate func lastLanes(of count: Int, rest: Float = 0) -> Lanes {
        var lanes = Lanes(repeating: rest)
        for lane in 0..<count & 7 { lanes[lane] = self[count & ~7 + lane] }
        return lanes
    }
}

extension UnsafeMutablePointer<Float> {
    /// Loads the eight elements from index `i` on. Their address may have any alignment.
    @inline(__always)
    func lanes(_ i: Int) -> Lanes { UnsafePointer(self).lanes(i) }

    /// Stores `lanes` in the eight elements from index `i` on. Their address may have any alignment.
    @inline(__always)
    func store(_ lanes: Lanes, _ i: Int) {
        UnsafeMutableRawPointer(self + i).storeBytes(of: lanes, as: Lanes.self)
    }
}

// Each function below calls `f` in one place only, because the compiler would not inline `f` at two places. So the
// last `count` % 8 elements are copied to the stack, and the last iteration of the loop reads and writes the copy.

/// Sets out[i] = f(a[i]) for i in 0..<count. `out` may be `a`.
@inline(__always)
func mapLanes(
    _ a: UnsafePointer<Float>, to out: UnsafeMutablePointer<Float>, count: Int,
    _ f: (Lanes) -> Lanes
) {
    mapLanes(a, a, to: out, count: count) { a, _ in f(a) }
}

/// Sets out[i] = f(a[i], b[i]) for i in 0..<count. `out` may be `a` or `b`.
@inline(__always)
func mapLanes(
    _ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, to out: UnsafeMutablePointer<Float>,
    count: Int, _ f: (Lanes, Lanes) -> Lanes
) {
    var last = (a.lastLanes(of: count), b.lastLanes(of: count))
    withUnsafeMutableBytes(of: &last) { last in
        let last = last.baseAddress!.assumingMemoryBound(to: Float.self)
        let whole = count & ~7
        for i in stride(from: 0, to: count, by: 8) {
            let isLast = i == whole
            let a = (isLast ? UnsafePointer(last) : a + i).lanes(0)
            let b = (isLast ? UnsafePointer(last + 8) : b + i).lanes(0)
            (isLast ? last : out + i).store(f(a, b), 0)
        }
        for i in whole..<count { out[i] = last[i - whole] }
    }
}

/// Folds a[0..<count] with `f`, eight elements at a time. The result has eight lanes, each of which starts as
/// `initial`. If `count` is not a multiple of 8, the missing elements at the end are `rest`.
@inline(__always)
func foldLanes(
    _ a: UnsafePointer<Float>, count: Int, rest: Float, into initial: Float,
    _ f: (inout Lanes, Lanes) -> Void
) -> Lanes {
    var result = Lanes(repeating: initial)
    let last = a.lastLanes(of: count, rest: rest)
    withUnsafeBytes(of: last) { last in
        let last = last.baseAddress!.assumingMemoryBound(to: Float.self)
        for i in stride(from: 0, to: count, by: 8) {
            f(&result, (i == count & ~7 ? last : a + i).lanes(0))
        }
    }
    return result
}
