// Two compilers compile the kernels. NVRTC compiles them for devices; it needs no header of NVIDIA. The C++ compiler
// of the host compiles them for tests, in which each GPU thread is a fiber (Tests/FakeCUDA/emulator.h).
#pragma once
#ifdef __CUDACC_RTC__
#define KERNEL(name) extern "C" __global__ void name
// Defines a kernel that is launched with blocks of `threads` threads. A multiprocessor must have room for `blocks`
// such blocks, so the compiler limits the registers per thread.
#define BOUNDED_KERNEL(name, threads, blocks) extern "C" __global__ void __launch_bounds__(threads, blocks) name
#define DEVICE static __device__ __forceinline__
#define SHARED(type, name, count) __shared__ type name[count]
#define DYNAMIC_SHARED(type, name)                             \
    extern __shared__ __align__(16) unsigned char dynamic_[];  \
    type *name = reinterpret_cast<type *>(dynamic_)
#define UNROLL _Pragma("unroll")
#define PRAGMA(text) _Pragma(#text)
#define UNROLLED(times) PRAGMA(unroll times)
#define INFINITE __int_as_float(0x7f800000)
// TIMES and PLUS round each product and each sum. If they were written with * and +, the compiler could fuse a
// product and a sum into one operation with one rounding.
#define TIMES(a, b) __fmul_rn(a, b)
#define PLUS(a, b) __fadd_rn(a, b)
#else
#include "emulator.h"
#define BOUNDED_KERNEL(name, threads, blocks) KERNEL(name)
static inline __attribute__((noinline)) float TIMES(float a, float b) { return a * b; }
static inline __attribute__((noinline)) float PLUS(float a, float b) { return a + b; }
#define UNROLL
#define UNROLLED(times)
#endif

// The bits of a bfloat16 or binary16 number.
typedef unsigned short Half;

// Converts a bfloat16 to float. A bfloat16 is the upper half of a float.
DEVICE float fromBFloat16(Half bits) { return __uint_as_float((unsigned)bits << 16); }

// Rounds to the nearest bfloat16, ties to even. NaN stays NaN.
DEVICE Half toBFloat16(float value) {
    unsigned bits = __float_as_uint(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (Half)((bits >> 16) | 0x40u);
    return (Half)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// Conversions between float and IEEE binary16. toFloat16 rounds to the nearest binary16, ties to even.
#ifdef __CUDACC_RTC__
DEVICE float fromFloat16(Half bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}

DEVICE Half toFloat16(float value) {
    Half bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}
#else
DEVICE float fromFloat16(Half bits) { return (float)std::bit_cast<_Float16>(bits); }

DEVICE Half toFloat16(float value) { return std::bit_cast<Half>((_Float16)value); }
#endif

DEVICE float warpSum(float value) {
    for (int lane = 16; lane; lane >>= 1) value += __shfl_xor_sync(0xffffffffu, value, lane);
    return value;
}

DEVICE float warpMax(float value) {
    for (int lane = 16; lane; lane >>= 1) value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, lane));
    return value;
}

// Combines the values of all threads of a block with WARP_FOLD (warpSum or warpMax). Every thread receives the
// result. `neutral` must not change a result: 0 for warpSum, -INFINITE for warpMax. The block must consist of whole
// warps. `room` is 33 floats of shared memory. A second call may follow without a barrier. Reason: the last read of
// the first call is room[32], but the second call writes room[0] to room[31] before its first barrier.
template <float (*WARP_FOLD)(float)>
DEVICE float blockFold(float value, float neutral, float *room) {
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
    value = WARP_FOLD(value);
    if (lane == 0) room[warp] = value;
    __syncthreads();
    if (warp == 0) {
        float folded = WARP_FOLD(lane < warps ? room[lane] : neutral);
        if (lane == 0) room[32] = folded;
    }
    __syncthreads();
    return room[32];
}

DEVICE float blockSum(float value, float *room) { return blockFold<warpSum>(value, 0.f, room); }

DEVICE float blockMax(float value, float *room) { return blockFold<warpMax>(value, -INFINITE, room); }
