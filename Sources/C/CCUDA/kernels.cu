// The kernels of the CUDA backend. cuBLAS computes products of 16-bit operands. These kernels compute everything
// else, in float32.
//
// With float32 precision, an operand of a product is split into two parts of binary16. First the operand is scaled
// into the range of binary16. The high part is the binary16 nearest to the scaled value. The low part is the binary16
// nearest to LOW_SCALE times the remainder. Together the parts have 22 bits of mantissa. Weights that one part
// represents exactly have no low part. A row of activations is stored as [low | high]. With bfloat16 precision, an
// operand is one part of bfloat16. See CUDABackend+Products.swift.
//
// Matrices are row-major; a row is a token. scripts/make/kernels compiles this file to kernels.ptx.

#include "prelude.h"

// Before activations are split into two parts, they are multiplied by ACTIVATION_SCALE. So magnitudes up to 1.6e7 are
// within the range of binary16. The remainder for the low part is multiplied by LOW_SCALE.
#define ACTIVATION_SCALE 0.00390625f
#define LOW_SCALE 2048.f

// Writes `value` as element `i` of a row of `width` elements. parts: 1 for one part of bfloat16, 2 for [low | high]
// in binary16.
DEVICE void putParts(Half *row, int parts, int width, int i, float value) {
    if (parts == 2) {
        float scaled = value * ACTIVATION_SCALE;
        Half high = toFloat16(scaled);
        row[i] = toFloat16((scaled - fromFloat16(high)) * LOW_SCALE);
        row[width + i] = high;
    } else {
        row[i] = toBFloat16(value);
    }
}

// Converts a stored weight matrix (rows, width) to 16-bit parts. type is the stored type: 0 float32, 1 bfloat16, 2
// binary16. If parts is 0, elements are rounded to bfloat16. If parts is 1 or 2, elements are multiplied by `scale`
// and written as one or two parts of binary16. Row r of part p begins at out + p * partStride + r * rowStride; part 0
// is the high part. If `rest` is not null, it receives the remainder after two parts.
KERNEL(split_weights)(const void *source, int type, long long rows, int width, int parts, float scale, Half *out,
                      long long rowStride, long long partStride, Half *rest) {
    long long count = rows * width, step = (long long)gridDim.x * blockDim.x;
    for (long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x; at < count; at += step) {
        float value = type == 0   ? ((const float *)source)[at]
                      : type == 1 ? fromBFloat16(((const Half *)source)[at])
                                  : fromFloat16(((const Half *)source)[at]);
        long long row = at / width;
        Half *place = out + row * rowStride + (at - row * width);
        if (parts == 0) {
            *place = toBFloat16(value);
            continue;
        }
        value *= scale;
        Half high = toFloat16(value);
        *place = high;
        if (parts == 1) continue;
        float remainder = (value - fromFloat16(high)) * LOW_SCALE;
        Half low = toFloat16(remainder);
        place[partStride] = low;
        if (rest) rest[at] = toFloat16((remainder - fromFloat16(low)) * LOW_SCALE);
    }
}

// Converts activations x (rows, width) to 16-bit parts (see putParts). One block per row.
KERNEL(split_rows)(const float *x, Half *out, int parts, int width) {
    const float *row = x + (long long)blockIdx.x * width;
    Half *place = out + (long long)blockIdx.x * width * parts;
    for (int i = threadIdx.x; i < width; i += blockDim.x) putParts(place, parts, width, i, row[i]);
}

// x[t] = factor * table[ids[t]]. split_weights has written the table; `unscale` is 1 / scale. A row of the table is
// [high | low], and rows are rowStride elements apart. If `rest` is not null, the remainder in `rest` is added. One
// block per row of x.
KERNEL(embed_rows)(const int *ids, const Half *table, const Half *rest, int parts, float unscale, long long rowStride,
                   float *x, int width, float factor) {
    long long id = ids[blockIdx.x];
    const Half *row = table + id * rowStride;
    float *out = x + (long long)blockIdx.x * width;
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        float value;
        if (parts == 0) {
            value = fromBFloat16(row[i]);
        } else {
            value = fromFloat16(row[i]);
            if (parts == 2) {
                float below = rest ? fromFloat16(rest[id * width + i]) / LOW_SCALE : 0.f;
                value += (fromFloat16(row[width + i]) + below) / LOW_SCALE;
            }
            value *= unscale;
        }
        out[i] = value * factor;
    }
}

