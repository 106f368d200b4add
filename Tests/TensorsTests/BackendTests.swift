// Each operation of the CPU backend against a plain double-precision version of it.

import ArrayFiles
import Foundation
import Synchronization
import TestSupport
import Testing

@testable import Tensors

struct BackendTests {
    private let backend = try! OpenBLASBackend(threadCount: 2)

    private func matrix(_ values: [Float], _ rows: Int, _ columns: Int, _ b: OpenBLASBackend? = nil)
        -> CPUMatrix
    {
        (b ?? backend).matrix(rows: rows, columns: columns) { out in
            for i in values.indices { out[i] = values[i] }
        }
    }

    private func elements(_ x: CPUMatrix) -> [Float] { backend.withElements(of: x) { Array($0) } }

    private func expectClose(
        _ got: [Float], _ wanted: [Double], _ tolerance: Double,
        _ location: SourceLocation = #_sourceLocation
    ) {
        #expect(got.count == wanted.count, sourceLocation: location)
        let worst = zip(got, wanted).map { abs(Double($0) - $1) / (1 + abs($1)) }.max() ?? 0
        #expect(worst < tolerance, "worst error \(worst)", sourceLocation: location)
    }

    private func product(_ x: [Float], _ w: (Int, Int) -> Float, _ m: Int, _ k: Int, _ n: Int)
        -> [Double]
    {
        (0..<m * n).map { i in
            (0..<k).reduce(0.0) { $0 + Double(x[i / n * k + $1]) * Double(w(i % n, $1)) }
        }
    }

    @Test(
        arguments: [
            (1, 1, 1), (3, 7, 5), (5, 64, 70), (17, 33, 1030), (130, 20, 513), (2, 300, 48),
        ], [ElementType.float32, .bfloat16, .float16])
    func productsAreRightInEveryLayout(size: (Int, Int, Int), type: ElementType) {
        let (m, k, n) = size
        var random = SeededGenerator(UInt64(m * k * n))
        let x = random.floats(m * k)
        // Values that every type holds exactly.
        let w = random.floats(n * k).map { Float(Float16(($0 * 128).rounded() / 128)) }
        let wanted = product(x, { w[$0 * k + $1] }, m, k, n)
        let transposed = (0..<k * n).map { w[$0 % n * k + $0 / n] }
        let layouts: [(StoredTensor, WeightLayout)] = [
            (.inMemory(w, [n, k], as: type), .outputsByInputs),
            (.inMemory(transposed, [k, n], as: type), .inputsByOutputs),
            (.inMemory(w, [k, n], as: type, isFortranOrder: true), .inputsByOutputs),
            (.inMemory(transposed, [n, k], as: type, isFortranOrder: true), .outputsByInputs),
            // Stored arrays may begin at any byte.
            (.inMemory(w, [n, k], as: type, shift: 1), .outputsByInputs),
            (.inMemory(transposed, [k, n], as: type, shift: 3), .inputsByOutputs),
        ]
        for (tensor, layout) in layouts {
            let out = backend.matmul(matrix(x, m, k), backend.weights(tensor, layout: layout))
            #expect(out.rows == m && out.columns == n)
            expectClose(elements(out), wanted, 1e-5)
        }
    }

    @Test func threadsChangeNoBit() throws {
        var random = SeededGenerator(9)
        let x = random.floats(37 * 300)
        let w = StoredTensor.inMemory(random.floats(2000 * 300), [2000, 300])
        let results = try [1, 2, 3, 8].map { threads in
            let backend = try OpenBLASBackend(threadCount: threads)
            let out = backend.matmul(
                matrix(x, 37, 300, backend), backend.weights(w, layout: .outputsByInputs))
            return backend.withElements(of: out) { $0.map(\.bitPattern) }
        }
        #expect(Set(results).count == 1)
    }

