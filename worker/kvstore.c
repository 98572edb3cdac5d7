/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/kvstore.h"

#include <inttypes.h>

#include "base/assert.h"
#include "base/checked.h"

#define DEFAULT_BYTES_MAX ((uint64_t)1 << 30)

/* Values (not bytes) of k or v in one block of one layer. */
static size_t block_values(const hdl_kvstore *kv)
{
    return (size_t)kv->n_kv_heads * kv->block_tokens * kv->head_dim;
}

static hdl_err count_blocks(hdl_kvstore *kv, const hdl_kvstore_opts *opts, hdl_errmsg *why)
{
    uint64_t block_bytes = (uint64_t)2 * sizeof(uint16_t) * block_values(kv) * kv->n_layers;
    uint64_t n = opts->n_blocks;
    if (n == 0 && opts->kv_bytes != 0)
        n = opts->kv_bytes / block_bytes;
    if (n == 0 && opts->kv_bytes == 0) {
        uint64_t need =
            (uint64_t)hdl_div_ceil_u32(opts->max_len, kv->block_tokens) * opts->max_seqs;
        uint64_t most = DEFAULT_BYTES_MAX / block_bytes;
        n = need < most ? need : most;
    }
    if (n == 0)
        return hdl_fail(HDL_INVALID, why,
                        "the KV cache of %" PRIu64 " bytes holds no block; one block of %u tokens "
                        "takes %" PRIu64 " bytes on this rank; give it more with --kv-bytes",
                        opts->kv_bytes, kv->block_tokens, block_bytes);
    if (n > UINT32_MAX / 2)
        n = UINT32_MAX / 2;
    kv->n_blocks = (uint32_t)n;
    kv->bytes = (size_t)(block_bytes * n);
    return HDL_OK;
}

hdl_err hdl_kvstore_open(hdl_kvstore *out, const hdl_kvstore_opts *opts, hdl_errmsg *why)
{
    const hdl_cache_group *g = &opts->desc->cache_groups[0];
    HDL_ASSERT_EQ(opts->desc->n_cache_groups, 1u);
    HDL_ASSERT_EQ(g->kind, HDL_CACHE_KV_PAGES);
    *out = (hdl_kvstore){.device = opts->device,
                         .n_layers = g->n_layers,
                         .block_tokens = opts->block_tokens ? opts->block_tokens : g->block_tokens,
                         .n_kv_heads = opts->shard.n_kv_heads,
                         .head_dim = g->head_dim};
    if (!hdl_is_pow2(out->block_tokens) || out->block_tokens % HDL_ATTN_TILE != 0)
        return hdl_fail(HDL_INVALID, why,
                        "a KV block of %u tokens is not possible; attention walks tiles of %d; use "
                        "a power of two of at least %d",
                        out->block_tokens, HDL_ATTN_TILE, HDL_ATTN_TILE);
    HDL_TRY(count_blocks(out, opts, why));
    out->memory = hdl_device_alloc(out->device, out->bytes);
    if (!out->memory)
        return hdl_fail(HDL_NOMEM, why,
                        "no memory for a KV cache of %zu bytes; the device is full; lower "
                        "--kv-bytes",
                        out->bytes);
    return HDL_OK;
}

void hdl_kvstore_close(hdl_kvstore *kv)
{
    if (kv->memory)
        hdl_device_free(kv->device, kv->memory, kv->bytes);
    *kv = (hdl_kvstore){0};
}

hdl_kv_view hdl_kvstore_view(const hdl_kvstore *kv, uint32_t layer)
{
    HDL_ASSERT_LT(layer, kv->n_layers);
    size_t pool = block_values(kv) * kv->n_blocks;
    uint16_t *k = kv->memory + (size_t)layer * 2 * pool;
    return (hdl_kv_view){.k = k,
                         .v = k + pool,
                         .n_blocks = kv->n_blocks,
                         .n_kv_heads = kv->n_kv_heads,
                         .block_tokens = kv->block_tokens,
                         .head_dim = kv->head_dim};
}
