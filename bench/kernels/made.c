/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/kernels/made.h"

#include <string.h>

#include "base/rng.h"

/* Words that rows are cut out of, each at a place of its own, so that they differ: a row of any
 * encoding has at most two bytes a value. */
enum { ROW_WORDS = 131072, ROW_STEP = 61 };

/* Rows of a checkpoint in an encoding that the format takes as it is (bf16 is quantised to Q8
 * and Q4). */
static hdl_source source_for(const hdl_weight *w, const uint16_t *row, const float *scale)
{
    static const struct {
        hdl_wformat format;
        hdl_enc encoding;
    } taken[] = {{HDL_WFORMAT_FP8, HDL_ENC_E4M3},        {HDL_WFORMAT_FP8_64, HDL_ENC_E4M3},
                 {HDL_WFORMAT_FP8_32, HDL_ENC_E4M3},     {HDL_WFORMAT_Q8M, HDL_ENC_GPTQ8Z},
                 {HDL_WFORMAT_Q8_16, HDL_ENC_GGML_Q6_K}, {HDL_WFORMAT_Q4M, HDL_ENC_INT4Z},
                 {HDL_WFORMAT_Q4_16, HDL_ENC_NVFP4},     {HDL_WFORMAT_Q4M_16, HDL_ENC_GGML_Q2_K},
                 {HDL_WFORMAT_Q2, HDL_ENC_GGML_TQ2_0},   {HDL_WFORMAT_Q8H, HDL_ENC_GGML_Q8_0},
                 {HDL_WFORMAT_Q4H, HDL_ENC_GGML_Q4_0},   {HDL_WFORMAT_Q4K, HDL_ENC_GGML_Q4_K},
                 {HDL_WFORMAT_Q6K, HDL_ENC_GGML_Q6_K}};
    hdl_source s = {.encoding = HDL_ENC_BF16,
                    .n_rows = 1,
                    .n_cols = w->k,
                    .whole_rows = 1,
                    .scale_mul = 1,
                    .scale_div = 1,
                    .scale_rows = 1u << 31,
                    .scale_cols = 1u << 31};
    for (size_t i = 0; i < HDL_ARRAY_LEN(taken); i++)
        if (taken[i].format == w->format)
            s.encoding = taken[i].encoding;
    s.codes = (hdl_plane){.data = row, .col_step = hdl_codec_of(s.encoding)->block_bytes};
    s.scales = (hdl_plane){.data = scale, .dtype = HDL_DTYPE_F32};
    s.zeros = (hdl_plane){.data = row};
    return s;
}

static size_t row_at(uint32_t row, uint32_t k) { return (size_t)row * ROW_STEP % (ROW_WORDS - k); }

typedef struct packing {
    const hdl_ops *ops;
    hdl_weight *w;
    hdl_source src;
} packing;

static void pack_share(void *arg, uint32_t thread, uint32_t n_threads)
{
    const packing *p = arg;
    uint64_t rows = hdl_weight_rows(p->w);
    uint32_t end = (uint32_t)(rows * (thread + 1) / n_threads);
    for (uint32_t row = (uint32_t)(rows * thread / n_threads); row < end; row++) {
        hdl_pack_args args = {.src = p->src, .dst = p->w, .row_at = row};
        args.src.codes.data = (const uint16_t *)p->src.codes.data + row_at(row, p->w->k);
        p->ops->weight_pack(&args);
    }
}

/* bf16: 0.5 .. 1 and -1 .. -0.5; no NaN in other encodings either (0x7f is one of E4M3) */
static const uint16_t *words_of(uint32_t k)
{
    static uint16_t row[ROW_WORDS]; /* of the opening thread */
    hdl_rng rng;
    hdl_rng_init(&rng, k);
    for (size_t i = 0; i < HDL_ARRAY_LEN(row); i++)
        row[i] = (uint16_t)(0x3f00 | (hdl_rng_u64(&rng) & 0x807e));
    return row;
}

void hdl_made_norms(const hdl_weight *w, hdl_screen_norms out)
{
    const uint16_t *row = words_of(w->k);
    hdl_source src = source_for(w, row, NULL);
    hdl_screen_norms_args args = {.src = &src, .exact = (int)w->format, .out = out};
    for (; args.at < w->n; args.at++) {
        src.codes.data = row + row_at(args.at, w->k);
        hdl_screen_norms_fill(&args);
    }
}

static hdl_err pack(hdl_device *device, hdl_weight *w)
{
    const float scale = 0.01f;
    if (w->k > ROW_WORDS / 2)
        return HDL_UNSUPPORTED;
    const uint16_t *row = words_of(w->k);
    packing p = {.ops = hdl_device_ops(device), .w = w, .src = source_for(w, row, &scale)};
    if (hdl_wformat_info_of(w->format)->bits <= 4 && !w->codebook) {
        const int8_t *codebook = hdl_codec_of(p.src.encoding)->codebook;
        w->codebook = codebook ? codebook : hdl_codebook_s4;
    }
    hdl_stream_run(hdl_device_host(device), pack_share, &p);
    return hdl_device_sync(device);
}

static bool is_alike(const hdl_weight *a, const hdl_weight *b)
{
    return a->format == b->format && hdl_weight_rows(a) == hdl_weight_rows(b) && a->k == b->k &&
           a->n_leaves == b->n_leaves && a->bytes == b->bytes &&
           (!b->codebook || a->codebook == b->codebook);
}

hdl_err hdl_made_weight(hdl_made *made, hdl_weight *w)
{
    for (uint32_t i = 0; i < made->n_shapes; i++)
        if (is_alike(&made->shapes[i], w)) {
            w->codebook = made->shapes[i].codebook;
            return hdl_device_copy(made->device, w->data, made->shapes[i].data, w->bytes);
        }
    HDL_TRY(pack(made->device, w));
    if (made->n_shapes < HDL_MADE_SHAPES_MAX)
        made->shapes[made->n_shapes++] = *w;
    return HDL_OK;
}

hdl_err hdl_made_repeat(hdl_device *device, void *to, size_t bytes, const void *pattern,
                        size_t pattern_bytes)
{
    size_t there = hdl_min_size(bytes, pattern_bytes);
    HDL_TRY(hdl_device_write(device, to, pattern, there));
    for (size_t n; there < bytes; there += n) { /* whole patterns but for the last piece */
        n = hdl_min_size(there, bytes - there);
        HDL_TRY(hdl_device_copy(device, (char *)to + there, to, n));
    }
    return hdl_device_sync(device);
}
