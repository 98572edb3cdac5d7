/* SPDX-License-Identifier: Apache-2.0 */
/* Request path 5 of 14: text -> ids; the splitting before it is pretok.c. */
#include "scheduler/text/bpe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler/text/bpe_merge.h"
#include "scheduler/text/utf8.h"

enum {
    JOINED_BYTES_MAX = 1 << 16,
    ADJACENT_BITS_MIN = 16,
    ADJACENT_BITS_MAX = 24,
    SPLIT_BYTES_MAX = 256, /* longer tokens are in no published vocabulary */
};

static bool byte_of_utf8(unsigned b) { return b != 0xc0 && b != 0xc1 && b < 0xf5; }

static hdl_err find_bytes(hdl_bpe *bpe, hdl_errmsg *why)
{
    bpe->covers = true;
    for (unsigned b = 0; b < 256; b++) {
        char byte = (char)b, name[8];
        snprintf(name, sizeof name, "<0x%02X>", b);
        bpe->byte_ids[b] = !bpe->opt.chars          ? hdl_vocab_find_raw(bpe->vocab, &byte, 1)
                           : bpe->opt.byte_fallback ? hdl_vocab_find(bpe->vocab, name, 6)
                                                    : -1;
        if (bpe->byte_ids[b] >= 0 || !byte_of_utf8(b))
            continue;
        bpe->covers = false;
        if (!bpe->opt.chars && bpe->opt.by_vocab)
            return hdl_fail(HDL_INVALID, why,
                            "tokenizer: byte 0x%02x has no token; every byte must be one; the "
                            "file is broken",
                            b);
    }
    for (unsigned c = 0; c < 128; c++) {
        char byte = (char)c;
        bpe->ascii_ids[c] = hdl_vocab_find_raw(bpe->vocab, &byte, 1);
    }
    return HDL_OK;
}

static hdl_err make_rules(hdl_bpe *bpe, hdl_pool_arena *arena)
{
    bpe->slots = 16;
    bpe->slot_shift = 60;
    while (bpe->slots < 2 * bpe->opt.n_merges) {
        bpe->slots *= 2;
        bpe->slot_shift--;
    }
    bpe->merges = hdl_pool_arena_alloc_array(arena, bpe->slots, sizeof *bpe->merges);
    bpe->may_merge = hdl_pool_arena_alloc_array(arena, bpe->slots / 16, sizeof *bpe->may_merge);
    if (bpe->merges == NULL || bpe->may_merge == NULL)
        return HDL_NOMEM;
    for (uint32_t i = 0; i < bpe->slots; i++)
        bpe->merges[i] = (hdl_bpe_slot){UINT64_MAX, {HDL_BPE_NO_RANK, -1}};
    return HDL_OK;
}

static void add_rule(hdl_bpe *bpe, hdl_bpe_slot slot)
{
    uint64_t bit = hdl_bpe_hash(slot.pair) >> (bpe->slot_shift - 2);
    *hdl_bpe_find(bpe, slot.pair) = slot;
    bpe->may_merge[bit / 64] |= (uint64_t)1 << (bit % 64);
}

hdl_err hdl_bpe_init(hdl_bpe *bpe, hdl_pool_arena *arena, const hdl_vocab *vocab,
                     const hdl_bpe_options *opt, hdl_errmsg *why)
{
    *bpe = (hdl_bpe){.vocab = vocab, .opt = *opt, .longest = 1};
    HDL_TRY(find_bytes(bpe, why));
    for (uint32_t i = 0; i < vocab->n_ids; i++)
        if (vocab->tokens[i].raw_len > bpe->longest)
            bpe->longest = vocab->tokens[i].raw_len;
    if (!opt->by_vocab)
        return make_rules(bpe, arena);
    bpe->ranks = hdl_pool_arena_alloc_array(arena, (size_t)vocab->n_ids + 1, sizeof *bpe->ranks);
    if (bpe->ranks == NULL)
        return HDL_NOMEM;
    memset(bpe->ranks, 0xff, vocab->n_ids * sizeof *bpe->ranks);
    return HDL_OK;
}

hdl_err hdl_bpe_add_merge(hdl_bpe *bpe, const hdl_bpe_rule *rule, hdl_errmsg *why)
{
    const hdl_text l = rule->left, r = rule->right;
    if (l.len == 0 || r.len == 0 || l.len + r.len > JOINED_BYTES_MAX)
        return hdl_fail(HDL_INVALID, why,
                        "tokenizer: model.merges[%u] has an empty or too long side", rule->rank);
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
                        "tokenizer: model.merges[%u] joins \"%.*s\" and \"%.*s\", but a part or "
                        "the result is not in model.vocab",
                        rule->rank, (int)(l.len < 64 ? l.len : 64), l.p,
                        (int)(r.len < 64 ? r.len : 64), r.p);
    /* A pair that comes twice has its last rank, as in Hugging Face's map. */
    add_rule(bpe, (hdl_bpe_slot){hdl_bpe_pair(left, right), {rule->rank, id}});
    return HDL_OK;
}

