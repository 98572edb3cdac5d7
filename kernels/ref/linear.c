/* SPDX-License-Identifier: Apache-2.0 */
/* y = x W^T, and the plainest layout a weight can have:
 *
 *   F32   [n][k] float
 *   BF16  [n][k] uint16_t
 *   Q8    [n][k / 32] float scales, then [n][k] int8_t
 *
 * Inside a leaf k is walked in order. F32 adds each product with one rounding (fma); the product of
 * two bf16 numbers is exact in f32, so there fma and multiply-then-add are the same. */
#include "base/assert.h"
#include "base/checked.h"
#include "kernels/ref/ref.h"

size_t hdl_ref_weight_bytes(hdl_wformat format, uint32_t n, uint32_t k, uint32_t n_leaves)
{
    bool leaves_ok = n_leaves > 0 && n_leaves <= HDL_LEAVES_MAX && hdl_is_pow2(n_leaves) &&
                     (n_leaves == 1 || k % (n_leaves * HDL_LEAF_UNIT) == 0);
    size_t count = (size_t)n * k;
    if (n == 0 || k == 0 || !leaves_ok || count > SIZE_MAX / 8)
        return 0;
    switch (format) {
    case HDL_WFORMAT_F32: return count * 4;
    case HDL_WFORMAT_BF16: return k % 2 == 0 ? count * 2 : 0;
    case HDL_WFORMAT_Q8: return k % HDL_Q8_GROUP == 0 ? count + count / HDL_Q8_GROUP * 4 : 0;
    default: return 0;
    }
}

static float *q8_scales(const hdl_weight *w, size_t row)
{
    return (float *)w->data + row * (w->k / HDL_Q8_GROUP);
}

static int8_t *q8_values(const hdl_weight *w, size_t row)
{
    return (int8_t *)q8_scales(w, w->n) + row * w->k;
}

/* x: [k] -> scales [k / 32], values [k] */
static void q8_quantize(const float *x, uint32_t k, float *scales, int8_t *values)
{
    for (uint32_t i = 0; i < k; i++) {
        if (i % HDL_Q8_GROUP == 0)
            scales[i / HDL_Q8_GROUP] = hdl_q8_scale(x + i);
        values[i] = hdl_q8_round(x[i], scales[i / HDL_Q8_GROUP]);
    }
}

/* k [at, at + count) of one row, count at most 32. */
static void pack_chunk(const hdl_weight *w, size_t row, uint32_t at, const float *x)
{
    uint32_t count = hdl_min_u32(HDL_SOURCE_UNIT, w->k - at);
    if (w->format == HDL_WFORMAT_Q8) {
        q8_quantize(x, count, q8_scales(w, row) + at / HDL_Q8_GROUP, q8_values(w, row) + at);
        return;
    }
    for (uint32_t i = 0; i < count; i++)
        if (w->format == HDL_WFORMAT_F32)
            ((float *)w->data)[row * w->k + at + i] = x[i];
        else
            ((uint16_t *)w->data)[row * w->k + at + i] = hdl_bf16_from_f32(x[i]);
}

void hdl_ref_weight_pack(const hdl_pack_args *a)
{
    const hdl_weight *w = a->dst;
    HDL_ASSERT_EQ(a->src.n_cols, w->k);
    HDL_ASSERT_LE((uint64_t)a->row_at + a->src.n_rows, w->n);
    for (uint32_t r = 0; r < a->src.n_rows; r++)
        for (uint32_t at = 0; at < w->k; at += HDL_SOURCE_UNIT) {
            float x[HDL_SOURCE_UNIT];
            hdl_span span = {.row = r, .col = at, .n = hdl_min_u32(HDL_SOURCE_UNIT, w->k - at)};
            hdl_source_values(&a->src, span, x);
            pack_chunk(w, a->row_at + r, at, x);
        }
}

/* One token, in the arithmetic of the weight. */
typedef struct ref_input {
    const float *f32;       /* [k] F32; BF16: rounded to bf16 already */
    const int8_t *q8;       /* [k] */
    const float *q8_scales; /* [k / 32] */
} ref_input;

