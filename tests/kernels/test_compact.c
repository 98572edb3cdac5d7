/* SPDX-License-Identifier: Apache-2.0 */
/* Formats whose scales are no f32: products have the bits of the sibling's (ref's and every
 * level's), in linear, linear_heads and moe_experts, with random codes and where sums are largest.
 */
#include <string.h>

#include "sources.h"

typedef struct shape {
    hdl_wformat format;
    hdl_enc encoding;
    uint32_t n, k, n_leaves, n_tokens;
    bool extreme; /* codes at an end of their range, activations of one size */
} shape;

static const shape shapes[] = {
    {HDL_WFORMAT_Q4H, HDL_ENC_GGML_Q4_0, 64, 256, 1, 1, false},
    {HDL_WFORMAT_Q4H, HDL_ENC_GGML_Q4_0, 200, 768, 8, 2, false},
    {HDL_WFORMAT_Q4H, HDL_ENC_GGML_Q4_0, 33, 96, 1, 23, false},
    {HDL_WFORMAT_Q4H, HDL_ENC_GGML_Q4_0, 48, 256, 2, 12, true},
    {HDL_WFORMAT_Q4H, HDL_ENC_GGML_IQ4_NL, 80, 288, 1, 9, false},
    {HDL_WFORMAT_Q4H, HDL_ENC_GGML_IQ4_NL, 48, 256, 2, 4, true},
    {HDL_WFORMAT_Q8H, HDL_ENC_GGML_Q8_0, 130, 256, 8, 1, false},
    {HDL_WFORMAT_Q8H, HDL_ENC_GGML_Q8_0, 37, 160, 1, 15, false},
    {HDL_WFORMAT_Q8H, HDL_ENC_GGML_Q5_0, 40, 96, 1, 3, false},
    {HDL_WFORMAT_Q8H, HDL_ENC_GGML_Q8_0, 48, 256, 2, 12, true},
    {HDL_WFORMAT_Q4K, HDL_ENC_GGML_Q4_K, 130, 512, 8, 1, false},
    {HDL_WFORMAT_Q4K, HDL_ENC_GGML_Q4_K, 70, 768, 4, 2, false},
    {HDL_WFORMAT_Q4K, HDL_ENC_GGML_Q4_K, 37, 256, 1, 29, false},
    {HDL_WFORMAT_Q4K, HDL_ENC_GGML_Q4_K, 48, 256, 2, 12, true},
    {HDL_WFORMAT_Q6K, HDL_ENC_GGML_Q6_K, 130, 256, 8, 1, false},
    {HDL_WFORMAT_Q6K, HDL_ENC_GGML_Q6_K, 70, 768, 8, 2, false},
    {HDL_WFORMAT_Q6K, HDL_ENC_GGML_Q6_K, 37, 256, 1, 4, false},
    {HDL_WFORMAT_Q6K, HDL_ENC_GGML_Q6_K, 37, 512, 1, 29, false},
    {HDL_WFORMAT_Q6K, HDL_ENC_GGML_Q6_K, 48, 256, 2, 1, true},
    {HDL_WFORMAT_Q6K, HDL_ENC_GGML_Q6_K, 48, 256, 2, 12, true},
};

/* Where the codes of a block lie. */
static const struct {
    hdl_enc encoding;
    uint32_t at, n;
} codes_of[] = {
    {HDL_ENC_GGML_Q4_0, 2, 16},   {HDL_ENC_GGML_IQ4_NL, 2, 16}, {HDL_ENC_GGML_Q8_0, 2, 32},
    {HDL_ENC_GGML_Q4_K, 16, 128}, {HDL_ENC_GGML_Q6_K, 0, 192},
};

/* Every row has one byte for all codes. */
static void make_extreme(const shape *s, const hdl_source *src)
{
    static const unsigned char ends[] = {0x00, 0xff, 0x80, 0x7f};
    const hdl_codec *c = hdl_codec_of(s->encoding);
    for (size_t i = 0; i < HDL_ARRAY_LEN(codes_of); i++)
        for (size_t b = 0; codes_of[i].encoding == s->encoding && b < s->n * s->k / c->block_cols;
             b++) {
            unsigned char *data = (unsigned char *)(uintptr_t)src->codes.data + b * c->block_bytes;
            unsigned char end = ends[b / (s->k / c->block_cols) % HDL_ARRAY_LEN(ends)];
            memset(data + codes_of[i].at, end, codes_of[i].n);
        }
}

/* Tokens of one sign, of signs that change with the k of a lane, and of random ones. */
static float *activations(kt *t, const shape *s, size_t n_tokens)
{
    float *x = kt_floats(t, n_tokens * s->k, 1);
    for (size_t i = 0; s->extreme && i < n_tokens * s->k; i++) {
        size_t k = i % s->k;
        const size_t minus[] = {0, 1, k / 2 % 2, k % 2, k / 4 % 2, kt_range(t, 0, 1)};
        x[i] = minus[(i / s->k + t->seed) % HDL_ARRAY_LEN(minus)] ? -1.0f : 1.0f;
    }
    return x;
}

