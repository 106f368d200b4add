// What the stand-ins for the runtime, the driver and cuBLAS share. One lock guards all of it; the functions below are
// called with it held.
#pragma once
#include <cstddef>
#include <functional>

#pragma GCC visibility push(hidden)

namespace fake {

// What a function needs before it can do anything.
enum class Needs {
    nothing,  // it answers even after a failure that ended everything
    driver,   // cuInit must have been called
    context,  // the thread must have a device's context, which the runtime gives it
    runtime,  // initialises by itself, and gives the thread its context
    setDevice,
    count,
    cublas,
};

// Runs `body` as the function `name`: takes the lock, counts the call, returns a failure that was asked for or that
// stands, and logs any.
int call(const char *name, Needs needs, const std::function<int()> &body);

// The host's address of the `bytes` bytes from a device address on; null unless they lie within one allocation.
void *hostAddress(const void *device, size_t bytes);

bool isDeviceAddress(const void *address);

// Work for a stream, given by its handle. 400 if there is no such stream.
int enqueue(void *stream, std::function<int()> work);

// As of cudaRuntimeGetVersion.
int runtimeVersion();

// True once a failure has ended everything, as after a fault in a kernel.
bool isLost();

}  // namespace fake

#pragma GCC visibility pop

#define FAKE_EXPORT extern "C" __attribute__((visibility("default")))
