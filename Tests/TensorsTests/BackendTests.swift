// Runs the same checks on both backends. Then tests each backend alone.

import ArrayFiles
import CUDA
import Foundation
import Synchronization
import TestSupport
import Testing
import Threading

@testable import CPUBackend
@testable import CUDABackend
@testable import Tensors

/// A backend under test.
enum TestedBackend: CaseIterable {
    case openBLAS
    case cuda

    func check(
        _ cpu: (BackendChecks<OpenBLASBackend>) throws -> Void,
        _ cuda: (BackendChecks<CUDABackend>) throws -> Void
    ) throws {
        let threads = try ThreadPool(threadCount: 2)
        switch self {
        case .openBLAS: try cpu(BackendChecks(backend: try OpenBLASBackend(on: threads)))
        case .cuda: try cuda(BackendChecks(backend: try .onStandIn(threads)))
        }
    }
}

extension CUDABackend {
    /// Creates a backend on the stand-in.
    static func onStandIn(
        _ threads: ThreadPool, precision: Precision = .float32
    ) throws -> CUDABackend {
        try CUDABackend(
            precision: precision, threads: threads, environment: FakeCUDA.libraries)
    }
}

struct BackendTests {
    @Test(
        arguments: [
            (1, 1, 1), (3, 7, 5), (5, 64, 70), (17, 33, 1030), (130, 20, 513), (2, 300, 48),
        ], [ElementType.float32, .bfloat16, .float16])
    func productsAreRightInEveryLayout(size: (Int, Int, Int), type: ElementType) throws {
        for backend in TestedBackend.allCases {
            try backend.check(
                { try $0.productsAreRightInEveryLayout(size: size, type: type) },
                { try $0.productsAreRightInEveryLayout(size: size, type: type) })
        }
    }

    /// With the last size, the inner dimension is longer than one product on a device may sum (`innerStep`).
    @Test(arguments: [(3, 7, 5), (17, 300, 70), (2, 9300, 6)])
    func productsWithArbitraryWeightsAreRight(size: (Int, Int, Int)) throws {
        for backend in TestedBackend.allCases {
            try backend.check(
                {
                    try $0.productsAreRightInEveryLayout(
                        size: size, type: .float32, areShort: false)
                },
                {
                    try $0.productsAreRightInEveryLayout(
                        size: size, type: .float32, areShort: false)
                })
        }
    }

    /// The first size has blocks of more than 512 outputs. The second has panels of fewer than 512 outputs.
    @Test(arguments: [(3, 40, 9000), (4, 2500, 700)], [ElementType.float32, .bfloat16])
    func wideAndDeepProductsAreRight(size: (Int, Int, Int), type: ElementType) throws {
        try TestedBackend.openBLAS.check(
            { try $0.productsAreRightInEveryLayout(size: size, type: type) }, { _ in })
    }

    @Test(arguments: TestedBackend.allCases)
    func embeddingAndNorm(backend: TestedBackend) throws {
        try backend.check(
            { try $0.embeddingAndNorm(tablesByColumns: true) },
            { try $0.embeddingAndNorm(tablesByColumns: false) })
    }

    @Test(arguments: TestedBackend.allCases)
    func gegluAndSum(backend: TestedBackend) throws {
        try backend.check({ try $0.gegluAndSum() }, { try $0.gegluAndSum() })
    }

    @Test(arguments: TestedBackend.allCases)
    func rotationTurnsPairsHalfAHeadApart(backend: TestedBackend) throws {
        try backend.check(
            { try $0.rotationTurnsPairsHalfAHeadApart() },
            { try $0.rotationTurnsPairsHalfAHeadApart() })
    }

    @Test(arguments: [nil, 5, 200], [nil, 20] as [Float?])
    func attentionIsCausalWindowedAndCapped(window: Int?, cap: Float?) throws {
        // The lengths are around the CPU's blocks of 128 queries and the device's tiles of 32 rows.
        try TestedBackend.openBLAS.check(
            {
                try $0.attentionIsCausalWindowedAndCapped(
                    window: window, cap: cap, lengths: [1, 7, 150, 260])
            }, { _ in })
        for (heads, width) in [(2, 4), (4, 20), (6, 32)] {
            try TestedBackend.cuda.check(
                { _ in },
                {
                    try $0.attentionIsCausalWindowedAndCapped(
                        window: window, cap: cap, lengths: [1, 17, 40], heads: heads, width: width)
                })
        }
    }

    @Test(arguments: [30, nil] as [Float?], [3, 640, 1300])
    func predictionsAreOfTheWholeVocabulary(cap: Float?, vocabulary: Int) throws {
        for backend in TestedBackend.allCases {
            try backend.check(
                { try $0.predictionsAreOfTheWholeVocabulary(cap: cap, vocabulary: vocabulary) },
                { try $0.predictionsAreOfTheWholeVocabulary(cap: cap, vocabulary: vocabulary) })
        }
    }

    @Test(arguments: TestedBackend.allCases)
    func nonFiniteValuesAreFound(backend: TestedBackend) throws {
        try backend.check(
            { try $0.nonFiniteValuesAreFound() }, { try $0.nonFiniteValuesAreFound() })
    }

    @Test(arguments: [1, 8, 70, 1100])
    func jumpReLUKeepsWhatFires(width: Int) throws {
        for backend in TestedBackend.allCases {
            try backend.check(
                { try $0.jumpReLUKeepsWhatFires(width: width) },
                { try $0.jumpReLUKeepsWhatFires(width: width) })
        }
    }

