// The sections of a batch record. Each can be read without the others.

import Files
import Hooks

/// A section of a journal record.
package enum RecordSection: Hashable, Sendable {
    /// Tokens, cross-entropy and entropy of the documents.
    case documents
    /// The number of parts, if the batch was computed in parts because memory was short. Other records do not have this section.
    case division
    /// The features that fired at a hook.
    case features(HookPoint)
}

/// A section as a journal stores it.
package struct EncodedSection: Sendable {
    let section: RecordSection
    let bytes: [UInt8]
    /// CRC-32 of `bytes`.
    let crc: UInt32

    init(_ section: RecordSection, _ bytes: [UInt8]) {
        (self.section, self.bytes) = (section, bytes)
        crc = bytes.withUnsafeBytes { crc32($0) }
    }
}
