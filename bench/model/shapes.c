/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/model/shapes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/rng.h"
#include "worker/model/build.h"

/* ---- configurations ------------------------------------------------------------------------ */

#define LLAMA                                                                                      \
    "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"hidden_act\":\"silu\","  \
    "\"attention_bias\":false,\"rms_norm_eps\":1e-5,\"rope_theta\":500000.0,"                      \
    "\"tie_word_embeddings\":false,\"torch_dtype\":\"bfloat16\","
#define QWEN3MOE                                                                                   \
    "{\"architectures\":[\"Qwen3MoeForCausalLM\"],\"model_type\":\"qwen3_moe\","                   \
    "\"hidden_act\":\"silu\",\"attention_bias\":false,\"decoder_sparse_step\":1,"                  \
    "\"mlp_only_layers\":[],\"norm_topk_prob\":true,\"rms_norm_eps\":1e-6,"                        \
    "\"rope_theta\":1000000.0,\"tie_word_embeddings\":false,\"torch_dtype\":\"bfloat16\","

static const struct {
    const char *name;
    hdl_wformat experts; /* as published */
    const char *config;
} shapes[] = {
    {"8b", HDL_WFORMAT_BF16, /* Llama-3.1-8B */
     LLAMA "\"hidden_size\":4096,\"intermediate_size\":14336,\"num_hidden_layers\":32,"
           "\"num_attention_heads\":32,\"num_key_value_heads\":8,\"vocab_size\":128256,"
           "\"max_position_embeddings\":131072,\"rope_scaling\":{\"rope_type\":\"llama3\","
           "\"factor\":8.0,\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,"
           "\"original_max_position_embeddings\":8192}}"},
    {"qwen3-30b-a3b", HDL_WFORMAT_BF16,
     QWEN3MOE "\"hidden_size\":2048,\"intermediate_size\":6144,\"moe_intermediate_size\":768,"
              "\"num_hidden_layers\":48,\"num_attention_heads\":32,\"num_key_value_heads\":4,"
              "\"head_dim\":128,\"num_experts\":128,\"num_experts_per_tok\":8,"
              "\"vocab_size\":151936,\"max_position_embeddings\":40960}"},
    {"gpt-oss-20b", HDL_WFORMAT_Q4, /* MXFP4: as many bits and scales */
     "{\"architectures\":[\"GptOssForCausalLM\"],\"model_type\":\"gpt_oss\",\"hidden_act\":"
     "\"silu\","
     "\"attention_bias\":true,\"hidden_size\":2880,\"intermediate_size\":2880,\"head_dim\":64,"
     "\"num_hidden_layers\":24,\"num_attention_heads\":64,\"num_key_value_heads\":8,"
     "\"num_local_experts\":32,\"num_experts_per_tok\":4,\"sliding_window\":128,"
     "\"swiglu_limit\":7.0,\"initial_context_length\":4096,\"vocab_size\":201088,"
     "\"max_position_embeddings\":131072,\"rms_norm_eps\":1e-5,\"rope_theta\":150000,"
     "\"tie_word_embeddings\":false,\"torch_dtype\":\"bfloat16\",\"layer_types\":["
#define TWO   "\"sliding_attention\",\"full_attention\""
#define EIGHT TWO "," TWO "," TWO "," TWO
     EIGHT "," EIGHT "," EIGHT
     "],\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":32.0,\"beta_fast\":32.0,"
     "\"beta_slow\":1.0,\"original_max_position_embeddings\":4096,\"truncate\":false}}"},
    /* What fibers can do. */
    {"tiny", HDL_WFORMAT_BF16,
     LLAMA "\"hidden_size\":64,\"intermediate_size\":64,\"num_hidden_layers\":1,"
           "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"head_dim\":32,"
           "\"vocab_size\":96,\"max_position_embeddings\":4096}"},
    {"tiny-moe", HDL_WFORMAT_BF16,
     QWEN3MOE "\"hidden_size\":64,\"intermediate_size\":64,\"moe_intermediate_size\":64,"
              "\"num_hidden_layers\":1,\"num_attention_heads\":2,\"num_key_value_heads\":1,"
              "\"head_dim\":32,\"num_experts\":4,\"num_experts_per_tok\":2,\"vocab_size\":96,"
              "\"max_position_embeddings\":4096}"},
};

/* ---- formats ------------------------------------------------------------------------------- */