// Computes x * rsqrt(mean(x^2) + epsilon) * weight. Writes the result to `out` as float32 and to `split` in 16-bit
// parts. A null pointer is not written to. One block per row.
KERNEL(rms_norm)(const float *x, const float *weight, float *out, Half *split, int parts, int width, float epsilon) {
    SHARED(float, room, 33);
    const float *row = x + (long long)blockIdx.x * width;
    float squares = 0;
    for (int i = threadIdx.x; i < width; i += blockDim.x) squares += row[i] * row[i];
    float factor = 1.f / sqrtf(blockSum(squares, room) / width + epsilon);
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        float value = TIMES(TIMES(row[i], factor), weight[i]);
        if (out) out[(long long)blockIdx.x * width + i] = value;
        if (split) putParts(split + (long long)blockIdx.x * width * parts, parts, width, i, value);
    }
}

// x += y * rsqrt(mean(y^2) + epsilon) * weight: adds the norm of an attention or MLP output to the residual stream.
// The result has the same bits as rms_norm followed by add, because each operation rounds in the same way. Those two
// kernels run if the norm is tapped. So a tap changes no later result. One block per row.
KERNEL(add_rms_norm)(const float *y, const float *weight, float *x, int width, float epsilon) {
    SHARED(float, room, 33);
    const float *row = y + (long long)blockIdx.x * width;
    float *out = x + (long long)blockIdx.x * width;
    float squares = 0;
    for (int i = threadIdx.x; i < width; i += blockDim.x) squares += row[i] * row[i];
    float factor = 1.f / sqrtf(blockSum(squares, room) / width + epsilon);
    for (int i = threadIdx.x; i < width; i += blockDim.x) out[i] = PLUS(out[i], TIMES(TIMES(row[i], factor), weight[i]));
}

// x += y, for `count` elements.
KERNEL(add)(const float *y, float *x, long long count) {
    long long step = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step) x[i] += y[i];
}

// Applies the rotary embedding in place, in the half-split form: elements i and i + half of a head are rotated as a
// pair. The angle depends on i and on the position of the row. x is (rows, heads * 2 * half); cosines and sines are
// (positions, half). One block per row.
KERNEL(rotate)(float *x, const int *positions, const float *cosines, const float *sines, int heads, int half) {
    float *row = x + (long long)blockIdx.x * heads * 2 * half;
    long long angle = (long long)positions[blockIdx.x] * half;
    for (int at = threadIdx.x; at < heads * half; at += blockDim.x) {
        int head = at / half, i = at - head * half;
        float cosine = cosines[angle + i], sine = sines[angle + i];
        float *pair = row + head * 2 * half + i;
        float a = pair[0], b = pair[half];
        pair[0] = a * cosine - b * sine;
        pair[half] = b * cosine + a * sine;
    }
}

// Grouped-query attention within documents that are packed end to end, with soft-cap and window. The kernel uses an
// online softmax (Milakov & Gimelshein 2018) and tiles as in FlashAttention (Dao et al. 2022).
//
// A piece is consecutive queries of one document. It is stored as three numbers: row of the first query, number of
// queries, first row of the document. A block computes one piece for one key head and for all query heads that read
// this key head. Row r of a tile of queries is query r / group of the piece, for query head r % group. Keys are
// loaded in tiles of 32. A block has 256 threads; each warp computes four rows of the tile. Head widths are multiples
// of 4 and at most 256.
//
// q and out are (tokens, heads * width); k and v are (tokens, keyHeads * width). cap 0 means no soft-cap. window 0
// means that a query sees all keys up to its own position. The size of dynamic shared memory is sharedBytes(width) in
// CUDABackend.swift.
#define TILE 32
#define TILE_PAD 36

// Loads the rows `first` to `first + TILE - 1` of `source` into `tile`. Rows from `end` on and columns from `width`
// on become zero. `source` points to the columns of one key head. Rows are `sourceStride` floats apart in `source`
// and `stride` floats apart in `tile`. A row of `tile` has `quads` groups of four floats.
DEVICE void loadTile(const float *source, long long sourceStride, int first, int end, int width, int quads, float *tile,
                     int stride) {
    for (int at = threadIdx.x; at < TILE * quads; at += 256) {
        int row = at / quads, i = (at - row * quads) * 4;
        float4 value = make_float4(0.f, 0.f, 0.f, 0.f);
        if (first + row < end && i < width) value = *(const float4 *)(source + (first + row) * sourceStride + i);
        *(float4 *)(tile + row * stride + i) = value;
    }
}

