// Creates the limits on journal records from a plan.

import RunState

extension RecordLimits {
    /// Creates the limits on the records of `plan`. `widths[i]` is the number of features of `plan.saes[i]`.
    package init(_ plan: RunPlan, widths: [Int]) {
        self.init(
            values: plan.activationValues, threshold: plan.featureThreshold,
            widths: Dictionary(uniqueKeysWithValues: zip(plan.saes.map(\.hook), widths)))
    }
}
