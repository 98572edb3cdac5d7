/* SPDX-License-Identifier: Apache-2.0 */
/* Logits against transformers on the same weights: fixtures of tests/golden/models (make.py there
 * says how they are made). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "goldens.h"
#include "rig.h"

typedef struct golden {
    char *config, *file; /* owned */
    uint32_t n_tokens, vocab, n_greedy, n_rows;
    const hdl_token *ids, *greedy;
    const int32_t *rows;  /* [n_rows] tokens whose logits follow */
    const float *rounded; /* [n_rows, vocab] KV rounded to bf16 */
    const float *exact;
} golden;

static golden golden_load(const char *name)
{
    char path[512];
    size_t len = 0;
    golden g = {0};
    snprintf(path, sizeof(path), RIG_GOLDENS "%s.json", name);
    g.config = rig_read(path, &len);
    snprintf(path, sizeof(path), RIG_GOLDENS "%s.bin", name);
    g.file = rig_read(path, &len);
    assert_memory_equal(g.file, "HDL2", 4);
    uint32_t head[4];
    memcpy(head, g.file + 4, sizeof(head));
    g.n_tokens = head[0];
    g.vocab = head[1];
    g.n_greedy = head[2];
    g.n_rows = head[3];
    g.ids = (const hdl_token *)(const void *)(g.file + 4 + sizeof(head));
    g.greedy = g.ids + g.n_tokens;
    g.rows = g.greedy + g.n_greedy;
    g.rounded = (const float *)(const void *)(g.rows + g.n_rows);
    g.exact = g.rounded + (size_t)g.n_rows * g.vocab;
    size_t floats = (size_t)2 * g.n_rows * g.vocab;
    assert_int_equal(len, 20 + 4 * (g.n_tokens + g.n_greedy + g.n_rows + floats));
    return g;
}

static void golden_free(golden *g)
{
    free(g->config);
    free(g->file);
}

/* ||a - b|| / ||b|| */
static double distance(const float *a, const float *b, size_t n)
{
    double diff = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        diff += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        norm += (double)b[i] * b[i];
    }
    return sqrt(diff / norm);
}

/* The golden's rows of all logits of a prefill in chunks; caller frees. */
static float *run(const golden *g, const char *model, hdl_wformat weights, hdl_isa isa)
{
    rig_logits_opts o = {
        .worker = {.model_path = model, .weights = weights, .isa = isa},
        .ids = g->ids,
        .n = g->n_tokens,
        .chunk = 45,
    };
    float *all = rig_logits(&o, g->vocab), *rows = malloc(sizeof(*rows) * g->n_rows * g->vocab);
    assert_non_null(rows);
    for (uint32_t i = 0; i < g->n_rows; i++)
        memcpy(rows + (size_t)i * g->vocab, all + (size_t)g->rows[i] * g->vocab,
               g->vocab * sizeof(*rows));
    free(all);
    return rows;
}

/* Ternary weights and int8 activations: of BitNet. */
static bool is_quantised(const golden *g) { return strstr(g->config, "quantization_config"); }

/* f32 weights through the reference: nothing is left but the order of sums. */
static void check_f32(const char *name)
{
    char model[256];
    golden g = golden_load(name);
    rig_make_model(model, g.config, HDL_DTYPE_F32);
    hdl_wformat weights = is_quantised(&g) ? HDL_WFORMAT_F32 : HDL_WFORMAT_COUNT;
    float *logits = run(&g, model, weights, HDL_ISA_REF);
    double d = distance(logits, g.rounded, (size_t)g.n_rows * g.vocab);
    if (!(d < 1e-4))
        fail_msg("%s in f32: distance %g from transformers, 1e-4 allowed", name, d);
    rig_covered_arch(g.config, "f32");
    free(logits);
    rig_remove(model);
    golden_free(&g);
}

/* bf16 activations and cache against float32 throughout: 1e-2 over all logits. make.py has chosen
 * tokens that reach the same experts either way. Where activations become int8, a rounding of the
 * cache moves integers by one, and transformers itself is 3e-2 from itself: there the cache of both
 * is bf16. */
static void check_bf16(const char *name)
{
    char model[256];
    golden g = golden_load(name);
    rig_make_model(model, g.config, HDL_DTYPE_BF16);
    float *logits = run(&g, model, HDL_WFORMAT_BF16, HDL_ISA_AUTO);
    const float *want = is_quantised(&g) ? g.rounded : g.exact;
    double all = distance(logits, want, (size_t)g.n_rows * g.vocab);
    if (!(all < 1e-2))
        fail_msg("%s in bf16: distance %g from transformers, 1e-2 allowed", name, all);
    rig_covered_arch(g.config, "bf16");
    free(logits);
    if (is_quantised(&g)) { /* as the file has them */
        logits = run(&g, model, HDL_WFORMAT_COUNT, HDL_ISA_AUTO);
        all = distance(logits, want, (size_t)g.n_rows * g.vocab);
        if (!(all < 1e-2))
            fail_msg("%s as stored: distance %g from transformers, 1e-2 allowed", name, all);
        free(logits);
    }
    rig_remove(model);
    golden_free(&g);
}

/* ---- greedy continuation ------------------------------------------------------------------ */

static void greedy_script(rig_rank *r)
{
    const golden *g = r->arg;
    hdl_sampling greedy = rig_greedy();
    rig_next(&r->plan);
    rig_open(&r->plan, 3, &greedy);
    rig_row(&r->plan, 3, 0, g->ids, g->n_tokens, HDL_ROW_SAMPLE);
    for (uint32_t i = 0; i < g->n_greedy; i++) {
        hdl_result result = rig_step(r);
        assert_int_equal(result.n_rows, 1);
        assert_int_equal(result.rows[0].token, g->greedy[i]);
        rig_next(&r->plan);
        rig_row(&r->plan, 3, g->n_tokens + i, NULL, 1, HDL_ROW_SAMPLE);
    }
}

static void check_greedy(const char *name)
{
    char model[256];
    golden g = golden_load(name);
    rig_make_model(model, g.config, HDL_DTYPE_F32);
    rig_group group = {.opts = {.model_path = model, .weights = HDL_WFORMAT_F32},
                       .script = greedy_script,
                       .arg = &g};
    rig_run(&group);
    rig_covered_arch(g.config, "greedy");
    rig_remove(model);
    golden_free(&g);
}

/* f16 files keep every bit of their values: the weights of the rig are f16 too but for the
 * smallest.
 */
static void test_f16_files(void **state)
{
    char model[256];
    golden g = golden_load("llama");
    (void)state;
    rig_make_model(model, g.config, HDL_DTYPE_F16);
    float *logits = run(&g, model, HDL_WFORMAT_COUNT, HDL_ISA_REF);
    assert_true(distance(logits, g.rounded, (size_t)g.n_rows * g.vocab) < 1e-3);
    free(logits);
    rig_remove(model);
    golden_free(&g);
}

#define GOLDEN_TEST(id, name)                                                                      \
    static void test_##id(void **state)                                                            \
    {                                                                                              \
        (void)state;                                                                               \
        check_f32(name);                                                                           \
        check_bf16(name);                                                                          \
        check_greedy(name);                                                                        \
    }
RIG_GOLDEN_LIST(GOLDEN_TEST)

int main(void)
{
    const struct CMUnitTest tests[] = {
#define ENTRY(id, name) cmocka_unit_test(test_##id),
        RIG_GOLDEN_LIST(ENTRY)
#undef ENTRY
            cmocka_unit_test(test_f16_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
