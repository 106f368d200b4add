// Fills the tables of NVIDIA's functions, and wraps C functions that Swift cannot call.
#define _GNU_SOURCE
#include "CCUDA.h"
#include <dlfcn.h>
#include <link.h>

#define FILL(name, arguments)                            \
    *(void **)&table->name = dlsym(library, #name);      \
    if (!table->name) return #name;

const char *ccuda_fill_cudart(void *library, cudart_table *table) {
    CUDART_FUNCTIONS(FILL)
    FILL(cudaGetErrorName, ())
    FILL(cudaGetErrorString, ())
    return 0;
}

const char *ccuda_fill_driver(void *library, cuda_driver_table *table) {
    CUDA_DRIVER_FUNCTIONS(FILL)
    FILL(cuGetErrorName, ())
    FILL(cuGetErrorString, ())
    return 0;
}

const char *ccuda_fill_cublas(void *library, cublas_table *table) {
    CUBLAS_FUNCTIONS(FILL)
    return 0;
}

const char *ccuda_library_path(void *library) {
    struct link_map *map = 0;
    return dlinfo(library, RTLD_DI_LINKMAP, &map) == 0 && map ? map->l_name : 0;
}

int ccuda_launch(const cuda_driver_table *table, cuda_function function, unsigned gridX, unsigned gridY, unsigned block,
                 unsigned sharedBytes, cuda_stream stream, const uint64_t *arguments, int count) {
    void *pointers[32];
    if (count > 32) return 1;
    for (int i = 0; i < count; i++) pointers[i] = (void *)&arguments[i];
    return table->cuLaunchKernel(function, gridX, gridY, 1, block, 1, 1, sharedBytes, stream, pointers, 0);
}
