// Runs GPU kernels on the host. Sources/C/CCUDA/prelude.h includes this file when the compiler is not NVRTC.
//
// All GPU threads of a block run on one host thread, and each has its own stack. A GPU thread runs until it waits: at
// a barrier, or at an exchange between the lanes of its warp. Then the first GPU thread that can run continues.
//
// The order of GPU threads can be chosen (`order`), because a kernel that lacks a barrier gives different results in
// different orders. At the start of every block, shared memory is filled with 0xff bytes (NaN for floats). A launch
// fails if all remaining threads of a block wait, or if threads wait at different barriers.
#pragma once
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <numeric>
#include <random>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <sys/mman.h>

#ifndef __x86_64__
#error "The switch between stacks is written for x86-64."
#endif

#define EMULATOR_INLINE __attribute__((always_inline)) inline

// The symbols of this file are not part of the library's interface. Hidden symbols are also accessed faster.
#pragma GCC visibility push(hidden)

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};

// threadIdx, blockIdx, blockDim and gridDim of the running thread.
inline dim3 threadIdx, blockIdx, blockDim, gridDim;
constexpr int warpSize = 32;

namespace emulator {

constexpr unsigned threadLimit = 1024;

// Stacks --------------------------------------------------------------------------------------------------------------

// Switches from the running stack to the stack `to`, and continues where `to` was left. Stores the top of the old
// stack in `*from`. This is assembly because swapcontext makes a system call each time.
//
// The assembly clobbers all registers but one, so the compiler saves only the values that it still needs. The
// function is inlined, so each place in a kernel has its own jump. The processor predicts this jump well, because it
// nearly always has the same target.
EMULATOR_INLINE void switchStack(void **from, void *to) {
    asm volatile(
        "leaq -128(%%rsp), %%rsp\n\t"  // the red zone: a leaf function may use 128 bytes below the stack pointer
        "pushq %%rbp\n\t"
        "leaq 1f(%%rip), %%rax\n\t"
        "pushq %%rax\n\t"
        "movq %%rsp, (%%rdi)\n\t"
        "movq %%rsi, %%rsp\n\t"
        "popq %%rax\n\t"
        "jmpq *%%rax\n"
        "1:\n\t"
        "popq %%rbp\n\t"
        "leaq 128(%%rsp), %%rsp"
        : "+D"(from), "+S"(to)
        :
        : "rax", "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "xmm0", "xmm1", "xmm2",
          "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15",
          "memory", "cc");
}

void runThreads();

// A stack on which GPU threads run. Threads that do not wait run one after another on one stack, without a switch.
struct Stack {
    void *top = nullptr;
    void *resume = nullptr;

    // Discards the content of the stack. The next switch to this stack calls `runThreads`.
    void reset() {
        // The switch pops words[0] and jumps to it. Then words[1] stands for a return address, and the stack is
        // aligned as after a call.
        void **words = static_cast<void **>(top) - 2;
        words[0] = reinterpret_cast<void *>(&runThreads);
        words[1] = nullptr;
        resume = words;
    }
};

// One stack for each possible thread, allocated at the first launch and kept. Below each stack is a page that faults.
struct Stacks {
    static constexpr size_t page = 4096, usable = 64 << 10, stride = page + usable + page;
    Stack all[threadLimit];
    Stack *idle[threadLimit];
    unsigned idleCount = 0;

    Stacks() {
        void *memory = mmap(nullptr, stride * threadLimit, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED) {
            perror("emulator: stacks");
            abort();
        }
        for (unsigned i = 0; i < threadLimit; i++) {
            char *bottom = static_cast<char *>(memory) + stride * i;
            mprotect(bottom, page, PROT_NONE);
            // At equal offsets in their pages, the tops would compete for the same few cache lines.
            all[i].top = bottom + page + usable + i % 64 * 64;
        }
        reset();
    }