// The code of both attention kernels. WIDTH is the head width if it is known at compile time, so that the compiler
// unrolls the loops over the width. Otherwise WIDTH is 0, and `anyWidth` is the head width.
template <int WIDTH>
DEVICE void attend(const float *q, const float *k, const float *v, float *out, const int *pieces, int keyHeads, int group,
                   int anyWidth, float scale, float cap, int window, float *shared) {
    const int width = WIDTH ? WIDTH : anyWidth;
    int padded = (width + 31) / 32 * 32, stride = padded + 16;  // + 16: neighbouring rows are in different banks
    float *queries = shared, *keys = queries + TILE * stride, *weights = keys + TILE * stride;  // weights: (key, row)
    int thread = threadIdx.x, lane = thread & 31, warp = thread >> 5;
    int first = pieces[3 * blockIdx.x], count = pieces[3 * blockIdx.x + 1], start = pieces[3 * blockIdx.x + 2];
    int keyHead = blockIdx.y, rows = count * group;
    long long queryStride = (long long)keyHeads * group * width, keyStride = (long long)keyHeads * width;
    int quads = padded / 4;

    for (int at = thread; at < TILE * quads; at += 256) {
        int row = at / quads, i = (at - row * quads) * 4;
        float4 value = make_float4(0.f, 0.f, 0.f, 0.f);
        if (row < rows && i < width)
            value = *(const float4 *)(q + (first + row / group) * queryStride +
                                      (long long)(keyHead * group + row % group) * width + i);
        *(float4 *)(queries + row * stride + i) = value;
    }

    float sum[4][8], largest[4], total[4];
    UNROLL for (int a = 0; a < 4; a++) {
        largest[a] = -INFINITE;
        total[a] = 0;
        UNROLL for (int j = 0; j < 8; j++) sum[a][j] = 0;
    }
    int part = lane & 3, column = lane >> 2;  // this thread sums a quarter of the width, for four keys
    int end = first + count;                  // no query of the piece sees later keys
    int begin = window > 0 && first - window + 1 > start ? first - window + 1 : start;
    for (int tile = begin; tile < end; tile += TILE) {
        __syncthreads();
        loadTile(k + (long long)keyHead * width, keyStride, tile, end, width, quads, keys, stride);
        __syncthreads();

        float score[4][4];
        UNROLL for (int a = 0; a < 4; a++) UNROLL for (int b = 0; b < 4; b++) score[a][b] = 0;
        UNROLLED(2)
        for (int i = part * 4; i < padded; i += 16) {
            float4 left[4], right[4];
            UNROLL for (int a = 0; a < 4; a++) left[a] = *(const float4 *)(queries + (warp * 4 + a) * stride + i);
            UNROLL for (int b = 0; b < 4; b++) right[b] = *(const float4 *)(keys + (column + 8 * b) * stride + i);
            UNROLL for (int a = 0; a < 4; a++) UNROLL for (int b = 0; b < 4; b++) {
                score[a][b] += left[a].x * right[b].x;
                score[a][b] += left[a].y * right[b].y;
                score[a][b] += left[a].z * right[b].z;
                score[a][b] += left[a].w * right[b].w;
            }
        }
        UNROLL for (int a = 0; a < 4; a++) {
            int row = warp * 4 + a, query = first + row / group;
            UNROLL for (int b = 0; b < 4; b++) {
                float value = score[a][b];
                value += __shfl_xor_sync(0xffffffffu, value, 1);
                value += __shfl_xor_sync(0xffffffffu, value, 2);
                if (part != a) continue;
                int key = tile + column + 8 * b;
                bool isSeen = row < rows && key <= query && (window == 0 || key > query - window);
                value *= scale;
                if (cap > 0) value = tanhf(value / cap) * cap;
                weights[(column + 8 * b) * TILE_PAD + row] = isSeen ? value : -INFINITE;
            }
        }
        __syncthreads();

        // The keys are no longer needed, so the values are loaded in their place. In addition, each lane converts the
        // four scores of one key into weights.
        loadTile(v + (long long)keyHead * width, keyStride, tile, end, width, quads, keys, stride);
        float4 *mine = (float4 *)(weights + lane * TILE_PAD + warp * 4);
        float4 scores = *mine;
        float weight[4] = {scores.x, scores.y, scores.z, scores.w}, correction[4];
        UNROLL for (int a = 0; a < 4; a++) {
            float now = fmaxf(largest[a], warpMax(weight[a]));
            // If `largest` is -INFINITE, the row has not seen any key.
            correction[a] = largest[a] == -INFINITE ? 0.f : expf(largest[a] - now);
            weight[a] = weight[a] == -INFINITE ? 0.f : expf(weight[a] - now);
            total[a] = total[a] * correction[a] + warpSum(weight[a]);
            largest[a] = now;
        }
        *mine = make_float4(weight[0], weight[1], weight[2], weight[3]);
        __syncthreads();

        UNROLL for (int a = 0; a < 4; a++) UNROLL for (int j = 0; j < 8; j++) sum[a][j] *= correction[a];
        UNROLLED(4)
        for (int key = 0; key < TILE; key++) {
            float4 p = *(const float4 *)(weights + key * TILE_PAD + warp * 4);
            UNROLL for (int j = 0; j < 2; j++) {
                int i = lane * 4 + 128 * j;
                if (i >= padded) continue;
                float4 value = *(const float4 *)(keys + key * stride + i);
                float factor[4] = {p.x, p.y, p.z, p.w};
                UNROLL for (int a = 0; a < 4; a++) {
                    sum[a][4 * j] += factor[a] * value.x;
                    sum[a][4 * j + 1] += factor[a] * value.y;
                    sum[a][4 * j + 2] += factor[a] * value.z;
                    sum[a][4 * j + 3] += factor[a] * value.w;
                }
            }
        }
    }
    UNROLL for (int a = 0; a < 4; a++) {
        int row = warp * 4 + a;
        if (row >= rows) continue;
        float *place = out + (first + row / group) * queryStride + (long long)(keyHead * group + row % group) * width;
        UNROLL for (int j = 0; j < 2; j++) {
            int i = lane * 4 + 128 * j;
            if (i >= width) continue;
            *(float4 *)(place + i) = make_float4(sum[a][4 * j] / total[a], sum[a][4 * j + 1] / total[a],
                                                 sum[a][4 * j + 2] / total[a], sum[a][4 * j + 3] / total[a]);
        }
    }
}

