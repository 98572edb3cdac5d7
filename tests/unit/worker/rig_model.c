/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/fs.h"
#include "kernels/numeric.h"
#include "rig.h"
#include "rig_quant.h"
#include "rig_tensors.h"
#include "worker/model/arch.h"

const char rig_config_moe[] =
    "{\"architectures\":[\"Qwen3MoeForCausalLM\"],\"model_type\":\"qwen3_moe\",\"vocab_size\":97,"
    "\"hidden_size\":64,\"intermediate_size\":128,\"moe_intermediate_size\":128,"
    "\"num_hidden_layers\":2,\"num_attention_heads\":8,\"num_key_value_heads\":2,\"head_dim\":16,"
    "\"num_experts\":8,\"num_experts_per_tok\":2,\"norm_topk_prob\":true,"
    "\"decoder_sparse_step\":1,\"mlp_only_layers\":[],\"hidden_act\":\"silu\","
    "\"rms_norm_eps\":1e-6,\"rope_theta\":10000.0,\"max_position_embeddings\":256,"
    "\"tie_word_embeddings\":true,\"attention_bias\":false,\"use_sliding_window\":false}";

const char rig_config_llama[] =
    "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"vocab_size\":97,"
    "\"hidden_size\":64,\"intermediate_size\":128,\"num_hidden_layers\":2,"
    "\"num_attention_heads\":8,\"num_key_value_heads\":4,\"head_dim\":16,\"hidden_act\":\"silu\","
    "\"rms_norm_eps\":1e-5,\"rope_theta\":10000.0,\"max_position_embeddings\":256,"
    "\"tie_word_embeddings\":false,\"attention_bias\":false,\"mlp_bias\":false}";

static uint64_t name_hash(const char *name)
{
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */
    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * 0x100000001b3u;
    return h;
}

static bool ends_with(const char *name, const char *end)
{
    size_t len = strlen(name), n = strlen(end);
    return len >= n && strcmp(name + len - n, end) == 0;
}

/* Norms multiply by about 1, biases lie around 0, recurrent states fade slowly. */
static float mean_of(const char *name, bool norm_plus_one)
{
    if (ends_with(name, "A_log"))
        return -2;
    bool gated = strstr(name, "linear_attn.") != NULL; /* its norm is never stored as w - 1 */
    if (ends_with(name, "bias") || (norm_plus_one && !gated && ends_with(name, "norm.weight")))
        return 0;
    return 1;
}

/* In [-1, 1). */
static float noise(const char *name, uint64_t i)
{
    uint64_t x = name_hash(name) + (i + 1) * 0x9e3779b97f4a7c15u; /* splitmix64 */
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    x ^= x >> 31;
    return (float)(x >> 40) * 0x1p-23f - 1.0f;
}

static float of_vector(const char *name, uint64_t i, float mean)
{
    return hdl_bf16_to_f32(hdl_bf16_from_f32(mean + 0.25f * noise(name, i)));
}

static float of_matrix(const char *name, uint64_t i, uint64_t cols)
{
    return hdl_bf16_to_f32(hdl_bf16_from_f32(noise(name, i) * (1.6f / sqrtf((float)cols))));
}

float rig_weight(const char *name, uint64_t i, uint32_t cols, bool vector)
{
    return vector ? of_vector(name, i, mean_of(name, false)) : of_matrix(name, i, cols);
}

float rig_tensor_weight(const rig_tensor *t, uint64_t i)
{
    return t->n_dims == 1 ? of_vector(t->name, i, t->mean)
                          : of_matrix(t->name, i, t->shape[t->n_dims - 1]);
}

uint64_t rig_tensor_count(const rig_tensor *t)
{
    uint64_t n = 1;
    for (uint32_t i = 0; i < t->n_dims; i++)
        n *= t->shape[i];
    return n;
}

/* The tensor that holds a slot, with everything else that is in it. */
static void shape_of(const hdl_model_desc *desc, const hdl_weight_name *name, rig_tensor *out)
{
    const hdl_slot_info *info = hdl_slot_info_of(name->slot);
    uint64_t rows = hdl_dim_size(desc, info->rows), cols = hdl_dim_size(desc, info->cols);
    if (name->form & (HDL_FORM_EVEN | HDL_FORM_ODD))
        rows *= 2;
    for (uint32_t i = 0; i < name->n_fused; i++)
        if (name->fused[i] != name->slot)
            rows += hdl_dim_size(desc, hdl_slot_info_of(name->fused[i])->rows);
    out->n_dims = 0;
    if (name->form & HDL_FORM_STACKED)
        out->shape[out->n_dims++] = desc->n_experts;
    bool swap = (name->form & HDL_FORM_TRANSPOSED) != 0;
    out->shape[out->n_dims++] = swap ? cols : rows;
    if (info->cols != HDL_DIM_NONE)
        out->shape[out->n_dims++] = swap ? rows : cols;
}

