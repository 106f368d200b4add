// Fuzz targets for arrays: safetensors, NPY, NPZ, activations files and pickles. Also for the DEFLATE reader that
// skips runs of zeros, and for the DEFLATE writer of sparse arrays.

import Files
import Results
import RunFiles
import TestSupport

@testable import ArrayFiles

extension FuzzTarget {
    static let arrays = [safetensors, npy, npz, activations, inflate, deflate, pickle]

    // MARK: safetensors

    private static let safetensors = FuzzTarget(
        "safetensors",
        dictionary: jsonWords + [
            "__metadata__", "\"dtype\":\"", "\"shape\":[", "\"data_offsets\":[", "F32", "BF16",
            "F16", "I64",
            "F8_E4M3", "4611686018427387904",
        ]
    ) {
        var small = SafetensorsBuilder()
        small.add("model.norm.weight", [2], [1, 2])
        small.add("model.embed_tokens.weight", "BF16", [1, 3], [0, 1, 2, 3, 4, 5])
        small.add("ids", "I64", [], [UInt8](repeating: 7, count: 8))
        small.add("none", "F16", [0, 5], [])
        let lens = "\(TestData.tiny)/sae-lens/res/layer_0/width_16k"
        let names = try directoryContents(lens)
        return [small.bytes()]
            + (try names.map { try TestData.bytes("\(lens)/\($0)/sae_weights.safetensors") })
            .filter { $0.count < 10_000 }
    } body: { input in
        let file = try SafetensorsFile(path: Workspace.file(input))
        var end = 8 + file.headerLength
        for entry in file.entries {
            check(
                entry.begin + 8 + file.headerLength == end, "tensors overlap or leave a gap")
            end = entry.end + 8 + file.headerLength
            guard let tensor = try? file.tensor(entry.name) else { continue }
            check(tensor.shape == entry.shape, "wrong shape")
            check(
                tensor.bytes.elementsEqual(input[(end - tensor.bytes.count)..<end]), "wrong bytes")
            check(tensor.floats().count == tensor.count, "wrong number of elements")
        }
        check(end == input.count, "bytes that belong to no tensor")
    }

    // MARK: NPY

    private static let npyWords = [
        "{'descr': '", "'fortran_order': ", "'shape': (", "True", "False", "<f4", "<f2", "|O",
        "<i8",
        "4611686018427387904, ", "\u{93}NUMPY",
    ]

    private static let npy = FuzzTarget("npy", dictionary: npyWords) {
        let metrics = "\(TestData.tiny)/expected-alt"
        let file = try directoryContents(metrics).first { $0.hasSuffix(".npy") }!
        return [
            try TestData.bytes("\(metrics)/\(file)"),
            NPYHeader(descr: "<f4", shape: []).encoded + [0, 0, 0x80, 0x3F],
            NPYHeader(descr: "|u1", isFortranOrder: true, shape: [2, 3]).encoded + [
                1, 0, 0, 2, 0, 3,
            ],
            NPYHeader(descr: "<i8", shape: [1]).encoded + [UInt8](repeating: 1, count: 8),
        ]
    } body: { input in
        let raw = UnsafeRawBufferPointer(input)
        let (header, length) = try NPYHeader.read(raw)
        if !header.descr.contains("'"), header.shape.count < 1000, header.descr.utf8.count < 1000 {
            let again = try! header.encoded.withUnsafeBytes { try NPYHeader.read($0) }
            check(again.header == header, "writing and reading changes the header")
        }
        let scan = try ArrayScan(npy: Workspace.file(input))
        try scan.checkSize()
        let size = scan.elementSize!
        let elements = nonzero(UnsafeRawBufferPointer(rebasing: raw[length...]), size: size)
        var found: [Int: UInt64] = [:]
        try! scan.forEachNonzero { found[$0] = $1 }
        check(found == elements, "wrong elements")
    }

    /// Returns the nonzero elements of `data`, as bits by element index.
    private static func nonzero(_ data: UnsafeRawBufferPointer, size: Int) -> [Int: UInt64] {
        var elements: [Int: UInt64] = [:]
        for (i, byte) in data.enumerated() where byte != 0 {
            elements[i / size, default: 0] |= UInt64(byte) << UInt64(8 * (i % size))
        }
        return elements
    }

    // MARK: NPZ

