// What decides a run's numbers. Runs that agree in it may share a folder; others may not.

import ArrayFiles
import Corpus
import Crypto
import FoundationEssentials
import Gemma2
import SparseAutoencoders
import Tensors

/// A run's settings as far as they show in its files, each by name and in words.
public struct Configuration: Codable, Equatable, Sendable {
    struct Setting: Codable, Equatable, Sendable {
        let name: String
        let value: String
    }

    /// Compared: two runs in one folder have the same.
    let settings: [Setting]
    /// How the corpus was selected: explains a difference in the accepted documents, which are compared.
    let selection: [Setting]
    /// The SAE of each hook, by the hook's name. Compared where a hook is used already.
    let saes: [String: String]

    /// The configuration of `plan` on `inputs`.
    public init(_ plan: RunPlan, _ inputs: Inputs) {
        let documents = plan.authors.reduce(0) { $0 + $1.documents.count }
        settings =
            [
                Setting(
                    name: "corpus",
                    value:
                        "\(documents) documents of \(plan.authors.count) authors, SHA-256 \(corpusIdentity(plan.authors))"
                )
            ]
            + inputs.checkpoint.map {
                Setting(
                    name: "checkpoint's \($0.name)",
                    value: "\($0.size) bytes, identity \($0.identity)")
            }
            + [
                Setting(name: "--max_seq_len", value: "\(plan.maximumLength)"),
                Setting(name: "--prefix", value: "'\(plan.prefix)'"),
                Setting(name: "--feature_threshold", value: "\(plan.featureThreshold)"),
                Setting(name: "--activation_values", value: plan.activationValues.rawValue),
                Setting(name: "--dtype", value: plan.precision.rawValue),
                Setting(name: "--batch_size", value: plan.batchLimit.description),
                Setting(name: "kind of device (--device)", value: plan.deviceKind),
            ]
        let chosen = plan.selection
        selection = [
            Setting(name: "--n_docs", value: chosen.documentLimit.map { "\($0)" } ?? "none"),
            Setting(name: "--n_docs_per_author", value: "\(chosen.documentsPerAuthor)"),
            Setting(name: "--min_length_doc", value: "\(chosen.minimumWords)"),
            Setting(name: "--exclude_authors", value: "\(chosen.excludedAuthors)"),
            Setting(name: "--include_authors", value: "\(chosen.includedAuthors)"),
            Setting(name: "--author_field", value: chosen.authorField),
            Setting(name: "--text_field", value: chosen.textField),
        ]
        saes = Dictionary(
            uniqueKeysWithValues: inputs.saes.map {
                (
                    $0.chosen.hook.description,
                    Configuration.sae(
                        "\($0.chosen.id)", size: $0.file.size, identity: $0.file.identity)
                )
            })
    }

    /// What is compared of an SAE: its name, and its file's size and identity.
    public static func sae(_ name: String, size: Int, identity: String) -> String {
        "\(name), \(size) bytes, identity \(identity)"
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
    func differences(from other: Configuration) -> [String] {
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

/// `save_dir` holds results that do not go with this run's.
public struct ConfigurationConflict: ErrorWithLines, Equatable, CustomStringConvertible {
    /// The folder.
    public let saveDirectory: String
    /// Each difference, by name.
    public let differences: [String]
    /// Whether it is a run that has begun there, rather than results.
    public var isAtWork = false

    /// All differences, a line each, and what to do.
    public var lines: [String] {
        [
            isAtWork
                ? "a run of another configuration has begun in \(saveDirectory) since this one did:"
                : "\(saveDirectory) holds results of another configuration:"
        ] + differences.map { "  \($0)" } + [
            isAtWork
                ? "Give another --save_dir, or let that run end or stop it, and run this command again."
                : "Give another --save_dir, or the settings of the results that are there, or --overwrite to remove them and start anew."
        ]
    }

    /// The same in one text.
    public var description: String { lines.joined(separator: "\n") }
}
