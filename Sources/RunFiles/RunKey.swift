// The keys of `run.json`, for its writer and its readers. docs/files.md describes the value of each key.

import ByteJSON

/// A key of `run.json`, of one of its entries, or of an object in an entry.
package enum RunKey: String {
    case format
    case formatVersion = "format_version"
    case runs
    case id
    case outcome
    case overwrote
    case saeExtract = "sae_extract"
    case started
    case finished
    case state
    case process
    case command
    case settings
    case device
    case devices
    case name
    case uuid
    case memory
    case computeCapability = "compute_capability"
    case kernels
    case dtype
    case products
    case reproducible
    case weights
    case ranks
    case worldSize = "world_size"
    case threads
    case model
    case label
    case nameInFiles = "name_in_files"
    case path
    case files
    case saes
    case hook
    case site
    case layer
    case saeName = "sae_name"
    case corpus
    case acceptedSHA256 = "accepted_sha256"
    case shape
    case documents
    case tokens
    case tokensComputed = "tokens_computed"
    case authors
    case authorsNotComplete = "authors_not_complete"
    case seconds
    case rank
    case dIn = "d_in"
    case dSAE = "d_sae"
    case meanL0 = "mean_l0"
    case repository
    case revision
    case commit
    case author
    case meanCrossEntropy = "mean_cross_entropy"
    case meanEntropy = "mean_entropy"
    case sourceLines = "source_lines"
    case tokensPerRow = "tokens_per_row"
    case truncatedRows = "truncated_rows"
    case dividedBatches = "divided_batches"
    case size
    case identity
    case crc32
    case host
    case start
}

/// A key of the object `settings` in an entry of `run.json`: a flag without its dashes.
package enum RunSetting: String {
    case layers
    case layerTypes = "layer_types"
    case nDocs = "n_docs"
    case nDocsPerAuthor = "n_docs_per_author"
    case minLengthDoc = "min_length_doc"
    case excludeAuthors = "exclude_authors"
    case includeAuthors = "include_authors"
    case authorField = "author_field"
    case textField = "text_field"
    case batchSize = "batch_size"
    case maxSeqLen = "max_seq_len"
    case prefix
    case featureThreshold = "feature_threshold"
    case storageFormat = "storage_format"
    case activationValues = "activation_values"
}

extension JSONValue {
    /// Makes an object with these members, in this order.
    package static func object(of members: KeyValuePairs<RunKey, JSONValue>) -> JSONValue {
        .object(JSONObject(run: members))
    }
}

extension JSONObject {
    /// Makes an object of `run.json` with these members, in this order.
    package init(run members: KeyValuePairs<RunKey, JSONValue>) {
        self.init(members.map { (key: $0.key.rawValue, value: $0.value) })
    }

    /// Makes the object `settings` of an entry with these members, in this order.
    package init(settings members: KeyValuePairs<RunSetting, JSONValue>) {
        self.init(members.map { (key: $0.key.rawValue, value: $0.value) })
    }

    /// The member `key`; nil if it is missing.
    package subscript(key: RunKey) -> JSONValue? {
        get { self[key.rawValue] }
        set { self[key.rawValue] = newValue }
    }

    /// The setting `key`; nil if it is missing.
    package subscript(key: RunSetting) -> JSONValue? { self[key.rawValue] }
}
