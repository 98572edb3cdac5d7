/* SPDX-License-Identifier: Apache-2.0 */
/* KV blocks of one group: the only place that hands out block ids (README, rules K1 to K5).
 *
 * Owner: the group. A block is held while ref > 0, and free when ref == 0; a free block may still
 * be cached, which means that the prefix index knows its content. Invariant: held + free + cached
 * == total, and promised <= free + cached. */
#pragma once

#include "scheduler/core/state.h"

/* Forgets everything: `total` empty blocks. */
void hdl_kv_reset(hdl_kv *kv, uint32_t total);

/* Blocks that nobody holds and nobody was promised. */
static inline uint32_t hdl_kv_spare(const hdl_kv *kv)
{
    return kv->n_free + kv->n_cached - kv->promised;
}

/* One more holder of a block whose content is wanted. */
void hdl_kv_hold(hdl_kv *kv, uint32_t block);
/* A block to write in, held once; its old content is forgotten. Needs a free or cached block. */
uint32_t hdl_kv_take(hdl_sched *s, hdl_kv *kv);
/* The next blocks to be taken have not been looked at for long. Asks for the places in the index of
 * the first n, which it reads, and for the n_next that follow. */
void hdl_kv_look_ahead(const hdl_kv *kv, uint32_t n, uint32_t n_next);
/* The n-th of them, for looking ahead; a guess, or NONE. */
uint32_t hdl_kv_nth(const hdl_kv *kv, uint32_t n);
/* Gives up one hold. A published block that nobody holds becomes the last to be evicted: so a
 * sequence's blocks are given last to first, because a block without the one before it can never be
 * hit. */
void hdl_kv_give(hdl_kv *kv, uint32_t block);
/* The same, and it becomes the first to be evicted: it is hardly of use to anybody. */
void hdl_kv_give_first(hdl_kv *kv, uint32_t block);

/* For readers outside step order (a transfer, an offload): the block is held until unpinned. */
void hdl_kv_pin(hdl_kv *kv, uint32_t block);
void hdl_kv_unpin(hdl_kv *kv, uint32_t block);
