/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/core/prefix.h"

#include "scheduler/core/plant.h"

static hdl_token *block_tokens(const hdl_sched *s, const hdl_kv *kv, uint32_t block)
{
    return kv->tokens + ((size_t)block << s->bt_shift);
}

static bool same_content(const hdl_sched *s, const hdl_kv *kv, uint32_t block,
                         const hdl_prefix_key *key)
{
    const hdl_block *b = &kv->blocks[block];
    if (hdl_planted(s, HASH_ONLY_HIT))
        return ((b->hash ^ key->hash) & 63) == 0;
    return b->hash == key->hash && b->parent == key->parent &&
           memcmp(block_tokens(s, kv, block), key->tokens, sizeof(hdl_token) << s->bt_shift) == 0;
}

uint32_t hdl_prefix_find(const hdl_sched *s, const hdl_kv *kv, const hdl_prefix_key *key)
{
    uint32_t block = kv->bucket[key->hash & kv->bucket_mask];
    while (block != NONE && !same_content(s, kv, block, key))
        block = kv->blocks[block].chain;
    return block;
}

uint64_t hdl_prefix_publish(hdl_sched *s, hdl_kv *kv, uint32_t block, const hdl_prefix_key *key)
{
    uint32_t known = hdl_prefix_find(s, kv, key);
    if (known != NONE)
        return kv->blocks[known].serial;
    hdl_block *b = &kv->blocks[block];
    HDL_ASSERT(b->ref > 0);
    /* Shared with a sequence that published it under a parent that has gone since. */
    if (b->serial != 0)
        hdl_prefix_forget(kv, block);
    uint32_t *bucket = &kv->bucket[key->hash & kv->bucket_mask];
    b->chain = *bucket;
    *bucket = block;
    b->hash = key->hash;
    b->parent = key->parent;
    b->serial = ++kv->serial;
    memcpy(block_tokens(s, kv, block), key->tokens, sizeof(hdl_token) << s->bt_shift);
    return b->serial;
}

void hdl_prefix_forget(hdl_kv *kv, uint32_t block)
{
    hdl_block *b = &kv->blocks[block];
    if (b->serial == 0)
        return;
    uint32_t *link = &kv->bucket[b->hash & kv->bucket_mask];
    while (*link != block)
        link = &kv->blocks[*link].chain;
    *link = b->chain;
    b->serial = 0;
}
