// Streams of the device, and events in them.

import CCUDA

/// A stream: a queue of work on the device.
package final class CUDAStream {
    let stream: cuda_stream
    private let libraries: CUDALibraries

    init(_ libraries: CUDALibraries) throws(CUDAError) {
        self.libraries = libraries
        var stream: cuda_stream?
        // 1 is cudaStreamNonBlocking: the stream does not wait for the default stream.
        try libraries.check(
            libraries.runtime.cudaStreamCreateWithFlags(&stream, 1), "cudaStreamCreateWithFlags")
        self.stream = stream!
    }

    deinit { _ = libraries.runtime.cudaStreamDestroy(stream) }

    /// Waits until the device has finished all work queued on the stream. Throws `CUDAError`, also if the queued work
    /// has failed.
    package func synchronize() throws(CUDAError) {
        try libraries.check(
            libraries.runtime.cudaStreamSynchronize(stream), "cudaStreamSynchronize")
    }
}

/// An event: a point in the work of a stream.
package final class CUDAEvent {
    let event: cuda_event
    private let libraries: CUDALibraries

    init(_ libraries: CUDALibraries, isTimed: Bool) throws(CUDAError) {
        self.libraries = libraries
        var event: cuda_event?
        // 1 is cudaEventBlockingSync: a waiting thread sleeps instead of occupying a core. 2 is
        // cudaEventDisableTiming.
        try libraries.check(
            libraries.runtime.cudaEventCreateWithFlags(&event, isTimed ? 1 : 3),
            "cudaEventCreateWithFlags")
        self.event = event!
    }

    deinit { _ = libraries.runtime.cudaEventDestroy(event) }

    /// Waits until the stream has reached the event. Throws `CUDAError`, also if earlier work of the stream has
    /// failed.
    package func synchronize() throws(CUDAError) {
        try libraries.check(libraries.runtime.cudaEventSynchronize(event), "cudaEventSynchronize")
    }

    /// Returns the seconds from `start` to this event. Both events must have been created with timing, and the stream
    /// must have reached both. Throws `CUDAError`.
    package func seconds(since start: CUDAEvent) throws(CUDAError) -> Double {
        var milliseconds: Float = 0
        try libraries.check(
            libraries.driver.cuEventElapsedTime(&milliseconds, start.event, event),
            "cuEventElapsedTime")
        return Double(milliseconds) / 1000
    }
}
