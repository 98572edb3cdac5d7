/* SPDX-License-Identifier: Apache-2.0 */
/* Rows with guesses give the tokens and log-probabilities of plain decoding: whatever is guessed,
 * greedy and sampled, with penalties, alone and in a batch, on one rank and on several. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <heddle/device.h>

#include "base/assert.h"
#include "rig.h"

enum { PROMPT = 10, NEW = 50, VOCAB = 97, SLOTS = 6 };

static const hdl_token prompt[] = {3, 14, 15, 92, 65, 35, 89, 79, 32, 38};

/* A failure in a rank's thread cannot unwind into cmocka. */
#define MUST(cond)                                                                                 \
    ((cond) ? (void)0                                                                              \
            : (fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond), abort(), (void)0))

/* NULL: the CPU. Fibers are slow: fewer tokens then. */
static const hdl_plugin *plugin;
static uint32_t length = NEW;

typedef struct answer {
    hdl_token tokens[NEW];
    float logprobs[NEW];
} answer;

typedef struct talk {
    hdl_sampling params; /* with slot's number added to the seed */
    uint32_t n_slots;
    uint32_t most;                   /* guesses of a row; 0: plain decoding */
    answer out[SLOTS], known[SLOTS]; /* known: what plain decoding gave, to guess from */
    uint32_t n_held, n_rows;         /* counted by rank 0 */
} talk;

/* Row number i of a slot guesses up to `most` tokens, of which the first `right` are. */
typedef struct guessing {
    uint32_t n, right;
} guessing;

static guessing guess(const talk *t, uint32_t slot, uint32_t i, uint32_t done)
{
    if (slot % 3 == 2) /* it decodes plainly beside the others */
        return (guessing){0, 0};
    const uint32_t n = hdl_min_u32(t->most, length - 1 - done);
    const uint32_t right = (i * 7 + slot * 3) % (t->most + 2);
    return (guessing){n, hdl_min_u32(right, n)};
}

static void open_all(rig_rank *r, const talk *t)
{
    rig_next(&r->plan);
    for (uint32_t s = 0; s < t->n_slots; s++) {
        hdl_sampling params = t->params;
        params.seed += s;
        rig_open(&r->plan, s, &params);
        rig_row(&r->plan, s, 0, prompt, PROMPT, HDL_ROW_SAMPLE);
    }
}

/* Adds the row of a slot that knows `done` tokens; every other one leaves the first to the worker.
 */
static guessing add_row(rig_rank *r, const talk *t, uint32_t slot, uint32_t i, uint32_t done)
{
    const answer *known = &t->known[slot];
    const guessing g = guess(t, slot, i, done);
    if (g.n == 0) {
        rig_row(&r->plan, slot, PROMPT + done - 1, NULL, 1, HDL_ROW_SAMPLE);
        return g;
    }
    hdl_token ids[1 + HDL_GUESSES_MAX];
    for (uint32_t k = 0; k <= g.n; k++)
        ids[k] = (known->tokens[done - 1 + k] + (k > g.right)) % VOCAB;
    uint32_t flags = HDL_ROW_SAMPLE | HDL_ROW_GUESS;
    if (i % 2) {
        ids[0] = -1;
        flags |= HDL_ROW_FEEDBACK;
    }
    rig_row(&r->plan, slot, PROMPT + done - 1, ids, 1 + g.n, flags);
    return g;
}

static void take(talk *t, const hdl_result *result, uint32_t *at, uint32_t slot, uint32_t pos)
{
    const hdl_result_row *row = &result->rows[*at];
    MUST(*at < result->n_rows && row->slot == slot && row->pos == PROMPT + pos && !row->scored);
    t->out[slot].tokens[pos] = row->token;
    t->out[slot].logprobs[pos] = t->params.n_logprobs < 0 ? 0 : rig_prob(result, *at);
    ++*at;
}

static void converse(rig_rank *r)
{
    talk *t = r->arg;
    uint32_t done[SLOTS], left = t->n_slots;
    open_all(r, t);
    hdl_result result = rig_step(r);
    uint32_t at = 0;
    for (uint32_t s = 0; s < t->n_slots; s++) {
        done[s] = 1;
        if (r->rank == 0)
            take(t, &result, &at, s, 0);
    }
    for (uint32_t i = 0; left > 0; i++) {
        guessing gs[SLOTS] = {{0}};
        rig_next(&r->plan);
        for (uint32_t s = 0; s < t->n_slots; s++)
            if (done[s] < length)
                gs[s] = add_row(r, t, s, i, done[s]);
        result = rig_step(r);
        at = 0;
        for (uint32_t s = 0; s < t->n_slots; s++) {
            if (done[s] == length)
                continue;
            for (uint32_t k = 0; k <= gs[s].right; k++, done[s]++)
                if (r->rank == 0)
                    take(t, &result, &at, s, done[s]);
            if (r->rank == 0)
                t->n_held += gs[s].right, t->n_rows++;
            left -= done[s] == length;
        }
        if (r->rank == 0)
            MUST(at == result.n_rows); /* nothing behind the first wrong guess */
    }
}

