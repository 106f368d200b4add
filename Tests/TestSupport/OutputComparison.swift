// Compares two output folders, as scripts/reference/compare.py does, but with the readers of this package. So tests
// need no Python.

import ArrayFiles
import Files
import Foundation

/// The differences between the output files in two folders.
package struct OutputComparison {
    /// One message for each difference that is not allowed. Empty if the folders agree.
    package private(set) var problems: [String] = []
    /// The number of activation bits that differ. A differing bit is a problem only if a margins file shows that its
    /// pre-activation is more than 1e-3 from the threshold.
    package private(set) var differingBits = 0
    /// The largest distance between pre-activation and threshold among the bits that differ. Infinite if a margins
    /// file is missing or lacks one of these bits.
    package private(set) var widestMargin: Float = 0
    /// The number of activations that were compared.
    package private(set) var bits = 0
    /// The number of files that were compared.
    package private(set) var files = 0
    /// The largest relative difference between two activations of which neither is zero.
    package private(set) var worstActivation: Float = 0

    /// The largest distance from the threshold at which float32 rounding may change a bit. It holds for all kernels,
    /// batch sizes and processors. The two reference implementations differ only within 1.4e-4 on the fixture.
    package static let roundingMargin: Float = 2e-4

    private let reference: String
    private let candidate: String
    private let margins: String

    /// Compares the files in `candidate` with those in `reference`.
    ///
    /// `margins` is a folder that oracle.py --dump_margins has written. If it is nil, `reference`/margins is used.
    /// With margins, activation bits may differ within 1e-3 of the threshold. Metrics are compared with the float32
    /// values in `reference`/margins. If this folder is missing, metrics may differ by one float16 step.
    package init(reference: String, candidate: String, margins: String? = nil) throws {
        self.reference = reference
        self.candidate = candidate
        self.margins = margins ?? "\(reference)/margins"
        let (wanted, found) = (
            try OutputComparison.names(reference), try OutputComparison.names(candidate)
        )
        problems += wanted.subtracting(found).map { "\($0) is missing" }
        problems += found.subtracting(wanted).map { "\($0) is unexpected" }
        for name in wanted.intersection(found).sorted() {
            files += 1
            if name.hasSuffix(".json") {
                try compareBytes(name)
            } else if name.hasSuffix(".npy") {
                try compareMetric(name)
            } else {
                try compareActivations(name)
            }
        }
    }

    private static func names(_ folder: String) throws -> Set<String> {
        Set(
            try directoryContents(folder).filter {
                $0 != "run.json" && !isDirectory("\(folder)/\($0)")
            })
    }

    private mutating func compareBytes(_ name: String) throws {
        let same =
            try TestData.bytes("\(reference)/\(name)") == TestData.bytes("\(candidate)/\(name)")
        if !same { problems.append("\(name) has other bytes") }
    }

    // MARK: Metrics

    private mutating func compareMetric(_ name: String) throws {
        let (a, b) = (try Metric("\(reference)/\(name)"), try Metric("\(candidate)/\(name)"))
        guard a.header == b.header else {
            problems.append("\(name) has another header")
            return
        }
        let parts = name.components(separatedBy: "__")
        let margins =
            "\(reference)/margins/\(parts[0])__\(parts[1])__metrics__\(parts[3].dropLast(4)).npz"
        let array = parts[2] == "entropy_loss" ? "entropy" : "cross_entropy"
        let exact =
            fileExists(margins) ? try NPZReader(path: margins).tensor(array).floats() : nil
        for i in a.values.indices {
            let (wanted, got) = (a.values[i], b.values[i])
            let error: Float
            let allowed: Float
            if let exact {
                error = abs(Float(got) - exact[i])
                allowed = 1e-3 + 2e-4 * abs(exact[i]) + 0.5 * Float(Float16(exact[i]).ulp)
            } else {
                error = abs(Float(got) - Float(wanted))
                allowed = Float(max(wanted.ulp, got.ulp))
            }
            guard error <= allowed, wanted != 0 || got == 0 else {
                problems.append("\(name) differs at \(i): \(got), wanted \(wanted)")
                return
            }
        }
    }

    /// A metrics file, which is an NPY file of float16 elements.
    package struct Metric {
        let header: [UInt8]
        /// The elements, in file order.
        package let values: [Float16]

        /// Reads the NPY file at `path`, without a check of the element type.
        package init(_ path: String) throws {
            let bytes = try TestData.bytes(path)
            let length = 10 + Int(bytes[8]) + Int(bytes[9]) << 8
            header = Array(bytes[..<length])
            values = bytes[length...].withUnsafeBytes { raw in
                (0..<raw.count / 2).map {
                    raw.loadUnaligned(fromByteOffset: 2 * $0, as: Float16.self)
                }
            }
        }
    }

    // MARK: Activations

    private mutating func compareActivations(_ name: String) throws {
        let a = try NPZReader(path: "\(reference)/\(name)")
        let b = try NPZReader(path: "\(candidate)/\(name)")
        guard a.names.sorted() == b.names.sorted() else {
            problems.append("\(name) has other arrays")
            return
        }
        for array in a.names where array != "activations" {
            let (wanted, got) = (try a.array(array), try b.array(array))
            if wanted != got {
                problems.append("\(name): \(array) has other bytes")
            }
        }
        guard a.names.contains("activations") else { return }
        let (wanted, got) = (try a.tensor("activations"), try b.tensor("activations"))
        guard wanted.shape == got.shape, !got.isFortranOrder else {
            problems.append("\(name): shape \(got.shape), wanted \(wanted.shape)")
            return
        }
        try compare(name, wanted.floats(), got.floats(), shape: wanted.shape)
    }

    private mutating func compare(
        _ name: String, _ wanted: [Float], _ got: [Float], shape: [Int]
    ) throws {
        let areBits = wanted.allSatisfy { $0 == 0 || $0 == 1 }
        var differing: [Int] = []
        bits += wanted.count
        for i in wanted.indices where wanted[i] != got[i] {
            if (wanted[i] == 0) != (got[i] == 0) || areBits {
                differing.append(i)
            } else {
                let difference = abs(wanted[i] - got[i])
                worstActivation = max(worstActivation, difference / wanted[i])
                if difference > 1e-4 + 1e-4 * abs(wanted[i]) {
                    problems.append("\(name) differs at \(i): \(got[i]), wanted \(wanted[i])")
                    return
                }
            }
        }
        differingBits += differing.count
        let path = "\(margins)/\(name)"
        guard !differing.isEmpty else { return }
        guard fileExists(path) else {
            widestMargin = .infinity
            return
        }
        let archive = try NPZReader(path: path)
        let (header, index) = try archive.array("index")
        let margins = try archive.tensor("margin").floats()
        var near: [Int: Float] = [:]
        for (i, margin) in margins.enumerated() {
            let at = (0..<3).map {
                let offset = 4 * (header.isFortranOrder ? $0 * margins.count + i : 3 * i + $0)
                return index.withUnsafeBytes {
                    Int($0.loadUnaligned(fromByteOffset: offset, as: Int32.self))
                }
            }
            near[(at[0] * shape[1] + at[1]) * shape[2] + at[2]] = margin
        }
        for i in differing {
            let margin = near[i].map(abs) ?? .infinity
            widestMargin = max(widestMargin, margin)
            guard margin <= 1e-3 else {
                problems.append("\(name): bit \(i) differs and is not within 1e-3 of the threshold")
                return
            }
        }
    }
}
