/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/codec/codec.h"

#include "base/assert.h"

const int8_t hdl_codebook_s4[16] = {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7};
const int8_t hdl_codebook_u4[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
/* Of ternary types: two bits, of which one in four is in no well-made file. The rest repeats. */
const int8_t hdl_codebook_t2[16] = {-1, 0, 1, 2, -1, 0, 1, 2, -1, 0, 1, 2, -1, 0, 1, 2};
/* OCP Microscaling Formats 1.0, section 5.3.3, times two; the sign is the highest bit. */
const int8_t hdl_codebook_e2m1[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
/* Of ggml's non-linear 4-bit types. */
const int8_t hdl_codebook_iq4nl[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                       1,    13,   25,  38,  53,  69,  89,  113};

static const hdl_codec *const codecs[HDL_ENC_COUNT] = {
    [HDL_ENC_F32] = &hdl_codec_f32,
    [HDL_ENC_F16] = &hdl_codec_f16,
    [HDL_ENC_BF16] = &hdl_codec_bf16,
    [HDL_ENC_E4M3] = &hdl_codec_e4m3,
    [HDL_ENC_MXFP4] = &hdl_codec_mxfp4,
    [HDL_ENC_NVFP4] = &hdl_codec_nvfp4,
    [HDL_ENC_INT4] = &hdl_codec_int4,
    [HDL_ENC_INT4Z] = &hdl_codec_int4z,
    [HDL_ENC_INT8] = &hdl_codec_int8,
    [HDL_ENC_AWQ4] = &hdl_codec_awq4,
    [HDL_ENC_GPTQ4] = &hdl_codec_gptq4,
    [HDL_ENC_GPTQ4Z] = &hdl_codec_gptq4z,
    [HDL_ENC_GPTQ4G] = &hdl_codec_gptq4g,
    [HDL_ENC_GPTQ8] = &hdl_codec_gptq8,
    [HDL_ENC_GPTQ8Z] = &hdl_codec_gptq8z,
    [HDL_ENC_GPTQ8G] = &hdl_codec_gptq8g,
    [HDL_ENC_TERNARY] = &hdl_codec_ternary,
    [HDL_ENC_GGML_Q4_0] = &hdl_codec_ggml_q4_0,
    [HDL_ENC_GGML_Q4_1] = &hdl_codec_ggml_q4_1,
    [HDL_ENC_GGML_Q5_0] = &hdl_codec_ggml_q5_0,
    [HDL_ENC_GGML_Q5_1] = &hdl_codec_ggml_q5_1,
    [HDL_ENC_GGML_Q8_0] = &hdl_codec_ggml_q8_0,
    [HDL_ENC_GGML_Q2_K] = &hdl_codec_ggml_q2_k,
    [HDL_ENC_GGML_Q3_K] = &hdl_codec_ggml_q3_k,
    [HDL_ENC_GGML_Q4_K] = &hdl_codec_ggml_q4_k,
    [HDL_ENC_GGML_Q5_K] = &hdl_codec_ggml_q5_k,
    [HDL_ENC_GGML_Q6_K] = &hdl_codec_ggml_q6_k,
    [HDL_ENC_GGML_IQ4_NL] = &hdl_codec_ggml_iq4_nl,
    [HDL_ENC_GGML_IQ4_XS] = &hdl_codec_ggml_iq4_xs,
    [HDL_ENC_GGML_IQ2_XXS] = &hdl_codec_ggml_iq2_xxs,
    [HDL_ENC_GGML_IQ3_XXS] = &hdl_codec_ggml_iq3_xxs,
    [HDL_ENC_GGML_TQ1_0] = &hdl_codec_ggml_tq1_0,
    [HDL_ENC_GGML_TQ2_0] = &hdl_codec_ggml_tq2_0,
    [HDL_ENC_GGML_MXFP4] = &hdl_codec_ggml_mxfp4,
};

const hdl_codec *hdl_codec_of(hdl_enc encoding)
{
    HDL_ASSERT_LT(encoding, HDL_ENC_COUNT);
    return codecs[encoding];
}

const char *hdl_enc_name(hdl_enc encoding)
{
#define NAME(name, text) text,
    static const char *const names[] = {HDL_ENC_LIST(NAME)};
#undef NAME
    HDL_ASSERT_LT(encoding, HDL_ENC_COUNT);
    return names[encoding];
}

hdl_source hdl_source_of_tensor(const hdl_tensor *t)
{
    int64_t size = (int64_t)hdl_dtype_bytes(t->dtype);
    HDL_ASSERT(t->n_dims == 1 || t->n_dims == 2);
    HDL_ASSERT(t->dtype == HDL_DTYPE_F32 || t->dtype == HDL_DTYPE_F16 ||
               t->dtype == HDL_DTYPE_BF16);
    bool matrix = t->n_dims == 2;
    return (hdl_source){
        .encoding = t->dtype == HDL_DTYPE_F32   ? HDL_ENC_F32
                    : t->dtype == HDL_DTYPE_F16 ? HDL_ENC_F16
                                                : HDL_ENC_BF16,
        .n_rows = (uint32_t)t->shape[0],
        .n_cols = matrix ? (uint32_t)t->shape[1] : 1,
        .whole_rows = (uint32_t)t->shape[0],
        .codes = {.data = t->data,
                  .dtype = t->dtype,
                  .row_step = t->stride[0] * size,
                  .col_step = matrix ? t->stride[1] * size : size},
        .scale_mul = 1,
        .scale_div = 1,
    };
}

hdl_source hdl_source_part(const hdl_source *s, hdl_window part)
{
    hdl_source p = *s;
    HDL_ASSERT(part.row_at <= s->n_rows && part.n_rows <= s->n_rows - part.row_at);
    HDL_ASSERT(part.col_at <= s->n_cols && part.n_cols <= s->n_cols - part.col_at);
    p.row_at += part.row_at;
    p.n_rows = part.n_rows;
    p.col_at += part.col_at;
    p.n_cols = part.n_cols;
    return p;
}

hdl_source hdl_source_turned(const hdl_source *s)
{
    hdl_source t = *s;
    t.by_columns = !s->by_columns;
    t.row_at = s->col_at;
    t.n_rows = s->n_cols;
    t.col_at = s->row_at;
    t.n_cols = s->n_rows;
    return t;
}

static void check_span(const hdl_source *s, hdl_span at, const hdl_codec *c)
{
    HDL_ASSERT_LT(at.row, s->n_rows);
    HDL_ASSERT(at.col <= s->n_cols && at.n <= s->n_cols - at.col);
    if (c->group == 0 && c->block_cols == 1)
        return;
    HDL_ASSERT((s->col_at + at.col) % HDL_SOURCE_UNIT == 0);
    HDL_ASSERT(at.n % HDL_SOURCE_UNIT == 0 || at.col + at.n == s->n_cols);
}

/* Values of encodings that define no reader of their own. */
static void values_of_codes(const hdl_source *s, hdl_span at, float *out)
{
    const hdl_codec *c = hdl_codec_of(s->encoding);
    int8_t codes[HDL_CODEC_PIECE];
    float scales[HDL_CODEC_PIECE / 16], mins[HDL_CODEC_PIECE / 16];
    hdl_codes to = {.codes = codes, .scales = scales, .mins = mins};
    for (uint32_t end = at.col + at.n; at.col < end; at.col += HDL_CODEC_PIECE) {
        at.n = hdl_min_u32(HDL_CODEC_PIECE, end - at.col);
        c->codes(s, at, &to);
        for (uint32_t i = 0; i < at.n; i++) {
            float scale = scales[i / c->group], code = (float)codes[i];
            /* Without a minimum nothing is added: + 0 would turn -0 into +0. */
            *out++ = c->has_mins ? fmaf(code, scale, mins[i / c->group]) : code * scale;
        }
    }
}

/* The columns from at.col on that lie beside each other in the file, as a source and span of their
 * own. Returns how many. */
static uint32_t tile(const hdl_source *s, hdl_span at, hdl_source *part)
{
    uint32_t col = s->col_at + at.col, in_head = col % s->tiles.each;
    *part = *s;
    part->tiles.each = 0;
    part->col_at = hdl_tile_of(&s->tiles, col / s->tiles.each) * s->tiles.each + in_head;
    part->n_cols = hdl_min_u32(at.n, s->tiles.each - in_head);
    return part->n_cols;
}

/* A row is a column of the planes: of each unit that holds one of its numbers the others are
 * dropped. */
static void values_of_column(const hdl_source *s, hdl_span at, float *out)
{
    hdl_source planes = hdl_source_turned(s);
    uint32_t col = s->row_at + at.row, unit = col / HDL_SOURCE_UNIT * HDL_SOURCE_UNIT;
    HDL_ASSERT(at.row < s->n_rows && at.col <= s->n_cols && at.n <= s->n_cols - at.col);
    HDL_ASSERT_EQ(s->tiles.each, 0);
    planes.col_at = unit;
    planes.n_cols = HDL_SOURCE_UNIT;
    for (uint32_t i = 0; i < at.n; i++) {
        float all[HDL_SOURCE_UNIT];
        hdl_source_values(&planes, (hdl_span){.row = at.col + i, .n = HDL_SOURCE_UNIT}, all);
        out[i] = all[col - unit];
    }
}

void hdl_source_values(const hdl_source *s, hdl_span at, float *out)
{
    const hdl_codec *c = hdl_codec_of(s->encoding);
    if (s->by_columns) {
        values_of_column(s, at, out);
        return;
    }
    check_span(s, at, c);
    while (s->tiles.each != 0 && at.n > 0) {
        hdl_source part;
        uint32_t n = tile(s, at, &part);
        hdl_source_values(&part, (hdl_span){at.row, 0, n}, out);
        at.col += n;
        at.n -= n;
        out += n;
    }
    if (at.n == 0)
        return;
    if (c->values)
        c->values(s, at, out);
    else
        values_of_codes(s, at, out);
}

void hdl_source_codes(const hdl_source *s, hdl_span at, const hdl_codes *out)
{
    const hdl_codec *c = hdl_codec_of(s->encoding);
    hdl_codes to = *out;
    HDL_ASSERT(c->codes && at.n % c->group == 0 && !s->by_columns);
    check_span(s, at, c);
    while (s->tiles.each != 0 && at.n > 0) {
        hdl_source part;
        uint32_t n = tile(s, at, &part);
        hdl_source_codes(&part, (hdl_span){at.row, 0, n}, &to);
        at.col += n;
        at.n -= n;
        to.codes += n;
        to.scales += n / c->group;
        to.mins = to.mins ? to.mins + n / c->group : NULL;
    }
    if (at.n > 0)
        c->codes(s, at, &to);
}

hdl_factors hdl_source_factors(const hdl_source *s, hdl_span at)
{
    const hdl_codec *c = hdl_codec_of(s->encoding);
    hdl_source part;
    hdl_factors out;
    HDL_ASSERT(c->factors && at.n == HDL_SOURCE_UNIT && !s->by_columns);
    check_span(s, at, c);
    if (s->tiles.each != 0) {
        tile(s, at, &part);
        s = &part;
        at.col = 0;
    }
    c->factors(s, at, &out);
    return out;
}

static bool has_nan_code(const hdl_source *s)
{
    for (uint32_t row = s->row_at; row < s->row_at + s->n_rows; row++) {
        const unsigned char *p = hdl_plane_at(&s->codes, row, s->col_at);
        for (uint32_t i = 0; i < s->n_cols; i++, p += s->codes.col_step)
            if ((*p & 0x7f) == 0x7f)
                return true;
    }
    return false;
}

bool hdl_source_is_finite(const hdl_source *s)
{
    if (!s->scales.data)
        return true;
    if (s->encoding == HDL_ENC_E4M3 && has_nan_code(s))
        return false;
    if (s->by_columns) {
        hdl_source planes = hdl_source_turned(s);
        return hdl_source_is_finite(&planes);
    }
    uint32_t row_end = s->row_at + s->n_rows, col_end = s->col_at + s->n_cols;
    for (uint32_t row = s->row_at; row < row_end; row += s->scale_rows - row % s->scale_rows)
        for (uint32_t col = s->col_at; col < col_end; col += s->scale_cols - col % s->scale_cols)
            if (!isfinite(hdl_source_scale(s, row, col)))
                return false;
    return true;
}

static uint64_t div_ceil(uint64_t a, uint64_t b) { return (a + b - 1) / b; }

uint64_t hdl_source_bytes(const hdl_source *s)
{
    const hdl_codec *c = hdl_codec_of(s->encoding);
    uint64_t bytes = div_ceil((uint64_t)s->n_cols * s->n_rows, c->block_cols) * c->block_bytes;
    if (!s->scales.data)
        return bytes;
    uint64_t scales = div_ceil(s->n_rows, s->scale_rows) * div_ceil(s->n_cols, s->scale_cols);
    bytes += scales * hdl_dtype_bytes(s->scales.dtype);
    return bytes + (s->zeros.data ? div_ceil(scales, 2) : 0); /* at most; they are small */
}
