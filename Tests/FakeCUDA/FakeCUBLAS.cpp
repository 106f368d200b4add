// A CPU stand-in for cuBLAS, for tests. It computes products of matrices in float32, float16 or bfloat16. Products
// are enqueued on the stream of the handle. Operands must be within allocations of the device.
#include "Device.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>
#include <vector>

using namespace fake;

namespace {

enum Status {
    success = 0,
    notInitialised = 1,
    invalidValue = 7,
    executionFailed = 13,
    notSupported = 15,
};

enum Type { float32 = 0, float16 = 2, bfloat16 = 14 };

struct Handle {
    void *stream = nullptr;
};

// The lock that `call` takes protects this set.
std::set<Handle *> &handles = *new std::set<Handle *>;

bool isHandle(Handle *handle) { return handles.count(handle) > 0; }

float widened(Type type, uint16_t bits) {
    if (type == float16) return (float)std::bit_cast<_Float16>(bits);
    return std::bit_cast<float>((uint32_t)bits << 16);
}

uint16_t rounded(Type type, float value) {
    if (type == float16) return std::bit_cast<uint16_t>((_Float16)value);
    uint32_t bits = std::bit_cast<uint32_t>(value);
    if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// A column-major matrix: element (row, column) is at row + column * stride.
struct Matrix {
    const void *data;
    Type type;
    size_t stride;
    bool isTransposed;
};

// The size of a tile of the result. For each step along the common dimension, the packed operands have the elements
// of a tile's rows or columns next to each other.
constexpr size_t tileRows = 8, tileColumns = 4;

// The number of products that are summed in float. These sums are then added in double, because a float sum of all
// products would be less accurate than a device's sum.
constexpr size_t steps = 64;

// Packs `count` rows of op(matrix), or columns if `areColumns`, in groups of `tile`. The last group is filled with
// zeros.
std::vector<float> packed(const Matrix &matrix, size_t count, size_t depth, size_t tile, bool areColumns) {
    std::vector<float> out((count + tile - 1) / tile * tile * depth);
    // The distances in memory, in elements, between neighbours along `count` and along `depth`.
    bool isCountStrided = areColumns != matrix.isTransposed;
    size_t countStride = isCountStrided ? matrix.stride : 1, depthStride = isCountStrided ? 1 : matrix.stride;
    for (size_t i = 0; i < count; i++) {
        float *place = out.data() + i / tile * tile * depth + i % tile;
        size_t at = i * countStride;
        if (matrix.type == float32) {
            const float *source = static_cast<const float *>(matrix.data) + at;
            for (size_t l = 0; l < depth; l++) place[l * tile] = source[l * depthStride];
        } else {
            const uint16_t *source = static_cast<const uint16_t *>(matrix.data) + at;
            for (size_t l = 0; l < depth; l++) place[l * tile] = widened(matrix.type, source[l * depthStride]);
        }
    }
    return out;
}

typedef float Vector __attribute__((vector_size(16)));

void multiplyTile(const float *a, const float *b, size_t depth, double (*sums)[tileRows]) {
    for (size_t j = 0; j < tileColumns; j++) std::fill_n(sums[j], tileRows, 0.0);
    for (size_t begin = 0; begin < depth; begin += steps) {
        size_t end = std::min(depth, begin + steps);
        Vector part[tileColumns][2] = {};
        for (size_t l = begin; l < end; l++) {
            Vector low, high;
            memcpy(&low, a + l * tileRows, sizeof low);
            memcpy(&high, a + l * tileRows + 4, sizeof high);
            for (size_t j = 0; j < tileColumns; j++) {
                float factor = b[l * tileColumns + j];
                part[j][0] += low * factor;
                part[j][1] += high * factor;
            }
        }
        for (size_t j = 0; j < tileColumns; j++) {
            for (size_t i = 0; i < tileRows; i++) sums[j][i] += (double)part[j][i / 4][i % 4];
        }
    }
}

struct Product {
    size_t m, n, k;
    float alpha, beta;
    Matrix a, b;
    void *c;
    Type typeC;
    size_t strideC;

    void run() const {
        std::vector<float> left = packed(a, m, k, tileRows, false), right = packed(b, n, k, tileColumns, true);
        double sums[tileColumns][tileRows];
        for (size_t j0 = 0; j0 < n; j0 += tileColumns) {
            for (size_t i0 = 0; i0 < m; i0 += tileRows) {
                multiplyTile(left.data() + i0 * k, right.data() + j0 * k, k, sums);
                for (size_t j = j0; j < std::min(n, j0 + tileColumns); j++) {
                    for (size_t i = i0; i < std::min(m, i0 + tileRows); i++) store(i, j, sums[j - j0][i - i0]);
                }
            }
        }
    }

    void store(size_t i, size_t j, double sum) const {
        size_t at = j * strideC + i;
        if (typeC == float32) {
            float &element = static_cast<float *>(c)[at];
            // If beta is 0, the old value is not read, because it may be undefined.
            element = (float)(alpha * sum + (beta == 0 ? 0 : (double)beta * element));
        } else {
            uint16_t &element = static_cast<uint16_t *>(c)[at];
            double before = beta == 0 ? 0 : (double)beta * widened(typeC, element);
            element = rounded(typeC, (float)(alpha * sum + before));
        }
    }
};

// Finds the host address of a `rows` x `columns` matrix. Returns false if the matrix is not within one allocation. A
// matrix without elements may have any address.
bool locate(const char *name, const void *device, int type, int rows, int columns, int stride, const void **host) {
    *host = nullptr;
    if (rows == 0 || columns == 0) return true;
    size_t elements = (size_t)(columns - 1) * (size_t)stride + (size_t)rows;
    *host = hostAddress(device, elements * (type == float32 ? 4 : 2));
    if (!*host) {
        fprintf(stderr, "fake cuBLAS: operand %s, %d x %d by %d at %p, is not within one allocation\n", name, rows,
                columns, stride, device);
    }
    return *host;
}

}  // namespace

FAKE_EXPORT int cublasCreate_v2(Handle **handle) {
    return call(__func__, Needs::cublas, [=] {
        if (getenv("FAKE_CUBLAS_NOINIT")) return notInitialised;
        *handle = new Handle;
        handles.insert(*handle);
        return success;
    });
}

FAKE_EXPORT int cublasDestroy_v2(Handle *handle) {
    return call(__func__, Needs::cublas, [=] {
        if (!handles.erase(handle)) return notInitialised;
        delete handle;
        return success;
    });
}

// Returns the major, minor or patch version. It is the runtime's version, because NVIDIA releases both together.
FAKE_EXPORT int cublasGetProperty(int type, int *value) {
    return call(__func__, Needs::nothing, [=] {
        if (type < 0 || type > 2) return invalidValue;
        int version = runtimeVersion();
        *value = type == 0 ? version / 1000 : type == 1 ? version % 1000 / 10 : 0;
        return success;
    });
}

FAKE_EXPORT int cublasSetStream_v2(Handle *handle, void *stream) {
    return call(__func__, Needs::cublas, [=] {
        if (!isHandle(handle)) return notInitialised;
        handle->stream = stream;
        return success;
    });
}

FAKE_EXPORT int cublasSetWorkspace_v2(Handle *handle, void *workspace, size_t bytes) {
    return call(__func__, Needs::cublas, [=] {
        if (!isHandle(handle)) return notInitialised;
        return workspace && !hostAddress(workspace, bytes) ? invalidValue : success;
    });
}

FAKE_EXPORT int cublasGemmEx(Handle *handle, int opA, int opB, int m, int n, int k, const void *alpha, const void *A,
                             int typeA, int ldA, const void *B, int typeB, int ldB, const void *beta, void *C,
                             int typeC, int ldC, int computeType, int) {
    return call(__func__, Needs::cublas, [=] {
        if (!isHandle(handle)) return notInitialised;
        if (opA < 0 || opA > 2 || opB < 0 || opB > 2 || m < 0 || n < 0 || k < 0) return invalidValue;
        int rowsA = opA ? k : m, columnsA = opA ? m : k, rowsB = opB ? n : k, columnsB = opB ? k : n;
        if (ldA < std::max(1, rowsA) || ldB < std::max(1, rowsB) || ldC < std::max(1, m)) return invalidValue;
        bool isTyped = typeA == typeB && (typeA == float32 || typeA == float16 || typeA == bfloat16) &&
                       (typeC == float32 || typeC == typeA);
        // CUBLAS_COMPUTE_32F and CUBLAS_COMPUTE_32F_PEDANTIC.
        if (!isTyped || (computeType != 68 && computeType != 69)) return notSupported;
        // `alpha` and `beta` must be on the host, which is the default pointer mode of cuBLAS.
        if (!alpha || !beta || isDeviceAddress(alpha) || isDeviceAddress(beta)) return invalidValue;
        if (isLost()) return executionFailed;
        if (m == 0 || n == 0) return success;

        const void *a, *b, *c;
        if (!locate("A", A, typeA, rowsA, columnsA, ldA, &a) || !locate("B", B, typeB, rowsB, columnsB, ldB, &b) ||
            !locate("C", C, typeC, m, n, ldC, &c)) {
            return executionFailed;
        }
        Product product{
            .m = (size_t)m,
            .n = (size_t)n,
            .k = (size_t)k,
            .alpha = *static_cast<const float *>(alpha),
            .beta = *static_cast<const float *>(beta),
            .a = {a, (Type)typeA, (size_t)ldA, opA != 0},
            .b = {b, (Type)typeB, (size_t)ldB, opB != 0},
            .c = const_cast<void *>(c),
            .typeC = (Type)typeC,
            .strideC = (size_t)ldC,
        };
        int status = enqueue(handle->stream, [product] {
            product.run();
            return 0;
        });
        return status ? executionFailed : success;
    });
}
