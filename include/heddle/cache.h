/* SPDX-License-Identifier: Apache-2.0 */
/* Kinds of per-sequence memory, and which of it a position still needs. A model declares up to
 * HDL_CACHE_GROUPS_MAX cache groups (model.h); the worker gives each its own pool of blocks; the
 * scheduler core hands the blocks out and takes them back by what is said here. All groups count in
 * the same tokens and blocks of the same number of tokens.
 *
 * Pure data and arithmetic; any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <heddle/limits.h>

typedef enum hdl_cache_kind {
    HDL_CACHE_KV_PAGES, /* k and v of every KV head of the rank, a block per block_tokens */
    HDL_CACHE_LATENT,   /* one row a token, the same on every rank (MLA); blocks as above */
    HDL_CACHE_STATE,    /* fixed bytes a sequence, f32; a "block" is one sequence's state */
    HDL_CACHE_KIND_COUNT
} hdl_cache_kind;

/* What decides how long a block lives. Of pages at most one of window and chunk is given; a state
 * has neither. */
typedef struct hdl_cache_rule {
    uint32_t kind;   /* hdl_cache_kind */
    uint32_t window; /* a query sees so many positions, its own included; 0: all before it */
    uint32_t chunk;  /* a query sees its own chunk alone, cut at multiples of this; 0: no chunks */
} hdl_cache_rule;

/* A cache group of a worker or of a data-parallel group: the rule and what there is of it. */
typedef struct hdl_cache_capacity {
    hdl_cache_rule rule;
    uint32_t n_blocks;
} hdl_cache_capacity;

static inline bool hdl_cache_is_state(const hdl_cache_rule *rule)
{
    return rule->kind == HDL_CACHE_STATE;
}

/* Pages of which every position is needed to the end. */
static inline bool hdl_cache_keeps_all(const hdl_cache_rule *rule)
{
    return rule->kind != HDL_CACHE_STATE && rule->window == 0 && rule->chunk == 0;
}

/* The first position that a query at `pos` sees; of pages, all blocks that end before it are dead
 * for this query and all later ones. */
static inline uint32_t hdl_cache_first_seen(const hdl_cache_rule *rule, uint32_t pos)
{
    if (rule->chunk != 0)
        return pos - pos % rule->chunk;
    return rule->window != 0 && pos >= rule->window ? pos - rule->window + 1 : 0;
}

/* NULL, or what is wrong with it, for a person. */
static inline const char *hdl_cache_rule_problem(const hdl_cache_rule *rule)
{
    if (rule->kind >= HDL_CACHE_KIND_COUNT)
        return "its kind is unknown";
    if (rule->window != 0 && rule->chunk != 0)
        return "it has both a window and chunks";
    if (rule->kind == HDL_CACHE_STATE && (rule->window != 0 || rule->chunk != 0))
        return "a state has no window";
    return NULL;
}
