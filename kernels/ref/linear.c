/* SPDX-License-Identifier: Apache-2.0 */
/* y = x W^T, and the plainest layout a weight can have:
 *
 *   F32   [n][k] float
 *   BF16  [n][k] uint16_t
 *   others: [n][k / group] float scales, with mins [n][k / group] float mins, then [n][k] codes of
 *   one byte: E4M3, or int8 values (of Q4 too: the codebook's, not its indices; and f32 scales
 *   whatever the format calls them, since what it holds is the same numbers)
 *
 * Inside a leaf k is walked in order. F32 adds each product with one rounding (fma); the product of
 * two bf16 numbers is exact in f32, so there fma and multiply-then-add are the same. */
#include "base/assert.h"
#include "base/checked.h"
#include "kernels/codec/pack.h"
#include "kernels/ref/ref.h"

size_t hdl_ref_weight_bytes(hdl_wformat format, uint32_t n, uint32_t k, uint32_t n_leaves)
{
    bool leaves_ok = n_leaves > 0 && n_leaves <= HDL_LEAVES_MAX && hdl_is_pow2(n_leaves) &&
                     (n_leaves == 1 || k % (n_leaves * HDL_LEAF_UNIT) == 0);
    size_t count = (size_t)n * k;
    if (n == 0 || k == 0 || !leaves_ok || count > SIZE_MAX / 16 || format >= HDL_WFORMAT_COUNT)
        return 0;
    if (format == HDL_WFORMAT_F32)
        return count * 4;
    if (format == HDL_WFORMAT_BF16)
        return k % 2 == 0 ? count * 2 : 0;
    const hdl_wformat_info *info = hdl_wformat_info_of(format);
    uint32_t unit = hdl_max_u32(info->block, HDL_SOURCE_UNIT);
    size_t per_group = info->has_mins ? 8 : 4;
    return k / n_leaves % unit == 0 ? count + count / info->group * per_group : 0;
}

/* One row of a format with groups. */
typedef struct ref_row {
    float *scales, *mins; /* [k / group]; mins NULL: none */
    int8_t *codes;        /* [k] */
} ref_row;

static ref_row row_of(const hdl_weight *w, size_t row)
{
    const hdl_wformat_info *info = hdl_wformat_info_of(w->format);
    size_t groups = w->k / info->group, n = hdl_weight_rows(w);
    float *all = w->data;
    ref_row r = {.scales = all + row * groups,
                 .codes = (int8_t *)(all + (info->has_mins ? 2 : 1) * n * groups) + row * w->k};
    if (info->has_mins)
        r.mins = all + (n + row) * groups;
    return r;
}

static void pack_ints(const hdl_pack_args *a, uint32_t r)
{
    const hdl_weight *w = a->dst;
    const hdl_wformat_info *info = hdl_wformat_info_of(w->format);
    ref_row to = row_of(w, a->row_at + r);
    hdl_wkind kind = {w->format, w->codebook};
    size_t each = HDL_SOURCE_UNIT / info->group * sizeof(float); /* scales of a piece */
    for (uint32_t at = 0; at < w->k; at += HDL_SOURCE_UNIT) {
        hdl_pack_piece piece;
        hdl_pack_ints(&a->src, (hdl_span){r, at, HDL_SOURCE_UNIT}, kind, &piece);
        memcpy(to.codes + at, piece.codes, HDL_SOURCE_UNIT);
        memcpy(to.scales + at / info->group, piece.scales, each);
        if (to.mins)
            memcpy(to.mins + at / info->group, piece.mins, each);
    }
}

static void pack_fp8(const hdl_pack_args *a, uint32_t r)
{
    const hdl_weight *w = a->dst;
    uint32_t group = hdl_wformat_info_of(w->format)->group;
    ref_row to = row_of(w, a->row_at + r);
    for (uint32_t at = 0; at < w->k; at += group)
        to.scales[at / group] =
            hdl_pack_fp8(&a->src, (hdl_span){r, at, group}, (uint8_t *)to.codes + at);
}

static void pack_floats(const hdl_pack_args *a, uint32_t r)
{
    const hdl_weight *w = a->dst;
    size_t row = (size_t)(a->row_at + r) * w->k;
    for (uint32_t at = 0; at < w->k; at += HDL_SOURCE_UNIT) {
        float x[HDL_SOURCE_UNIT];
        hdl_span span = {.row = r, .col = at, .n = hdl_min_u32(HDL_SOURCE_UNIT, w->k - at)};
        hdl_source_values(&a->src, span, x);
        for (uint32_t i = 0; i < span.n; i++)
            if (w->format == HDL_WFORMAT_F32)
                ((float *)w->data)[row + at + i] = x[i];
            else
                ((uint16_t *)w->data)[row + at + i] = hdl_bf16_from_f32(x[i]);
    }
}

void hdl_ref_weight_pack(const hdl_pack_args *a)
{
    const hdl_weight *w = a->dst;
    HDL_ASSERT_EQ(a->src.n_cols, w->k);
    HDL_ASSERT_LE((uint64_t)a->row_at + a->src.n_rows, hdl_weight_rows(w));
    for (uint32_t r = 0; r < a->src.n_rows; r++)
        if (hdl_wformat_is_int(w->format))
            pack_ints(a, r);
        else if (hdl_wformat_info_of(w->format)->group != 0)
            pack_fp8(a, r);
        else
            pack_floats(a, r);
}

