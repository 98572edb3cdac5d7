/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/text/unigram.h"

#include <stdio.h>
#include <stdlib.h>

#include "scheduler/text/utf8.h"
#include "scheduler/text/words.h"

enum { KEEP_NODES = 1 << 16, UNK_PENALTY = 10 };
#define NONE UINT32_MAX

/* The best way to a place in the word; ways end at the ends of characters. */
typedef struct way {
    double score;
    uint32_t from; /* where its last token begins; NONE: no way leads here */
    hdl_token id;
} way;

struct hdl_unigram_work {
    hdl_words words; /* those that come out the same whether special tokens are text or not */
    way *ways;       /* [len + 1] */
    size_t ways_max;
};

hdl_err hdl_unigram_init(hdl_unigram *unigram, hdl_pool_arena *arena, const hdl_vocab *vocab,
                         const hdl_unigram_options *opt)
{
    unigram->vocab = vocab;
    unigram->unk = opt->unk;
    unigram->byte_fallback = opt->byte_fallback;
    unigram->unk_score = opt->score_min - UNK_PENALTY;
    for (unsigned b = 0; b < 256; b++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", b);
        unigram->byte_ids[b] = hdl_vocab_find(vocab, name, 6);
    }
    hdl_trie_entry *entries = calloc((size_t)vocab->n_ids + 1, sizeof *entries);
    if (entries == NULL)
        return HDL_NOMEM;
    size_t n = 0;
    for (uint32_t i = 0; i < vocab->n_ids; i++)
        if (vocab->tokens[i].learned && vocab->tokens[i].raw_len > 0)
            entries[n++] =
                (hdl_trie_entry){{vocab->tokens[i].raw, vocab->tokens[i].raw_len}, (int32_t)i};
    hdl_err err = hdl_trie_init(&unigram->trie, arena, entries, n);
    free(entries);
    return err;
}

hdl_err hdl_unigram_work_new(hdl_unigram_work **out)
{
    hdl_unigram_work *work = calloc(1, sizeof *work);
    if (work == NULL)
        return HDL_NOMEM;
    hdl_err err = hdl_words_init(&work->words);
    if (err != HDL_OK) {
        free(work);
        return err;
    }
    *out = work;
    return HDL_OK;
}

static void give_back(hdl_unigram_work *work)
{
    free(work->ways);
    work->ways = NULL;
    work->ways_max = 0;
}

void hdl_unigram_work_free(hdl_unigram_work *work)
{
    if (work == NULL)
        return;
    give_back(work);
    hdl_words_deinit(&work->words);
    free(work);
}

void hdl_unigram_work_reset(hdl_unigram_work *work)
{
    hdl_words_reset(&work->words);
    give_back(work);
}

static hdl_err room_for(hdl_unigram_work *work, size_t n)
{
    if (n <= work->ways_max)
        return HDL_OK;
    give_back(work);
    work->ways = malloc(n * sizeof *work->ways);
    work->ways_max = work->ways ? n : 0;
    return work->ways ? HDL_OK : HDL_NOMEM;
}

static void offer(way *to, double score, uint32_t from, hdl_token id)
{
    if (to->from == NONE || score > to->score)
        *to = (way){score, from, id};
}

/* Returns whether a special token was passed over. */
static bool find_ways(const hdl_unigram *unigram, hdl_unigram_word word, way *ways)
{
    size_t len = word.text.len;
    bool passed = false;
    for (size_t i = 0; i <= len; i++)
        ways[i].from = NONE;
    ways[0] = (way){0, 0, -1};
    for (size_t at = 0, next; at < len; at = next) {
        bool alone = false; /* is there a token for just this character */
        uint32_t node = 0;
        next = at;
        hdl_utf8_next(word.text.p, &next);
        for (size_t end = at; end < len;) {
            node = hdl_trie_step(&unigram->trie, node, (unsigned char)word.text.p[end++]);
            if (node == 0)
                break;
            hdl_token id = unigram->trie.nodes[node].value;
            bool pass = id >= 0 && word.special_is_text && unigram->vocab->tokens[id].special;
            passed |= pass;
            if (id < 0 || pass)
                continue;
            alone |= end == next;
            offer(&ways[end], ways[at].score + unigram->scores[id], (uint32_t)at, id);
        }
        if (!alone)
            offer(&ways[next], ways[at].score + unigram->unk_score, (uint32_t)at, unigram->unk);
    }
    return passed;
}

/* A run of unknown characters. Together they may be a token after all: "<unk>" written out. */
static hdl_err push_unknown(const hdl_unigram *unigram, hdl_unigram_word word, hdl_ids *out)
{
    hdl_text text = word.text;
    hdl_token whole = hdl_vocab_find_raw(unigram->vocab, text.p, text.len);
    if (whole >= 0 && !(word.special_is_text && unigram->vocab->tokens[whole].special))
        return hdl_ids_push(out, whole);
    bool bytes = unigram->byte_fallback;
    for (size_t i = 0; i < text.len && bytes; i++)
        bytes = unigram->byte_ids[(unsigned char)text.p[i]] >= 0;
    if (!bytes)
        return hdl_ids_push(out, unigram->unk);
    for (size_t i = 0; i < text.len; i++)
        HDL_TRY(hdl_ids_push(out, unigram->byte_ids[(unsigned char)text.p[i]]));
    return HDL_OK;
}

/* The way back gives the tokens from the end: links are turned round first. */
static hdl_err push_best(const hdl_unigram *unigram, hdl_unigram_word word, way *ways, hdl_ids *out)
{
    uint32_t end = (uint32_t)word.text.len, later = NONE;
    for (uint32_t at = end; at != 0;) {
        uint32_t from = ways[at].from;
        ways[at].from = later; /* the end of the token after this one */
        later = at;
        at = from;
    }
    uint32_t start = 0;
    for (uint32_t at = later; at != NONE;) {
        uint32_t next = ways[at].from;
        if (ways[at].id != unigram->unk) {
            HDL_TRY(hdl_ids_push(out, ways[at].id));
        } else {
            while (unigram->unk >= 0 && next != NONE && ways[next].id == unigram->unk) {
                at = next;
                next = ways[at].from;
            }
            if (unigram->unk < 0)
                return HDL_INVALID;
            hdl_unigram_word run = word;
            run.text = (hdl_text){word.text.p + start, at - start};
            HDL_TRY(push_unknown(unigram, run, out));
        }
        start = at;
        at = next;
    }
    return HDL_OK;
}

static bool any_special(const hdl_unigram *unigram, const hdl_token *ids, size_t n)
{
    bool any = false;
    for (size_t i = 0; i < n; i++)
        any |= unigram->vocab->tokens[ids[i]].special;
    return any;
}

hdl_err hdl_unigram_encode(const hdl_unigram *unigram, hdl_unigram_work *work,
                           hdl_unigram_word word, hdl_ids *out)
{
    hdl_word *slot = hdl_words_slot(&work->words, word.text);
    if (hdl_word_is(slot, word.text))
        return hdl_word_append(slot, out);
    HDL_TRY(room_for(work, word.text.len + 1));
    bool passed = find_ways(unigram, word, work->ways);
    size_t before = out->n;
    HDL_TRY(push_best(unigram, word, work->ways, out));
    if (!passed && !any_special(unigram, out->v + before, out->n - before))
        hdl_word_put(slot, word.text, out->v + before, out->n - before);
    if (work->ways_max > KEEP_NODES)
        give_back(work);
    return HDL_OK;
}
