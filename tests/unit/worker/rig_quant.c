/* SPDX-License-Identifier: Apache-2.0 */
#include "rig_quant.h"

#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/fs.h"
#include "kernels/numeric.h"
#include "rig_tensors.h"

/* ---- a file -------------------------------------------------------------------------------- */

typedef struct file {
    hdl_buf header, data;
} file;

/* shape: "2,3". Returns where its bytes go, zeroed. */
static unsigned char *add(file *f, const char *name, const char *suffix, const char *dtype,
                          const char *shape, size_t bytes)
{
    hdl_buf_printf(&f->header,
                   ",\"%s%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}", name,
                   suffix, dtype, shape, f->data.len, f->data.len + bytes);
    unsigned char *zeros = calloc(bytes + 1, 1);
    hdl_buf_append(&f->data, zeros, bytes);
    free(zeros);
    assert_true(hdl_buf_ok(&f->data));
    return (unsigned char *)(uintptr_t)hdl_buf_data(&f->data) + f->data.len - bytes;
}

static const char *shape_text(char text[96], const uint64_t *d, uint32_t n)
{
    size_t at = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < n; i++)
        at += (size_t)snprintf(text + at, 96 - at, "%s%" PRIu64, i ? "," : "", d[i]);
    return text;
}

static void save(file *f, const char *dir)
{
    char path[512];
    while ((f->header.len + 1) % 8 != 0)
        hdl_buf_puts(&f->header, " ");
    hdl_buf_puts(&f->header, "}");
    uint64_t len = f->header.len;
    snprintf(path, sizeof(path), "%s/model.safetensors", dir);
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    fwrite(&len, sizeof(len), 1, out);
    fwrite(hdl_buf_data(&f->header), 1, f->header.len, out);
    fwrite(hdl_buf_data(&f->data), 1, f->data.len, out);
    assert_int_equal(fclose(out), 0);
    hdl_buf_deinit(&f->header);
    hdl_buf_deinit(&f->data);
}

/* ---- one matrix ---------------------------------------------------------------------------- */

/* The matrix that is being written: rows x cols, or as many behind each other as experts. */
typedef struct matrix {
    file *f;
    const char *name; /* of the plain tensor */
    char stem[128];   /* without ".weight" */
    uint64_t experts, rows, cols;
    float *values; /* [experts, rows, cols] */
} matrix;

static uint64_t random_of(const matrix *m, const char *what, uint64_t i)
{
    float a = rig_weight(m->name, i, 1, false), b = rig_weight(what, i * 31 + 7, 1, false);
    uint32_t x = hdl_f32_bits(a) ^ hdl_f32_bits(b) * 2654435761u;
    x = (x ^ x >> 15) * 0x2c1b3c6du;
    return x ^ x >> 12;
}

/* A factor in [0.75, 1.25), in eighths of a quarter: exact in 16 bits with the scales below. */
static float factor(const matrix *m, uint64_t i)
{
    return 0.75f + (float)(random_of(m, "scale", i) % 8) / 16.0f;
}

/* What a code of this root mean square must be multiplied by for weights of a third of the size of
 * the rig's: int8 activations then stay below 1e-2 in the logits of two layers. */
static float unit(const matrix *m, float rms)
{
    return exp2f(roundf(log2f(0.3f / sqrtf((float)m->cols) / rms)));
}

static uint16_t to_f16(float x) /* of few digits, normal */
{
    uint32_t u = hdl_f32_bits(x);
    return (uint16_t)((u >> 16 & 0x8000) | (((u >> 23 & 255) - 112) << 10) | (u >> 13 & 0x3ff));
}

static float *value(const matrix *m, uint64_t row, uint64_t col)
{
    return &m->values[row * m->cols + col]; /* experts' rows count on */
}

static void put16(unsigned char *at, uint64_t i, uint16_t x) { memcpy(at + 2 * i, &x, 2); }
static void put32(unsigned char *at, uint64_t i, uint32_t x) { memcpy(at + 4 * i, &x, 4); }