BOUNDED_KERNEL(attention, 256, 2)(const float *q, const float *k, const float *v, float *out, const int *pieces,
                                  int keyHeads, int group, int width, float scale, float cap, int window) {
    DYNAMIC_SHARED(float, shared);
    attend<0>(q, k, v, out, pieces, keyHeads, group, width, scale, cap, window, shared);
}

// `attention` for a head width of 256, which all published Gemma 2 models have.
BOUNDED_KERNEL(attention_256, 256, 2)(const float *q, const float *k, const float *v, float *out, const int *pieces,
                                      int keyHeads, int group, int width, float scale, float cap, int window) {
    DYNAMIC_SHARED(float, shared);
    attend<256>(q, k, v, out, pieces, keyHeads, group, width, scale, cap, window, shared);
}

// Computes gelu_tanh(gate) * up. Writes the result to `out` as float32 and to `split` in 16-bit parts. A null pointer
// is not written to. One block per row.
KERNEL(geglu)(const float *gate, const float *up, float *out, Half *split, int parts, int width) {
    long long start = (long long)blockIdx.x * width;
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        float x = gate[start + i];
        float value = 0.5f * x * (1.f + tanhf(0.7978845608f * (x + 0.044715f * (x * x * x)))) * up[start + i];
        if (out) out[start + i] = value;
        if (split) putParts(split + start * parts, parts, width, i, value);
    }
}

// The logits of one row so far, reduced to four numbers. `largest` is the largest logit. `sum` and `weighted` are the
// sums of e^l and of l * e^l, where l is the logit minus the largest logit. `target` is the logit of the next token.
struct Partition {
    double sum, weighted;
    float largest, target;
    int isNonFinite, padding;
};

