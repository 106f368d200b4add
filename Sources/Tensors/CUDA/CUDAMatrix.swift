// What lies on the device, and in which forms.

import ArrayFiles
import CUDA

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
    /// (rows, parts · columns) as bfloat16: [low | high], or [high] alone.
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

/// A weight matrix, on the device once it was loaded: bfloat16, in one part where that is exact or asked for, else in
/// two.
public final class CUDAWeights {
    let tensor: StoredTensor
    /// Whether a row of the stored matrix makes one output (else one input).
    let outputsAreRows: Bool
    let outputs: Int
    let inputs: Int
    let isTable: Bool
    /// 1 or 2, known once loaded.
    var partCount = 0
    /// Row r of part p begins at element r · rowStride + p · partStride, the high part first. So the inner dimension
    /// of a product with both, [high | low], lies in one stride.
    var data: DeviceBuffer?
    /// What two parts leave of a float32, for tables: rows that are looked up are exact.
    var rest: DeviceBuffer?

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
    var rowStride: Int { outputsAreRows ? inputs * partCount : outputs }
    var partStride: Int { outputsAreRows ? inputs : inputs * outputs }

    /// Bytes on the device in `parts` parts.
    func bytes(parts: Int) -> Int {
        tensor.count * 2 * (parts + (parts == 2 && isTable ? 1 : 0))
    }
}
