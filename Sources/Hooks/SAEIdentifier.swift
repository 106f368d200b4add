// The names of Gemma Scope SAEs. A name is the path of an SAE in a repository such as
// huggingface.co/google/gemma-scope-2b-pt-res. Each site and model size has its own repository.

/// The path of an SAE within its repository: `layer_5/width_16k/average_l0_51`.
package struct SAEIdentifier: Hashable, Codable, Sendable, CustomStringConvertible {
    /// The index of the layer that the SAE was trained on.
    package let layer: Int
    /// The number of features, in the form in which the repository writes it: `16k`.
    package let width: String
    /// The published average L0: the mean number of features that fire at a token.
    package let averageL0: Int

    /// Creates the identifier of the SAE of `layer` with `width` and `averageL0`.
    package init(layer: Int, width: String, averageL0: Int) {
        self.layer = layer
        self.width = width
        self.averageL0 = averageL0
    }

    /// Parses `layer_L/width_W/average_l0_N`. Nil if the text has another form.
    package init?(_ text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 3, let layer = number(parts[0], after: "layer_"),
            parts[1].hasPrefix("width_"), parts[1].count > 6,
            let averageL0 = number(parts[2], after: "average_l0_")
        else { return nil }
        self.init(layer: layer, width: String(parts[1].dropFirst(6)), averageL0: averageL0)
    }

    /// The path within the repository.
    package var description: String { "layer_\(layer)/width_\(width)/average_l0_\(averageL0)" }
}

/// Returns the decimal number after `prefix`. Nil if `text` is not `prefix` followed by digits only.
package func number(_ text: some StringProtocol, after prefix: String) -> Int? {
    guard text.hasPrefix(prefix) else { return nil }
    let digits = text.dropFirst(prefix.count)
    guard digits.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }) else {
        return nil
    }
    return Int(digits)
}
