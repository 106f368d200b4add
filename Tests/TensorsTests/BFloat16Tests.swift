// Compares products of bfloat16 numbers with double precision, for all kernels that this processor can run.

import ArrayFiles
import Foundation
import TestSupport
import Testing
import Threading

@testable import CPUBackend
@testable import Tensors

struct BFloat16Tests {
    static let kernels = BFloat16Kernels.available
    static let sizes = [
        (1, 1, 1), (3, 7, 5), (5, 64, 70), (17, 33, 1030), (130, 20, 513), (2, 300, 48),
        // These sizes are near the limits of the kernels: 64 lanes, 96 rows per call, 768 columns per pass.
        (63, 766, 95), (64, 768, 96), (65, 770, 97), (48, 9300, 7), (97, 1537, 193),
    ]

    private func newBackend(_ kernels: BFloat16Kernels?, threads: Int = 2) throws -> OpenBLASBackend
    {
        try OpenBLASBackend(on: ThreadPool(threadCount: threads), bfloat16: kernels)
    }

    /// Rounds to the nearest bfloat16, ties to even. Finds the nearest by comparing with both neighbours.
    private func nearest(_ x: Float) -> Float {
        guard x.isFinite else { return x }
        let below = Float(bitPattern: x.bitPattern & 0xFFFF_0000)
        let above = Float(bitPattern: (x.bitPattern & 0xFFFF_0000) &+ 0x1_0000)
        let (down, up) = (abs(Double(x) - Double(below)), abs(edge(above) - abs(Double(x))))
        if down == up { return below.bitPattern >> 16 & 1 == 0 ? below : above }
        return down < up ? below : above
    }

    /// Returns |x|; 2¹²⁸ if x is infinite, because rounding treats an overflow as the next power of two.
    private func edge(_ x: Float) -> Double {
        x.isFinite ? abs(Double(x)) : 340_282_366_920_938_463_463_374_607_431_768_211_456.0
    }

    @Test(arguments: kernels.indices)
    func roundingIsToTheNearest(index: Int) {
        let kernels = BFloat16Tests.kernels[index]
        var random = SeededGenerator(3)
        var values: [Float] = [
            0, -0.0, 1, 1.00390625, 1.01171875, 3.3895314e38, 3.4e38, .greatestFiniteMagnitude,
            .infinity, -.infinity, .leastNonzeroMagnitude, .leastNormalMagnitude,
            .leastNormalMagnitude / 3,
        ]
        values += (0..<3000).map { _ in
            Float(bitPattern: UInt32.random(in: 0 ... .max, using: &random))
        }.filter { !$0.isNaN }
        for count in [values.count, 1, 15, 16, 17] {
            var out = [UInt16](repeating: 0, count: count)
            kernels.round(values, count: count, to: &out)
            for (value, half) in zip(values, out) {
                #expect(Float(bitPattern: UInt32(half) << 16) == nearest(value), "\(value)")
            }
        }
        // NaNs with mantissa bits only in the lower half, NaNs with all mantissa bits, and a signalling NaN.
        let none = [0x7F80_0001, 0xFF80_0001, 0x7FFF_FFFF, 0xFFFF_FFFF, 0x7FBF_FFFF].map {
            Float(bitPattern: UInt32($0))
        }
        var out = [UInt16](repeating: 0, count: none.count)
        kernels.round(none, count: none.count, to: &out)
        #expect(out.allSatisfy { Float(bitPattern: UInt32($0) << 16).isNaN })
    }

    /// Checks that operands are rounded to bfloat16 before they are multiplied, in both layouts, for all stored types
    /// and at any address. The products must differ clearly from those of float32 operands.
    @Test(arguments: sizes, [ElementType.float32, .bfloat16, .float16])
    func productsAreOfRoundedOperands(size: (Int, Int, Int), type: ElementType) throws {
        let (m, k, n) = size
        var random = SeededGenerator(UInt64(m * k * n))
        let x = random.floats(m * k)
        // A value that the stored type cannot represent would be rounded twice.
        let w = random.floats(n * k).map {
            type == .float32 ? $0 : type == .bfloat16 ? nearest($0) : Float(Float16($0))
        }
        let wanted = doubleProduct(x.map(nearest), w.map(nearest), m, k, n)
        let transposed = (0..<k * n).map { w[$0 % n * k + $0 / n] }
        let layouts: [(StoredTensor, WeightLayout)] = [
            (.inMemory(w, [n, k], as: type), .outputsByInputs),
            (.inMemory(transposed, [k, n], as: type), .inputsByOutputs),
            (.inMemory(w, [k, n], as: type, isFortranOrder: true), .inputsByOutputs),
            (.inMemory(w, [n, k], as: type, shift: 1), .outputsByInputs),
            (.inMemory(transposed, [k, n], as: type, shift: 3), .inputsByOutputs),
        ]
        for (tensor, layout) in layouts {
            var bits: Set<[UInt32]> = []
            for kernels in BFloat16Tests.kernels {
                let backend = try newBackend(kernels)
                let out = backend.matmul(
                    backend.matrix(rows: m, columns: k, x), backend.weights(tensor, layout: layout))
                let values = backend.elements(of: out, rows: 0..<m)
                let errors = zip(values, wanted).map { abs(Double($0) - $1) / (1 + abs($1)) }
                // Errors are compared one by one, because a maximum would hide a NaN.
                #expect(errors.allSatisfy { $0 < 2e-5 }, "\(kernels.name): \(errors.max()!)")
                bits.insert(values.map(\.bitPattern))
            }
            // Products of bfloat16 numbers are exact in float32. So all kernels must add them in the same order.
            #expect(bits.count == 1)
        }
        guard k >= 64, type == .float32 else { return }
        let float32 = try newBackend(nil)
        let exact = float32.elements(
            of: float32.matmul(
                float32.matrix(rows: m, columns: k, x),
                float32.weights(layouts[0].0, layout: .outputsByInputs)), rows: 0..<m)
        #expect(zip(exact, wanted).map { abs(Double($0) - $1) }.max()! > 1e-3)
    }

