/* SPDX-License-Identifier: Apache-2.0 */
/* Integer formats where their sums are largest: all codes at an end of the range, activations at
 * 127 or -127, in patterns of k that meet in one lane of a 16-bit sum. Random numbers hardly ever
 * come near, and a sum that saturates is wrong only there. */
#include "kernels/numeric.h"
#include "sources.h"

typedef struct shape {
    hdl_wformat format;
    const int8_t *const *codebook; /* NULL: none */
    hdl_enc encoding;              /* with random codes; F32: patterns */
    uint32_t n_tokens;
} shape;
#define BOOK(name)                                                                                 \
    (const int8_t *const[]) { name }
static const shape shapes[] = {
    {HDL_WFORMAT_Q4, BOOK(hdl_codebook_s4), HDL_ENC_F32, 1},
    {HDL_WFORMAT_Q4, BOOK(hdl_codebook_s4), HDL_ENC_F32, 2},
    {HDL_WFORMAT_Q4, BOOK(hdl_codebook_s4), HDL_ENC_F32, 12},
    {HDL_WFORMAT_Q8, NULL, HDL_ENC_F32, 1},
    {HDL_WFORMAT_Q8, NULL, HDL_ENC_F32, 12},
    {HDL_WFORMAT_Q4, BOOK(hdl_codebook_e2m1), HDL_ENC_MXFP4, 1},
    {HDL_WFORMAT_Q4, BOOK(hdl_codebook_e2m1), HDL_ENC_MXFP4, 12},
    {HDL_WFORMAT_Q4_16, BOOK(hdl_codebook_e2m1), HDL_ENC_NVFP4, 12},
    {HDL_WFORMAT_Q2, BOOK(hdl_codebook_t2), HDL_ENC_GGML_TQ2_0, 12},
};
enum { N = 48, K = 256, PATTERNS = 12 };

/* 1 or -1. Lanes of 16 bits take pairs of k, those of 32 bits quads. */
static float sign_at(uint32_t pattern, uint32_t k)
{
    const uint32_t minus[PATTERNS / 2] = {0, k % 4 / 2, k / 16 % 2, k % 2, k / 4 % 2, k / 8 % 2};
    return (minus[pattern / 2] ^ pattern % 2) == 1 ? -1.0f : 1.0f;
}

static float *signs(kt *t, uint32_t rows)
{
    float *x = KT_NEW(t, float, (size_t)rows *K);
    for (uint32_t r = 0; r < rows; r++)
        for (uint32_t k = 0; k < K; k++)
            x[(size_t)r * K + k] = sign_at(r % PATTERNS, k);
    return x;
}

static hdl_weight pack(kt *t, const shape *s, const hdl_source *src, const hdl_ops *ops)
{
    hdl_weight w = {.format = s->format,
                    .codebook = s->codebook ? *s->codebook : NULL,
                    .n = N,
                    .k = K,
                    .n_leaves = 2};
    w.bytes = ops->weight_bytes(w.format, w.n, w.k, w.n_leaves);
    kt_check(t, w.bytes > 0, "weight_bytes supports the shape");
    w.data = kt_alloc(t, w.bytes);
    ops->weight_pack(&(hdl_pack_args){.src = *src, .dst = &w});
    return w;
}

static void run(const hdl_weight *w, const float *x, float *y, const hdl_ops *ops,
                hdl_stream *stream, uint32_t n_tokens)
{
    ops->linear(
        &(hdl_linear_args){
            .x = x, .x_stride = K, .w = w, .y = y, .y_stride = N, .n_tokens = n_tokens},
        stream);
}

static void test(kt *t, int c)
{
    const shape *s = &shapes[c];
    if (t->is_device && s->format == HDL_WFORMAT_Q2)
        return; /* devices get Q4 instead */
    hdl_tensor rows = hdl_tensor_2d(signs(t, N), HDL_DTYPE_F32, N, K);
    hdl_source src = s->encoding == HDL_ENC_F32 ? hdl_source_of_tensor(&rows)
                                                : kt_matrix_new(t, s->encoding, N, K, 32).src;
    size_t count = (size_t)s->n_tokens * N;
    /* One token takes another pattern at each turn. */
    for (uint32_t turn = 0; turn < (s->n_tokens < 12 ? PATTERNS : 1); turn++) {
        const float *x = signs(t, turn + s->n_tokens) + (size_t)turn * K;
        float *want = KT_NEW(t, float, count);
        hdl_weight of_ref = pack(t, s, &src, t->ref);
        run(&of_ref, x, want, t->ref, t->streams[0], s->n_tokens);
        KT_EACH(t, level, stream)
        {
            float *got = KT_NEW(t, float, count);
            hdl_weight w = pack(t, s, &src, t->levels[level]);
            run(&w, x, got, t->levels[level], t->streams[stream], s->n_tokens);
            kt_agree(t, kt_name(t, "extremes", level, stream),
                     (kt_pair){want, got, count, kt_sum_bound(s->format, K), stream});
        }
    }
}

const kt_suite kt_extremes = {"extremes", HDL_ARRAY_LEN(shapes), test};
