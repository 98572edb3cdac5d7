/* SPDX-License-Identifier: Apache-2.0 */
/* ggml's block types. The gguf package's values of the blocks in tests/golden/ggml are told by a
 * checksum of every 32; codes times scales are the same numbers; a window reads its own units. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/hash.h"
#include "kernel_test.h"
#include "kernels/numeric.h"

enum { UNIT = HDL_SOURCE_UNIT };

static const hdl_enc encodings[] = {
    HDL_ENC_GGML_Q4_0,    HDL_ENC_GGML_Q4_1,    HDL_ENC_GGML_Q5_0,   HDL_ENC_GGML_Q5_1,
    HDL_ENC_GGML_Q8_0,    HDL_ENC_GGML_Q2_K,    HDL_ENC_GGML_Q3_K,   HDL_ENC_GGML_Q4_K,
    HDL_ENC_GGML_Q5_K,    HDL_ENC_GGML_Q6_K,    HDL_ENC_GGML_IQ4_NL, HDL_ENC_GGML_IQ4_XS,
    HDL_ENC_GGML_IQ2_XXS, HDL_ENC_GGML_IQ3_XXS, HDL_ENC_GGML_TQ1_0,  HDL_ENC_GGML_TQ2_0,
    HDL_ENC_GGML_MXFP4,
};

/* One type's section of the file: what comes after the name, the number and the size. */
typedef struct section {
    uint32_t n_blocks;
    const unsigned char *blocks;
    const unsigned char *sums; /* u32 of each unit */
} section;

static section find(kt *t, hdl_enc enc, char **file)
{
    const hdl_codec *c = hdl_codec_of(enc);
    size_t len = 0, at = 0;
    hdl_errmsg why;
    if (hdl_fs_read(HDL_SOURCE_DIR "/tests/golden/ggml/blocks.bin", 1 << 20, file, &len, &why) != 0)
        return (section){0};
    while (at + 24 <= len) {
        uint32_t n = 0, bytes = 0;
        const char *name = *file + at;
        memcpy(&n, name + 16, 4);
        memcpy(&bytes, name + 20, 4);
        size_t blocks = (size_t)n * bytes,
               cols = strcmp(name, hdl_enc_name(enc)) == 0 ? c->block_cols : 0;
        if (cols != 0) {
            kt_check(t, bytes == c->block_bytes, "the block's size is the package's");
            return (section){n, (const unsigned char *)name + 24,
                             (const unsigned char *)name + 24 + blocks};
        }
        for (size_t i = 0; i < HDL_ARRAY_LEN(encodings) && cols == 0; i++)
            if (strcmp(name, hdl_enc_name(encodings[i])) == 0)
                cols = hdl_codec_of(encodings[i])->block_cols;
        at += 24 + blocks + n * (cols / UNIT) * 4;
    }
    return (section){0};
}

/* Two rows of half the blocks each, in memory of exactly their size, a gap between them. */
static hdl_source make(kt *t, hdl_enc enc, const section *s)
{
    const hdl_codec *c = hdl_codec_of(enc);
    size_t row = (size_t)s->n_blocks / 2 * c->block_bytes, step = row + 6;
    unsigned char *data = kt_alloc(t, step + row);
    memcpy(data, s->blocks, row);
    memcpy(data + step, s->blocks + row, row);
    return (hdl_source){
        .encoding = enc,
        .n_rows = 2,
        .n_cols = s->n_blocks / 2 * c->block_cols,
        .whole_rows = 2,
        .codes = {.data = data, .row_step = (int64_t)step, .col_step = c->block_bytes},
        .scale_mul = 1,
        .scale_div = 1,
    };
}

static void check_golden(kt *t, const float *values, const section *s, uint32_t n_units)
{
    for (uint32_t u = 0; u < n_units; u++) {
        uint32_t bits[UNIT], want = 0;
        for (uint32_t i = 0; i < UNIT; i++)
            bits[i] = isnan(values[u * UNIT + i]) ? 0x7fc00000 : hdl_f32_bits(values[u * UNIT + i]);
        memcpy(&want, s->sums + (size_t)u * 4, 4);
        kt_check(t, hdl_crc32c(0, bits, sizeof bits) == want, "values are the gguf package's");
    }
}

/* The promise of source.h, in plain f32: no fma, so the product alone must be exact. */
static void check_codes(kt *t, const hdl_source *s, const float *values)
{
    const hdl_codec *c = hdl_codec_of(s->encoding);
    int8_t *codes = KT_NEW(t, int8_t, s->n_cols);
    float *scales = KT_NEW(t, float, s->n_cols / c->group);
    float *mins = KT_NEW(t, float, s->n_cols / c->group);
    float *got = KT_NEW(t, float, s->n_cols);
    for (uint32_t r = 0; r < s->n_rows; r++) {
        hdl_source_codes(s, (hdl_span){r, 0, s->n_cols}, &(hdl_codes){codes, scales, mins});
        for (uint32_t i = 0; i < s->n_cols; i++) {
            float product = (float)codes[i] * scales[i / c->group];
            got[i] = c->has_mins ? product + mins[i / c->group] : product;
            bool listed = !c->codebook;
            for (int k = 0; k < 16 && !listed; k++)
                listed = c->codebook[k] == codes[i];
            kt_check(t, listed, "every code is in the codebook");
            double exact = (double)codes[i] * (double)scales[i / c->group];
            kt_check(t, !isfinite(exact) || !isfinite(product) || exact == (double)product,
                     "code times scale is exact");
            if (isnan(got[i]) && isnan(values[r * s->n_cols + i]))
                got[i] = values[r * s->n_cols + i];
        }
        kt_same_bytes(t, "codes and scales", values + (size_t)r * s->n_cols, got,
                      s->n_cols * sizeof *got);
    }
}

