/* SPDX-License-Identifier: Apache-2.0 */
/* Merging against the definition, on random small vocabularies. */
#include "scheduler/text/bpe.h"

#include "base/rng.h"
#include "scheduler/text/utf8.h"
#include "text_help.h"

enum { LETTERS = 3, MERGES = 60, WORD_MAX = 300 };

typedef struct rig {
    hdl_pool_arena arena;
    hdl_vocab vocab;
    hdl_bpe bpe;
    hdl_token left[MERGES], right[MERGES], joined[MERGES];
    uint32_t n_merges;
} rig;

static hdl_token add_token(rig *r, const char *text, size_t len)
{
    hdl_token id = hdl_vocab_find(&r->vocab, text, len);
    if (id >= 0)
        return id;
    hdl_vocab_entry entry = {.text = text, .len = len, .id = r->vocab.n_ids, .learned = true};
    assert_ok(hdl_vocab_add(&r->vocab, &r->arena, &entry, NULL));
    return (hdl_token)entry.id;
}

/* All bytes, and merges of random earlier tokens made of the letters a, b, c. */
static void build(rig *r, hdl_rng *rng)
{
    *r = (rig){0};
    hdl_pool_arena_init(&r->arena, 64 << 20);
    assert_ok(hdl_vocab_init(&r->vocab, &r->arena, 256 + MERGES));
    for (unsigned b = 0; b < 256; b++) {
        char text[4];
        add_token(r, text, hdl_utf8_write(hdl_byte_char((unsigned char)b), text));
    }
    hdl_token pool[LETTERS + MERGES];
    uint32_t n_pool = LETTERS;
    for (int i = 0; i < LETTERS; i++)
        pool[i] = 'a' + i;
    for (uint32_t i = 0; i < MERGES; i++) {
        hdl_token a = pool[hdl_rng_below(rng, n_pool)], b = pool[hdl_rng_below(rng, n_pool)];
        const hdl_vocab_token *x = &r->vocab.tokens[a], *y = &r->vocab.tokens[b];
        char text[64];
        bool again = false;
        for (uint32_t k = 0; k < r->n_merges; k++)
            again |= r->left[k] == a && r->right[k] == b;
        if (again || x->text_len + y->text_len > sizeof text)
            continue;
        memcpy(text, x->text, x->text_len);
        memcpy(text + x->text_len, y->text, y->text_len);
        hdl_token id = add_token(r, text, x->text_len + y->text_len);
        r->left[r->n_merges] = a;
        r->right[r->n_merges] = b;
        r->joined[r->n_merges++] = id;
        pool[n_pool++] = id;
    }
    hdl_bpe_options opt = {.n_merges = r->n_merges, .unk = -1};
    assert_ok(hdl_bpe_init(&r->bpe, &r->arena, &r->vocab, &opt, NULL));
    for (uint32_t i = 0; i < r->n_merges; i++) {
        const hdl_vocab_token *x = &r->vocab.tokens[r->left[i]], *y = &r->vocab.tokens[r->right[i]];
        hdl_bpe_rule rule = {{x->text, x->text_len}, {y->text, y->text_len}, i};
        assert_ok(hdl_bpe_add_merge(&r->bpe, &rule, NULL));
    }
    assert_ok(hdl_bpe_finish(&r->bpe, &r->arena));
}

/* The definition: as long as there is a pair with a merge, the one with the lowest rank, the
 * leftmost of equals. */
static size_t naive(const rig *r, const char *word, size_t len, hdl_token *ids)
{
    size_t n = len;
    for (size_t i = 0; i < len; i++)
        ids[i] = r->bpe.byte_ids[(unsigned char)word[i]];
    for (;;) {
        uint32_t best = UINT32_MAX;
        size_t at = 0;
        for (size_t i = 0; i + 1 < n; i++)
            for (uint32_t k = 0; k < r->n_merges && k < best; k++)
                if (r->left[k] == ids[i] && r->right[k] == ids[i + 1]) {
                    best = k;
                    at = i;
                }
        if (best == UINT32_MAX)
            return n;
        ids[at] = r->joined[best];
        memmove(&ids[at + 1], &ids[at + 2], (n - at - 2) * sizeof *ids);
        n--;
    }
}

static void merges_as_defined(void **state)
{
    hdl_rng rng;
    hdl_bpe_work *work;
    (void)state;
    hdl_rng_init(&rng, 7);
    assert_ok(hdl_bpe_work_new(&work));
    for (int round = 0; round < 60; round++) {
        static rig r;
        build(&r, &rng);
        hdl_bpe_work_reset(work);
        for (int i = 0; i < 60; i++) {
            char word[WORD_MAX];
            hdl_token want[WORD_MAX];
            hdl_ids got;
            size_t len = hdl_rng_range(&rng, 1, i % 3 == 0 ? WORD_MAX : 60);
            for (size_t k = 0; k < len; k++)
                word[k] = (char)('a' + hdl_rng_below(&rng, LETTERS));
            size_t n = naive(&r, word, len, want);
            hdl_ids_init(&got, WORD_MAX);
            for (int twice = 0; twice < 2;
                 twice++) { /* the second time from the remembered words */
                got.n = 0;
                assert_ok(hdl_bpe_encode(&r.bpe, work, (hdl_text){word, len}, &got));
                assert_int_equal(got.n, n);
                assert_memory_equal(got.v, want, n * sizeof *want);
            }
            hdl_ids_deinit(&got);
        }
        hdl_pool_arena_deinit(&r.arena);
    }
    hdl_bpe_work_free(work);
}

