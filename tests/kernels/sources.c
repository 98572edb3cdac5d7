/* SPDX-License-Identifier: Apache-2.0 */
#include "sources.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/numeric.h"

/* What is being made. */
typedef struct maker {
    kt *t;
    kt_matrix *m;
    uint32_t rows, cols, group;
} maker;

static unsigned char *bytes(kt *t, size_t n)
{
    unsigned char *p = KT_NEW(t, unsigned char, n);
    for (size_t i = 0; i < n; i++)
        p[i] = (unsigned char)kt_range(t, 0, 255);
    return p;
}

/* Scales of f16, [rows, cols / group] or transposed, around 2^-8. */
static uint16_t *f16_scales(const maker *k, bool transposed)
{
    uint32_t groups = k->cols / k->group;
    uint16_t *s = KT_NEW(k->t, uint16_t, (size_t)k->rows * groups);
    for (size_t i = 0; i < (size_t)k->rows * groups; i++)
        s[i] = (uint16_t)kt_range(k->t, 0x1800, 0x2400);
    k->m->src.scales = (hdl_plane){.data = s,
                                   .dtype = HDL_DTYPE_F16,
                                   .row_step = transposed ? 2 : 2 * groups,
                                   .col_step = transposed ? 2 * k->rows : 2};
    k->m->src.scale_rows = 1;
    k->m->src.scale_cols = k->group;
    return s;
}

static float *value(const maker *k, uint32_t row, uint32_t col)
{
    return &k->m->values[(size_t)row * k->cols + col];
}

static void make_e4m3(const maker *k)
{
    uint32_t wide = (k->cols + k->group - 1) / k->group, high = (k->rows + 127) / 128;
    unsigned char *codes = bytes(k->t, (size_t)k->rows * k->cols);
    float *scales = kt_floats(k->t, (size_t)wide * high, 0.01f);
    k->m->src.codes = (hdl_plane){.data = codes, .row_step = k->cols, .col_step = 1};
    k->m->src.scales =
        (hdl_plane){.data = scales, .dtype = HDL_DTYPE_F32, .row_step = 4 * wide, .col_step = 4};
    k->m->src.scale_rows = 128;
    k->m->src.scale_cols = k->group;
    for (uint32_t r = 0; r < k->rows; r++)
        for (uint32_t c = 0; c < k->cols; c++) {
            unsigned char *b = &codes[(size_t)r * k->cols + c];
            *b = (*b & 0x7f) == 0x7f ? 0 : *b; /* NaN */
            int exponent = *b >> 3 & 15, digits = *b & 7;
            double v = exponent ? ldexp(8 + digits, exponent - 10) : ldexp(digits, -9);
            *value(k, r, c) = (float)(*b & 0x80 ? -v : v) * scales[r / 128 * wide + c / k->group];
        }
}

