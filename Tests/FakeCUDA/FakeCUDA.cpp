// A CPU stand-in for CUDA's runtime and driver, for tests. To find more mistakes, it is stricter than a device:
//
// - Device addresses are not valid on the host: an access on the host faults. Each allocation ends at a page that
//   faults. The initial content of an allocation is 0xff bytes.
// - Streams are lazy: work runs only when a call waits for it. So a missing wait shows every time.
// - The arguments of kernels, copies and fills are checked against the allocations.
//
// Environment variables choose what the stand-in simulates (defaults in parentheses). Each is read when it is needed.
//   FAKE_CUDA_DEVICES    number of devices (1)
//   FAKE_CUDA_MIG        number of MIG instances, instead of devices; a process sees only one of them
//   FAKE_CUDA_MEM        bytes of device memory per process (1 GiB)
//   FAKE_CUDA_CC         compute capability, times ten (90)
//   FAKE_CUDA_SHARED     maximum bytes of shared memory that a block can request (232448)
//   FAKE_CUDA_DRIVER     version that the driver supports (13000)
//   FAKE_CUDA_RUNTIME    version of the runtime and of cuBLAS (12090)
//   FAKE_CUDA_ORDER      order of threads and blocks: 0 ascending, 1 descending, others shuffled with this seed (0)
//   FAKE_CUDA_EAGER      1: work runs as soon as it is enqueued
//   FAKE_CUDA_INIT       the status with which cuInit fails
//   FAKE_CUDA_HANG       1: cuInit never returns
//   FAKE_CUDA_CRASH      1: cuInit aborts
//   FAKE_CUDA_FAIL       function:n:code, separated by commas: the n-th call of the function fails with code
//   FAKE_CUDA_FAIL_DEVICE  the four variables above apply only in processes whose first visible device is this one
//   FAKE_CUDA_LOG        a file to which each process appends a line, and a line for each call that fails
//   FAKE_CUBLAS_NOINIT   if set, cuBLAS cannot be initialised
// CUDA_VISIBLE_DEVICES works as with the real driver.
#include "Device.h"
#include "include/FakeCUDA.h"

#include "../../Sources/C/CCUDA/kernels.cu"

#include <deque>
#include <memory>
#include <mutex>
#include <sstream>

#include <fcntl.h>
#include <unistd.h>

