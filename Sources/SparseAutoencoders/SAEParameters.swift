// The tensors of one SAE.

import ArrayFiles
import Files

/// The five tensors of a JumpReLU SAE, where they lie.
public struct SAEParameters: Sendable {
    /// Encoder, (d_in, d_sae).
    public let wEnc: StoredTensor
    /// Encoder bias, (d_sae).
    public let bEnc: StoredTensor
    /// Decoder, (d_sae, d_in).
    public let wDec: StoredTensor
    /// Decoder bias, (d_in).
    public let bDec: StoredTensor
    /// JumpReLU threshold, (d_sae).
    public let threshold: StoredTensor
    /// The mapped file.
    public let file: MappedFile

    /// Reads the SAE in `directory`, made for taps of width `dIn` named `hookName`. Throws `FileError`,
    /// `UnexpectedFileError`, `NPZError`, `SafetensorsError` or `SAEError`.
    public init(directory: String, dIn: Int, hookName: String) throws {
        let source = try SAEFile(directory: directory)
        try source.check(dIn: dIn, hookName: hookName)
        file = source.file
        wEnc = try source.tensor("W_enc")
        bEnc = try source.tensor("b_enc")
        wDec = try source.tensor("W_dec")
        bDec = try source.tensor("b_dec")
        threshold = try source.tensor("threshold")
        // W_enc and b_enc show in the first products; these would go unnoticed.
        for tensor in [threshold, bDec] where !tensor.floats().allSatisfy(\.isFinite) {
            throw SAEError.nonFinite(path: tensor.path, tensor: tensor.name)
        }
    }
}