static void run(talk *t, const char *model, hdl_layout layout)
{
    rig_group group = {.opts = {.model_path = model,
                                .layout = layout,
                                .n_threads = 2,
                                .plugin = plugin,
                                .gpu_order = t->most % 3 /* fibers */},
                       .coll = layout.tp * layout.ep > 1 ? "check+shm" : NULL,
                       .script = converse,
                       .arg = t};
    rig_run(&group);
}

static void compare(const char *model, const hdl_sampling *params, hdl_layout layout)
{
    static talk plain, guessed;
    plain = (talk){.params = *params, .n_slots = SLOTS};
    run(&plain, model, (hdl_layout){.tp = 1, .ep = 1});
    for (uint32_t most = 1; most <= HDL_GUESSES_MAX; most = plugin ? 4 * most : 2 * most + 1) {
        for (uint32_t n_slots = 1; n_slots <= SLOTS; n_slots += SLOTS - 1) {
            guessed = (talk){.params = *params, .n_slots = n_slots, .most = most};
            memcpy(guessed.known, plain.out, sizeof guessed.known);
            run(&guessed, model, layout);
            for (uint32_t s = 0; s < n_slots; s++) {
                assert_memory_equal(guessed.out[s].tokens, plain.out[s].tokens,
                                    sizeof plain.out[s].tokens);
                assert_memory_equal(guessed.out[s].logprobs, plain.out[s].logprobs,
                                    sizeof plain.out[s].logprobs);
            }
            assert_true(guessed.n_held > 0 && guessed.n_rows < n_slots * length);
        }
    }
}

static hdl_sampling hot(void)
{
    hdl_sampling p = rig_greedy();
    p.temperature = 1.3f;
    p.top_p = 0.95f;
    p.seed = 77;
    p.repetition_penalty = 1.2f; /* each token depends on those before it */
    p.frequency_penalty = 0.3f;
    p.n_logprobs = 2;
    return p;
}

static void test_dense(void **state)
{
    (void)state;
    char model[256];
    hdl_sampling greedy = rig_greedy(), sampled = hot();
    rig_make_model(model, rig_config_llama, HDL_DTYPE_BF16);
    compare(model, &greedy, (hdl_layout){.tp = 1, .ep = 1});
    compare(model, &sampled, (hdl_layout){.tp = 1, .ep = 1});
    compare(model, &greedy, (hdl_layout){.tp = 2, .ep = 1});
    compare(model, &sampled, (hdl_layout){.tp = 2, .ep = 1});
    rig_remove(model);
}

static void test_mixture(void **state)
{
    (void)state;
    char model[256];
    hdl_sampling sampled = hot();
    rig_make_model(model, rig_config_moe, HDL_DTYPE_BF16);
    compare(model, &sampled, (hdl_layout){.tp = 1, .ep = 1});
    compare(model, &sampled, (hdl_layout){.tp = 2, .ep = 2});
    rig_remove(model);
}

static void test_device(void **state)
{
    (void)state;
    char model[256];
    hdl_sampling sampled = hot();
    length = 18;
    rig_make_model(model, rig_config_llama, HDL_DTYPE_BF16);
    compare(model, &sampled, (hdl_layout){.tp = 1, .ep = 1});
    rig_remove(model);
}

/* A window that ends inside a block, beside a layer that sees everything. */
static void test_window(void **state)
{
    static const char config[] =
        "{\"architectures\":[\"MinistralForCausalLM\"],\"model_type\":\"ministral\",\"vocab_size\":"
        "97,"
        "\"hidden_size\":64,\"intermediate_size\":128,\"num_hidden_layers\":3,"
        "\"num_attention_heads\":8,\"num_key_value_heads\":4,\"head_dim\":16,"
        "\"hidden_act\":\"silu\",\"rms_norm_eps\":1e-5,\"rope_theta\":10000.0,"
        "\"max_position_embeddings\":256,\"tie_word_embeddings\":false,\"sliding_window\":20,"
        "\"layer_types\":[\"sliding_attention\",\"full_attention\",\"sliding_attention\"]}";
    (void)state;
    char model[256];
    hdl_sampling sampled = hot();
    rig_make_model(model, config, HDL_DTYPE_BF16);
    compare(model, &sampled, (hdl_layout){.tp = 2, .ep = 1});
    rig_remove(model);
}

/* Several rows of a sequence through a device's attention, qkv_rope and sampling: `test_guess
 * FILE`. */
static int on_device(const char *file)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_device)};
    hdl_errmsg why = {0};
    if (hdl_plugin_load(&plugin, file, &why) != HDL_OK) {
        fprintf(stderr, "%s\n", why.text);
        return 2;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    if (argc == 2)
        return on_device(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dense),
        cmocka_unit_test(test_mixture),
        cmocka_unit_test(test_window),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
