/* SPDX-License-Identifier: Apache-2.0 */
/* Matrices in the encodings of checkpoints: readers give the numbers that they mean; packed, all
 * levels and thread counts equal ref, ref stays within its bound of the product of those numbers,
 * and ranks that read windows of k add up to the bits of the whole. */
#include <math.h>
#include <string.h>

#include "kernels/numeric.h"
#include "sources.h"

#define S4   hdl_codebook_s4
#define E2M1 hdl_codebook_e2m1
static const struct {
    hdl_enc encoding;
    hdl_wformat format;
    const int8_t *const *codebook; /* NULL: none */
    uint32_t n, k, group, n_leaves, n_tokens;
} shapes[] = {
#define BOOK(name)                                                                                 \
    (const int8_t *const[]) { name }
    {HDL_ENC_E4M3, HDL_WFORMAT_FP8, NULL, 272, 512, 128, 4, 1},
    {HDL_ENC_E4M3, HDL_WFORMAT_FP8, NULL, 40, 1024, 128, 8, 13},
    {HDL_ENC_E4M3, HDL_WFORMAT_FP8_64, NULL, 33, 768, 128, 4, 9},
    {HDL_ENC_E4M3, HDL_WFORMAT_FP8_32, NULL, 33, 352, 128, 1, 7},
    {HDL_ENC_E4M3, HDL_WFORMAT_FP8_32, NULL, 150, 256, 32, 8, 30},
    {HDL_ENC_E4M3, HDL_WFORMAT_F32, NULL, 20, 64, 16, 2, 3},
    {HDL_ENC_E4M3, HDL_WFORMAT_BF16, NULL, 20, 64, 64, 2, 3},
    {HDL_ENC_MXFP4, HDL_WFORMAT_Q4, BOOK(E2M1), 48, 256, 32, 8, 1},
    {HDL_ENC_MXFP4, HDL_WFORMAT_Q4, BOOK(E2M1), 37, 352, 32, 1, 21},
    {HDL_ENC_NVFP4, HDL_WFORMAT_Q4_16, BOOK(E2M1), 64, 256, 16, 8, 1},
    {HDL_ENC_NVFP4, HDL_WFORMAT_Q4_16, BOOK(E2M1), 25, 96, 16, 1, 9},
    {HDL_ENC_INT4, HDL_WFORMAT_Q4, BOOK(S4), 200, 256, 32, 8, 2},
    {HDL_ENC_INT4, HDL_WFORMAT_Q4, BOOK(S4), 16, 512, 128, 4, 14},
    {HDL_ENC_INT4, HDL_WFORMAT_Q8, NULL, 24, 96, 96, 1, 3},
    {HDL_ENC_INT4Z, HDL_WFORMAT_Q4M, BOOK(S4), 40, 256, 128, 8, 1},
    {HDL_ENC_INT4Z, HDL_WFORMAT_Q4M, BOOK(S4), 72, 320, 32, 2, 11},
    {HDL_ENC_INT8, HDL_WFORMAT_Q8, NULL, 19, 256, 256, 8, 6},
    {HDL_ENC_AWQ4, HDL_WFORMAT_Q4M, BOOK(S4), 64, 256, 128, 8, 5},
    {HDL_ENC_AWQ4, HDL_WFORMAT_Q4M, BOOK(S4), 24, 96, 32, 1, 1},
    {HDL_ENC_GPTQ4, HDL_WFORMAT_Q4, BOOK(S4), 32, 256, 64, 8, 3},
    {HDL_ENC_GPTQ4Z, HDL_WFORMAT_Q4M, BOOK(S4), 48, 384, 128, 4, 8},
    {HDL_ENC_GPTQ4G, HDL_WFORMAT_F32, NULL, 16, 128, 32, 4, 2},
    {HDL_ENC_GPTQ8, HDL_WFORMAT_Q8, NULL, 32, 256, 64, 8, 3},
    {HDL_ENC_GPTQ8Z, HDL_WFORMAT_Q8M, NULL, 52, 256, 128, 8, 12},
    {HDL_ENC_GPTQ8G, HDL_WFORMAT_BF16, NULL, 16, 128, 32, 4, 2},
    {HDL_ENC_TERNARY, HDL_WFORMAT_Q2, BOOK(hdl_codebook_t2), 44, 256, 0, 8, 4},
    {HDL_ENC_TERNARY, HDL_WFORMAT_Q4, BOOK(hdl_codebook_t2), 44, 256, 0, 8, 2}, /* without Q2 */
    {HDL_ENC_GGML_TQ1_0, HDL_WFORMAT_Q2, BOOK(hdl_codebook_t2), 150, 512, 0, 8, 1},
    {HDL_ENC_GGML_TQ2_0, HDL_WFORMAT_Q2, BOOK(hdl_codebook_t2), 33, 768, 0, 8, 13},
    {HDL_ENC_GGML_TQ2_0, HDL_WFORMAT_Q2, BOOK(hdl_codebook_t2), 80, 256, 0, 1, 2},
    {HDL_ENC_GGML_Q8_0, HDL_WFORMAT_Q8, NULL, 30, 256, 0, 8, 5},
    {HDL_ENC_GGML_Q4_1, HDL_WFORMAT_Q4M, BOOK(hdl_codebook_u4), 20, 256, 0, 4, 6},
    {HDL_ENC_GGML_Q2_K, HDL_WFORMAT_Q4M_16, BOOK(hdl_codebook_u4), 17, 512, 0, 8, 5},
    {HDL_ENC_GGML_Q3_K, HDL_WFORMAT_Q4_16, BOOK(S4), 17, 256, 0, 8, 2},
    {HDL_ENC_GGML_Q5_K, HDL_WFORMAT_Q8M, NULL, 40, 256, 0, 8, 1},
    {HDL_ENC_GGML_Q6_K, HDL_WFORMAT_Q8_16, NULL, 40, 512, 0, 4, 10},
    {HDL_ENC_GGML_IQ4_NL, HDL_WFORMAT_Q4, BOOK(hdl_codebook_iq4nl), 50, 256, 0, 8, 6},
    {HDL_ENC_GGML_IQ4_XS, HDL_WFORMAT_Q4, BOOK(hdl_codebook_iq4nl), 16, 256, 0, 2, 1},
    {HDL_ENC_GGML_Q4_0, HDL_WFORMAT_Q4H, BOOK(S4), 50, 256, 0, 8, 6},
    {HDL_ENC_GGML_IQ4_NL, HDL_WFORMAT_Q4H, BOOK(hdl_codebook_iq4nl), 50, 256, 0, 8, 1},
    {HDL_ENC_GGML_Q8_0, HDL_WFORMAT_Q8H, NULL, 30, 256, 0, 8, 5},
    {HDL_ENC_GGML_Q4_K, HDL_WFORMAT_Q4K, BOOK(hdl_codebook_u4), 40, 512, 0, 8, 6},
    {HDL_ENC_GGML_Q6_K, HDL_WFORMAT_Q6K, NULL, 40, 256, 0, 8, 10},
    {HDL_ENC_GGML_IQ2_XXS, HDL_WFORMAT_Q4, NULL, 16, 256, 0, 2, 3},
    {HDL_ENC_GGML_IQ3_XXS, HDL_WFORMAT_Q4, NULL, 16, 512, 0, 8, 7},
};

