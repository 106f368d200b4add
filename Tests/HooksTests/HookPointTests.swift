// Tests of the names of hooks.

import Hooks
import Testing

struct HookPointTests {
    @Test(arguments: [0, 5, 41], Site.allCases)
    func aNameIsParsedBack(layer: Int, site: Site) {
        let hook = HookPoint(layer: layer, site: site)
        #expect(HookPoint(hook.description) == hook)
    }

    @Test(
        arguments: [
            "", "blocks.5", "blocks..hook_mlp_out", "blocks..5.hook_mlp_out",
            "blocks.-1.hook_mlp_out",
            "blocks.+1.hook_mlp_out", "blocks. 1.hook_mlp_out",
            "blocks.99999999999999999999.hook_mlp_out",
            "blocks.1.hook_mlp_out ", "blocks.1.attn.hook_z.hook_sae", "layers.1.hook_mlp_out",
        ])
    func otherTextIsNoHook(text: String) {
        #expect(HookPoint(text) == nil)
    }
}