typedef struct ref_job {
    const hdl_linear_args *a;
    const ref_input *tokens; /* [n_tokens] */
} ref_job;

static float dot_f32(const float *x, const float *w, uint32_t k)
{
    float sum = 0;
    for (uint32_t i = 0; i < k; i++)
        sum = fmaf(x[i], w[i], sum);
    return sum;
}

static float dot_bf16(const float *x, const uint16_t *w, uint32_t k)
{
    float sum = 0;
    for (uint32_t i = 0; i < k; i++)
        sum += x[i] * hdl_bf16_to_f32(w[i]);
    return sum;
}

/* sum over groups of (integer dot) * (x scale * w scale) */
static float dot_q8(const ref_input *x, const hdl_weight *w, size_t row, uint32_t at, uint32_t k)
{
    const int8_t *wq = q8_values(w, row);
    const float *ws = q8_scales(w, row);
    float sum = 0;
    for (uint32_t g = at / HDL_Q8_GROUP; g < (at + k) / HDL_Q8_GROUP; g++) {
        int32_t dot = 0;
        for (uint32_t i = g * HDL_Q8_GROUP; i < (g + 1) * HDL_Q8_GROUP; i++)
            dot += x->q8[i] * wq[i];
        sum = fmaf((float)dot, x->q8_scales[g] * ws[g], sum);
    }
    return sum;
}

static float output(const hdl_weight *w, const ref_input *x, size_t row)
{
    hdl_leaf_tree tree = {0};
    uint32_t leaf_k = w->k / w->n_leaves;
    for (uint32_t at = 0; at < w->k; at += leaf_k) {
        if (w->format == HDL_WFORMAT_F32)
            hdl_leaf_push(&tree, dot_f32(x->f32 + at, (float *)w->data + row * w->k + at, leaf_k));
        else if (w->format == HDL_WFORMAT_BF16)
            hdl_leaf_push(&tree,
                          dot_bf16(x->f32 + at, (uint16_t *)w->data + row * w->k + at, leaf_k));
        else
            hdl_leaf_push(&tree, dot_q8(x, w, row, at, leaf_k));
    }
    return tree.open[0];
}

static void outputs(const void *args, size_t from, size_t to)
{
    const ref_job *job = args;
    const hdl_linear_args *a = job->a;
    for (size_t row = from; row < to; row++)
        for (size_t t = 0; t < a->n_tokens; t++)
            a->y[t * a->y_stride + row] =
                output(a->w, &job->tokens[t], row) + (a->bias ? a->bias[row] : 0.0f);
}

void hdl_ref_linear(const hdl_linear_args *a, hdl_stream *stream)
{
    const hdl_weight *w = a->w;
    size_t mark = hdl_stream_mark(stream), count = (size_t)a->n_tokens * w->k;
    ref_input *tokens = hdl_stream_take(stream, a->n_tokens, sizeof *tokens);
    float *f32 = hdl_stream_take(stream, count, sizeof *f32); /* Q8: scales */
    int8_t *q8 = hdl_stream_take(stream, count, sizeof *q8);
    for (size_t t = 0; t < a->n_tokens; t++) {
        const float *x = a->x + t * a->x_stride;
        tokens[t] =
            (ref_input){.f32 = f32 + t * w->k, .q8 = q8 + t * w->k, .q8_scales = f32 + t * w->k};
        if (w->format == HDL_WFORMAT_F32)
            tokens[t].f32 = x;
        else if (w->format == HDL_WFORMAT_Q8)
            q8_quantize(x, w->k, f32 + t * w->k, q8 + t * w->k);
        else
            for (uint32_t i = 0; i < w->k; i++)
                f32[t * w->k + i] = hdl_bf16_to_f32(hdl_bf16_from_f32(x[i]));
    }
    ref_job job = {.a = a, .tokens = tokens};
    hdl_stream_for(stream, w->n, 16, outputs, &job);
    hdl_stream_release(stream, mark);
}
