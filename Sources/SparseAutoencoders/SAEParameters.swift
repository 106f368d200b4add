// The tensors of one SAE.

import ArrayFiles
import Files

/// The five tensors of a JumpReLU SAE, as stored in the file.
package struct SAEParameters: Sendable {
    /// Encoder matrix, (d_in, d_sae).
    package let wEnc: StoredTensor
    /// Encoder bias, (d_sae).
    package let bEnc: StoredTensor
    /// Decoder matrix, (d_sae, d_in).
    package let wDec: StoredTensor
    /// Decoder bias, (d_in).
    package let bDec: StoredTensor
    /// JumpReLU threshold, (d_sae).
    package let threshold: StoredTensor
    /// The file, mapped into memory.
    package let file: MappedFile

    /// Reads the SAE in `directory`. Checks that it was made for activations of width `dIn` at the hook `hookName`.
    /// Throws `FileError`, `UnexpectedFileError`, `NPZError`, `SafetensorsError` or `SAEError`.
    package init(directory: String, dIn: Int, hookName: String) throws {
        let source = try SAEFile(directory: directory)
        try source.check(dIn: dIn, hookName: hookName)
        file = source.file
        wEnc = try source.tensor("W_enc")
        bEnc = try source.tensor("b_enc")
        wDec = try source.tensor("W_dec")
        bDec = try source.tensor("b_dec")
        threshold = try source.tensor("threshold")
        // A NaN or infinity in W_enc or b_enc makes a pre-activation NaN or infinite, which is an error. In threshold
        // or b_dec it would stay unnoticed.
        for tensor in [threshold, bDec] where !tensor.floats().allSatisfy(\.isFinite) {
            throw SAEError.nonFinite(path: tensor.path, tensor: tensor.name)
        }
    }
}
