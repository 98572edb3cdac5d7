/* SPDX-License-Identifier: Apache-2.0 */
/* GGUF tables of the mixtures. Of each: what its converter class in llama.cpp writes, and what its
 * model class there takes for granted. */
#include "worker/model/arch_gguf_list.h"
#include "worker/model/arch_list.h"

#define MOE_KEYS                                                                                   \
    HDL_G_U32("expert_count", n_experts, 1, 4096), HDL_G_U32("expert_used_count", topk, 1, 64),    \
        HDL_G_U32("expert_feed_forward_length", moe_inter, 1, 1u << 20)
/* llama.cpp's numbers of score functions: 1 softmax, 2 sigmoid. */
#define SCORES(number)                                                                             \
    HDL_G_EXPECT("expert_gating_func", number, "other scores are not this family's")
#define GROUP_KEYS                                                                                 \
    HDL_G_U32("expert_group_count", router.n_group, 1, 4096),                                      \
        HDL_G_U32("expert_group_used_count", router.topk_group, 1, 4096),                          \
        HDL_G_F32("expert_weights_scale", router.scale),                                           \
        HDL_G_BOOL("expert_weights_norm", router.renorm)

/* Rows of a tensor of the first layer that has it; 0: none has. */
static uint32_t rows_of(const hdl_gguf *gguf, const hdl_model_desc *desc, const char *what)
{
    for (uint32_t i = 0; i < desc->n_layers; i++) {
        const hdl_gguf_tensor *t = hdl_gguf_layer_tensor(gguf, i, what);
        if (t && t->dims[1] <= UINT32_C(1) << 20)
            return (uint32_t)t->dims[1];
    }
    return 0;
}

/* ---- Qwen --------------------------------------------------------------------------------- */

static const hdl_gguf_key qwen2moe_keys[] = {
    MOE_KEYS,
    HDL_G_U32("expert_shared_feed_forward_length", shared_inter, 1, 1u << 20),
};

/* Older files have no key for the shared expert. norm_topk_prob is in no file; it is false in all
 * models that were published. */
static hdl_err qwen2moe_finish(hdl_model_desc *desc, const hdl_gguf *gguf, hdl_errmsg *why)
{
    (void)why;
    desc->qkv_bias = hdl_gguf_has(gguf, "blk.0.attn_q.bias");
    if (desc->shared_inter == 0)
        desc->shared_inter = rows_of(gguf, desc, "ffn_up_shexp.weight");
    return HDL_OK;
}

const hdl_gguf_arch hdl_gguf_arch_qwen2moe = {
    .name = "qwen2moe",
    .arch = &hdl_arch_qwen2moe,
    .keys = qwen2moe_keys,
    .n_keys = HDL_ARRAY_LEN(qwen2moe_keys),
    .finish = qwen2moe_finish,
};

/* Here it is true in all. */
static hdl_err qwen3moe_finish(hdl_model_desc *desc, const hdl_gguf *gguf, hdl_errmsg *why)
{
    (void)gguf;
    (void)why;
    desc->router.renorm = true;
    return HDL_OK;
}

static const hdl_gguf_key qwen3moe_keys[] = {MOE_KEYS};

const hdl_gguf_arch hdl_gguf_arch_qwen3moe = {
    .name = "qwen3moe",
    .arch = &hdl_arch_qwen3moe,
    .keys = qwen3moe_keys,
    .n_keys = HDL_ARRAY_LEN(qwen3moe_keys),
    .finish = qwen3moe_finish,
};

/* ---- GLM, MiniMax ------------------------------------------------------------------------- */

static const hdl_gguf_key glm4moe_keys[] = {
    MOE_KEYS,
    GROUP_KEYS,
    SCORES(2),
    HDL_G_SKIP("expert_shared_count"),       /* read by finish */
    HDL_G_SKIP("leading_dense_block_count"), /* the tensors say it */
};

