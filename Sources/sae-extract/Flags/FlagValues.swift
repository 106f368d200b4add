// Lets ArgumentParser read types of this package as values of flags.

import ArgumentParser
import Hooks
import Logging
import Planning
import RunFiles
import Tensors

extension Site: ExpressibleByArgument {}
extension DeviceChoice: ExpressibleByArgument {}
extension Precision: ExpressibleByArgument {}
extension StorageFormat: ExpressibleByArgument {}
extension ActivationValues: ExpressibleByArgument {}
extension ProgressStyle: ExpressibleByArgument {}
extension Logger.Level: @retroactive ExpressibleByArgument {}

extension BatchSize: ExpressibleByArgument {
    /// Parses a whole number of at least 1, or `auto`. Returns nil for any other text.
    public init?(argument: String) {
        if argument == "auto" {
            self = .auto
        } else if let count = Int(argument), count >= 1 {
            self = .documents(count)
        } else {
            return nil
        }
    }
}
