// Reads the environment variables as bytes, not as `String`.

import Glibc

/// Returns the names of the environment variables whose values are not valid UTF-8. Such a value must not be used as
/// a path: `String` replaces the invalid bytes, and so the path would name another file.
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
