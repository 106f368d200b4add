// Elementary functions eight lanes at a time. Plain SSE2 code: multiplications and additions only, no
// fused ones, no libm call per lane, so the same bits on every x86-64.

/// Eight floats.
typealias Lanes = SIMD8<Float>

extension SIMD8<Float> {
    /// The larger of each pair of lanes.
    @inline(__always)
    static func larger(_ a: Lanes, _ b: Lanes) -> Lanes { a.replacing(with: b, where: b .> a) }

    /// The smaller of each pair of lanes.
    @inline(__always)
    static func smaller(_ a: Lanes, _ b: Lanes) -> Lanes { a.replacing(with: b, where: b .< a) }

    /// c[0] + c[1]·x + c[2]·x² + …
    @inline(__always)
    private func polynomial(_ c: (Float, Float, Float, Float, Float)) -> Lanes {
        (((c.4 * self + c.3) * self + c.2) * self + c.1) * self + c.0
    }

    /// e to the power of each lane; below -87 it is 0, above 88 e⁸⁸. Relative error below 1.5e-7.
    ///
    /// 2ⁿ · eʳ with n = round(x / ln 2) and |r| ≤ ln 2 / 2; eʳ is a least-squares polynomial.
    @inline(__always)
    var exponential: Lanes {
        let x = Lanes.smaller(Lanes.larger(self, Lanes(repeating: -87)), Lanes(repeating: 88))
        // Adding 1.5 · 2²³ leaves the nearest whole number in the low bits.
        let shifted = x * 1.442_695_04 + 12_582_912
        let n = shifted - 12_582_912
        let r = x - n * 0.693_359_375 + n * 2.121_944_4e-4
        let tail = r.polynomial(
            (0.499_999_88, 0.166_665_18, 0.041_669_536, 0.008_368_931, 0.001_375_135_6))
        let mantissa = tail * r * r + r + 1
        let exponent = unsafeBitCast(shifted, to: SIMD8<Int32>.self) &<< 23
        let power = unsafeBitCast(exponent &+ 0x3F80_0000, to: Lanes.self)
        return (mantissa * power).replacing(with: 0, where: self .< -87)
    }

    /// The hyperbolic tangent of each lane. Relative error below 2e-7.
    ///
    /// Near zero x + x³ · P(x²) with P a least-squares polynomial on 0…0.625, beyond it
    /// 1 - 2 / (e²ˣ + 1). The soft-caps multiply by 30 and 50, so this error is what their users see.
    @inline(__always)
    var hyperbolicTangent: Lanes {
        let magnitude = self.replacing(with: -self, where: self .< 0)
        let square = self * self
        let p = square.polynomial(
            (-0.333_332_87, 0.133_315_61, -0.053_748_444, 0.020_664_724, -0.005_731_194))
        let near = p * square * self + self
        let far = 1 - 2 / ((magnitude * 2).exponential + 1)
        let signed = far.replacing(with: -far, where: self .< 0)
        return signed.replacing(with: near, where: magnitude .< 0.625)
    }
}

extension UnsafePointer<Float> {
    /// Eight elements from `i` on, at any alignment.
    @inline(__always)
    func lanes(_ i: Int) -> Lanes {
        UnsafeRawPointer(self + i).loadUnaligned(as: Lanes.self)
    }

    /// `count` (below eight) elements from `i` on; the other lanes are `rest`.
    @inline(__always)
    func lanes(_ i: Int, count: Int, rest: Float) -> Lanes {
        var lanes = Lanes(repeating: rest)
        for lane in 0..<count { lanes[lane] = self[i + lane] }
        return lanes
    }
}

extension UnsafeMutablePointer<Float> {
    /// Eight elements from `i` on, at any alignment.
    @inline(__always)
    func lanes(_ i: Int) -> Lanes { UnsafePointer(self).lanes(i) }

    /// Writes eight elements from `i` on.
    @inline(__always)
    func store(_ lanes: Lanes, _ i: Int) {
        UnsafeMutableRawPointer(self + i).storeBytes(of: lanes, as: Lanes.self)
    }

    /// Writes the first `count` of `lanes` from `i` on.
    @inline(__always)
    func store(_ lanes: Lanes, _ i: Int, count: Int) {
        for lane in 0..<count { self[i + lane] = lanes[lane] }
    }
}

/// out[i] = f(a[i]), in place allowed.
@inline(__always)
func mapLanes(
    _ a: UnsafePointer<Float>, to out: UnsafeMutablePointer<Float>, count: Int,
    _ f: (Lanes) -> Lanes
) {
    let whole = count & ~7
    for i in stride(from: 0, to: whole, by: 8) { out.store(f(a.lanes(i)), i) }
    if whole < count {
        out.store(f(a.lanes(whole, count: count - whole, rest: 0)), whole, count: count - whole)
    }
}

/// out[i] = f(a[i], b[i]), in place allowed.
@inline(__always)
func mapLanes(
    _ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, to out: UnsafeMutablePointer<Float>,
    count: Int, _ f: (Lanes, Lanes) -> Lanes
) {
    let whole = count & ~7
    for i in stride(from: 0, to: whole, by: 8) { out.store(f(a.lanes(i), b.lanes(i)), i) }
    if whole < count {
        let rest = count - whole
        let result = f(
            a.lanes(whole, count: rest, rest: 0), b.lanes(whole, count: rest, rest: 0))
        out.store(result, whole, count: rest)
    }
}

/// Folds a[0..<count] into eight lanes that begin at `initial`; past the end `rest` is seen.
@inline(__always)
func foldLanes(
    _ a: UnsafePointer<Float>, count: Int, rest: Float, into initial: Float,
    _ f: (inout Lanes, Lanes) -> Void
) -> Lanes {
    var result = Lanes(repeating: initial)
    let whole = count & ~7
    for i in stride(from: 0, to: whole, by: 8) { f(&result, a.lanes(i)) }
    if whole < count { f(&result, a.lanes(whole, count: count - whole, rest: rest)) }
    return result
}
