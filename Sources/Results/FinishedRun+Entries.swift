// Joins the entries of run.json: their SAEs and their authors. If authors were completed after an entry was written,
// adds them from receipts.

import AuthorReceipts
import ByteJSON
import Files
import FoundationEssentials
import Hooks
import RunFiles

extension FinishedRun {
    /// The intermediate state while the entries are joined one by one.
    struct EntryUnion {
        /// The index in `authors` of each author, by name.
        var places: [ExactString: Int] = [:]
        /// For each kind of files, the indices of the authors that have such a file.
        var made: [Kind: Set<Int>] = [:]
        /// The kinds of files that a run has not made for all of its authors.
        var unfinished: Set<Kind> = []
        /// The completed authors, from receipts, by state folder and SAEs. Entries with the same folder and SAEs
        /// share an element, so its receipts are read once.
        var completed: [String: CompletedAuthors] = [:]

        struct Kind: Hashable {
            let hook: HookPoint
            let isSparse: Bool
        }
    }

    /// A hook and its SAE, as in one entry of run.json.
    fileprivate struct EntrySAE {
        let hook: HookPoint
        let name: String
        let width: Int
        let meanL0: Double
        /// The name, the size and the identity of the SAE in the format of `AuthorReceipt.sae`, as in receipts.
        let identity: String
    }

    mutating func add(
        _ entry: JSONObject, _ union: inout EntryUnion, _ bad: (String) -> ResultsError
    ) throws {
        let format =
            entry[.settings]?.object?[RunSetting.storageFormat]?.string.flatMap(StorageFormat.init)
            ?? .dense
        let own = try (entry[.saes]?.array ?? []).map { value in
            guard let sae = EntrySAE(value.object) else {
                throw bad("an SAE in it lacks hook, sae_name or d_sae")
            }
            return sae
        }
        let since = completedSince(entry, own, format, &union)
        let more = since.map { $0.entry[.tokens]?.integer ?? 0 }.clampedSum
        for sae in own {
            let before = saes.first { $0.hook == sae.hook && $0.name == sae.name }
            let recorded = max(0, min(entry[.tokens]?.integer ?? 0, 1 << 50))
            let tokens = recorded.clampedAdding(more)
            let isOfAll = entry[.worldSize]?.integer == 1 && tokens > 0
            // An entry with some of the ranks counts only the tokens of their authors, so such counts are added up.
            // An entry of world size 1 counts the tokens of all authors, so it replaces earlier counts.
            let others = isOfAll ? nil : before
            let counted = tokens.clampedAdding(others?.countedTokens ?? 0)
            let firing = since.map { $0.firingCounts[sae.hook.description] ?? 0 }.clampedSum
            let sum =
                Double(recorded) * sae.meanL0 + Double(firing)
                + Double(others?.countedTokens ?? 0) * (others?.meanL0 ?? 0)
            saes.removeAll { $0.hook == sae.hook }
            if let before, before.isOfAllAuthors, before.countedTokens > counted {
                // If the earlier entry covers more tokens, the run of this entry has not ended. So the mean of the
                // earlier entry is kept.
                var both = before
                both.hasDense = before.hasDense || format != .sparse
                both.hasSparse = before.hasSparse || format != .dense
                saes.append(both)
                continue
            }
            saes.append(
                TappedSAE(
                    hook: sae.hook, name: sae.name, width: sae.width,
                    meanL0: sum / Double(max(counted, 1)), countedTokens: counted,
                    isOfAllAuthors: isOfAll,
                    hasDense: format != .sparse || before?.hasDense == true,
                    hasSparse: format != .dense || before?.hasSparse == true))
        }
        let kinds = own.flatMap { sae in
            format.kinds.map { EntryUnion.Kind(hook: sae.hook, isSparse: $0) }
        }
        if (entry[.authorsNotComplete]?.array ?? []).count > since.count {
            union.unfinished.formUnion(kinds)
        }
        for value in (entry[.authors]?.array ?? []) + since.map({ .object($0.entry) }) {
            let author = try author(value, bad)
            let place: Int
            if let known = union.places[ExactString(author.name)] {
                place = known
                let files = author.files.merging(authors[place].files) { new, _ in new }
                authors[place] = author
                authors[place].files = files
            } else {
                place = authors.count
                union.places[ExactString(author.name)] = place
                authors.append(author)
            }
            for kind in kinds { union.made[kind, default: []].insert(place) }
        }
    }