static unsigned char *add_plane(matrix *m, const char *suffix, const char *dtype, const uint64_t *d,
                                size_t size)
{
    char text[96];
    bool stem = suffix[0] == '.';
    uint32_t n = d[2] == 0 ? (d[1] == 0 ? 1 : 2) : d[3] == 0 ? 3 : 4;
    for (uint32_t i = 0; i < n; i++)
        size *= d[i];
    return add(m->f, stem ? m->stem : m->name, suffix, dtype, shape_text(text, d, n), size);
}
#define DIMS(...) ((const uint64_t[5]){__VA_ARGS__})

/* ---- FP8 ----------------------------------------------------------------------------------- */

static void write_fp8(matrix *m, rig_quant kind)
{
    bool block = kind == RIG_FP8_BLOCK || kind == RIG_FP8_UE8M0;
    uint64_t br = block ? 128 : kind == RIG_FP8_CHANNEL ? 1 : m->rows, bc = block ? 128 : m->cols;
    uint64_t high = (m->rows + br - 1) / br, wide = (m->cols + bc - 1) / bc;
    float one = unit(m, 1.0f), *scales = calloc(high * wide, sizeof(*scales));
    unsigned char *codes = add_plane(m, "", "F8_E4M3", DIMS(m->rows, m->cols), 1);
    for (uint64_t r = 0; r < m->rows; r++)
        for (uint64_t c = 0; c < m->cols; c++) {
            uint64_t x = random_of(m, "code", r * m->cols + c), s = r / br * wide + c / bc;
            uint32_t digits = (uint32_t)(x & 7), e = 4 + (uint32_t)(x >> 3 & 3); /* 2^-3 .. 2^0 */
            if (x % 61 == 0)
                e = 0; /* subnormal */
            scales[s] = one * (kind == RIG_FP8_UE8M0 ? 1.0f : factor(m, s));
            float v = e ? ldexpf((float)(8 + digits), (int)e - 10) : ldexpf((float)digits, -9);
            codes[r * m->cols + c] = (unsigned char)((x >> 8 & 1) << 7 | e << 3 | digits);
            *value(m, r, c) = (x >> 8 & 1 ? -v : v) * scales[s];
        }
    if (block) {
        bool ue8m0 = kind == RIG_FP8_UE8M0;
        unsigned char *at =
            add_plane(m, "_scale_inv", ue8m0 ? "F8_E8M0" : "F32", DIMS(high, wide), ue8m0 ? 1 : 4);
        for (uint64_t i = 0; i < high * wide; i++)
            if (ue8m0)
                at[i] = (unsigned char)(hdl_f32_bits(scales[i]) >> 23);
            else
                memcpy(at + 4 * i, &scales[i], 4);
    } else if (kind == RIG_FP8_CHANNEL) {
        unsigned char *at = add_plane(m, "_scale", "BF16", DIMS(high, 1), 2);
        for (uint64_t i = 0; i < high; i++)
            put16(at, i, hdl_bf16_from_f32(scales[i]));
    } else {
        memcpy(add_plane(m, "_scale", "F32", DIMS(1), 4), scales, 4);
        memcpy(add_plane(m, ".input_scale", "F32", DIMS(1), 4), &one, 4); /* of no use to us */
    }
    free(scales);
}

/* ---- FP4 ----------------------------------------------------------------------------------- */

static const float e2m1[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};

/* scale(group) in group_scale; codes at even columns in the low halves. */
static void fill_fp4(matrix *m, unsigned char *codes, uint64_t group, const float *group_scale)
{
    for (uint64_t i = 0; i < m->experts * m->rows * m->cols; i++) {
        uint32_t code = (uint32_t)random_of(m, "code", i) & 15;
        float v = e2m1[code & 7] * group_scale[i / group];
        codes[i / 2] |= (unsigned char)(code << i % 2 * 4);
        m->values[i] = (code & 8 ? -v : v) + 0.0f;
    }
}

