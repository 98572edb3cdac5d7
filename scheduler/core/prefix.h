/* SPDX-License-Identifier: Apache-2.0 */
/* The prefix index of a group: which published block holds the KV of which tokens after which
 * prefix (README, rules K6, K7).
 *
 * A block is found by the chained hash of its tokens and all before them, and believed only when
 * its tokens are equal and its parent is the very publication that the walk came from: by induction
 * the whole prefix is then equal, whatever the hash does. Owner: the group's hdl_kv. Invariant: a
 * published block is full, and no two publications have the same name. */
#pragma once

#include "scheduler/core/state.h"

typedef struct hdl_prefix_key {
    uint64_t hash;           /* of the block's tokens and all before */
    uint64_t parent;         /* name of the publication of the block before, 0 for the first */
    const hdl_token *tokens; /* [block_tokens] */
} hdl_prefix_key;

/* Forgets all. */
void hdl_prefix_reset(hdl_kv *kv);
/* The name of a block's publication: never 0, never given twice. */
static inline uint64_t hdl_prefix_name(const hdl_kv *kv, uint32_t block)
{
    return (uint64_t)kv->blocks[block].version << 32 | block;
}
/* The published block of that content, or NONE. */
uint32_t hdl_prefix_find(const hdl_sched *s, const hdl_kv *kv, const hdl_prefix_key *key);
/* Publishes a held block, whose tokens and hash are in their places, after a parent, unless the
 * same content is published already; returns the name of whichever stands in the index now. */
uint64_t hdl_prefix_publish(hdl_sched *s, hdl_kv *kv, uint32_t block, uint64_t parent);
/* The line where a search for that hash begins; and asks for it. */
static inline hdl_index_line *hdl_prefix_home(const hdl_kv *kv, uint64_t hash)
{
    return &kv->lines[(hash >> 32) * kv->n_lines >> 32];
}
static inline void hdl_prefix_look_ahead(const hdl_kv *kv, uint64_t hash)
{
    __builtin_prefetch(hdl_prefix_home(kv, hash), 1);
}
/* Takes a block out of the index, if it is there. */
void hdl_prefix_forget(hdl_kv *kv, uint32_t block);
