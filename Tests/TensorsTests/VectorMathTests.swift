// Compares the elementary functions with double precision.

import Foundation
import Testing

@testable import CPUBackend

struct VectorMathTests {
    private func worstRelativeError(
        _ range: ClosedRange<Float>, _ f: (Lanes) -> Lanes, _ exact: (Double) -> Double
    ) -> Double {
        var worst = 0.0
        let count = 400_000
        for i in 0..<count {
            let x =
                range.lowerBound + (range.upperBound - range.lowerBound) * Float(i) / Float(count)
            let wanted = exact(Double(x))
            let got = Double(f(Lanes(repeating: x))[i % 8])
            // A NaN counts as an infinite error, because `max` would ignore it.
            guard !got.isNaN else { return .infinity }
            if wanted != 0 { worst = max(worst, abs(got - wanted) / abs(wanted)) }
        }
        return worst
    }

    @Test func exponentialIsWithinItsBound() {
        #expect(worstRelativeError(-86.9...88, { $0.exponential }, exp) < 1.5e-7)
        #expect(worstRelativeError(-1...1, { $0.exponential }, exp) < 1.5e-7)
        #expect(Lanes(repeating: -.infinity).exponential == Lanes(repeating: 0))
        #expect(Lanes(repeating: -88).exponential == Lanes(repeating: 0))
        #expect(Lanes(repeating: 0).exponential == Lanes(repeating: 1))
        #expect(Lanes(repeating: 1000).exponential.max().isFinite)
        #expect(Lanes(repeating: .nan).exponential[0].isNaN)
    }

    @Test func hyperbolicTangentIsWithinItsBound() {
        #expect(worstRelativeError(-12...12, { $0.hyperbolicTangent }, tanh) < 2e-7)
        #expect(worstRelativeError(-0.7...0.7, { $0.hyperbolicTangent }, tanh) < 2e-7)
        #expect(worstRelativeError(1e-6...1e-3, { $0.hyperbolicTangent }, tanh) < 2e-7)
        for x: Float in [0, 20, 1e10, .infinity] {
            let expected: Float = x == 0 ? 0 : 1
            #expect(Lanes(repeating: x).hyperbolicTangent == Lanes(repeating: expected))
            #expect(Lanes(repeating: -x).hyperbolicTangent == Lanes(repeating: -expected))
        }
        #expect(Lanes(repeating: .nan).hyperbolicTangent[0].isNaN)
        #expect(Lanes(repeating: -0.0).hyperbolicTangent[0].sign == .minus)
        for i in 0..<100_000 {
            let x = 6 + Float(i) * 1e-4
            #expect(abs(Lanes(repeating: x).hyperbolicTangent[i % 8]) <= 1)
        }
    }

    @Test(arguments: 0...25)
    func everyLengthIsCovered(count: Int) {
        var a = (0..<count + 1).map { Float($0 + 1) }
        let b = a.map { $0 * 2 }
        a[count] = -7  // the element after the last must not change
        a.withUnsafeMutableBufferPointer { a in
            let p = a.baseAddress!
            b.withUnsafeBufferPointer { b in
                mapLanes(p, b.baseAddress!, to: p, count: count) { $0 + $1 }
            }
            let other = UnsafeMutablePointer<Float>.allocate(capacity: count + 1)
            defer { other.deallocate() }
            other[count] = -7
            mapLanes(p, to: other, count: count) { $0 * 10 }
            #expect(other[count] == -7)
            mapLanes(other, to: p, count: count) { $0 }
            let sum = foldLanes(p, count: count, rest: 0, into: 0) { $0 += $1 }.sum()
            #expect(sum == 15 * Float(count * (count + 1)))
            let least = foldLanes(p, count: count, rest: 1000, into: 1000) {
                $0 = Lanes.smaller($0, $1)
            }
            #expect(least.min() == (count == 0 ? 1000 : 30))
        }
        #expect(Array(a[..<count]) == (0..<count).map { 30 * Float($0 + 1) })
        #expect(a[count] == -7)
    }
}