    private func author(_ value: JSONValue, _ bad: (String) -> ResultsError) throws -> Author {
        guard let name = value.object?[.author]?.string,
            let tokens = value.object?[.tokensPerRow]?.array?.map(\.integer),
            !tokens.contains(nil)
        else { throw bad("an author in it lacks name or tokens_per_row") }
        let lengths = tokens.compactMap { $0 }
        guard lengths.count <= rows, lengths.allSatisfy({ (0...columns).contains($0) }) else {
            throw bad("author '\(name)' has more documents or tokens than the arrays")
        }
        var files: [String: FileSeal] = [:]
        for file in value.object?[.files]?.array ?? [] {
            guard let name = file.object?[.name]?.string,
                let size = file.object?[.size]?.integer,
                let crc = file.object?[.crc32]?.integer.flatMap({ UInt32(exactly: $0) })
            else { throw bad("a file of author '\(name)' lacks name, size or crc32") }
            files[name] = FileSeal(size: size, crc32: crc)
        }
        return Author(
            name: name,
            nameInFiles: value.object?[.nameInFiles]?.string ?? naming.encoded(name),
            tokensPerRow: lengths,
            truncatedRows: value.object?[.truncatedRows]?.array?.compactMap(\.integer) ?? [],
            meanCrossEntropy: value.object?[.meanCrossEntropy]?.number ?? 0,
            meanEntropy: value.object?[.meanEntropy]?.number ?? 0,
            firstLine: value.object?[.sourceLines]?.array?.first?.integer ?? 0, files: files)
    }

    // MARK: Completed since

    /// Returns what receipts say about the authors that `entry` lists as not complete. These authors may have been
    /// completed after the entry was written.
    private func completedSince(
        _ entry: JSONObject, _ saes: [EntrySAE], _ format: StorageFormat, _ union: inout EntryUnion
    ) -> [(entry: JSONObject, firingCounts: [String: Int])] {
        let waiting = (entry[.authorsNotComplete]?.array ?? []).compactMap(\.string)
        guard !waiting.isEmpty, let folder = stateFolder(of: entry) else { return [] }
        let identities = Dictionary(
            saes.map { ($0.hook.description, $0.identity) }, uniquingKeysWith: { $1 })
        let key = folder + identities.sorted { $0.key < $1.key }.map { "\n\($0): \($1)" }.joined()
        let completed =
            union.completed[key]
            ?? CompletedAuthors(
                saveDirectory: directory, folder: folder, saes: identities, naming: naming)
        union.completed[key] = completed
        return waiting.compactMap {
            completed.entry($0, hooks: saes.map(\.hook), format: format)
        }.filter { completed in
            // Ignores receipts that do not fit this run's shape.
            let lengths = completed.entry[.tokensPerRow]?.array?.compactMap(\.integer) ?? []
            return lengths.count <= rows && lengths.allSatisfy { (0...columns).contains($0) }
        }
    }

    /// Returns the path of the state folder of `entry`'s run, relative to `directory`. If the entry of an older
    /// version does not have the path, returns the label's only state folder, or nil if the label has several.
    private func stateFolder(of entry: JSONObject) -> String? {
        if let folder = entry[.state]?.string {
            let place = GuardedPath(directory, below: folder)
            return place?.steps.first == ".sae-extract" ? folder : nil
        }
        let folder = ".sae-extract/models/\(naming.labelName)"
        let names = ((try? directoryContents("\(directory)/\(folder)")) ?? []).filter {
            isDirectory("\(directory)/\(folder)/\($0)")
        }
        return names.count == 1 ? "\(folder)/\(names[0])" : nil
    }

    // MARK: Files that all authors have

    /// Removes the kinds of files that only some authors have, and adds a note for each. Such kinds exist if a run
    /// for more layers or another format has not ended.
    mutating func leaveOutUnfinishedHooks(_ union: EntryUnion) {
        func count(_ kind: EntryUnion.Kind) -> Int { union.made[kind]?.count ?? 0 }
        func isShown(_ kind: EntryUnion.Kind) -> Bool {
            !union.unfinished.contains(kind) || count(kind) == authors.count
        }
        func kinds(_ sae: TappedSAE) -> [EntryUnion.Kind] {
            [(false, sae.hasDense), (true, sae.hasSparse)].filter(\.1).map {
                .init(hook: sae.hook, isSparse: $0.0)
            }
        }
        // If no kind of files is complete for all authors, nothing is removed. Then readers name each missing file.
        guard !authors.isEmpty, saes.contains(where: { kinds($0).contains(where: isShown) })
        else { return }
        for place in saes.indices {
            for kind in kinds(saes[place]) where !isShown(kind) {
                isWhole = false
                notes.append(
                    "\(kind.hook): \(kind.isSparse ? "sparse" : "dense") files are complete for \(count(kind)) of \(authors.count) authors, and not shown; run the same command again to continue"
                )
                if kind.isSparse {
                    saes[place].hasSparse = false
                } else {
                    saes[place].hasDense = false
                }
            }
        }
        saes.removeAll { !$0.hasDense && !$0.hasSparse }
    }
}

extension FinishedRun.EntrySAE {
    fileprivate init?(_ value: JSONObject?) {
        guard let hook = value?[.hook]?.string.flatMap(HookPoint.init),
            let name = value?[.saeName]?.string,
            let width = value?[.dSAE]?.integer, width > 0
        else { return nil }
        (self.hook, self.name, self.width) = (hook, name, width)
        meanL0 = value?[.meanL0]?.number ?? 0
        identity = AuthorReceipt.sae(
            name, size: value?[.size]?.integer ?? 0, identity: value?["identity"]?.string ?? "")
    }
}