namespace fake {
namespace {

// Status values. They are equal in cudaError_t and CUresult.
enum Status {
    success = 0,
    invalidValue = 1,
    outOfMemory = 2,
    notInitialised = 3,
    invalidCopyDirection = 21,
    insufficientDriver = 35,
    noDevice = 100,
    invalidDevice = 101,
    invalidImage = 200,
    invalidContext = 201,
    noBinaryForDevice = 209,
    unsupportedPTX = 222,
    invalidHandle = 400,
    notFound = 500,
    notReady = 600,
    illegalAddress = 700,
    launchFailed = 719,
};

struct ErrorName {
    int status;
    const char *driver, *runtime, *text;
};

const ErrorName errorNames[] = {
    {0, "CUDA_SUCCESS", "cudaSuccess", "no error"},
    {1, "CUDA_ERROR_INVALID_VALUE", "cudaErrorInvalidValue", "invalid argument"},
    {2, "CUDA_ERROR_OUT_OF_MEMORY", "cudaErrorMemoryAllocation", "out of memory"},
    {3, "CUDA_ERROR_NOT_INITIALIZED", "cudaErrorInitializationError", "initialization error"},
    {21, nullptr, "cudaErrorInvalidMemcpyDirection", "invalid copy direction for memcpy"},
    {34, "CUDA_ERROR_STUB_LIBRARY", "cudaErrorStubLibrary", "CUDA driver is a stub library"},
    {35, nullptr, "cudaErrorInsufficientDriver", "CUDA driver version is insufficient for CUDA runtime version"},
    {46, "CUDA_ERROR_DEVICE_UNAVAILABLE", "cudaErrorDevicesUnavailable",
     "CUDA-capable device(s) is/are busy or unavailable"},
    {100, "CUDA_ERROR_NO_DEVICE", "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {101, "CUDA_ERROR_INVALID_DEVICE", "cudaErrorInvalidDevice", "invalid device ordinal"},
    {200, "CUDA_ERROR_INVALID_IMAGE", "cudaErrorInvalidKernelImage", "device kernel image is invalid"},
    {201, "CUDA_ERROR_INVALID_CONTEXT", "cudaErrorDeviceUninitialized", "invalid device context"},
    {209, "CUDA_ERROR_NO_BINARY_FOR_GPU", "cudaErrorNoKernelImageForDevice",
     "no kernel image is available for execution on the device"},
    {214, "CUDA_ERROR_ECC_UNCORRECTABLE", "cudaErrorECCUncorrectable", "uncorrectable ECC error encountered"},
    {218, "CUDA_ERROR_INVALID_PTX", "cudaErrorInvalidPtx", "a PTX JIT compilation failed"},
    {221, "CUDA_ERROR_JIT_COMPILER_NOT_FOUND", "cudaErrorJitCompilerNotFound", "PTX JIT compiler library not found"},
    {222, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "cudaErrorUnsupportedPtxVersion",
     "the provided PTX was compiled with an unsupported toolchain."},
    {400, "CUDA_ERROR_INVALID_HANDLE", "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {500, "CUDA_ERROR_NOT_FOUND", "cudaErrorSymbolNotFound", "named symbol not found"},
    {600, "CUDA_ERROR_NOT_READY", "cudaErrorNotReady", "device not ready"},
    {700, "CUDA_ERROR_ILLEGAL_ADDRESS", "cudaErrorIllegalAddress", "an illegal memory access was encountered"},
    {701, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "cudaErrorLaunchOutOfResources",
     "too many resources requested for launch"},
    {702, "CUDA_ERROR_LAUNCH_TIMEOUT", "cudaErrorLaunchTimeout", "the launch timed out and was terminated"},
    {719, "CUDA_ERROR_LAUNCH_FAILED", "cudaErrorLaunchFailure", "unspecified launch failure"},
    {803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "cudaErrorSystemDriverMismatch",
     "system has unsupported display driver / cuda driver combination"},
    {804, "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE", "cudaErrorCompatNotSupportedOnDevice",
     "forward compatibility was attempted on non supported HW"},
    {999, "CUDA_ERROR_UNKNOWN", "cudaErrorUnknown", "unknown error"},
};

const ErrorName *nameOf(int status) {
    for (const ErrorName &name : errorNames) {
        if (name.status == status) return &name;
    }
    return nullptr;
}

// Returns whether the device is lost after `status`. Then every later call fails with the same status.
bool isFinal(int status) {
    return status == 214 || status == 220 || status == 700 || status == 702 || status == 710 ||
           (status >= 714 && status <= 719) || status == 999;
}

// State ---------------------------------------------------------------------------------------------------------------

struct Stream;
using StreamRef = std::shared_ptr<Stream>;

// A place in a stream. It comes after all work that was enqueued in the stream when the place was taken.
struct Place {
    StreamRef stream;
    uint64_t serial = 0;
};

struct Work {
    std::vector<Place> after;  // work of other streams that must run first
    std::function<int()> run;
};

struct Stream {
    bool isBlocking = true;  // this stream and the default stream wait for each other
    uint64_t enqueued = 0, done = 0;
    std::deque<Work> waiting;
};

struct Event {
    bool hasTime = true;
    Place place;
};

struct Module {
    // The sizes of each entry's parameters, as declared in PTX.
    std::map<std::string, std::vector<size_t>> entries;
};

struct Function {
    void *module;
    emulator::Kernel *kernel;
    size_t sharedLimit = 48 << 10;
};

struct Allocation {
    size_t bytes;
    char *mapping;  // the first page
    size_t mapped;  // mapped bytes, the page that faults included
};

struct Token {
    int index;
    std::string uuid;
};

// The state is never destroyed, because other threads may use it when the process exits.
struct State {
    std::recursive_mutex lock;
    bool isInitialised = false, isLogged = false;
    int lost = success;
    std::map<std::string, long> calls;
    std::map<uintptr_t, Allocation> allocations, pinned;
    size_t used = 0;
    StreamRef defaultStream = std::make_shared<Stream>();
    std::map<uintptr_t, StreamRef> streams;
    std::vector<StreamRef> destroyedStreams;  // destroyed while work remained; the work still runs
    std::map<uintptr_t, std::shared_ptr<Event>> events;
    std::map<uintptr_t, Module> modules;
    std::map<uintptr_t, Function> functions;
    uintptr_t lastHandle = 0;
};
State &state = *new State;

// Whether this thread has a current context. The driver's launches need one. Calls of the runtime make one current.
thread_local bool hasContext = false;

const uintptr_t deviceTag = uintptr_t(1) << 62;

// Returns a new handle. A handle is never reused and is not a valid address.
template <class Handle>
Handle newHandle() {
    return reinterpret_cast<Handle>(deviceTag | uintptr_t(1) << 61 | ++state.lastHandle << 4);
}

uintptr_t key(const void *handle) { return reinterpret_cast<uintptr_t>(handle); }

long long setting(const char *name, long long otherwise) {
    const char *text = getenv(name);
    return text && *text ? atoll(text) : otherwise;
}

size_t memorySize() { return (size_t)setting("FAKE_CUDA_MEM", 1 << 30); }

void log(const std::string &line) {
    const char *path = getenv("FAKE_CUDA_LOG");
    if (!path) return;
    int file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (file < 0) return;
    std::string text = "pid " + std::to_string(getpid()) + " " + line + "\n";
    if (write(file, text.data(), text.size()) < 0) perror("fake CUDA: log");
    close(file);
}

// Devices -------------------------------------------------------------------------------------------------------------

bool hasMIG() { return setting("FAKE_CUDA_MIG", 0) > 0; }

std::string uuid(int index) {
    char text[64];
    snprintf(text, sizeof text, "%s-%08x-0000-0000-0000-000000000000", hasMIG() ? "MIG" : "GPU", 0xfa0000 + index);
    return text;
}

// Returns the number of the device that `token` of CUDA_VISIBLE_DEVICES names. Negative if the token is not valid. A
// token is an index, "GPU-" with the unique beginning of a UUID, or "MIG-" with a UUID.
int deviceOf(const std::string &token, int count) {
    if (token.empty()) return -1;
    if (token.find_first_not_of("0123456789") == std::string::npos) {
        long index = atol(token.c_str());
        // An index names a device. With MIG, the process gets the first instance of this device.
        if (hasMIG()) return index < setting("FAKE_CUDA_DEVICES", 1) ? 0 : -1;
        return index < count ? (int)index : -1;
    }
    int found = -1;
    for (int i = 0; i < count; i++) {
        std::string whole = uuid(i);
        bool isThis = hasMIG() ? token == whole : token.size() > 4 && whole.compare(0, token.size(), token) == 0;
        if (!isThis) continue;
        if (found >= 0) return -1;
        found = i;
    }
    return found;
}

std::vector<int> listVisibleDevices() {
    int count = (int)setting(hasMIG() ? "FAKE_CUDA_MIG" : "FAKE_CUDA_DEVICES", 1);
    std::vector<int> visible;
    if (const char *list = getenv("CUDA_VISIBLE_DEVICES")) {
        std::stringstream tokens(list);
        std::string token;
        while (std::getline(tokens, token, ',')) {
            token.erase(0, token.find_first_not_of(' '));
            token.erase(token.find_last_not_of(' ') + 1);
            int device = deviceOf(token, count);
            // The list ends at a token that names no device or an earlier device.
            if (device < 0 || std::find(visible.begin(), visible.end(), device) != visible.end()) break;
            visible.push_back(device);
        }
    } else {
        for (int i = 0; i < count; i++) visible.push_back(i);
    }
    if (hasMIG() && visible.size() > 1) visible.resize(1);
    return visible;
}

const std::vector<int> &visibleDevices() {
    static auto &visible = *new std::vector<int>(listVisibleDevices());
    return visible;
}

bool isVisible(int device) { return device >= 0 && device < (int)visibleDevices().size(); }

// Failures that are asked for -----------------------------------------------------------------------------------------

bool failuresHoldHere() {
    const char *device = getenv("FAKE_CUDA_FAIL_DEVICE");
    if (!device || !*device) return true;
    return !visibleDevices().empty() && visibleDevices()[0] == atoi(device);
}

// Returns the status with which the n-th call of `function` must fail; success if it must not fail.
int plannedFailure(const std::string &function, long n) {
    const char *plan = getenv("FAKE_CUDA_FAIL");
    if (!plan || !failuresHoldHere()) return success;
    std::stringstream entries(plan);
    std::string entry;
    while (std::getline(entries, entry, ',')) {
        size_t first = entry.find(':'), second = entry.find(':', first + 1);
        if (first == std::string::npos || second == std::string::npos) continue;
        if (entry.compare(0, first, function) == 0 && atol(entry.c_str() + first + 1) == n) {
            return atoi(entry.c_str() + second + 1);
        }
    }
    return success;
}

int initialise() {
    if (state.isInitialised) return success;
    if (!state.isLogged) {
        state.isLogged = true;
        std::string line = "devices";
        for (int device : visibleDevices()) line += " " + std::to_string(device);
        log(line);
    }
    if (failuresHoldHere()) {
        if (setting("FAKE_CUDA_HANG", 0)) {
            while (true) pause();
        }
        if (setting("FAKE_CUDA_CRASH", 0)) abort();
        if (int status = (int)setting("FAKE_CUDA_INIT", 0)) return status;
    }
    if (visibleDevices().empty()) return noDevice;
    state.isInitialised = true;
    return success;
}

int meet(Needs needs) {
    switch (needs) {
    case Needs::nothing: return success;
    case Needs::driver:
    case Needs::context:
        if (!state.isInitialised) return notInitialised;
        if (needs == Needs::context && !hasContext) {
            fprintf(stderr, "fake CUDA: this thread has no context; a call of the runtime would have given it one\n");
            return invalidContext;
        }
        return success;
    default: break;
    }
    long long runtime = runtimeVersion(), driver = setting("FAKE_CUDA_DRIVER", 13000);
    if (needs != Needs::cublas && runtime / 1000 > driver / 1000) return insufficientDriver;
    if (int status = initialise()) return status;
    // Before CUDA 12, cudaSetDevice did not make a context current.
    if (needs != Needs::count && (needs != Needs::setDevice || runtime >= 12000)) hasContext = true;
    return success;
}

// Streams -------------------------------------------------------------------------------------------------------------

int runUpTo(const Place &place) {
    Stream &stream = *place.stream;
    while (stream.done < place.serial && !stream.waiting.empty()) {
        Work work = std::move(stream.waiting.front());
        stream.waiting.pop_front();
        int status = success;
        for (const Place &before : work.after) runUpTo(before);
        // After the device is lost, no more work runs.
        if (!state.lost) status = work.run();
        stream.done++;
        if (status && !state.lost) {
            state.lost = status;
            log("failed " + std::to_string(status));
        }
    }
    return state.lost;
}

Place endOf(const StreamRef &stream) { return {stream, stream->enqueued}; }

int runAll() {
    runUpTo(endOf(state.defaultStream));
    for (const auto &[handle, stream] : state.streams) runUpTo(endOf(stream));
    for (const StreamRef &stream : state.destroyedStreams) runUpTo(endOf(stream));
    state.destroyedStreams.clear();
    return state.lost;
}

// Returns the stream of a handle; null if the handle is not valid. Handles 0 and 1 both mean the default stream.
StreamRef streamOf(const void *handle) {
    if (key(handle) <= 1) return state.defaultStream;
    auto found = state.streams.find(key(handle));
    return found == state.streams.end() ? nullptr : found->second;
}

int enqueue(const StreamRef &stream, std::function<int()> run) {
    Work work;
    work.run = std::move(run);
    if (stream == state.defaultStream) {
        for (const auto &[handle, other] : state.streams) {
            if (other->isBlocking && other->done < other->enqueued) work.after.push_back(endOf(other));
        }
        for (const StreamRef &other : state.destroyedStreams) {
            if (other->isBlocking) work.after.push_back(endOf(other));
        }
    } else if (stream->isBlocking && state.defaultStream->done < state.defaultStream->enqueued) {
        work.after.push_back(endOf(state.defaultStream));
    }
    stream->waiting.push_back(std::move(work));
    stream->enqueued++;
    return setting("FAKE_CUDA_EAGER", 0) ? runUpTo(endOf(stream)) : success;
}

// Memory --------------------------------------------------------------------------------------------------------------

const size_t page = 4096;

size_t roundedUp(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

// A file of 0xff bytes. Allocations map this file, so that a large allocation takes memory only where it is written.
const size_t poisonBytes = 4 << 20;
int poisonFile() {
    static int file = [] {
        int file = memfd_create("fake-cuda", MFD_CLOEXEC);
        std::vector<char> poison(poisonBytes, (char)0xff);
        size_t written = 0;
        while (file >= 0 && written < poisonBytes) {
            ssize_t count = write(file, poison.data() + written, poisonBytes - written);
            if (count <= 0) return -1;
            written += (size_t)count;
        }
        return file;
    }();
    return file;
}

// Maps `bytes` bytes of 0xff, followed by a page that faults. `bytes` is a multiple of the page size. Returns null if
// memory is short.
char *mapPoisoned(size_t bytes) {
    const int access = PROT_READ | PROT_WRITE, kind = MAP_PRIVATE | MAP_NORESERVE;
    void *mapping = mmap(nullptr, bytes + page, access, kind | MAP_ANONYMOUS, -1, 0);
    if (mapping == MAP_FAILED) return nullptr;
    char *start = static_cast<char *>(mapping);
    size_t done = 0;
    for (; bytes - done >= poisonBytes && poisonFile() >= 0; done += poisonBytes) {
        if (mmap(start + done, poisonBytes, access, kind | MAP_FIXED, poisonFile(), 0) == MAP_FAILED) {
            munmap(start, bytes + page);
            return nullptr;
        }
    }
    memset(start + done, 0xff, bytes - done);
    mprotect(start + bytes, page, PROT_NONE);
    return start;
}

// Returns the allocation that contains the `bytes` bytes at `address`. If `bytes` is 0, `address` may be the end of
// the allocation.
const std::pair<const uintptr_t, Allocation> *find(const std::map<uintptr_t, Allocation> &all, uintptr_t address,
                                                   size_t bytes) {
    auto after = all.upper_bound(address);
    if (after == all.begin()) return nullptr;
    const auto &candidate = *std::prev(after);
    size_t offset = address - candidate.first;
    return offset <= candidate.second.bytes && bytes <= candidate.second.bytes - offset ? &candidate : nullptr;
}

bool isPinned(const void *host, size_t bytes) { return find(state.pinned, key(host), bytes) != nullptr; }

// Returns the host address for a pointer argument of a kernel. The pointer may be the end of an allocation, as for an
// empty tensor.
void *translate(const void *address) {
    void *host = hostAddress(address, 0);
    if (!host) fprintf(stderr, "fake CUDA: a kernel's argument %p is not a device address\n", address);
    return host;
}

// Returns whether the padding of an allocation is unchanged. The padding makes the size a multiple of 256 bytes, and
// nothing may write to it.
bool isTailUntouched(uintptr_t device, const Allocation &allocation) {
    const char *start = reinterpret_cast<const char *>(device & ~deviceTag);
    for (const char *at = start + allocation.bytes; at < allocation.mapping + allocation.mapped - page; at++) {
        if (*at != (char)0xff) return false;
    }
    return true;
}

// PTX -----------------------------------------------------------------------------------------------------------------

// Returns the PTX version that came with the CUDA version `cuda`, times ten.
int ptxVersion(long long cuda) {
    int major = (int)(cuda / 1000), minor = (int)(cuda % 1000 / 10);
    if (major >= 13) return 10 * (major - 4) + minor;
    if (major == 12) return 80 + (minor <= 5 ? minor : minor - 1);
    if (major == 11) return 70 + minor;
    return 63 + minor;
}

// Reads the numbers after the directive `name`, such as 7 and 8 in ".version 7.8". The directive must begin a line.
// Returns false if the text does not have it.
bool readDirective(const std::string &text, const char *name, const char *format, int *first, int *second) {
    size_t length = strlen(name);
    for (size_t at = 0; (at = text.find(name, at)) != std::string::npos; at += length) {
        if (at > 0 && text[at - 1] != '\n') continue;
        return sscanf(text.c_str() + at + length, format, first, second) >= 1;
    }
    return false;
}

// Returns the sizes, in bytes, of the parameters between `at` and the closing bracket. Examples of parameters:
// ".param .u64 name" and ".param .align 8 .b8 name[16]".
std::vector<size_t> readParameters(const std::string &text, size_t at) {
    std::vector<size_t> sizes;
    size_t end = text.find(')', at);
    std::stringstream parameters(text.substr(at, end == std::string::npos ? end : end - at));
    std::string parameter;
    while (std::getline(parameters, parameter, ',')) {
        std::stringstream words(parameter);
        std::string word;
        size_t bytes = 0, elements = 1;
        while (words >> word) {
            if (word.size() > 2 && word[0] == '.' && strchr("busf", word[1]) && isdigit(word[2])) {
                bytes = (size_t)atol(word.c_str() + 2) / 8;
            } else if (size_t bracket = word.find('['); bracket != std::string::npos) {
                elements = (size_t)atol(word.c_str() + bracket + 1);
            }
        }
        if (bytes) sizes.push_back(bytes * elements);
    }
    return sizes;
}

void readEntries(const std::string &text, Module &module) {
    const std::string mark = ".visible .entry ";
    for (size_t at = 0; (at = text.find(mark, at)) != std::string::npos;) {
        at += mark.size();
        size_t end = text.find_first_of("( \t\n", at), bracket = text.find('(', at);
        if (end == std::string::npos || bracket == std::string::npos) return;
        module.entries[text.substr(at, end - at)] = readParameters(text, bracket + 1);
    }
}

void writeErrorLog(const std::string &message, unsigned count, const int *options, void **values) {
    char *buffer = nullptr;
    size_t size = 0;
    for (unsigned i = 0; i < count; i++) {
        if (options[i] == 5) buffer = static_cast<char *>(values[i]);
        if (options[i] == 6) size = (unsigned)key(values[i]);
    }
    if (buffer && size) snprintf(buffer, size, "%s", message.c_str());
}

}  // namespace

// Shared with cuBLAS' stand-in ----------------------------------------------------------------------------------------

int call(const char *name, Needs needs, const std::function<int()> &body) {
    std::lock_guard guard(state.lock);
    int status = plannedFailure(name, ++state.calls[name]);
    if (status) {
        if (needs != Needs::cublas && isFinal(status) && !state.lost) state.lost = status;
    } else {
        // cuBLAS has its own status codes, so its functions choose the code for a lost device themselves.
        if (needs != Needs::nothing && needs != Needs::cublas) status = state.lost;
        if (!status) status = meet(needs);
        if (status && needs == Needs::cublas) status = 1;
        if (!status) status = body();
    }
    if (status) log(std::string(name) + " " + std::to_string(status));
    return status;
}

bool isDeviceAddress(const void *address) { return key(address) & deviceTag; }

void *hostAddress(const void *device, size_t bytes) {
    if (!find(state.allocations, key(device), bytes)) return nullptr;
    return reinterpret_cast<void *>(key(device) & ~deviceTag);
}

int enqueue(void *handle, std::function<int()> work) {
    StreamRef stream = streamOf(handle);
    return stream ? enqueue(stream, std::move(work)) : invalidHandle;
}

int runtimeVersion() { return (int)setting("FAKE_CUDA_RUNTIME", 12090); }

bool isLost() { return state.lost != success; }

}  // namespace fake

using namespace fake;

// The runtime ---------------------------------------------------------------------------------------------------------

FAKE_EXPORT int cudaRuntimeGetVersion(int *version) {
    return call(__func__, Needs::nothing, [=] {
        *version = runtimeVersion();
        return success;
    });
}

FAKE_EXPORT int cudaGetDeviceCount(int *count) {
    *count = 0;
    return call(__func__, Needs::count, [=] {
        *count = (int)visibleDevices().size();
        return success;
    });
}

FAKE_EXPORT int cudaSetDevice(int device) {
    return call(__func__, Needs::setDevice, [=] { return isVisible(device) ? success : invalidDevice; });
}

FAKE_EXPORT int cudaMalloc(void **pointer, size_t bytes) {
    return call(__func__, Needs::runtime, [=] {
        *pointer = nullptr;
        if (bytes == 0) return success;
        if (bytes > memorySize() || state.used > memorySize() - bytes) return outOfMemory;
        // The allocation ends at the end of its pages, so that an access beyond it faults.
        size_t taken = roundedUp(bytes, 256), mapped = roundedUp(taken, page);
        char *mapping = mapPoisoned(mapped);
        if (!mapping) return outOfMemory;
        uintptr_t device = key(mapping + mapped - taken) | deviceTag;
        state.allocations[device] = {bytes, mapping, mapped + page};
        state.used += bytes;
        *pointer = reinterpret_cast<void *>(device);
        return success;
    });
}

// Waits for all work, as the real cudaFree does.
FAKE_EXPORT int cudaFree(void *pointer) {
    return call(__func__, Needs::runtime, [=]() -> int {
        if (!pointer) return success;
        auto found = state.allocations.find(key(pointer));
        if (found == state.allocations.end()) return invalidValue;
        if (int status = runAll()) return status;
        auto [device, allocation] = *found;
        if (!isTailUntouched(device, allocation)) {
            fprintf(stderr, "fake CUDA: something wrote beyond an allocation of %zu bytes\n", allocation.bytes);
            return state.lost = illegalAddress;
        }
        munmap(allocation.mapping, allocation.mapped);
        state.used -= allocation.bytes;
        state.allocations.erase(found);
        return success;
    });
}

FAKE_EXPORT int cudaMemGetInfo(size_t *free, size_t *total) {
    return call(__func__, Needs::runtime, [=] {
        *total = memorySize();
        *free = *total > state.used ? *total - state.used : 0;
        return success;
    });
}

FAKE_EXPORT int cudaHostAlloc(void **pointer, size_t bytes, unsigned) {
    return call(__func__, Needs::runtime, [=] {
        *pointer = nullptr;
        if (bytes == 0) return success;
        size_t mapped = roundedUp(bytes, page);
        char *mapping = mapPoisoned(mapped);
        if (!mapping) return outOfMemory;
        state.pinned[key(mapping)] = {bytes, mapping, mapped + page};
        *pointer = mapping;
        return success;
    });
}

FAKE_EXPORT int cudaFreeHost(void *pointer) {
    return call(__func__, Needs::runtime, [=]() -> int {
        if (!pointer) return success;
        auto found = state.pinned.find(key(pointer));
        if (found == state.pinned.end()) return invalidValue;
        int status = runAll();
        munmap(found->second.mapping, found->second.mapped);
        state.pinned.erase(found);
        return status;
    });
}

FAKE_EXPORT int cudaMemcpyAsync(void *to, const void *from, size_t bytes, int kind, void *handle) {
    return call(__func__, Needs::runtime, [=]() -> int {
        if (kind < 1 || kind > 3) return invalidCopyDirection;
        StreamRef stream = streamOf(handle);
        if (!stream) return invalidHandle;
        if (bytes == 0) return success;
        bool isToDevice = kind != 2, isFromDevice = kind != 1;
        void *target = isToDevice ? hostAddress(to, bytes) : isDeviceAddress(to) ? nullptr : to;
        const void *source = isFromDevice ? hostAddress(from, bytes) : isDeviceAddress(from) ? nullptr : from;
        if (!target || !source) {
            fprintf(stderr, "fake CUDA: a copy of %zu bytes leaves its allocation\n", bytes);
            return invalidValue;
        }
        auto copy = [=] {
            memmove(target, source, bytes);
            return success;
        };
        // If the host memory is not pinned, a copy from it reads the bytes before the call returns. A copy to it has
        // finished when the call returns. CUDA does the same.
        if (!isFromDevice && !isPinned(from, bytes)) {
            auto taken = std::make_shared<std::vector<char>>((const char *)source, (const char *)source + bytes);
            return enqueue(stream, [=] {
                memcpy(target, taken->data(), bytes);
                return success;
            });
        }
        int status = enqueue(stream, copy);
        return status || isToDevice || isPinned(to, bytes) ? status : runUpTo(endOf(stream));
    });
}

FAKE_EXPORT int cudaMemsetAsync(void *pointer, int value, size_t bytes, void *handle) {
    return call(__func__, Needs::runtime, [=]() -> int {
        StreamRef stream = streamOf(handle);
        if (!stream) return invalidHandle;
        if (bytes == 0) return success;
        void *target = hostAddress(pointer, bytes);
        if (!target) return invalidValue;
        return enqueue(stream, [=] {
            memset(target, value, bytes);
            return success;
        });
    });
}

FAKE_EXPORT int cudaStreamCreateWithFlags(void **handle, unsigned flags) {
    return call(__func__, Needs::runtime, [=] {
        if (flags > 1) return invalidValue;
        auto stream = std::make_shared<Stream>();
        stream->isBlocking = flags == 0;
        *handle = newHandle<void *>();
        state.streams[key(*handle)] = stream;
        return success;
    });
}

FAKE_EXPORT int cudaStreamSynchronize(void *handle) {
    return call(__func__, Needs::runtime, [=]() -> int {
        StreamRef stream = streamOf(handle);
        return stream ? runUpTo(endOf(stream)) : invalidHandle;
    });
}

// Does not wait for the stream's remaining work, which runs later.
FAKE_EXPORT int cudaStreamDestroy(void *handle) {
    return call(__func__, Needs::runtime, [=] {
        auto found = state.streams.find(key(handle));
        if (found == state.streams.end()) return invalidHandle;
        if (!found->second->waiting.empty()) state.destroyedStreams.push_back(found->second);
        state.streams.erase(found);
        return success;
    });
}

FAKE_EXPORT int cudaStreamWaitEvent(void *handle, void *event, unsigned) {
    return call(__func__, Needs::runtime, [=]() -> int {
        StreamRef stream = streamOf(handle);
        auto found = state.events.find(key(event));
        if (!stream || found == state.events.end()) return invalidHandle;
        Place place = found->second->place;
        if (!place.stream) return success;
        return enqueue(stream, [=] { return runUpTo(place); });
    });
}

FAKE_EXPORT int cudaEventCreateWithFlags(void **handle, unsigned flags) {
    return call(__func__, Needs::runtime, [=] {
        auto event = std::make_shared<Event>();
        event->hasTime = !(flags & 2);
        *handle = newHandle<void *>();
        state.events[key(*handle)] = event;
        return success;
    });
}

FAKE_EXPORT int cudaEventRecord(void *event, void *handle) {
    return call(__func__, Needs::runtime, [=] {
        StreamRef stream = streamOf(handle);
        auto found = state.events.find(key(event));
        if (!stream || found == state.events.end()) return invalidHandle;
        found->second->place = endOf(stream);
        return success;
    });
}

FAKE_EXPORT int cudaEventSynchronize(void *event) {
    return call(__func__, Needs::runtime, [=]() -> int {
        auto found = state.events.find(key(event));
        if (found == state.events.end()) return invalidHandle;
        Place place = found->second->place;
        return place.stream ? runUpTo(place) : success;
    });
}

FAKE_EXPORT int cudaEventDestroy(void *event) {
    return call(__func__, Needs::runtime, [=] { return state.events.erase(key(event)) ? success : invalidHandle; });
}

FAKE_EXPORT const char *cudaGetErrorName(int error) {
    const ErrorName *name = nameOf(error);
    return name ? name->runtime : "unrecognized error code";
}

FAKE_EXPORT const char *cudaGetErrorString(int error) {
    const ErrorName *name = nameOf(error);
    return name ? name->text : "unrecognized error code";
}

// The driver ----------------------------------------------------------------------------------------------------------

FAKE_EXPORT int cuInit(unsigned) {
    return call(__func__, Needs::nothing, [=] { return initialise(); });
}

FAKE_EXPORT int cuDriverGetVersion(int *version) {
    return call(__func__, Needs::nothing, [=] {
        *version = (int)setting("FAKE_CUDA_DRIVER", 13000);
        return success;
    });
}

FAKE_EXPORT int cuDeviceGetCount(int *count) {
    return call(__func__, Needs::driver, [=] {
        *count = (int)visibleDevices().size();
        return success;
    });
}

FAKE_EXPORT int cuDeviceGet(int *device, int ordinal) {
    return call(__func__, Needs::driver, [=] {
        *device = ordinal;
        return isVisible(ordinal) ? success : invalidDevice;
    });
}

FAKE_EXPORT int cuDeviceGetName(char *name, int length, int device) {
    return call(__func__, Needs::driver, [=] {
        if (!isVisible(device)) return invalidDevice;
        if (length <= 0) return invalidValue;
        int index = visibleDevices()[(size_t)device];
        snprintf(name, (size_t)length, hasMIG() ? "Fake GPU 0 MIG %d" : "Fake GPU %d", index);
        return success;
    });
}

// Writes the 16 bytes of the UUID that uuid() formats.
FAKE_EXPORT int cuDeviceGetUuid_v2(unsigned char *bytes, int device) {
    return call(__func__, Needs::driver, [=] {
        if (!isVisible(device)) return invalidDevice;
        unsigned number = 0xfa0000u + (unsigned)visibleDevices()[(size_t)device];
        memset(bytes, 0, 16);
        for (int i = 0; i < 4; i++) bytes[i] = (unsigned char)(number >> (24 - 8 * i));
        return success;
    });
}

FAKE_EXPORT int cuDeviceTotalMem_v2(size_t *bytes, int device) {
    return call(__func__, Needs::driver, [=] {
        *bytes = memorySize();
        return isVisible(device) ? success : invalidDevice;
    });
}

namespace {

int attribute(int number) {
    switch (number) {
    case 16: return 4;  // multiprocessors
    case 75: return (int)setting("FAKE_CUDA_CC", 90) / 10;
    case 76: return (int)setting("FAKE_CUDA_CC", 90) % 10;
    case 97: return (int)setting("FAKE_CUDA_SHARED", 232448);
    default: return 0;
    }
}

}  // namespace

FAKE_EXPORT int cuDeviceGetAttribute(int *value, int number, int device) {
    return call(__func__, Needs::driver, [=] {
        *value = attribute(number);
        return isVisible(device) ? success : invalidDevice;
    });
}

FAKE_EXPORT int cuModuleLoadDataEx(void **handle, const void *image, unsigned count, int *options, void **values) {
    return call(__func__, Needs::context, [=] {
        std::string text(static_cast<const char *>(image));
        int major = 0, minor = 0, target = 0;
        if (!readDirective(text, ".version", " %d.%d", &major, &minor)) return invalidImage;
        int known = ptxVersion(setting("FAKE_CUDA_DRIVER", 13000));
        if (10 * major + minor > known) {
            char message[160];
            snprintf(message, sizeof message,
                     "ptxas application ptx input, line 1; fatal   : "
                     "Unsupported .version %d.%d; current version is '%d.%d'",
                     major, minor, known / 10, known % 10);
            writeErrorLog(message, count, options, values);
            return unsupportedPTX;
        }
        if (!readDirective(text, ".target", " sm_%d", &target, nullptr)) return invalidImage;
        if (target > setting("FAKE_CUDA_CC", 90)) return noBinaryForDevice;
        *handle = newHandle<void *>();
        readEntries(text, state.modules[key(*handle)]);
        return success;
    });
}

FAKE_EXPORT int cuModuleUnload(void *module) {
    return call(__func__, Needs::context, [=] {
        if (!state.modules.erase(key(module))) return invalidHandle;
        std::erase_if(state.functions, [=](const auto &function) { return function.second.module == module; });
        return success;
    });
}

FAKE_EXPORT int cuModuleGetFunction(void **handle, void *module, const char *name) {
    return call(__func__, Needs::context, [=] {
        auto found = state.modules.find(key(module));
        if (found == state.modules.end()) return invalidHandle;
        auto entry = found->second.entries.find(name);
        auto kernel = emulator::kernels().find(name);
        if (entry == found->second.entries.end() || kernel == emulator::kernels().end()) return notFound;
        if (entry->second != kernel->second.parameterBytes) {
            fprintf(stderr, "fake CUDA: %s takes other parameters in PTX than in its source: stale PTX?\n", name);
            return notFound;
        }
        *handle = newHandle<void *>();
        state.functions[key(*handle)] = {module, &kernel->second};
        return success;
    });
}

FAKE_EXPORT int cuFuncSetAttribute(void *function, int number, int value) {
    return call(__func__, Needs::context, [=] {
        auto found = state.functions.find(key(function));
        if (found == state.functions.end()) return invalidHandle;
        if (number != 8) return success;
        if (value < 0 || value > attribute(97)) return invalidValue;
        found->second.sharedLimit = std::max<size_t>(48 << 10, (size_t)value);
        return success;
    });
}

FAKE_EXPORT int cuLaunchKernel(void *function, unsigned gridX, unsigned gridY, unsigned gridZ, unsigned blockX,
                               unsigned blockY, unsigned blockZ, unsigned sharedBytes, void *handle, void **arguments,
                               void **extra) {
    return call(__func__, Needs::context, [=]() -> int {
        auto found = state.functions.find(key(function));
        StreamRef stream = streamOf(handle);
        if (found == state.functions.end() || !stream) return invalidHandle;
        const emulator::Kernel &kernel = *found->second.kernel;
        bool isGrid = gridX && gridY && gridZ && gridX <= 0x7fffffff && gridY <= 65535 && gridZ <= 65535;
        bool isBlock = blockX && blockY && blockZ && blockX <= 1024 && blockY <= 1024 && blockZ <= 64 &&
                       blockX * blockY * blockZ <= 1024;
        if (!isGrid || !isBlock || sharedBytes > found->second.sharedLimit || extra ||
            (!arguments && !kernel.parameterBytes.empty())) {
            return invalidValue;
        }
        emulator::translation = translate;
        // The arguments are read now, as the driver does. Invalid arguments make the kernel fail when it runs.
        emulator::Launch launch = kernel.prepare(arguments);
        return enqueue(stream, [=]() -> int {
            if (!launch.valid) return illegalAddress;
            dim3 grid{gridX, gridY, gridZ}, block{blockX, blockY, blockZ};
            return launch.run(grid, block, sharedBytes) ? success : launchFailed;
        });
    });
}

FAKE_EXPORT int cuEventElapsedTime(float *milliseconds, void *start, void *end) {
    return call(__func__, Needs::context, [=] {
        for (void *handle : {start, end}) {
            auto found = state.events.find(key(handle));
            if (found == state.events.end()) return invalidHandle;
            const Event &event = *found->second;
            if (!event.hasTime || !event.place.stream) return invalidHandle;
            if (event.place.stream->done < event.place.serial) return notReady;
        }
        *milliseconds = 0;
        return success;
    });
}

FAKE_EXPORT int cuGetErrorName(int error, const char **name) {
    const ErrorName *known = nameOf(error);
    *name = known ? known->driver : nullptr;
    return *name ? success : invalidValue;
}

FAKE_EXPORT int cuGetErrorString(int error, const char **text) {
    const ErrorName *known = nameOf(error);
    *text = known && known->driver ? known->text : nullptr;
    return *text ? success : invalidValue;
}

FAKE_EXPORT void fake_cuda_set_order(long order) {
    std::lock_guard guard(state.lock);
    emulator::chosenOrder = order;
}

// Loading and unloading -----------------------------------------------------------------------------------------------

namespace {

#define ADD_KERNEL(name) emulator::add(#name, name);
__attribute__((constructor)) void addKernels() {
    ADD_KERNEL(embed_rows)
    ADD_KERNEL(split_weights)
    ADD_KERNEL(split_rows)
    ADD_KERNEL(rms_norm)
    ADD_KERNEL(add_rms_norm)
    ADD_KERNEL(add)
    ADD_KERNEL(rotate)
    ADD_KERNEL(attention)
    ADD_KERNEL(attention_256)
    ADD_KERNEL(geglu)
    ADD_KERNEL(reduce_logits)
    ADD_KERNEL(finish_predictions)
    ADD_KERNEL(jump_relu)
    ADD_KERNEL(first_non_finite_row)
}

// A process that ends with _exit does not call this function.
__attribute__((destructor)) void logWhatIsLeft() {
    if (!state.isLogged) return;
    log("left " + std::to_string(state.used) + " bytes, " + std::to_string(state.pinned.size()) + " pinned, " +
        std::to_string(state.streams.size()) + " streams, " + std::to_string(state.events.size()) + " events");
}

}  // namespace
