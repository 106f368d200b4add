// The device's queues, and points in them.

import CCUDA

/// A queue of work on the device.
public final class CUDAStream {
    let stream: cuda_stream
    private let libraries: CUDALibraries

    init(_ libraries: CUDALibraries) throws(CUDAError) {
        self.libraries = libraries
        var stream: cuda_stream?
        // cudaStreamNonBlocking: independent of the default stream.
        try libraries.check(
            libraries.runtime.cudaStreamCreateWithFlags(&stream, 1), "cudaStreamCreateWithFlags")
        self.stream = stream!
    }

    deinit { _ = libraries.runtime.cudaStreamDestroy(stream) }

    /// Waits until all that was asked of it is done. Throws `CUDAError`, also for what failed on the way.
    public func synchronize() throws(CUDAError) {
        try libraries.check(
            libraries.runtime.cudaStreamSynchronize(stream), "cudaStreamSynchronize")
    }
}

/// A point that a stream passes.
public final class CUDAEvent {
    let event: cuda_event
    private let libraries: CUDALibraries

    init(_ libraries: CUDALibraries, isTimed: Bool) throws(CUDAError) {
        self.libraries = libraries
        var event: cuda_event?
        // cudaEventBlockingSync, so that waiting takes no core; cudaEventDisableTiming.
        try libraries.check(
            libraries.runtime.cudaEventCreateWithFlags(&event, isTimed ? 1 : 3),
            "cudaEventCreateWithFlags")
        self.event = event!
    }

    deinit { _ = libraries.runtime.cudaEventDestroy(event) }

    /// Waits until the stream has passed it. Throws `CUDAError`, also for what failed on the way.
    public func synchronize() throws(CUDAError) {
        try libraries.check(libraries.runtime.cudaEventSynchronize(event), "cudaEventSynchronize")
    }

    /// Seconds from `start` to this one, both timed and passed. Throws `CUDAError`.
    public func seconds(since start: CUDAEvent) throws(CUDAError) -> Double {
        var milliseconds: Float = 0
        try libraries.check(
            libraries.driver.cuEventElapsedTime(&milliseconds, start.event, event),
            "cuEventElapsedTime")
        return Double(milliseconds) / 1000
    }
}