typedef struct input {
    int c;
    kt_matrix m;
    float *x; /* [n_tokens, k] */
    const int8_t *codebook;
} input;

/* A window of the matrix, packed in two parts and multiplied. level -1: ref. */
static float *run(kt *t, const input *in, hdl_window w, int level, int stream)
{
    const hdl_ops *ops = level < 0 ? t->ref : t->levels[level];
    uint32_t whole_k = shapes[in->c].k, leaf = whole_k / shapes[in->c].n_leaves;
    hdl_weight dst = {.format = shapes[in->c].format,
                      .codebook = in->codebook,
                      .n = w.n_rows,
                      .k = w.n_cols,
                      .n_leaves = w.n_cols / leaf};
    dst.bytes = ops->weight_bytes(dst.format, dst.n, dst.k, dst.n_leaves);
    kt_check(t, dst.bytes > 0, "weight_bytes supports the shape");
    dst.data = kt_alloc(t, dst.bytes);
    memset(dst.data, 0xa5, dst.bytes);
    hdl_source src = hdl_source_part(&in->m.src, w);
    uint32_t cut = w.n_rows / 3;
    ops->weight_pack(&(hdl_pack_args){
        .src = hdl_source_part(&src, (hdl_window){0, cut, 0, w.n_cols}), .dst = &dst});
    ops->weight_pack(&(hdl_pack_args){
        .src = hdl_source_part(&src, (hdl_window){cut, w.n_rows - cut, 0, w.n_cols}),
        .dst = &dst,
        .row_at = cut});
    float *y = KT_NEW(t, float, (size_t)shapes[in->c].n_tokens *w.n_rows);
    ops->linear(&(hdl_linear_args){.x = in->x + w.col_at,
                                   .x_stride = whole_k,
                                   .w = &dst,
                                   .y = y,
                                   .y_stride = w.n_rows,
                                   .n_tokens = shapes[in->c].n_tokens},
                t->streams[stream]);
    return y;
}

static void check_values(kt *t, const input *in)
{
    uint32_t n = shapes[in->c].n, k = shapes[in->c].k;
    float *got = KT_NEW(t, float, k);
    for (uint32_t r = 0; r < n; r++) {
        uint32_t cut = kt_range(t, 0, k / 32) * 32;
        hdl_source_values(&in->m.src, (hdl_span){r, 0, cut}, got);
        hdl_source_values(&in->m.src, (hdl_span){r, cut, k - cut}, got + cut);
        kt_same(t, "values of a row", in->m.values + (size_t)r * k, got, k);
    }
}

/* Activations and weights as the format sees them: the largest error of a sum of k rounded terms,
 * plus half a step of each operand that is quantised. A code and its minimum may cancel, so the
 * size of a term is counted as if they did not. */