static hdl_err glm4moe_finish(hdl_model_desc *desc, const hdl_gguf *gguf, hdl_errmsg *why)
{
    uint32_t n_shared = 1;
    hdl_err err = hdl_gguf_arch_u32(gguf, "expert_shared_count", &n_shared, why);
    if (err != HDL_OK && err != HDL_NOTFOUND)
        return err;
    desc->shared_inter = n_shared <= 64 ? n_shared * desc->moe_inter : 0;
    desc->qkv_bias = hdl_gguf_has(gguf, "blk.0.attn_q.bias");
    desc->qk_norm =
        hdl_gguf_has(gguf, "blk.0.attn_q_norm.weight") ? HDL_QK_NORM_HEAD : HDL_QK_NORM_NONE;
    return HDL_OK;
}

const hdl_gguf_arch hdl_gguf_arch_glm4moe = {
    .name = "glm4moe",
    .arch = &hdl_arch_glm4moe,
    .keys = glm4moe_keys,
    .n_keys = HDL_ARRAY_LEN(glm4moe_keys),
    .finish = glm4moe_finish,
};

static const hdl_gguf_key minimaxm2_keys[] = {
    MOE_KEYS, SCORES(2), HDL_G_SKIP("feed_forward_length"), /* of experts, once more */
};

const hdl_gguf_arch hdl_gguf_arch_minimaxm2 = {
    .name = "minimax-m2",
    .arch = &hdl_arch_minimaxm2,
    .keys = minimaxm2_keys,
    .n_keys = HDL_ARRAY_LEN(minimaxm2_keys),
};

/* ---- gpt-oss ------------------------------------------------------------------------------ */

static hdl_err key_even_windows(hdl_model_desc *desc, const hdl_gguf_kv *kv, hdl_errmsg *why)
{
    uint32_t window = 0;
    HDL_TRY(hdl_gguf_kv_u32(kv, (hdl_gguf_range){1, 1u << 24}, &window, why));
    for (uint32_t i = 0; i < HDL_LAYERS_MAX; i += 2)
        desc->layers[i].window = window;
    return HDL_OK;
}

static const hdl_gguf_key gptoss_keys[] = {
    MOE_KEYS, HDL_G_CALL("attention.sliding_window", key_even_windows),
    HDL_G_SKIP("feed_forward_length"), /* of experts, once more */
};

/* The published models interpolate between dimensions that are no whole numbers; no key says so. */
static hdl_err gptoss_finish(hdl_model_desc *desc, const hdl_gguf *gguf, hdl_errmsg *why)
{
    (void)gguf;
    (void)why;
    desc->ropes[0].truncate = false;
    return HDL_OK;
}

const hdl_gguf_arch hdl_gguf_arch_gptoss = {
    .name = "gpt-oss",
    .arch = &hdl_arch_gptoss,
    .keys = gptoss_keys,
    .n_keys = HDL_ARRAY_LEN(gptoss_keys),
    .finish = gptoss_finish,
};

/* ---- Llama 4 ------------------------------------------------------------------------------ */

static const hdl_gguf_key llama4_keys[] = {
    MOE_KEYS, HDL_G_SKIP("interleave_moe_layer_step"), /* the tensors say it */
};

/* Chunks, layers without positions and norms of q and k are in no key; llama.cpp knows the two
 * models by their number of experts. */
static hdl_err llama4_finish(hdl_model_desc *desc, const hdl_gguf *gguf, hdl_errmsg *why)
{
    (void)why;
    desc->shared_inter = rows_of(gguf, desc, "ffn_up_shexp.weight");
    desc->qk_norm = desc->n_experts == 128 ? HDL_QK_NORM_NONE : HDL_QK_NORM_L2_AFTER;
    for (uint32_t i = 0; i < desc->n_layers; i++) {
        bool rotates = (i + 1) % 4 != 0;
        desc->layers[i].rope = rotates ? 0 : HDL_ROPE_NONE;
        desc->layers[i].q_temp = !rotates;
        desc->layers[i].chunk = rotates ? 8192 : 0;
    }
    return HDL_OK;
}

const hdl_gguf_arch hdl_gguf_arch_llama4 = {
    .name = "llama4",
    .arch = &hdl_arch_llama4text,
    .keys = llama4_keys,
    .n_keys = HDL_ARRAY_LEN(llama4_keys),
    .finish = llama4_finish,
};
