// The files that an author gets.

import FoundationEssentials
import Hooks

/// One of an author's final files.
package enum OutputItem: Hashable, Codable {
    /// `….npz` or `….sparse.npz`.
    case activations(HookPoint, isSparse: Bool)
    /// Metrics, tokens, texts.
    case shared(OutputNaming.Kind)

    /// The hook whose activations it holds.
    package var hook: HookPoint? {
        if case .activations(let hook, _) = self { hook } else { nil }
    }

    package func name(_ naming: OutputNaming, author: String) -> String {
        switch self {
        case .activations(let hook, let isSparse):
            naming.activations(hook, author: author, isSparse: isSparse)
        case .shared(let kind): naming.file(kind, author: author)
        }
    }
}

extension OutputItem {
    /// The files that each author gets: those of the features of `hooks` in `format`, then metrics, tokens and texts.
    package static func items(of hooks: [HookPoint], in format: StorageFormat) -> [OutputItem] {
        hooks.flatMap { hook in
            format.kinds.map { .activations(hook, isSparse: $0) }
        } + OutputNaming.Kind.allCases.map { .shared($0) }
    }
}