/* FP8 in the largest groups that leaves allow. */
static hdl_wformat fitting(hdl_wformat format, uint32_t leaf_k)
{
    if (hdl_wformat_info_of(format)->group == 0 || leaf_k % HDL_SOURCE_UNIT != 0)
        return hdl_wformat_info_of(format)->group == 0 ? format : HDL_WFORMAT_BF16;
    while (leaf_k % hdl_wformat_info_of(format)->group != 0)
        format++; /* FP8, FP8_64, FP8_32 */
    return format;
}

static hdl_err kind_of(const hdl_wkinds *kinds, hdl_weight_at at, uint32_t leaf_k, hdl_wkind *out,
                       hdl_errmsg *why)
{
    (void)why;
    const hdl_bench_made *m = HDL_CONTAINER_OF(kinds, const hdl_bench_made, kinds);
    bool expert = hdl_slot_info_of(at.slot)->scope == HDL_SCOPE_EXPERT;
    out->format = fitting(expert ? m->experts : m->dense, leaf_k);
    out->codebook = out->format == HDL_WFORMAT_Q4 ? hdl_codebook_s4 : NULL;
    return HDL_OK;
}

static hdl_err read_format(hdl_bench_made *m, const char *name, hdl_errmsg *why)
{
    const hdl_wformat known[] = {HDL_WFORMAT_F32, HDL_WFORMAT_BF16, HDL_WFORMAT_FP8, HDL_WFORMAT_Q8,
                                 HDL_WFORMAT_Q4};
    for (size_t i = 0; i < HDL_ARRAY_LEN(known); i++)
        if (strcmp(name, hdl_wformat_info_of(known[i])->name) == 0) {
            m->dense = m->experts = known[i];
            return HDL_OK;
        }
    return hdl_fail(HDL_INVALID, why,
                    "a shape's format is f32, bf16, fp8, q8 or q4; it reads \"%.40s\"", name);
}

static hdl_err published_format(hdl_bench_made *m, hdl_errmsg *why)
{
    static hdl_model_desc desc; /* some kilobytes */
    HDL_TRY(hdl_model_desc_load(&desc, m->path, why));
    if (desc.quant.method == HDL_QUANT_FP8)
        m->dense = m->experts = HDL_WFORMAT_FP8;
    else if (desc.quant.method == HDL_QUANT_MXFP4)
        m->experts = HDL_WFORMAT_Q4;
    else if (desc.quant.method != HDL_QUANT_NONE)
        m->dense = m->experts = HDL_WFORMAT_Q4;
    return HDL_OK;
}

/* ---- filling ------------------------------------------------------------------------------- */

static hdl_err fill_weight(hdl_bench_made *m, hdl_weight *w)
{
    for (; w && w->n != 0; w = (hdl_weight *)(uintptr_t)w->more) /* the model's, and so ours */
        HDL_TRY(hdl_made_weight(&m->made, w));
    return HDL_OK;
}

static hdl_err fill_list(hdl_bench_made *m, hdl_weight *list, uint32_t n)
{
    for (uint32_t i = 0; list && i < n; i++)
        HDL_TRY(fill_weight(m, &list[i]));
    return HDL_OK;
}

static hdl_err fill_layer(hdl_bench_made *m, const hdl_model *model, hdl_layer *l)
{
    hdl_weight *const all[] = {
        &l->qkv,  &l->o,      &l->mla.a,          &l->mla.q_b, &l->gdn.in,      &l->gdn.ba,
        &l->down, &l->router, &l->shared_gate_up, &l->gate_up, &l->shared_down, &l->shared_on};
    for (size_t i = 0; i < HDL_ARRAY_LEN(all); i++)
        HDL_TRY(fill_weight(m, all[i]));
    HDL_TRY(fill_list(m, l->mla.k_b, model->shard.n_heads));
    HDL_TRY(fill_list(m, l->mla.v_b, model->shard.n_heads));
    HDL_TRY(fill_list(m, l->expert_gate_up, model->shard.n_experts));
    return fill_list(m, l->expert_down, model->shard.n_experts);
}

