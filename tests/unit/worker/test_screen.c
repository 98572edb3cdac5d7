/* SPDX-License-Identifier: Apache-2.0 */
/* A head with a screen gives the tokens that it gives without: greedy and sampled, alone and beside
 * each other, with guesses, on one rank and on several, with a softcap, from the packed cache.
 * Where sampling looks at more than the largest logits, nothing is screened. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/fs.h"
#include "rig.h"

enum { PROMPT = 6, NEW = 40, VOCAB = 1003, SLOTS = 4 };

static const hdl_token prompt[PROMPT] = {3, 141, 592, 653, 58, 979};

/* A failure in a rank's thread cannot unwind into cmocka. */
#define MUST(cond)                                                                                 \
    ((cond) ? (void)0                                                                              \
            : (fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond), abort(), (void)0))

typedef struct talk {
    const hdl_sampling *params; /* [n_slots] */
    uint32_t n_slots;
    bool guesses; /* the first slot guesses two tokens in every step, in vain as a rule */
    hdl_token tokens[SLOTS][NEW];
    hdl_worker_screened screened; /* rank 0's */
} talk;

static void add_row(rig_rank *r, const talk *t, uint32_t slot, uint32_t done)
{
    const hdl_token ids[] = {-1, 7, 11};
    if (t->guesses && slot == 0 && done + 2 < NEW)
        rig_row(&r->plan, slot, PROMPT + done - 1, ids, 3,
                HDL_ROW_SAMPLE | HDL_ROW_GUESS | HDL_ROW_FEEDBACK);
    else
        rig_row(&r->plan, slot, PROMPT + done - 1, NULL, 1, HDL_ROW_SAMPLE);
}

static void converse(rig_rank *r)
{
    talk *t = r->arg;
    rig_next(&r->plan);
    for (uint32_t s = 0; s < t->n_slots; s++) {
        rig_open(&r->plan, s, &t->params[s]);
        rig_row(&r->plan, s, 0, prompt, PROMPT - s, HDL_ROW_SAMPLE);
    }
    for (uint32_t done = 0; done < NEW; done++) {
        hdl_result result = rig_step(r);
        for (uint32_t i = 0; r->rank == 0 && i < result.n_rows; i++) {
            const hdl_result_row *row = &result.rows[i];
            if (row->pos - (PROMPT - row->slot) == done) /* not a guess that came true */
                t->tokens[row->slot][done] = row->token;
        }
        rig_next(&r->plan);
        for (uint32_t s = 0; s < t->n_slots; s++)
            if (t->guesses && s == 0)
                add_row(r, t, s, done + 1);
            else
                rig_row(&r->plan, s, PROMPT - s + done, NULL, 1, HDL_ROW_SAMPLE);
    }
    if (r->rank == 0)
        t->screened = hdl_worker_get_screened(r->worker);
}

static char model[256], cache[64];

static void run(talk *t, hdl_head_screen screen, hdl_worker_opts opts)
{
    opts.model_path = model;
    opts.weights = HDL_WFORMAT_COUNT;
    opts.head_screen = screen;
    opts.n_threads = opts.n_threads ? opts.n_threads : 1;
    memset(t->tokens, 0xff, sizeof t->tokens);
    rig_run(&(rig_group){.opts = opts, .script = converse, .arg = t});
}

static void make(const char *config, const char *vocab)
{
    char text[4096];
    const char *at = strstr(config, vocab);
    assert_non_null(at);
    snprintf(text, sizeof text, "%.*s\"vocab_size\":%d%s", (int)(at - config), config, VOCAB,
             at + strlen(vocab));
    rig_make_model(model, text, HDL_DTYPE_BF16);
}

static hdl_sampling sampled(float temperature, int32_t top_k, uint64_t seed)
{
    hdl_sampling p = rig_greedy();
    p.temperature = temperature;
    p.top_k = top_k;
    p.seed = seed;
    return p;
}

/* On and off, in the layouts and thread counts of interest; the screen's counts of rank 0. */
static void check(talk *t, bool is_screened)
{
    static const hdl_worker_opts all[] = {{.n_threads = 1},
                                          {.n_threads = 3},
                                          {.layout = {.tp = 2}},
                                          {.layout = {.tp = 4}, .n_threads = 2},
                                          {.isa = HDL_ISA_REF}};
    talk off = *t;
    run(&off, HDL_HEAD_SCREEN_OFF, (hdl_worker_opts){0});
    assert_int_equal(0, off.screened.tokens);
    for (size_t i = 0; i < HDL_ARRAY_LEN(all); i++) {
        run(t, HDL_HEAD_SCREEN_ON, all[i]);
        assert_memory_equal(off.tokens, t->tokens, sizeof t->tokens);
        assert_int_equal(is_screened, t->screened.tokens > 0);
        assert_true(t->screened.tiles <= t->screened.all_tiles);
    }
}

static int setup(void **state)
{
    hdl_errmsg why;
    (void)state;
    make(rig_config_llama, "\"vocab_size\":97");
    return hdl_fs_mkdtemp(cache, sizeof cache, "heddle-screen-", &why) == HDL_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    rig_remove(model);
    return hdl_fs_remove_tree(cache) == HDL_OK ? 0 : -1;
}