static void check_exact(kt *t, const input *in, const float *y)
{
    uint32_t n = shapes[in->c].n, k = shapes[in->c].k, n_tokens = shapes[in->c].n_tokens;
    hdl_wformat format = shapes[in->c].format;
    bool ints = hdl_wformat_is_int(format);
    bool kept = hdl_kind_keeps(in->m.src.encoding, (hdl_wkind){format, in->codebook});
    size_t count = (size_t)n * n_tokens;
    double *want = KT_NEW(t, double, count), *bound = KT_NEW(t, double, count);
    for (uint32_t tok = 0; tok < n_tokens; tok++)
        for (uint32_t r = 0; r < n; r++) {
            double sum = 0, size = 0, step = 0;
            const float *row = in->m.values + (size_t)r * k;
            for (uint32_t i = 0; i < k; i++) {
                float x = in->x[(size_t)tok * k + i], w = row[i], biggest = fabsf(w);
                if (!ints && format != HDL_WFORMAT_F32)
                    x = hdl_bf16_to_f32(hdl_bf16_from_f32(x));
                if (format == HDL_WFORMAT_BF16)
                    w = hdl_bf16_to_f32(hdl_bf16_from_f32(w));
                for (uint32_t j = i / 32 * 32; j < i / 32 * 32 + 32; j++)
                    biggest = fmaxf(biggest, fabsf(row[j]));
                double sx = ints ? (double)hdl_q8_scale(in->x + (size_t)tok * k + i / 32 * 32) : 0;
                double sw = kept || !ints ? 0 : (double)biggest / 127;
                step += 0.51 * (sx * fabs((double)w) + sw * fabs((double)x) + sx * sw);
                sum += (double)x * (double)w;
                size += fabs((double)x) * 16 * (double)biggest;
            }
            want[(size_t)tok * n + r] = sum;
            bound[(size_t)tok * n + r] = (k + 4) * 0x1p-24 * size + step;
        }
    kt_near(t, "ref against the exact sum", (kt_exact){want, bound, count}, y);
}

static void check_ranks(kt *t, const input *in, const float *want, int level)
{
    uint32_t n = shapes[in->c].n, k = shapes[in->c].k;
    size_t count = (size_t)n * shapes[in->c].n_tokens;
    for (uint32_t ranks = 2; ranks <= shapes[in->c].n_leaves; ranks *= 2) {
        float *part[HDL_LEAVES_MAX] = {0};
        for (uint32_t r = 0; r < ranks; r++)
            part[r] = run(t, in, (hdl_window){0, n, k / ranks * r, k / ranks}, level, 0);
        for (uint32_t width = ranks; width > 1; width /= 2)
            for (uint32_t r = 0; r < width / 2; r++)
                for (size_t i = 0; i < count; i++)
                    part[r][i] = part[2 * r][i] + part[2 * r + 1][i];
        kt_same(t, kt_name(t, "tree over ranks", level, 0), want, part[0], count);
    }
}

/* Some rows alone, as a rank of a column-parallel matrix holds them. */
static void check_rows(kt *t, const input *in, const float *want, int level)
{
    uint32_t n = shapes[in->c].n, at = kt_range(t, 0, n - 1), rows = kt_range(t, 1, n - at);
    float *got = run(t, in, (hdl_window){at, rows, 0, shapes[in->c].k}, level, 1);
    for (uint32_t tok = 0; tok < shapes[in->c].n_tokens; tok++)
        kt_same(t, kt_name(t, "rows alone", level, 1), want + (size_t)tok * n + at,
                got + (size_t)tok * rows, rows);
}

static void test(kt *t, int c)
{
    uint32_t n = shapes[c].n, k = shapes[c].k, n_tokens = shapes[c].n_tokens;
    if (t->is_device && hdl_wformat_info_of(shapes[c].format)->scales != HDL_SCALES_F32)
        return; /* the loader gives it siblings */
    input in = {.c = c,
                .m = kt_matrix_new(t, shapes[c].encoding, n, k, shapes[c].group),
                .x = kt_floats(t, (size_t)n_tokens * k, 1)};
    const hdl_codec *codec = hdl_codec_of(shapes[c].encoding);
    in.codebook = shapes[c].codebook ? *shapes[c].codebook : NULL;
    if (hdl_wformat_info_of(shapes[c].format)->bits == 4 && !in.codebook)
        in.codebook = codec->codebook;
    hdl_window all = {0, n, 0, k};
    check_values(t, &in);
    float *want = run(t, &in, all, -1, 0);
    check_exact(t, &in, want);
    KT_EACH(t, level, stream)
    {
        float *got = run(t, &in, all, level, stream);
        kt_agree(
            t, kt_name(t, "format", level, stream),
            (kt_pair){want, got, (size_t)n * n_tokens, kt_sum_bound(shapes[c].format, k), stream});
        if (stream != 0)
            continue;
        check_ranks(t, &in, got, level);
        check_rows(t, &in, got, level);
    }
}

const kt_suite kt_formats = {"formats", HDL_ARRAY_LEN(shapes), test};
