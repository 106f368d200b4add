// Flags whose values are types of this package, and how their values are read.

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
    /// Reads a whole number of at least 1, or `auto`. Nil: another text.
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
