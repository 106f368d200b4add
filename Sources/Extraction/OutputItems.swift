// The files that an author gets.

import Corpus
import FoundationEssentials
import Gemma2

/// One of an author's final files.
enum OutputItem: Hashable, Codable {
    /// `….npz` or `….sparse.npz`.
    case activations(HookPoint, isSparse: Bool)
    /// Metrics, tokens, texts.
    case shared(OutputNaming.Kind)

    /// The hook whose activations it holds.
    var hook: HookPoint? {
        if case .activations(let hook, _) = self { hook } else { nil }
    }

    func name(_ naming: OutputNaming, author: String) -> String {
        switch self {
        case .activations(let hook, let isSparse):
            naming.activations(hook, author: author, isSparse: isSparse)
        case .shared(let kind): naming.file(kind, author: author)
        }
    }
}

extension StorageFormat {
    /// Whether files are sparse, for each file that a hook gets.
    public var kinds: [Bool] {
        switch self {
        case .dense: [false]
        case .sparse: [true]
        case .both: [false, true]
        }
    }
}

extension RunPlan {
    /// What each author gets.
    var items: [OutputItem] { items(in: storageFormat) }

    /// What each author would get in `format`.
    func items(in format: StorageFormat) -> [OutputItem] { RunPlan.items(of: saes, in: format) }

    /// What each author gets of `saes` in `format`.
    static func items(of saes: [ChosenSAE], in format: StorageFormat) -> [OutputItem] {
        items(of: saes.map(\.hook), in: format)
    }

    /// What each author gets of the features of `hooks` in `format`.
    static func items(of hooks: [HookPoint], in format: StorageFormat) -> [OutputItem] {
        hooks.flatMap { hook in
            format.kinds.map { .activations(hook, isSparse: $0) }
        } + OutputNaming.Kind.allCases.map { .shared($0) }
    }

    /// The names of all its files, author by author.
    var fileNames: [String] {
        authors.flatMap { author in items.map { $0.name(naming, author: author.author) } }
    }
}
