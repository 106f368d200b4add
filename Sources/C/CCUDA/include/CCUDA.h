// Tables of the functions of NVIDIA's libraries that the program calls. The functions are looked up by name at run
// time. Names, signatures and values are equal in CUDA 11, 12 and 13. They are declared in this file, so no header of
// NVIDIA is needed.
#pragma once
#include <stddef.h>
#include <stdint.h>

typedef struct cuda_stream *cuda_stream;      // cudaStream_t, CUstream
typedef struct cuda_event *cuda_event;        // cudaEvent_t, CUevent
typedef struct cuda_module *cuda_module;      // CUmodule
typedef struct cuda_function *cuda_function;  // CUfunction
typedef struct cublas_handle *cublas_handle;  // cublasHandle_t

// The lists below have X(name, parameters) for each function. All these functions return a status; 0 is success.

// libcudart: cuda_runtime_api.h
#define CUDART_FUNCTIONS(X)                                                                                  \
    X(cudaRuntimeGetVersion, (int *version))                                                                 \
    X(cudaGetDeviceCount, (int *count))                                                                      \
    X(cudaSetDevice, (int device))                                                                           \
    X(cudaMalloc, (void **pointer, size_t bytes))                                                            \
    X(cudaFree, (void *pointer))                                                                             \
    X(cudaMemGetInfo, (size_t *free, size_t *total))                                                         \
    X(cudaHostAlloc, (void **pointer, size_t bytes, unsigned flags))                                         \
    X(cudaFreeHost, (void *pointer))                                                                         \
    X(cudaMemcpyAsync, (void *to, const void *from, size_t bytes, int kind, cuda_stream stream))             \
    X(cudaMemsetAsync, (void *pointer, int value, size_t bytes, cuda_stream stream))                         \
    X(cudaStreamCreateWithFlags, (cuda_stream *stream, unsigned flags))                                      \
    X(cudaStreamSynchronize, (cuda_stream stream))                                                           \
    X(cudaStreamDestroy, (cuda_stream stream))                                                               \
    X(cudaEventCreateWithFlags, (cuda_event *event, unsigned flags))                                         \
    X(cudaEventRecord, (cuda_event event, cuda_stream stream))                                               \
    X(cudaEventSynchronize, (cuda_event event))                                                              \
    X(cudaEventDestroy, (cuda_event event))

// libcuda, the driver: cuda.h
#define CUDA_DRIVER_FUNCTIONS(X)                                                                             \
    X(cuInit, (unsigned flags))                                                                              \
    X(cuDriverGetVersion, (int *version))                                                                    \
    X(cuDeviceGetCount, (int *count))                                                                        \
    X(cuDeviceGet, (int *device, int ordinal))                                                               \
    X(cuDeviceGetName, (char *name, int length, int device))                                                 \
    X(cuDeviceGetUuid_v2, (unsigned char *uuid, int device))                                                 \
    X(cuDeviceTotalMem_v2, (size_t *bytes, int device))                                                      \
    X(cuDeviceGetAttribute, (int *value, int attribute, int device))                                         \
    X(cuModuleLoadDataEx, (cuda_module *module, const void *image, unsigned count, int *options, void **values)) \
    X(cuModuleUnload, (cuda_module module))                                                                  \
    X(cuModuleGetFunction, (cuda_function *function, cuda_module module, const char *name))                  \
    X(cuFuncSetAttribute, (cuda_function function, int attribute, int value))                                \
    X(cuLaunchKernel, (cuda_function function, unsigned gridX, unsigned gridY, unsigned gridZ, unsigned blockX, \
                       unsigned blockY, unsigned blockZ, unsigned sharedBytes, cuda_stream stream, void **arguments, \
                       void **extra))                                                                        \
    X(cuEventElapsedTime, (float *milliseconds, cuda_event start, cuda_event end))

// libcublas: cublas_api.h
#define CUBLAS_FUNCTIONS(X)                                                                                  \
    X(cublasCreate_v2, (cublas_handle *handle))                                                              \
    X(cublasDestroy_v2, (cublas_handle handle))                                                              \
    X(cublasGetProperty, (int type, int *value))                                                             \
    X(cublasSetStream_v2, (cublas_handle handle, cuda_stream stream))                                        \
    X(cublasSetWorkspace_v2, (cublas_handle handle, void *workspace, size_t bytes))                          \
    X(cublasGemmEx, (cublas_handle handle, int opA, int opB, int m, int n, int k, const void *alpha, const void *A, \
                     int typeA, int ldA, const void *B, int typeB, int ldB, const void *beta, void *C, int typeC, \
                     int ldC, int computeType, int algorithm))

#define CCUDA_POINTER(name, arguments) int(*name) arguments;
typedef struct cudart_table {
    CUDART_FUNCTIONS(CCUDA_POINTER)
    const char *(*cudaGetErrorName)(int error);
    const char *(*cudaGetErrorString)(int error);
} cudart_table;
typedef struct cuda_driver_table {
    CUDA_DRIVER_FUNCTIONS(CCUDA_POINTER)
    int (*cuGetErrorName)(int error, const char **name);
    int (*cuGetErrorString)(int error, const char **text);
} cuda_driver_table;
typedef struct cublas_table {
    CUBLAS_FUNCTIONS(CCUDA_POINTER)
} cublas_table;
#undef CCUDA_POINTER

// Each of these functions fills a table from `library`, a handle of dlopen. It returns the name of the first function
// that the library lacks; null if it lacks none.
const char *ccuda_fill_cudart(void *library, cudart_table *table);
const char *ccuda_fill_driver(void *library, cuda_driver_table *table);
const char *ccuda_fill_cublas(void *library, cublas_table *table);

// Returns the path of the file that dlopen loaded for the handle `library`; null if dlinfo fails. This function is in
// C because dlinfo needs _GNU_SOURCE.
const char *ccuda_library_path(void *library);

// Launches `function` on a grid of gridX by gridY blocks of `block` threads. `arguments` has `count` elements, at
// most 32, each with its value in the low bytes. Returns the status of cuLaunchKernel, or 1 if `count` is above 32.
int ccuda_launch(const cuda_driver_table *table, cuda_function function, unsigned gridX, unsigned gridY, unsigned block,
                 unsigned sharedBytes, cuda_stream stream, const uint64_t *arguments, int count);

// Returns the PTX of the kernels, which ends with a zero byte.
const char *ccuda_ptx(void);