    @Test(arguments: [1, 16, 511, 512, 513, 2304, 9216, 16384, 256_000])
    func blocksCoverAllOutputsOnce(outputs: Int) {
        // Only sizes matter; the data is never touched.
        for type in [ElementType.float32, .bfloat16] {
            let bytes = UnsafeRawBufferPointer(
                start: UnsafeRawPointer(bitPattern: 4096), count: outputs * 2304 * type.size)
            let tensor = StoredTensor(
                name: "w", path: "", elementType: type, shape: [outputs, 2304], bytes: bytes,
                owner: backend)
            let blocks = OutputBlocks(for: backend.weights(tensor, layout: .outputsByInputs))
            let ranges = (0..<blocks.count).map(blocks.range)
            #expect(ranges.first?.lowerBound == 0 && ranges.last?.upperBound == outputs)
            #expect(zip(ranges, ranges.dropFirst()).allSatisfy { $0.upperBound == $1.lowerBound })
            #expect(ranges.allSatisfy { !$0.isEmpty })
        }
    }

    @Test func embeddingAndNorm() {
        var random = SeededGenerator(4)
        let table = random.floats(10 * 13)
        let weights = backend.weights(.inMemory(table, [10, 13]), layout: .outputsByInputs)
        let x = backend.embed([3, 9, 3], table: weights, scale: 2.5)
        expectClose(
            elements(x),
            [3, 9, 3].flatMap { row in (0..<13).map { Double(table[row * 13 + $0]) * 2.5 } }, 1e-7)
        // The same table with its columns end to end.
        let columns = (0..<13).flatMap { column in (0..<10).map { table[$0 * 13 + column] } }
        let transposed = backend.weights(
            .inMemory(columns, [10, 13], isFortranOrder: true), layout: .outputsByInputs)
        #expect(
            elements(backend.embed([3, 9, 3], table: transposed, scale: 2.5)) == elements(x))