    @Test(arguments: TestedBackend.allCases)
    func equalToTheThresholdDoesNotFire(backend: TestedBackend) throws {
        try backend.check(
            { try $0.equalToTheThresholdDoesNotFire() },
            { try $0.equalToTheThresholdDoesNotFire() })
    }

    @Test(arguments: [(37, 300, 2000), (5, 40, 9000)])
    func threadsChangeNoBit(size: (Int, Int, Int)) throws {
        let (m, k, n) = size
        var random = SeededGenerator(9)
        let x = random.floats(m * k)
        let w = StoredTensor.inMemory(random.floats(n * k), [n, k])
        let results = try [1, 2, 3, 8].map { threads in
            let backend = try OpenBLASBackend(on: ThreadPool(threadCount: threads))
            let out = backend.matmul(
                backend.matrix(rows: m, columns: k, x),
                backend.weights(w, layout: .outputsByInputs))
            return backend.elements(of: out, rows: 0..<m).map(\.bitPattern)
        }
        #expect(Set(results).count == 1)
    }

    private static let kinds: [BFloat16Kernels?] = [nil] + BFloat16Kernels.available

    @Test(arguments: kinds.indices, [WeightLayout.outputsByInputs, .inputsByOutputs])
    func blocksCoverAllOutputsOnce(kind: Int, layout: WeightLayout) throws {
        let kernels = BackendTests.kinds[kind]
        let backend = try OpenBLASBackend(on: ThreadPool(threadCount: 1), bfloat16: kernels)
        for outputs in [1, 16, 511, 512, 513, 2304, 9216, 14336, 16384, 256_000] {
            for inputs in [1, 2304, 9216, 14336] {
                for type in [ElementType.float32, .bfloat16] {
                    // Only the sizes matter, because the data is never read.
                    let bytes = UnsafeRawBufferPointer(
                        start: UnsafeRawPointer(bitPattern: 4096),
                        count: outputs * inputs * type.size)
                    let tensor = StoredTensor(
                        name: "w", path: "", elementType: type,
                        shape: layout == .outputsByInputs ? [outputs, inputs] : [inputs, outputs],
                        bytes: bytes, owner: backend)
                    let weights = backend.weights(tensor, layout: layout)
                    let blocks = OutputBlocks(for: weights, kernels)
                    let ranges = (0..<blocks.count).map(blocks.range)
                    #expect(ranges.first?.lowerBound == 0 && ranges.last?.upperBound == outputs)
                    #expect(
                        zip(ranges, ranges.dropFirst()).allSatisfy {
                            $0.upperBound == $1.lowerBound
                        })
                    #expect(ranges.allSatisfy { !$0.isEmpty && $0.count <= 1152 })
                    // Two threads must have work if there are more than 512 outputs, and twelve if there are 6144. A
                    // panel must be small, because each thread has its own.
                    #expect(outputs <= 512 || blocks.count >= 2)
                    #expect(outputs < 12 * 512 || blocks.count >= 12)
                    #expect(backend.panelSize(weights, blocks.width) * 4 <= 16 << 20)
                }
            }
        }
    }

    /// Checks that a panel of `panelSize` floats is enough for every kind of product and every block.
    @Test(arguments: kinds.indices, [(5, 9, 700), (70, 33, 600), (3, 2500, 300)])
    func productsStayInTheirRoom(kind: Int, size: (Int, Int, Int)) throws {
        let kernels = BackendTests.kinds[kind]
        let (m, k, n) = size
        let backend = try OpenBLASBackend(on: ThreadPool(threadCount: 1), bfloat16: kernels)
        var random = SeededGenerator(11)
        let x = backend.matrix(rows: m, columns: k, random.floats(m * k))
        for (type, shift) in [(ElementType.float32, 0), (.float32, 1), (.bfloat16, 0)] {
            for (shape, layout) in [
                ([n, k], WeightLayout.outputsByInputs), ([k, n], .inputsByOutputs),
            ] {
                let weights = backend.weights(
                    .inMemory(random.floats(n * k), shape, as: type, shift: shift), layout: layout)
                let whole = backend.elements(of: backend.matmul(x, weights), rows: 0..<m)
                let factor = backend.leftFactor(x, of: weights)
                let blocks = OutputBlocks(for: weights, kernels)
                for range in (0..<blocks.count).map(blocks.range) {
                    let count = backend.panelSize(weights, range.count)
                    var panel = [Float](repeating: .nan, count: count + 4096)
                    var out = [Float](repeating: -7, count: m * range.count + 4096)
                    for i in count..<panel.count { panel[i] = -7 }
                    panel.withUnsafeMutableBufferPointer { panel in
                        out.withUnsafeMutableBufferPointer { out in
                            backend.multiply(
                                factor, weights, outputs: range, panel: panel.baseAddress!,
                                into: out.baseAddress!, stride: range.count)
                        }
                    }
                    #expect(panel[count...].allSatisfy { $0 == -7 })
                    #expect(out[(m * range.count)...].allSatisfy { $0 == -7 })
                    for row in 0..<m {
                        let part = out[row * range.count..<(row + 1) * range.count]
                        #expect(
                            part.elementsEqual(
                                whole[row * n + range.lowerBound..<row * n + range.upperBound]))
                    }
                }
            }
        }
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
