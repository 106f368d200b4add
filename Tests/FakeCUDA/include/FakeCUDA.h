// A CPU stand-in for libcudart, libcuda and libcublas. Tests load it by name in place of these libraries.
#pragma once
#ifdef __cplusplus
extern "C" {
#endif

// Sets the order of threads and blocks. 0: ascending; 1: descending; larger numbers: shuffled with this seed; negative: the
// environment variable FAKE_CUDA_ORDER decides.
void fake_cuda_set_order(long order);

#ifdef __cplusplus
}
#endif