        let scale = random.floats(13)
        let normed = backend.rmsNorm(
            x, backend.vector(.inMemory(scale, [13]), adding: 1), epsilon: 1e-3)
        let values = elements(x).map(Double.init)
        let wanted = (0..<3).flatMap { row -> [Double] in
            let line = values[row * 13..<row * 13 + 13]
            let rms = (line.reduce(0) { $0 + $1 * $1 } / 13 + 1e-3).squareRoot()
            return zip(line, scale).map { $0 / rms * (1 + Double($1)) }
        }
        expectClose(elements(normed), wanted, 1e-6)
    }

    @Test func gegluAndSum() {
        var random = SeededGenerator(5)
        let (gate, up) = (random.floats(6 * 19, scale: 6), random.floats(6 * 19))
        let out = backend.geglu(gate: matrix(gate, 6, 19), up: matrix(up, 6, 19))
        let wanted = zip(gate, up).map { g, u in
            let x = Double(g)
            return 0.5 * x * (1 + tanh((2 / Double.pi).squareRoot() * (x + 0.044715 * x * x * x)))
                * Double(u)
        }
        expectClose(elements(out), wanted, 1e-6)
        let sum = matrix(gate, 6, 19)
        backend.add(matrix(up, 6, 19), to: sum)
        expectClose(elements(sum), zip(gate, up).map { Double($0) + Double($1) }, 1e-6)
    }

    @Test func rotationTurnsPairsHalfAHeadApart() {
        let table = RotaryTable(
            halfWidth: 2, cosines: [1, 1, 0, 0.6], sines: [0, 0, 1, 0.8])
        let x = matrix([1, 2, 3, 4, 5, 6, 7, 8] + [1, 2, 3, 4, 5, 6, 7, 8], 2, 8)
        backend.rotate(x, by: table, at: [0, 1])
        let turned: [Double] = [
            -3, 2 * 0.6 - 4 * 0.8, 1, 4 * 0.6 + 2 * 0.8, -7, 6 * 0.6 - 8 * 0.8, 5,
            8 * 0.6 + 6 * 0.8,
        ]
        expectClose(elements(x), [1, 2, 3, 4, 5, 6, 7, 8] + turned, 1e-6)
    }

    @Test(arguments: [nil, 5, 200], [nil, 20] as [Float?])
    func attentionIsCausalWindowedAndCapped(window: Int?, cap: Float?) {
        let lengths = [1, 7, 150, 260]  // around the blocks of 128 queries
        let batch = PackedBatch(lengths.map { Array(repeating: 0, count: $0) })
        let rows = batch.tokens.count
        let (heads, kvHeads, width) = (4, 2, 8)
        var random = SeededGenerator(6)
        let q = random.floats(rows * heads * width, scale: 3)
        let k = random.floats(rows * kvHeads * width, scale: 3)
        let v = random.floats(rows * kvHeads * width)
        let out = backend.attention(
            queries: matrix(q, rows, heads * width), keys: matrix(k, rows, kvHeads * width),
            values: matrix(v, rows, kvHeads * width), in: batch,
            AttentionParameters(
                heads: heads, keyValueHeads: kvHeads, headWidth: width, scale: 0.7, softCap: cap,
                window: window))
        var wanted: [Double] = []
        for document in 0..<batch.documentCount {
            let range = batch.rows(of: document)
            for row in range {
                for head in 0..<heads {
                    let first = max(range.lowerBound, window.map { row - $0 + 1 } ?? 0)
                    let scores = (first...row).map { key -> Double in
                        let dot = (0..<width).reduce(0.0) {
                            $0 + Double(q[(row * heads + head) * width + $1])
                                * Double(k[(key * kvHeads + head / 2) * width + $1])
                        }
                        let scaled = dot * 0.7
                        return cap.map { Double($0) * tanh(scaled / Double($0)) } ?? scaled
                    }
                    let largest = scores.max()!
                    let weights = scores.map { exp($0 - largest) }
                    let sum = weights.reduce(0, +)
                    for i in 0..<width {
                        wanted.append(
                            zip(first...row, weights).reduce(0) {
                                $0 + $1.1 / sum * Double(v[($1.0 * kvHeads + head / 2) * width + i])
                            })
                    }
                }
            }
        }
        expectClose(elements(out), wanted, 2e-5)
    }

    @Test(arguments: [30, nil] as [Float?], [3, 640, 1300])
    func predictionsAreOfTheWholeVocabulary(cap: Float?, vocabulary: Int) {
        var random = SeededGenerator(7)
        let (rows, width) = (9, 12)
        let x = random.floats(rows * width, scale: 4)
        let e = random.floats(vocabulary * width, scale: 2)
        let next = (0..<rows).map { Int32($0 == 4 ? -1 : $0 * 131 % vocabulary) }
        let got = backend.predictions(
            matrix(x, rows, width),
            unembedding: backend.weights(
                .inMemory(e, [vocabulary, width]), layout: .outputsByInputs),
            softCap: cap, nextTokens: next)
        #expect(got.firstNonFiniteRow == nil)
        for row in 0..<rows {
            let logits = (0..<vocabulary).map { token -> Double in
                let dot = (0..<width).reduce(0.0) {
                    $0 + Double(x[row * width + $1]) * Double(e[token * width + $1])
                }
                return cap.map { Double($0) * tanh(dot / Double($0)) } ?? dot
            }
            let largest = logits.max()!
            let z = logits.reduce(0) { $0 + exp($1 - largest) }
            let entropy = logits.reduce(0.0) {
                let p = exp($1 - largest) / z
                return p > 0 ? $0 - p * log(p) : $0
            }
            #expect(abs(Double(got.entropy[row]) - entropy) < 2e-5)
            let loss = next[row] < 0 ? 0 : largest + log(z) - logits[Int(next[row])]
            #expect(abs(Double(got.crossEntropy[row]) - loss) < 3e-5)
        }
    }

    @Test func nonFiniteValuesAreFound() {
        let clean = [Float](repeating: 1, count: 5 * 11)
        #expect(backend.firstNonFiniteRow(of: matrix(clean, 5, 11)) == nil)
        for bad in [Float.nan, .infinity, -.infinity] {
            for place in [0, 10, 2 * 11 + 9, 4 * 11 + 10] {
                var values = clean
                values[place] = bad
                #expect(backend.firstNonFiniteRow(of: matrix(values, 5, 11)) == place / 11)
                // Behind the soft-cap an infinite logit would look like any other.
                let weights = backend.weights(
                    .inMemory([Float](repeating: 1, count: 3 * 11), [3, 11]),
                    layout: .outputsByInputs)
                let got = backend.predictions(
                    matrix(values, 5, 11), unembedding: weights, softCap: 30,
                    nextTokens: [0, 0, 0, 0, -1])
                #expect(got.firstNonFiniteRow == place / 11)
            }
        }
    }

    @Test(arguments: [1, 8, 70, 1100])
    func jumpReLUKeepsWhatFires(width: Int) throws {
        var random = SeededGenerator(UInt64(width))
        let (rows, inputs) = (11, 6)
        let x = random.floats(rows * inputs, scale: 3)
        let w = random.floats(inputs * width)
        let (bias, threshold) = (random.floats(width), random.floats(width, scale: 2).map(abs))
        for floor: Float in [0, 1] {
            let got = try #require(
                backend.jumpReLU(
                    matrix(x, rows, inputs),
                    encoder: backend.weights(
                        .inMemory(w, [inputs, width]), layout: .inputsByOutputs),
                    bias: bias, threshold: threshold, above: floor))
            #expect(got.rowCount == rows)
            for row in 0..<rows {
                let entries = got.entries(of: row)
                let columns = got.columns[entries].map(Int.init)
                #expect(columns == columns.sorted())
                for column in 0..<width {
                    let pre = (0..<inputs).reduce(Double(bias[column])) {
                        $0 + Double(x[row * inputs + $1]) * Double(w[$1 * width + column])
                    }
                    let margin = pre - Double(max(threshold[column], floor))
                    guard abs(margin) > 1e-5 else { continue }
                    #expect(columns.contains(column) == (margin > 0))
                    if let i = columns.firstIndex(of: column) {
                        #expect(
                            abs(Double(got.values[entries][entries.lowerBound + i]) - pre) < 1e-5)
                    }
                }
            }
        }
    }

    @Test func equalToTheThresholdDoesNotFire() throws {
        // pre = x exactly: 1, 2 and the next float above 2.
        let x: [Float] = [1, 2, Float(2).nextUp]
        let got = try #require(
            backend.jumpReLU(
                matrix(x, 3, 1),
                encoder: backend.weights(.inMemory([1], [1, 1]), layout: .inputsByOutputs),
                bias: [0], threshold: [2], above: 1))
        #expect(got.starts == [0, 0, 0, 1])
    }

    @Test func sparseRowsCanBeSelectedAndFiltered() {
        let rows = SparseRows(
            starts: [0, 2, 2, 5, 6], columns: [1, 4, 0, 2, 3, 5], values: [1, 2, 3, 0.5, 5, 6])
        let selected = rows.selecting([1..<3, 3..<3, 0..<1])
        #expect(
            selected
                == SparseRows(
                    starts: [0, 0, 3, 5], columns: [0, 2, 3, 1, 4], values: [3, 0.5, 5, 1, 2]))
        #expect(rows.filtered(above: 1).columns == [4, 0, 3, 5])
        #expect(rows.selecting([]) == SparseRows())
    }

    @Test func poolsRunEveryItemOnceAndReportTheFirstError() throws {
        struct Failure: Error, Equatable { let item: Int }
        let pool = try ThreadPool(threadCount: 4)
        for count in [0, 1, 3, 1000] {
            let seen = Mutex<[Int]>([])
            pool.forEach(count) { item, thread in
                #expect((0..<4).contains(thread))
                seen.withLock { $0.append(item) }
            }
            #expect(seen.withLock { $0.sorted() } == Array(0..<count))
        }
        #expect(throws: Failure(item: 3)) {
            try pool.tryForEach(100) { item, _ in if item % 7 == 3 { throw Failure(item: item) } }
        }
    }

    @Test func packedBatchesKnowTheirRows() {
        let batch = PackedBatch([[2, 5, 6], [2], [2, 9]])
        #expect(batch.positions == [0, 1, 2, 0, 0, 1])
        #expect(batch.nextTokens == [5, 6, -1, -1, 9, -1])
        #expect((0..<6).map(batch.document(ofRow:)) == [0, 0, 0, 1, 2, 2])
    }
}
