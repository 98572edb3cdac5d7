/* SPDX-License-Identifier: Apache-2.0 */
/* GGUF tables of the dense architectures. Of each: what its converter class in llama.cpp writes,
 * and what its model class there takes for granted. */
#include <math.h>
#include <string.h>

#include "worker/model/arch_gguf_list.h"
#include "worker/model/arch_list.h"

/* ---- Llama, Mistral, Qwen ----------------------------------------------------------------- */

/* llama.cpp rotates neighbouring values of a head, and stores q and k so that this is right. */
static const hdl_weight_name llama_names[] = {
    HDL_W_AS(Q, "blk.{l}.attn_q.weight", HDL_FORM_PAIRS),
    HDL_W_AS(K, "blk.{l}.attn_k.weight", HDL_FORM_PAIRS),
    HDL_W_AS(Q_BIAS, "blk.{l}.attn_q.bias", HDL_FORM_PAIRS),
    HDL_W_AS(K_BIAS, "blk.{l}.attn_k.bias", HDL_FORM_PAIRS),
};

/* Llama 1 to 3.3 and their distills, Mistral 7B to Small: one name for all. */
const hdl_gguf_arch hdl_gguf_arch_llama = {
    .name = "llama",
    .arch = &hdl_arch_llama,
    .names = llama_names,
    .n_names = HDL_ARRAY_LEN(llama_names),
    .finish = hdl_gguf_find_biases,
};

static bool has_experts(const hdl_gguf *gguf)
{
    uint32_t n = 0;
    return hdl_gguf_arch_u32(gguf, "expert_count", &n, NULL) == HDL_OK && n > 0;
}

static const hdl_gguf_key mixtral_keys[] = {
    HDL_G_U32("feed_forward_length", moe_inter, 1, 1u << 20),
    HDL_G_U32("expert_count", n_experts, 1, 4096),
    HDL_G_U32("expert_used_count", topk, 1, 64),
};

const hdl_gguf_arch hdl_gguf_arch_mixtral = {
    .name = "llama",
    .arch = &hdl_arch_mixtral,
    .is = has_experts,
    .keys = mixtral_keys,
    .n_keys = HDL_ARRAY_LEN(mixtral_keys),
    .names = llama_names,
    .n_names = HDL_ARRAY_LEN(llama_names),
};

static const hdl_gguf_key mistral3_keys[] = {
    HDL_G_SKIP("rope.scaling.yarn_log_multiplier"), /* both read by finish */
    HDL_G_SKIP("attention.temperature_scale"),
};

static hdl_err mistral3_finish(hdl_model_desc *desc, const hdl_gguf *gguf, hdl_errmsg *why)
{
    double log_mul = 0;
    HDL_TRY(hdl_gguf_q_temp(desc, gguf, why));
    HDL_TRY(hdl_gguf_yarn_log_mul(desc, gguf, &log_mul, why));
    return hdl_gguf_find_biases(desc, gguf, why);
}

/* Mistral Small 3.1 and Ministral 3. */
const hdl_gguf_arch hdl_gguf_arch_mistral3 = {
    .name = "mistral3",
    .arch = &hdl_arch_ministral3,
    .keys = mistral3_keys,
    .n_keys = HDL_ARRAY_LEN(mistral3_keys),
    .names = llama_names,
    .n_names = HDL_ARRAY_LEN(llama_names),
    .finish = mistral3_finish,
};

const hdl_gguf_arch hdl_gguf_arch_qwen2 = {
    .name = "qwen2",
    .arch = &hdl_arch_qwen2,
    .finish = hdl_gguf_find_biases,
};

const hdl_gguf_arch hdl_gguf_arch_qwen3 = {
    .name = "qwen3",
    .arch = &hdl_arch_qwen3,
    .finish = hdl_gguf_find_biases,
};

/* ---- Gemma -------------------------------------------------------------------------------- */

/* Every layer but each period-th sees a window. */
static hdl_err read_windows(hdl_model_desc *desc, const hdl_gguf *gguf, uint32_t period,
                            hdl_errmsg *why)
{
    uint32_t window = 0;
    hdl_err err = hdl_gguf_arch_u32(gguf, "attention.sliding_window", &window, why);
    if (err != HDL_OK && err != HDL_NOTFOUND)
        return err;
    for (uint32_t i = 0; i < desc->n_layers; i++)
        desc->layers[i].window = (i + 1) % period != 0 ? window : 0;
    return HDL_OK;
}

#define GEMMA_KEYS                                                                                 \
    HDL_G_SKIP("attention.sliding_window"), /* read by finish */                                   \
        HDL_G_F32("final_logit_softcapping", logit_softcap)

static const hdl_gguf_key gemma2_keys[] = {
    GEMMA_KEYS,
    HDL_G_F32("attn_logit_softcapping", attn_softcap),
};

/* The converter adds the one to norms. Queries are scaled by the head's width, in the largest model
 * of each generation by hidden / heads, which is another number; no key says so. */
static void gemma_common(hdl_model_desc *desc, uint32_t largest)
{
    double scalar =
        desc->n_layers == largest ? (double)(desc->hidden / desc->n_heads) : (double)desc->head_dim;
    desc->norm_plus_one = false;
    desc->embed_scale = sqrtf((float)desc->hidden);
    desc->attn_scale = scalar > 0 ? (float)(1 / sqrt(scalar)) : 0;
}

static hdl_err gemma2_finish(hdl_model_desc *desc, const hdl_gguf *gguf, hdl_errmsg *why)
{
    gemma_common(desc, 46);
    HDL_TRY(hdl_gguf_find_biases(desc, gguf, why));
    return read_windows(desc, gguf, 2, why);
}

