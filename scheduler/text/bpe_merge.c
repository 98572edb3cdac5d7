/* SPDX-License-Identifier: Apache-2.0 */
/* Merging one word: by scans when it is short, by a heap when it is long. */
#include "scheduler/text/bpe_merge.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "scheduler/text/utf8.h"

enum { KEEP_NODES = 1 << 16 }; /* memory of longer words is given back */
#define NO_RANK HDL_BPE_NO_RANK
#define NONE    UINT32_MAX

/* A symbol of a long word and its merge with the next one; a merged one keeps its left part's
 * place. */
struct hdl_bpe_node {
    uint32_t prev, next; /* NONE at the ends */
    uint32_t at;         /* where it begins in the word */
    hdl_token id;
    hdl_bpe_merge merge; /* rank NO_RANK: none, or merged into its left neighbour */
};

static hdl_bpe_merge merge_of(const hdl_bpe *bpe, hdl_token left, hdl_token right)
{
    uint64_t pair = hdl_bpe_pair(left, right);
    if (!hdl_bpe_may_merge(bpe, pair))
        return (hdl_bpe_merge){NO_RANK, -1};
    return hdl_bpe_find(bpe, pair)->to;
}

/* by_vocab: what two neighbours are together. */
static hdl_bpe_merge merge_text(const hdl_bpe *bpe, const char *p, size_t n)
{
    hdl_token id = n <= bpe->longest ? hdl_vocab_find_raw(bpe->vocab, p, n) : -1;
    return (hdl_bpe_merge){id >= 0 ? bpe->ranks[id] : NO_RANK, id};
}

/* Hugging Face keeps an unknown character waiting until the next known one, also past characters
 * that fall back to bytes: copied, since it decides the order. */
static size_t char_symbols(const hdl_bpe *bpe, hdl_text word, hdl_token *ids, uint32_t *at)
{
    size_t n = 0;
    bool waiting = false;
    uint32_t waiting_at = 0;
    for (size_t i = 0; i < word.len;) {
        size_t start = i;
        hdl_utf8_next(word.p, &i);
        hdl_token id = hdl_bpe_char_id(bpe, word.p + start, i - start);
        bool known = id >= 0 || bpe->opt.by_vocab;
        bool bytes = !known && bpe->opt.byte_fallback;
        for (size_t k = start; k < i && bytes; k++)
            bytes = bpe->byte_ids[(unsigned char)word.p[k]] >= 0;
        if (waiting && (known || (!bytes && !bpe->opt.fuse_unk))) {
            ids[n] = bpe->opt.unk;
            at[n++] = waiting_at;
            waiting = false;
        }
        for (size_t k = start; k < i && bytes; k++) {
            ids[n] = bpe->byte_ids[(unsigned char)word.p[k]];
            at[n++] = (uint32_t)k;
        }
        if (known) {
            ids[n] = id;
            at[n++] = (uint32_t)start;
        } else if (!bytes && !waiting && bpe->opt.unk >= 0) {
            waiting = true;
            waiting_at = (uint32_t)start;
        }
    }
    if (waiting) {
        ids[n] = bpe->opt.unk;
        at[n++] = waiting_at;
    }
    return n;
}

size_t hdl_bpe_symbols(const hdl_bpe *bpe, hdl_text word, hdl_token *ids, uint32_t *at)
{
    if (bpe->opt.chars)
        return char_symbols(bpe, word, ids, at);
    size_t n = 0;
    for (size_t i = 0; i < word.len; i++) {
        ids[n] = bpe->byte_ids[(unsigned char)word.p[i]];
        at[n] = (uint32_t)i;
        n += ids[n] >= 0;
    }
    return n;
}

hdl_err hdl_bpe_push_unknown(const hdl_bpe *bpe, hdl_text text, hdl_ids *out)
{
    bool bytes = bpe->opt.byte_fallback;
    for (size_t i = 0; i < text.len && bytes; i++)
        bytes = bpe->byte_ids[(unsigned char)text.p[i]] >= 0;
    if (!bytes)
        return bpe->opt.unk >= 0 ? hdl_ids_push(out, bpe->opt.unk) : HDL_OK;
    for (size_t i = 0; i < text.len; i++)
        HDL_TRY(hdl_ids_push(out, bpe->byte_ids[(unsigned char)text.p[i]]));
    return HDL_OK;
}

