// What lies on the device, and in which forms.

import ArrayFiles
import CUDA
import Glibc

/// Activations on the device: float32, the parts that products read, or the recipe for either.
///
/// A norm or a GeGLU is not computed when it is asked for but when it is known what for: most are read by products
/// alone, and then never exist as float32.
public final class CUDAMatrix {
    /// How a matrix comes about that does not exist yet.
    enum Recipe {
        case norm(of: CUDAMatrix, version: Int, weight: DeviceBuffer, epsilon: Float)
        case geglu(gate: CUDAMatrix, up: CUDAMatrix)
    }

    /// Number of rows.
    public let rows: Int
    /// Number of columns.
    public let columns: Int
    let recipe: Recipe?
    /// (rows, columns) as float32.
    var floats: DeviceBuffer?
    /// (rows, parts · columns) of 16 bits: [low | high] as float16, or bfloat16.
    var parts: DeviceBuffer?
    /// Counts changes in place, which recipes must not miss.
    private(set) var version = 0

    init(rows: Int, columns: Int, floats: DeviceBuffer) {
        (self.rows, self.columns, self.floats) = (rows, columns, floats)
        recipe = nil
    }

    init(rows: Int, columns: Int, recipe: Recipe) {
        (self.rows, self.columns, self.recipe) = (rows, columns, recipe)
    }

    /// The floats are about to change.
    func change() {
        version += 1
        parts = nil
    }
}

/// A weight matrix, on the device once it was loaded: bfloat16, or float16 times a power of two, in one part where that
/// is exact, else in two.
public final class CUDAWeights {
    let tensor: StoredTensor
    /// Whether a row of the stored matrix makes one output (else one input).
    let outputsAreRows: Bool
    let outputs: Int
    let inputs: Int
    let isTable: Bool
    /// How it is held, known once loaded.
    var form = Form.bfloat16
    /// Row r of part p begins at element r · rowStride + p · partStride, the high part first. So the inner dimension
    /// of a product with both, [high | low], lies in one stride.
    var data: DeviceBuffer?
    /// What two parts leave of a float32, for tables: rows that are looked up are exact.
    var rest: DeviceBuffer?

    enum Form: Equatable {
        case bfloat16
        /// Elements times 2 to the power of `exponent`, in one or two parts.
        case float16(parts: Int, exponent: Int)

        var parts: Int {
            if case .float16(let parts, _) = self { parts } else { 1 }
        }

        /// What `split_weights` calls parts: 0 for bfloat16.
        var code: Int { self == .bfloat16 ? 0 : parts }

        /// What elements have been multiplied by.
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

    /// Rows and their width as stored.
    var storedShape: (rows: Int, width: Int) {
        outputsAreRows ? (outputs, inputs) : (inputs, outputs)
    }
    var rowStride: Int { outputsAreRows ? inputs * form.parts : outputs }
    var partStride: Int { outputsAreRows ? inputs : inputs * outputs }

    /// Whether there is a `rest`.
    var hasRest: Bool { isTable && form.parts == 2 }
    /// Bytes on the device.
    var bytes: Int { tensor.count * 2 * (form.parts + (hasRest ? 1 : 0)) }
}
