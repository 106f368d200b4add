// What decides a run's numbers. Runs that agree in it may share a folder; others may not.

import Crypto
import Files
import FoundationEssentials

/// A run's settings as far as they show in its files, each by name and in words.
public struct ResumeSettings: Codable, Equatable, Sendable {
    package struct Setting: Codable, Equatable, Sendable {
        let name: String
        package let value: String

        /// The setting `name` with its value in words.
        package init(name: String, value: String) { (self.name, self.value) = (name, value) }
    }

    /// Compared: two runs in one folder have the same.
    let settings: [Setting]
    /// How the corpus was selected: explains a difference in the accepted documents, which are compared.
    let selection: [Setting]
    /// The SAE of each hook, by the hook's name. Compared where a hook is used already.
    package let saes: [String: String]

    /// Settings of which `settings` and `saes` are compared.
    package init(settings: [Setting], selection: [Setting], saes: [String: String]) {
        (self.settings, self.selection, self.saes) = (settings, selection, saes)
    }

    /// The compared settings in 16 hexadecimal digits.
    var fingerprint: String {
        var hash = SHA256()
        for setting in settings {
            hash.update(data: Array("\(setting.name)\0\(setting.value)\0".utf8))
        }
        return hexadecimal(hash.finalize().prefix(8))
    }

    /// What another run's settings have otherwise, a line each.
    func differences(from other: ResumeSettings) -> [String] {
        func compare(_ ours: [Setting], _ theirs: [Setting]) -> [String] {
            let names =
                ours.map(\.name)
                + theirs.map(\.name).filter { name in !ours.contains { $0.name == name } }
            return names.compactMap { name in
                let mine = ours.first { $0.name == name }?.value ?? "none"
                let there = theirs.first { $0.name == name }?.value ?? "none"
                return mine.utf8.elementsEqual(there.utf8)
                    ? nil : "\(name): \(there) there, \(mine) here"
            }
        }
        let found = compare(settings, other.settings)
        let isOtherCorpus = found.contains { $0.hasPrefix("corpus:") }
        return found + (isOtherCorpus ? compare(selection, other.selection) : [])
    }
}