/* The symbols of a short word. Ranks stand apart from what they lead to, so that the search for the
 * lowest is one run. */
typedef struct short_word {
    size_t n;
    hdl_token ids[HDL_BPE_SHORT_WORD], to[HDL_BPE_SHORT_WORD];
    uint32_t at[HDL_BPE_SHORT_WORD + 1], ranks[HDL_BPE_SHORT_WORD]; /* of symbol i and i + 1 */
} short_word;

static inline __attribute__((always_inline)) void look_up(const hdl_bpe *bpe, hdl_text word,
                                                          short_word *s, size_t i, bool by_vocab)
{
    hdl_bpe_merge m = by_vocab ? merge_text(bpe, word.p + s->at[i], s->at[i + 2] - s->at[i])
                               : merge_of(bpe, s->ids[i], s->ids[i + 1]);
    s->ranks[i] = m.rank;
    s->to[i] = m.id;
}

static void first_round(const hdl_bpe *bpe, hdl_text word, short_word *s)
{
    const unsigned char *b = (const unsigned char *)word.p;
    bool bytes = bpe->byte_pairs != NULL && s->n == word.len; /* none was left out */
    for (size_t i = 0; i + 1 < s->n && bytes; i++) {
        hdl_bpe_merge m = bpe->byte_pairs[(size_t)b[i] << 8 | b[i + 1]];
        s->ranks[i] = m.rank;
        s->to[i] = m.id;
    }
    for (size_t i = 0; i + 1 < s->n && !bytes; i++)
        look_up(bpe, word, s, i, bpe->opt.by_vocab);
}

static inline __attribute__((always_inline)) void merge_all(const hdl_bpe *bpe, hdl_text word,
                                                            short_word *s, bool by_vocab)
{
    while (s->n > 1) {
        size_t best = 0, n = s->n;
        for (size_t i = 1; i + 1 < n; i++)
            best = s->ranks[i] < s->ranks[best] ? i : best;
        if (s->ranks[best] == NO_RANK)
            break;
        s->ids[best] = s->to[best];
        s->n = --n;
        memmove(&s->ids[best + 1], &s->ids[best + 2], (n - best - 1) * sizeof *s->ids);
        if (by_vocab)
            memmove(&s->at[best + 1], &s->at[best + 2], (n - best) * sizeof *s->at);
        if (best + 1 < n) {
            memmove(&s->ranks[best + 1], &s->ranks[best + 2], (n - best - 2) * sizeof *s->ranks);
            memmove(&s->to[best + 1], &s->to[best + 2], (n - best - 2) * sizeof *s->to);
            look_up(bpe, word, s, best, by_vocab);
        }
        if (best > 0)
            look_up(bpe, word, s, best - 1, by_vocab);
    }
}

