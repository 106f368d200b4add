// Writes `run.json`, which has one entry for each invocation: its settings, inputs and outcome. The keys are in
// `RunFiles/RunKey.swift`.

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

/// The entry of this invocation in `run.json`. Each invocation also writes its entry to a file of its own in
/// `.sae-extract/runs`. `run.json` is made from these files.
package struct RunManifest {
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

    /// Makes the entry for `plan`. Writes no file. If `run.json` exists and is not a manifest, there are two cases.
    /// If `.sae-extract/runs` has entries, the file is probably a damaged manifest, and it is accepted. Otherwise it
    /// probably belongs to another program, and this throws `UsageError`, because the run would overwrite it.
    package init(
        _ plan: RunPlan, _ inputs: InputFingerprints, _ state: StateFolder,
        overwriting isOverwriting: Bool
    ) throws {
        (self.plan, self.inputs, self.state) = (plan, inputs, state)
        self.isOverwriting = isOverwriting
        // The name begins with the time, so that the names of entries sort by time.
        let start = started.formatted(
            Date.ISO8601FormatStyle(includingFractionalSeconds: true)
        ).replacing(":", with: "")
        id = "\(start)-\(UInt32.random(in: .min ... .max))"
        _ = try runs()
    }

    /// Returns the entries of the existing `run.json`; none if the file does not exist.
    private func runs() throws -> [JSONValue] {
        guard try place.status() != nil else { return [] }
        let value = try? MappedFile(place).parsedJSON()
        guard let runs = value?.object?[.runs]?.array else {
            let entries = (try? folder.names()) ?? []
            if entries.contains(where: { $0.hasSuffix(".json") }) { return [] }
            throw UsageError(
                "--save_dir",
                "\(place) exists, but it was not written by sae-extract or is damaged; move this file to another folder, or give another --save_dir"
            )
        }
        return runs
    }

    /// Adds the information in a worker's event to the entry.
    package mutating func add(_ event: WorkerEvent, rank: Int) {
        switch event {
        case .loaded(let kernels, let products):
            self.kernels.insert(kernels)
            self.products.insert(products)
        case .batch(_, _, _, let tokens, _): computedTokens += tokens
        case .finished(let seconds): workers.append((rank, seconds))
        default: break
        }
    }

    /// Writes the entry, and `run.json` with the entries of all invocations. Returns the other processes on this
    /// machine that work on the same results. Throws `FileError`.
    @discardableResult
    package func write(_ outcome: RunOutcome) throws -> [RunningProcess] {
        try folder.makeFolder()
        try write(.object(entry(outcome)), to: folder / "\(id).json")
        // Another invocation may write its entry meanwhile. So the loop reads all entries again after each write of
        // `run.json`, until they have not changed. The invocation that writes last has seen all entries.
        var before: [JSONValue]?
        var atWork: [RunningProcess] = []
        while true {
            // Earlier versions wrote colons in these names. Without the colons, all names sort by time.
            let names = try folder.names(endingIn: ".json")
                .map { (key: $0.replacing(":", with: ""), name: $0) }
                .sorted { $0.key < $1.key }.map(\.name)
            let entries = names.compactMap { try? MappedFile(folder / $0).parsedJSON() }
            if entries == before { return atWork }
            before = entries
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
        // Leaves out authors that an earlier invocation has completed, but without files of this invocation's layers.
        let own = ownAuthors
        let authors = own.compactMap { number in
            receipts.summary(ofAuthor: number).map { (number, $0) }
        }.filter { receipts.know(plan.items, of: $1.author, plan.naming) }
        let complete = Set(authors.map(\.0))
        let tokenCount = authors.map(\.1.tokens.clampedSum).clampedSum
        return JSONObject(run: [
            .id: .string(id),
            .outcome: .string(outcome.rawValue),
            // If true, this invocation has removed the files that earlier entries of this model describe.
            .overwrote: .bool(isOverwriting),
            .saeExtract: .string(version),
            .started: .string(started.formatted(.iso8601)),
            .finished: outcome == .unfinished ? .null : .string(Date().formatted(.iso8601)),
            // The state folder. Its receipts also describe authors that were completed after this entry was written.
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
            // Whether another run gives the same bytes. False if a batch was computed in parts because memory was
            // short.
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

    /// The indices of the authors of which this invocation computes a share.
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
    /// Returns the object with the size and identity of `file` added.
    fileprivate func adding(_ file: InputFile) -> JSONObject {
        var object = self
        object[.size] = .integer(file.size)
        object[.identity] = .string(file.identity)
        return object
    }

    /// Returns the object with the repository, revision and commit of `origin` added; unchanged if `origin` is nil.
    fileprivate func adding(_ origin: HubOrigin?) -> JSONObject {
        guard let origin else { return self }
        var object = self
        object[.repository] = .string(origin.repository)
        object[.revision] = .string(origin.revision)
        object[.commit] = .string(origin.commit)
        return object
    }
}
