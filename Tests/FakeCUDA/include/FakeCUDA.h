// A CPU stand-in for libcudart, libcuda and libcublas, to be loaded by name in their place.
#pragma once
#ifdef __cplusplus
extern "C" {
#endif

// The order of threads and blocks, in place of the environment's FAKE_CUDA_ORDER. 0: ascending; 1: descending; others:
// shuffled by this seed; negative: as the environment says.
void fake_cuda_set_order(long order);

#ifdef __cplusplus
}
#endif
