// `run.json`: what was run, on what, with what outcome. One entry an invocation.

import AuthorReceipts
import ByteJSON
import CUDA
import Corpus
import Files
import FoundationEssentials
import Hooks
import Planning
import RunFiles
import RunState
import Synchronization
import Tensors

/// One invocation's entry in `run.json`. Each entry is a file of its own in our folder, which no other process
/// writes; `run.json` is made of all of them.
public struct Manifest {
    private let plan: RunPlan
    private let inputs: InputFingerprints
    private let state: StateFolder
    private let isOverwriting: Bool
    private let started = Date()
    private let id: String
    private var kernels: Set<String> = []
    private var products: Set<String> = []
    private var computedTokens = 0
    private var workers: [(rank: Int, seconds: [String: Double])] = []

    private var place: GuardedPath { GuardedPath(plan.saveDirectory, "run.json") }
    private var folder: GuardedPath { StateFolder.runs(of: plan.saveDirectory) }

    /// An entry for `plan`. Throws `UsageError` where the manifest that is there is not one of ours, so that
    /// nothing is lost at the end of a run. One that was damaged is made again of its entries.
    public init(
        _ plan: RunPlan, _ inputs: InputFingerprints, _ state: StateFolder,
        overwriting isOverwriting: Bool
    ) throws {
        (self.plan, self.inputs, self.state) = (plan, inputs, state)
        self.isOverwriting = isOverwriting
        // Entries are in order by name.
        let start = started.formatted(
            Date.ISO8601FormatStyle(includingFractionalSeconds: true)
        ).replacing(":", with: "")
        id = "\(start)-\(UInt32.random(in: .min ... .max))"
        _ = try runs()
    }

    /// The entries of the manifest that is there; none where there is no file.
    private func runs() throws -> [JSONValue] {
        guard try place.status() != nil else { return [] }
        let value = try? MappedFile(place).parsedJSON()
        guard let runs = value?.object?[.runs]?.array else {
            let entries = (try? folder.names()) ?? []
            if entries.contains(where: { $0.hasSuffix(".json") }) { return [] }
            throw UsageError(
                "--save_dir", "\(place) is there but is not a manifest of sae-extract; move it away"
            )
        }
        return runs
    }

    /// Records what a worker says.
    public mutating func add(_ event: WorkerEvent, rank: Int) {
        switch event {
        case .loaded(let kernels, let products):
            self.kernels.insert(kernels)
            self.products.insert(products)
        case .batch(_, _, _, let tokens, _): computedTokens += tokens
        case .finished(let seconds): workers.append((rank, seconds))
        default: break
        }
    }

    /// Writes the entry, and `run.json` with all invocations' entries. Returns other processes of this machine that are at
    /// work on the same results. Throws `FileError`.
    @discardableResult
    public func write(_ outcome: RunOutcome) throws -> [RunningProcess] {
        try folder.makeFolder()
        try write(.object(entry(outcome)), to: folder / "\(id).json")
        // Another invocation may add its entry while this one writes the whole. The last to write looks once
        // more, and finds all.
        var before: [String] = []
        var atWork: [RunningProcess] = []
        while true {
            // Names of versions before this one have colons.
            let now = try folder.names(endingIn: ".json")
                .map { (key: $0.replacing(":", with: ""), name: $0) }
                .sorted { $0.key < $1.key }.map(\.name)
            if now == before { return atWork }
            before = now
            let entries = now.compactMap { name in
                try? MappedFile(folder / name).parsedJSON()
            }
            atWork = entries.compactMap(\.object).filter { entry in
                entry[.outcome]?.string == RunOutcome.unfinished.rawValue
                    && entry[.state]?.string == state.relativePath && entry[.id]?.string != id
            }.compactMap { RunningProcess(entry: $0[.process]?.object) }.filter(\.isHere)
            let ids = Set(entries.compactMap { $0.object?[.id]?.string })
            let others = try runs().filter { !ids.contains($0.object?[.id]?.string ?? "") }
            let manifest = JSONObject(run: [
                .format: .string("sae-extract run manifest"), .formatVersion: .integer(1),
                .runs: .array(others + entries),
            ])
            try write(.object(manifest), to: place)
        }
    }

    private func write(_ value: JSONValue, to place: GuardedPath) throws {
        var text: [UInt8] = []
        JSONText.append(value, compactScalars: true, to: &text)
        try OutputFile.make(place, begunIn: folder) { try $0.write(text + [0x0A]) }
    }

