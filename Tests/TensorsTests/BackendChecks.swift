// Compares each operation of a backend with a simple version in double precision. Both backends must pass the same
// checks. The CUDA backend runs its kernels on the stand-in.

import ArrayFiles
import Foundation
import TestSupport
import Testing

@testable import CPUBackend
@testable import CUDABackend
@testable import Tensors

/// The checks of one backend.
struct BackendChecks<B: Backend> {
    let backend: B

    /// The factor for the tolerance of a product, as a multiple of float32's rounding error. On a device, an operand
    /// is two float16 numbers with 22 bits of mantissa together, 2 bits fewer than float32. So the error of an
    /// operand is 4 times as large, and there are two operands.
    private var roundings: Double { B.self == CUDABackend.self ? 8 : 1 }

    private func matrix(_ values: [Float], _ rows: Int, _ columns: Int) throws -> B.Matrix {
        try backend.matrix(rows: rows, columns: columns, values)
    }

    private func elements(_ x: B.Matrix, _ rows: Int) throws -> [Float] {
        try backend.elements(of: x, rows: 0..<rows)
    }

    private func resident(
        _ tensor: StoredTensor, _ layout: WeightLayout, isTable: Bool = false
    ) throws -> B.Weights {
        let weights = backend.weights(tensor, layout: layout, isTable: isTable)
        try backend.load(rows: 1, bytesPerRow: 1, encoders: 0)
        return weights
    }

    private func expectClose(
        _ got: [Float], _ wanted: [Double], _ tolerance: Double,
        _ location: SourceLocation = #_sourceLocation
    ) {
        #expect(got.count == wanted.count, sourceLocation: location)
        expectClose(got, wanted, wanted.map { tolerance * (1 + abs($0)) }, location)
    }

