// A CPU stand-in for libcudart, libcuda and libcublas. Tests load it by name in place of these libraries.
#pragma once
#ifdef __cplusplus
extern "C" {
#endif

// Sets the order of threads and blocks. 0: ascending. 1: descending. Larger numbers: shuffled, with the number as
// seed. Negative: FAKE_CUDA_ORDER has the order.
void fake_cuda_set_order(long order);

#ifdef __cplusplus
}
#endif