    private func entry(_ outcome: RunOutcome) throws -> JSONObject {
        let receipts = try state.completed()
        // An author that an earlier run has completed may lack the layers of this one.
        let own = ownAuthors
        let authors = own.compactMap { number in
            receipts.summary(ofAuthor: number).map { (number, $0) }
        }.filter { receipts.know(plan.items, of: $1.author, plan.naming) }
        let complete = Set(authors.map(\.0))
        let tokenCount = authors.map(\.1.tokens.clampedSum).clampedSum
        return JSONObject(run: [
            .id: .string(id),
            .outcome: .string(outcome.rawValue),
            // What earlier entries of this model tell of is gone.
            .overwrote: .bool(isOverwriting),
            .saeExtract: .string(version),
            .started: .string(started.formatted(.iso8601)),
            .finished: outcome == .unfinished ? .null : .string(Date().formatted(.iso8601)),
            // Where receipts tell of authors that have been completed since.
            .state: .string(state.relativePath),
            .process: .object(RunningProcess.own.entry),
            .command: .array(plan.commandLine.map(JSONValue.string)),
            .settings: .object(settings),
            .device: .string(plan.deviceKind),
            .devices: .array(
                plan.devices.map {
                    .object(of: [
                        .name: .string($0.name), .uuid: .string($0.uuid),
                        .memory: .integer($0.memory),
                        .computeCapability: .string($0.capabilityName),
                    ])
                }),
            .kernels: .array(
                (kernels.isEmpty ? Set(authors.map(\.1.kernels)) : kernels).sorted()
                    .map(JSONValue.string)),
            .dtype: .string(plan.precision.rawValue),
            .products: .array(products.sorted().map(JSONValue.string)),
            // Byte for byte, by another run; not where memory was short and batches were divided.
            .reproducible: .bool(authors.allSatisfy { $0.1.dividedBatches.isEmpty }),
            .weights: .array(inputs.weightTypes.map(JSONValue.string)),
            .ranks: .array(plan.ranks.map(JSONValue.integer)),
            .worldSize: .integer(plan.worldSize),
            .threads: .integer(plan.threads),
            .model: .object(
                JSONObject(run: [
                    .label: .string(plan.label),
                    .nameInFiles: .string(plan.naming.labelName),
                    .path: .string(plan.locations.model.weights),
                    .files: .array(
                        inputs.checkpoint.map { file in
                            .object(
                                JSONObject(run: [.name: .string(file.name)]).adding(file))
                        }),
                ]).adding(plan.locations.modelOrigin)),
            .saes: .array(
                inputs.saes.map { sae in
                    var entry = JSONObject(run: [
                        .hook: .string(sae.chosen.hook.description),
                        .site: .string(sae.chosen.hook.site.rawValue),
                        .layer: .integer(sae.chosen.hook.layer),
                        .saeName: .string(sae.chosen.id.description),
                        .path: .string(sae.file.path),
                    ]).adding(sae.file)
                    entry[.dIn] = .integer(sae.dIn)
                    entry[.dSAE] = .integer(sae.dSAE)
                    let count = authors.map {
                        $0.1.firingCounts[sae.chosen.hook.description] ?? 0
                    }.clampedSum
                    entry[.meanL0] = .number(Double(count) / Double(max(tokenCount, 1)))
                    return .object(entry.adding(sae.chosen.origin))
                }),
            .corpus: .object(
                JSONObject(run: [
                    .path: .string(plan.locations.dataPaths.joined(separator: "\n")),
                    .acceptedSHA256: .string(corpusIdentity(plan.authors)),
                ]).adding(plan.locations.corpusOrigin)),
            .shape: .object(of: [
                .documents: .integer(plan.rows), .tokens: .integer(plan.columns),
            ]),
            .tokens: .integer(tokenCount),
            .tokensComputed: .integer(computedTokens),
            .authors: .array(
                authors.map {
                    .object(receipts.entry($1, plan.items, plan.naming, in: plan.saveDirectory))
                }),
            .authorsNotComplete: .array(
                own.filter { !complete.contains($0) }.map { .string(plan.authors[$0].author) }),
            .seconds: .array(
                workers.sorted { $0.rank < $1.rank }.map { rank, seconds in
                    var entry = JSONObject(run: [.rank: .integer(rank)])
                    for (part, value) in seconds.sorted(by: { $0.key < $1.key }) {
                        entry[part] = .number(value)
                    }
                    return .object(entry)
                }),
        ])
    }

    /// The authors that this invocation has shares of.
    private var ownAuthors: [Int] {
        let shares = plan.ranks.flatMap {
            AuthorShare.shares(
                rank: $0, worldSize: plan.worldSize, authorCount: plan.authors.count)
        }
        return Set(shares.map(\.number)).sorted()
    }

    private var settings: JSONObject {
        let selection = plan.selection
        func optional(_ value: Int?) -> JSONValue { value.map(JSONValue.integer) ?? .null }
        func list(_ names: [String]) -> JSONValue { .array(names.map(JSONValue.string)) }
        let batch: JSONValue =
            switch plan.batchLimit {
            case .tokens: .string(plan.batchLimit.description)
            case .documents(let count): .integer(count)
            }
        return JSONObject(settings: [
            .layers: .array(Set(plan.saes.map(\.hook.layer)).sorted().map(JSONValue.integer)),
            .layerTypes: list(
                Site.allCases.filter { site in plan.saes.contains { $0.hook.site == site } }
                    .map(\.rawValue)),
            .nDocs: optional(selection.documentLimit),
            .nDocsPerAuthor: .integer(selection.documentsPerAuthor),
            .minLengthDoc: .integer(selection.minimumWords),
            .excludeAuthors: list(selection.excludedAuthors),
            .includeAuthors: list(selection.includedAuthors),
            .authorField: .string(selection.authorField),
            .textField: .string(selection.textField),
            .batchSize: batch,
            .maxSeqLen: .integer(plan.maximumLength),
            .prefix: .string(plan.prefix),
            .featureThreshold: .number(Double(plan.featureThreshold)),
            .storageFormat: .string(plan.storageFormat.rawValue),
            .activationValues: .string(plan.activationValues.rawValue),
        ])
    }
}

extension JSONObject {
    /// The object with the size and identity of `file` added.
    fileprivate func adding(_ file: InputFile) -> JSONObject {
        var object = self
        object[.size] = .integer(file.size)
        object[.identity] = .string(file.identity)
        return object
    }

    /// With the repository and commit that the files come from, if they come from one.
    fileprivate func adding(_ origin: HubOrigin?) -> JSONObject {
        guard let origin else { return self }
        var object = self
        object[.repository] = .string(origin.repository)
        object[.revision] = .string(origin.revision)
        object[.commit] = .string(origin.commit)
        return object
    }
}