static void make_fp4(const maker *k, bool nv)
{
    static const float e2m1[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    uint32_t group = nv ? 16 : 32, groups = k->cols / group;
    unsigned char *codes = bytes(k->t, (size_t)k->rows * k->cols / 2);
    unsigned char *scales = bytes(k->t, (size_t)k->rows * groups);
    k->m->src.codes = (hdl_plane){.data = codes, .row_step = k->cols / 2, .col_step = 1};
    k->m->src.scales = (hdl_plane){.data = scales,
                                   .dtype = nv ? HDL_DTYPE_E4M3 : HDL_DTYPE_E8M0,
                                   .row_step = groups,
                                   .col_step = 1};
    k->m->src.scale_rows = 1;
    k->m->src.scale_cols = group;
    k->m->src.scale_mul = nv ? 0.0123f : 1;
    for (size_t i = 0; i < (size_t)k->rows * groups; i++)
        scales[i] = (unsigned char)(nv ? 8 + scales[i] % 96 : 115 + scales[i] % 8);
    for (uint32_t r = 0; r < k->rows; r++)
        for (uint32_t c = 0; c < k->cols; c++) {
            unsigned code = codes[((size_t)r * k->cols + c) / 2] >> c % 2 * 4 & 15;
            unsigned s = scales[r * groups + c / group];
            float scale = nv ? (float)ldexp(8 + s % 8, (int)(s / 8) - 10) * 0.0123f
                             : (float)ldexp(1, (int)s - 127);
            /* -0 is read as +0: codes are integers. */
            *value(k, r, c) = (code & 8 ? -e2m1[code & 7] : e2m1[code & 7]) * scale + 0.0f;
        }
}

static void make_int(const maker *k, uint32_t bits, bool zeros)
{
    uint32_t groups = k->cols / k->group, per = 8 / bits;
    unsigned char *codes = bytes(k->t, (size_t)k->rows * k->cols / per);
    unsigned char *zp = bytes(k->t, (size_t)k->rows * groups / 2 + 4);
    uint16_t *scales = f16_scales(k, false);
    k->m->src.codes = (hdl_plane){
        .data = codes, .dtype = HDL_DTYPE_I32, .row_step = k->cols / per, .col_step = 1};
    if (zeros) /* [rows / 8, groups] words */
        k->m->src.zeros = (hdl_plane){.data = zp, .row_step = 4 * groups, .col_step = 4};
    for (uint32_t r = 0; r < k->rows; r++)
        for (uint32_t c = 0; c < k->cols; c++) {
            uint32_t g = c / k->group, byte = codes[((size_t)r * k->cols + c) / per];
            int zero = bits == 8 ? 128 : 8;
            if (zeros)
                zero = zp[(r / 8 * groups + g) * 4 + r % 8 / 2] >> r % 2 * 4 & 15;
            int code = (int)(bits == 8 ? byte : byte >> c % 2 * 4 & 15) - zero;
            *value(k, r, c) = (float)code * hdl_f16_to_f32(scales[(size_t)r * groups + g]);
        }
}

static void make_awq(const maker *k)
{
    static const unsigned char place[] = {0, 2, 4, 6, 1, 3, 5, 7}; /* nibble i holds output ... */
    uint32_t groups = k->cols / k->group, words = k->rows / 8;
    uint32_t *codes = KT_NEW(k->t, uint32_t, (size_t)k->cols * words);
    uint32_t *zeros = KT_NEW(k->t, uint32_t, (size_t)groups * words);
    uint16_t *scales = f16_scales(k, true);
    k->m->src.codes = (hdl_plane){.data = codes, .row_step = 4, .col_step = 4 * words};
    k->m->src.zeros = (hdl_plane){.data = zeros, .row_step = 4, .col_step = 4 * words};
    for (uint32_t i = 0; i < groups * words; i++)
        zeros[i] = kt_range(k->t, 0, UINT32_MAX);
    for (uint32_t c = 0; c < k->cols; c++)
        for (uint32_t w = 0; w < words; w++)
            for (uint32_t i = 0; i < 8; i++) {
                uint32_t row = w * 8 + place[i], g = c / k->group, code = kt_range(k->t, 0, 15);
                int zero = (int)(zeros[g * words + w] >> 4 * i & 15);
                codes[c * words + w] |= code << 4 * i;
                *value(k, row, c) =
                    (float)((int)code - zero) * hdl_f16_to_f32(scales[(size_t)g * k->rows + row]);
            }
}

static void make_gptq(const maker *k, uint32_t bits, bool zeros, bool by_column)
{
    uint32_t groups = k->cols / k->group, per = 32 / bits, max = (1u << bits) - 1;
    uint32_t *codes = KT_NEW(k->t, uint32_t, (size_t)k->cols / per * k->rows);
    uint32_t *zp = KT_NEW(k->t, uint32_t, (size_t)groups * (k->rows / per));
    int32_t *column = KT_NEW(k->t, int32_t, k->cols);
    uint16_t *scales = f16_scales(k, true);
    k->m->src.codes = (hdl_plane){.data = codes, .row_step = 4, .col_step = 4 * k->rows};
    k->m->src.zeros = (hdl_plane){.data = zp, .row_step = 4, .col_step = 4 * (k->rows / per)};
    k->m->src.zero_add = 1;
    k->m->src.col_group = by_column ? column : NULL;
    for (uint32_t i = 0; zeros && i < groups * (k->rows / per); i++)
        zp[i] = kt_range(k->t, 0, UINT32_MAX);
    for (uint32_t c = 0; c < k->cols; c++) {
        uint32_t g = by_column ? kt_range(k->t, 0, groups - 1) : c / k->group;
        column[c] = (int32_t)g;
        for (uint32_t r = 0; r < k->rows; r++) {
            uint32_t code = kt_range(k->t, 0, max);
            int zero = zeros ? (int)(zp[g * (k->rows / per) + r / per] >> r % per * bits & max) + 1
                             : 1 << (bits - 1);
            codes[c / per * k->rows + r] |= code << c % per * bits;
            *value(k, r, c) =
                (float)((int)code - zero) * hdl_f16_to_f32(scales[(size_t)g * k->rows + r]);
        }
    }
}

static void make_ternary(const maker *k)
{
    unsigned char *codes = KT_NEW(k->t, unsigned char, (size_t)k->rows / 4 * k->cols);
    uint16_t *scale = KT_NEW(k->t, uint16_t, 1);
    *scale = 0x3e20; /* bf16 */
    k->m->src.codes = (hdl_plane){.data = codes, .row_step = k->cols, .col_step = 1};
    k->m->src.scales = (hdl_plane){.data = scale, .dtype = HDL_DTYPE_BF16};
    k->m->src.scale_rows = k->m->src.scale_cols = 1u << 31;
    for (uint32_t r = 0; r < k->rows; r++)
        for (uint32_t c = 0; c < k->cols; c++) {
            uint32_t code = kt_range(k->t, 0, 2), quarter = k->rows / 4;
            codes[r % quarter * k->cols + c] |= (unsigned char)(code << r / quarter * 2);
            *value(k, r, c) = ((float)code - 1) * hdl_bf16_to_f32(*scale);
        }
}

/* ggml's: test_ggml.c knows what they mean; here finite halves where a block's scales lie. */
static void make_ggml(const maker *k)
{
    const hdl_codec *codec = hdl_codec_of(k->m->src.encoding);
    static const struct {
        hdl_enc encoding;
        uint32_t at, n; /* halves */
    } halves[] = {
        {HDL_ENC_GGML_Q4_0, 0, 1},    {HDL_ENC_GGML_Q5_0, 0, 1},   {HDL_ENC_GGML_Q4_K, 0, 2},
        {HDL_ENC_GGML_Q8_0, 0, 1},    {HDL_ENC_GGML_Q4_1, 0, 2},   {HDL_ENC_GGML_Q2_K, 80, 2},
        {HDL_ENC_GGML_Q3_K, 108, 1},  {HDL_ENC_GGML_Q5_K, 0, 2},   {HDL_ENC_GGML_Q6_K, 208, 1},
        {HDL_ENC_GGML_IQ4_XS, 0, 1},  {HDL_ENC_GGML_IQ4_NL, 0, 1}, {HDL_ENC_GGML_IQ2_XXS, 0, 1},
        {HDL_ENC_GGML_IQ3_XXS, 0, 1}, {HDL_ENC_GGML_TQ1_0, 52, 1}, {HDL_ENC_GGML_TQ2_0, 64, 1}};
    size_t blocks = (size_t)k->rows * k->cols / codec->block_cols;
    unsigned char *data = bytes(k->t, blocks * codec->block_bytes);
    for (size_t i = 0; i < HDL_ARRAY_LEN(halves); i++)
        for (size_t b = 0; halves[i].encoding == k->m->src.encoding && b < blocks; b++)
            for (uint32_t h = 0; h < halves[i].n; h++) {
                uint16_t scale = (uint16_t)kt_range(k->t, 0x1800, 0x2400);
                memcpy(data + b * codec->block_bytes + halves[i].at + 2 * h, &scale, 2);
            }
    k->m->src.codes =
        (hdl_plane){.data = data,
                    .row_step = (int64_t)(k->cols / codec->block_cols) * codec->block_bytes,
                    .col_step = codec->block_bytes};
    for (uint32_t r = 0; r < k->rows; r++)
        hdl_source_values(&k->m->src, (hdl_span){r, 0, k->cols}, value(k, r, 0));
}

kt_matrix kt_matrix_new(kt *t, hdl_enc encoding, uint32_t rows, uint32_t cols, uint32_t group)
{
    kt_matrix m = {.src = {.encoding = encoding,
                           .n_rows = rows,
                           .n_cols = cols,
                           .whole_rows = rows,
                           .scale_mul = 1,
                           .scale_div = 1},
                   .values = KT_NEW(t, float, (size_t)rows *cols)};
    maker k = {t, &m, rows, cols, group};
    switch (encoding) {
    case HDL_ENC_E4M3: make_e4m3(&k); break;
    case HDL_ENC_MXFP4: make_fp4(&k, false); break;
    case HDL_ENC_NVFP4: make_fp4(&k, true); break;
    case HDL_ENC_INT4: make_int(&k, 4, false); break;
    case HDL_ENC_INT4Z: make_int(&k, 4, true); break;
    case HDL_ENC_INT8: make_int(&k, 8, false); break;
    case HDL_ENC_AWQ4: make_awq(&k); break;
    case HDL_ENC_GPTQ4: make_gptq(&k, 4, false, false); break;
    case HDL_ENC_GPTQ4Z: make_gptq(&k, 4, true, false); break;
    case HDL_ENC_GPTQ4G: make_gptq(&k, 4, true, true); break;
    case HDL_ENC_GPTQ8: make_gptq(&k, 8, false, false); break;
    case HDL_ENC_GPTQ8Z: make_gptq(&k, 8, true, false); break;
    case HDL_ENC_GPTQ8G: make_gptq(&k, 8, true, true); break;
    case HDL_ENC_TERNARY: make_ternary(&k); break;
    default: make_ggml(&k);
    }
    return m;
}
