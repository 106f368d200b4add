#include "peak.h"
#include <time.h>

#if defined(__x86_64__)
#include <immintrin.h>

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

// Defines a function that measures the GFLOP/s of one operation. SUMS is the number of independent sums, which hide
// the latency of the operation. FLOPS is the number of floating-point operations in one OPERATION.
#define PEAK(name, instructions, vector, zero, SUMS, FLOPS, OPERATION)                            \
    __attribute__((target(instructions))) static double name(double seconds) {                    \
        const long rounds = 1000000;                                                               \
        vector sums[SUMS];                                                                         \
        for (int i = 0; i < SUMS; i++) sums[i] = zero;                                             \
        vector a = zero, b = zero;                                                                 \
        __asm__ volatile("" : "+v"(a), "+v"(b));                                                   \
        double begin = now(), end;                                                                 \
        long done = 0;                                                                             \
        do {                                                                                       \
            for (long round = 0; round < rounds; round++) {                                        \
                _Pragma("clang loop unroll(full)") for (int i = 0; i < SUMS; i++) {                \
                    sums[i] = OPERATION;                                                           \
                    __asm__ volatile("" : "+v"(sums[i]));                                          \
                }                                                                                  \
            }                                                                                      \
            done += rounds;                                                                        \
            end = now();                                                                           \
        } while (end - begin < seconds);                                                           \
        return 1e-9 * FLOPS * SUMS * (double)done / (end - begin);                                 \
    }

PEAK(avx2, "avx2,fma", __m256, _mm256_setzero_ps(), 12, 16, _mm256_fmadd_ps(a, b, sums[i]))
PEAK(avx512, "avx512f", __m512, _mm512_setzero_ps(), 24, 32, _mm512_fmadd_ps(a, b, sums[i]))
PEAK(bf16, "avx512f,avx512bf16", __m512, _mm512_setzero_ps(), 24, 64, _mm512_dpbf16_ps(sums[i], (__m512bh)a, (__m512bh)b))

double peak_float32(double seconds) {
    if (__builtin_cpu_supports("avx512f")) return avx512(seconds);
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? avx2(seconds) : 0;
}

double peak_bfloat16(double seconds) {
    return __builtin_cpu_supports("avx512bf16") ? bf16(seconds) : 0;
}
#else
double peak_float32(double seconds) { return 0 * seconds; }
double peak_bfloat16(double seconds) { return 0 * seconds; }
#endif
