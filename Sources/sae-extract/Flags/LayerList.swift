// Parses the value of `--layers`: numbers, lists of numbers, and ranges.

import Files
import Planning

/// Parses lists of layers.
enum LayerList {
    /// The maximum number of layers in a range. Without a limit, a range like `0-999999999` would fill the memory.
    private static let limit = 1024

    /// Returns the layers in `words`. A word has numbers and ranges, separated by commas or white space. A range like
    /// `5-8` includes both ends. Throws `UsageError` if a word is invalid. The error names `source`, a flag or an
    /// environment variable.
    static func numbers(_ words: [String], source: String) throws(UsageError) -> [String] {
        var numbers: [String] = []
        for word in words.flatMap({ $0.split { $0 == "," || $0.isWhitespace } }) {
            if let number = Int(word) {
                numbers.append("\(number)")
                continue
            }
            let ends = word.split(separator: "-", omittingEmptySubsequences: false).map { Int($0) }
            guard ends.count == 2, let first = ends[0], let last = ends[1] else {
                throw UsageError(
                    source,
                    "'\(word)' is not the number of a layer; give numbers, counted from 0: --layers 5 10 15, or 5,10,15, or 5-8 for 5 6 7 8"
                )
            }
            guard first <= last else {
                throw UsageError(
                    source, "'\(word)' is a range from high to low; give \(last)-\(first)")
            }
            guard last - first < limit else {
                throw UsageError(
                    source,
                    "'\(word)' is out of range: no model has that many layers; give numbers, counted from 0: --layers 5 10 15, or 5-8"
                )
            }
            numbers += (first...last).map { "\($0)" }
        }
        return numbers
    }
}
