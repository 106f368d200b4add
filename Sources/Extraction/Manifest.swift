// `run.json`: what was run, on what, with what outcome. One entry an invocation.

import ArrayFiles
import ByteJSON
import Corpus
import Crypto
import Foundation
import Gemma2
import SparseAutoencoders
import Tensors

/// The program's version.
public let version = "0.1.0"

/// Seconds spent on each part of a run.
final class Timing {
    enum Part: String, CaseIterable {
        case loading
        /// The forward pass, metrics and SAEs.
        case model
        case writing
    }

    private let start = ContinuousClock.now
    private var parts: [Part: Duration] = [:]

    func measure<R>(_ part: Part, _ body: () throws -> R) rethrows -> R {
        let begin = ContinuousClock.now
        defer { parts[part, default: .zero] += ContinuousClock.now - begin }
        return try body()
    }

    func seconds(_ part: Part) -> Double { (parts[part] ?? .zero) / .seconds(1) }
    var total: Double { (ContinuousClock.now - start) / .seconds(1) }
}

/// Gathers a run's entry and adds it to the manifest.
struct Manifest {
    let timing = Timing()
    private(set) var tokenCount = 0
    private let plan: RunPlan
    private let path: String
    private let started = Date()
    private var model = JSONObject()
    private var saes: [(hook: HookPoint, entry: JSONObject)] = []
    private var kernels = ""
    private var weightTypes: [String] = []
    private var authors: [JSONValue] = []
    private var firingCounts: [HookPoint: Int] = [:]

    /// Looks at the manifest that is there, if any. Throws `UsageError` where it is not one of ours, so that
    /// nothing is lost at the end of a run.
    init(_ plan: RunPlan) throws {
        self.plan = plan
        path = plan.saveDirectory + "/run.json"
        _ = try Manifest.runs(path)
    }

    /// The entries of the manifest at `path`; none where there is no file.
    private static func runs(_ path: String) throws -> [JSONValue] {
        guard fileExists(path) else { return [] }
        let value = try? MappedFile(path: path).parsedJSON()
        guard let runs = value?.object?["runs"]?.array else {
            throw UsageError(
                "--save_dir", "\(path) is there but is not a manifest of sae-extract; move it away")
        }
        return runs
    }

    /// Records the files in use.
    mutating func describe(
        _ files: CheckpointFiles, _ chosen: some Sequence<(ChosenSAE, SAEParameters)>,
        kernels: String
    ) {
        self.kernels = kernels
        weightTypes = files.elementTypes.map(\.rawValue)
        model = [
            "label": .string(plan.label), "path": .string(plan.modelDirectory),
            "files": .array(
                files.files.map { name, file in
                    .object([
                        "name": .string(name), "size": .integer(file.file.bytes.count),
                        "identity": .string(
                            file.file.identity(headerLength: 8 + file.headerLength)),
                    ])
                }),
        ]
        saes = chosen.map { sae, parameters in
            let entry: JSONObject = [
                "hook": .string(sae.hook.description), "site": .string(sae.hook.site.rawValue),
                "layer": .integer(sae.hook.layer), "sae_name": .string(sae.id.description),
                "path": .string(parameters.file.path),
                "size": .integer(parameters.file.bytes.count),
                "identity": .string(
                    parameters.file.identity(
                        headerLength: min(1 << 16, parameters.file.bytes.count))),
                "d_in": .integer(parameters.wEnc.shape[0]),
                "d_sae": .integer(parameters.wEnc.shape[1]),
            ]
            return (sae.hook, entry)
        }
    }

    /// Records a finished author.
    mutating func add(_ summary: AuthorSummary) {
        tokenCount += summary.tokenCount
        for (hook, count) in summary.firingCounts { firingCounts[hook, default: 0] += count }
        let naming = OutputNaming(label: plan.label)
        authors.append(
            .object([
                "author": .string(summary.author),
                "name_in_files": .string(naming.encoded(summary.author)),
                "documents": .integer(summary.tokens.count),
                "tokens": .integer(summary.tokenCount),
                "mean_cross_entropy": .number(summary.meanCrossEntropy),
                "mean_entropy": .number(summary.meanEntropy),
                "source_lines": .array(summary.lines.map(JSONValue.integer)),
                "tokens_per_row": .array(summary.tokens.map(JSONValue.integer)),
                "truncated_rows": .array(summary.truncatedRows.map(JSONValue.integer)),
            ]))
    }