    /// Checks that the result of a row does not depend on the other rows or on the number of threads.
    @Test(arguments: kernels.indices)
    func rowsAreIndependent(index: Int) throws {
        var random = SeededGenerator(5)
        let x = random.floats(150 * 90)
        for (shape, layout) in [
            ([700, 90], WeightLayout.outputsByInputs), ([90, 700], .inputsByOutputs),
        ] {
            let tensor = StoredTensor.inMemory(random.floats(700 * 90), shape)
            let whole = try [1, 2, 5].map { threads in
                let backend = try newBackend(BFloat16Tests.kernels[index], threads: threads)
                let out = backend.matmul(
                    backend.matrix(rows: 150, columns: 90, x),
                    backend.weights(tensor, layout: layout))
                return backend.elements(of: out, rows: 0..<150).map(\.bitPattern)
            }
            #expect(Set(whole).count == 1)
            let backend = try newBackend(BFloat16Tests.kernels[index])
            for rows in [0..<1, 3..<20, 64..<150] {
                let part = backend.matmul(
                    backend.matrix(
                        rows: rows.count, columns: 90,
                        Array(x[rows.lowerBound * 90..<rows.upperBound * 90])),
                    backend.weights(tensor, layout: layout))
                let bits = backend.elements(of: part, rows: 0..<rows.count).map(\.bitPattern)
                #expect(bits == Array(whole[0][rows.lowerBound * 700..<rows.upperBound * 700]))
            }
        }
    }

    /// Checks that a NaN or infinity affects only its own row, and that it is found in this row.
    @Test(arguments: kernels.indices)
    func nonFiniteNumbersSpread(index: Int) throws {
        let backend = try newBackend(BFloat16Tests.kernels[index])
        for bad in [Float.nan, .infinity, Float(bitPattern: 0x7F80_0001)] {
            var x = [Float](repeating: 1, count: 70 * 6)
            x[40 * 6 + 3] = bad
            for (shape, layout) in [
                ([10, 6], WeightLayout.outputsByInputs), ([6, 10], .inputsByOutputs),
            ] {
                let out = backend.matmul(
                    backend.matrix(rows: 70, columns: 6, x),
                    backend.weights(
                        .inMemory([Float](repeating: 1, count: 60), shape), layout: layout))
                #expect(try backend.firstNonFiniteRow(of: out).value() == 40)
                #expect(
                    backend.elements(of: out, rows: 41..<42) == [Float](repeating: 6, count: 10))
            }
        }
    }

    /// Checks that `jumpReLU` and `predictions` compute the same products as `matmul`.
    @Test(arguments: kernels.indices)
    func encodersAndLogitsAreProductsToo(index: Int) throws {
        let backend = try newBackend(BFloat16Tests.kernels[index])
        var random = SeededGenerator(8)
        let (rows, width, outputs) = (70, 48, 1100)
        let x = backend.matrix(rows: rows, columns: width, random.floats(rows * width))
        let w = random.floats(width * outputs)
        let encoder = backend.weights(.inMemory(w, [width, outputs]), layout: .inputsByOutputs)
        let zeros = [Float](repeating: 0, count: outputs)
        let threshold = [Float](repeating: 1.5, count: outputs)
        let features = try #require(
            try backend.jumpReLU(x, encoder: encoder, bias: zeros, threshold: threshold, above: 0)
                .value()
        ).rows([0..<rows])
        let pre = backend.elements(of: backend.matmul(x, encoder), rows: 0..<rows)
        let firing = pre.indices.filter { pre[$0] > 1.5 }
        #expect(!firing.isEmpty && features.columns == firing.map { Int32($0 % outputs) })
        #expect(features.values == firing.map { pre[$0] })

        let unembedding = backend.weights(
            .inMemory(w, [outputs, width]), layout: .outputsByInputs)
        let predictions = backend.predictions(
            x, unembedding: unembedding, softCap: nil,
            nextTokens: (0..<Int32(rows)).map { $0 })
        let logits = backend.elements(of: backend.matmul(x, unembedding), rows: 0..<rows)
        let got = try predictions.value().crossEntropy
        for row in 0..<rows {
            let line = logits[row * outputs..<(row + 1) * outputs].map(Double.init)
            let largest = line.max()!
            let partition = largest + log(line.reduce(0) { $0 + exp($1 - largest) })
            #expect(abs(Double(got[row]) - (partition - line[row])) < 1e-4)
        }
    }
}
