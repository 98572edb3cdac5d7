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

static void compare(uint32_t window)
{
    static const struct {
        uint32_t tp, chunk, others, threads;
    } runs[] = {{1, 1, 0, 1}, {1, 7, 0, 1}, {1, 64, 0, 2}, {1, 7, 15, 1}, {2, 33, 3, 1}};
    char model[256], text[1024];
    snprintf(text, sizeof(text), config, window);
    rig_make_model(model, text, HDL_DTYPE_BF16);
    rig_logits_opts whole = {
        .worker = {.model_path = model, .weights = HDL_WFORMAT_BF16}, .ids = ids, .n = N};
    float *expected = rig_logits(&whole, VOCAB);
    for (size_t i = 0; i < HDL_ARRAY_LEN(runs); i++) {
        rig_logits_opts o = whole;
        o.worker.layout = (hdl_layout){.tp = runs[i].tp, .ep = 1};
        o.worker.n_threads = runs[i].threads;
        o.coll = runs[i].tp > 1 ? "check+shm" : NULL;
        o.chunk = runs[i].chunk;
        o.others = runs[i].others;
        o.frees = true;
        float *got = rig_logits(&o, VOCAB);
        if (memcmp(got, expected, N * VOCAB * sizeof(float)) != 0)
            fail_msg("window %u, chunks of %u, tp %u: other logits than with all blocks kept",
                     window, runs[i].chunk, runs[i].tp);
        free(got);
    }
    free(expected);
    rig_remove(model);
}

static void test_freed_blocks_are_not_seen(void **state)
{
    (void)state;
    compare(1);
    compare(32);
    compare(40);
}

/* The test above can fail. */
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
        cmocka_unit_test(test_blocks_freed_too_early_are_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
