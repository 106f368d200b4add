// Products of bfloat16 numbers, summed in float32: the kernels of `--dtype bfloat16` on the CPU backend.
//
// A "pair" is two neighbouring numbers of one row, in 32 bits. One factor of a product is packed into "lanes": a
// block of rows is stored as pair 0 of every row, then pair 1 of every row, and so on. So each row has its own vector
// lane. The other factor stays row by row, and each of its pairs is copied to all lanes of a vector.
//
// A checkpoint's weights, (outputs, inputs), stay row by row and are read in place; the activations are packed into
// lanes. An SAE's encoder, (inputs, outputs), is packed into lanes, one block of outputs at a time; the activations
// stay row by row.
//
// A product of two bfloat16 numbers is exact in float32, unless it overflows or is subnormal. A sum takes the pairs
// of a row in order, and the second product of a pair first, as VDPBF16PS does (Intel SDM vol. 2). So all kernels
// give the same bits, except for products that overflow or are subnormal. (VDPBF16PS treats subnormal numbers as
// zero.)

#ifndef CBFLOAT16_H
#define CBFLOAT16_H

#include <stdbool.h>
#include <stdint.h>

/// Maximum number of rows in one call of `multiply`, for the factor that stays row by row.
enum { BFLOAT16_ROWS = 96 };

/// Returns whether the processor has AVX-512 (F, CD, BW, DQ, VL) and the operating system saves its registers.
bool processor_has_avx512(void);

/// Returns whether the processor has AVX2 and FMA and the operating system saves their registers.
bool processor_has_avx2(void);

/// The kernels for one instruction set. All pointers may have any alignment.
struct bfloat16_kernels {
    /// Name of the instruction set.
    const char *name;
    /// Whether the instruction set multiplies bfloat16 numbers. If not, the kernels widen the numbers to float32
    /// first.
    bool is_native;
    /// Number of rows in a full block of lanes. A block with fewer rows is padded to the next multiple of `vector`.
    long block;
    /// Number of lanes in one vector register. Each lane belongs to one row.
    long vector;

    /// Rounds `count` floats to the nearest bfloat16, ties to even. NaN stays NaN.
    void (*round)(const void *x, long count, uint16_t *out);

    /// Packs `count` rows (at most `block`) into one block of lanes. Each row has `pairs` pairs, and rows are
    /// `stride` bfloat16 numbers apart. Lanes after the last row, up to a whole vector, become zero.
    void (*pack_rows)(const uint16_t *rows, long stride, long count, long pairs, uint32_t *lanes);

    /// Rounds two rows of a float32 matrix to bfloat16, and packs them into lanes: the two numbers of a column become
    /// one pair. `count` is the number of columns, at most `block`. If `second` is null, the second row is zero.
    /// Lanes after the last column, up to a whole vector, become zero.
    void (*pack_columns)(const void *first, const void *second, long count, uint32_t *lanes);

    /// Multiplies `lane_count` rows in lanes with `row_count` other rows (at most BFLOAT16_ROWS). Lanes are stored
    /// block after block, with `pairs` pairs per row. The other rows are `row_stride` bfloat16 numbers apart. The
    /// product of lane l and row r is written to out[l * stride + r] if `lanes_first`, otherwise to out[r * stride +
    /// l]. `room` is scratch memory for BFLOAT16_ROWS * block floats.
    void (*multiply)(
        const uint32_t *lanes, long lane_count, long pairs, const void *rows, long row_stride, long row_count,
        bool lanes_first, float *out, long stride, float *room);
};

/// Returns the kernels for one of the instruction sets that this processor supports: index 0 is the fastest, larger
/// indices are slower. Returns null if `index` is not below the number of these sets.
const struct bfloat16_kernels *bfloat16_kernels_at(long index);

#endif