static void write_mxfp4(matrix *m, rig_quant kind)
{
    uint64_t groups = m->cols / 32, n = m->experts * m->rows * groups;
    float one = unit(m, 2.9f), *scale = calloc(n, sizeof(*scale));
    unsigned char *codes =
        kind == RIG_MXFP4 ? add_plane(m, "_blocks", "U8", DIMS(m->experts, m->rows, groups, 16), 1)
                          : add_plane(m, "_packed", "U8", DIMS(m->rows, m->cols / 2), 1);
    for (uint64_t i = 0; i < n; i++)
        scale[i] = ldexpf(one, (int)(random_of(m, "scale", i) % 3) - 1);
    fill_fp4(m, codes, 32, scale);
    unsigned char *at = kind == RIG_MXFP4
                            ? add_plane(m, "_scales", "U8", DIMS(m->experts, m->rows, groups), 1)
                            : add_plane(m, "_scale", "U8", DIMS(m->rows, groups), 1);
    for (uint64_t i = 0; i < n; i++)
        at[i] = (unsigned char)(hdl_f32_bits(scale[i]) >> 23);
    free(scale);
}

/* Local scales in E4M3 (1 .. 1.875), a global one; compressed-tensors stores its reciprocal. */
static void write_nvfp4(matrix *m, rig_quant kind)
{
    uint64_t groups = m->cols / 16, n = m->rows * groups;
    bool ct = kind == RIG_NVFP4_CT;
    float global = unit(m, 2.9f) / 1.5f, divisor = 1 / global, *scale = calloc(n, sizeof(*scale));
    unsigned char *codes = add_plane(m, ct ? "_packed" : "", "U8", DIMS(m->rows, m->cols / 2), 1);
    for (uint64_t i = 0; i < n; i++) {
        float local = 1 + (float)(random_of(m, "scale", i) % 8) / 8;
        scale[i] = ct ? local / divisor : local * global;
    }
    fill_fp4(m, codes, 16, scale);
    unsigned char *at = add_plane(m, "_scale", "F8_E4M3", DIMS(m->rows, groups), 1);
    for (uint64_t i = 0; i < n; i++)
        at[i] = (unsigned char)(7 << 3 | random_of(m, "scale", i) % 8);
    unsigned char *total = add_plane(m, ct ? "_global_scale" : "_scale_2", "F32", DIMS(1), 4);
    memcpy(total, ct ? &divisor : &global, 4);
    free(scale);
}

/* ---- integers ------------------------------------------------------------------------------ */

/* Code, zero point and scale of an element, as all integer layouts draw them. */
typedef struct ints {
    uint32_t bits;
    uint64_t group;
    bool zeros, act;
    float one;
} ints;

static uint32_t code_of(const matrix *m, const ints *q, uint64_t r, uint64_t c)
{
    return (uint32_t)random_of(m, "code", r * m->cols + c) & ((1u << q->bits) - 1);
}

static uint32_t zero_of(const matrix *m, const ints *q, uint64_t r, uint64_t g)
{
    uint32_t half = 1u << (q->bits - 1);
    return q->zeros ? half - 2 + (uint32_t)random_of(m, "zero", r * 97 + g) % 4 : half;
}

static float scale_of(const matrix *m, const ints *q, uint64_t r, uint64_t g)
{
    return q->one * factor(m, r * 89 + g);
}

/* Columns take turns in groups where they have an order of their own. */
static uint64_t group_of(const matrix *m, const ints *q, uint64_t c)
{
    return q->act ? c % (m->cols / q->group) : c / q->group;
}

static void fill_ints(matrix *m, const ints *q)
{
    for (uint64_t r = 0; r < m->rows; r++)
        for (uint64_t c = 0; c < m->cols; c++) {
            uint64_t g = group_of(m, q, c);
            int code = (int)code_of(m, q, r, c) - (int)zero_of(m, q, r, g);
            *value(m, r, c) = (float)code * scale_of(m, q, r, g);
        }
}

