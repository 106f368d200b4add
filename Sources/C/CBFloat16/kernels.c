// Compiles kernels.inc once for each instruction set, and chooses the kernels at run time. An attribute selects the
// instruction set of each function, so no compiler flag is needed.

#include "CBFloat16.h"
#include <stddef.h>
#include <string.h>

// Products of bfloat16 numbers are exact. So the compiler may fuse a product and a sum without changing a bit.
#pragma STDC FP_CONTRACT ON

// -Wpsabi warns that the calling convention for wide vectors depends on the instruction set. All functions with such
// vectors are inlined, so the warning does not apply.
#pragma clang diagnostic ignored "-Wpsabi"

// The constants and functions that kernels.inc defines for `suffix`, in the order of the members of bfloat16_kernels.
#define KERNELS(suffix) block_rows_##suffix, vector_rows_##suffix, round_##suffix, pack_rows_##suffix, pack_columns_##suffix, multiply_##suffix

#if defined(__x86_64__)
#include <immintrin.h>

// The extensions that this program means by "AVX-512". Skylake's and later server processors have them, and OpenBLAS'
// AVX-512 kernel sets use them. FIRST is applied to the first name, NEXT to each other name.
#define AVX512_FEATURES(FIRST, NEXT) FIRST("avx512f") NEXT("avx512cd") NEXT("avx512bw") NEXT("avx512dq") NEXT("avx512vl")
#define FEATURE(name) name
#define COMMA_FEATURE(name) "," name
#define SUPPORTS(name) __builtin_cpu_supports(name)
#define AND_SUPPORTS(name) && __builtin_cpu_supports(name)

// AVX-512 BF16. Of the 32 vector registers, 24 hold sums, 4 hold lanes, and 1 holds a broadcast pair.
#define SUFFIX avx512bf16
#define TARGET AVX512_FEATURES(FEATURE, COMMA_FEATURE) ",avx512bf16"
#define VECTOR_BYTES 64
#define VECTORS 4
#define ROWS_OF(vectors) (24 / (vectors))
#define DOT(sum, lanes, pair) ((floats)_mm512_dpbf16_ps((__m512)(sum), (__m512bh)(lanes), (__m512bh)(pair)))
#include "kernels.inc"

// AVX-512. Of the 32 vector registers, 16 hold sums. Two vectors of lanes are widened to float32 in 4 registers, and
// a broadcast pair in 2 registers.
#define SUFFIX avx512
#define TARGET AVX512_FEATURES(FEATURE, COMMA_FEATURE)
#define VECTOR_BYTES 64
#define VECTORS 2
#define ROWS_OF(vectors) (16 / (vectors))
#include "kernels.inc"

// AVX2. Of the 16 vector registers, 8 hold sums. Two vectors of lanes are widened to float32 in 4 registers, and a
// broadcast pair in 2 registers.
#define SUFFIX avx2
#define TARGET "avx2,fma"
#define VECTOR_BYTES 32
#define VECTORS 2
#define ROWS_OF(vectors) (8 / (vectors))
#include "kernels.inc"
#endif

#define SUFFIX baseline
#define VECTOR_BYTES 16
#define VECTORS 2
#define ROWS_OF(vectors) (8 / (vectors))
#include "kernels.inc"

// Kernels for every processor with the block sizes of AVX-512 BF16. They are slow; tests use them to cover these
// sizes on every machine.
#define SUFFIX wide
#define VECTOR_BYTES 64
#define VECTORS 4
#define ROWS_OF(vectors) (24 / (vectors))
#include "kernels.inc"

enum instructions { AVX512_BF16, AVX512, AVX2, ANY };

static const struct {
    enum instructions instructions;
    struct bfloat16_kernels kernels;
} all[] = {
#if defined(__x86_64__)
    {AVX512_BF16, {"AVX-512 BF16", true, KERNELS(avx512bf16)}},
    {AVX512, {"AVX-512", false, KERNELS(avx512)}},
    {AVX2, {"AVX2", false, KERNELS(avx2)}},
#endif
    {ANY, {"baseline", false, KERNELS(baseline)}},
    {ANY, {"baseline, wide", false, KERNELS(wide)}},
};

// __builtin_cpu_supports also checks that the operating system saves the registers.
bool processor_has_avx512(void) {
#if defined(__x86_64__)
    return AVX512_FEATURES(SUPPORTS, AND_SUPPORTS);
#else
    return false;
#endif
}

bool processor_has_avx2(void) {
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
    return false;
#endif
}

static bool has(enum instructions instructions) {
    switch (instructions) {
#if defined(__x86_64__)
    case AVX512_BF16: return processor_has_avx512() && __builtin_cpu_supports("avx512bf16");
    case AVX512: return processor_has_avx512();
    case AVX2: return processor_has_avx2();
#endif
    default: return true;
    }
}

const struct bfloat16_kernels *bfloat16_kernels_at(long index) {
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (has(all[i].instructions) && index-- == 0) return &all[i].kernels;
    return NULL;
}
