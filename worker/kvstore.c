/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/kvstore.h"

#include "base/assert.h"
#include "base/checked.h"

static hdl_err describe_pools(hdl_kvstore *kv, const hdl_kvstore_opts *opts, hdl_errmsg *why)
{
    const hdl_model_desc *desc = opts->desc;
    uint32_t own = desc->n_cache_groups ? desc->cache_groups[0].block_tokens : HDL_BLOCK_TOKENS;
    kv->block_tokens = opts->block_tokens ? opts->block_tokens : own;
    kv->n_pools = desc->n_cache_groups;
    if (!hdl_is_pow2(kv->block_tokens) || kv->block_tokens % HDL_ATTN_TILE != 0)
        return hdl_fail(HDL_INVALID, why,
                        "a KV block of %u tokens is not possible; attention walks tiles of %d; use "
                        "a power of two of at least %d",
                        kv->block_tokens, HDL_ATTN_TILE, HDL_ATTN_TILE);
    for (uint32_t i = 0; i < kv->n_pools; i++) {
        hdl_kvpool *pool = &kv->pools[i];
        pool->group = desc->cache_groups[i];
        pool->n_heads = hdl_cache_rank_heads(&pool->group, opts->shard.tp);
        pool->block_bytes = hdl_cache_block_bytes(&pool->group, pool->n_heads, kv->block_tokens);
    }
    return HDL_OK;
}

/* Every layer of every pool begins on a cache line. */
static bool layer_bytes(const hdl_kvpool *pool, size_t *out)
{
    size_t bytes = 0;
    return hdl_mul_size(pool->n_blocks, (size_t)pool->block_bytes, &bytes) &&
           hdl_align_up_size(bytes, 64, out);
}

static bool place_pools(hdl_kvstore *kv)
{
    size_t at = 0;
    for (uint32_t i = 0; i < kv->n_pools; i++) {
        hdl_kvpool *pool = &kv->pools[i];
        size_t one = 0, all = 0;
        pool->memory = kv->memory ? (unsigned char *)kv->memory + at : NULL;
        if (!layer_bytes(pool, &one) || !hdl_mul_size(one, pool->group.n_layers, &all) ||
            !hdl_add_size(at, all, &at))
            return false;
    }
    kv->bytes = at;
    return true;
}

hdl_err hdl_kvstore_least(const hdl_kvstore_opts *opts, uint64_t *bytes, hdl_errmsg *why)
{
    hdl_kvstore kv = {0};
    HDL_TRY(describe_pools(&kv, opts, why));
    *bytes = opts->kv_bytes ? opts->kv_bytes : hdl_kvstore_split_least(&kv, opts);
    return HDL_OK;
}

hdl_err hdl_kvstore_open(hdl_kvstore *out, const hdl_kvstore_opts *opts, hdl_errmsg *why)
{
    *out = (hdl_kvstore){.device = opts->device};
    hdl_kvstore_opts sized = *opts;
    if (sized.kv_bytes == 0)
        sized.kv_bytes = hdl_device_memory_free(opts->device) / 10 * 9;
    HDL_TRY(describe_pools(out, opts, why));
    HDL_TRY(hdl_kvstore_split(out, &sized, why));
    bool fits = place_pools(out);
    out->memory = fits ? hdl_device_alloc(out->device, out->bytes) : NULL;
    if (!out->memory)
        return hdl_fail(HDL_NOMEM, why,
                        "no memory for a KV cache of %zu bytes; the device is full; lower "
                        "--kv-bytes",
                        out->bytes);
    (void)place_pools(out);
    return HDL_OK;
}

void hdl_kvstore_close(hdl_kvstore *kv)
{
    if (kv->memory)
        hdl_device_free(kv->device, kv->memory, kv->bytes);
    *kv = (hdl_kvstore){0};
}

static unsigned char *layer_at(const hdl_kvstore *kv, uint32_t cache, uint32_t layer)
{
    HDL_ASSERT_LT(cache, kv->n_pools);
    const hdl_kvpool *pool = &kv->pools[cache];
    size_t one = 0;
    HDL_ASSERT_LT(layer, pool->group.n_layers);
    HDL_ASSERT(layer_bytes(pool, &one));
    return pool->memory + one * layer;
}

/* Of a block. */
static size_t k_bytes(const hdl_kvstore *kv, const hdl_kvpool *pool)
{
    return (size_t)pool->n_heads * kv->block_tokens *
           (size_t)hdl_kv_bytes(pool->group.type, pool->group.k_dim);
}

hdl_kv_view hdl_kvstore_view(const hdl_kvstore *kv, uint32_t cache, uint32_t layer)
{
    const hdl_kvpool *pool = &kv->pools[cache];
    HDL_ASSERT(!hdl_cache_is_state(&pool->group.rule));
    unsigned char *k = layer_at(kv, cache, layer), *v = k + k_bytes(kv, pool) * pool->n_blocks;
    hdl_kv_view view = {.type = pool->group.type,
                        .n_blocks = pool->n_blocks,
                        .n_kv_heads = pool->n_heads,
                        .block_tokens = kv->block_tokens,
                        .head_dim = pool->group.k_dim};
    if (view.type != HDL_KV_BF16) {
        view.k8 = k;
        view.v8 = v;
    } else {
        view.k = (uint16_t *)(void *)k;
        view.v = (uint16_t *)(void *)v;
    }
    return view;
}

float *hdl_kvstore_states(const hdl_kvstore *kv, uint32_t cache, uint32_t layer)
{
    HDL_ASSERT(hdl_cache_is_state(&kv->pools[cache].group.rule));
    return (float *)(void *)layer_at(kv, cache, layer);
}

uint32_t hdl_kvstore_parts(const hdl_kvstore *kv, uint32_t cache, uint32_t layer,
                           hdl_kv_part out[2])
{
    const hdl_kvpool *pool = &kv->pools[cache];
    unsigned char *at = layer_at(kv, cache, layer);
    size_t first =
        hdl_cache_is_state(&pool->group.rule) ? (size_t)pool->block_bytes : k_bytes(kv, pool);
    out[0] = (hdl_kv_part){.memory = at, .block_bytes = first};
    out[1] = (hdl_kv_part){.memory = at + first * pool->n_blocks,
                           .block_bytes = (size_t)pool->block_bytes - first};
    return out[1].block_bytes ? 2 : 1;
}
