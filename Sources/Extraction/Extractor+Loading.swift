// Loads the model and the SAEs of a plan.

import Files
import Gemma2
import Hooks
import Logging
import Planning
import SparseAutoencoders
import Tensors
import Threading

extension Extractor {
    /// Loads the model and the SAEs of `plan` onto `backend`. `aside` runs work that no result depends on. Throws the
    /// readers' errors. Throws `CUDAError` or `CPUBackendError` if memory is too short for one document of the
    /// maximum length.
    init(
        loading plan: RunPlan, head: SequenceHead, on backend: B, threads: ThreadPool,
        aside: @escaping (_ body: @escaping (ThreadPool) -> Void) throws -> Void, log: Logger
    ) throws {
        let config = try Gemma2Config(path: plan.locations.model.config + "/config.json")
        let longest = plan.columns + head.tokens.count
        let model = try Gemma2Model(
            try CheckpointFiles(directory: plan.locations.model.weights), config: config,
            maximumLength: longest, on: backend)
        var parameters = [SAEParameters?](repeating: nil, count: plan.saes.count)
        try parameters.withUnsafeMutableBufferPointer { parameters in
            nonisolated(unsafe) let parameters = parameters
            try threads.tryForEach(plan.saes.count) { item, _ in
                let sae = plan.saes[item]
                parameters[item] = try SAEParameters(
                    directory: sae.directory, dIn: config.width(of: sae.hook.site),
                    hookName: sae.hook.description)
            }
        }
        let saes = try zip(plan.saes, parameters).map {
            ($0.hook, try JumpReLUSAE($1!, on: backend))
        }
        // Memory must suffice for one document, the smallest part into which a batch can be divided.
        try backend.load(rows: longest, bytesPerRow: model.bytesPerToken, encoders: saes.count)
        log.info(
            "\(plan.label): \(config.nLayers) layers, \(plan.saes.count) SAEs; \(backend.kernels), \(backend.products), \(plan.threadsDescription())"
        )
        self.init(
            plan: plan, head: head, model: model, saes: Dictionary(uniqueKeysWithValues: saes),
            backend: backend, threads: threads, aside: aside, log: log)
    }
}
