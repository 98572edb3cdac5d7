/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/text/trie.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

enum { NODES_MAX = 1 << 28 };

static int by_text(const void *a, const void *b)
{
    const hdl_trie_entry *x = a, *y = b;
    size_t n = x->text.len < y->text.len ? x->text.len : y->text.len;
    int order = memcmp(x->text.p, y->text.p, n);
    if (order == 0)
        order = (x->text.len > y->text.len) - (x->text.len < y->text.len);
    return order != 0 ? order : (x->value > y->value) - (x->value < y->value);
}

/* Strings entries[lo..hi) share their first depth bytes, which lead to a node. */
typedef struct range {
    uint32_t node;
    size_t lo, hi, depth;
} range;

/* Gives the range's node its value and its children; these are appended to queue. */
static size_t expand(hdl_trie *trie, const hdl_trie_entry *entries, range r, range *queue)
{
    hdl_trie_node *node = &trie->nodes[r.node];
    size_t made = 0;
    node->value = -1;
    node->first = trie->n;
    for (; r.lo < r.hi && entries[r.lo].text.len == r.depth; r.lo++)
        node->value = entries[r.lo].value;
    while (r.lo < r.hi) {
        char byte = entries[r.lo].text.p[r.depth];
        size_t end = r.lo;
        while (end < r.hi && entries[end].text.p[r.depth] == byte)
            end++;
        trie->nodes[trie->n].byte = (unsigned char)byte;
        queue[made++] = (range){trie->n++, r.lo, end, r.depth + 1};
        node->n_children++;
        r.lo = end;
    }
    return made;
}

/* One node for each byte that a string does not share with the string before it. */
static size_t count_nodes(const hdl_trie_entry *entries, size_t n)
{
    size_t nodes = 1;
    for (size_t i = 0; i < n; i++) {
        size_t shared = 0;
        while (i > 0 && shared < entries[i].text.len && shared < entries[i - 1].text.len &&
               entries[i].text.p[shared] == entries[i - 1].text.p[shared])
            shared++;
        nodes += entries[i].text.len - shared;
    }
    return nodes;
}

hdl_err hdl_trie_init(hdl_trie *trie, hdl_pool_arena *arena, hdl_trie_entry *entries, size_t n)
{
    *trie = (hdl_trie){.n = 1};
    if (n > 1)
        qsort(entries, n, sizeof *entries, by_text);
    size_t n_nodes = count_nodes(entries, n), bytes;
    if (n_nodes > NODES_MAX || !hdl_mul_size(n_nodes, sizeof(range), &bytes))
        return HDL_NOMEM;
    trie->nodes = hdl_pool_arena_alloc_array(arena, n_nodes, sizeof *trie->nodes);
    range *queue = malloc(bytes);
    if (trie->nodes == NULL || queue == NULL) {
        free(queue);
        return HDL_NOMEM;
    }
    queue[0] = (range){.hi = n};
    size_t made = 1;
    for (size_t i = 0; i < made; i++)
        made += expand(trie, entries, queue[i], queue + made);
    free(queue);
    for (uint32_t i = 0; i < trie->nodes[0].n_children; i++)
        trie->roots[trie->nodes[trie->nodes[0].first + i].byte] = trie->nodes[0].first + i;
    return HDL_OK;
}
