// Finds the pages of SAEs on neuronpedia.org. scripts/make/neuronpedia_table.py makes the table of pages from the
// list of pretrained SAEs in sae-lens.

import ByteJSON
import CReport
import FoundationEssentials
import Hooks

/// Finds the addresses of SAEs on Neuronpedia.
struct NeuronpediaPages {
    private let table: JSONObject

    /// Parses the table that is embedded in the program.
    init() {
        let json = embedded(creport_neuronpedia())
        let value = json.withUnsafeBufferPointer { try? JSONValue(parsing: $0) }
        table = value?.object ?? [:]
    }

    /// Returns the part of a page's address before the feature's number, such as `gemma-2-2b/5-gemmascope-res-16k`.
    /// Nil if the SAE has no page.
    func page(of sae: FinishedRun.TappedSAE, label: String) -> String? {
        let repository = ScopeSize(label: label).repositoryName(site: sae.hook.site.rawValue)
        return table[repository]?.object?[sae.name]?.string
    }

    /// Returns the text that the report shows if the SAE has no page.
    static func note(for sae: FinishedRun.TappedSAE) -> String {
        "no page for \(sae.name.split(separator: "/").last ?? "")"
    }
}
