/* SPDX-License-Identifier: Apache-2.0 */
/* GGUF tables of the mixtures. Of each: what its converter class in llama.cpp writes. */
#include "worker/model/arch_gguf_list.h"
#include "worker/model/arch_list.h"

#define MOE_KEYS                                                                                   \
    HDL_G_U32("expert_count", n_experts, 1, 4096), HDL_G_U32("expert_used_count", topk, 1, 64),    \
        HDL_G_U32("expert_feed_forward_length", moe_inter, 1, 1u << 20)

/* The converter writes no key for norm_topk_prob; every Qwen3 mixture that was published has it. */
static const hdl_gguf_key qwen3moe_keys[] = {MOE_KEYS};

static hdl_err qwen3moe_finish(hdl_model_desc *desc, const hdl_gguf *gguf, hdl_errmsg *why)
{
    (void)gguf;
    (void)why;
    desc->router.renorm = true;
    return HDL_OK;
}

const hdl_gguf_arch hdl_gguf_arch_qwen3moe = {
    .name = "qwen3moe",
    .arch = &hdl_arch_qwen3moe,
    .keys = qwen3moe_keys,
    .n_keys = HDL_ARRAY_LEN(qwen3moe_keys),
    .finish = qwen3moe_finish,
};
