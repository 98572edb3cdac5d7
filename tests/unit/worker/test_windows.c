/* SPDX-License-Identifier: Apache-2.0 */
/* Layers that see a window: its blocks may be used again as soon as they are out of it. The logits
 * are those of a run that keeps everything, bit for bit, however the prompt is cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rig.h"

enum { N = 200, VOCAB = 97 };

static hdl_token ids[N];

/* A window of 40 ends inside a block, one of 32 on an edge; 1 sees nothing but itself. */
static const char config[] =
    "{\"architectures\":[\"MistralForCausalLM\"],\"model_type\":\"mistral\",\"vocab_size\":97,"
    "\"hidden_size\":64,\"intermediate_size\":128,\"num_hidden_layers\":3,"
    "\"num_attention_heads\":8,\"num_key_value_heads\":4,\"head_dim\":16,\"hidden_act\":\"silu\","
    "\"rms_norm_eps\":1e-5,\"rope_theta\":10000.0,\"max_position_embeddings\":256,"
    "\"tie_word_embeddings\":false,\"sliding_window\":%u}";

/* The same with a layer between that sees everything: two cache groups. */
static const char mixed[] =
    "{\"architectures\":[\"MinistralForCausalLM\"],\"model_type\":\"ministral\",\"vocab_size\":97,"
    "\"hidden_size\":64,\"intermediate_size\":128,\"num_hidden_layers\":3,"
    "\"num_attention_heads\":8,\"num_key_value_heads\":4,\"head_dim\":16,\"hidden_act\":\"silu\","
    "\"rms_norm_eps\":1e-5,\"rope_theta\":10000.0,\"max_position_embeddings\":256,"
    "\"tie_word_embeddings\":false,\"sliding_window\":%u,"
    "\"layer_types\":[\"sliding_attention\",\"full_attention\",\"sliding_attention\"]}";

typedef struct variant {
    uint32_t tp, chunk, others, threads;
} variant;

/* The model in the folder with all blocks kept, and with what has left the windows used again. */
static void compare_model(const char *model, const variant *runs, size_t n_runs)
{
    rig_logits_opts whole = {
        .worker = {.model_path = model, .weights = HDL_WFORMAT_BF16}, .ids = ids, .n = N};
    float *expected = rig_logits(&whole, VOCAB);
    for (size_t i = 0; i < n_runs; i++) {
        rig_logits_opts o = whole;
        o.worker.layout = (hdl_layout){.tp = runs[i].tp, .ep = 1};
        o.worker.n_threads = runs[i].threads;
        o.coll = runs[i].tp > 1 ? "check+shm" : NULL;
        o.chunk = runs[i].chunk;
        o.others = runs[i].others;
        o.frees = true;
        float *got = rig_logits(&o, VOCAB);
        if (memcmp(got, expected, N * VOCAB * sizeof(float)) != 0)
            fail_msg("chunks of %u, tp %u: other logits than with all blocks kept", runs[i].chunk,
                     runs[i].tp);
        free(got);
    }
    free(expected);
}

static void compare(const char *format, uint32_t window, uint32_t n_caches)
{
    static const variant runs[] = {
        {1, 1, 0, 1}, {1, 7, 0, 1}, {1, 64, 0, 2}, {1, 7, 15, 1}, {2, 33, 3, 1}};
    char model[256], text[1024];
    hdl_errmsg why = {0};
    static hdl_model_desc desc;
    snprintf(text, sizeof(text), format, window);
    rig_make_model(model, text, HDL_DTYPE_BF16);
    assert_int_equal(hdl_model_desc_load(&desc, model, &why), HDL_OK);
    assert_int_equal(desc.n_cache_groups, n_caches);
    assert_int_equal(desc.cache_groups[0].rule.window, window);
    compare_model(model, runs, HDL_ARRAY_LEN(runs));
    rig_remove(model);
}

static void test_freed_blocks_are_not_seen(void **state)
{
    (void)state;
    compare(config, 1, 1);
    compare(config, 32, 1);
    compare(config, 40, 1);
    compare(mixed, 40, 2);
}

/* Families with layers of both kinds, and with chunks in place of windows (Llama 4). */
static void test_families(void **state)
{
    static const char *const names[] = {"gemma2", "gemma3", "gptoss", "llama4-scout"};
    static const variant runs[] = {{1, 7, 0, 1}, {1, 50, 3, 1}};
    (void)state;
    for (size_t i = 0; i < HDL_ARRAY_LEN(names); i++) {
        char model[256], path[512];
        size_t len = 0;
        snprintf(path, sizeof(path), "%s/tests/golden/models/%s.json", HDL_SOURCE_DIR, names[i]);
        char *text = rig_read(path, &len);
        hdl_errmsg why = {0};
        static hdl_model_desc desc;
        rig_make_model(model, text, HDL_DTYPE_BF16);
        assert_int_equal(hdl_model_desc_load(&desc, model, &why), HDL_OK);
        assert_int_equal(desc.n_cache_groups, 2);
        assert_int_equal(desc.vocab, VOCAB);
        compare_model(model, runs, HDL_ARRAY_LEN(runs));
        rig_remove(model);
        free(text);
    }
}

/* The tests above can fail. */
static void test_blocks_freed_too_early_are_seen(void **state)
{
    char model[256], text[1024];
    (void)state;
    snprintf(text, sizeof(text), config, 40);
    rig_make_model(model, text, HDL_DTYPE_BF16);
    rig_logits_opts o = {.worker = {.model_path = model, .weights = HDL_WFORMAT_BF16},
                         .ids = ids,
                         .n = N,
                         .chunk = 1,
                         .frees = true};
    float *expected = rig_logits(&o, VOCAB);
    o.early = 2; /* one only overwrites what the window has left already */
    float *got = rig_logits(&o, VOCAB);
    assert_memory_not_equal(got, expected, N * VOCAB * sizeof(float));
    free(got);
    free(expected);
    rig_remove(model);
}

int main(void)
{
    for (uint32_t i = 0; i < N; i++)
        ids[i] = (hdl_token)(i * 29 % VOCAB);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_freed_blocks_are_not_seen),
        cmocka_unit_test(test_families),
        cmocka_unit_test(test_blocks_freed_too_early_are_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