    // Discards the content of all stacks. This is necessary after a block whose threads did not all return.
    void reset() {
        idleCount = 0;
        for (unsigned i = threadLimit; i-- > 0;) {
            all[i].reset();
            idle[idleCount++] = &all[i];
        }
    }
};

// A block and its threads ---------------------------------------------------------------------------------------------

struct Thread {
    void *resume;  // top of the thread's stack while it waits; null before it has begun
    unsigned number;
    struct Warp *warp;
    unsigned lane;
    dim3 index;
};

// A point where lanes of a warp wait for each other and exchange values. Successive meetings use the two sides of
// `values` in turn. Two sides are enough: meeting k + 2 uses the side of meeting k, but it begins only after all
// lanes have left meeting k.
struct Meeting {
    unsigned mask, arrived, present[2], votes[2];
    int side, line;
    uint64_t values[2][32];
};

struct Warp {
    static constexpr int limit = 8;  // maximum number of different masks in one block
    unsigned running;                // lanes that exist and have not returned
    unsigned firstThread;
    int count;
    Meeting meetings[limit];
};

struct Block {
    const char *kernel = "";
    std::function<void()> body;
    unsigned count = 0, running = 0;
    // The threads, in the order in which they run. `ready` has a bit for each thread that can run. `alive` has a bit
    // for each thread that has not returned.
    Thread threads[threadLimit];
    uint64_t ready[threadLimit / 64], alive[threadLimit / 64];
    unsigned words = 0, firstReady = 0;
    unsigned place[threadLimit];  // index in `threads`, by number of the thread
    Thread *current = nullptr;
    Warp warps[threadLimit / 32];
    unsigned atBarrier = 0;
    int barrierLine = 0;
    const char *failure = nullptr;
    void *host = nullptr;  // the stack of the launching thread
    uint64_t serial = 0;   // a new number for each block
    unsigned char *dynamic = nullptr;
    Stacks *stacks = nullptr;
};
inline Block block;

inline void makeReady(unsigned place) {
    unsigned word = place / 64;
    block.ready[word] |= 1ull << (place % 64);
    if (word < block.firstReady) block.firstReady = word;
}

// Returns the first thread that can run and removes it from `ready`. Returns null if no thread can run.
inline Thread *takeReady() {
    for (unsigned word = block.firstReady; word < block.words; word++) {
        if (uint64_t bits = block.ready[word]) {
            block.ready[word] = bits & (bits - 1);
            block.firstReady = word;
            return &block.threads[word * 64 + (unsigned)__builtin_ctzll(bits)];
        }
    }
    block.firstReady = block.words;
    return nullptr;
}

// Makes `thread` the current thread. Returns the stack on which it continues or begins.
inline void *stackOf(Thread *thread) {
    block.current = thread;
    threadIdx = thread->index;
    return thread->resume ? thread->resume : block.stacks->idle[--block.stacks->idleCount]->resume;
}

// Returns the stack of the next thread that can run. Returns the host's stack if no thread can run, and null if the
// next thread is `self`.
__attribute__((noinline)) inline void *nextStack(Thread *self) {
    Thread *next = takeReady();
    if (next == self) return nullptr;
    return next ? stackOf(next) : block.host;
}

// Suspends the running thread until another thread makes it ready.
EMULATOR_INLINE void wait() {
    Thread *self = block.current;
    if (void *next = nextStack(self)) switchStack(&self->resume, next);
}

// Ends the block with the failure `why`. No thread of this block continues.
[[noreturn]] __attribute__((noinline)) inline void fail(const char *why) {
    block.failure = why;
    void *abandoned;
    switchStack(&abandoned, block.host);
    __builtin_unreachable();
}

inline void openBarrier() {
    block.atBarrier = 0;
    memcpy(block.ready, block.alive, sizeof block.ready);
    block.firstReady = 0;
}

// Releases the lanes that wait in a meeting. All its lanes must have arrived or returned: like a device, a meeting
// does not wait for lanes that have returned.
__attribute__((noinline)) inline void closeMeeting(const Warp &warp, Meeting &meeting) {
    meeting.present[meeting.side] = meeting.arrived;
    for (unsigned lanes = meeting.arrived; lanes; lanes &= lanes - 1) {
        makeReady(block.place[warp.firstThread + (unsigned)__builtin_ctz(lanes)]);
    }
    meeting.arrived = 0;
    meeting.side ^= 1;
}

inline void threadReturned() {
    Thread *self = block.current;
    unsigned place = block.place[self->number];
    block.alive[place / 64] &= ~(1ull << (place % 64));
    block.running--;
    if (block.atBarrier && block.atBarrier == block.running) openBarrier();
    Warp &warp = *self->warp;
    warp.running &= ~(1u << self->lane);
    for (int i = 0; i < warp.count; i++) {
        Meeting &meeting = warp.meetings[i];
        if (meeting.arrived && meeting.arrived == (meeting.mask & warp.running)) {
            closeMeeting(warp, meeting);
        }
    }
}

// The main function of a stack. Runs the thread for which the stack was started, and then other threads that have not
// begun. If the next thread has begun on another stack, or if no thread can run, this stack becomes idle.
inline void runThreads() {
    Stacks &stacks = *block.stacks;
    // The code that switched to this stack has taken it from the end of the list of idle stacks.
    Stack *self = stacks.idle[stacks.idleCount];
    while (true) {
        block.body();
        threadReturned();
        Thread *next = takeReady();
        if (next && !next->resume) {
            block.current = next;
            threadIdx = next->index;
            continue;
        }
        void *to = next ? stackOf(next) : block.host;
        stacks.idle[stacks.idleCount++] = self;
        switchStack(&self->resume, to);
    }
}

// Launching -----------------------------------------------------------------------------------------------------------

// The order of threads and blocks. 0: ascending. 1: descending. Larger numbers: shuffled, with the number as seed.
// Negative: FAKE_CUDA_ORDER has the order.
inline long chosenOrder = -1;

inline long order() {
    if (chosenOrder >= 0) return chosenOrder;
    const char *text = getenv("FAKE_CUDA_ORDER");
    return text ? labs(atol(text)) : 0;
}

// Fills the table of threads. All blocks of a launch use the same table.
inline void arrangeThreads(dim3 size, long order) {
    unsigned count = size.x * size.y * size.z;
    std::vector<unsigned> numbers(count);
    std::iota(numbers.begin(), numbers.end(), 0u);
    if (order == 1) std::reverse(numbers.begin(), numbers.end());
    if (order >= 2) std::shuffle(numbers.begin(), numbers.end(), std::mt19937((unsigned)order));
    for (unsigned place = 0; place < count; place++) {
        unsigned number = numbers[place];
        block.place[number] = place;
        dim3 index{number % size.x, number / size.x % size.y, number / (size.x * size.y)};
        block.threads[place] = {nullptr, number, &block.warps[number / 32], number % 32, index};
    }
    block.count = count;
    block.words = (count + 63) / 64;
    blockDim = size;
}

// Runs one block. Returns true if all threads returned.
inline bool runBlock() {
    unsigned count = block.count;
    block.running = count;
    block.atBarrier = 0;
    block.firstReady = 0;
    block.failure = nullptr;
    block.serial++;
    memset(block.alive, 0, sizeof block.alive);
    for (unsigned word = 0; word < block.words; word++) {
        unsigned rest = count - word * 64;
        block.alive[word] = rest < 64 ? (1ull << rest) - 1 : ~0ull;
    }
    memcpy(block.ready, block.alive, sizeof block.ready);
    for (unsigned place = 0; place < count; place++) block.threads[place].resume = nullptr;
    for (unsigned first = 0; first < count; first += 32) {
        Warp &warp = block.warps[first / 32];
        warp.running = count - first < 32 ? (1u << (count - first)) - 1 : ~0u;
        warp.firstThread = first;
        warp.count = 0;
    }
    switchStack(&block.host, stackOf(takeReady()));
    if (!block.failure && !block.running) return true;
    fprintf(stderr, "emulator: %s, block (%u, %u, %u): %s; %u of %u threads had not returned, %u waited at a barrier\n",
            block.kernel, blockIdx.x, blockIdx.y, blockIdx.z,
            block.failure ? block.failure : "all remaining threads wait for others", block.running, count,
            block.atBarrier);
    block.stacks->reset();
    return false;
}

// Runs `body` once per thread of `grid`. Returns false if some threads of a block did not return, or if a block wrote
// beyond its dynamic shared memory.
inline bool run(const char *kernel, dim3 grid, dim3 size, size_t sharedBytes, std::function<void()> body) {
    if (!block.stacks) block.stacks = new Stacks;
    constexpr size_t fence = 256;
    std::vector<unsigned char> room(sharedBytes + fence + 15);
    block.dynamic = reinterpret_cast<unsigned char *>((reinterpret_cast<uintptr_t>(room.data()) + 15) & ~uintptr_t(15));
    std::vector<unsigned char> untouched(fence, 0x5a);
    memcpy(block.dynamic + sharedBytes, untouched.data(), fence);
    block.kernel = kernel;
    block.body = std::move(body);
    gridDim = grid;
    long order = emulator::order();
    arrangeThreads(size, order);

    // Shuffled blocks are visited in steps of `step`. It has no common divisor with the number of blocks, so each
    // block runs once.
    uint64_t blocks = (uint64_t)grid.x * grid.y * grid.z, start = 0, step = 1;
    if (order == 1) start = blocks - 1, step = blocks - 1;
    if (order >= 2) {
        std::mt19937_64 random((uint64_t)order);
        start = random() % blocks;
        do step = random() % blocks + 1;
        while (std::gcd(step, blocks) != 1);
    }
    for (uint64_t done = 0, number = start; done < blocks; done++, number = (number + step) % blocks) {
        blockIdx = {(unsigned)(number % grid.x), (unsigned)(number / grid.x % grid.y),
                    (unsigned)(number / ((uint64_t)grid.x * grid.y))};
        memset(block.dynamic, 0xff, sharedBytes);
        if (!runBlock()) return false;
        if (memcmp(block.dynamic + sharedBytes, untouched.data(), fence) != 0) {
            fprintf(stderr, "emulator: %s wrote beyond its %zu bytes of dynamic shared memory\n", kernel, sharedBytes);
            return false;
        }
    }
    return true;
}

// Fills static shared memory with 0xff bytes at the first call in each block.
inline void fillShared(void *memory, size_t bytes, uint64_t &serial) {
    if (serial == block.serial) return;
    serial = block.serial;
    memset(memory, 0xff, bytes);
}

// Kernels by name -----------------------------------------------------------------------------------------------------

// A launch whose arguments have been read.
struct Launch {
    bool valid;  // whether all pointers were device addresses or null
    std::function<bool(dim3 grid, dim3 block, size_t sharedBytes)> run;
};

struct Kernel {
    std::vector<size_t> parameterBytes;
    std::function<Launch(void **arguments)> prepare;
};

inline std::map<std::string, Kernel> &kernels() {
    static auto &all = *new std::map<std::string, Kernel>;  // outlives the destructors run at exit
    return all;
}

// Returns the host address of a device address; null if `address` is not a valid device address.
using Translation = void *(*)(const void *address);
inline Translation translation = nullptr;

template <class Parameter>
Parameter argument(const void *source, bool &valid) {
    static_assert(std::is_trivially_copyable_v<Parameter>);
    Parameter value;
    memcpy(&value, source, sizeof value);
    if constexpr (std::is_pointer_v<Parameter>) {
        if (value && translation) {
            void *address = translation(value);
            if (!address) valid = false;
            value = static_cast<Parameter>(address);
        }
    }
    return value;
}

template <class... Parameters, size_t... Index>
Launch prepare(const char *name, void (*kernel)(Parameters...), [[maybe_unused]] void **arguments,
               std::index_sequence<Index...>) {
    bool valid = true;
    // The elements of a braced list are evaluated from left to right; arguments of a call might not be.
    std::tuple<std::remove_cv_t<Parameters>...> values{
        argument<std::remove_cv_t<Parameters>>(arguments[Index], valid)...};
    return {valid, [=](dim3 grid, dim3 size, size_t sharedBytes) {
                return run(name, grid, size, sharedBytes, [kernel, &values] { std::apply(kernel, values); });
            }};
}

template <class... Parameters>
void add(const char *name, void (*kernel)(Parameters...)) {
    kernels()[name] = {{sizeof(Parameters)...}, [=](void **arguments) {
                           return prepare(name, kernel, arguments, std::index_sequence_for<Parameters...>());
                       }};
}

// What kernels call ---------------------------------------------------------------------------------------------------

constexpr int lineBits = 24;  // the bits above are the operation, so that different operations do not meet

__attribute__((noinline)) inline Meeting &rarerMeeting(Warp &warp, unsigned mask) {
    for (int i = 1; i < warp.count; i++) {
        if (warp.meetings[i].mask == mask) return warp.meetings[i];
    }
    if (warp.count == Warp::limit) fail("too many different masks in one warp");
    Meeting &meeting = warp.meetings[warp.count++];
    meeting.mask = mask;
    meeting.arrived = 0;
    meeting.side = 0;
    return meeting;
}

// Returns the meeting of the lanes in `mask` of the running thread's warp.
EMULATOR_INLINE Meeting &meetingOf(unsigned mask) {
    Warp &warp = *block.current->warp;
    return warp.count && warp.meetings[0].mask == mask ? warp.meetings[0] : rarerMeeting(warp, mask);
}

// Waits until all lanes of the meeting have arrived.
EMULATOR_INLINE void meet(Meeting &meeting, int line) {
    Thread *self = block.current;
    unsigned bit = 1u << self->lane;
    if (!(meeting.mask & bit)) fail("a lane is not in its own mask");
    if (!meeting.arrived) {
        meeting.line = line;
    } else if (meeting.line != line) {
        fail("lanes of one warp wait at different places");
    }
    meeting.arrived |= bit;
    if (meeting.arrived == (meeting.mask & self->warp->running)) closeMeeting(*self->warp, meeting);
    wait();
}

// Returns the value of lane `from`. If this lane does not take part, returns 0xff bytes. A device's result is then
// undefined.
template <class Value>
EMULATOR_INLINE Value exchange(unsigned mask, Value value, unsigned from, int line) {
    static_assert(sizeof(Value) <= 8 && std::is_trivially_copyable_v<Value>);
    Meeting &meeting = meetingOf(mask);
    int side = meeting.side;
    memcpy(&meeting.values[side][block.current->lane], &value, sizeof value);
    meet(meeting, line);
    memset(&value, 0xff, sizeof value);
    if (meeting.present[side] >> from & 1) memcpy(&value, &meeting.values[side][from], sizeof value);
    return value;
}

EMULATOR_INLINE unsigned ballot(unsigned mask, bool vote, int line) {
    Meeting &meeting = meetingOf(mask);
    int side = meeting.side;
    if (!meeting.arrived) meeting.votes[side] = 0;
    meeting.votes[side] |= (unsigned)vote << block.current->lane;
    meet(meeting, line);
    return meeting.votes[side];
}

inline float reciprocalRoot(float value) { return 1.f / sqrtf(value); }

}  // namespace emulator

