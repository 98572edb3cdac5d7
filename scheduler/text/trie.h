/* SPDX-License-Identifier: Apache-2.0 */
/* Byte strings with a number each, searched by prefix. Immutable; memory is the arena's; any
 * thread.
 *
 * Built in one pass from all strings; a node's children lie side by side in the order of their
 * bytes. */
#pragma once

#include <heddle/err.h>

#include "base/arena.h"
#include "scheduler/text/vocab.h"

typedef struct hdl_trie_entry {
    hdl_text text; /* borrowed while the trie is built; not empty */
    int32_t value; /* >= 0 */
} hdl_trie_entry;

typedef struct hdl_trie_node {
    uint32_t first;      /* of its children */
    int32_t value;       /* -1: no string ends here */
    uint16_t n_children; /* 0..256 */
    unsigned char byte;  /* that leads here */
} hdl_trie_node;

typedef struct hdl_trie {
    hdl_trie_node *nodes; /* [0] is the root */
    uint32_t n;
    uint32_t roots[256]; /* child of the root by byte; 0: none */
} hdl_trie;

/* Sorts entries. Of equal strings the highest value counts. NOMEM, also beyond 2^28 nodes. */
hdl_err hdl_trie_init(hdl_trie *trie, hdl_pool_arena *arena, hdl_trie_entry *entries,
                      size_t n) HDL_MUST_CHECK;

/* The child of a node by byte; 0: none. Node 0 is the root. */
static inline uint32_t hdl_trie_step(const hdl_trie *trie, uint32_t node, unsigned char byte)
{
    if (node == 0)
        return trie->roots[byte];
    const hdl_trie_node *at = &trie->nodes[node];
    uint32_t lo = at->first, hi = at->first + at->n_children;
    while (hi - lo > 8) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (trie->nodes[mid].byte <= byte)
            lo = mid;
        else
            hi = mid;
    }
    for (; lo < hi; lo++)
        if (trie->nodes[lo].byte == byte)
            return lo;
    return 0;
}