/* The embedding as a file would have it, bf16. */
static hdl_err fill_embedding(hdl_model *model, hdl_errmsg *why)
{
    enum { WORDS = 65521 }; /* a prime: rows differ */
    static uint16_t pattern[WORDS];
    uint32_t vocab = model->desc->vocab, hidden = model->desc->hidden;
    hdl_rng rng;
    hdl_rng_init(&rng, 2);
    for (size_t i = 0; i < WORDS; i++)
        pattern[i] = (uint16_t)(0x3f00 | (hdl_rng_u64(&rng) & 0x807f));
    model->embed_bytes = (size_t)vocab * hidden * sizeof *pattern;
    model->embed_memory = hdl_device_alloc(model->device, model->embed_bytes);
    if (!model->embed_memory)
        return hdl_fail(HDL_NOMEM, why,
                        "no memory for %zu bytes of embedding; the device is full; "
                        "take a smaller shape",
                        model->embed_bytes);
    model->embed = (hdl_source){.encoding = HDL_ENC_BF16,
                                .n_rows = vocab,
                                .whole_rows = vocab,
                                .n_cols = hidden,
                                .scale_mul = 1,
                                .scale_div = 1,
                                .codes = {.data = model->embed_memory,
                                          .row_step = (int64_t)(hidden * sizeof *pattern),
                                          .col_step = sizeof *pattern}};
    return hdl_made_repeat(model->device, model->embed_memory, model->embed_bytes, pattern,
                           sizeof pattern);
}

static hdl_err fill_model(void *arg, hdl_model *model, hdl_errmsg *why)
{
    const uint32_t half = 0x3f000000; /* 0.5f: all vectors */
    hdl_bench_made *m = arg;
    m->made = (hdl_made){.device = model->device};
    hdl_err err = hdl_device_fill(model->device, model->memory, half, model->weight_bytes / 4);
    if (err == HDL_OK) /* matrices are stored beside the stream */
        err = hdl_device_sync(model->device);
    for (uint32_t i = 0; err == HDL_OK && i < model->desc->n_layers; i++)
        err = fill_layer(m, model, &model->layers[i]);
    if (err == HDL_OK)
        err = fill_weight(m, &model->lm_head);
    if (err == HDL_OK && model->head_q8.n != 0) { /* on a CPU */
        err = fill_weight(m, &model->head_q8);
        hdl_made_norms(&model->lm_head, model->head_norms);
    }
    if (err == HDL_OK)
        err = hdl_device_sync(model->device);
    if (err != HDL_OK)
        return hdl_fail(err, why, "weights cannot be made up; %s; look at the driver's log",
                        hdl_err_text(err));
    return fill_embedding(model, why);
}

/* ---- life ---------------------------------------------------------------------------------- */

static hdl_err write_config(hdl_bench_made *m, const char *text, hdl_errmsg *why)
{
    char path[256];
    hdl_err err = hdl_fs_mkdtemp(m->folder, sizeof m->folder, "heddle-shape-", why);
    if (err != HDL_OK) {
        m->folder[0] = '\0';
        return err;
    }
    snprintf(path, sizeof path, "%s/config.json", m->folder);
    m->path = m->folder;
    return hdl_fs_write_atomic(path, (hdl_fs_bytes){text, strlen(text)}, why);
}

hdl_err hdl_bench_made_open(hdl_bench_made *m, const char *name, hdl_errmsg *why)
{
    const char *colon = strrchr(name, ':');
    size_t len = colon ? (size_t)(colon - name) : strlen(name);
    *m = (hdl_bench_made){.path = name, .dense = HDL_WFORMAT_BF16, .experts = HDL_WFORMAT_BF16};
    m->kinds.of = kind_of;
    m->hook = (hdl_worker_made){.kinds = &m->kinds, .fill = fill_model, .arg = m};
    if (hdl_fs_is_dir(name))
        return published_format(m, why);
    for (size_t i = 0; i < HDL_ARRAY_LEN(shapes); i++)
        if (strlen(shapes[i].name) == len && strncmp(shapes[i].name, name, len) == 0) {
            m->experts = shapes[i].experts;
            HDL_TRY(write_config(m, shapes[i].config, why));
            return colon ? read_format(m, colon + 1, why) : HDL_OK;
        }
    return hdl_fail(
        HDL_NOTFOUND, why,
        "there is no shape \"%.100s\"; 8b, qwen3-30b-a3b, gpt-oss-20b, tiny, tiny-moe, or "
        "a folder with a config.json",
        name);
}

void hdl_bench_made_close(hdl_bench_made *m)
{
    if (m->folder[0] != '\0')
        (void)!hdl_fs_remove_tree(m->folder); /* a few bytes in /tmp, at worst */
}
