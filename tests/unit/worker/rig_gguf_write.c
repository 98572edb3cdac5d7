/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/gguf.h"
#include "base/hash.h"
#include "kernels/numeric.h"
#include "rig_gguf.h"

enum { ALIGN = 32, MXFP4 = 39 };

/* Where a type's f16 numbers are, and what the second one is to the first, so that values lie
 * around zero; the rest of a block is random. */
static const struct {
    uint32_t type;
    hdl_enc encoding;
    int d, m;
    float ratio;
} kinds[] = {
    {1, HDL_ENC_F16, -1, -1, 0},
    {30, HDL_ENC_BF16, -1, -1, 0},
    {2, HDL_ENC_GGML_Q4_0, 0, -1, 0},
    {3, HDL_ENC_GGML_Q4_1, 0, 2, -7.5f},
    {6, HDL_ENC_GGML_Q5_0, 0, -1, 0},
    {7, HDL_ENC_GGML_Q5_1, 0, 2, -15.5f},
    {8, HDL_ENC_GGML_Q8_0, 0, -1, 0},
    {10, HDL_ENC_GGML_Q2_K, 80, 82, 1.5f},
    {11, HDL_ENC_GGML_Q3_K, 108, -1, 0},
    {12, HDL_ENC_GGML_Q4_K, 0, 2, 7.5f},
    {13, HDL_ENC_GGML_Q5_K, 0, 2, 15.5f},
    {14, HDL_ENC_GGML_Q6_K, 208, -1, 0},
    {16, HDL_ENC_GGML_IQ2_XXS, 0, -1, 0},
    {18, HDL_ENC_GGML_IQ3_XXS, 0, -1, 0},
    {20, HDL_ENC_GGML_IQ4_NL, 0, -1, 0},
    {23, HDL_ENC_GGML_IQ4_XS, 0, -1, 0},
    {34, HDL_ENC_GGML_TQ1_0, 52, -1, 0},
    {35, HDL_ENC_GGML_TQ2_0, 64, -1, 0},
    {MXFP4, HDL_ENC_GGML_MXFP4, -1, -1, 0},
};

typedef struct writer {
    const rig_gguf_spec *spec;
    hdl_buf kvs, infos, data;
    uint32_t n_kvs, n_tensors;
    size_t kind, larger; /* in kinds */
} writer;

static void put(hdl_buf *b, const void *bytes, size_t n)
{
    assert_int_equal(hdl_buf_append(b, bytes, n), HDL_OK);
}

static void put_u32(hdl_buf *b, uint32_t v) { put(b, &v, sizeof(v)); }
static void put_u64(hdl_buf *b, uint64_t v) { put(b, &v, sizeof(v)); }

static void put_text(hdl_buf *b, const char *text)
{
    put_u64(b, strlen(text));
    put(b, text, strlen(text));
}

static void kv_u32(writer *w, const char *key, uint32_t v)
{
    put_text(&w->kvs, key);
    put_u32(&w->kvs, HDL_GGUF_U32);
    put_u32(&w->kvs, v);
    w->n_kvs++;
}

/* The largest f16 that is not above |v|, with v's sign. */
static uint16_t half_of(float v)
{
    uint32_t low = 0, high = 0x7c00;
    while (high - low > 1) {
        uint32_t mid = (low + high) / 2;
        if (hdl_f16_to_f32((uint16_t)mid) <= fabsf(v))
            low = mid;
        else
            high = mid;
    }
    return (uint16_t)(low | (v < 0 ? 0x8000 : 0));
}

/* Numbers about as large as the formula's, as blocks of the type. */
static void fill_block(const writer *w, unsigned char *block, uint64_t seed, float size)
{
    const hdl_codec *c = hdl_codec_of(kinds[w->kind].encoding);
    for (uint32_t i = 0; i < c->block_bytes; i++)
        block[i] = (unsigned char)hdl_hash_mix(seed * 4096 + i);
    if (c->group == 0) {
        float v = ((float)(hdl_hash_mix(seed) >> 40) * 0x1p-23f - 1.0f) * 1.7f * size;
        uint16_t h = kinds[w->kind].type == 1 ? half_of(v) : hdl_bf16_from_f32(v);
        memcpy(block, &h, 2);
    } else if (kinds[w->kind].type == MXFP4) {
        block[0] = (unsigned char)(127 + (int)floorf(log2f(size / 3)));
    } else {
        uint16_t d = half_of(size), m = half_of(size * kinds[w->kind].ratio);
        memcpy(block + kinds[w->kind].d, &d, 2);
        if (kinds[w->kind].m >= 0)
            memcpy(block + kinds[w->kind].m, &m, 2);
    }
}

