// Products of bfloat16 numbers, summed in float32: the kernels of the CPU backend's `--dtype bfloat16`.
//
// One factor has its rows in the lanes of vectors ("lanes": blocks of rows, pair of columns by pair of columns), the
// other is read where it lies, row by row, and broadcast pair by pair. Weights of a checkpoint, (outputs, inputs), are
// read so without having been packed; activations are the lanes then. An SAE's encoder, (inputs, outputs), is packed
// into lanes a block of outputs at a time, and activations are the rows.
//
// A bfloat16 is the upper half of a float32. A product of two is exact in float32 unless it overflows or is subnormal
// (VDPBF16PS takes subnormal numbers for zero); each sum goes over a row's pairs in their order, of each pair the second
// number first (Intel SDM vol. 2), so that all kernels make the same bits elsewhere.

#ifndef CBFLOAT16_H
#define CBFLOAT16_H

#include <stdbool.h>
#include <stdint.h>

/// Rows of the factor that is broadcast that `multiply` takes at a time.
enum { BFLOAT16_ROWS = 96 };

/// Functions for one kind of processor. Numbers may lie at any address.
struct bfloat16_kernels {
    /// The instructions they are made of.
    const char *name;
    /// Whether the processor itself multiplies bfloat16 numbers; else they are widened first.
    bool is_native;
    /// Rows in a full block of lanes. A last block with fewer has the next multiple of `vector`.
    long block;
    /// Rows in one vector.
    long vector;

    /// Rounds `count` floats to the nearest bfloat16, ties to even; what is not a number stays so.
    void (*round)(const void *x, long count, uint16_t *out);

    /// Packs bfloat16 rows, `stride` apart, into one block of lanes: for each pair of columns the pairs of all rows.
    /// `count` rows, at most `block`; the rest of the last vector is zero.
    void (*pack_rows)(const uint16_t *rows, long stride, long count, long pairs, uint32_t *lanes);

    /// Packs columns of a float32 matrix, rounded, into one block of lanes, one pair of its rows: `first` and `second`
    /// are those rows' parts (`second` null for a zero). `count` columns, at most `block`; the rest is zero.
    void (*pack_columns)(const void *first, const void *second, long count, uint32_t *lanes);

    /// The products of `lane_count` rows in lanes, block after block of `pairs` pairs, and `row_count` rows, at most
    /// BFLOAT16_ROWS, `row_stride` apart. That of lane l and row r goes to out[l * stride + r] where `lanes_first`,
    /// else to out[r * stride + l]. `room` is for BFLOAT16_ROWS * block floats.
    void (*multiply)(
        const uint32_t *lanes, long lane_count, long pairs, const void *rows, long row_stride, long row_count,
        bool lanes_first, float *out, long stride, float *room);
};

/// The kernels that this processor can run, the best first; `index` from 0, null behind the last.
const struct bfloat16_kernels *bfloat16_kernels_at(long index);

#endif
