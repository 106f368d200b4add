// The program's side of `scripts/bench npz`: writes a dense .npz of what two files of a CSR matrix say is 1.
// bench-tool npz INDPTR INDICES DOCUMENTS TOKENS FEATURES OUT: int64 and int32 as they lie in memory; prints JSON.

import ArrayFiles
import Glibc

let arguments = Array(CommandLine.arguments.dropFirst())
guard arguments.count == 7, arguments[0] == "npz" else {
    print("usage: bench-tool npz INDPTR INDICES DOCUMENTS TOKENS FEATURES OUT")
    exit(64)
}
let (starts, columns) = (
    try MappedFile(path: arguments[1]), try MappedFile(path: arguments[2])
)
let shape = arguments[3...5].map { Int($0)! }
let path = arguments[6]
let folder = path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."

let clock = ContinuousClock()
let begin = clock.now
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
let seconds = (clock.now - begin) / .seconds(1)
// Not getrusage: that goes on counting from the process that started this one.
var text = [UInt8](repeating: 0, count: 1 << 14)
let status = open("/proc/self/status", O_RDONLY)
let length = read(status, &text, text.count)
let peak = String(decoding: text.prefix(max(0, length)), as: UTF8.self).split(separator: "\n")
    .first { $0.hasPrefix("VmHWM:") }?.split { !$0.isNumber }.first.flatMap { Double($0) }
print("{\"seconds\": \(seconds), \"peak_mb\": \((peak ?? 0) / 1024)}")
