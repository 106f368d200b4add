// A set of numbers in a few.

import ByteJSON
import FoundationEssentials
import Glibc

/// Mean, percentiles and largest of some numbers.
public struct Distribution: Equatable, Sendable {
    /// How many numbers there are.
    public let count: Int
    /// Their mean; 0 where there are none.
    public let mean: Double
    /// The 5th, 25th, 50th, 75th and 95th percentiles, between neighbours linearly as NumPy's default.
    public let percentiles: [Double]
    /// The largest.
    public let maximum: Double

    /// The percentiles that are given.
    public static let percents = [5, 25, 50, 75, 95]

    /// Of `values`.
    public init(_ values: [Float]) {
        let sorted = values.sorted()
        self.init(
            count: sorted.count, sum: sorted.reduce(0) { $0 + Double($1) }
        ) { Double(sorted[$0]) }
    }

    /// Of whole numbers, of which `i` occurs `occurrences[i]` times.
    public init(occurrences: [Int]) {
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

    /// `{"mean": …, "p5": …, …, "max": …}`, rounded to `places` decimals.
    func json(places: Int) -> JSONObject {
        var object: JSONObject = ["mean": .rounded(mean, places)]
        for (percent, value) in zip(Distribution.percents, percentiles) {
            object["p\(percent)"] = .rounded(value, places)
        }
        object["max"] = .rounded(maximum, places)
        return object
    }
}

/// How many numbers fall into each of equal bins from 0.
struct Histogram {
    /// The end of the last bin, which takes what is above too.
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
    /// `value`, or null where JSON has no word for it.
    static func finite(_ value: Double) -> JSONValue { value.isFinite ? .number(value) : .null }

    /// `value` with at most `places` decimals; a whole number as one.
    static func rounded(_ value: Double, _ places: Int) -> JSONValue {
        guard value.isFinite else { return .null }
        let scale = Glibc.pow(10, Double(places))
        let rounded = (value * scale).rounded() / scale
        if rounded == rounded.rounded(), abs(rounded) < 1e15 { return .integer(Int(rounded)) }
        return .number(rounded)
    }
}
