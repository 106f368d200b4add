// The settings that decide the numbers in a run's files. Runs may share a folder only if these settings are equal.

import Crypto
import Files
import FoundationEssentials

/// The settings of a run that influence its files. Each setting has a name and a text.
package struct ResumeSettings: Codable, Equatable, Sendable {
    /// A setting as a name and a text.
    package struct Setting: Codable, Equatable, Sendable {
        let name: String
        let value: String

        /// Creates the setting `name`.
        package init(name: String, value: String) { (self.name, self.value) = (name, value) }
    }

    /// The settings that are compared. Two runs in one folder must have equal values.
    let settings: [Setting]
    /// The flags that select documents. They are not compared, because `settings` has the hash of the accepted
    /// documents. If this hash differs, messages show these flags.
    let selection: [Setting]
    /// By the hook's name: the SAE, as `AuthorReceipt.sae` describes it. Only hooks that both runs use are compared.
    package let saes: [String: String]

    /// Creates the settings of a run. `settings` and `saes` are compared with those of other runs.
    package init(settings: [Setting], selection: [Setting], saes: [String: String]) {
        (self.settings, self.selection, self.saes) = (settings, selection, saes)
    }

    /// The first 8 bytes of the SHA-256 of the compared settings, as 16 hexadecimal digits.
    var fingerprint: String {
        var hash = SHA256()
        for setting in settings {
            hash.update(data: Array("\(setting.name)\0\(setting.value)\0".utf8))
        }
        return hexadecimal(hash.finalize().prefix(8))
    }

    /// Returns the differences between these settings and the settings of another run, one line each.
    func differences(from other: ResumeSettings) -> [String] {
        func compare(_ ours: [Setting], _ theirs: [Setting]) -> [String] {
            let names =
                ours.map(\.name)
                + theirs.map(\.name).filter { name in !ours.contains { $0.name == name } }
            return names.compactMap { name in
                let mine = ours.first { $0.name == name }?.value ?? "none"
                let there = theirs.first { $0.name == name }?.value ?? "none"
                return mine.utf8.elementsEqual(there.utf8)
                    ? nil : "\(name): \(there) in the other run, \(mine) in this run"
            }
        }
        let found = compare(settings, other.settings)
        let isOtherCorpus = found.contains { $0.hasPrefix("corpus:") }
        return found + (isOtherCorpus ? compare(selection, other.selection) : [])
    }
}