// Adds one chunk of the vocabulary to the Partition of each row. The chunk is logits (rows, count), for the tokens
// `first` to first + count - 1. If `isFirst`, the old content of the Partition is ignored. One block per row.
KERNEL(reduce_logits)(const float *logits, int count, int first, float cap, const int *next, Partition *rows, int isFirst) {
    SHARED(float, room, 33);
    const float *row = logits + (long long)blockIdx.x * count;
    float largest = -INFINITE, sum = 0, weighted = 0, zeros = 0;
    for (int i0 = threadIdx.x; i0 < count; i0 += 4 * blockDim.x) {
        // A thread takes four logits at a time. So their loads do not wait for each other, and `largest` is updated
        // once for all four.
        float logit[4];
        UNROLL for (int j = 0; j < 4; j++) {
            int i = i0 + j * blockDim.x;
            logit[j] = i < count ? row[i] : -INFINITE;
        }
        float top = largest;
        UNROLL for (int j = 0; j < 4; j++) {
            if (i0 + j * (int)blockDim.x >= count) continue;
            zeros += logit[j] * 0.f;  // before the cap, because the cap makes an infinite logit finite
            if (cap > 0) logit[j] = tanhf(logit[j] / cap) * cap;
            top = fmaxf(top, logit[j]);
        }
        if (top > largest) {
            float shift = largest - top, scale = expf(shift);
            weighted = sum > 0 ? scale * (weighted + shift * sum) : 0.f;
            sum *= scale;
            largest = top;
        }
        UNROLL for (int j = 0; j < 4; j++) {
            float below = logit[j] - largest, e = expf(below);
            sum += e;
            weighted += e > 0 ? below * e : 0.f;
        }
    }
    float highest = blockMax(largest, room);
    float shift = largest - highest, scale = sum > 0 ? expf(shift) : 0.f;
    float blockTotal = blockSum(sum * scale, room);
    float blockWeighted = blockSum(sum > 0 && scale > 0 ? scale * (weighted + shift * sum) : 0.f, room);
    float blockZeros = blockSum(zeros, room);
    if (threadIdx.x > 0) return;
    Partition p;
    if (isFirst) {
        p.sum = p.weighted = 0;
        p.largest = -INFINITE;
        p.target = 0;
        p.isNonFinite = p.padding = 0;
    } else {
        p = rows[blockIdx.x];
    }
    if (!(blockZeros == 0.f)) p.isNonFinite = 1;
    float now = fmaxf(p.largest, highest);
    double before = p.sum > 0 ? exp((double)p.largest - now) : 0, here = exp((double)highest - now);
    p.weighted = (p.sum > 0 ? before * (p.weighted + ((double)p.largest - now) * p.sum) : 0) +
                 here * (blockWeighted + ((double)highest - now) * blockTotal);
    p.sum = before * p.sum + here * blockTotal;
    p.largest = now;
    int target = next[blockIdx.x] - first;
    if (target >= 0 && target < count) {
        float logit = row[target];
        p.target = cap > 0 ? tanhf(logit / cap) * cap : logit;
    }
    rows[blockIdx.x] = p;
}

// Computes cross-entropy and entropy of each row, and the lowest row with a logit that is NaN or infinite. The
// cross-entropy is 0 if the row has no next token (-1).
KERNEL(finish_predictions)(const Partition *partitions, const int *next, int rows, float *crossEntropy, float *entropy,
                           int *firstNonFinite) {
    int row = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= rows) return;
    Partition p = partitions[row];
    double logSum = log(p.sum), uncertainty = logSum - p.weighted / p.sum, loss = logSum + p.largest - p.target;
    // If the true value is zero, rounding can give a slightly negative result.
    entropy[row] = (float)(uncertainty > 0 ? uncertainty : 0);
    crossEntropy[row] = next[row] >= 0 ? (float)(loss > 0 ? loss : 0) : 0.f;
    if (p.isNonFinite || !((logSum + p.weighted) * 0 == 0)) atomicMin(firstNonFinite, row);
}

