/* SPDX-License-Identifier: Apache-2.0 */
/* Mixtral 8x7B, 8x22B: Mistral's attention, a mixture of experts in every layer, softmax over the
 * chosen experts only. HF: modeling_mixtral.py. */
#include "worker/model/arch_hf.h"

static const hdl_config_key keys[] = {
    HDL_K_U32("intermediate_size", moe_inter, 1, 1u << 20),
    HDL_K_U32("num_local_experts", n_experts, 1, 4096),
    HDL_K_U32("num_experts_per_tok", topk, 1, 64),
    HDL_K_CALL("sliding_window", hdl_arch_window_all),
    HDL_K_SKIP("router_jitter_noise"), /* training only */
};

static const hdl_weight_name names[] = {
    HDL_HF_MODEL(""),
    HDL_HF_ATTENTION(""),
    HDL_HF_SPARSE_BLOCK(""),
};

const hdl_arch hdl_arch_mixtral = {
    .name = "MixtralForCausalLM",
    .model_type = "mixtral",
    .keys = keys,
    .n_keys = HDL_ARRAY_LEN(keys),
    .names = names,
    .n_names = HDL_ARRAY_LEN(names),
    .mixer = HDL_MIXER_ATTENTION,
    .ffn = HDL_FFN_MOE,
    .router = HDL_ROUTER_TOPK_SOFTMAX,
    .router_renorm = true,
};
