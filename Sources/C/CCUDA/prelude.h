// One source of the kernels, two compilers: NVRTC for devices (no header of NVIDIA's is needed), and the host's C++, where
// the tests run each GPU thread as a fiber (Tests/FakeCUDA/emulator.h).
#pragma once
#ifdef __CUDACC_RTC__
#define KERNEL(name) extern "C" __global__ void name
// For blocks of that many threads, of which a multiprocessor is to hold so many: bounds the registers of a thread.
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
// Rounded each by itself, where the compiler would make one operation of the two.
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

// Sixteen bits of either kind, as they lie in memory.
typedef unsigned short Half;

// A bfloat16, the upper half of a float.
DEVICE float fromBFloat16(Half bits) { return __uint_as_float((unsigned)bits << 16); }

// The nearest bfloat16, ties to even; NaN stays NaN.
DEVICE Half toBFloat16(float value) {
    unsigned bits = __float_as_uint(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (Half)((bits >> 16) | 0x40u);
    return (Half)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// An IEEE binary16, and the nearest one, ties to even.
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

// The sum over a block whose threads are whole warps; every thread gets it. `room` is 33 floats of shared memory; a second
// call may follow at once, because what it writes first is not what the first one's threads read last.
DEVICE float blockSum(float value, float *room) {
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
    value = warpSum(value);
    if (lane == 0) room[warp] = value;
    __syncthreads();
    if (warp == 0) {
        float total = warpSum(lane < warps ? room[lane] : 0.f);
        if (lane == 0) room[32] = total;
    }
    __syncthreads();
    return room[32];
}

// The same for the largest.
DEVICE float blockMax(float value, float *room) {
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
    value = warpMax(value);
    if (lane == 0) room[warp] = value;
    __syncthreads();
    if (warp == 0) {
        float largest = warpMax(lane < warps ? room[lane] : -INFINITE);
        if (lane == 0) room[32] = largest;
    }
    __syncthreads();
    return room[32];
}
