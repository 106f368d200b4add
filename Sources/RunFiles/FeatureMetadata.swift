// The member `metadata` of an activations file: a pickled dictionary, written without Python. Its objects are those
// that NumPy 1.26 pickles for `np.savez(…, metadata={…})`. NumPy 2 reads them without a warning.

import ArrayFiles

/// The metadata of one activations file.
package struct FeatureMetadata: Equatable, Sendable {
    /// The author's name as the corpus spells it.
    package var author: String
    /// The number of documents of this author.
    package var documentCount: Int
    /// The index of the tapped layer.
    package var layer: Int
    /// By row of the array: the number of tokens of the document, without `<bos>`; 0 for rows beyond `documentCount`.
    package var tokensPerDocument: [Int32]
    /// The path of the SAE in its repository, for example `layer_5/width_16k/average_l0_51`.
    package var saeName: String

    /// The keys of the dictionary.
    private enum Key: String {
        case author
        case documentCount = "docs_count"
        case layer
        case tokensPerDocument = "tokens_per_doc"
        case saeName = "sae_name"
    }

    /// Creates the metadata of the activations of `author` at a hook of `layer`, encoded with the SAE `saeName`.
    package init(
        author: String, documentCount: Int, layer: Int, tokensPerDocument: [Int32], saeName: String
    ) {
        self.author = author
        self.documentCount = documentCount
        self.layer = layer
        self.tokensPerDocument = tokensPerDocument
        self.saeName = saeName
    }

    /// The header of the array that holds the pickle: a 0-d array of Python objects.
    package static let header = NPYHeader(descr: "|O", shape: [])

    /// The data of the array, which is the pickle.
    package var pickle: [UInt8] {
        var p = PickleWriter()
        p.protocolHeader()
        // The outer array: the call _reconstruct(ndarray, (0,), b"b"), then the state of the array.
        let reconstruct = p.global("numpy.core.multiarray", "_reconstruct")
        let ndarray = p.global("numpy", "ndarray")
        p.integer(0)
        p.memoizedTuple1()
        let byteB = p.bytes([UInt8(ascii: "b")])
        p.memoizedTuple3()
        p.memoizedReduce()
        p.mark()
        p.integer(1)
        p.emptyTuple()
        let dtype = p.global("numpy", "dtype")
        p.dtype("O8", byteOrder: "|", flags: 63)
        p.bool(false)
        p.emptyList()
        p.emptyDictionary()
        p.mark()
        p.string(Key.author.rawValue)
        p.string(author)
        p.string(Key.documentCount.rawValue)
        p.integer(documentCount)
        p.string(Key.layer.rawValue)
        p.integer(layer)
        p.string(Key.tokensPerDocument.rawValue)
        p.get(reconstruct)
        p.get(ndarray)
        p.integer(0)
        p.memoizedTuple1()
        p.get(byteB)
        p.memoizedTuple3()
        p.memoizedReduce()
        p.mark()
        p.integer(1)
        p.integer(tokensPerDocument.count)
        p.memoizedTuple1()
        p.get(dtype)
        p.dtype("i4", byteOrder: "<", flags: 0)
        p.bool(false)
        p.bytes(tokensPerDocument.flatMap { withUnsafeBytes(of: $0.littleEndian, Array.init) })
        p.memoizedTuple()
        p.build()
        p.string(Key.saeName.rawValue)
        p.string(saeName)
        p.setItems()
        p.append()
        p.memoizedTuple()
        p.build()
        p.stop()
        return p.bytes
    }
}

extension FeatureMetadata {
    /// Reads a pickle that this type or NumPy wrote. Throws `PickleError` if the pickle is damaged or lacks a key.
    package init(pickle bytes: [UInt8]) throws(PickleError) {
        let value = try PickleValue(pickle: bytes)
        guard case .objects(_, let values) = value, let dictionary = values.first else {
            throw .damaged("it is not an array of one dictionary")
        }
        guard let author = dictionary[Key.author.rawValue]?.string,
            let documentCount = dictionary[Key.documentCount.rawValue]?.integer,
            let layer = dictionary[Key.layer.rawValue]?.integer,
            let tokens = dictionary[Key.tokensPerDocument.rawValue]?.integers,
            let saeName = dictionary[Key.saeName.rawValue]?.string
        else {
            throw .damaged(
                "author, docs_count, layer, tokens_per_doc and sae_name are expected")
        }
        self.init(
            author: author, documentCount: documentCount, layer: layer,
            tokensPerDocument: tokens.map { Int32(clamping: $0) }, saeName: saeName)
    }
}