/* One word of a million bytes: the suite's timeout is the check against a quadratic merge. */
static void a_huge_word_is_not_quadratic(void **state)
{
    enum { BYTES = 1000000 };
    static rig r;
    hdl_rng rng;
    hdl_bpe_work *work;
    hdl_ids ids;
    (void)state;
    hdl_rng_init(&rng, 9);
    build(&r, &rng);
    char *word = malloc(BYTES);
    for (size_t i = 0; i < BYTES; i++)
        word[i] = (char)('a' + hdl_rng_below(&rng, LETTERS));
    assert_ok(hdl_bpe_work_new(&work));
    hdl_ids_init(&ids, BYTES);
    assert_ok(hdl_bpe_encode(&r.bpe, work, (hdl_text){word, BYTES}, &ids));
    size_t bytes = 0;
    for (size_t i = 0; i < ids.n; i++)
        bytes += r.vocab.tokens[ids.v[i]].raw_len;
    assert_int_equal(bytes, BYTES);
    /* No cap that the word cannot fit is tried: more bytes than so many of the longest tokens have.
     */
    ids.n = 0;
    ids.cap = 10;
    assert_err(hdl_bpe_encode(&r.bpe, work, (hdl_text){word, BYTES}, &ids), BUSY);
    assert_int_equal(ids.n, 0);
    hdl_ids_deinit(&ids);
    hdl_bpe_work_free(work);
    hdl_pool_arena_deinit(&r.arena);
    free(word);
}

/* Falcon's vocabulary lacks some control characters. */
static void a_missing_byte_is_left_out(void **state)
{
    hdl_pool_arena arena;
    hdl_vocab vocab;
    hdl_bpe bpe;
    hdl_bpe_work *work;
    hdl_ids ids;
    hdl_errmsg why = {""};
    static const char *const texts[] = {"a", "b", "ab"};
    (void)state;
    hdl_pool_arena_init(&arena, 64 << 20);
    vocab.plain = false;
    assert_ok(hdl_vocab_init(&vocab, &arena, 4));
    for (uint32_t i = 0; i < 3; i++) {
        hdl_vocab_entry entry = {.text = texts[i], .len = strlen(texts[i]), .id = i};
        entry.learned = true;
        assert_ok(hdl_vocab_add(&vocab, &arena, &entry, NULL));
    }
    hdl_bpe_options opt = {.unk = -1, .n_merges = 1};
    assert_ok(hdl_bpe_init(&bpe, &arena, &vocab, &opt, &why));
    assert_ok(hdl_bpe_add_merge(&bpe, &(hdl_bpe_rule){{"a", 1}, {"b", 1}, 0}, &why));
    assert_ok(hdl_bpe_finish(&bpe, &arena));
    assert_ok(hdl_bpe_work_new(&work));
    hdl_ids_init(&ids, 100);
    assert_ok(hdl_bpe_encode(&bpe, work, (hdl_text){"acb", 3}, &ids)); /* neighbours then */
    assert_ok(hdl_bpe_encode(&bpe, work, (hdl_text){"c", 1}, &ids));
    assert_int_equal(ids.n, 1);
    assert_int_equal(ids.v[0], 2);
    hdl_ids_deinit(&ids);
    hdl_bpe_work_free(work);
    opt.by_vocab = true; /* formats that have each byte as a token */
    assert_err(hdl_bpe_init(&bpe, &arena, &vocab, &opt, &why), INVALID);
    assert_has(why.text, "byte 0x00");
    hdl_pool_arena_deinit(&arena);
}

static void the_byte_map_is_gpt2s(void **state)
{
    bool seen[0x200] = {false};
    (void)state;
    for (unsigned b = 0; b < 256; b++) {
        uint32_t c = hdl_byte_char((unsigned char)b);
        assert_true(c < 0x200 && !seen[c]);
        seen[c] = true;
        assert_int_equal(hdl_char_byte(c), b);
    }
    for (uint32_t c = 0; c < 0x300; c++)
        assert_int_equal(hdl_char_byte(c) >= 0, c < 0x200 && seen[c]);
    assert_int_equal(hdl_byte_char(' '), 0x120);
    assert_int_equal(hdl_byte_char('\n'), 0x10a);
    assert_int_equal(hdl_byte_char(0xad), 0x143);
    assert_int_equal(hdl_byte_char('!'), '!');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_byte_map_is_gpt2s),
        cmocka_unit_test(merges_as_defined),
        cmocka_unit_test(a_huge_word_is_not_quadratic),
        cmocka_unit_test(a_missing_byte_is_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
