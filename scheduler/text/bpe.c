/* SPDX-License-Identifier: Apache-2.0 */
/* Request path 5 of 14: text -> ids; the splitting before it is pretok.c. */
#include "scheduler/text/bpe.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/hash.h"

enum {
    SHORT_WORD = 48,       /* bytes up to which a scan for the lowest rank beats the heap */
    CACHE_SLOTS = 1 << 14, /* remembered words: 1 MiB a thread */
    CACHE_WORD_BYTES = 34, /* longer words are rare and not remembered */
    CACHE_WORD_IDS = 7,
    KEEP_NODES = 1 << 16, /* memory of longer words is given back */
};

#define NO_RANK UINT32_MAX

typedef struct cached_word {
    uint8_t len; /* 0: free */
    uint8_t n_ids;
    char bytes[CACHE_WORD_BYTES];
    hdl_token ids[CACHE_WORD_IDS];
} cached_word;
_Static_assert(sizeof(cached_word) == 64, "one cache line");

/* A symbol of a long word and its merge with the next one; a merged one keeps its left part's
 * place. */
typedef struct node {
    uint32_t prev, next; /* NONE at the ends */
    hdl_token id;
    hdl_bpe_merge merge; /* rank NO_RANK: none, or merged into its left neighbour */
} node;
#define NONE UINT32_MAX

struct hdl_bpe_work {
    cached_word *cache; /* [CACHE_SLOTS] */
    node *nodes;
    uint64_t *heap;   /* rank << 32 | place of the left symbol */
    size_t nodes_max; /* room in nodes; heap has twice that */
};

