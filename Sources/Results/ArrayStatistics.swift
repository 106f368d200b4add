// Computes statistics of an array without loading the array into memory.

import ArrayFiles
import ByteJSON
import FoundationEssentials

/// Counts, range and mean of an array's elements. NaN and infinities are counted, but not included in range and mean.
struct ArrayStatistics {
    private(set) var count = 0
    private(set) var zeros = 0
    private(set) var notFinite = 0
    private var least = Double.infinity
    private var largest = -Double.infinity
    private var sum = 0.0

    /// Reads all elements of `scan`, an array of numbers. Throws `NPZError`.
    init(_ scan: ArrayScan) throws {
        let value = ArrayStatistics.decoder(scan.header.descr)
        var seen = 0
        try scan.forEachNonzero { _, bits in
            // -0.0 has nonzero bits, but counts as zero.
            let value = value(bits)
            guard value != 0 else { return }
            seen += 1
            add(value)
        }
        // The shape in the header is used only after the scan: the scan throws if the data have another size.
        count = scan.count
        zeros = count - seen
        if zeros > 0 { (least, largest) = (min(least, 0), max(largest, 0)) }
    }

    /// Reads all elements of `tensor`.
    init(_ tensor: StoredTensor) {
        count = tensor.count
        let step = 1 << 16
        let block = UnsafeMutablePointer<Float>.allocate(capacity: step)
        defer { block.deallocate() }
        for start in stride(from: 0, to: count, by: step) {
            let size = min(step, count - start)
            tensor.convert(from: start, count: size, to: block)
            for i in 0..<size {
                if block[i] == 0 { zeros += 1 }
                add(Double(block[i]))
            }
        }
    }

    private mutating func add(_ value: Double) {
        guard value.isFinite else {
            notFinite += 1
            return
        }
        (least, largest) = (min(least, value), max(largest, value))
        sum += value
    }

    /// Returns a function that converts the bits of an element of NumPy's type `descr` to a number. The default case
    /// is for unsigned integers and bool.
    private static func decoder(_ descr: String) -> (UInt64) -> Double {
        switch descr.dropFirst() {
        case "f2": { Double(Float16(bitPattern: UInt16(truncatingIfNeeded: $0))) }
        case "f4": { Double(Float(bitPattern: UInt32(truncatingIfNeeded: $0))) }
        case "f8": { Double(bitPattern: $0) }
        case "i1": { Double(Int8(truncatingIfNeeded: $0)) }
        case "i2": { Double(Int16(truncatingIfNeeded: $0)) }
        case "i4": { Double(Int32(truncatingIfNeeded: $0)) }
        case "i8": { Double(Int64(truncatingIfNeeded: $0)) }
        default: { Double($0) }
        }
    }

    /// The mean of the finite elements; 0 if no element is finite.
    private var mean: Double { sum / Double(max(count - notFinite, 1)) }

    /// The cells of a table row: the numbers of elements, zeros and non-finite elements, then the least, the mean and
    /// the largest element. The last three are empty if no element is finite.
    var cells: [String] {
        let isEmpty = count == notFinite
        return ["\(count)", "\(zeros)", "\(notFinite)"]
            + [least, mean, largest].map { isEmpty ? "" : ArrayStatistics.short($0) }
    }

    private static func short(_ value: Double) -> String {
        if value == value.rounded(), abs(value) < 1e15 { return "\(Int(value))" }
        // Most arrays are float32 or narrower, so the digits of a float32 are enough.
        let float = Float(value)
        return float.isFinite && float != 0 ? "\(float)" : "\(value)"
    }

    var json: JSONObject {
        let isEmpty = count == notFinite
        return [
            "elements": .integer(count), "zeros": .integer(zeros),
            "density": .number(Double(count - zeros) / Double(max(count, 1))),
            "not_finite": .integer(notFinite), "minimum": isEmpty ? .null : .finite(least),
            "mean": isEmpty ? .null : .finite(mean), "maximum": isEmpty ? .null : .finite(largest),
        ]
    }
}
