// Measures this program's code for `scripts/bench`. Prints one JSON object.
//   bench-tool npz INDPTR INDICES DOCUMENTS TOKENS FEATURES OUT
//       writes the dense .npz of a CSR matrix of ones; INDPTR has int64 and INDICES int32, both in native order
//   bench-tool scan FILE
//       reads all nonzero elements of the array `activations` of a dense .npz
//   bench-tool tokenizer FOLDER TEXTS IDS
//       tokenizes texts on one thread; each text ends with a zero byte; writes int32 ids, and -1 after each text
//   bench-tool corpus FILE
//       reads a corpus and selects all documents
//   bench-tool products FILE DTYPE ROWS THREADS TENSOR...
//       multiplies matrices of ROWS rows with tensors of a safetensors file, as the model does; prints GFLOP/s for
//       each tensor, and the peak of THREADS threads

import ArrayFiles
import BenchPeak
import CPUBackend
import Corpus
import Files
import Glibc
import Synchronization
import Tensors
import Threading
import Tokenization

private func seconds(_ body: () throws -> Void) rethrows -> Double {
    let clock = ContinuousClock()
    let begin = clock.now
    try body()
    return (clock.now - begin) / .seconds(1)
}

/// Returns the peak resident memory of this process in MiB (VmHWM), or 0 if it cannot be read. getrusage is not
/// usable, because its value is inherited from the parent process.
private func peakMegabytes() -> Double {
    var text = [UInt8](repeating: 0, count: 1 << 14)
    let length = read(open("/proc/self/status", O_RDONLY), &text, text.count)
    let line = String(decoding: text.prefix(max(0, length)), as: UTF8.self).split(separator: "\n")
        .first { $0.hasPrefix("VmHWM:") }
    return (line?.split { !$0.isNumber }.first.flatMap { Double($0) } ?? 0) / 1024
}

private func report(_ values: KeyValuePairs<String, Double>) {
    print("{" + values.map { "\"\($0)\": \($1)" }.joined(separator: ", ") + "}")
}

private func npz(_ arguments: [String]) throws {
    let starts = try MappedFile(path: arguments[0])
    let columns = try MappedFile(path: arguments[1])
    let shape = arguments[2...4].map { Int($0)! }
    let path = arguments[5]
    let folder = path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
    let seconds = try seconds {
        try OutputFile.make(path: path, temporaryDirectory: folder) { file in
            let archive = NPZWriter(file, level: 1)
            try archive.addSparse("activations", NPYHeader(descr: "<f4", shape: shape)) { element in
                let ends = starts.bytes.bindMemory(to: Int64.self)
                let indices = columns.bytes.bindMemory(to: Int32.self)
                for row in 0..<shape[0] * shape[1] {
                    for entry in Int(ends[row])..<Int(ends[row + 1]) {
                        try element(row * shape[2] + Int(indices[entry]), 1)
                    }
                }
            }
            try archive.finish()
        }
    }
    report(["seconds": seconds, "peak_mb": peakMegabytes()])
}

private func scan(_ arguments: [String]) throws {
    var ones = 0
    let seconds = try seconds {
        try NPZReader(path: arguments[0]).scan("activations").forEachNonzero { _, _ in ones += 1 }
    }
    report(["seconds": seconds, "ones": Double(ones), "peak_mb": peakMegabytes()])
}

private func tokenizer(_ arguments: [String]) throws {
    var loaded: GemmaTokenizer?
    let loading = try seconds { loaded = try GemmaTokenizer(directory: arguments[0]) }
    let texts = try MappedFile(path: arguments[1]).withBytes { bytes in
        bytes.split(separator: 0, omittingEmptySubsequences: false).dropLast()
            .map { String(decoding: $0, as: UTF8.self) }
    }
    var ids: [[TokenID]] = []
    let seconds = seconds {
        var cache = WordCache()
        ids = texts.map { loaded!.encode($0, &cache) }
    }
    let file = try OutputFile(path: arguments[2], temporaryDirectory: "/tmp")
    for text in ids { try (text + [-1]).withUnsafeBytes { try file.write($0) } }
    try file.commit()
    report([
        "seconds": seconds, "loading": loading, "tokens": Double(ids.reduce(0) { $0 + $1.count }),
        "peak_mb": peakMegabytes(),
    ])
}

private func corpus(_ arguments: [String]) throws {
    var documents = 0
    let seconds = try seconds {
        var selection = Selection()
        selection.documentsPerAuthor = .max
        selection.minimumWords = 0
        documents = try Corpus.read(paths: [arguments[0]], selection).authors.reduce(0) {
            $0 + $1.documents.count
        }
    }
    report(["seconds": seconds, "documents": Double(documents), "peak_mb": peakMegabytes()])
}

private func products(_ arguments: [String]) throws {
    let file = try SafetensorsFile(path: arguments[0])
    let backend = try OpenBLASBackend(
        on: ThreadPool(threadCount: Int(arguments[3])!),
        precision: Precision(rawValue: arguments[1])!)
    var random = SystemRandomNumberGenerator()
    let rates = try arguments.dropFirst(4).map { name in
        let tensor = try file.tensor(name)
        let weights = backend.weights(tensor, layout: .outputsByInputs)
        let (outputs, inputs, rows) = (tensor.shape[0], tensor.shape[1], Int(arguments[2])!)
        let x = backend.matrix(
            rows: rows, columns: inputs,
            (0..<rows * inputs).map { _ in Float.random(in: -1...1, using: &random) })
        // The first product also reads the weights from disk, so only the fastest of six products counts.
        let best = (0..<6).map { _ in seconds { _ = backend.matmul(x, weights) } }.min()!
        return "\"\(name)\": \(2e-9 * Double(rows * outputs * inputs) / best)"
    }
    let peaks = [("float32", peak_float32), ("bfloat16", peak_bfloat16)].map { name, peak in
        let sum = Mutex(0.0)
        backend.threads.forEach(backend.threads.threadCount) { _, _ in
            let rate = peak(0.5)
            sum.withLock { $0 += rate }
        }
        return "\"\(name)\": \(sum.withLock { $0 })"
    }
    print(
        "{\"kernels\": \"\(backend.kernels)\", \"products\": \"\(backend.products)\", \"gflops\": {\(rates.joined(separator: ", "))}, \"peak\": {\(peaks.joined(separator: ", "))}}"
    )
}

let arguments = Array(CommandLine.arguments.dropFirst())
switch (arguments.first, arguments.count) {
case ("npz", 7): try npz(Array(arguments.dropFirst()))
case ("scan", 2): try scan(Array(arguments.dropFirst()))
case ("tokenizer", 4): try tokenizer(Array(arguments.dropFirst()))
case ("corpus", 2): try corpus(Array(arguments.dropFirst()))
case ("products", 6...): try products(Array(arguments.dropFirst()))
default:
    print("usage: see the head of scripts/benchmarks/tool/main.swift")
    exit(64)
}
