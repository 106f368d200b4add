// The hooks of the model, named as in TransformerLens.

/// The sites of the model for which Gemma Scope has SAEs.
package enum Site: String, CaseIterable, Codable, Sendable {
    /// The residual stream after the block: `hook_resid_post`, width `d_model`.
    case res
    /// The MLP's output after its post-norm, before the residual sum: `hook_mlp_out`, width `d_model`.
    case mlp
    /// The heads' outputs, concatenated, before `W_O`: `attn.hook_z`, width `n_heads · d_head`.
    case att

    /// The hook's name within a block.
    package var hookName: String {
        switch self {
        case .res: "hook_resid_post"
        case .mlp: "hook_mlp_out"
        case .att: "attn.hook_z"
        }
    }
}

/// A hook: one site of one layer.
package struct HookPoint: Hashable, Codable, Sendable, CustomStringConvertible {
    /// The index of the layer, from 0.
    package let layer: Int
    /// The site within the layer.
    package let site: Site

    /// Creates the hook at `site` of `layer`.
    package init(layer: Int, site: Site) {
        self.layer = layer
        self.site = site
    }

    /// Parses a name such as `blocks.5.hook_resid_post`. Nil if the text is not the name of a hook.
    package init?(_ description: String) {
        let parts = description.split(
            separator: ".", maxSplits: 2, omittingEmptySubsequences: false)
        guard parts.count == 3, parts[0] == "blocks", let layer = number(parts[1], after: ""),
            let site = Site.allCases.first(where: { $0.hookName == parts[2] })
        else { return nil }
        self.init(layer: layer, site: site)
    }

    /// The name in TransformerLens, such as `blocks.5.hook_resid_post`.
    package var description: String { "blocks.\(layer).\(site.hookName)" }
}
