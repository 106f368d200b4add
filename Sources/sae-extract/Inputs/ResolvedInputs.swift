// The inputs of a run, and the files that must be downloaded for it.

import Hub
import Planning

/// The inputs of a run, and the files that it needs from the Hub.
struct ResolvedInputs {
    /// The paths of the inputs after the download.
    let locations: InputLocations
    /// The requests to the Hub, each with the name of its input: "model", "res SAEs", "corpus".
    let requests: [(name: String, request: HubRequest)]

    var isComplete: Bool { requests.allSatisfy(\.request.missing.isEmpty) }
}
