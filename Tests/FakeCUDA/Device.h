// Declarations that the stand-ins for the runtime, the driver and cuBLAS share. One lock protects all state. `call`
// takes this lock. The other functions must be called while it is held.
#pragma once
#include <cstddef>
#include <functional>

#pragma GCC visibility push(hidden)

namespace fake {

// The condition that must hold before a function can work.
enum class Needs {
    nothing,  // works even after the device is lost
    driver,   // cuInit must have been called before
    context,  // the thread must have a current context, which functions of the runtime make current
    runtime,  // initialises the driver if needed, and makes a context current for the thread
    setDevice,
    count,
    cublas,
};

// Runs `body` as the CUDA function `name`. Takes the lock, counts the call, and logs a failure. Fails without running
// `body` if FAKE_CUDA_FAIL says so, if the device is lost, or if `needs` is not met.
int call(const char *name, Needs needs, const std::function<int()> &body);

// Returns the host address for the `bytes` bytes at `device`. Null if they are not within one allocation.
void *hostAddress(const void *device, size_t bytes);

bool isDeviceAddress(const void *address);

// Enqueues work on the stream of a handle. Returns 400 (cudaErrorInvalidResourceHandle) if the handle is not valid.
int enqueue(void *stream, std::function<int()> work);

// Returns the version of the runtime in the format of cudaRuntimeGetVersion.
int runtimeVersion();

// Returns whether the device is lost, as after a fault in a kernel.
bool isLost();

}  // namespace fake

#pragma GCC visibility pop

#define FAKE_EXPORT extern "C" __attribute__((visibility("default")))
