// Matrices on the device, and their forms: float32, 16-bit parts, or a recipe.

import ArrayFiles
import CUDA
import Glibc
import Tensors

/// Activations on the device: float32, the parts that products read, or the recipe for either.
///
/// A norm or a GeGLU is not computed when it is requested, but when its use is known. Most norms and GeGLUs are read only by
/// products; these never exist as float32.
public final class CUDAMatrix {
    /// How to compute a matrix that does not exist yet.
    enum Recipe {
        case norm(of: CUDAMatrix, version: Int, weight: DeviceBuffer, epsilon: Float)
        case geglu(gate: CUDAMatrix, up: CUDAMatrix)
    }

    /// Number of rows.
    public let rows: Int
    /// Number of columns.
    public let columns: Int
    let recipe: Recipe?
    /// The matrix as float32, (rows, columns); nil if it does not exist in this form.
    var floats: DeviceBuffer?
    /// The matrix as 16-bit numbers, (rows, parts · columns): [low | high] in float16, or one part in bfloat16. Nil if it does
    /// not exist in this form.
    var parts: DeviceBuffer?
    /// Number of changes in place. A recipe stores the version of its input, so that a later change is detected.
    private(set) var version = 0

    init(rows: Int, columns: Int, floats: DeviceBuffer) {
        (self.rows, self.columns, self.floats) = (rows, columns, floats)
        recipe = nil
    }

    init(rows: Int, columns: Int, recipe: Recipe) {
        (self.rows, self.columns, self.recipe) = (rows, columns, recipe)
    }

    /// Notes that the floats are about to change; discards the parts.
    func change() {
        version += 1
        parts = nil
    }
}

/// A weight matrix, on the device after `load`. It is stored as bfloat16, or as float16 multiplied by a power of two: in one
/// part if that is exact, otherwise in two.
public final class CUDAWeights {
    let tensor: StoredTensor
    /// Whether a row of the stored matrix belongs to one output. If false, it belongs to one input.
    let outputsAreRows: Bool
    let outputs: Int
    let inputs: Int
    let isTable: Bool
    /// The form on the device; final after `load`.
    var form = Form.bfloat16
    /// The parts, the high part first. Element c of row r of part p is at r · rowStride + p · partStride + c. With these strides,
    /// one product can read both parts as one matrix [high | low] with twice the inner dimension. Nil before `load`.
    var data: DeviceBuffer?
    /// For tables: the remainder of a float32 that two parts do not hold, so that `embed` returns exact rows. Nil if not needed.
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

        /// The factor by which elements have been multiplied.
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
