// Rotary position embedding (RoPE; Su et al. 2021, arXiv 2104.09864), in the half-split form of transformers:
// elements i and i + dHead / 2 of a head are rotated as a pair.

import Glibc
import Tensors

extension RotaryTable {
    /// Returns cosines and sines of the angles position · base^(-2i / dHead) for the first `length` positions. Angles
    /// are computed in float32, as in transformers.
    static func gemma2(_ config: Gemma2Config, length: Int) -> RotaryTable {
        let half = config.dHead / 2
        let frequencies = (0..<half).map { i in
            1 / powf(config.rotaryBase, Float(2 * i) / Float(config.dHead))
        }
        let angles = (0..<length).flatMap { position in
            frequencies.map { Double(Float(position) * $0) }
        }
        return RotaryTable(
            halfWidth: half, cosines: angles.map { Float(cos($0)) },
            sines: angles.map { Float(sin($0)) })
    }
}
