/* SPDX-License-Identifier: Apache-2.0 */
/* The numerics contract on whole models: the same bytes of logits on every layout, in any chunks,
 * on any number of threads, alone and batched. Ranks are threads; collectives are checked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rig.h"

enum { N = 70, VOCAB = 97 }; /* over two blocks, ending inside the third */

static hdl_token ids[N];

typedef struct variant {
    const char *name;
    uint32_t tp, ep, chunk, threads, others;
} variant;

static const variant moe[] = {
    {"tp2", 2, 1, 0, 1, 0},
    {"tp4", 4, 1, 0, 1, 0},
    {"ep2", 1, 2, 0, 1, 0},
    {"ep4", 1, 4, 0, 1, 0},
    {"ep8", 1, 8, 0, 1, 0},
    {"tp2 ep2", 2, 2, 0, 1, 0},
    {"tp4 ep2", 4, 2, 0, 1, 0},
    {"tp2 ep4", 2, 4, 0, 1, 0},
    {"chunk 1", 1, 1, 1, 1, 0},
    {"chunk 7", 1, 1, 7, 1, 0},
    {"chunk 64", 1, 1, 64, 1, 0},
    {"2 threads", 1, 1, 0, 2, 0},
    {"31 others", 1, 1, 7, 1, 31},
    {"tp2 chunk 7", 2, 1, 7, 2, 0},
    {"tp2 ep2, others", 2, 2, 13, 1, 15},
};

static const variant dense[] = {
    {"tp2", 2, 1, 0, 1, 0},     {"tp4", 4, 1, 0, 1, 0},        {"tp4 chunk 7", 4, 1, 7, 1, 0},
    {"chunk 1", 1, 1, 1, 1, 0}, {"31 others", 1, 1, 7, 2, 31},
};

static void compare(const char *config, hdl_wformat weights, const variant *variants, size_t n)
{
    char model[256];
    rig_make_model(model, config, HDL_DTYPE_BF16);
    rig_logits_opts base = {
        .worker = {.model_path = model, .weights = weights}, .ids = ids, .n = N};
    float *expected = rig_logits(&base, VOCAB);
    for (size_t i = 0; i < n; i++) {
        const variant *v = &variants[i];
        rig_logits_opts o = base;
        o.worker.layout = (hdl_layout){.tp = v->tp, .ep = v->ep};
        o.worker.n_threads = v->threads;
        o.chunk = v->chunk;
        o.others = v->others;
        if (v->tp * v->ep > 1)
            o.coll = "check+shm";
        float *got = rig_logits(&o, VOCAB);
        if (memcmp(got, expected, N * VOCAB * sizeof(float)) != 0)
            fail_msg("%s: other logits than one rank alone", v->name);
        free(got);
    }
    free(expected);
    rig_remove(model);
}

static void test_moe_bf16(void **state)
{
    (void)state;
    compare(rig_config_moe, HDL_WFORMAT_BF16, moe, HDL_ARRAY_LEN(moe));
}

static void test_moe_q8(void **state)
{
    (void)state;
    compare(rig_config_moe, HDL_WFORMAT_Q8, moe, HDL_ARRAY_LEN(moe));
}

static void test_moe_f32(void **state)
{
    (void)state;
    compare(rig_config_moe, HDL_WFORMAT_F32, moe, HDL_ARRAY_LEN(moe));
}

static void test_dense(void **state)
{
    (void)state;
    compare(rig_config_llama, HDL_WFORMAT_BF16, dense, HDL_ARRAY_LEN(dense));
    compare(rig_config_llama, HDL_WFORMAT_Q8, dense, HDL_ARRAY_LEN(dense));
}

int main(void)
{
    for (uint32_t i = 0; i < N; i++)
        ids[i] = (hdl_token)((i * 37 + i * i * 5 + 11) % VOCAB);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_moe_bf16),
        cmocka_unit_test(test_moe_q8),
        cmocka_unit_test(test_moe_f32),
        cmocka_unit_test(test_dense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
