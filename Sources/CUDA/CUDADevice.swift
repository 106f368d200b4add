// The device of this process: its memory, streams and kernels, and its cuBLAS handle.

import CCUDA
import FoundationEssentials

/// The device that this process uses: the first device that CUDA_VISIBLE_DEVICES lets the process see.
package final class CUDADevice {
    /// NVIDIA's libraries.
    package let libraries: CUDALibraries
    /// The name of the device: "NVIDIA H100 80GB HBM3".
    package let name: String
    /// Compute capability, major and minor.
    package let capability: [Int]
    /// The number of multiprocessors.
    package let processorCount: Int
    /// The stream on which batches are computed.
    package let compute: CUDAStream
    /// The stream for copies that run while batches are computed.
    package let copies: CUDAStream
    /// The cuBLAS handle. Its products run on `compute`.
    let blas: cublas_handle
    private let module: cuda_module
    private var functions: [String: cuda_function] = [:]
    private var sharedLimits: [String: Int] = [:]
    private var free: [DeviceBuffer.Block] = []
    private var freePinned: [PinnedBuffer.Block] = []
    private let workspace: UnsafeMutableRawPointer

    /// Size in bytes of the workspace that cuBLAS receives. By default, cuBLAS itself allocates 32 MiB on Hopper.
    private static let workspaceBytes = 64 << 20

    /// Opens the first device that this process can see (CUDA_VISIBLE_DEVICES). Throws `CUDAError`.
    package init(environment: [String: String]) throws {
        var findings: [LibraryFinding] = []
        let libraries = try CUDALibraries(environment: environment, findings: &findings)
        self.libraries = libraries
        let (driver, runtime) = (libraries.driver, libraries.runtime)
        try libraries.check(driver.cuInit(0), "cuInit")
        try libraries.check(runtime.cudaSetDevice(0), "cudaSetDevice")
        // cudaFree(nil) creates the CUDA context.
        try libraries.check(runtime.cudaFree(nil), "cudaFree")
        let device = try libraries.device(0)
        name = try libraries.name(of: device)
        capability = try libraries.capability(of: device)
        processorCount = try libraries.attribute(16, of: device)
        var (freeBytes, total) = (0, 0)
        try libraries.check(runtime.cudaMemGetInfo(&freeBytes, &total), "cudaMemGetInfo")
        module = try CUDADevice.loadKernels(libraries)
        compute = try CUDAStream(libraries)
        copies = try CUDAStream(libraries)

        var handle: cublas_handle?
        try CUDADevice.checkBLAS(libraries.blas.cublasCreate_v2(&handle), "cublasCreate_v2")
        blas = handle!
        var room: UnsafeMutableRawPointer?
        let status = runtime.cudaMalloc(&room, CUDADevice.workspaceBytes)
        guard status != 2 else {
            throw CUDAError.tooSmall(
                needed: CUDADevice.workspaceBytes, free: freeBytes, total: total,
                parts: "for cuBLAS alone")
        }
        try libraries.check(status, "cudaMalloc")
        workspace = room!
        try CUDADevice.checkBLAS(
            libraries.blas.cublasSetStream_v2(blas, compute.stream), "cublasSetStream_v2")
        // With a fixed workspace and stream, cuBLAS computes equal products in the same way, so the results have
        // equal bits.
        try CUDADevice.checkBLAS(
            libraries.blas.cublasSetWorkspace_v2(blas, workspace, CUDADevice.workspaceBytes),
            "cublasSetWorkspace_v2")
    }

    deinit {
        _ = libraries.runtime.cudaStreamSynchronize(compute.stream)
        for block in free { _ = libraries.runtime.cudaFree(block.pointer) }
        for block in freePinned { _ = libraries.runtime.cudaFreeHost(block.pointer) }
        _ = libraries.blas.cublasDestroy_v2(blas)
        _ = libraries.runtime.cudaFree(workspace)
        _ = libraries.driver.cuModuleUnload(module)
    }

    /// Name and compute capability: "NVIDIA H100 80GB HBM3 (9.0)".
    package var description: String { "\(name) (\(capability[0]).\(capability[1]))" }

    /// Versions of the libraries: "driver 13.0, cudart 12.9, cuBLAS 12.9.1".
    package var versions: String {
        let names = ["libcuda": "driver", "libcudart": "cudart", "libcublas": "cuBLAS"]
        return libraries.findings.compactMap { finding in
            names[finding.name].map { "\($0) \(finding.version ?? "of unknown version")" }
        }.joined(separator: ", ")
    }

    // MARK: Errors

    private func check(_ status: Int32, _ function: String) throws(CUDAError) {
        try libraries.check(status, function)
    }

    private static func checkBLAS(_ status: Int32, _ function: String) throws(CUDAError) {
        guard status != 0 else { return }
        let names: [Int32: (String, String)] = [
            1: ("CUBLAS_STATUS_NOT_INITIALIZED", "the library does not work with the driver"),
            3: ("CUBLAS_STATUS_ALLOC_FAILED", "too little memory on the device"),
            7: ("CUBLAS_STATUS_INVALID_VALUE", "an invalid argument"),
            8: ("CUBLAS_STATUS_ARCH_MISMATCH", "the device lacks a required feature"),
            13: ("CUBLAS_STATUS_EXECUTION_FAILED", "a kernel failed on the device"),
            14: ("CUBLAS_STATUS_INTERNAL_ERROR", "an internal failure"),
            15: ("CUBLAS_STATUS_NOT_SUPPORTED", "this product is not supported on this device"),
        ]
        let (name, meaning) = names[status] ?? ("an unknown status", "without a known meaning")
        throw .call(function: function, code: Int(status), name: name, meaning: meaning)
    }

    // MARK: Kernels

    private static func loadKernels(_ libraries: CUDALibraries) throws -> cuda_module {
        var module: cuda_module?
        var log = [CChar](repeating: 0, count: 4096)
        let status = log.withUnsafeMutableBytes { log -> Int32 in
            // Option 5 is CU_JIT_ERROR_LOG_BUFFER. Option 6 is CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES; its value is the
            // size, cast to a pointer.
            var options: [Int32] = [5, 6]
            var values = [
                log.baseAddress, UnsafeMutableRawPointer(bitPattern: log.count),
            ]
            return libraries.driver.cuModuleLoadDataEx(&module, ccuda_ptx(), 2, &options, &values)
        }
        let said = log.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
            .split(separator: "\n").joined(separator: " ")
        switch status {
        case 0: return module!
        case 200, 209, 218, 222:  // the driver rejects image, device or PTX version
            let error = libraries.error(status, "cuModuleLoadDataEx")
            guard case .call(_, let code, let name, _) = error else { throw error }
            let version = libraries.findings(named: "libcuda")?.version ?? "unknown"
            throw CUDAError.kernelsRefused(
                driver: "CUDA \(version)",
                reason: "\(name) (\(code))\(said.isEmpty ? "" : ", \(said)")")
        default: throw libraries.error(status, "cuModuleLoadDataEx")
        }
    }

    /// Queues the kernel `name` on the stream `compute`, with a grid of `grid` blocks of `block` threads. Each block
    /// gets `shared` bytes of dynamic shared memory. Does nothing if the grid is empty. Throws `CUDAError`.
    package func launch(
        _ name: String, grid: (Int, Int), block: Int, shared: Int = 0, _ arguments: [Argument]
    ) throws(CUDAError) {
        guard grid.0 > 0, grid.1 > 0 else { return }
        var function = functions[name]
        if function == nil {
            try check(
                libraries.driver.cuModuleGetFunction(&function, module, name),
                "cuModuleGetFunction of \(name)")
            functions[name] = function
        }
        if shared > sharedLimits[name, default: 48 << 10] {
            // 8 is CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES. More than 48 KiB must be requested in this way.
            try check(
                libraries.driver.cuFuncSetAttribute(function, 8, Int32(shared)),
                "cuFuncSetAttribute of \(name)")
            sharedLimits[name] = shared
        }
        let slots = arguments.map(\.bits)
        var driver = libraries.driver
        try check(
            ccuda_launch(
                &driver, function, UInt32(grid.0), UInt32(grid.1), UInt32(block), UInt32(shared),
                compute.stream, slots, Int32(slots.count)), "cuLaunchKernel of \(name)")
    }

    /// An argument of a kernel, stored in the low bytes of a 64-bit number.
    package struct Argument {
        let bits: UInt64

        /// Wraps an `int` (32 bits).
        package static func int(_ value: Int) -> Argument {
            Argument(bits: UInt64(UInt32(bitPattern: Int32(value))))
        }

        /// Wraps a `long long` (64 bits).
        package static func long(_ value: Int) -> Argument {
            Argument(bits: UInt64(bitPattern: Int64(value)))
        }

        /// Wraps a `float`.
        package static func float(_ value: Float) -> Argument {
            Argument(bits: UInt64(value.bitPattern))
        }

        /// Wraps the device address `offset` bytes into `buffer`; null if `buffer` is nil.
        package static func pointer(_ buffer: DeviceBuffer?, _ offset: Int = 0) -> Argument {
            Argument(bits: buffer.map { UInt64(UInt(bitPattern: $0.pointer + offset)) } ?? 0)
        }
    }

    // MARK: Products

    /// An operand of a product in BLAS' terms: a column-major matrix, transposed or not.
    package struct Operand {
        let pointer: UnsafeMutableRawPointer
        let leadingDimension: Int
        let isTransposed: Bool

        /// Describes a matrix of 16-bit elements, from `offset` bytes into `buffer`. `leadingDimension` is in
        /// elements.
        package init(_ buffer: DeviceBuffer, offset: Int, leadingDimension: Int, isTransposed: Bool)
        {
            pointer = buffer.pointer + offset
            self.leadingDimension = leadingDimension
            self.isTransposed = isTransposed
        }
    }

    /// The types of operands. The raw values are those of cudaDataType (library_types.h).
    package enum OperandType: Int32 {
        /// IEEE binary16: CUDA_R_16F.
        case float16 = 2
        /// bfloat16: CUDA_R_16BF.
        case bfloat16 = 14
    }

    /// Queues C = factor · A · B on the stream `compute`, with the shapes (m, n) = (m, k) · (k, n). With `isAdding`,
    /// the product is added to C. Operands have the type `type`; sums and results are float32. All matrices are
    /// column-major, and the leading dimension of C is m. Throws `CUDAError`.
    package func multiply(
        _ a: Operand, _ b: Operand, as type: OperandType, m: Int, n: Int, k: Int,
        times factor: Float, isAdding: Bool, into c: DeviceBuffer
    ) throws(CUDAError) {
        var (alpha, beta): (Float, Float) = (factor, isAdding ? 1 : 0)
        let float32: Int32 = 0  // CUDA_R_32F
        let compute32F: Int32 = 68  // CUBLAS_COMPUTE_32F
        try CUDADevice.checkBLAS(
            libraries.blas.cublasGemmEx(
                blas, a.isTransposed ? 1 : 0, b.isTransposed ? 1 : 0, Int32(m), Int32(n), Int32(k),
                &alpha, a.pointer, type.rawValue, Int32(a.leadingDimension), b.pointer,
                type.rawValue,
                Int32(b.leadingDimension), &beta, c.pointer, float32, Int32(m), compute32F, -1),
            "cublasGemmEx")
    }

    // MARK: Memory

    /// Returns the free bytes and all bytes of the device's memory. Free buffers in the pool count as free memory.
    /// Throws `CUDAError`.
    package func memory() throws(CUDAError) -> (free: Int, total: Int) {
        var (free, total) = (0, 0)
        try check(libraries.runtime.cudaMemGetInfo(&free, &total), "cudaMemGetInfo")
        return (free + self.free.reduce(0) { $0 + $1.bytes }, total)
    }

    /// Takes a buffer from the pool, or allocates one. When its last reference is released, it returns to the pool,
    /// and later work on the stream `compute` may reuse it. Throws `CUDAError.outOfMemory`.
    package func buffer(bytes: Int) throws(CUDAError) -> DeviceBuffer {
        // Sizes are rounded up to a multiple of 4 KiB, so that more requests have equal sizes and can reuse a buffer.
        let wanted = max(bytes, 256).roundedUp(to: 1 << 12)
        // A free buffer that is more than about 25 % too large stays in the pool for a larger request.
        if let fits = free.firstIndex(where: { $0.bytes >= wanted }),
            free[fits].bytes <= wanted + wanted / 4 + (64 << 10)
        {
            return DeviceBuffer(free.remove(at: fits), self)
        }
        var pointer: UnsafeMutableRawPointer?
        var status = libraries.runtime.cudaMalloc(&pointer, wanted)
        if status == 2 {
            // Release the free buffers of the pool and try once more.
            for block in free { _ = libraries.runtime.cudaFree(block.pointer) }
            free = []
            status = libraries.runtime.cudaMalloc(&pointer, wanted)
        }
        if status == 2 {
            var (available, total) = (0, 0)
            _ = libraries.runtime.cudaMemGetInfo(&available, &total)
            throw .outOfMemory(bytes: wanted, free: available, total: total)
        }
        try check(status, "cudaMalloc")
        return DeviceBuffer(DeviceBuffer.Block(pointer: pointer!, bytes: wanted), self)
    }

    fileprivate func give(_ block: DeviceBuffer.Block) {
        free.insert(block, at: free.firstIndex { $0.bytes >= block.bytes } ?? free.endIndex)
    }

    /// Takes page-locked host memory from the pool, or allocates it. The device can copy from and to it
    /// asynchronously. Throws `CUDAError.noHostMemory`.
    package func pinned(bytes: Int) throws(CUDAError) -> PinnedBuffer {
        let wanted = max(bytes, 1 << 12).roundedUpToPowerOfTwo
        if let fits = freePinned.firstIndex(where: { $0.bytes == wanted }) {
            return PinnedBuffer(freePinned.remove(at: fits), self)
        }
        var pointer: UnsafeMutableRawPointer?
        var status = libraries.runtime.cudaHostAlloc(&pointer, wanted, 0)
        if status == 2, !freePinned.isEmpty {
            for block in freePinned { _ = libraries.runtime.cudaFreeHost(block.pointer) }
            freePinned = []
            status = libraries.runtime.cudaHostAlloc(&pointer, wanted, 0)
        }
        guard status != 2 else { throw .noHostMemory(bytes: wanted) }
        try check(status, "cudaHostAlloc")
        return PinnedBuffer(PinnedBuffer.Block(pointer: pointer!, bytes: wanted), self)
    }

    fileprivate func give(_ block: PinnedBuffer.Block) { freePinned.append(block) }

    /// Queues a copy of `bytes` bytes from the host to the device. The bytes at `from` must stay unchanged until
    /// `stream` has made the copy.
    package func copy(
        _ from: UnsafeRawPointer, to buffer: DeviceBuffer, bytes: Int, on stream: CUDAStream
    ) throws(CUDAError) {
        guard bytes > 0 else { return }
        try check(
            libraries.runtime.cudaMemcpyAsync(buffer.pointer, from, bytes, 1, stream.stream),
            "cudaMemcpyAsync")
    }

    /// Queues a copy of `bytes` bytes of `buffer`, from `offset` on, to the host. The bytes are valid on the host
    /// after `stream` has made the copy.
    package func copy(
        _ buffer: DeviceBuffer, offset: Int = 0, to: UnsafeMutableRawPointer, bytes: Int,
        on stream: CUDAStream
    ) throws(CUDAError) {
        guard bytes > 0 else { return }
        try check(
            libraries.runtime.cudaMemcpyAsync(
                to, buffer.pointer + offset, bytes, 2, stream.stream), "cudaMemcpyAsync")
    }

    /// Queues a fill on the stream `compute`: sets `bytes` bytes of `buffer`, from `offset` on, to `value`.
    package func fill(
        _ buffer: DeviceBuffer, offset: Int = 0, _ value: UInt8, bytes: Int
    ) throws(CUDAError) {
        try check(
            libraries.runtime.cudaMemsetAsync(
                buffer.pointer + offset, Int32(value), bytes, compute.stream), "cudaMemsetAsync")
    }

    /// Records an event after all work that is now queued on `stream`. Times can be measured only between two events
    /// with `isTimed`.
    package func event(on stream: CUDAStream, isTimed: Bool = false) throws(CUDAError) -> CUDAEvent
    {
        let event = try CUDAEvent(libraries, isTimed: isTimed)
        try check(
            libraries.runtime.cudaEventRecord(event.event, stream.stream), "cudaEventRecord")
        return event
    }
}

