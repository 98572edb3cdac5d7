/* SPDX-License-Identifier: Apache-2.0 */
/* GGUF tables of the dense architectures. Of each: what its converter class in llama.cpp writes. */
#include "worker/model/arch_gguf_list.h"
#include "worker/model/arch_list.h"

/* Biases are written where the model has them; no key says so. */
static hdl_err llama_finish(hdl_model_desc *desc, const hdl_gguf *gguf, hdl_errmsg *why)
{
    (void)why;
    desc->qkv_bias = hdl_gguf_has(gguf, "blk.0.attn_q.bias");
    desc->o_bias = hdl_gguf_has(gguf, "blk.0.attn_output.bias");
    return HDL_OK;
}

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
    .finish = llama_finish,
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

const hdl_gguf_arch hdl_gguf_arch_qwen3 = {
    .name = "qwen3",
    .arch = &hdl_arch_qwen3,
};