static void write_int4(matrix *m, rig_quant kind)
{
    ints q = {.bits = 4,
              .group = kind == RIG_INT4 ? 32 : 128,
              .zeros = kind == RIG_INT4_ZERO,
              .one = unit(m, 4.6f)};
    uint64_t groups = m->cols / q.group;
    int64_t shape[2] = {(int64_t)m->rows, (int64_t)m->cols};
    fill_ints(m, &q);
    unsigned char *codes = add_plane(m, "_packed", "I32", DIMS(m->rows, m->cols / 8), 4);
    for (uint64_t i = 0; i < m->rows * m->cols; i++)
        codes[i / 2] |= (unsigned char)(code_of(m, &q, i / m->cols, i % m->cols) << i % 2 * 4);
    unsigned char *scales = add_plane(m, "_scale", "BF16", DIMS(m->rows, groups), 2);
    for (uint64_t i = 0; i < m->rows * groups; i++)
        put16(scales, i, hdl_bf16_from_f32(scale_of(m, &q, i / groups, i % groups)));
    if (q.zeros) {
        unsigned char *zeros = add_plane(m, "_zero_point", "I32", DIMS(m->rows / 8, groups), 4);
        for (uint64_t r = 0; r < m->rows; r++)
            for (uint64_t g = 0; g < groups; g++)
                zeros[(r / 8 * groups + g) * 4 + r % 8 / 2] |=
                    (unsigned char)(zero_of(m, &q, r, g) << r % 2 * 4);
    }
    memcpy(add_plane(m, "_shape", "I64", DIMS(2), 8), shape, sizeof(shape));
}

/* [groups, rows] f16, as AWQ and GPTQ have them. */
static void add_scales(matrix *m, const ints *q)
{
    uint64_t groups = m->cols / q->group;
    unsigned char *scales = add_plane(m, ".scales", "F16", DIMS(groups, m->rows), 2);
    for (uint64_t i = 0; i < groups * m->rows; i++)
        put16(scales, i, to_f16(scale_of(m, q, i % m->rows, i / m->rows)));
}

static void write_awq(matrix *m)
{
    static const unsigned char order[] = {0, 2, 4, 6, 1, 3, 5, 7};
    ints q = {.bits = 4, .group = 128, .zeros = true, .one = unit(m, 4.6f)};
    uint64_t words = m->rows / 8, groups = m->cols / q.group;
    fill_ints(m, &q);
    unsigned char *codes = add_plane(m, ".qweight", "I32", DIMS(m->cols, words), 4);
    for (uint64_t i = 0; i < m->cols * words; i++) {
        uint32_t word = 0;
        for (uint32_t j = 0; j < 8; j++)
            word |= code_of(m, &q, i % words * 8 + order[j], i / words) << 4 * j;
        put32(codes, i, word);
    }
    unsigned char *zeros = add_plane(m, ".qzeros", "I32", DIMS(groups, words), 4);
    for (uint64_t i = 0; i < groups * words; i++) {
        uint32_t word = 0;
        for (uint32_t j = 0; j < 8; j++)
            word |= zero_of(m, &q, i % words * 8 + order[j], i / words) << 4 * j;
        put32(zeros, i, word);
    }
    add_scales(m, &q);
}

static void write_gptq(matrix *m, rig_quant kind)
{
    uint32_t bits = kind == RIG_GPTQ8 ? 8 : 4, per = 32 / bits;
    ints q = {.bits = bits,
              .group = 64,
              .zeros = kind != RIG_GPTQ,
              .act = kind == RIG_GPTQ_ACT,
              .one = unit(m, bits == 8 ? 74.0f : 4.6f)};
    uint64_t groups = m->cols / q.group, wide = m->rows / per;
    fill_ints(m, &q);
    unsigned char *codes = add_plane(m, ".qweight", "I32", DIMS(m->cols / per, m->rows), 4);
    for (uint64_t i = 0; i < m->cols / per * m->rows; i++) {
        uint32_t word = 0;
        for (uint32_t j = 0; j < per; j++)
            word |= code_of(m, &q, i % m->rows, i / m->rows * per + j) << bits * j;
        put32(codes, i, word);
    }
    unsigned char *zeros = add_plane(m, ".qzeros", "I32", DIMS(groups, wide), 4);
    for (uint64_t i = 0; i < groups * wide; i++) {
        uint32_t word = 0;
        for (uint32_t j = 0; j < per; j++)
            word |= (zero_of(m, &q, i % wide * per + j, i / wide) - 1) << bits * j;
        put32(zeros, i, word);
    }
    unsigned char *order = add_plane(m, ".g_idx", "I32", DIMS(m->cols), 4);
    for (uint64_t c = 0; c < m->cols; c++)
        put32(order, c, (uint32_t)group_of(m, &q, c));
    add_scales(m, &q);
}