// JumpReLU: stores each column and value of pre + bias that is above both threshold and floor. pre is (rows, count).
// The entries of row r are counts[r] elements of `columns` and `values`, from index offsets[r] on. Columns ascend
// within a row. Rows are stored in the order in which their blocks reserve entries. cursor[0] counts all entries;
// those beyond `capacity` are counted but not stored. cursor[1] becomes 1 if a value of pre + bias is NaN or
// infinite. One block of 256 threads per row.
KERNEL(jump_relu)(const float *pre, const float *bias, const float *threshold, float floor, int count, int firstRow,
                  int capacity, int *cursor, int *counts, int *offsets, int *columns, float *values) {
    SHARED(int, ends, 9);
    const float *row = pre + (long long)blockIdx.x * count;
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    int share = ((count + 7) / 8 + 127) / 128 * 128, begin = warp * share;
    int end = begin + share < count ? begin + share : count;
    int found = 0;
    float zeros = 0;
    if (count % 4 == 0) {
        UNROLLED(4)
        for (int i = begin + lane * 4; i < end; i += 128) {
            float4 x = *(const float4 *)(row + i), b = *(const float4 *)(bias + i), t = *(const float4 *)(threshold + i);
            x.x += b.x, x.y += b.y, x.z += b.z, x.w += b.w;
            zeros += (x.x * 0.f + x.y * 0.f) + (x.z * 0.f + x.w * 0.f);
            found += (x.x > fmaxf(t.x, floor)) + (x.y > fmaxf(t.y, floor)) + (x.z > fmaxf(t.z, floor)) +
                     (x.w > fmaxf(t.w, floor));
        }
    } else {
        for (int i = begin + lane; i < end; i += 32) {
            float value = row[i] + bias[i];
            zeros += value * 0.f;
            found += value > fmaxf(threshold[i], floor);
        }
    }
    if (!(zeros == 0.f)) cursor[1] = 1;
    for (int other = 16; other; other >>= 1) found += __shfl_xor_sync(0xffffffffu, found, other);
    if (lane == 0) ends[warp] = found;
    __syncthreads();
    if (threadIdx.x == 0) {
        int total = 0;
        for (int w = 0; w < 8; w++) {
            int here = ends[w];
            ends[w] = total;
            total += here;
        }
        ends[8] = atomicAdd(cursor, total);
        counts[firstRow + blockIdx.x] = total;
        offsets[firstRow + blockIdx.x] = ends[8];
    }
    __syncthreads();
    if (found == 0) return;
    long long place = (long long)ends[8] + ends[warp];
    if (count % 4 == 0) {
        unsigned below = (1u << lane) - 1u;
        UNROLLED(2)
        for (int i0 = begin; i0 < end; i0 += 128) {
            int i = i0 + lane * 4;
            float value[4] = {0.f, 0.f, 0.f, 0.f};
            unsigned on[4] = {0, 0, 0, 0};
            if (i < end) {
                float4 x = *(const float4 *)(row + i), b = *(const float4 *)(bias + i), t = *(const float4 *)(threshold + i);
                value[0] = x.x + b.x, value[1] = x.y + b.y, value[2] = x.z + b.z, value[3] = x.w + b.w;
                on[0] = value[0] > fmaxf(t.x, floor), on[1] = value[1] > fmaxf(t.y, floor);
                on[2] = value[2] > fmaxf(t.z, floor), on[3] = value[3] > fmaxf(t.w, floor);
            }
            unsigned all[4];
            UNROLL for (int j = 0; j < 4; j++) all[j] = __ballot_sync(0xffffffffu, on[j]);
            if (!(all[0] | all[1] | all[2] | all[3])) continue;
            // Entries of lower lanes come first. The entries of one lane follow each other.
            long long at = place + __popc(all[0] & below) + __popc(all[1] & below) + __popc(all[2] & below) +
                           __popc(all[3] & below);
            UNROLL for (int j = 0; j < 4; j++) {
                if (on[j] && at < capacity) {
                    columns[at] = i + j;
                    values[at] = value[j];
                }
                at += on[j];
            }
            place += __popc(all[0]) + __popc(all[1]) + __popc(all[2]) + __popc(all[3]);
        }
        return;
    }
    for (int i0 = begin; i0 < end; i0 += 32) {
        int i = i0 + lane;
        float value = i < end ? row[i] + bias[i] : 0.f;
        bool isOn = i < end && value > fmaxf(threshold[i], floor);
        unsigned on = __ballot_sync(0xffffffffu, isOn);
        long long at = place + __popc(on & ((1u << lane) - 1u));
        if (isOn && at < capacity) {
            columns[at] = i;
            values[at] = value;
        }
        place += __popc(on);
    }
}

// Lowers *result to the lowest row of x (rows, width) with an element that is not finite. One block per row.
KERNEL(first_non_finite_row)(const float *x, int width, int *result) {
    const float *row = x + (long long)blockIdx.x * width;
    float zeros = 0;
    for (int i = threadIdx.x; i < width; i += blockDim.x) zeros += row[i] * 0.f;
    if (!(zeros == 0.f)) atomicMin(result, (int)blockIdx.x);
}