static size_t adjacent_slot(const hdl_bpe *bpe, uint32_t left, uint32_t right)
{
    return (((uint64_t)left << 32 | right) * 0x9e3779b97f4a7c15u) >> bpe->adjacent_shift;
}

/* Every pair of characters that some token has side by side. Between two others no merge ever
 * reaches, so that a text without pre-tokens (a whole prompt, in Llama 2) falls into words there. A
 * clash of hashes only leaves a cut out. */
static hdl_err find_adjacent(hdl_bpe *bpe, hdl_pool_arena *arena)
{
    const hdl_vocab *vocab = bpe->vocab;
    size_t bytes = 0;
    for (uint32_t i = 0; i < vocab->n_ids; i++)
        bytes += vocab->tokens[i].learned ? vocab->tokens[i].raw_len : 0;
    uint32_t bits = ADJACENT_BITS_MIN;
    while (bits < ADJACENT_BITS_MAX && ((size_t)1 << bits) < 8 * bytes)
        bits++;
    bpe->adjacent_shift = 64 - bits;
    bpe->adjacent = hdl_pool_arena_alloc_array(arena, ((size_t)1 << bits) / 64, sizeof(uint64_t));
    if (bpe->adjacent == NULL)
        return HDL_NOMEM;
    for (uint32_t i = 0; i < vocab->n_ids; i++) {
        const hdl_vocab_token *t = &vocab->tokens[i];
        /* Half a character is never matched: words are whole characters. */
        if (!t->learned || t->raw_len == 0 ||
            hdl_utf8_valid_prefix(t->raw, t->raw_len) < t->raw_len)
            continue;
        size_t at = 0;
        for (uint32_t left = hdl_utf8_next(t->raw, &at), right; at < t->raw_len; left = right) {
            right = hdl_utf8_next(t->raw, &at);
            size_t bit = adjacent_slot(bpe, left, right);
            bpe->adjacent[bit / 64] |= (uint64_t)1 << (bit % 64);
        }
    }
    return HDL_OK;
}

static bool is_fallback(const hdl_bpe *bpe, uint32_t id)
{
    const hdl_vocab_token *t = &bpe->vocab->tokens[id];
    return t->text_len == 6 && memcmp(t->text, "<0x", 3) == 0;
}

/* Words may be cut by their characters unless a rule starts from a byte of the fallback, or whole
 * pre-tokens count. */
static bool may_cut(const hdl_bpe *bpe)
{
    bool may = bpe->covers && !bpe->opt.ignore_merges;
    for (uint32_t i = 0; i < bpe->slots && may; i++)
        for (int side = 0; side < 2 && bpe->merges[i].pair != UINT64_MAX; side++)
            may &= !is_fallback(bpe, (uint32_t)(bpe->merges[i].pair >> 32 * side));
    return may;
}

typedef struct slot_list {
    hdl_bpe_slot *v;
    uint32_t n, size;
} slot_list;

static hdl_err push_slot(slot_list *list, hdl_bpe_slot slot)
{
    if (list->n == list->size) {
        uint32_t size = list->size > 0 ? 2 * list->size : 1024;
        hdl_bpe_slot *v = realloc(list->v, size * sizeof *v);
        if (v == NULL)
            return HDL_NOMEM;
        list->v = v;
        list->size = size;
    }
    list->v[list->n++] = slot;
    return HDL_OK;
}

static hdl_err push_splits(const hdl_bpe *bpe, hdl_token id, slot_list *list)
{
    const hdl_vocab_token *t = &bpe->vocab->tokens[id];
    for (size_t k = 1; k < t->raw_len; k++) {
        hdl_token left = hdl_vocab_find_raw(bpe->vocab, t->raw, k);
        hdl_token right =
            left >= 0 ? hdl_vocab_find_raw(bpe->vocab, t->raw + k, t->raw_len - k) : -1;
        if (right >= 0)
            HDL_TRY(push_slot(list,
                              (hdl_bpe_slot){hdl_bpe_pair(left, right), {bpe->ranks[id], id}}));
    }
    return HDL_OK;
}

/* Ranks of byte strings as rules for pairs of tokens: the same merges, found by two numbers and not
 * by a text. */
static hdl_err rules_of_ranks(hdl_bpe *bpe, hdl_pool_arena *arena)
{
    slot_list list = {0};
    hdl_err err = HDL_OK;
    for (uint32_t id = 0; id < bpe->vocab->n_ids && err == HDL_OK; id++)
        if (bpe->ranks[id] != HDL_BPE_NO_RANK)
            err = push_splits(bpe, (hdl_token)id, &list);
    bpe->opt.n_merges = list.n;
    if (err == HDL_OK)
        err = make_rules(bpe, arena);
    for (uint32_t i = 0; i < list.n && err == HDL_OK; i++)
        add_rule(bpe, list.v[i]);
    free(list.v);
    bpe->opt.by_vocab = false;
    return err;
}