static void write_bitnet(matrix *m)
{
    uint64_t quarter = m->rows / 4;
    float scale = unit(m, 0.8f);
    unsigned char *codes = add_plane(m, "", "U8", DIMS(quarter, m->cols), 1);
    for (uint64_t r = 0; r < m->rows; r++)
        for (uint64_t c = 0; c < m->cols; c++) {
            uint32_t code = (uint32_t)random_of(m, "code", r * m->cols + c) % 3;
            codes[r % quarter * m->cols + c] |= (unsigned char)(code << r / quarter * 2);
            *value(m, r, c) = ((float)code - 1) * scale;
        }
    memcpy(add_plane(m, "_scale", "F32", DIMS(1), 4), &scale, 4);
}

static void write_matrix(matrix *m, rig_quant kind)
{
    switch (kind) {
    case RIG_FP8_BLOCK:
    case RIG_FP8_UE8M0:
    case RIG_FP8_TENSOR:
    case RIG_FP8_CHANNEL: write_fp8(m, kind); break;
    case RIG_MXFP4:
    case RIG_MXFP4_CT: write_mxfp4(m, kind); break;
    case RIG_NVFP4:
    case RIG_NVFP4_CT: write_nvfp4(m, kind); break;
    case RIG_INT4:
    case RIG_INT4_ZERO: write_int4(m, kind); break;
    case RIG_AWQ: write_awq(m); break;
    case RIG_GPTQ:
    case RIG_GPTQ_ACT:
    case RIG_GPTQ8: write_gptq(m, kind); break;
    case RIG_BITNET: write_bitnet(m); break;
    }
}

/* ---- a model ------------------------------------------------------------------------------- */

#define CT(format, weights)                                                                        \
    "{\"quant_method\":\"compressed-tensors\",\"format\":\"" format                                \
    "\",\"config_groups\":{\"group_0\":{\"targets\":[\"Linear\"],\"input_activations\":null,"      \
    "\"weights\":{" weights "}}},\"ignore\":[\"lm_head\"]}"

const char *rig_quant_config(rig_quant kind)
{
    switch (kind) {
    case RIG_FP8_BLOCK: return "{\"quant_method\":\"fp8\",\"weight_block_size\":[128,128]}";
    case RIG_FP8_UE8M0:
        return "{\"quant_method\":\"fp8\",\"scale_fmt\":\"ue8m0\",\"weight_block_size\":[128,128]}";
    case RIG_FP8_TENSOR: return "{\"quant_algo\":\"FP8\",\"ignore\":[\"lm_head\"]}";
    case RIG_FP8_CHANNEL:
        return CT("float-quantized", "\"num_bits\":8,\"type\":\"float\",\"strategy\":\"channel\"");
    case RIG_MXFP4: return "{\"quant_method\":\"mxfp4\"}";
    case RIG_MXFP4_CT:
        return CT("mxfp4-pack-quantized", "\"num_bits\":4,\"type\":\"float\",\"group_size\":32");
    case RIG_NVFP4: return "{\"quant_algo\":\"NVFP4\",\"ignore\":[\"lm_head\"]}";
    case RIG_NVFP4_CT:
        return CT("nvfp4-pack-quantized", "\"num_bits\":4,\"type\":\"float\",\"group_size\":16");
    case RIG_INT4:
        return CT("pack-quantized",
                  "\"num_bits\":4,\"type\":\"int\",\"group_size\":32,\"symmetric\":true");
    case RIG_INT4_ZERO:
        return CT("pack-quantized",
                  "\"num_bits\":4,\"type\":\"int\",\"group_size\":128,\"symmetric\":false");
    case RIG_AWQ: return "{\"quant_method\":\"awq\",\"bits\":4,\"group_size\":128}";
    case RIG_GPTQ: return "{\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":64,\"sym\":true}";
    case RIG_GPTQ_ACT:
        return "{\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":64,\"desc_act\":true}";
    case RIG_GPTQ8: return "{\"quant_method\":\"gptq\",\"bits\":8,\"group_size\":64,\"sym\":false}";
    case RIG_BITNET: return "{\"quant_method\":\"bitnet\",\"linear_class\":\"autobitlinear\"}";
    }
    return NULL;
}

