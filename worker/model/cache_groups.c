/* SPDX-License-Identifier: Apache-2.0 */
/* Layers -> cache groups, and what a block of one costs. Pure. */
#include <string.h>

#include "base/checked.h"
#include "worker/model/slots.h"

uint32_t hdl_cache_rank_heads(const hdl_cache_group *group, uint32_t tp)
{
    if (group->rule.kind == HDL_CACHE_LATENT || tp >= group->n_heads)
        return 1;
    return group->n_heads / tp;
}

uint64_t hdl_cache_block_bytes(const hdl_cache_group *group, uint32_t n_heads,
                               uint32_t block_tokens)
{
    if (hdl_cache_is_state(&group->rule))
        return (uint64_t)n_heads * group->k_dim * sizeof(float);
    uint64_t head = hdl_kv_bytes(group->type, group->k_dim);
    if (group->v_dim > 0)
        head += hdl_kv_bytes(group->type, group->v_dim);
    return n_heads * head * block_tokens;
}

/* Gated DeltaNet: for each v head its matrix, and its part of the inputs that the convolution looks
 * back at (those of a k head are shared by the v heads that use it). */
static void gdn_state(const hdl_model_desc *desc, hdl_cache_group *g)
{
    const hdl_gdn_desc *d = &desc->gdn;
    uint32_t channels = 2 * d->n_k_heads * d->k_dim + d->n_v_heads * d->v_dim;
    g->rule.kind = HDL_CACHE_STATE;
    g->n_heads = d->n_v_heads;
    g->k_dim = d->k_dim * d->v_dim + hdl_div_ceil_u32((d->conv - 1) * channels, d->n_v_heads);
}

/* What the layer's mixer keeps; its group, but for the layers in it. A window that no sequence
 * outgrows is none: its blocks live to the end. */
static hdl_cache_group group_of_layer(const hdl_model_desc *desc, uint32_t layer)
{
    const hdl_layer_desc *ld = &desc->layers[layer];
    hdl_cache_group g = {.n_heads = 1, .block_tokens = HDL_BLOCK_TOKENS};
    if (ld->mixer == HDL_MIXER_GDN) {
        gdn_state(desc, &g);
        return g;
    }
    g.rule.window = ld->window < desc->max_len ? ld->window : 0;
    g.rule.chunk = ld->chunk < desc->max_len ? ld->chunk : 0;
    g.rule.kind = ld->mixer == HDL_MIXER_MLA ? HDL_CACHE_LATENT : HDL_CACHE_KV_PAGES;
    g.n_heads = ld->mixer == HDL_MIXER_MLA ? 1 : desc->n_kv_heads;
    g.k_dim = ld->mixer == HDL_MIXER_MLA ? desc->mla.kv_rank + desc->mla.rope_dim : desc->head_dim;
    g.v_dim = ld->mixer == HDL_MIXER_MLA ? 0 : desc->head_dim;
    return g;
}

static bool is_alike(const hdl_cache_group *a, const hdl_cache_group *b)
{
    return memcmp(&a->rule, &b->rule, sizeof(a->rule)) == 0 && a->n_heads == b->n_heads &&
           a->k_dim == b->k_dim && a->v_dim == b->v_dim && a->block_tokens == b->block_tokens;
}

hdl_err hdl_cache_groups_keep(hdl_model_desc *desc, hdl_kv_type type, hdl_errmsg *why)
{
    uint32_t n_kept = 0, n_latent = 0;
    for (uint32_t i = 0; i < desc->n_cache_groups; i++) {
        hdl_cache_group *g = &desc->cache_groups[i];
        bool is_latent = g->rule.kind == HDL_CACHE_LATENT;
        n_latent += is_latent;
        if (hdl_cache_is_state(&g->rule) || (is_latent && type == HDL_KV_INT8))
            continue;
        if (type != HDL_KV_BF16 && !is_latent &&
            (g->k_dim != g->v_dim || (type == HDL_KV_INT8 && g->k_dim % 2 != 0)))
            return hdl_fail(HDL_UNSUPPORTED, why,
                            "the KV cache is to be %s; heads of %u and %u values do not lie in "
                            "its tiles; say --kv-type bf16",
                            hdl_kv_type_text(type), g->k_dim, g->v_dim);
        g->type = type;
        n_kept++;
    }
    if (type != HDL_KV_BF16 && n_kept == 0)
        return hdl_fail(
            HDL_UNSUPPORTED, why, "the KV cache is to be %s; this model keeps %s; say --kv-type %s",
            hdl_kv_type_text(type),
            n_latent > 0 ? "latent rows, which int8 has no form for" : "states, which stay f32",
            n_latent > 0 ? "fp8 or bf16" : "bf16");
    return HDL_OK;
}

hdl_err hdl_cache_groups_make(hdl_model_desc *desc, hdl_errmsg *why)
{
    desc->n_cache_groups = 0;
    for (uint32_t layer = 0; layer < desc->n_layers; layer++) {
        hdl_cache_group want = group_of_layer(desc, layer);
        uint32_t g = 0;
        while (g < desc->n_cache_groups && !is_alike(&desc->cache_groups[g], &want))
            g++;
        if (g == HDL_CACHE_GROUPS_MAX)
            return hdl_fail(HDL_UNSUPPORTED, why,
                            "config.json: the layers need more than %d kinds of cache; such a "
                            "model is not supported; choose another",
                            HDL_CACHE_GROUPS_MAX);
        if (g == desc->n_cache_groups)
            desc->cache_groups[desc->n_cache_groups++] = want;
        desc->layers[layer].cache_group = (uint8_t)g;
        desc->layers[layer].cache_layer = (uint16_t)desc->cache_groups[g].n_layers++;
    }
    return HDL_OK;
}
