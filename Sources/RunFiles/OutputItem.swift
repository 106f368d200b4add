// The output files of one author.

import FoundationEssentials
import Hooks

/// One of an author's output files.
package enum OutputItem: Hashable, Codable {
    /// The activations at a hook: `….npz`, or `….sparse.npz` if `isSparse`.
    case activations(HookPoint, isSparse: Bool)
    /// A file that does not depend on a hook: metrics, tokens or texts.
    case shared(OutputNaming.Kind)

    /// The hook whose activations the file holds; nil for other files.
    package var hook: HookPoint? {
        if case .activations(let hook, _) = self { hook } else { nil }
    }

    /// Returns the name of the file for `author`.
    package func name(_ naming: OutputNaming, author: String) -> String {
        switch self {
        case .activations(let hook, let isSparse):
            naming.activations(hook, author: author, isSparse: isSparse)
        case .shared(let kind): naming.file(kind, author: author)
        }
    }
}

extension OutputItem {
    /// Returns the files of each author: the activations at `hooks` in `format`, then metrics, tokens and texts.
    package static func items(of hooks: [HookPoint], in format: StorageFormat) -> [OutputItem] {
        hooks.flatMap { hook in
            format.kinds.map { .activations(hook, isSparse: $0) }
        } + OutputNaming.Kind.allCases.map { .shared($0) }
    }
}