static uint64_t pair_of(hdl_token left, hdl_token right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static hdl_bpe_slot *merge_slot(const hdl_bpe *bpe, uint64_t pair)
{
    /* Fibonacci hashing: the top bits of the product depend on every bit of the pair. */
    uint32_t at = (uint32_t)((pair * 0x9e3779b97f4a7c15u) >> bpe->slot_shift);
    while (bpe->merges[at].pair != pair && bpe->merges[at].pair != UINT64_MAX)
        at = (at + 1) & (bpe->slots - 1);
    return &bpe->merges[at];
}

static hdl_bpe_merge merge_of(const hdl_bpe *bpe, hdl_token left, hdl_token right)
{
    return merge_slot(bpe, pair_of(left, right))->to;
}

hdl_err hdl_bpe_init(hdl_bpe *bpe, hdl_pool_arena *arena, const hdl_vocab *vocab, uint32_t n_merges,
                     hdl_errmsg *why)
{
    *bpe = (hdl_bpe){.vocab = vocab, .slots = 16};
    for (unsigned b = 0; b < 256; b++) {
        char byte = (char)b;
        bpe->byte_ids[b] = hdl_vocab_find_raw(vocab, &byte, 1);
        bool in_utf8 = b != 0xc0 && b != 0xc1 && b < 0xf5;
        if (bpe->byte_ids[b] < 0 && in_utf8)
            return hdl_fail(
                HDL_UNSUPPORTED, why,
                "tokenizer.json: byte 0x%02x has no token in model.vocab; text with it could "
                "not be encoded; heddle needs the full byte alphabet",
                b);
    }
    bpe->slot_shift = 60;
    while (bpe->slots < 2 * n_merges) {
        bpe->slots *= 2;
        bpe->slot_shift--;
    }
    for (uint32_t i = 0; i < vocab->n_ids; i++)
        if (vocab->tokens[i].raw_len > bpe->longest)
            bpe->longest = vocab->tokens[i].raw_len;
    bpe->merges = hdl_pool_arena_alloc_array(arena, bpe->slots, sizeof *bpe->merges);
    bpe->byte_pairs = hdl_pool_arena_alloc_array(arena, 256 * 256, sizeof *bpe->byte_pairs);
    if (bpe->merges == NULL || bpe->byte_pairs == NULL)
        return HDL_NOMEM;
    for (uint32_t i = 0; i < bpe->slots; i++)
        bpe->merges[i] = (hdl_bpe_slot){UINT64_MAX, {NO_RANK, -1}};
    return HDL_OK;
}

hdl_err hdl_bpe_add_merge(hdl_bpe *bpe, const hdl_bpe_rule *rule, hdl_errmsg *why)
{
    enum { JOINED_MAX = 1 << 16 };
    const hdl_text l = rule->left, r = rule->right;
    if (l.len == 0 || r.len == 0 || l.len + r.len > JOINED_MAX)
        return hdl_fail(HDL_INVALID, why,
                        "tokenizer.json: model.merges[%u] has an empty or too long side",
                        rule->rank);
    hdl_token left = hdl_vocab_find(bpe->vocab, l.p, l.len);
    hdl_token right = hdl_vocab_find(bpe->vocab, r.p, r.len);
    char joined_short[256];
    char *joined = l.len + r.len <= sizeof joined_short ? joined_short : malloc(l.len + r.len);
    if (joined == NULL)
        return HDL_NOMEM;
    memcpy(joined, l.p, l.len);
    memcpy(joined + l.len, r.p, r.len);
    hdl_token id = hdl_vocab_find(bpe->vocab, joined, l.len + r.len);
    if (joined != joined_short)
        free(joined);
    if (left < 0 || right < 0 || id < 0)
        return hdl_fail(HDL_INVALID, why,
                        "tokenizer.json: model.merges[%u] joins \"%.*s\" and \"%.*s\", but a part "
                        "or the result "
                        "is not in model.vocab",
                        rule->rank, (int)(l.len < 64 ? l.len : 64), l.p,
                        (int)(r.len < 64 ? r.len : 64), r.p);
    /* A pair that comes twice has its last rank, as in Hugging Face's map. */
    *merge_slot(bpe, pair_of(left, right)) = (hdl_bpe_slot){pair_of(left, right), {rule->rank, id}};
    return HDL_OK;
}

void hdl_bpe_finish(hdl_bpe *bpe)
{
    for (unsigned a = 0; a < 256; a++)
        for (unsigned b = 0; b < 256; b++)
            bpe->byte_pairs[a << 8 | b] = merge_of(bpe, bpe->byte_ids[a], bpe->byte_ids[b]);
}

hdl_err hdl_bpe_work_new(hdl_bpe_work **out)
{
    hdl_bpe_work *work = calloc(1, sizeof *work);
    if (work != NULL)
        work->cache = aligned_alloc(64, CACHE_SLOTS * sizeof *work->cache);
    if (work == NULL || work->cache == NULL) {
        free(work);
        return HDL_NOMEM;
    }
    memset(work->cache, 0, CACHE_SLOTS * sizeof *work->cache);
    *out = work;
    return HDL_OK;
}

void hdl_bpe_work_free(hdl_bpe_work *work)
{
    if (work == NULL)
        return;
    free(work->cache);
    free(work->nodes);
    free(work->heap);
    free(work);
}

void hdl_bpe_work_reset(hdl_bpe_work *work)
{
    memset(work->cache, 0, CACHE_SLOTS * sizeof *work->cache);
    free(work->nodes);
    free(work->heap);
    work->nodes = NULL;
    work->heap = NULL;
    work->nodes_max = 0;
}

/* Merges in place; ids holds one id per byte at the start and the result at the end. Returns how
 * many. Ranks stand apart from what they lead to, so that the search for the lowest is one run. */
static size_t merge_short(const hdl_bpe *bpe, hdl_text word, hdl_token *ids)
{
    uint32_t ranks[SHORT_WORD]; /* of symbol i and i + 1 */
    hdl_token to[SHORT_WORD];
    size_t n = word.len;
    const unsigned char *b = (const unsigned char *)word.p;
    for (size_t i = 0; i < n; i++)
        ids[i] = bpe->byte_ids[b[i]];
    for (size_t i = 0; i + 1 < n; i++) {
        hdl_bpe_merge m = bpe->byte_pairs[(size_t)b[i] << 8 | b[i + 1]];
        ranks[i] = m.rank;
        to[i] = m.id;
    }
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            best = ranks[i] < ranks[best] ? i : best;
        if (ranks[best] == NO_RANK)
            break;
        ids[best] = to[best];
        n--;
        memmove(&ids[best + 1], &ids[best + 2], (n - best - 1) * sizeof *ids);
        if (best + 1 < n) {
            memmove(&ranks[best + 1], &ranks[best + 2], (n - best - 2) * sizeof *ranks);
            memmove(&to[best + 1], &to[best + 2], (n - best - 2) * sizeof *to);
            hdl_bpe_merge m = merge_of(bpe, ids[best], ids[best + 1]);
            ranks[best] = m.rank;
            to[best] = m.id;
        }
        if (best > 0) {
            hdl_bpe_merge m = merge_of(bpe, ids[best - 1], ids[best]);
            ranks[best - 1] = m.rank;
            to[best - 1] = m.id;
        }
    }
    return n;
}

/* A heap with four children a node: fewer cache lines on the way down than with two. */
static void heap_push(uint64_t *heap, size_t *n, uint64_t order)
{
    size_t i = (*n)++;
    while (i > 0 && heap[(i - 1) / 4] > order) {
        heap[i] = heap[(i - 1) / 4];
        i = (i - 1) / 4;
    }
    heap[i] = order;
}

static uint64_t heap_pop(uint64_t *heap, size_t *n)
{
    uint64_t top = heap[0], last = heap[--*n];
    size_t i = 0;
    for (size_t child; (child = 4 * i + 1) < *n; i = child) {
        size_t end = child + 4 < *n ? child + 4 : *n;
        for (size_t c = child + 1; c < end; c++)
            child = heap[c] < heap[child] ? c : child;
        if (heap[child] >= last)
            break;
        heap[i] = heap[child];
    }
    heap[i] = last;
    return top;
}