static hdl_weight pack(kt *t, const hdl_ops *ops, const shape *s, const hdl_source *src)
{
    hdl_weight w = {.format = s->format,
                    .codebook = hdl_codec_of(s->encoding)->codebook,
                    .n = s->n,
                    .k = s->k,
                    .n_leaves = s->n_leaves};
    w.bytes = ops->weight_bytes(w.format, w.n, w.k, w.n_leaves);
    kt_check(t, w.bytes > 0, "weight_bytes supports the shape");
    w.data = kt_alloc(t, w.bytes);
    memset(w.data, 0xa5, w.bytes);
    uint32_t cut = s->n / 3;
    ops->weight_pack(
        &(hdl_pack_args){.src = hdl_source_part(src, (hdl_window){0, cut, 0, s->k}), .dst = &w});
    ops->weight_pack(
        &(hdl_pack_args){.src = hdl_source_part(src, (hdl_window){cut, s->n - cut, 0, s->k}),
                         .dst = &w,
                         .row_at = cut});
    return w;
}

enum { HEADS = 3 };

/* What each op makes of the format. */
typedef struct results {
    float *linear, *heads, *experts;
} results;

typedef struct input {
    shape s;             /* its format: of the run */
    hdl_source src;      /* [n, k] */
    hdl_source up, down; /* of an expert: [2 k, k], [k, k] */
    const float *x;      /* [n_tokens, HEADS, k] */
} input;

static results run(kt *t, const hdl_ops *ops, const input *in, hdl_stream *stream)
{
    const shape *s = &in->s;
    hdl_weight w = pack(t, ops, s, &in->src), heads[HEADS] = {w, w, w};
    size_t rows = (size_t)s->n_tokens * HEADS;
    results r = {.linear = KT_NEW(t, float, rows * s->n),
                 .heads = KT_NEW(t, float, rows * s->n),
                 .experts = KT_NEW(t, float, rows * s->k)};
    for (int i = 0; i < HEADS; i++) {
        heads[i] = pack(t, ops, &(shape){s->format, s->encoding, s->n, s->k, 1, 0, 0}, &in->src);
        ops->linear(&(hdl_linear_args){.x = in->x + (size_t)i * s->k,
                                       .x_stride = (size_t)HEADS * s->k,
                                       .w = &w,
                                       .y = r.linear + (size_t)i * s->n_tokens * s->n,
                                       .y_stride = s->n,
                                       .n_tokens = s->n_tokens},
                    stream);
    }
    ops->linear_heads(&(hdl_linear_heads_args){.x = in->x,
                                               .x_stride = (size_t)HEADS * s->k,
                                               .x_head = s->k,
                                               .w = heads,
                                               .y = r.heads,
                                               .y_stride = (size_t)HEADS * s->n,
                                               .y_head = s->n,
                                               .n_heads = HEADS,
                                               .n_tokens = s->n_tokens},
                      stream);
    shape up = {s->format, s->encoding, 2 * s->k, s->k, 1, 0, 0}, down = up;
    down.n = s->k;
    down.n_leaves = s->n_leaves;
    hdl_weight gate_up = pack(t, ops, &up, &in->up), to_out = pack(t, ops, &down, &in->down);
    ops->moe_experts(&(hdl_moe_experts_args){.x = in->x,
                                             .ids = KT_NEW(t, uint32_t, rows),
                                             .n_tokens = (uint32_t)rows,
                                             .topk = 1,
                                             .hidden = s->k,
                                             .inter = s->k,
                                             .gate_up = &gate_up,
                                             .down = &to_out,
                                             .n_local = 1,
                                             .ye = r.experts},
                     stream);
    return r;
}

static void check(kt *t, const char *what, const input *in, results want, results got)
{
    size_t n = (size_t)in->s.n_tokens * HEADS * in->s.n;
    kt_same(t, what, want.linear, got.linear, n);
    kt_same(t, what, want.heads, got.heads, n);
    kt_same(t, what, want.experts, got.experts, (size_t)in->s.n_tokens * HEADS * in->s.k);
}

static void test(kt *t, int c)
{
    if (t->is_device) /* the loader gives it siblings */
        return;
    input in = {.s = shapes[c]}, sibling;
    in.src = kt_matrix_new(t, in.s.encoding, in.s.n, in.s.k, 32).src;
    in.up = kt_matrix_new(t, in.s.encoding, 2 * in.s.k, in.s.k, 32).src;
    in.down = kt_matrix_new(t, in.s.encoding, in.s.k, in.s.k, 32).src;
    if (in.s.extreme)
        make_extreme(&in.s, &in.src);
    in.x = activations(t, &in.s, (size_t)in.s.n_tokens * HEADS);
    sibling = in;
    sibling.s.format = hdl_wformat_sibling(in.s.format);
    kt_check(t, sibling.s.format != in.s.format, "a compact format has a sibling");
    kt_check(t,
             hdl_wformat_bytes(in.s.format, 256) < hdl_wformat_bytes(sibling.s.format, 256) &&
                 hdl_kind_keeps(in.s.encoding,
                                (hdl_wkind){in.s.format, hdl_codec_of(in.s.encoding)->codebook}),
             "it is smaller and holds the encoding");
    results want = run(t, t->ref, &sibling, t->streams[0]);
    check(t, "ref, compact", &in, want, run(t, t->ref, &in, t->streams[0]));
    KT_EACH(t, level, stream)
    {
        const hdl_ops *ops = t->levels[level];
        check(t, kt_name(t, "compact", level, stream), &in, want,
              run(t, ops, &in, t->streams[stream]));
        check(t, kt_name(t, "sibling", level, stream), &in, want,
              run(t, ops, &sibling, t->streams[stream]));
    }
}

const kt_suite kt_compact = {"compact", HDL_ARRAY_LEN(shapes), test};
