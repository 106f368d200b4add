// The bounds on the content of a run's journal records.

import Hooks
import RunFiles

/// The bounds on the content of a run's journal records. A record that exceeds them is treated as damaged.
package struct RecordLimits {
    /// The value that is stored for a feature that fires.
    var values: ActivationValues
    /// A feature fires if its activation is greater than this.
    var threshold: Float
    /// The number of features of each hook's SAE (`d_sae`). Hooks that are not listed have no limit.
    package var widths: [HookPoint: Int]

    /// Creates the bounds for a run that stores `values` above `threshold`, with SAEs of `widths` features.
    package init(values: ActivationValues, threshold: Float, widths: [HookPoint: Int]) {
        self.values = values
        self.threshold = threshold
        self.widths = widths
    }
}
