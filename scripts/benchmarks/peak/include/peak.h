// The peak speed of a core, for `scripts/bench`: only multiply-adds on registers.

#ifndef PEAK_H
#define PEAK_H

/// Returns GFLOP/s of float32 multiply-adds on this thread, measured for about `seconds`; 0 if the processor has neither
/// AVX-512 nor AVX2 with FMA.
double peak_float32(double seconds);
/// Returns the same for pairs of bfloat16 numbers (VDPBF16PS); 0 if the processor does not have this instruction.
double peak_bfloat16(double seconds);

#endif
