// The sections of a batch record. A section can be read without the other sections.

import Files
import Hooks

/// A section of a journal record.
package enum RecordSection: Hashable, Sendable {
    /// Tokens, cross-entropy and entropy of the documents.
    case documents
    /// The number of parts of a batch that was divided because memory was short. Other batches do not have this
    /// section.
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