    private static let npz = FuzzTarget(
        "npz",
        dictionary: npyWords + ["PK\u{1}\u{2}", "PK\u{3}\u{4}", "PK\u{5}\u{6}", ".npy", "csr"]
    ) {
        let folder = "\(TestData.tiny)/expected-alt"
        let files = try directoryContents(folder).filter { $0.hasSuffix(".npz") }
        let small = try files.map { try TestData.bytes("\(folder)/\($0)") }.filter {
            $0.count < 2000
        }
        var stored = ZipBuilder()
        for (name, header, data) in [
            ("a.npy", NPYHeader(descr: "<f4", shape: [1]), [0, 0, 0x80, 0x3F] as [UInt8]),
            (
                "b.npy", NPYHeader(descr: "<i4", isFortranOrder: true, shape: [2]),
                [1, 0, 0, 0, 0, 0, 0, 0]
            ),
        ] {
            let member = header.encoded + data
            stored.add(name, member, crc: member.withUnsafeBytes { crc32($0) })
        }
        return small + [stored.bytes]
    } body: { input in
        let path = Workspace.file(input)
        let reader = try NPZReader(path: path)
        for name in reader.names.sorted().prefix(20) {
            let array = Result { try reader.array(name) }
            if let tensor = try? reader.tensor(name) {
                check(tensor.floats().count == tensor.count, "wrong number of elements")
            }
            guard let scan = try? reader.scan(name) else { continue }
            var found: [Int: UInt64] = [:]
            let scanned = Result { try scan.forEachNonzero { found[$0] = $1 } }
            guard let (header, data) = try? array.get() else {
                check((try? scanned.get()) == nil, "array \(name) is refused, but scanned")
                continue
            }
            check(header == scan.header, "two headers of array \(name)")
            guard let size = scan.elementSize, (try? scan.checkSize()) != nil else { continue }
            check((try? scanned.get()) != nil, "array \(name) is read, but not scanned")
            check(data.withUnsafeBytes { nonzero($0, size: size) } == found, "wrong elements")
        }
        try readActivations(path)
    }

    private static func readActivations(_ path: String) throws {
        let file = try ActivationsFile(path: path)
        var before = (-1, -1)
        try file.forEachEntry { row, feature, value in
            check((row, feature) > before, "entries are not in ascending order")
            check(row < file.documents * file.positions, "an entry outside the array")
            check(feature < file.features && value != 0, "an invalid entry")
            before = (row, feature)
        }
    }

    private static let memberNames = [
        "activations", "metadata", "indices", "indptr", "format", "shape", "data", "other",
    ]

    /// Fuzz target for archives with correct checksums, which random changes to an archive would almost never give.
    /// An input is a list of members, from which the target builds the archive. Each member has one byte that selects
    /// the name, two bytes with the length (little-endian), and its content.
    private static let activations = FuzzTarget("activations", dictionary: npyWords) {
        func members(_ members: [(String, NPYHeader, [UInt8])]) -> [UInt8] {
            members.flatMap { name, header, data in
                let bytes = header.encoded + data
                let number = UInt8(memberNames.firstIndex(of: name)!)
                return [number, UInt8(bytes.count & 0xFF), UInt8(bytes.count >> 8)] + bytes
            }
        }
        func numbers(_ values: [Int32]) -> [UInt8] { values.withUnsafeBytes(Array.init) }
        func metadata(_ tokens: [Int32]) -> (String, NPYHeader, [UInt8]) {
            let metadata = FeatureMetadata(
                author: "a", documentCount: 1, layer: 0, tokensPerDocument: tokens, saeName: "s")
            return ("metadata", FeatureMetadata.header, metadata.pickle)
        }
        let one: Int32 = 0x3F80_0000
        return [
            members([
                (
                    "activations", NPYHeader(descr: "<f4", shape: [2, 2, 2]),
                    numbers([0, one, 0, 0, one, 0, 0, 0])
                ),
                metadata([2, 1]),
            ]),
            members([
                ("indices", NPYHeader(descr: "<i4", shape: [3]), numbers([0, 4, 2])),
                ("indptr", NPYHeader(descr: "<i4", shape: [5]), numbers([0, 2, 2, 3, 3])),
                ("format", NPYHeader(descr: "|S3", shape: []), Array("csr".utf8)),
                ("shape", NPYHeader(descr: "<i8", shape: [2]), numbers([4, 0, 5, 0])),
                ("data", NPYHeader(descr: "<f4", shape: [3]), numbers([one, one, one])),
                metadata([2, 1]),
            ]),
        ]
    } body: { input in
        var archive = ZipBuilder()
        var rest = Array(input)[...]
        while rest.count >= 3 {
            let head = Array(rest.prefix(3))
            let member = Array(rest.dropFirst(3).prefix(Int(head[1]) | Int(head[2]) << 8))
            rest = rest.dropFirst(3 + member.count)
            archive.add(
                memberNames[Int(head[0]) % memberNames.count] + ".npy", member,
                crc: member.withUnsafeBytes { crc32($0) })
        }
        try readActivations(Workspace.file(archive.bytes))
    }

    // MARK: DEFLATE

    /// The largest number of bytes that the target unpacks.
    private static let limit = 1 << 17

