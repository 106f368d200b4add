// The environment as the system has it: bytes, not text.

import Glibc

/// The environment's variables whose values are not valid UTF-8. Swift would read such a value as another one, and a path as
/// that of another folder.
public func variablesThatAreNotUTF8() -> Set<String> {
    var names: Set<String> = []
    var entry = environ
    while let text = entry.pointee {
        let bytes = UnsafeBufferPointer(start: text, count: strlen(text)).map(
            UInt8.init(bitPattern:))
        if let end = bytes.firstIndex(of: UInt8(ascii: "=")),
            String(validating: bytes[end...], as: UTF8.self) == nil,
            let name = String(validating: bytes[..<end], as: UTF8.self)
        {
            names.insert(name)
        }
        entry += 1
    }
    return names
}