EMULATOR_INLINE void __syncthreads(int line = __builtin_LINE()) {
    using emulator::block;
    if (!block.atBarrier) {
        block.barrierLine = line;
    } else if (block.barrierLine != line) {
        emulator::fail("threads of one block wait at different barriers");
    }
    if (++block.atBarrier == block.running) emulator::openBarrier();
    emulator::wait();
}

EMULATOR_INLINE void __syncwarp(unsigned mask = ~0u, int line = __builtin_LINE()) {
    emulator::meet(emulator::meetingOf(mask), line | 1 << emulator::lineBits);
}

template <class Value>
EMULATOR_INLINE Value __shfl_sync(unsigned mask, Value value, int lane, int line = __builtin_LINE()) {
    return emulator::exchange(mask, value, (unsigned)lane % 32, line | 2 << emulator::lineBits);
}

template <class Value>
EMULATOR_INLINE Value __shfl_xor_sync(unsigned mask, Value value, int distance, int line = __builtin_LINE()) {
    return emulator::exchange(mask, value, (emulator::block.current->lane ^ (unsigned)distance) % 32,
                              line | 3 << emulator::lineBits);
}

// A lane whose source lane is beyond the end of the warp gets its own value.
template <class Value>
EMULATOR_INLINE Value __shfl_down_sync(unsigned mask, Value value, unsigned distance, int line = __builtin_LINE()) {
    unsigned lane = emulator::block.current->lane, from = lane + distance < 32 ? lane + distance : lane;
    return emulator::exchange(mask, value, from, line | 4 << emulator::lineBits);
}

