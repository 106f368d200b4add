// Stores the token ids of words, because most words of a text occur again.

import Glibc

/// A cache from words to their token ids. When the cache has grown to about 4 MiB, it is emptied.
package struct WordCache {
    private struct Entry {
        var hash: UInt64
        /// The word ends at `textEnd` in `text`, and its ids end at `idEnd` in `ids`. Both begin where those of the
        /// previous entry end, or at 0.
        var textEnd: Int32
        var idEnd: Int32
    }

    /// The maximum length of a word in the cache, in bytes.
    static let longest = 48
    private static let mostEntries = 1 << 17
    private static let mostBytes = 1 << 22

    /// The start value of the hash function. It is random in each process, so that nobody can make a text whose words
    /// all collide.
    private static let seed = UInt64.random(in: .min ... .max)
    private let seed = WordCache.seed

    /// A hash table with open addressing. A slot has an index into `entries`, or -1 if it is free. The number of
    /// slots is a power of two, and at most half of them are used.
    private var slots = [Int32](repeating: -1, count: 1 << 10)
    private var entries: [Entry] = []
    private var text: [UInt8] = []
    private var ids: [TokenID] = []

    /// Creates an empty cache.
    package init() {}

    /// Appends the ids of `word` to `out`. If the cache lacks the word, `tokenize` appends the ids, and the cache
    /// stores them.
    @inline(__always)
    mutating func append(
        _ word: UnsafeBufferPointer<UInt8>, to out: inout [TokenID],
        _ tokenize: (inout [TokenID]) -> Void
    ) {
        let hash = WordCache.hash(word, seed)
        var slot = Int(truncatingIfNeeded: hash) & (slots.count - 1)
        while slots[slot] >= 0 {
            let number = Int(slots[slot])
            if entries[number].hash == hash, isEqual(number, word) {
                let begin = number == 0 ? 0 : Int(entries[number - 1].idEnd)
                for id in begin..<Int(entries[number].idEnd) { out.append(ids[id]) }
                return
            }
            slot = (slot + 1) & (slots.count - 1)
        }
        let begin = out.count
        tokenize(&out)
        insert(word, hash, out[begin...])
    }

    private func isEqual(_ number: Int, _ word: UnsafeBufferPointer<UInt8>) -> Bool {
        let begin = number == 0 ? 0 : Int(entries[number - 1].textEnd)
        let end = Int(entries[number].textEnd)
        return end - begin == word.count
            && text.withUnsafeBytes {
                memcmp($0.baseAddress! + begin, word.baseAddress!, word.count)
            }
                == 0
    }

    private mutating func insert(
        _ word: UnsafeBufferPointer<UInt8>, _ hash: UInt64, _ new: ArraySlice<TokenID>
    ) {
        if entries.count == WordCache.mostEntries
            || text.count + 4 * ids.count > WordCache.mostBytes
        {
            self = WordCache()
        }
        text += word
        ids += new
        entries.append(Entry(hash: hash, textEnd: Int32(text.count), idEnd: Int32(ids.count)))
        if 2 * entries.count > slots.count {
            slots = [Int32](repeating: -1, count: 2 * slots.count)
            for number in entries.indices { place(number) }
        } else {
            place(entries.count - 1)
        }
    }

    private mutating func place(_ number: Int) {
        var slot = Int(truncatingIfNeeded: entries[number].hash) & (slots.count - 1)
        while slots[slot] >= 0 { slot = (slot + 1) & (slots.count - 1) }
        slots[slot] = Int32(number)
    }

    /// Returns the hash of `word`. The function multiplies and mixes eight bytes at a time.
    @inline(__always)
    private static func hash(_ word: UnsafeBufferPointer<UInt8>, _ seed: UInt64) -> UInt64 {
        let bytes = UnsafeRawBufferPointer(word)
        var hash = UInt64(word.count) &* 0x9E37_79B9_7F4A_7C15 ^ seed
        var position = 0
        func mix(_ chunk: UInt64) {
            hash = (hash ^ chunk) &* 0xD6E8_FEB8_6659_FD93
            hash ^= hash >> 32
        }
        while position + 8 <= bytes.count {
            mix(bytes.loadUnaligned(fromByteOffset: position, as: UInt64.self))
            position += 8
        }
        var rest: UInt64 = 0
        while position < bytes.count {
            rest = rest << 8 | UInt64(bytes[position])
            position += 1
        }
        mix(rest)
        return hash
    }
}
