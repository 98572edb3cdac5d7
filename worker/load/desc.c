/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/load/desc.h"

#include <math.h>
#include <stdio.h>

void hdl_desc_begin(hdl_model_desc *desc, const hdl_arch *arch)
{
    *desc = (hdl_model_desc){
        .qk_norm = arch->qk_norm,
        .pre_norm = true,
        .router = {.kind = arch->router, .renorm = arch->router_renorm},
        .n_ropes = 1,
        .ropes = {{.theta = 10000.0}},
        .dtype = HDL_DTYPE_BF16,
        .bos_id = HDL_NONE_U32,
    };
    snprintf(desc->arch, sizeof(desc->arch), "%s", arch->name);
    snprintf(desc->inner, sizeof(desc->inner), "%s", arch->inner ? arch->inner : "");
    for (unsigned i = 0; i < HDL_LAYERS_MAX; i++) {
        desc->layers[i].mixer = (uint8_t)arch->mixer;
        desc->layers[i].ffn = (uint8_t)arch->ffn;
    }
    if (arch->init)
        arch->init(desc);
}

hdl_err hdl_desc_lacks(const char *key, hdl_errmsg *why)
{
    return hdl_fail(HDL_INVALID, why,
                    "the model's description lacks %s; it cannot be built without; fetch the "
                    "original file",
                    key);
}

static hdl_err check_present(const hdl_model_desc *desc, hdl_errmsg *why)
{
    if (desc->n_layers == 0)
        return hdl_desc_lacks("num_hidden_layers (block_count)", why);
    if (desc->hidden == 0)
        return hdl_desc_lacks("hidden_size (embedding_length)", why);
    if (desc->n_heads == 0)
        return hdl_desc_lacks("num_attention_heads (attention.head_count)", why);
    if (desc->vocab == 0)
        return hdl_desc_lacks("vocab_size", why);
    if (desc->max_len == 0)
        return hdl_desc_lacks("max_position_embeddings (context_length)", why);
    if (!(desc->norm_eps > 0))
        return hdl_desc_lacks("rms_norm_eps (attention.layer_norm_rms_epsilon)", why);
    for (uint32_t i = 0; i < desc->n_layers; i++) {
        if (desc->layers[i].ffn == HDL_FFN_DENSE && desc->inter == 0)
            return hdl_desc_lacks("intermediate_size (feed_forward_length)", why);
        if (desc->layers[i].ffn != HDL_FFN_MOE)
            continue;
        if (desc->n_experts == 0 || desc->topk == 0 || desc->moe_inter == 0)
            return hdl_desc_lacks("the number or size of experts", why);
    }
    return HDL_OK;
}

static hdl_err check_groups(const hdl_model_desc *desc, hdl_errmsg *why)
{
    const hdl_router_desc *r = &desc->router;
    uint32_t each = desc->n_experts / r->n_group;
    if (desc->n_experts % r->n_group != 0 || r->topk_group == 0 || r->topk_group > r->n_group ||
        desc->topk > r->topk_group * each || (r->group_top2 && each < 2))
        return hdl_fail(HDL_INVALID, why,
                        "%u of %u experts cannot be chosen from %u of %u groups; the "
                        "file is damaged; fetch the original",
                        desc->topk, desc->n_experts, r->topk_group, r->n_group);
    return HDL_OK;
}

static hdl_err check_shapes(const hdl_model_desc *desc, hdl_errmsg *why)
{
    if (desc->n_heads % desc->n_kv_heads != 0)
        return hdl_fail(HDL_INVALID, why,
                        "%u attention heads cannot share %u KV heads evenly; the file "
                        "is damaged or of another architecture; fetch the original",
                        desc->n_heads, desc->n_kv_heads);
    if (desc->head_dim % 2 != 0)
        return hdl_fail(HDL_UNSUPPORTED, why,
                        "head_dim is %u; rotary embedding needs an even one; choose "
                        "another model",
                        desc->head_dim);
    for (uint32_t i = 0; i < desc->n_ropes; i++)
        if (desc->ropes[i].dim == 0 || desc->ropes[i].dim % 2 != 0 ||
            desc->ropes[i].dim > desc->head_dim)
            return hdl_fail(HDL_UNSUPPORTED, why,
                            "%u of a head's %u values are rotated; it must be an even "
                            "number of them; choose another model",
                            desc->ropes[i].dim, desc->head_dim);
    if (desc->n_experts != 0 && desc->topk > desc->n_experts)
        return hdl_fail(HDL_INVALID, why,
                        "num_experts_per_tok is %u of only %u experts; the file is "
                        "damaged; fetch the original",
                        desc->topk, desc->n_experts);
    return desc->router.n_group > 1 ? check_groups(desc, why) : HDL_OK;
}

hdl_err hdl_desc_complete(hdl_model_desc *desc, hdl_errmsg *why)
{
    HDL_TRY(check_present(desc, why));
    if (desc->n_kv_heads == 0)
        desc->n_kv_heads = desc->n_heads;
    if (desc->head_dim == 0)
        desc->head_dim = desc->hidden / desc->n_heads;
    if (desc->head_dim == 0)
        return hdl_desc_lacks("head_dim", why);
    HDL_TRY(hdl_arch_complete_ropes(desc, why));
    if (desc->attn_scale == 0)
        desc->attn_scale = (float)(1.0 / sqrt((double)desc->head_dim));
    HDL_TRY(check_shapes(desc, why));
    return hdl_cache_groups_make(desc, why);
}