/* Row 0's scales and minima are the products of their factors. */
static void check_factors(kt *t, const hdl_source *s, const float *scales, const float *mins)
{
    const hdl_codec *c = hdl_codec_of(s->encoding);
    for (uint32_t at = 0; c->factors && at < s->n_cols; at += UNIT) {
        hdl_factors f = hdl_source_factors(s, (hdl_span){0, at, UNIT});
        for (uint32_t g = 0; g < UNIT / c->group; g++) {
            uint32_t i = at / c->group + g;
            float want[2] = {scales[i], c->has_mins ? mins[i] : 0};
            float got[2] = {hdl_f16_to_f32(f.scale) * (float)f.scale_ints[g],
                            c->has_mins ? hdl_f16_to_f32(f.min) * (float)f.min_ints[g] : 0};
            for (int n = 0; n < 2; n++)
                got[n] = isnan(got[n]) && isnan(want[n]) ? want[n] : got[n];
            kt_same_bytes(t, "factors", want, got, sizeof got);
        }
    }
}

/* Any window at multiples of a unit, read in two pieces. */
static void check_window(kt *t, const hdl_source *s, const float *values)
{
    uint32_t units = s->n_cols / UNIT, from = kt_range(t, 0, units - 1);
    uint32_t n = kt_range(t, 1, units - from), cut = kt_range(t, 0, n) * UNIT;
    hdl_source w = hdl_source_part(s, (hdl_window){1, 1, from * UNIT, n * UNIT});
    float *got = KT_NEW(t, float, w.n_cols);
    hdl_source_values(&w, (hdl_span){0, 0, cut}, got);
    hdl_source_values(&w, (hdl_span){0, cut, w.n_cols - cut}, got + cut);
    kt_same_bytes(t, "a window", values + s->n_cols + from * UNIT, got, w.n_cols * sizeof *got);
    kt_check(t,
             hdl_source_bytes(s) == (uint64_t)s->n_rows * s->n_cols /
                                        hdl_codec_of(s->encoding)->block_cols *
                                        hdl_codec_of(s->encoding)->block_bytes,
             "bytes of the whole");
}

/* Heads of 32 columns in tiles: the third group's second head, say, where the file has it. */
static void check_tiles(kt *t, const hdl_source *s, const float *values)
{
    hdl_source tiled = *s;
    uint32_t n_heads = s->n_cols / UNIT, per_group = n_heads % 3 == 0 ? 3 : 2;
    float *want = KT_NEW(t, float, s->n_cols), *got = KT_NEW(t, float, s->n_cols);
    tiled.tiles = (hdl_tiles){UNIT, n_heads / per_group, per_group};
    for (uint32_t h = 0; h < n_heads; h++)
        memcpy(want + h * UNIT,
               values + (size_t)(h % per_group * (n_heads / per_group) + h / per_group) * UNIT,
               UNIT * sizeof *want);
    uint32_t cut = kt_range(t, 0, n_heads) * UNIT;
    hdl_source_values(&tiled, (hdl_span){0, 0, cut}, got);
    hdl_source_values(&tiled, (hdl_span){0, cut, s->n_cols - cut}, got + cut);
    kt_same_bytes(t, "tiles", want, got, s->n_cols * sizeof *got);
    const hdl_codec *c = hdl_codec_of(s->encoding);
    int8_t *codes = KT_NEW(t, int8_t, s->n_cols);
    float *scales = KT_NEW(t, float, s->n_cols / c->group);
    float *mins = KT_NEW(t, float, s->n_cols / c->group);
    hdl_source_codes(&tiled, (hdl_span){0, 0, s->n_cols}, &(hdl_codes){codes, scales, mins});
    for (uint32_t i = 0; i < s->n_cols; i++) {
        float product = (float)codes[i] * scales[i / c->group];
        got[i] = c->has_mins ? product + mins[i / c->group] : product;
        got[i] = isnan(got[i]) && isnan(want[i]) ? want[i] : got[i];
    }
    kt_same_bytes(t, "codes of tiles", want, got, s->n_cols * sizeof *got);
    check_factors(t, &tiled, scales, mins);
}

static void test(kt *t, int c)
{
    char *file = NULL;
    section golden = find(t, encodings[c], &file);
    kt_check(t, golden.n_blocks >= 8, "the golden file has the type");
    if (golden.n_blocks >= 8) {
        hdl_source s = make(t, encodings[c], &golden);
        float *values = KT_NEW(t, float, (size_t)2 * s.n_cols);
        for (uint32_t r = 0; r < 2; r++)
            hdl_source_values(&s, (hdl_span){r, 0, s.n_cols}, values + (size_t)r * s.n_cols);
        check_golden(t, values, &golden, 2 * s.n_cols / UNIT);
        check_codes(t, &s, values);
        for (int i = 0; i < 8; i++)
            check_window(t, &s, values);
        check_tiles(t, &s, values);
    }
    free(file);
}

const kt_suite kt_ggml = {"ggml", HDL_ARRAY_LEN(encodings), test};