/// A buffer in the device's memory. When the last reference is released, the memory returns to the pool.
package final class DeviceBuffer {
    struct Block {
        let pointer: UnsafeMutableRawPointer
        let bytes: Int
    }

    private let block: Block
    private let device: CUDADevice

    /// The address in the device's memory. The host cannot access it.
    var pointer: UnsafeMutableRawPointer { block.pointer }

    fileprivate init(_ block: Block, _ device: CUDADevice) {
        (self.block, self.device) = (block, device)
    }

    deinit { device.give(block) }
}

/// A buffer of page-locked host memory. When the last reference is released, the memory returns to the pool.
package final class PinnedBuffer {
    struct Block {
        let pointer: UnsafeMutableRawPointer
        let bytes: Int
    }

    private let block: Block
    private let device: CUDADevice

    /// The address of the buffer.
    package var pointer: UnsafeMutableRawPointer { block.pointer }

    fileprivate init(_ block: Block, _ device: CUDADevice) {
        (self.block, self.device) = (block, device)
    }

    deinit { device.give(block) }
}

extension CUDALibraries {
    func findings(named name: String) -> LibraryFinding? { findings.first { $0.name == name } }
}

extension Int {
    func roundedUp(to step: Int) -> Int { (self + step - 1) / step * step }

    var roundedUpToPowerOfTwo: Int {
        self <= 1 ? 1 : 1 << (Int.bitWidth - (self - 1).leadingZeroBitCount)
    }
}
