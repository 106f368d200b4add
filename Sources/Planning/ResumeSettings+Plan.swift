// The settings of a plan that decide the numbers in its files.

import AuthorReceipts
import Corpus
import Hooks
import RunFiles
import RunState
import Tensors

extension ResumeSettings {
    /// Creates the settings from `plan` and the identities of its inputs, `inputs`.
    package init(_ plan: RunPlan, _ inputs: InputFingerprints) {
        let documents = plan.authors.reduce(0) { $0 + $1.documents.count }
        let settings: [Setting] =
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
        let selection: [Setting] = [
            Setting(name: "--n_docs", value: chosen.documentLimit.map { "\($0)" } ?? "none"),
            Setting(name: "--n_docs_per_author", value: "\(chosen.documentsPerAuthor)"),
            Setting(name: "--min_length_doc", value: "\(chosen.minimumWords)"),
            Setting(name: "--exclude_authors", value: "\(chosen.excludedAuthors)"),
            Setting(name: "--include_authors", value: "\(chosen.includedAuthors)"),
            Setting(name: "--author_field", value: chosen.authorField),
            Setting(name: "--text_field", value: chosen.textField),
        ]
        let saes = Dictionary(
            uniqueKeysWithValues: inputs.saes.map {
                (
                    $0.chosen.hook.description,
                    AuthorReceipt.sae(
                        "\($0.chosen.id)", size: $0.file.size, identity: $0.file.identity)
                )
            })
        self.init(settings: settings, selection: selection, saes: saes)
    }
}
