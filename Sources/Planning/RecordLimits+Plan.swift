// Creates the limits on journal records from a plan.

import RunState

extension RecordLimits {
    /// Creates the limits on the records of `plan`. `widths` are the numbers of features of `plan.saes`, in the same
    /// order.
    package init(_ plan: RunPlan, widths: [Int]) {
        self.init(
            values: plan.activationValues, threshold: plan.featureThreshold,
            widths: Dictionary(uniqueKeysWithValues: zip(plan.saes.map(\.hook), widths)))
    }
}
