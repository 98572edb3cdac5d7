/* SPDX-License-Identifier: Apache-2.0 */
/* The prefix index of a group: which published block holds the KV of which tokens after which
 * prefix (README, rules K6, K7).
 *
 * A block is found by the chained hash of its tokens and all before them, and believed only when
 * its tokens are equal and its parent is the very publication that the walk came from: by induction
 * the whole prefix is then equal, whatever the hash does. Owner: the group's hdl_kv. Invariant: a
 * published block is full and its serial is unique and not 0. */
#pragma once

#include "scheduler/core/state.h"

typedef struct hdl_prefix_key {
    uint64_t hash;           /* of the block's tokens and all before */
    uint64_t parent;         /* serial of the block before, 0 for the first */
    const hdl_token *tokens; /* [block_tokens] */
} hdl_prefix_key;

/* The published block of that content, or NONE. */
uint32_t hdl_prefix_find(const hdl_sched *s, const hdl_kv *kv, const hdl_prefix_key *key);
/* Publishes a held, full block unless the same content is published already; returns the serial of
 * whichever stands in the index now. */
uint64_t hdl_prefix_publish(hdl_sched *s, hdl_kv *kv, uint32_t block, const hdl_prefix_key *key);
/* Asks for the memory that a search for that hash begins with. */
static inline void hdl_prefix_look_ahead(const hdl_kv *kv, uint64_t hash)
{
    __builtin_prefetch(&kv->bucket[hash & kv->bucket_mask], 1);
}
/* Takes a block out of the index, if it is there. */
void hdl_prefix_forget(hdl_kv *kv, uint32_t block);