    /// Writes the manifest with this run's entry added.
    func write() throws {
        let manifest: JSONObject = [
            "format": .string("sae-extract run manifest"), "format_version": .integer(1),
            // Read again: another run may have added to it since.
            "runs": .array(try Manifest.runs(path) + [.object(entry)]),
        ]
        var text: [UInt8] = []
        JSONText.append(.object(manifest), compactScalars: true, to: &text)
        let file = try OutputFile(path: path, temporaryDirectory: plan.stateDirectory)
        try file.write(text + [0x0A])
        try file.commit()
    }

    private var entry: JSONObject {
        let dates = ISO8601DateFormatter()
        return [
            "sae_extract": .string(version),
            "started": .string(dates.string(from: started)),
            "finished": .string(dates.string(from: Date())),
            "command": .array(plan.commandLine.map(JSONValue.string)),
            "settings": .object(settings),
            "device": .string("cpu"), "kernels": .string(kernels),
            "dtype": .string("float32"),
            "weights": .array(weightTypes.map(JSONValue.string)),
            "threads": .integer(plan.threads),
            "model": .object(model),
            "saes": .array(
                saes.map { hook, entry in
                    var entry = entry
                    let count = Double(firingCounts[hook] ?? 0)
                    entry["mean_l0"] = .number(count / Double(max(tokenCount, 1)))
                    return .object(entry)
                }),
            "corpus": .object([
                "path": .string(plan.dataPath), "accepted_sha256": .string(corpusIdentity),
            ]),
            "shape": .object([
                "documents": .integer(plan.rows), "tokens": .integer(plan.columns),
            ]),
            "tokens": .integer(tokenCount),
            "authors": .array(authors),
            "seconds": .object(
                JSONObject(
                    Timing.Part.allCases.map { ($0.rawValue, .number(timing.seconds($0))) }
                        + [("total", .number(timing.total))])),
        ]
    }

    private var settings: JSONObject {
        let selection = plan.selection
        func optional(_ value: Int?) -> JSONValue { value.map(JSONValue.integer) ?? .null }
        func list(_ names: [String]) -> JSONValue { .array(names.map(JSONValue.string)) }
        let batch: JSONValue =
            switch plan.batchSize {
            case .auto: .string("auto")
            case .documents(let count): .integer(count)
            }
        return [
            "layers": .array(Set(plan.saes.map(\.hook.layer)).sorted().map(JSONValue.integer)),
            "layer_types": list(
                Site.allCases.filter { site in plan.saes.contains { $0.hook.site == site } }
                    .map(\.rawValue)),
            "n_docs": optional(selection.documentLimit),
            "n_docs_per_author": .integer(selection.documentsPerAuthor),
            "min_length_doc": .integer(selection.minimumWords),
            "exclude_authors": list(selection.excludedAuthors),
            "include_authors": list(selection.includedAuthors),
            "author_field": .string(selection.authorField),
            "text_field": .string(selection.textField),
            "batch_size": batch,
            "max_seq_len": .integer(plan.maximumLength),
            "prefix": .string(plan.prefix),
            "feature_threshold": .number(Double(plan.featureThreshold)),
            "storage_format": .string(plan.storageFormat.rawValue),
            "activation_values": .string(plan.activationValues.rawValue),
        ]
    }

    /// SHA-256 over the accepted (author, text) pairs in order, each preceded by its length in bytes.
    private var corpusIdentity: String {
        var hash = SHA256()
        func add(_ text: String) {
            withUnsafeBytes(of: UInt64(text.utf8.count).littleEndian) {
                hash.update(bufferPointer: $0)
            }
            hash.update(data: Array(text.utf8))
        }
        for author in plan.authors {
            for document in author.documents {
                add(author.author)
                add(document.text)
            }
        }
        return hash.finalize().map { String(format: "%02x", $0) }.joined()
    }
}
