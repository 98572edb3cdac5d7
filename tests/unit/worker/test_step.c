/* SPDX-License-Identifier: Apache-2.0 */
/* One step after another on one rank: greedy generation, chunking, feedback, refused plans. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rig.h"

static char model[256];

static const hdl_token prompt[] = {3, 14, 15, 92, 65, 35, 89, 79, 32, 38};
enum { PROMPT = 10, NEW = 40 };

typedef struct generation {
    uint32_t chunk;
    hdl_token out[NEW];
} generation;

/* Prompt in chunks, then NEW greedy tokens by feedback. */
static void generate(rig_rank *r)
{
    generation *g = r->arg;
    rig_plan *p = &r->plan;
    hdl_sampling greedy = rig_greedy();
    hdl_result result = {0};
    for (uint32_t pos = 0; pos < PROMPT; pos += g->chunk) {
        uint32_t n = hdl_min_u32(g->chunk, PROMPT - pos);
        rig_next(p);
        if (pos == 0)
            rig_open(p, 0, &greedy);
        rig_row(p, 0, pos, prompt + pos, n, pos + n == PROMPT ? HDL_ROW_SAMPLE : 0);
        result = rig_step(r);
    }
    for (uint32_t i = 0; i < NEW; i++) {
        assert_int_equal(result.n_rows, 1);
        assert_int_equal(result.rows[0].pos, PROMPT + i);
        g->out[i] = result.rows[0].token;
        rig_next(p);
        rig_row(p, 0, PROMPT + i, NULL, 1, HDL_ROW_SAMPLE);
        result = rig_step(r);
    }
}

static void test_greedy_is_the_same_in_chunks(void **state)
{
    (void)state;
    generation whole = {.chunk = PROMPT}, one = {.chunk = 1}, three = {.chunk = 3};
    generation *all[] = {&whole, &one, &three};
    for (size_t i = 0; i < HDL_ARRAY_LEN(all); i++) {
        rig_group group = {.opts = {.model_path = model}, .script = generate, .arg = all[i]};
        rig_run(&group);
        assert_memory_equal(all[i]->out, whole.out, sizeof(whole.out));
    }
    /* A model of random weights still has something to say. */
    uint32_t changes = 0;
    for (uint32_t i = 1; i < NEW; i++)
        changes += whole.out[i] != whole.out[i - 1];
    assert_true(changes > 3);
}

static int setup(void **state)
{
    (void)state;
    rig_make_model(model, rig_config_moe, HDL_DTYPE_BF16);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig_remove(model);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy_is_the_same_in_chunks),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