static void offer(const hdl_bpe *bpe, hdl_bpe_work *work, size_t *n_heap, uint32_t at)
{
    node *nodes = work->nodes;
    if (at == NONE)
        return;
    nodes[at].merge.rank = NO_RANK;
    if (nodes[at].next == NONE)
        return;
    nodes[at].merge = merge_of(bpe, nodes[at].id, nodes[nodes[at].next].id);
    if (nodes[at].merge.rank != NO_RANK)
        heap_push(work->heap, n_heap, (uint64_t)nodes[at].merge.rank << 32 | at);
}

static hdl_err room_for(hdl_bpe_work *work, size_t n)
{
    if (n <= work->nodes_max)
        return HDL_OK;
    free(work->nodes);
    free(work->heap);
    work->nodes = malloc(n * sizeof *work->nodes);
    /* n - 1 pairs at the start; each of at most n - 1 merges takes one out and puts two in */
    work->heap = malloc(2 * n * sizeof *work->heap);
    work->nodes_max = work->nodes && work->heap ? n : 0;
    return work->nodes_max ? HDL_OK : HDL_NOMEM;
}

static hdl_err merge_long(const hdl_bpe *bpe, hdl_bpe_work *work, hdl_text word, hdl_ids *out)
{
    HDL_ASSERT(word.len < NONE / 2);
    /* Before the work and not after it: a prompt of megabytes that cannot fit is refused at once.
     */
    if (word.len / bpe->longest > out->cap - out->n)
        return HDL_BUSY;
    HDL_TRY(room_for(work, word.len));
    node *nodes = work->nodes;
    uint32_t n = (uint32_t)word.len;
    for (uint32_t i = 0; i < n; i++)
        nodes[i] = (node){.prev = i == 0 ? NONE : i - 1,
                          .next = i + 1 == n ? NONE : i + 1,
                          .id = bpe->byte_ids[(unsigned char)word.p[i]]};
    size_t n_heap = 0;
    for (uint32_t i = 0; i < n; i++)
        offer(bpe, work, &n_heap, i);
    while (n_heap > 0) {
        uint64_t order = heap_pop(work->heap, &n_heap);
        uint32_t at = (uint32_t)order;
        node *left = &nodes[at];
        /* A pair that an earlier merge has changed has another rank now: ranks are one to one with
         * pairs. */
        if (left->merge.rank != order >> 32)
            continue;
        node *right = &nodes[left->next];
        left->id = left->merge.id;
        left->next = right->next;
        right->merge.rank = NO_RANK;
        if (left->next != NONE)
            nodes[left->next].prev = at;
        offer(bpe, work, &n_heap, at);
        offer(bpe, work, &n_heap, left->prev);
    }
    for (uint32_t i = 0; i != NONE; i = nodes[i].next)
        HDL_TRY(hdl_ids_push(out, nodes[i].id));
    if (work->nodes_max > KEEP_NODES) {
        free(work->nodes);
        free(work->heap);
        work->nodes = NULL;
        work->heap = NULL;
        work->nodes_max = 0;
    }
    return HDL_OK;
}

static hdl_err push_all(hdl_ids *out, const hdl_token *ids, size_t n)
{
    for (size_t i = 0; i < n; i++)
        HDL_TRY(hdl_ids_push(out, ids[i]));
    return HDL_OK;
}

hdl_err hdl_bpe_encode(const hdl_bpe *bpe, hdl_bpe_work *work, hdl_text word, hdl_ids *out)
{
    if (word.len == 1)
        return hdl_ids_push(out, bpe->byte_ids[(unsigned char)word.p[0]]);
    cached_word *c = NULL;
    if (word.len <= CACHE_WORD_BYTES) {
        c = &work->cache[hdl_hash_bytes(word.p, word.len, 0) & (CACHE_SLOTS - 1)];
        if (c->len == word.len && memcmp(c->bytes, word.p, word.len) == 0)
            return push_all(out, c->ids, c->n_ids);
    }
    hdl_token whole = bpe->ignore_merges ? hdl_vocab_find_raw(bpe->vocab, word.p, word.len) : -1;
    if (whole < 0 && word.len > SHORT_WORD)
        return merge_long(bpe, work, word, out);
    hdl_token ids[SHORT_WORD] = {whole};
    size_t n = whole >= 0 ? 1 : merge_short(bpe, word, ids);
    if (c != NULL && n <= CACHE_WORD_IDS) {
        c->len = (uint8_t)word.len;
        c->n_ids = (uint8_t)n;
        memcpy(c->bytes, word.p, word.len);
        memcpy(c->ids, ids, n * sizeof *ids);
    }
    return push_all(out, ids, n);
}