    /// Expects that each element of `got` is within its tolerance of `wanted`. A maximum would hide a NaN.
    private func expectClose(
        _ got: [Float], _ wanted: [Double], _ tolerances: [Double],
        _ location: SourceLocation = #_sourceLocation
    ) {
        #expect(
            got.count == wanted.count && got.count == tolerances.count, sourceLocation: location)
        let far = zip(zip(got, wanted), tolerances).first { !(abs(Double($0.0) - $0.1) <= $1) }
        #expect(far == nil, "got and wanted, tolerance", sourceLocation: location)
    }

    /// Returns x · wᵀ, shape (m, n). Also returns the tolerance of a float32 product for each element.
    private func product(_ x: [Float], _ w: (Int, Int) -> Float, _ m: Int, _ k: Int, _ n: Int)
        -> (values: [Double], tolerances: [Double])
    {
        var (values, tolerances) = ([Double](), [Double]())
        for i in 0..<m * n {
            let products = (0..<k).map { Double(x[i / n * k + $0]) * Double(w(i % n, $0)) }
            values.append(products.reduce(0, +))
            tolerances.append(sumTolerance(products, roundings: roundings))
        }
        return (values, tolerances)
    }

    /// Calls `backend.jumpReLU` again until its buffers have room for all features.
    private func jumpReLU(
        _ x: [Float], rows: Int, encoder: B.Weights, bias: [Float], threshold: [Float],
        above floor: Float
    ) throws -> SparseRows {
        let x = try matrix(x, rows, x.count / rows)
        let width = bias.count
        while true {
            do {
                let features = try backend.jumpReLU(
                    x, encoder: encoder, bias: backend.vector(.inMemory(bias, [width]), adding: 0),
                    threshold: backend.vector(.inMemory(threshold, [width]), adding: 0),
                    above: floor
                ).value()
                return try #require(features).rows([0..<rows])
            } catch is ResultOverflow {
                continue
            }
        }
    }

    /// Checks products in all layouts. If `areShort`, all types can represent the weights exactly.
    func productsAreRightInEveryLayout(
        size: (Int, Int, Int), type: ElementType, areShort: Bool = true
    ) throws {
        let (m, k, n) = size
        var random = SeededGenerator(UInt64(m * k * n))
        let x = random.floats(m * k)
        let w = random.floats(n * k).map {
            areShort ? Float(Float16(($0 * 128).rounded() / 128)) : $0
        }
        let (wanted, tolerances) = product(x, { w[$0 * k + $1] }, m, k, n)
        let transposed = (0..<k * n).map { w[$0 % n * k + $0 / n] }
        let layouts: [(StoredTensor, WeightLayout)] = [
            (.inMemory(w, [n, k], as: type), .outputsByInputs),
            (.inMemory(transposed, [k, n], as: type), .inputsByOutputs),
            (.inMemory(w, [k, n], as: type, isFortranOrder: true), .inputsByOutputs),
            (.inMemory(transposed, [n, k], as: type, isFortranOrder: true), .outputsByInputs),
            // A stored array may begin at any byte offset.
            (.inMemory(w, [n, k], as: type, shift: 1), .outputsByInputs),
            (.inMemory(transposed, [k, n], as: type, shift: 3), .inputsByOutputs),
        ]
        for (tensor, layout) in layouts {
            let out = try backend.matmul(matrix(x, m, k), resident(tensor, layout))
            try expectClose(elements(out, m), wanted, tolerances)
        }
    }

    func embeddingAndNorm(tablesByColumns: Bool) throws {
        var random = SeededGenerator(4)
        let table = random.floats(10 * 13)
        let weights = try resident(.inMemory(table, [10, 13]), .outputsByInputs, isTable: true)
        let x = try backend.embed([3, 9, 3], table: weights, scale: 2.5)
        try expectClose(
            elements(x, 3),
            [3, 9, 3].flatMap { row in (0..<13).map { Double(table[row * 13 + $0]) * 2.5 } }, 1e-7)
        if tablesByColumns {
            let columns = (0..<13).flatMap { column in (0..<10).map { table[$0 * 13 + column] } }
            let transposed = try resident(
                .inMemory(columns, [10, 13], isFortranOrder: true), .outputsByInputs, isTable: true)
            let again = try backend.embed([3, 9, 3], table: transposed, scale: 2.5)
            #expect(try elements(again, 3) == elements(x, 3))
        }

        let scale = random.floats(13)
        let weight = try backend.vector(.inMemory(scale, [13]), adding: 1)
        let normed = try backend.rmsNorm(x, weight, epsilon: 1e-3)
        let values = try elements(x, 3).map(Double.init)
        let wanted = (0..<3).flatMap { row -> [Double] in
            let line = values[row * 13..<row * 13 + 13]
            let rms = (line.reduce(0) { $0 + $1 * $1 } / 13 + 1e-3).squareRoot()
            return zip(line, scale).map { $0 / rms * (1 + Double($1)) }
        }
        // If `isReadFirst`, a product reads the rows before the norm is added.
        for isReadFirst in [false, true] {
            let again = try backend.rmsNorm(x, weight, epsilon: 1e-3)
            let unit = (0..<13 * 13).map { $0 / 13 == $0 % 13 ? Float(1) : 0 }
            if isReadFirst {
                let same = try backend.matmul(
                    again, resident(.inMemory(unit, [13, 13]), .outputsByInputs))
                try expectClose(elements(same, 3), wanted, 1e-6)
                try expectClose(elements(again, 3), wanted, 1e-6)
            }
            let sum = try matrix(Array(repeating: 2, count: 3 * 13), 3, 13)
            try backend.add(again, to: sum)
            try expectClose(elements(sum, 3), wanted.map { $0 + 2 }, 1e-6)
        }
        try expectClose(elements(normed, 3), wanted, 1e-6)
    }

    func gegluAndSum() throws {
        var random = SeededGenerator(5)
        let (gate, up) = (random.floats(6 * 19, scale: 6), random.floats(6 * 19))
        let out = try backend.geglu(gate: matrix(gate, 6, 19), up: matrix(up, 6, 19))
        let wanted = zip(gate, up).map { g, u in
            let x = Double(g)
            return 0.5 * x * (1 + tanh((2 / Double.pi).squareRoot() * (x + 0.044715 * x * x * x)))
                * Double(u)
        }
        try expectClose(elements(out, 6), wanted, 1e-6)
        let sum = try matrix(gate, 6, 19)
        try backend.add(matrix(up, 6, 19), to: sum)
        try expectClose(elements(sum, 6), zip(gate, up).map { Double($0) + Double($1) }, 1e-6)
    }

    func rotationTurnsPairsHalfAHeadApart() throws {
        let table = RotaryTable(
            halfWidth: 2, cosines: [1, 1, 0, 0.6], sines: [0, 0, 1, 0.8])
        let x = try matrix([1, 2, 3, 4, 5, 6, 7, 8] + [1, 2, 3, 4, 5, 6, 7, 8], 2, 8)
        try backend.rotate(x, by: table, at: [0, 1])
        let turned: [Double] = [
            -3, 2 * 0.6 - 4 * 0.8, 1, 4 * 0.6 + 2 * 0.8, -7, 6 * 0.6 - 8 * 0.8, 5,
            8 * 0.6 + 6 * 0.8,
        ]
        try expectClose(elements(x, 2), [1, 2, 3, 4, 5, 6, 7, 8] + turned, 1e-6)
    }

    func attentionIsCausalWindowedAndCapped(
        window: Int?, cap: Float?, lengths: [Int], heads: Int = 4, width: Int = 8
    ) throws {
        let batch = PackedBatch(lengths.map { Array(repeating: 0, count: $0) })
        let rows = batch.tokens.count
        let kvHeads = 2
        var random = SeededGenerator(6)
        let q = random.floats(rows * heads * width, scale: 3)
        let k = random.floats(rows * kvHeads * width, scale: 3)
        let v = random.floats(rows * kvHeads * width)
        let out = try backend.attention(
            queries: matrix(q, rows, heads * width), keys: matrix(k, rows, kvHeads * width),
            values: matrix(v, rows, kvHeads * width), in: batch,
            AttentionParameters(
                heads: heads, keyValueHeads: kvHeads, headWidth: width, scale: 0.7, softCap: cap,
                window: window))
        var (wanted, tolerances) = ([Double](), [Double]())
        for document in 0..<batch.documentCount {
            let range = batch.rows(of: document)
            for row in range {
                for head in 0..<heads {
                    let first = max(range.lowerBound, window.map { row - $0 + 1 } ?? 0)
                    // The error of a score is the error of its product, plus a few roundings for scale and soft-cap.
                    var scoreError = 0.0
                    let scores = (first...row).map { key -> Double in
                        let products = (0..<width).map {
                            Double(q[(row * heads + head) * width + $0])
                                * Double(k[(key * kvHeads + head / (heads / kvHeads)) * width + $0])
                        }
                        let scaled = products.reduce(0, +) * 0.7
                        scoreError = max(
                            scoreError,
                            0.7 * sumTolerance(products, roundings: roundings)
                                + 8 * float32Rounding * abs(scaled))
                        return cap.map { Double($0) * tanh(scaled / Double($0)) } ?? scaled
                    }
                    let largest = scores.max()!
                    let weights = scores.map { exp($0 - largest) }
                    let sum = weights.reduce(0, +)
                    for i in 0..<width {
                        let products = zip(first...row, weights).map {
                            $1 / sum
                                * Double(v[($0 * kvHeads + head / (heads / kvHeads)) * width + i])
                        }
                        wanted.append(products.reduce(0, +))
                        // The error of a score becomes the relative error of a weight, in numerator and denominator.
                        // Values are below 1.
                        tolerances.append(
                            sumTolerance(products, roundings: roundings)
                                + 2 * (scoreError + 8 * float32Rounding))
                    }
                }
            }
        }
        try expectClose(elements(out, rows), wanted, tolerances)
    }

    func predictionsAreOfTheWholeVocabulary(cap: Float?, vocabulary: Int) throws {
        var random = SeededGenerator(7)
        let (rows, width) = (9, 12)
        let x = random.floats(rows * width, scale: 4)
        let e = random.floats(vocabulary * width, scale: 2)
        let next = (0..<rows).map { Int32($0 == 4 ? -1 : $0 * 131 % vocabulary) }
        let got = try backend.predictions(
            matrix(x, rows, width),
            unembedding: resident(.inMemory(e, [vocabulary, width]), .outputsByInputs),
            softCap: cap, nextTokens: next
        ).value()
        #expect(got.firstNonFiniteRow == nil)
        for row in 0..<rows {
            // The error of a logit is the error of its product, plus a few roundings for the soft-cap and the sums.
            var error = 0.0
            let logits = (0..<vocabulary).map { token -> Double in
                let products = (0..<width).map {
                    Double(x[row * width + $0]) * Double(e[token * width + $0])
                }
                let dot = products.reduce(0, +)
                error = max(
                    error,
                    sumTolerance(products, roundings: roundings) + 8 * float32Rounding * abs(dot))
                return cap.map { Double($0) * tanh(dot / Double($0)) } ?? dot
            }
            let largest = logits.max()!
            let z = logits.reduce(0) { $0 + exp($1 - largest) }
            let entropy = logits.reduce(0.0) {
                let p = exp($1 - largest) / z
                return p > 0 ? $0 - p * log(p) : $0
            }
            // ∂H/∂lᵢ = -pᵢ (log pᵢ + H). The sum of the absolute values is at most 2 H.
            #expect(abs(Double(got.entropy[row]) - entropy) <= error * (1 + 2 * entropy))
            let loss = next[row] < 0 ? 0 : largest + log(z) - logits[Int(next[row])]
            #expect(abs(Double(got.crossEntropy[row]) - loss) <= 2 * error)
        }
    }

    func nonFiniteValuesAreFound() throws {
        let clean = [Float](repeating: 1, count: 5 * 11)
        #expect(try backend.firstNonFiniteRow(of: matrix(clean, 5, 11)).value() == nil)
        for bad in [Float.nan, .infinity, -.infinity] {
            for place in [0, 10, 2 * 11 + 9, 4 * 11 + 10] {
                var values = clean
                values[place] = bad
                #expect(
                    try backend.firstNonFiniteRow(of: matrix(values, 5, 11)).value() == place / 11)
                // The check must come before the soft-cap, because the cap makes an infinite logit finite.
                let weights = try resident(
                    .inMemory([Float](repeating: 1, count: 3 * 11), [3, 11]), .outputsByInputs)
                let got = try backend.predictions(
                    matrix(values, 5, 11), unembedding: weights, softCap: 30,
                    nextTokens: [0, 0, 0, 0, -1]
                ).value()
                #expect(got.firstNonFiniteRow == place / 11)
            }
        }
    }

    func jumpReLUKeepsWhatFires(width: Int) throws {
        var random = SeededGenerator(UInt64(width))
        let (rows, inputs) = (11, 6)
        let x = random.floats(rows * inputs, scale: 3)
        let w = random.floats(inputs * width)
        let (bias, threshold) = (random.floats(width), random.floats(width, scale: 2).map(abs))
        for floor: Float in [0, 1] {
            let got = try jumpReLU(
                x, rows: rows,
                encoder: resident(.inMemory(w, [inputs, width]), .inputsByOutputs), bias: bias,
                threshold: threshold, above: floor)
            #expect(got.rowCount == rows)
            for row in 0..<rows {
                let entries = got.entries(of: row)
                let columns = got.columns[entries].map(Int.init)
                #expect(columns == columns.sorted())
                for column in 0..<width {
                    let products =
                        [Double(bias[column])]
                        + (0..<inputs).map {
                            Double(x[row * inputs + $0]) * Double(w[$0 * width + column])
                        }
                    let pre = products.reduce(0, +)
                    let tolerance = sumTolerance(products, roundings: roundings)
                    let margin = pre - Double(max(threshold[column], floor))
                    guard abs(margin) > tolerance else { continue }
                    #expect(columns.contains(column) == (margin > 0))
                    if let i = columns.firstIndex(of: column) {
                        #expect(
                            abs(Double(got.values[entries][entries.lowerBound + i]) - pre)
                                <= tolerance)
                    }
                }
            }
        }
    }

    func equalToTheThresholdDoesNotFire() throws {
        // pre = x exactly: 1, 2 and the next float above 2.
        let x: [Float] = [1, 2, Float(2).nextUp]
        let got = try jumpReLU(
            x, rows: 3, encoder: resident(.inMemory([1], [1, 1]), .inputsByOutputs), bias: [0],
            threshold: [2], above: 1)
        #expect(got.starts == [0, 0, 0, 1])
    }
}
