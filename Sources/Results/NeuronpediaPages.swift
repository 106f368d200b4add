// Which SAEs have pages on neuronpedia.org. The table is made from sae-lens' list of pretrained SAEs by
// scripts/make_neuronpedia_table.py.

import ByteJSON
import CReport
import FoundationEssentials
import Hooks

/// Addresses of SAEs on Neuronpedia.
struct NeuronpediaPages {
    private let table: JSONObject

    /// The table that the program carries.
    init() {
        let json = embedded(creport_neuronpedia())
        let value = json.withUnsafeBufferPointer { try? JSONValue(parsing: $0) }
        table = value?.object ?? [:]
    }

    /// What stands before a feature's number: `gemma-2-2b/5-gemmascope-res-16k`; nil where the SAE has no page.
    func page(of sae: FinishedRun.TappedSAE, label: String) -> String? {
        let repository = ScopeSize(label: label).repositoryName(site: sae.hook.site.rawValue)
        return table[repository]?.object?[sae.name]?.string
    }

    /// What is said instead.
    static func note(for sae: FinishedRun.TappedSAE) -> String {
        "no page for \(sae.name.split(separator: "/").last ?? "")"
    }
}