static void greedy(void **state)
{
    const hdl_sampling params[] = {rig_greedy()};
    talk t = {.params = params, .n_slots = 1};
    (void)state;
    check(&t, true);
    assert_true(t.screened.tiles < t.screened.all_tiles); /* on ref */
}

static void top_k_and_filters(void **state)
{
    hdl_sampling params[] = {sampled(0.8f, 20, 1), sampled(1, 1, 2), sampled(3.3f, 64, 3),
                             sampled(0.05f, 5, 4)};
    talk t = {.params = params, .n_slots = SLOTS};
    (void)state;
    params[0].top_p = 0.7f;
    params[2].min_p = 0.3f;
    check(&t, true);
}

static void guesses(void **state)
{
    const hdl_sampling params[] = {rig_greedy(), sampled(0.9f, 30, 5)};
    talk t = {.params = params, .n_slots = 2, .guesses = true};
    (void)state;
    check(&t, true);
}

/* One that looks at all logits keeps the step from being screened, and is right itself. */
static void all_logits(void **state)
{
    static const hdl_bias bias = {.token = 11, .bias = 3};
    hdl_sampling seeing[] = {sampled(1, 0, 1),  sampled(1, 65, 1), sampled(1, 20, 1),
                             sampled(1, 20, 1), rig_greedy(),      rig_greedy()};
    (void)state;
    seeing[2].n_bias = 1;
    seeing[2].bias = &bias;
    seeing[3].n_logprobs = 0;
    seeing[4].presence_penalty = 0.5f;
    seeing[5].repetition_penalty = 1.1f;
    for (size_t i = 0; i < HDL_ARRAY_LEN(seeing); i++) {
        const hdl_sampling params[] = {rig_greedy(), seeing[i]};
        talk t = {.params = params, .n_slots = 2};
        check(&t, false);
    }
}

static void packed_cache(void **state)
{
    const hdl_sampling params[] = {rig_greedy(), sampled(0.9f, 30, 5)};
    talk off = {.params = params, .n_slots = 2}, t = off;
    (void)state;
    run(&off, HDL_HEAD_SCREEN_OFF, (hdl_worker_opts){.packed_cache = cache});
    for (int i = 0; i < 2; i++) { /* written, then read */
        run(&t, HDL_HEAD_SCREEN_ON, (hdl_worker_opts){.packed_cache = cache});
        assert_memory_equal(off.tokens, t.tokens, sizeof t.tokens);
        assert_true(t.screened.tokens > 0 && t.screened.tiles < t.screened.all_tiles);
    }
}

/* Small heads are not worth it, and integers have no bits to save. */
static void automatic(void **state)
{
    const hdl_sampling params[] = {rig_greedy()};
    talk t = {.params = params, .n_slots = 1};
    (void)state;
    run(&t, HDL_HEAD_SCREEN_AUTO, (hdl_worker_opts){0});
    assert_int_equal(0, t.screened.tokens);
    hdl_worker_opts q8 = {.model_path = model,
                          .weights = HDL_WFORMAT_Q8,
                          .head_screen = HDL_HEAD_SCREEN_ON,
                          .n_threads = 1};
    rig_run(&(rig_group){.opts = q8, .script = converse, .arg = &t});
    assert_int_equal(0, t.screened.tokens);
}

static int setup_gemma(void **state)
{
    size_t len;
    (void)state;
    char *config = rig_read(HDL_SOURCE_DIR "/tests/golden/models/gemma2.json", &len);
    make(config, "\"vocab_size\": 97");
    free(config);
    return 0;
}

static int teardown_gemma(void **state)
{
    (void)state;
    rig_remove(model);
    return 0;
}

static void softcap(void **state)
{
    const hdl_sampling params[] = {rig_greedy(), sampled(0.9f, 30, 5)};
    talk t = {.params = params, .n_slots = 2};
    (void)state;
    check(&t, true);
}

/* Of these tokens most of the 16 tiles of a rank are computed: after 64 no more are screened. */
static void gives_up(void **state)
{
    const hdl_sampling params[] = {rig_greedy(), sampled(0.9f, 64, 5)};
    talk t = {.params = params, .n_slots = 2};
    (void)state;
    run(&t, HDL_HEAD_SCREEN_ON, (hdl_worker_opts){.layout = {.tp = 4}});
    assert_int_equal(64, t.screened.tokens);
    assert_true(t.screened.tiles * 8 > t.screened.all_tiles);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy),       cmocka_unit_test(top_k_and_filters),
        cmocka_unit_test(guesses),      cmocka_unit_test(all_logits),
        cmocka_unit_test(packed_cache), cmocka_unit_test(automatic),
    };
    const struct CMUnitTest gemma[] = {cmocka_unit_test(softcap), cmocka_unit_test(gives_up)};
    int rc = cmocka_run_group_tests(tests, setup, teardown);
    return rc + cmocka_run_group_tests(gemma, setup_gemma, teardown_gemma);
}
