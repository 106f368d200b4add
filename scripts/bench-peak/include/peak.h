// What a core can do at most, for `scripts/bench`: multiply-adds on registers and nothing else.

#ifndef PEAK_H
#define PEAK_H

/// GFLOP/s of this thread, over about `seconds`; 0 where the processor has no such instructions.
double peak_float32(double seconds);
/// The same for pairs of bfloat16 numbers (VDPBF16PS).
double peak_bfloat16(double seconds);

#endif
