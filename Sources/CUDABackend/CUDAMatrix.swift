// Matrices on the device, and their forms: float32, 16-bit parts, or a recipe.

import ArrayFiles
import CUDA
import Glibc
import Tensors

/// A matrix of activations on the device: as float32, in the 16-bit parts that products read, or in both forms.
/// Before the matrix is computed, only its recipe is stored.
///
/// A norm or a GeGLU is computed when it is used, because the use decides the form. Most of them are read only by
/// products, and are never stored as float32.
package final class CUDAMatrix {
    /// A recipe for a matrix that has not been computed.
    enum Recipe {
        case norm(of: CUDAMatrix, version: Int, weight: DeviceBuffer, epsilon: Float)
        case geglu(gate: CUDAMatrix, up: CUDAMatrix)
    }

    /// Number of rows.
    package let rows: Int
    /// Number of columns.
    package let columns: Int
    let recipe: Recipe?
    /// The matrix as float32, (rows, columns); nil if this form has not been computed.
    var floats: DeviceBuffer?
    /// The matrix as 16-bit numbers, (rows, parts · columns). A row is [low | high] in float16, or one part in
    /// bfloat16. Nil if this form has not been computed.
    var parts: DeviceBuffer?
    /// The number of changes in place. A recipe stores the version of its input matrix, so that a later change of the
    /// input is detected.
    private(set) var version = 0

    init(rows: Int, columns: Int, floats: DeviceBuffer) {
        (self.rows, self.columns, self.floats) = (rows, columns, floats)
        recipe = nil
    }

    init(rows: Int, columns: Int, recipe: Recipe) {
        (self.rows, self.columns, self.recipe) = (rows, columns, recipe)
    }

    /// Call this function before the float32 elements change. Increments the version, and discards the 16-bit parts,
    /// which would be out of date.
    func change() {
        version += 1
        parts = nil
    }
}

/// A weight matrix, which is on the device after `load`. With bfloat16 precision it is stored as bfloat16. With
/// float32 precision it is multiplied by a power of two and stored as float16, in one part if that is exact,
/// otherwise in two.
package final class CUDAWeights {
    let tensor: StoredTensor
    /// Whether the rows of the stored matrix are outputs; otherwise they are inputs.
    let outputsAreRows: Bool
    let outputs: Int
    let inputs: Int
    let isTable: Bool
    /// The form on the device; final after `load`.
    var form = Form.bfloat16
    /// The one or two parts of the matrix, the high part first; nil before `load`. Element (row, column) of part p is
    /// at row · rowStride + p · partStride + column. The strides join the parts along the inner dimension, so one
    /// product reads both parts as one matrix with twice the inner dimension.
    var data: DeviceBuffer?
    /// For a table in two parts: what is left of each float32 element after both parts, so that `embed` returns exact
    /// rows. Nil for other matrices.
    var rest: DeviceBuffer?

    enum Form: Equatable {
        case bfloat16
        /// Elements multiplied by 2 to the power of `exponent`, in one or two parts.
        case float16(parts: Int, exponent: Int)

        var parts: Int {
            if case .float16(let parts, _) = self { parts } else { 1 }
        }

        /// The argument `parts` of the kernel `split_weights`: 0 for bfloat16.
        var code: Int { self == .bfloat16 ? 0 : parts }

        /// The factor by which all elements have been multiplied.
        var scale: Float {
            if case .float16(_, let exponent) = self { exp2f(Float(exponent)) } else { 1 }
        }
    }

    init(_ tensor: StoredTensor, layout: WeightLayout, isTable: Bool) {
        precondition(tensor.shape.count == 2, "a matrix has two dimensions")
        let outputsFirst = layout == .outputsByInputs
        (self.tensor, self.isTable) = (tensor, isTable)
        outputsAreRows = outputsFirst != tensor.isFortranOrder
        outputs = tensor.shape[outputsFirst ? 0 : 1]
        inputs = tensor.shape[outputsFirst ? 1 : 0]
    }

    /// Number of rows and their width, as stored in the file.
    var storedShape: (rows: Int, width: Int) {
        outputsAreRows ? (outputs, inputs) : (inputs, outputs)
    }
    var rowStride: Int { outputsAreRows ? inputs * form.parts : outputs }
    var partStride: Int { outputsAreRows ? inputs : inputs * outputs }

    /// Whether the matrix has a `rest`.
    var hasRest: Bool { isTable && form.parts == 2 }
    /// Bytes that the matrix takes on the device.
    var bytes: Int { tensor.count * 2 * (form.parts + (hasRest ? 1 : 0)) }
}