template <class Value>
EMULATOR_INLINE Value __shfl_up_sync(unsigned mask, Value value, unsigned distance, int line = __builtin_LINE()) {
    unsigned lane = emulator::block.current->lane, from = lane >= distance ? lane - distance : lane;
    return emulator::exchange(mask, value, from, line | 5 << emulator::lineBits);
}

EMULATOR_INLINE unsigned __ballot_sync(unsigned mask, int vote, int line = __builtin_LINE()) {
    return emulator::ballot(mask, vote, line | 6 << emulator::lineBits);
}

EMULATOR_INLINE int __any_sync(unsigned mask, int vote, int line = __builtin_LINE()) {
    return emulator::ballot(mask, vote, line | 7 << emulator::lineBits) != 0;
}

EMULATOR_INLINE int __all_sync(unsigned mask, int vote, int line = __builtin_LINE()) {
    return emulator::ballot(mask, !vote, line | 8 << emulator::lineBits) == 0;
}

inline void __threadfence() {}
inline void __threadfence_block() {}

// The types are may_alias, because kernels access arrays of elements through these vectors.
struct __attribute__((may_alias, aligned(8))) int2 { int x, y; };
struct __attribute__((may_alias, aligned(8))) uint2 { unsigned x, y; };
struct __attribute__((may_alias, aligned(8))) float2 { float x, y; };
struct __attribute__((may_alias, aligned(16))) int4 { int x, y, z, w; };
struct __attribute__((may_alias, aligned(16))) uint4 { unsigned x, y, z, w; };
struct __attribute__((may_alias, aligned(16))) float4 { float x, y, z, w; };
inline int2 make_int2(int x, int y) { return {x, y}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }
inline float __int_as_float(int bits) { return std::bit_cast<float>(bits); }
inline unsigned __float_as_uint(float value) { return std::bit_cast<unsigned>(value); }
inline int __float_as_int(float value) { return std::bit_cast<int>(value); }
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline int __clz(int bits) { return bits ? __builtin_clz((unsigned)bits) : 32; }
template <class Value>
Value __ldg(const Value *source) { return *source; }

