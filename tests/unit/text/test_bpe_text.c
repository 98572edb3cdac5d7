/* SPDX-License-Identifier: Apache-2.0 */
/* Merging of characters and merging by the vocabulary, against the definition, on random small
 * vocabularies of plain text. */
#include "scheduler/text/bpe.h"

#include "base/rng.h"
#include "scheduler/text/utf8.h"
#include "text_help.h"

enum { TOKENS = 90, WORD_MAX = 400, LETTERS = 5 };

/* Two letters without a token of their own: one of them is part of longer ones. */
static const char *const letters[LETTERS] = {"a", "b", "\xc3\xa4", "\xe2\x96\x81",
                                             "\xf0\x9f\x98\x80"};

typedef struct rig {
    hdl_pool_arena arena;
    hdl_vocab vocab;
    hdl_bpe bpe;
    bool fallback;
} rig;

static void add(rig *r, const char *text, size_t len, bool learned)
{
    hdl_vocab_entry entry = {.text = text, .len = len, .id = r->vocab.n_ids, .learned = learned};
    if (hdl_vocab_find(&r->vocab, text, len) < 0)
        assert_ok(hdl_vocab_add(&r->vocab, &r->arena, &entry, NULL));
}

/* Tokens of up to six random letters; ranks from few values, so that many are equal. */
static void build(rig *r, hdl_rng *rng, bool fallback)
{
    *r = (rig){.vocab.plain = true, .fallback = fallback};
    hdl_pool_arena_init(&r->arena, 64 << 20);
    assert_ok(hdl_vocab_init(&r->vocab, &r->arena, 300 + TOKENS));
    add(r, "<unk>", 5, false);
    for (unsigned b = 0; b < 256 && fallback; b++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", b);
        add(r, text, 6, false);
    }
    for (int i = 0; i < 3; i++)
        add(r, letters[i], strlen(letters[i]), true);
    for (int i = 0; i < TOKENS; i++) {
        char text[64];
        size_t len = 0, n = hdl_rng_range(rng, 2, 6);
        for (size_t k = 0; k < n; k++) {
            const char *letter = letters[hdl_rng_below(rng, LETTERS - 1)];
            memcpy(text + len, letter, strlen(letter));
            len += strlen(letter);
        }
        add(r, text, len, true);
    }
    hdl_bpe_options opt = {
        .chars = true, .by_vocab = true, .byte_fallback = fallback, .unk = fallback ? -1 : 0};
    assert_ok(hdl_bpe_init(&r->bpe, &r->arena, &r->vocab, &opt, NULL));
    for (uint32_t i = 0; i < r->vocab.n_ids; i++)
        if (r->vocab.tokens[i].learned)
            hdl_bpe_set_rank(&r->bpe, (hdl_token)i, (uint32_t)hdl_rng_below(rng, 20));
    assert_ok(hdl_bpe_finish(&r->bpe, &r->arena));
}

/* The definition: join the two neighbours that together are the token of the lowest rank, the
 * leftmost of equals, until no two are one; then ids, or bytes, or unk. */
static size_t naive(const rig *r, hdl_text word, hdl_token *out)
{
    size_t at[WORD_MAX + 1], n = 0, n_out = 0;
    for (size_t i = 0; i < word.len; hdl_utf8_next(word.p, &i))
        at[n++] = i;
    at[n] = word.len;
    for (;;) {
        uint32_t best = UINT32_MAX;
        size_t where = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            hdl_token id = hdl_vocab_find(&r->vocab, word.p + at[i], at[i + 2] - at[i]);
            if (id >= 0 && r->bpe.ranks[id] < best) {
                best = r->bpe.ranks[id];
                where = i;
            }
        }
        if (best == UINT32_MAX)
            break;
        memmove(&at[where + 1], &at[where + 2], (n - where - 1) * sizeof *at);
        n--;
    }
    for (size_t i = 0; i < n; i++) {
        hdl_token id = hdl_vocab_find(&r->vocab, word.p + at[i], at[i + 1] - at[i]);
        if (id >= 0 || !r->fallback)
            out[n_out++] = id >= 0 ? id : 0;
        for (size_t k = at[i]; k < at[i + 1] && id < 0 && r->fallback; k++)
            out[n_out++] = 1 + (unsigned char)word.p[k];
    }
    return n_out;
}

static void check_word(const rig *r, hdl_bpe_work *work, hdl_text word)
{
    hdl_token want[WORD_MAX];
    hdl_ids got;
    size_t n = naive(r, word, want);
    hdl_ids_init(&got, WORD_MAX);
    for (int twice = 0; twice < 2; twice++) { /* the second time from the remembered words */
        got.n = 0;
        assert_ok(hdl_bpe_encode(&r->bpe, work, word, &got));
        if (got.n != n || memcmp(got.v, want, n * sizeof *want) != 0)
            fail_msg("\"%.*s\" became other ids than defined", (int)word.len, word.p);
    }
    hdl_ids_deinit(&got);
}

static void texts_merge_as_defined(void **state)
{
    hdl_rng rng;
    hdl_bpe_work *work;
    (void)state;
    hdl_rng_init(&rng, 11);
    assert_ok(hdl_bpe_work_new(&work));
    for (int round = 0; round < 60; round++) {
        static rig r;
        build(&r, &rng, round % 2);
        hdl_bpe_work_reset(work);
        assert_true((r.bpe.adjacent != NULL) == r.fallback);
        for (int i = 0; i < 60; i++) {
            char word[WORD_MAX];
            size_t len = 0, max = i % 3 == 0 ? WORD_MAX - 4 : hdl_rng_range(&rng, 5, 60);
            while (len + 4 <= max) {
                const char *letter = letters[hdl_rng_below(&rng, LETTERS)];
                memcpy(word + len, letter, strlen(letter));
                len += strlen(letter);
            }
            check_word(&r, work, (hdl_text){word, len});
        }
        hdl_pool_arena_deinit(&r.arena);
    }
    hdl_bpe_work_free(work);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(texts_merge_as_defined)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
