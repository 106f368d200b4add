// The text form of a receipt: a line of a `.receipts` file, or a `.receipt` file. See `ReceiptReader.swift` for both.

import Files
import FoundationEssentials

extension AuthorReceipt {
    /// Returns the receipt as a line of a `.receipts` file, with its line break. Throws the encoder's errors.
    package func line() throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        let text = Array(try encoder.encode(self))
        return AuthorReceipt.checksum(text[...]) + [UInt8(ascii: " ")] + text + [0x0A]
    }

    /// Parses a line without its line break. Nil if the checksum is wrong or the receipt is not plausible.
    init?(line: ArraySlice<UInt8>) {
        let text = line.dropFirst(9)
        guard line.count > 9, Array(line.prefix(8)) == AuthorReceipt.checksum(text),
            let receipt = AuthorReceipt(json: text)
        else { return nil }
        self = receipt
    }

    /// Parses JSON. Nil if the JSON is not a receipt, or if the receipt is not plausible.
    init?(json text: some Sequence<UInt8>) {
        guard let receipt = try? JSONDecoder().decode(AuthorReceipt.self, from: Data(text)),
            receipt.isPlausible
        else { return nil }
        self = receipt
    }

    /// Returns the CRC-32 of `text` as 8 hexadecimal digits.
    private static func checksum(_ text: ArraySlice<UInt8>) -> [UInt8] {
        let crc = text.withUnsafeBytes { crc32($0) }
        return Array(hexadecimal(withUnsafeBytes(of: crc.bigEndian, Array.init)).utf8)
    }
}
