// The bounds on journal records that follow from a plan.

import RunState

extension RecordLimits {
    /// Creates the bounds for the records of `plan`, whose SAEs have `widths` features, in the order of `plan.saes`.
    package init(_ plan: RunPlan, widths: [Int]) {
        self.init(
            values: plan.activationValues, threshold: plan.featureThreshold,
            widths: Dictionary(uniqueKeysWithValues: zip(plan.saes.map(\.hook), widths)))
    }
}