    private static let inflate = FuzzTarget("inflate") {
        let metrics = "\(TestData.tiny)/expected-alt"
        let data = try directoryContents(metrics).filter { $0.hasSuffix(".npz") }.map {
            try NPZReader(path: "\(metrics)/\($0)").array("activations").data
        }.min { $0.count < $1.count }!
        return try ([0, 1, 9] as [Int32]).map { level in
            var out: [UInt8] = []
            try data.prefix(5000).withUnsafeBytes { bytes in
                try Deflater(level: level).write(bytes, finish: true) { out += $0 }
            }
            return out
        }
    } body: { input in
        let packed = UnsafeRawBufferPointer(input)
        var room = [UInt8](repeating: 0, count: limit + 1)
        let (_, count, status) = room.withUnsafeMutableBytes {
            Inflater(.raw).read(packed, into: $0)
        }
        var words: [UInt32] = []
        var places: [Int] = []
        let ours = Result {
            try ZeroRunInflater.decode(packed, size: limit) {
                places.append($0)
                words.append($1)
            }
        }
        guard status == .end, count <= limit else {
            check((try? ours.get()) == nil, "zlib: \(status) after \(count); ours: \(ours)")
            return
        }
        let outcome = try! ours.get()
        room.removeLast(room.count - count)
        check(outcome.size == count, "\(outcome.size) bytes, zlib has \(count)")
        check(outcome.crc32 == room.withUnsafeBytes { crc32($0) }, "wrong checksum")
        let expected = room.withUnsafeBytes { nonzero($0, size: 4) }
        check(zip(places, places.dropFirst()).allSatisfy(<), "words not in ascending order")
        let found = Dictionary(uniqueKeysWithValues: zip(places, words.map(UInt64.init)))
        check(found == expected, "the words differ from zlib's")
    }

    /// Fuzz target for the writer of sparse arrays. An input is a list of elements of six bytes: two bytes with the
    /// number of zeros before the element, and four bytes with its bits.
    private static let deflate = FuzzTarget("deflate") {
        [[UInt8](repeating: 0, count: 5) + [0x3F], (0..<60).map { UInt8($0 * 37 & 0xFF) }]
    } body: { input in
        let raw = UnsafeRawBufferPointer(input)
        var elements: [(index: Int, value: Float)] = []
        var count = 0
        for start in stride(from: 0, to: raw.count - 5, by: 6).prefix(1000) {
            let gap = Int(raw.loadUnaligned(fromByteOffset: start, as: UInt16.self))
            let bits = raw.loadUnaligned(fromByteOffset: start + 2, as: UInt32.self)
            // A gap is at most 255 if its top bit is not set, so most arrays stay small.
            count += gap & 0x8000 == 0 ? gap & 0xFF : gap & 0x7FFF
            if bits != 0 { elements.append((count, Float(bitPattern: bits))) }
            count += 1
        }
        guard count < 1 << 21 else { return }
        var dense = [UInt32](repeating: 0, count: count)
        for (index, value) in elements { dense[index] = value.bitPattern }
        let path = Workspace.folder + "/sparse.npz"
        try! OutputFile.make(path: path, temporaryDirectory: Workspace.folder) { file in
            let writer = NPZWriter(file, level: 1)
            try writer.addSparse("a", NPYHeader(descr: "<f4", shape: [count])) { element in
                for (index, value) in elements { try element(index, value) }
            }
            try writer.finish()
        }
        let reader = try! NPZReader(path: path)
        let data = try! reader.array("a").data
        check(data.elementsEqual(dense.withUnsafeBytes(Array.init)), "zlib reads a wrong array")
        var found: [Int: UInt64] = [:]
        try! reader.scan("a").forEachNonzero { found[$0] = $1 }
        check(data.withUnsafeBytes { nonzero($0, size: 4) } == found, "wrong elements in the scan")
    }

    // MARK: Pickles

    private static let pickle = FuzzTarget(
        "pickle",
        dictionary: [
            "cnumpy\nndarray\n", "cnumpy.core.multiarray\n_reconstruct\n", "cnumpy\ndtype\n",
            "cnumpy.core.multiarray\nscalar\n", "\u{80}\u{3}", "author", "docs_count", "layer",
            "tokens_per_doc", "sae_name", "]q\u{0}", "}q\u{0}", "h\u{0}",
        ]
    ) {
        let folder = "\(TestData.tiny)/expected-alt"
        let files = try directoryContents(folder).filter { $0.hasSuffix(".npz") }
        return try files.prefix(2).map {
            try NPZReader(path: "\(folder)/\($0)").array("metadata").data
        } + [
            FeatureMetadata(
                author: "ä", documentCount: 300, layer: 70_000, tokensPerDocument: [1, 0],
                saeName: ""
            )
            .pickle
        ]
    } body: { input in
        let bytes = Array(input)
        let value = try PickleValue(pickle: bytes)
        _ = (value.integers, value.string, value["author"])
        let metadata = try FeatureMetadata(pickle: bytes)
        check(
            try! FeatureMetadata(pickle: metadata.pickle) == metadata,
            "writing and reading changes the metadata")
    }
}
