// The values of `--activation_values`.

/// The value that is stored for a feature that fires.
package enum ActivationValues: String, CaseIterable, Codable, Sendable {
    /// The number 1.
    case binary
    /// The activation itself.
    case raw
}