inline int min(int a, int b) { return b < a ? b : a; }
inline int max(int a, int b) { return a < b ? b : a; }
inline unsigned min(unsigned a, unsigned b) { return b < a ? b : a; }
inline unsigned max(unsigned a, unsigned b) { return a < b ? b : a; }
inline long long min(long long a, long long b) { return b < a ? b : a; }
inline long long max(long long a, long long b) { return a < b ? b : a; }
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }

// These are macros, because C libraries may have functions with these names.
#define rsqrtf(value) emulator::reciprocalRoot(value)
#define __expf(value) expf(value)
#define __logf(value) logf(value)
#define __fdividef(a, b) ((a) / (b))

// One host thread runs all GPU threads, so plain operations are atomic.
inline int atomicAdd(int *target, int value) { return std::exchange(*target, *target + value); }
inline unsigned atomicAdd(unsigned *target, unsigned value) { return std::exchange(*target, *target + value); }
inline float atomicAdd(float *target, float value) { return std::exchange(*target, *target + value); }
inline int atomicMin(int *target, int value) { return std::exchange(*target, min(*target, value)); }
inline int atomicMax(int *target, int value) { return std::exchange(*target, max(*target, value)); }

#pragma GCC visibility pop

#define KERNEL(name) extern "C" __attribute__((visibility("hidden"))) void name
#define DEVICE static inline __attribute__((always_inline))
#define SHARED(type, name, count)                                                                   \
    alignas(16) static type name[count];                                                            \
    static uint64_t name##_serial;                                                                  \
    static_assert(sizeof name <= 48 << 10, "more shared memory than a block may have unasked");     \
    emulator::fillShared(name, sizeof name, name##_serial)
#define DYNAMIC_SHARED(type, name) type *name = reinterpret_cast<type *>(emulator::block.dynamic)
#define INFINITE __builtin_inff()
