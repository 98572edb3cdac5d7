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

static const hdl_worker_opts bf16 = {.weights = HDL_WFORMAT_BF16}, q8 = {.weights = HDL_WFORMAT_Q8},
                             f32 = {.weights = HDL_WFORMAT_F32},
                             int8_kv = {.weights = HDL_WFORMAT_BF16, .kv_type = HDL_KV_INT8},
                             fp8_kv = {.weights = HDL_WFORMAT_BF16, .kv_type = HDL_KV_FP8};

static const variant dense[] = {
    {"tp2", 2, 1, 0, 1, 0},     {"tp4", 4, 1, 0, 1, 0},        {"tp4 chunk 7", 4, 1, 7, 1, 0},
    {"chunk 1", 1, 1, 1, 1, 0}, {"31 others", 1, 1, 7, 2, 31},
};

/* how: weights and type of cache */
static void compare(const char *config, hdl_worker_opts how, const variant *variants, size_t n)
{
    char model[256];
    rig_make_model(model, config, HDL_DTYPE_BF16);
    how.model_path = model;
    rig_logits_opts base = {.worker = how, .ids = ids, .n = N};
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
        if (v->tp * v->ep > 1) {
            char layout[32];
            snprintf(layout, sizeof(layout), "layout tp%u ep%u", v->tp, v->ep);
            rig_covered_arch(config, layout);
        }
        free(got);
    }
    free(expected);
    rig_remove(model);
}

static void test_moe_bf16(void **state)
{
    (void)state;
    compare(rig_config_moe, bf16, moe, HDL_ARRAY_LEN(moe));
}

static void test_moe_q8(void **state)
{
    (void)state;
    compare(rig_config_moe, q8, moe, HDL_ARRAY_LEN(moe));
}

static void test_moe_f32(void **state)
{
    (void)state;
    compare(rig_config_moe, f32, moe, HDL_ARRAY_LEN(moe));
}

static void test_kv_types(void **state)
{
    (void)state;
    compare(rig_config_moe, int8_kv, moe, HDL_ARRAY_LEN(moe));
    compare(rig_config_llama, int8_kv, dense, HDL_ARRAY_LEN(dense));
    compare(rig_config_llama, fp8_kv, dense, HDL_ARRAY_LEN(dense));
}

static void test_dense(void **state)
{
    (void)state;
    compare(rig_config_llama, bf16, dense, HDL_ARRAY_LEN(dense));
    compare(rig_config_llama, q8, dense, HDL_ARRAY_LEN(dense));
}

/* Shapes that fill no vector, and every instruction-set level that this machine has: the
 * reference's bytes. */
static const char config_odd[] =
    "{\"architectures\":[\"Qwen3MoeForCausalLM\"],\"vocab_size\":97,\"hidden_size\":40,"
    "\"intermediate_size\":56,\"moe_intermediate_size\":24,\"num_hidden_layers\":3,"
    "\"num_attention_heads\":6,\"num_key_value_heads\":3,\"head_dim\":10,\"num_experts\":6,"
    "\"num_experts_per_tok\":5,\"norm_topk_prob\":false,\"mlp_only_layers\":[1],"
    "\"hidden_act\":\"silu\",\"rms_norm_eps\":1e-6,\"rope_theta\":1000.0,"
    "\"max_position_embeddings\":256,\"tie_word_embeddings\":true}";

static void compare_levels(const char *config, hdl_worker_opts how)
{
    static const hdl_isa levels[] = {HDL_ISA_AVX2, HDL_ISA_AVX512};
    char model[256];
    rig_make_model(model, config, HDL_DTYPE_BF16);
    how.model_path = model;
    how.isa = HDL_ISA_REF;
    rig_logits_opts o = {.worker = how, .ids = ids, .n = N};
    float *expected = rig_logits(&o, VOCAB);
    for (size_t i = 0; i < HDL_ARRAY_LEN(levels); i++) {
        hdl_errmsg why;
        if (!hdl_ops_cpu(levels[i], &why))
            continue;
        o.worker.isa = levels[i];
        o.chunk = 9;
        o.others = 5;
        float *got = rig_logits(&o, VOCAB);
        if (memcmp(got, expected, N * VOCAB * sizeof(float)) != 0)
            fail_msg("level %d: other logits than the reference", (int)levels[i]);
        free(got);
    }
    free(expected);
    rig_remove(model);
}

static void test_levels(void **state)
{
    (void)state;
    compare_levels(config_odd, bf16);
    compare_levels(config_odd, f32);
    compare_levels(config_odd, int8_kv);
    compare_levels(config_odd, fp8_kv);
    compare_levels(rig_config_moe, bf16);
    compare_levels(rig_config_moe, q8);
    compare_levels(rig_config_moe, int8_kv);
    compare_levels(rig_config_llama, q8);
    compare_levels(rig_config_llama, int8_kv);
    compare_levels(rig_config_llama, fp8_kv);
}

static void test_odd_shapes(void **state)
{
    static const variant odd[] = {
        {"ep2", 1, 2, 0, 1, 0}, {"ep2 chunk 7", 1, 2, 7, 2, 0}, {"31 others", 1, 1, 5, 2, 31}};
    (void)state;
    compare(config_odd, bf16, odd, HDL_ARRAY_LEN(odd));
    compare(config_odd, int8_kv, odd, HDL_ARRAY_LEN(odd));
}

int main(void)
{
    for (uint32_t i = 0; i < N; i++)
        ids[i] = (hdl_token)((i * 37 + i * i * 5 + 11) % VOCAB);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_moe_bf16),   cmocka_unit_test(test_moe_q8),
        cmocka_unit_test(test_moe_f32),    cmocka_unit_test(test_dense),
        cmocka_unit_test(test_kv_types),   cmocka_unit_test(test_levels),
        cmocka_unit_test(test_odd_shapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
