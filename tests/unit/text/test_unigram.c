/* SPDX-License-Identifier: Apache-2.0 */
/* Unigram against trying every split. */
#include "scheduler/text/unigram.h"

#include "base/rng.h"
#include "text_help.h"

enum { LETTERS = 3, TOKENS = 25, WORD_MAX = 11 };

typedef struct rig {
    hdl_pool_arena arena;
    hdl_vocab vocab;
    hdl_unigram unigram;
} rig;

static void add(rig *r, const char *text, size_t len, bool special)
{
    hdl_vocab_entry entry = {
        .text = text, .len = len, .id = r->vocab.n_ids, .learned = true, .special = special};
    if (hdl_vocab_find(&r->vocab, text, len) < 0)
        assert_ok(hdl_vocab_add(&r->vocab, &r->arena, &entry, NULL));
}

/* unk; "ab" as a special token; random tokens of a and b, scored so that no two sums are equal; c
 * has none. */
static void build(rig *r, hdl_rng *rng)
{
    *r = (rig){.vocab.plain = true};
    hdl_pool_arena_init(&r->arena, 64 << 20);
    assert_ok(hdl_vocab_init(&r->vocab, &r->arena, TOKENS + 4));
    add(r, "<unk>", 5, true);
    add(r, "ab", 2, true);
    for (int i = 0; i < TOKENS; i++) {
        char text[4];
        size_t len = hdl_rng_range(rng, 1, 4);
        for (size_t k = 0; k < len; k++)
            text[k] = (char)('a' + hdl_rng_below(rng, LETTERS - 1));
        add(r, text, len, false);
    }
    double *scores = hdl_pool_arena_alloc_array(&r->arena, TOKENS + 4, sizeof *scores);
    double least = 0;
    for (uint32_t i = 0; i < r->vocab.n_ids; i++) {
        scores[i] = -1 - (double)hdl_rng_below(rng, 1 << 20) / (1 << 17);
        least = scores[i] < least ? scores[i] : least;
    }
    r->unigram.scores = scores;
    hdl_unigram_options opt = {.unk = 0, .score_min = least};
    assert_ok(hdl_unigram_init(&r->unigram, &r->arena, &r->vocab, &opt));
}

typedef struct best {
    double score;
    hdl_token ids[WORD_MAX], trial[WORD_MAX];
    size_t n;
    bool any, tie; /* two ways are as good: which one is taken is the goldens' affair */
} best;

/* Every way from `at` on, with n tokens so far. */
static void try_all(const rig *r, hdl_unigram_word word, size_t at, size_t n, double score, best *b)
{
    if (at == word.text.len) {
        double ahead = b->any ? score - b->score : 1;
        b->tie = ahead > 1e-9 ? false : b->tie || ahead > -1e-9;
        if (ahead > 0) {
            b->any = true;
            b->score = score;
            b->n = 0;
            for (size_t i = 0; i < n; i++) /* neighbouring unks are one */
                if (i == 0 || b->trial[i] != 0 || b->trial[i - 1] != 0)
                    b->ids[b->n++] = b->trial[i];
        }
        return;
    }
    bool alone = false;
    for (size_t len = 1; len <= word.text.len - at; len++) {
        hdl_token id = hdl_vocab_find(&r->vocab, word.text.p + at, len);
        if (id < 0 || (word.special_is_text && r->vocab.tokens[id].special))
            continue;
        alone |= len == 1;
        b->trial[n] = id;
        try_all(r, word, at + len, n + 1, score + r->unigram.scores[id], b);
    }
    b->trial[n] = 0;
    if (!alone)
        try_all(r, word, at + 1, n + 1, score + r->unigram.unk_score, b);
}

static void the_best_split_is_found(void **state)
{
    hdl_rng rng;
    hdl_unigram_work *work;
    hdl_ids got;
    (void)state;
    hdl_rng_init(&rng, 13);
    hdl_ids_init(&got, WORD_MAX);
    assert_ok(hdl_unigram_work_new(&work));
    for (int round = 0; round < 40; round++) {
        static rig r;
        build(&r, &rng);
        hdl_unigram_work_reset(work);
        for (int i = 0; i < 100; i++) {
            char text[WORD_MAX];
            size_t len = hdl_rng_range(&rng, 1, WORD_MAX);
            for (size_t k = 0; k < len; k++)
                text[k] = (char)('a' + hdl_rng_below(&rng, LETTERS));
            for (int pass = 0; pass < 4; pass++) { /* both kinds, then remembered */
                hdl_unigram_word word = {{text, len}, pass % 2};
                best b = {0};
                try_all(&r, word, 0, 0, 0, &b);
                got.n = 0;
                assert_ok(hdl_unigram_encode(&r.unigram, work, word, &got));
                if (b.tie)
                    continue;
                if (got.n != b.n || memcmp(got.v, b.ids, b.n * sizeof *b.ids) != 0)
                    fail_msg("\"%.*s\" (pass %d) is not split as defined", (int)len, text, pass);
            }
        }
        hdl_pool_arena_deinit(&r.arena);
    }
    hdl_ids_deinit(&got);
    hdl_unigram_work_free(work);
}

static void without_unk_the_unknown_is_refused(void **state)
{
    rig r;
    hdl_rng rng;
    hdl_unigram_work *work;
    hdl_ids got;
    (void)state;
    hdl_rng_init(&rng, 17);
    build(&r, &rng);
    r.unigram.unk = -1;
    assert_ok(hdl_unigram_work_new(&work));
    hdl_ids_init(&got, 10);
    hdl_unigram_word word = {{"c", 1}, false};
    assert_err(hdl_unigram_encode(&r.unigram, work, word, &got), INVALID);
    hdl_ids_deinit(&got);
    hdl_unigram_work_free(work);
    hdl_pool_arena_deinit(&r.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_best_split_is_found),
                                       cmocka_unit_test(without_unk_the_unknown_is_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
