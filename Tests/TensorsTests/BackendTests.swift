// Both backends through the same checks, then what each has for itself.

import ArrayFiles
import CUDA
import Foundation
import Synchronization
import TestSupport
import Testing

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
    /// A backend on the stand-in for a device.
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

    /// The last one's sums are longer than a device takes in one go.
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
        // Around the CPU's blocks of 128 queries, and the device's of 32 rows.
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

    @Test func threadsChangeNoBit() throws {
        var random = SeededGenerator(9)
        let x = random.floats(37 * 300)
        let w = StoredTensor.inMemory(random.floats(2000 * 300), [2000, 300])
        let results = try [1, 2, 3, 8].map { threads in
            let backend = try OpenBLASBackend(on: ThreadPool(threadCount: threads))
            let out = backend.matmul(
                backend.matrix(rows: 37, columns: 300, x),
                backend.weights(w, layout: .outputsByInputs))
            return backend.elements(of: out, rows: 0..<37).map(\.bitPattern)
        }
        #expect(Set(results).count == 1)
    }

    @Test(arguments: [1, 16, 511, 512, 513, 2304, 9216, 16384, 256_000])
    func blocksCoverAllOutputsOnce(outputs: Int) throws {
        let backend = try OpenBLASBackend(on: ThreadPool(threadCount: 1))
        // Only sizes matter; the data is never touched.
        for type in [ElementType.float32, .bfloat16] {
            let bytes = UnsafeRawBufferPointer(
                start: UnsafeRawPointer(bitPattern: 4096), count: outputs * 2304 * type.size)
            let tensor = StoredTensor(
                name: "w", path: "", elementType: type, shape: [outputs, 2304], bytes: bytes,
                owner: backend)
            let blocks = OutputBlocks(
                for: backend.weights(tensor, layout: .outputsByInputs), nil)
            let ranges = (0..<blocks.count).map(blocks.range)
            #expect(ranges.first?.lowerBound == 0 && ranges.last?.upperBound == outputs)
            #expect(zip(ranges, ranges.dropFirst()).allSatisfy { $0.upperBound == $1.lowerBound })
            #expect(ranges.allSatisfy { !$0.isEmpty })
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
