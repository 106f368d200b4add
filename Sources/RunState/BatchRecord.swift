// The results of a batch that are needed for the author's files.

import Hooks
import Tensors
import Tokenization

/// The results of one document of a batch, without the features.
package struct DocumentRecord: Equatable {
    /// The output tokens of the document.
    package var tokens: [TokenID]
    /// -log p of each output token, in nats.
    package var crossEntropy: [Float16]
    /// The entropy of the prediction at each output token, in nats.
    package var entropy: [Float16]

    /// Creates the results of a document. All three arrays have one entry per output token.
    package init(tokens: [TokenID], crossEntropy: [Float16], entropy: [Float16]) {
        self.tokens = tokens
        self.crossEntropy = crossEntropy
        self.entropy = entropy
    }
}

/// The results of a finished batch.
package struct BatchRecord: Equatable {
    /// The results of each document, in the order of the batch.
    package var documents: [DocumentRecord]
    /// The features that fired at each hook. The rows are the output tokens of all documents, end to end.
    var features: [HookPoint: SparseRows]
    /// The number of parts in which the batch was computed: more than 1 if memory was short.
    var parts: Int

    /// Creates the results of a batch that was computed in `parts` parts.
    package init(
        documents: [DocumentRecord], features: [HookPoint: SparseRows], parts: Int = 1
    ) {
        self.documents = documents
        self.features = features
        self.parts = parts
    }
}
