// Names of Gemma Scope SAEs: the repositories and the path of an SAE in one of them.
// Layout: huggingface.co/google/gemma-scope-2b-pt-res and its siblings.

/// The SAE repositories of one model size.
public enum ScopeSize: String, Codable, Sendable {
    /// gemma-scope-2b-pt-…
    case small = "2b"
    /// gemma-scope-9b-pt-…
    case large = "9b"

    /// The size that a model's label names: 9b if one of its words is that, else 2b.
    public init(label: String) {
        let words = label.lowercased().split { !$0.isLetter && !$0.isNumber }
        self = words.contains("9b") ? .large : .small
    }

    /// The name of the repository of a site's SAEs: `gemma-scope-2b-pt-res`.
    public func repositoryName(site: String) -> String { "gemma-scope-\(rawValue)-pt-\(site)" }
}

/// Where an SAE lies within its repository: `layer_5/width_16k/average_l0_51`.
public struct SAEIdentifier: Hashable, Codable, Sendable, CustomStringConvertible {
    /// The layer it was made for.
    public let layer: Int
    /// Its width as published, `16k`.
    public let width: String
    /// Its average L0, the mean number of features on at a token.
    public let averageL0: Int

    /// The SAE of `layer` with `width` and `averageL0`.
    public init(layer: Int, width: String, averageL0: Int) {
        self.layer = layer
        self.width = width
        self.averageL0 = averageL0
    }

    /// Reads `layer_L/width_W/average_l0_N`; nil for anything else.
    public init?(_ text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 3, let layer = number(parts[0], after: "layer_"),
            parts[1].hasPrefix("width_"), parts[1].count > 6,
            let averageL0 = number(parts[2], after: "average_l0_")
        else { return nil }
        self.init(layer: layer, width: String(parts[1].dropFirst(6)), averageL0: averageL0)
    }

    /// The path within the repository.
    public var description: String { "layer_\(layer)/width_\(width)/average_l0_\(averageL0)" }
}

/// The decimal number that follows `prefix` and makes up the rest of `text`.
package func number(_ text: some StringProtocol, after prefix: String) -> Int? {
    guard text.hasPrefix(prefix) else { return nil }
    let digits = text.dropFirst(prefix.count)
    guard digits.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }) else {
        return nil
    }
    return Int(digits)
}
