/* SPDX-License-Identifier: Apache-2.0 */
/* Rotary tables: which factors LongRoPE takes, parts of a table, scales of queries. The formulas
 * themselves are tested against transformers (test_golden). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "worker/model/rope.h"

enum { LEN = 40, HALF = 4 };

typedef struct table {
    float cos[LEN * HALF], sin[LEN * HALF];
} table;

static hdl_rope longrope(void)
{
    return (hdl_rope){.kind = HDL_ROPE_LONGROPE,
                      .dim = 2 * HALF,
                      .theta = 100,
                      .original_max_len = 16,
                      .attn_factor = 1.25,
                      .long_factors = {1, 2, 4, 8},
                      .short_factors = {1, 1, 1.5f, 2},
                      .n_factors = HALF};
}

static void check(const table *t, const hdl_rope *rope, const float *factors)
{
    for (uint32_t pos = 0; pos < LEN; pos++)
        for (uint32_t i = 0; i < HALF; i++) {
            double angle = pos / ((double)factors[i] * pow(rope->theta, (double)i / HALF));
            double c = (double)t->cos[pos * HALF + i], s = (double)t->sin[pos * HALF + i];
            /* angles below 40, rounded to f32 twice */
            assert_true(fabs(c - 1.25 * cos(angle)) < 1e-5 && fabs(s - 1.25 * sin(angle)) < 1e-5);
        }
}

/* One set for all positions, by what the model may serve and not by where a position is. */
static void test_longrope(void **state)
{
    hdl_rope rope = longrope();
    table t;
    (void)state;
    hdl_rope_part part = {.max_len = 17, .to = LEN, .cos = t.cos, .sin = t.sin};
    hdl_rope_fill(&rope, part);
    check(&t, &rope, rope.long_factors);
    part.max_len = 16;
    hdl_rope_fill(&rope, part);
    check(&t, &rope, rope.short_factors);
}

static void test_parts(void **state)
{
    hdl_rope rope = longrope();
    table whole, parts;
    (void)state;
    hdl_rope_fill(&rope, (hdl_rope_part){.to = LEN, .cos = whole.cos, .sin = whole.sin});
    hdl_rope_part part = {.to = 13, .cos = parts.cos, .sin = parts.sin};
    hdl_rope_fill(&rope, part);
    part.from = 13;
    part.to = LEN;
    hdl_rope_fill(&rope, part);
    assert_memory_equal(&whole, &parts, sizeof(whole));
}

static void test_q_temp(void **state)
{
    const hdl_q_temp temp = {.beta = 0.5, .floor_scale = 10, .offset = 1};
    float out[LEN];
    (void)state;
    hdl_q_temp_fill(&temp, (hdl_rope_part){.to = LEN}, out);
    assert_true(out[0] == 1 && out[8] == 1);
    for (uint32_t pos = 9; pos < 19; pos++)
        assert_true(out[pos] == (float)(1 + 0.5 * log(2)));
    assert_true(out[19] == (float)(1 + 0.5 * log(3)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_longrope),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_q_temp),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
