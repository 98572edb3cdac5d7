/* SPDX-License-Identifier: Apache-2.0 */
/* How many blocks each cache group gets. Pure.
 *
 * The pools shall run out together for sequences of a typical length: each gets what N such
 * sequences take, for the greatest N that fits. A pool of windows gets the window of each, and
 * besides that once what a prefill of a whole step writes before its window moves on. A pool of
 * states gets two for each: its own and one snapshot, so that as many conversations can be taken up
 * again as have their pages cached. Longer sequences than the typical exhaust the full pages first
 * and leave windows and states to the prefix cache; shorter ones the other way round. */
#include <inttypes.h>

#include "base/checked.h"
#include "worker/kvstore.h"

#define DEFAULT_BYTES_MAX ((uint64_t)1 << 30)
enum { TYPICAL_TOKENS = 4096 };

typedef struct need {
    uint64_t each;  /* blocks of one sequence of some length */
    uint64_t once;  /* blocks besides, however many sequences there are */
    uint64_t least; /* blocks with which one sequence can run */
    uint64_t bytes; /* of a block, all layers */
} need;

static need need_of(const hdl_kvstore *kv, uint32_t pool, const hdl_kvstore_opts *opts,
                    uint32_t len)
{
    const hdl_cache_group *g = &kv->pools[pool].group;
    uint32_t bt = kv->block_tokens, span = hdl_max_u32(g->rule.window, g->rule.chunk);
    need n = {.bytes = kv->pools[pool].block_bytes * g->n_layers};
    if (hdl_cache_is_state(&g->rule)) {
        n.each = 2;
        n.least = 1;
        return n;
    }
    uint64_t whole = hdl_div_ceil_u32(opts->max_len, bt);
    n.each = hdl_div_ceil_u32(len, bt);
    n.least = 1;
    if (span == 0)
        return n;
    uint64_t window = (uint64_t)hdl_div_ceil_u32(span, bt) + 2;
    n.each = n.each < window ? n.each : window;
    n.least = whole < window + 2 ? whole : window + 2;
    n.once = window < whole ? 2ull * hdl_div_ceil_u32(opts->step_tokens, bt) : 0;
    return n;
}

static hdl_err too_small(const hdl_kvstore *kv, uint64_t given, uint64_t least, hdl_errmsg *why)
{
    if (kv->n_pools == 1)
        return hdl_fail(HDL_INVALID, why,
                        "the KV cache of %" PRIu64 " bytes holds no block; one block of %u tokens "
                        "takes %" PRIu64 " bytes on this rank; give it more with --kv-bytes",
                        given, kv->block_tokens, least);
    return hdl_fail(HDL_INVALID, why,
                    "the cache of %" PRIu64 " bytes holds no sequence; the windows and states of "
                    "one take %" PRIu64 " bytes on this rank; give it more with --kv-bytes",
                    given, least);
}

static uint32_t clamp(uint64_t n) { return n < UINT32_MAX / 2 ? (uint32_t)n : UINT32_MAX / 2; }

uint64_t hdl_kvstore_split_least(const hdl_kvstore *kv, const hdl_kvstore_opts *opts)
{
    uint64_t least = 0;
    for (uint32_t i = 0; i < kv->n_pools; i++) {
        need n = need_of(kv, i, opts, opts->max_len);
        least += n.least * n.bytes;
    }
    return least;
}

/* `bytes` cut into what N sequences of `len` tokens take, after what one needs at least. What
 * rounding leaves goes to the first pool that keeps all positions. */
static hdl_err cut(hdl_kvstore *kv, const hdl_kvstore_opts *opts, uint64_t bytes, hdl_errmsg *why)
{
    uint32_t len = hdl_min_u32(opts->max_len, TYPICAL_TOKENS), keeps_all = 0;
    uint64_t per_seq = 0, once = 0, least = 0;
    need needs[HDL_CACHE_GROUPS_MAX];
    for (uint32_t i = kv->n_pools; i > 0; i--) {
        need *n = &needs[i - 1];
        *n = need_of(kv, i - 1, opts, len);
        per_seq += n->each * n->bytes;
        once += n->once * n->bytes;
        least += n->least * n->bytes;
        if (hdl_cache_keeps_all(&kv->pools[i - 1].group.rule))
            keeps_all = i - 1;
    }
    if (bytes < least)
        return too_small(kv, bytes, least, why);
    uint64_t left = bytes - least;
    /* What is needed once takes an eighth at most; with less, prefills go in shorter rows. */
    bool has_once = once <= left / 8;
    uint64_t seqs_1024 = (left - (has_once ? once : 0)) * 1024 / per_seq;
    for (uint32_t i = 0; i < kv->n_pools; i++) {
        const need *n = &needs[i];
        uint64_t more = seqs_1024 * n->each / 1024 + (has_once ? n->once : 0);
        kv->pools[i].n_blocks = clamp(n->least + more);
        left -= more * n->bytes;
    }
    uint64_t rest = kv->pools[keeps_all].n_blocks + left / needs[keeps_all].bytes;
    kv->pools[keeps_all].n_blocks = clamp(rest);
    return HDL_OK;
}

/* Enough for max_seqs sequences of max_len, when that is not too much. */
static bool fill_all(hdl_kvstore *kv, const hdl_kvstore_opts *opts)
{
    uint64_t left = DEFAULT_BYTES_MAX;
    for (uint32_t i = 0; i < kv->n_pools; i++) {
        need n = need_of(kv, i, opts, opts->max_len);
        uint64_t want = n.each * opts->max_seqs + n.once;
        if (want > left / n.bytes)
            return false;
        left -= want * n.bytes;
        kv->pools[i].n_blocks = clamp(want);
    }
    return true;
}

hdl_err hdl_kvstore_split(hdl_kvstore *kv, const hdl_kvstore_opts *opts, hdl_errmsg *why)
{
    const uint64_t most = (uint64_t)1 << 52; /* keeps the arithmetic within 64 bits */
    for (uint32_t i = 0; opts->n_blocks != 0 && i < kv->n_pools; i++) {
        bool is_state = hdl_cache_is_state(&kv->pools[i].group.rule);
        kv->pools[i].n_blocks = is_state ? 2 * opts->max_seqs : opts->n_blocks;
    }
    if (opts->n_blocks != 0)
        return HDL_OK;
    if (opts->kv_bytes != 0)
        return cut(kv, opts, opts->kv_bytes < most ? opts->kv_bytes : most, why);
    if (fill_all(kv, opts))
        return HDL_OK;
    return cut(kv, opts, DEFAULT_BYTES_MAX, why);
}