/* One token, in the arithmetic of the weight. */
typedef struct ref_input {
    const float *f32;       /* [k] F32; BF16, FP8: rounded to bf16 already */
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

/* sum over groups of (sum of products of codes / 256) * (scale * 256) */
static float dot_fp8(const float *x, const hdl_weight *w, ref_row r, hdl_span k)
{
    uint32_t group = hdl_wformat_info_of(w->format)->group;
    float sum = 0;
    for (uint32_t g = k.col / group; g < (k.col + k.n) / group; g++) {
        float part = 0;
        for (uint32_t i = g * group; i < (g + 1) * group; i++)
            part = fmaf(x[i], hdl_e4m3_to_f32((uint8_t)r.codes[i]) * 0x1p-8f, part);
        sum = fmaf(part, r.scales[g], sum);
    }
    return sum;
}

/* sum over groups of (integer dot) * (x scale * scale) + (sum of x) * (x scale * min) */
static float dot_ints(const ref_input *x, const hdl_weight *w, ref_row r, hdl_span k)
{
    uint32_t group = hdl_wformat_info_of(w->format)->group;
    float sum = 0;
    for (uint32_t g = k.col / group; g < (k.col + k.n) / group; g++) {
        int32_t dot = 0, x_sum = 0;
        for (uint32_t i = g * group; i < (g + 1) * group; i++) {
            dot += x->q8[i] * r.codes[i];
            x_sum += x->q8[i];
        }
        float x_scale = x->q8_scales[g * group / HDL_Q8_GROUP];
        sum = fmaf((float)dot, x_scale * r.scales[g], sum);
        if (r.mins)
            sum = fmaf((float)x_sum, x_scale * r.mins[g], sum);
    }
    return sum;
}

static float dot(const hdl_weight *w, const ref_input *x, size_t row, hdl_span k)
{
    size_t at = row * w->k + k.col;
    if (w->format == HDL_WFORMAT_F32)
        return dot_f32(x->f32 + k.col, (float *)w->data + at, k.n);
    if (w->format == HDL_WFORMAT_BF16)
        return dot_bf16(x->f32 + k.col, (uint16_t *)w->data + at, k.n);
    ref_row r = row_of(w, row);
    return hdl_wformat_is_int(w->format) ? dot_ints(x, w, r, k) : dot_fp8(x->f32, w, r, k);
}

static float output(const hdl_weight *w, const ref_input *x, size_t row)
{
    hdl_leaf_tree tree = {0};
    uint32_t leaf_k = w->k / w->n_leaves;
    for (uint32_t at = 0; at < w->k; at += leaf_k)
        hdl_leaf_push(&tree, dot(w, x, row, (hdl_span){.col = at, .n = leaf_k}));
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

/* x: [k] -> scales [k / 32], values [k] */
static void quantize(const hdl_linear_args *a, const float *x, float *scales, int8_t *values)
{
    for (uint32_t i = 0; i < a->w->k; i++) {
        if (i % HDL_Q8_GROUP == 0)
            scales[i / HDL_Q8_GROUP] = a->x_ints ? 1.0f : hdl_q8_scale(x + i);
        values[i] = hdl_q8_round(x[i], scales[i / HDL_Q8_GROUP]);
    }
}

/* The rows that lie in a->w's own data. */
static void linear_part(const hdl_linear_args *a, hdl_stream *stream)
{
    const hdl_weight *w = a->w;
    size_t mark = hdl_stream_mark(stream), count = (size_t)a->n_tokens * w->k;
    ref_input *tokens = hdl_stream_take(stream, a->n_tokens, sizeof *tokens);
    float *f32 = hdl_stream_take(stream, count, sizeof *f32); /* integers: scales */
    int8_t *q8 = hdl_stream_take(stream, count, sizeof *q8);
    for (size_t t = 0; t < a->n_tokens; t++) {
        const float *x = a->x + t * a->x_stride;
        tokens[t] =
            (ref_input){.f32 = f32 + t * w->k, .q8 = q8 + t * w->k, .q8_scales = f32 + t * w->k};
        if (w->format == HDL_WFORMAT_F32)
            tokens[t].f32 = x;
        else if (hdl_wformat_is_int(w->format))
            quantize(a, x, f32 + t * w->k, q8 + t * w->k);
        else
            for (uint32_t i = 0; i < w->k; i++)
                f32[t * w->k + i] = hdl_bf16_to_f32(hdl_bf16_from_f32(x[i]));
    }
    ref_job job = {.a = a, .tokens = tokens};
    hdl_stream_for(stream, hdl_weight_rows(w), 16, outputs, &job);
    hdl_stream_release(stream, mark);
}

void hdl_ref_linear(const hdl_linear_args *a, hdl_stream *stream)
{
    hdl_linear_args part = *a;
    for (; part.w; part.w = part.w->more) {
        linear_part(&part, stream);
        part.y += hdl_weight_rows(part.w);
        part.bias = part.bias ? part.bias + hdl_weight_rows(part.w) : NULL;
    }
}