size_t hdl_bpe_merge_short(const hdl_bpe *bpe, hdl_text word, hdl_token *ids)
{
    short_word s;
    s.n = hdl_bpe_symbols(bpe, word, s.ids, s.at);
    s.at[s.n] = (uint32_t)word.len;
    first_round(bpe, word, &s);
    if (!bpe->opt.by_vocab) {
        merge_all(bpe, word, &s, false);
        memcpy(ids, s.ids, s.n * sizeof *ids);
        return s.n;
    }
    merge_all(bpe, word, &s, true);
    hdl_ids out = {.v = ids, .size = HDL_BPE_SHORT_WORD, .cap = HDL_BPE_SHORT_WORD};
    for (size_t i = 0; i < s.n; i++) {
        hdl_text text = {word.p + s.at[i], s.at[i + 1] - s.at[i]};
        /* No more ids than bytes, so that there is always room. */
        hdl_err err =
            s.ids[i] >= 0 ? hdl_ids_push(&out, s.ids[i]) : hdl_bpe_push_unknown(bpe, text, &out);
        HDL_ASSERT(err == HDL_OK);
    }
    return out.n;
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

typedef struct long_word {
    const hdl_bpe *bpe;
    hdl_text text;
    hdl_bpe_node *nodes;
    uint64_t *heap;
    size_t n_heap;
} long_word;

static uint32_t end_of(const long_word *w, uint32_t i)
{
    uint32_t next = w->nodes[i].next;
    return next == NONE ? (uint32_t)w->text.len : w->nodes[next].at;
}

static void offer(long_word *w, uint32_t at)
{
    hdl_bpe_node *nodes = w->nodes;
    if (at == NONE)
        return;
    nodes[at].merge.rank = NO_RANK;
    uint32_t next = nodes[at].next;
    if (next == NONE)
        return;
    nodes[at].merge = w->bpe->opt.by_vocab ? merge_text(w->bpe, w->text.p + nodes[at].at,
                                                        end_of(w, next) - nodes[at].at)
                                           : merge_of(w->bpe, nodes[at].id, nodes[next].id);
    if (nodes[at].merge.rank != NO_RANK)
        heap_push(w->heap, &w->n_heap, (uint64_t)nodes[at].merge.rank << 32 | at);
}

static void run_heap(long_word *w)
{
    hdl_bpe_node *nodes = w->nodes;
    while (w->n_heap > 0) {
        uint64_t order = heap_pop(w->heap, &w->n_heap);
        uint32_t at = (uint32_t)order;
        hdl_bpe_node *left = &nodes[at];
        /* A pair that an earlier merge has changed has another rank now, or, by_vocab, one that is
         * due all the same. */
        if (left->merge.rank != order >> 32)
            continue;
        hdl_bpe_node *right = &nodes[left->next];
        left->id = left->merge.id;
        left->next = right->next;
        right->merge.rank = NO_RANK;
        if (left->next != NONE)
            nodes[left->next].prev = at;
        offer(w, at);
        offer(w, left->prev);
    }
}

static hdl_err room_for(hdl_bpe_work *work, size_t n)
{
    if (n <= work->nodes_max)
        return HDL_OK;
    hdl_bpe_give_back(work);
    work->nodes = malloc(n * sizeof *work->nodes);
    /* n - 1 pairs at the start; each of at most n - 1 merges takes one out and puts two in */
    work->heap = malloc(2 * n * sizeof *work->heap);
    if (work->nodes == NULL || work->heap == NULL) {
        hdl_bpe_give_back(work);
        return HDL_NOMEM;
    }
    work->nodes_max = n;
    return HDL_OK;
}

void hdl_bpe_give_back(hdl_bpe_work *work)
{
    free(work->nodes);
    free(work->heap);
    work->nodes = NULL;
    work->heap = NULL;
    work->nodes_max = 0;
}

/* The first symbols as a list; the heap's memory holds them on the way. */
static uint32_t make_list(const long_word *w)
{
    hdl_token *ids = (hdl_token *)(void *)w->heap;
    uint32_t *at = (uint32_t *)(void *)(w->heap + w->text.len);
    uint32_t n = (uint32_t)hdl_bpe_symbols(w->bpe, w->text, ids, at);
    for (uint32_t i = 0; i < n; i++)
        w->nodes[i] = (hdl_bpe_node){.prev = i == 0 ? NONE : i - 1,
                                     .next = i + 1 == n ? NONE : i + 1,
                                     .at = at[i],
                                     .id = ids[i]};
    return n;
}

hdl_err hdl_bpe_merge_long(const hdl_bpe *bpe, hdl_bpe_work *work, hdl_text word, hdl_ids *out)
{
    HDL_ASSERT(word.len < NONE / 2);
    /* Before the work and not after it: a prompt of megabytes that cannot fit is refused at once.
     */
    if (bpe->covers && word.len / bpe->longest > out->cap - out->n)
        return HDL_BUSY;
    HDL_TRY(room_for(work, word.len));
    long_word w = {.bpe = bpe, .text = word, .nodes = work->nodes, .heap = work->heap};
    uint32_t n = make_list(&w);
    for (uint32_t i = 0; i < n; i++)
        offer(&w, i);
    run_heap(&w);
    for (uint32_t i = n > 0 ? 0 : NONE; i != NONE; i = w.nodes[i].next) {
        hdl_text text = {word.p + w.nodes[i].at, end_of(&w, i) - w.nodes[i].at};
        HDL_TRY(w.nodes[i].id >= 0 ? hdl_ids_push(out, w.nodes[i].id)
                                   : hdl_bpe_push_unknown(bpe, text, out));
    }
    if (work->nodes_max > KEEP_NODES)
        hdl_bpe_give_back(work);
    return HDL_OK;
}