static double rms_of(hdl_enc encoding, const unsigned char *blocks, uint32_t n_cols)
{
    double sum = 0;
    float *v = malloc(n_cols * sizeof(*v));
    const hdl_codec *c = hdl_codec_of(encoding);
    hdl_source s = {.encoding = encoding,
                    .n_rows = 1,
                    .n_cols = n_cols,
                    .whole_rows = 1,
                    .codes = {.data = blocks, .col_step = c->block_bytes},
                    .scale_mul = 1,
                    .scale_div = 1};
    hdl_source_values(&s, (hdl_span){0, 0, n_cols}, v);
    for (uint32_t i = 0; i < n_cols; i++)
        sum += (double)v[i] * (double)v[i];
    free(v);
    return sqrt(sum / n_cols);
}

/* The type's own scale that gives values of the size. */
static float scale_for(const writer *w, float size)
{
    const hdl_codec *c = hdl_codec_of(kinds[w->kind].encoding);
    enum { SAMPLE = 64 };
    if (c->group == 0 || kinds[w->kind].type == MXFP4)
        return size;
    unsigned char *blocks = calloc(SAMPLE, c->block_bytes);
    for (uint32_t i = 0; i < SAMPLE; i++)
        fill_block(w, blocks + i * c->block_bytes, i, 1);
    double rms = rms_of(kinds[w->kind].encoding, blocks, SAMPLE * c->block_cols);
    free(blocks);
    return (float)(size / rms);
}

static void info(writer *w, const char *name, const uint64_t dims[3], uint32_t type)
{
    uint32_t n_dims = dims[2] > 0 ? 3 : dims[1] > 0 ? 2 : 1;
    static const unsigned char zeros[ALIGN];
    put(&w->data, zeros, (ALIGN - w->data.len % ALIGN) % ALIGN);
    put_text(&w->infos, name);
    put_u32(&w->infos, n_dims);
    for (uint32_t i = 0; i < n_dims; i++)
        put_u64(&w->infos, dims[i]);
    put_u32(&w->infos, type);
    put_u64(&w->infos, w->data.len);
    w->n_tensors++;
}

static void floats(writer *w, const char *name, uint32_t cols, uint32_t rows)
{
    info(w, name, (const uint64_t[]){cols, rows, 0}, 0);
    for (uint64_t i = 0; i < (uint64_t)cols * (rows ? rows : 1); i++) {
        float v = rig_weight(name, i, cols, rows == 0);
        put(&w->data, &v, sizeof(v));
    }
}

static void matrix(writer *w, const char *name, uint32_t cols, uint32_t rows, uint32_t n)
{
    const hdl_codec *c = hdl_codec_of(kinds[w->kind].encoding);
    uint64_t n_blocks = (uint64_t)cols / c->block_cols * rows * (n ? n : 1);
    uint64_t seed = hdl_hash_bytes(name, strlen(name), 1);
    /* 0.02 for 256 columns, as transformers initialises; embeddings outweigh what a block adds to
     * them, as the residual stream of trained models does. */
    bool embed = strcmp(name, "token_embd.weight") == 0;
    float size = scale_for(w, embed ? 1 : 0.32f / sqrtf((float)cols));
    unsigned char *block = malloc(c->block_bytes);
    float *values = malloc(c->block_cols * sizeof(*values));
    info(w, name, (const uint64_t[]){cols, rows, n}, w->spec->values ? 0 : kinds[w->kind].type);
    hdl_source s = {.encoding = kinds[w->kind].encoding,
                    .n_rows = 1,
                    .n_cols = c->block_cols,
                    .whole_rows = 1,
                    .codes = {.data = block},
                    .scale_mul = 1,
                    .scale_div = 1};
    for (uint64_t i = 0; i < n_blocks; i++) {
        fill_block(w, block, seed + i, size);
        if (w->spec->values) {
            hdl_source_values(&s, (hdl_span){0, 0, c->block_cols}, values);
            put(&w->data, values, c->block_cols * sizeof(*values));
        } else {
            put(&w->data, block, c->block_bytes);
        }
    }
    free(values);
    free(block);
}

/* A matrix of the type that keeps more. */
static void larger(writer *w, const char *name, uint32_t cols, uint32_t rows, uint32_t n)
{
    size_t kind = w->kind;
    w->kind = w->larger;
    matrix(w, name, cols, rows, n);
    w->kind = kind;
}