const hdl_gguf_arch hdl_gguf_arch_gemma2 = {
    .name = "gemma2",
    .arch = &hdl_arch_gemma2,
    .keys = gemma2_keys,
    .n_keys = HDL_ARRAY_LEN(gemma2_keys),
    .finish = gemma2_finish,
};

/* The rotary table of the layers with a window; its default is the architecture's. */
static const hdl_gguf_key gemma3_keys[] = {
    GEMMA_KEYS, HDL_G_SKIP("rope.freq_base_swa"), /* read by finish */
};

static hdl_err gemma3_finish(hdl_model_desc *desc, const hdl_gguf *gguf, hdl_errmsg *why)
{
    enum { GLOBAL, LOCAL };
    hdl_err err = hdl_gguf_arch_f64(gguf, "rope.freq_base_swa", &desc->ropes[LOCAL].theta, why);
    if (err != HDL_OK && err != HDL_NOTFOUND)
        return err;
    if (!(desc->ropes[LOCAL].theta > 1))
        return hdl_fail(HDL_INVALID, why,
                        "gemma3.rope.freq_base_swa must be greater than 1; the file is damaged; "
                        "fetch it again");
    gemma_common(desc, 62);
    HDL_TRY(hdl_gguf_find_biases(desc, gguf, why));
    HDL_TRY(read_windows(desc, gguf, 6, why));
    for (uint32_t i = 0; i < desc->n_layers; i++)
        desc->layers[i].rope = desc->layers[i].window ? LOCAL : GLOBAL;
    return HDL_OK;
}

const hdl_gguf_arch hdl_gguf_arch_gemma3 = {
    .name = "gemma3",
    .arch = &hdl_arch_gemma3,
    .keys = gemma3_keys,
    .n_keys = HDL_ARRAY_LEN(gemma3_keys),
    .finish = gemma3_finish,
};

/* ---- Phi, OLMo ---------------------------------------------------------------------------- */

/* 0: none (Phi-4). */
static hdl_err key_window_all(hdl_model_desc *desc, const hdl_gguf_kv *kv, hdl_errmsg *why)
{
    uint32_t window = 0;
    HDL_TRY(hdl_gguf_kv_u32(kv, (hdl_gguf_range){0, 1u << 30}, &window, why));
    for (uint32_t i = 0; i < HDL_LAYERS_MAX; i++)
        desc->layers[i].window = window;
    return HDL_OK;
}

/* Gate and up are one tensor that has the name of up alone. */
static const hdl_weight_name phi3_names[] = {
    HDL_W_FUSED(GATE, "blk.{l}.ffn_up.weight", 0, 2, HDL_WSLOT_GATE, HDL_WSLOT_UP),
    HDL_W_FUSED(UP, "blk.{l}.ffn_up.weight", 0, 2, HDL_WSLOT_GATE, HDL_WSLOT_UP),
};

static const hdl_gguf_key phi3_keys[] = {
    HDL_G_CALL("attention.sliding_window", key_window_all),
};

static hdl_err phi3_finish(hdl_model_desc *desc, const hdl_gguf *gguf, hdl_errmsg *why)
{
    hdl_rope *rope = &desc->ropes[0];
    const hdl_gguf_tensor *longs = hdl_gguf_tensor_find(gguf, "rope_factors_long.weight");
    const hdl_gguf_tensor *shorts = hdl_gguf_tensor_find(gguf, "rope_factors_short.weight");
    if (!longs || !shorts)
        return HDL_OK;
    HDL_TRY(hdl_gguf_rope_factors(desc, longs, rope->long_factors, why));
    HDL_TRY(hdl_gguf_rope_factors(desc, shorts, rope->short_factors, why));
    HDL_TRY(hdl_gguf_arch_u32(gguf, "rope.scaling.original_context_length", &rope->original_max_len,
                              why));
    hdl_err err = hdl_gguf_arch_f64(gguf, "rope.scaling.attn_factor", &rope->attn_factor, why);
    return err == HDL_NOTFOUND ? HDL_OK : err;
}

const hdl_gguf_arch hdl_gguf_arch_phi3 = {
    .name = "phi3",
    .arch = &hdl_arch_phi3,
    .keys = phi3_keys,
    .n_keys = HDL_ARRAY_LEN(phi3_keys),
    .names = phi3_names,
    .n_names = HDL_ARRAY_LEN(phi3_names),
    .finish = phi3_finish,
};

#define OLMO3 "windows are OLMo 3's, which is not supported yet"

static const hdl_gguf_key olmo2_keys[] = {
    HDL_G_REFUSE("attention.sliding_window", OLMO3),
    HDL_G_REFUSE("attention.sliding_window_pattern", OLMO3),
};

const hdl_gguf_arch hdl_gguf_arch_olmo2 = {
    .name = "olmo2",
    .arch = &hdl_arch_olmo2,
    .keys = olmo2_keys,
    .n_keys = HDL_ARRAY_LEN(olmo2_keys),
    .finish = hdl_gguf_find_biases,
};

/* ---- BitNet ------------------------------------------------------------------------------- */

/* What llama.cpp calls bitnet is the first models of that kind (1bitLLM): SiLU in the gate, the
 * embedding as the head. Their weights are ternary already, as values; activations are what the
 * types of the file make of them. */
static hdl_err bitnet_finish(hdl_model_desc *desc, const hdl_gguf *gguf, hdl_errmsg *why)
{
    desc->glu = HDL_GLU_SILU;
    return hdl_gguf_find_biases(desc, gguf, why);
}

const hdl_gguf_arch hdl_gguf_arch_bitnet = {
    .name = "bitnet",
    .arch = &hdl_arch_bitnet,
    .finish = bitnet_finish,
};