/* Plain values, F32 or BF16, of a whole tensor. */
static void write_plain(file *f, const rig_tensor *t, const float *values, bool f32)
{
    char text[96];
    uint64_t n = rig_tensor_count(t);
    unsigned char *at = add(f, t->name, "", f32 ? "F32" : "BF16",
                            shape_text(text, t->shape, t->n_dims), n * (f32 ? 4 : 2));
    for (uint64_t i = 0; i < n; i++) {
        float v = values ? values[i] : rig_tensor_weight(t, i);
        if (f32)
            memcpy(at + 4 * i, &v, 4);
        else
            put16(at, i, hdl_bf16_from_f32(v));
    }
}

/* gpt-oss's plain experts are columns by rows; quantised they are not. */
static void write_quantised(file *f, const rig_tensor *t, rig_quant kind, bool values)
{
    bool stacked = t->n_dims == 3, swap = stacked && kind == RIG_MXFP4;
    file scrap = {0};
    matrix m = {.f = values ? &scrap : f,
                .name = t->name,
                .experts = stacked ? t->shape[0] : 1,
                .rows = t->shape[stacked + swap],
                .cols = t->shape[stacked + 1 - swap]};
    uint64_t n = m.experts * m.rows * m.cols;
    m.values = calloc(n, sizeof(float));
    hdl_buf_init(&scrap.header, 1 << 20);
    hdl_buf_init(&scrap.data, 64 << 20);
    snprintf(m.stem, sizeof(m.stem), "%.*s", (int)(strlen(t->name) - strlen(".weight")), t->name);
    write_matrix(&m, kind);
    if (values) {
        float *plain = calloc(n, sizeof(*plain));
        for (uint64_t e = 0; e < m.experts; e++)
            for (uint64_t r = 0; r < m.rows; r++)
                for (uint64_t c = 0; c < m.cols; c++)
                    plain[e * m.rows * m.cols + (swap ? c * m.rows + r : r * m.cols + c)] =
                        *value(&m, e * m.rows + r, c);
        write_plain(f, t, plain, true);
        free(plain);
    }
    hdl_buf_deinit(&scrap.header);
    hdl_buf_deinit(&scrap.data);
    free(m.values);
}

static bool is_quantised(const rig_tensor *t, rig_quant kind)
{
    if (kind == RIG_MXFP4)
        return t->n_dims == 3 && !strstr(t->name, "bias");
    return t->n_dims >= 2 && strstr(t->name, "_proj") != NULL;
}

void rig_make_quantised(char dir[256], const char *config_json, rig_quant kind, bool values)
{
    char path[512], config[4096];
    hdl_errmsg why = {0};
    hdl_model_desc *desc = malloc(sizeof(*desc));
    rig_tensor *tensors = calloc(2048, sizeof(*tensors));
    file f = {0};
    hdl_buf_init(&f.header, 4 << 20);
    hdl_buf_init(&f.data, 256 << 20);
    hdl_buf_puts(&f.header, "{\"__metadata__\":{\"format\":\"pt\"}");
    if (values || strstr(config_json, "\"quantization_config\""))
        snprintf(config, sizeof(config), "%s", config_json);
    else
        snprintf(config, sizeof(config), "%.*s,\"quantization_config\":%s}",
                 (int)(strrchr(config_json, '}') - config_json), config_json,
                 rig_quant_config(kind));
    if (hdl_model_desc_parse(desc, config, strlen(config), &why) != HDL_OK)
        fail_msg("%s", why.text);
    size_t n = rig_tensors(desc, tensors, 2048);
    for (size_t i = 0; i < n; i++)
        if (is_quantised(&tensors[i], kind))
            write_quantised(&f, &tensors[i], kind, values);
        else
            write_plain(&f, &tensors[i], NULL, false);
    assert_int_equal(hdl_fs_mkdtemp(dir, 256, "heddle-model-", &why), HDL_OK);
    snprintf(path, sizeof(path), "%s/config.json", dir);
    hdl_fs_bytes text = {.data = config, .len = strlen(config)};
    assert_int_equal(hdl_fs_write_atomic(path, text, &why), HDL_OK);
    save(&f, dir);
    free(tensors);
    free(desc);
}
