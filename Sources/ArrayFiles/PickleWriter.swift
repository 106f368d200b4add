// Writes pickles opcode by opcode, without Python. The opcodes are those of protocol 3 (CPython Lib/pickletools.py).

/// Appends pickle opcodes. Stores objects in the memo in the same order as CPython's pickler.
package struct PickleWriter {
    package private(set) var bytes: [UInt8] = []
    private var memoCount = 0

    /// Creates an empty pickle.
    package init() {}

    private mutating func op(_ code: Unicode.Scalar) { bytes.append(UInt8(ascii: code)) }
    private mutating func op(_ code: UInt8) { bytes.append(code) }

    private mutating func little32(_ value: Int) {
        withUnsafeBytes(of: UInt32(truncatingIfNeeded: value).littleEndian) { bytes += $0 }
    }

    @discardableResult
    private mutating func memoize() -> Int {
        if memoCount < 256 {
            op("q")
            bytes.append(UInt8(memoCount))
        } else {
            op("r")
            little32(memoCount)
        }
        memoCount += 1
        return memoCount - 1
    }

    package mutating func protocolHeader() { bytes += [0x80, 3] }
    package mutating func mark() { op("(") }
    package mutating func emptyTuple() { op(")") }
    package mutating func bool(_ value: Bool) { op(value ? 0x88 : 0x89) }
    package mutating func none() { op("N") }
    package mutating func build() { op("b") }
    package mutating func append() { op("a") }
    package mutating func setItems() { op("u") }
    package mutating func stop() { op(".") }

    package mutating func get(_ slot: Int) {
        op("h")
        bytes.append(UInt8(slot))
    }

    @discardableResult
    package mutating func global(_ module: String, _ name: String) -> Int {
        op("c")
        bytes += Array("\(module)\n\(name)\n".utf8)
        return memoize()
    }

    package mutating func integer(_ value: Int) {
        switch value {
        case 0...0xFF:
            op("K")
            bytes.append(UInt8(value))
        case 0x100...0xFFFF:
            op("M")
            bytes += [UInt8(value & 0xFF), UInt8(value >> 8)]
        case Int(Int32.min)...Int(Int32.max):
            op("J")
            little32(value)
        default:
            bytes += [0x8A, 8]
            withUnsafeBytes(of: value.littleEndian) { bytes += $0 }
        }
    }

    package mutating func string(_ value: String) {
        op("X")
        little32(value.utf8.count)
        bytes += Array(value.utf8)
        memoize()
    }

    @discardableResult
    package mutating func bytes(_ value: [UInt8]) -> Int {
        if value.count < 256 {
            op("C")
            bytes.append(UInt8(value.count))
        } else {
            op("B")
            little32(value.count)
        }
        bytes += value
        return memoize()
    }

    package mutating func memoizedTuple1() {
        op(0x85)
        memoize()
    }

    package mutating func memoizedTuple3() {
        op(0x87)
        memoize()
    }

    package mutating func memoizedTuple() {
        op("t")
        memoize()
    }

    package mutating func memoizedReduce() {
        op("R")
        memoize()
    }

    package mutating func emptyList() {
        op("]")
        memoize()
    }

    package mutating func emptyDictionary() {
        op("}")
        memoize()
    }

    /// Appends the NumPy type `dtype(code, False, True)` with its state. The class `dtype` must be on top of the
    /// stack.
    package mutating func dtype(_ code: String, byteOrder: String, flags: Int) {
        string(code)
        bool(false)
        bool(true)
        memoizedTuple3()
        memoizedReduce()
        mark()
        integer(3)
        string(byteOrder)
        none()
        none()
        none()
        integer(-1)
        integer(-1)
        integer(flags)
        memoizedTuple()
        build()
    }
}
