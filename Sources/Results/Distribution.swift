// Summarizes numbers: mean, percentiles, histogram.

import ByteJSON
import FoundationEssentials
import Glibc

/// Mean, percentiles and maximum of some numbers. All are 0 if there are no numbers.
package struct Distribution: Equatable, Sendable {
    /// How many numbers the distribution has.
    package let count: Int
    /// The mean; 0 if `count` is 0.
    package let mean: Double
    /// The 5th, 25th, 50th, 75th and 95th percentiles, with linear interpolation, which is NumPy's default.
    package let percentiles: [Double]
    /// The largest number; 0 if `count` is 0.
    package let maximum: Double

    /// The percents to which the elements of `percentiles` belong.
    package static let percents = [5, 25, 50, 75, 95]

    /// Summarizes `values`.
    package init(_ values: [Float]) {
        let sorted = values.sorted()
        self.init(
            count: sorted.count, sum: sorted.reduce(0) { $0 + Double($1) }
        ) { Double(sorted[$0]) }
    }

    /// Summarizes integers. The integer `i` occurs `occurrences[i]` times.
    package init(occurrences: [Int]) {
        let count = occurrences.reduce(0, +)
        let sum = occurrences.indices.reduce(0) { $0 + $1 * occurrences[$1] }
        var below: [Int] = []
        var total = 0
        for occurrence in occurrences {
            total += occurrence
            below.append(total)
        }
        self.init(count: count, sum: Double(sum)) { rank in
            Double(below.firstIndex { $0 > rank }!)
        }
    }

    private init(count: Int, sum: Double, _ ranked: (Int) -> Double) {
        self.count = count
        guard count > 0 else {
            (mean, maximum) = (0, 0)
            percentiles = Distribution.percents.map { _ in 0 }
            return
        }
        mean = sum / Double(count)
        percentiles = Distribution.percents.map { percent in
            let place = Double(count - 1) * Double(percent) / 100
            let lower = Int(place)
            let (low, high) = (ranked(lower), ranked(min(lower + 1, count - 1)))
            return low + (high - low) * (place - Double(lower))
        }
        maximum = ranked(count - 1)
    }

    /// Returns a JSON object with all values, rounded to `places` decimals: `{"mean": …, "p5": …, …, "max": …}`.
    func json(places: Int) -> JSONObject {
        var object: JSONObject = ["mean": .rounded(mean, places)]
        for (percent, value) in zip(Distribution.percents, percentiles) {
            object["p\(percent)"] = .rounded(value, places)
        }
        object["max"] = .rounded(maximum, places)
        return object
    }
}

/// A histogram with bins of equal width. The first bin begins at 0 and also counts negative numbers.
struct Histogram {
    /// The upper end of the last bin. The last bin also counts all larger numbers.
    let end: Double
    private(set) var counts: [Int]

    init(end: Double, bins: Int) {
        self.end = end
        counts = Array(repeating: 0, count: bins)
    }

    mutating func add(_ values: some Sequence<Float>) {
        let scale = Double(counts.count) / end
        for value in values {
            counts[min(counts.count - 1, max(0, Int(Double(value) * scale)))] += 1
        }
    }
}

extension JSONValue {
    /// Returns `value`, or null if it is NaN or infinite, which JSON cannot express.
    static func finite(_ value: Double) -> JSONValue { value.isFinite ? .number(value) : .null }

    /// Returns `value` rounded to `places` decimals: an integer if the result is whole, null if `value` is not
    /// finite.
    static func rounded(_ value: Double, _ places: Int) -> JSONValue {
        guard value.isFinite else { return .null }
        let scale = Glibc.pow(10, Double(places))
        let rounded = (value * scale).rounded() / scale
        if rounded == rounded.rounded(), abs(rounded) < 1e15 { return .integer(Int(rounded)) }
        return .number(rounded)
    }
}