static void layer(writer *w, uint32_t l)
{
    const rig_gguf_spec *s = w->spec;
    uint32_t kv = s->hidden / s->n_heads * s->n_kv_heads;
    char name[64];
#define NAME(what) (snprintf(name, sizeof(name), "blk.%u." what ".weight", l), name)
    floats(w, NAME("attn_norm"), s->hidden, 0);
    matrix(w, NAME("attn_q"), s->hidden, s->hidden, 0);
    matrix(w, NAME("attn_k"), s->hidden, kv, 0);
    larger(w, NAME("attn_v"), s->hidden, kv, 0);
    matrix(w, NAME("attn_output"), s->hidden, s->hidden, 0);
    floats(w, NAME("ffn_norm"), s->hidden, 0);
    if (s->n_experts > 0) {
        floats(w, NAME("ffn_gate_inp"), s->hidden, s->n_experts);
        matrix(w, NAME("ffn_gate_exps"), s->hidden, s->inter, s->n_experts);
        matrix(w, NAME("ffn_up_exps"), s->hidden, s->inter, s->n_experts);
        larger(w, NAME("ffn_down_exps"), s->inter, s->hidden, s->n_experts);
    } else {
        matrix(w, NAME("ffn_gate"), s->hidden, s->inter, 0);
        matrix(w, NAME("ffn_up"), s->hidden, s->inter, 0);
        larger(w, NAME("ffn_down"), s->inter, s->hidden, 0);
    }
#undef NAME
}

static void keys(writer *w)
{
    const rig_gguf_spec *s = w->spec;
    float eps = 1e-5f;
    put_text(&w->kvs, "general.architecture");
    put_u32(&w->kvs, HDL_GGUF_STRING);
    put_text(&w->kvs, "llama");
    put_text(&w->kvs, "llama.attention.layer_norm_rms_epsilon");
    put_u32(&w->kvs, HDL_GGUF_F32);
    put(&w->kvs, &eps, sizeof(eps));
    w->n_kvs = 2;
    kv_u32(w, "llama.block_count", s->n_layers);
    kv_u32(w, "llama.context_length", 256);
    kv_u32(w, "llama.embedding_length", s->hidden);
    kv_u32(w, "llama.feed_forward_length", s->inter);
    kv_u32(w, "llama.attention.head_count", s->n_heads);
    kv_u32(w, "llama.attention.head_count_kv", s->n_kv_heads);
    if (s->extra)
        kv_u32(w, s->extra, s->extra_value);
    if (s->n_experts > 0) {
        kv_u32(w, "llama.expert_count", s->n_experts);
        kv_u32(w, "llama.expert_used_count", 2);
    }
}

static void write_all(const writer *w, const char *path)
{
    hdl_errmsg why = {0};
    hdl_buf file;
    static const unsigned char zeros[ALIGN];
    hdl_buf_init(&file, 1 << 28);
    put(&file, "GGUF", 4);
    put_u32(&file, 3);
    put_u64(&file, w->n_tensors);
    put_u64(&file, w->n_kvs);
    put(&file, hdl_buf_data(&w->kvs), w->kvs.len);
    put(&file, hdl_buf_data(&w->infos), w->infos.len);
    put(&file, zeros, (ALIGN - file.len % ALIGN) % ALIGN);
    put(&file, hdl_buf_data(&w->data), w->data.len);
    hdl_fs_bytes bytes = {.data = hdl_buf_data(&file), .len = file.len};
    assert_int_equal(hdl_fs_write_atomic(path, bytes, &why), HDL_OK);
    hdl_buf_deinit(&file);
}

static size_t kind_of(uint32_t type)
{
    size_t i = 0;
    while (i < HDL_ARRAY_LEN(kinds) && kinds[i].type != type)
        i++;
    assert_true(i < HDL_ARRAY_LEN(kinds));
    return i;
}

void rig_write_gguf(const char *path, const rig_gguf_spec *spec)
{
    writer w = {.spec = spec, .kind = kind_of(spec->type)};
    w.larger = spec->larger ? kind_of(spec->larger) : w.kind;
    hdl_buf_init(&w.kvs, 1 << 20);
    hdl_buf_init(&w.infos, 1 << 20);
    hdl_buf_init(&w.data, 1 << 28);
    keys(&w);
    matrix(&w, "token_embd.weight", spec->hidden, spec->vocab, 0);
    floats(&w, "output_norm.weight", spec->hidden, 0);
    larger(&w, "output.weight", spec->hidden, spec->vocab, 0);
    for (uint32_t l = 0; l < spec->n_layers; l++)
        layer(&w, l);
    write_all(&w, path);
    hdl_buf_deinit(&w.kvs);
    hdl_buf_deinit(&w.infos);
    hdl_buf_deinit(&w.data);
}
