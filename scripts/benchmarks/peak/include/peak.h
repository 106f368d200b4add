// Measures the peak speed of a core for `scripts/bench`, by multiply-adds on registers only.

#ifndef PEAK_H
#define PEAK_H

/// Returns the GFLOP/s of float32 multiply-adds on this thread, measured for about `seconds`. Returns 0 if the
/// processor has neither AVX-512 nor AVX2 with FMA.
double peak_float32(double seconds);
/// Returns the GFLOP/s of multiply-adds on pairs of bfloat16 numbers (VDPBF16PS), measured for about `seconds`.
/// Returns 0 if the processor does not have this instruction.
double peak_bfloat16(double seconds);

#endif