hdl_err hdl_bpe_finish(hdl_bpe *bpe, hdl_pool_arena *arena)
{
    if (bpe->opt.by_vocab && !bpe->opt.chars && bpe->longest <= SPLIT_BYTES_MAX)
        HDL_TRY(rules_of_ranks(bpe, arena));
    const hdl_vocab *vocab = bpe->vocab;
    for (uint32_t i = 0; i < bpe->slots; i++)
        bpe->makes_special |=
            bpe->merges[i].pair != UINT64_MAX && vocab->tokens[bpe->merges[i].to.id].special;
    for (uint32_t i = 0; i < vocab->n_ids && bpe->opt.ignore_merges; i++)
        bpe->makes_special |= vocab->tokens[i].special && vocab->tokens[i].learned;
    if (bpe->opt.chars)
        return may_cut(bpe) ? find_adjacent(bpe, arena) : HDL_OK;
    if (bpe->opt.by_vocab)
        return HDL_OK;
    bpe->byte_pairs = hdl_pool_arena_alloc_array(arena, 256 * 256, sizeof *bpe->byte_pairs);
    if (bpe->byte_pairs == NULL)
        return HDL_NOMEM;
    for (unsigned a = 0; a < 256; a++)
        for (unsigned b = 0; b < 256; b++)
            bpe->byte_pairs[a << 8 | b] =
                hdl_bpe_find(bpe, hdl_bpe_pair(bpe->byte_ids[a], bpe->byte_ids[b]))->to;
    return HDL_OK;
}

hdl_err hdl_bpe_work_new(hdl_bpe_work **out)
{
    hdl_bpe_work *work = calloc(1, sizeof *work);
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

void hdl_bpe_work_free(hdl_bpe_work *work)
{
    if (work == NULL)
        return;
    hdl_bpe_give_back(work);
    hdl_words_deinit(&work->words);
    free(work);
}

void hdl_bpe_work_reset(hdl_bpe_work *work)
{
    hdl_words_reset(&work->words);
    hdl_bpe_give_back(work);
}

static hdl_err encode_piece(const hdl_bpe *bpe, hdl_bpe_work *work, hdl_text word, hdl_ids *out)
{
    if (word.len == 1 && !bpe->opt.chars) {
        hdl_token id = bpe->byte_ids[(unsigned char)word.p[0]];
        return id >= 0 ? hdl_ids_push(out, id) : HDL_OK;
    }
    hdl_word *slot = hdl_words_slot(&work->words, word);
    if (hdl_word_is(slot, word))
        return hdl_word_append(slot, out);
    hdl_token ids[HDL_BPE_SHORT_WORD];
    size_t n = 1;
    ids[0] = bpe->opt.ignore_merges ? hdl_vocab_find_raw(bpe->vocab, word.p, word.len) : -1;
    if (ids[0] < 0 && word.len > HDL_BPE_SHORT_WORD)
        return hdl_bpe_merge_long(bpe, work, word, out);
    if (ids[0] < 0)
        n = hdl_bpe_merge_short(bpe, word, ids);
    hdl_word_put(slot, word, ids, n);
    return hdl_ids_append(out, ids, n);
}

/* Piece by piece, cut where no token lies over the cut. */
static hdl_err encode_cut(const hdl_bpe *bpe, hdl_bpe_work *work, hdl_text word, hdl_ids *out)
{
    size_t from = 0, at = 0;
    for (uint32_t left = hdl_utf8_next(word.p, &at), right; at < word.len; left = right) {
        size_t cut = at;
        right = hdl_utf8_next(word.p, &at);
        size_t bit = adjacent_slot(bpe, left, right);
        if (bpe->adjacent[bit / 64] >> (bit % 64) & 1)
            continue;
        HDL_TRY(encode_piece(bpe, work, (hdl_text){word.p + from, cut - from}, out));
        from = cut;
    }
    return encode_piece(bpe, work, (hdl_text){word.p + from, word.len - from}, out);
}

hdl_err hdl_bpe_encode(const hdl_bpe *bpe, hdl_bpe_work *work, hdl_text word, hdl_ids *out)
{
    if (bpe->adjacent != NULL && word.len > HDL_WORD_BYTES_MAX)
        return encode_cut(bpe, work, word, out);
    return encode_piece(bpe, work, word, out);
}

hdl_err hdl_bpe_encode_unmerged(const hdl_bpe *bpe, hdl_text word, hdl_ids *out)
{
    for (size_t at = 0; at < word.len;) {
        size_t from = at;
        hdl_token ids[4];
        uint32_t starts[4];
        if (bpe->opt.chars)
            hdl_utf8_next(word.p, &at);
        else
            at++;
        hdl_text one = {word.p + from, at - from};
        size_t n = hdl_bpe_symbols(bpe, one, ids, starts);
        for (size_t i = 0; i < n; i++)
            HDL_TRY(ids[i] >= 0 ? hdl_ids_push(out, ids[i]) : hdl_bpe_push_unknown(bpe, one, out));
    }
    return HDL_OK;
}