/* One entry for each tensor, however many slots it holds. */
static size_t add_tensor(const hdl_model_desc *desc, hdl_weight_at at, rig_tensor *out, size_t n)
{
    const hdl_weight_name *name = hdl_arch_weight(hdl_arch_of(desc), at.slot);
    rig_tensor *t = &out[n];
    assert_non_null(name);
    assert_true(hdl_weight_name_write(name, at, t->name, sizeof(t->name)));
    bool shared = name->n_fused > 0 || name->form != 0;
    for (size_t i = 0; shared && i < n; i++)
        if (strcmp(out[i].name, t->name) == 0)
            return n;
    shape_of(desc, name, t);
    t->mean = mean_of(t->name, desc->norm_plus_one);
    return n + 1;
}

size_t rig_tensors(const hdl_model_desc *desc, rig_tensor *out, size_t max)
{
    size_t n = 0;
    for (hdl_wslot slot = 0; slot < HDL_WSLOT_COUNT; slot++) {
        const hdl_slot_info *info = hdl_slot_info_of(slot);
        uint32_t n_layers = info->scope == HDL_SCOPE_MODEL ? 1 : desc->n_layers;
        uint32_t n_experts = info->scope == HDL_SCOPE_EXPERT ? desc->n_experts : 1;
        for (uint32_t l = 0; l < n_layers; l++) {
            if (!hdl_slot_used(desc, slot, l))
                continue;
            for (uint32_t e = 0; e < n_experts; e++) {
                assert_true(n < max);
                n = add_tensor(desc, (hdl_weight_at){slot, l, e}, out, n);
            }
        }
    }
    return n;
}

static void put_value(FILE *f, float v, hdl_dtype dtype)
{
    uint16_t half = hdl_bf16_from_f32(v);
    if (dtype == HDL_DTYPE_F16) {
        half = 0;
        float back = 0;
        /* Values here are bf16 of modest size: the nearest f16 is found by its own conversion. */
        for (uint32_t sign = v < 0 ? 0x8000 : 0, m = 0; m < 0x7c00; m++) {
            back = hdl_f16_to_f32((uint16_t)(sign | m));
            half = (uint16_t)(sign | m);
            if (fabsf(back) >= fabsf(v))
                break;
        }
    }
    if (dtype == HDL_DTYPE_F32)
        fwrite(&v, sizeof(v), 1, f);
    else
        fwrite(&half, sizeof(half), 1, f);
}

static void write_weights(const char *path, const rig_tensor *t, size_t n, hdl_dtype dtype)
{
    static const char *const names[] = {"F32", "F16", "BF16"};
    FILE *f = fopen(path, "wb");
    char *header = malloc(n * 256 + 64);
    size_t at = 0;
    uint64_t offset = 0;
    assert_non_null(f);
    assert_non_null(header);
    at += (size_t)sprintf(header, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (size_t i = 0; i < n; i++) {
        uint64_t bytes = rig_tensor_count(&t[i]) * hdl_dtype_bytes(dtype);
        char shape[80] = "";
        for (uint32_t d = 0, len = 0; d < t[i].n_dims; d++)
            len += (uint32_t)snprintf(shape + len, sizeof(shape) - len, "%s%" PRIu64, d ? "," : "",
                                      t[i].shape[d]);
        at += (size_t)sprintf(header + at,
                              ",\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%" PRIu64
                              ",%" PRIu64 "]}",
                              t[i].name, names[dtype], shape, offset, offset + bytes);
        offset += bytes;
    }
    at += (size_t)sprintf(header + at, "}");
    while (at % 8 != 0)
        header[at++] = ' ';
    uint64_t len = at;
    fwrite(&len, sizeof(len), 1, f);
    fwrite(header, 1, at, f);
    for (size_t i = 0; i < n; i++)
        for (uint64_t j = 0; j < rig_tensor_count(&t[i]); j++)
            put_value(f, rig_tensor_weight(&t[i], j), dtype);
    assert_int_equal(fclose(f), 0);
    free(header);
}

void rig_make_model(char dir[256], const char *config_json, hdl_dtype dtype)
{
    char path[512];
    hdl_errmsg why = {0};
    hdl_model_desc *desc = malloc(sizeof(*desc));
    rig_tensor *tensors = calloc(2048, sizeof(*tensors));
    if (hdl_model_desc_parse(desc, config_json, strlen(config_json), &why) != HDL_OK)
        fail_msg("%s", why.text);
    if (desc->quant.method == HDL_QUANT_BITNET) { /* of goldens */
        free(tensors);
        free(desc);
        rig_make_quantised(dir, config_json, RIG_BITNET, false);
        return;
    }
    assert_int_equal(hdl_fs_mkdtemp(dir, 256, "heddle-model-", &why), HDL_OK);
    snprintf(path, sizeof(path), "%s/config.json", dir);
    hdl_fs_bytes text = {.data = config_json, .len = strlen(config_json)};
    assert_int_equal(hdl_fs_write_atomic(path, text, &why), HDL_OK);
    snprintf(path, sizeof(path), "%s/model.safetensors", dir);
    write_weights(path, tensors, rig_tensors(desc, tensors, 2048), dtype);
    free(tensors);
    free(desc);
}

void rig_remove(const char *dir) { assert_int_equal(hdl_fs_remove_tree(dir), HDL_OK); }

char *rig_read(const char *path, size_t *len)
{
    char *text = NULL;
    hdl_errmsg why = {0};
    if (hdl_fs_read(path, 64 << 20, &text, len, &why) != HDL_OK)
        fail_msg("%s", why.text);
    return text;
}
