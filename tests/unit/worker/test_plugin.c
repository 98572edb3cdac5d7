/* SPDX-License-Identifier: Apache-2.0 */
/* Whole models through a plugin's kernels: `heddle_test_worker_plugin FILE [ARCHITECTURE...]`.
 * ctest gives the fiber plugin; tests/gpu.sh gives CUDA's.
 *
 * Every golden configuration, in the encoding of its file: the tokens that the CPU chooses
 * greedily, logits near the CPU's, and the same bits whatever the chunks, the others in the batch,
 * (fibers) the order of threads, and whether steps are recorded and overlap. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <heddle/device.h>

#include "goldens.h"
#include "rig_talk.h"
#include "worker/graph.h"

/* Attention multiplies queries and weights as bf16 there and as f32 on the CPU: 2^-9 of a product,
 * some thousandths of the logits. Int8 activations make more of it (a step is 1/127 of the
 * largest), and a router near a tie takes another expert. */
#define DISTANCE_MAX 0.03
/* That rounding moves a logit by some 2^-9 of itself: two that the CPU has closer together than
 * this are a tie, which either may win. Of all goldens one has one, at one position (gemma3-odd).
 */
#define TIE (1.0 / 512)
enum { TIES_MAX = 1 };

static const hdl_plugin *plugin;

typedef struct golden {
    const char *name;
    hdl_wformat weights; /* COUNT: as in the file */
    hdl_kv_type kv_type;
} golden;

/* The golden's prompt and what transformers said to it: head as in test_golden.c. */
typedef struct text {
    char *file; /* owned */
    hdl_token *ids;
    uint32_t n_prompt, n, vocab;
} text;

static text load_text(const char *name)
{
    char path[512];
    uint32_t head[4];
    size_t len;
    text t = {0};
    snprintf(path, sizeof path, RIG_GOLDENS "%s.bin", name);
    t.file = rig_read(path, &len);
    memcpy(head, t.file + 4, sizeof head);
    t.ids = (hdl_token *)(void *)(t.file + 4 + sizeof head); /* the greedy tokens follow */
    t.n_prompt = head[0];
    t.vocab = head[1];
    t.n = head[0] + head[2] - 1;
    return t;
}

static double distance(const float *a, const float *b, size_t n)
{
    double diff = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        diff += pow((double)a[i] - (double)b[i], 2);
        norm += pow((double)b[i], 2);
    }
    return sqrt(diff / norm);
}

static uint32_t best(const float *logits, uint32_t vocab)
{
    uint32_t at = 0;
    for (uint32_t i = 1; i < vocab; i++)
        at = logits[i] > logits[at] ? i : at;
    return at;
}

/* The CPU's choice, or the other one of a tie, which is counted. */
static bool chooses_alike(const float *got, const float *cpu, uint32_t vocab, uint32_t *n_ties)
{
    uint32_t mine = best(got, vocab), theirs = best(cpu, vocab);
    if (mine == theirs)
        return true;
    (*n_ties)++;
    print_message("token %u for the CPU's %u, whose logits are %g and %g\n", mine, theirs,
                  (double)cpu[mine], (double)cpu[theirs]);
    return (double)cpu[theirs] - (double)cpu[mine] <= TIE * fabs((double)cpu[theirs]);
}

/* Steps recorded and sent two at a time give what single ones give. */
static void compare_steps(const rig_logits_opts *logits, uint32_t vocab)
{
    rig_talk_opts opts = {.worker = logits->worker,
                          .vocab = vocab,
                          .in_flight = 1,
                          .n_slots = 3,
                          .n_tenants = 1,
                          .n_new = 5};
    opts.worker.graphs = HDL_GRAPHS_NEVER;
    rig_talk *plain = rig_talk_run(&opts);
    opts.worker.graphs = HDL_GRAPHS_AUTO;
    opts.in_flight = 2;
    rig_talk *recorded = rig_talk_run(&opts);
    assert_true(plain->n_graphs == 0 && recorded->n_graphs > 0);
    rig_talk_same(plain, recorded);
    free(plain);
    free(recorded);
}

static void test_golden(void **state)
{
    const golden *g = *state;
    char path[256], dir[256];
    size_t len;
    text t = load_text(g->name);
    snprintf(path, sizeof path, RIG_GOLDENS "%s.json", g->name);
    char *config = rig_read(path, &len);
    rig_make_model(dir, config, HDL_DTYPE_BF16);
    rig_logits_opts opts = {
        .worker = {.model_path = dir, .weights = g->weights, .kv_type = g->kv_type},
        .ids = t.ids,
        .n = t.n};
    float *cpu = rig_logits(&opts, t.vocab);
    opts.worker.plugin = plugin;
    float *got = rig_logits(&opts, t.vocab);
    opts.chunk = 7;
    opts.others = 2;
    opts.worker.gpu_order = 1;
    float *batched = rig_logits(&opts, t.vocab);
    compare_steps(&opts, t.vocab);

    double apart = distance(got, cpu, (size_t)t.n * t.vocab);
    print_message("%s, %s KV: %.2e from the CPU's logits\n", g->name, hdl_kv_type_text(g->kv_type),
                  apart);
    assert_true(apart <= DISTANCE_MAX);
    assert_memory_equal(got, batched, (size_t)t.n * t.vocab * sizeof *got);
    uint32_t n_ties = 0;
    for (uint32_t i = t.n_prompt - 1; i < t.n; i++)
        assert_true(
            chooses_alike(got + (size_t)i * t.vocab, cpu + (size_t)i * t.vocab, t.vocab, &n_ties));
    assert_true(n_ties <= TIES_MAX);
    free(cpu);
    free(got);
    free(batched);
    rig_remove(dir);
    free(config);
    free(t.file);
}

/* What the kernels cannot do is refused while loading, by name and with what to do. */
static void refuses(hdl_worker_opts opts, const char *config, const char *const words[3])
{
    char dir[256];
    hdl_errmsg why = {0};
    hdl_worker *worker = NULL;
    rig_make_model(dir, config, HDL_DTYPE_BF16);
    opts.model_path = dir;
    opts.plugin = plugin;
    opts.weights = HDL_WFORMAT_COUNT;
    assert_int_equal(hdl_worker_open(&worker, &opts, &why), HDL_UNSUPPORTED);
    print_message("%s\n", why.text);
    for (int i = 0; i < 3; i++)
        assert_non_null(strstr(why.text, words[i]));
    rig_remove(dir);
}

static void test_limits(void **state)
{
    (void)state;
    static const char wide[] =
        "{\"architectures\":[\"LlamaForCausalLM\"],\"vocab_size\":97,\"hidden_size\":64,"
        "\"intermediate_size\":64,\"num_hidden_layers\":1,\"num_attention_heads\":2,"
        "\"num_key_value_heads\":1,\"head_dim\":288,\"hidden_act\":\"silu\",\"rms_norm_eps\":1e-6,"
        "\"rope_theta\":1000.0,\"max_position_embeddings\":256,\"tie_word_embeddings\":false}";
    refuses((hdl_worker_opts){0}, wide, (const char *const[]){"head_dim is 288", "256", "cpu"});
    refuses((hdl_worker_opts){.block_tokens = 96}, rig_config_llama,
            (const char *const[]){"96 tokens", "shifts", "power of two"});
}

static bool is_asked(const char *name, int argc, char **argv)
{
    for (int i = 2; i < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return true;
    return argc <= 2;
}

int main(int argc, char **argv)
{
#define GOLDEN(id, name_) {name_, HDL_WFORMAT_COUNT, HDL_KV_BF16},
    static golden goldens[] = {
        RIG_GOLDEN_LIST(GOLDEN){"llama", HDL_WFORMAT_Q8, HDL_KV_BF16},
        {"qwen3moe", HDL_WFORMAT_Q4, HDL_KV_BF16},
        {"llama", HDL_WFORMAT_COUNT, HDL_KV_INT8},
        /* A code of FP8 that falls the other way moves a score by some 2^-4 of a number: prompts
         * without near ties. */
        {"gptoss", HDL_WFORMAT_COUNT, HDL_KV_FP8},
        {"deepseek-v2-lite", HDL_WFORMAT_COUNT, HDL_KV_FP8},
    };
    static struct CMUnitTest tests[HDL_ARRAY_LEN(goldens) + 1] = {cmocka_unit_test(test_limits)};
    hdl_errmsg why = {0};
    size_t n = 1;
    if (argc < 2 || hdl_plugin_load(&plugin, argv[1], &why) != HDL_OK) {
        fprintf(stderr, "usage: heddle_test_worker_plugin FILE [ARCHITECTURE...]; %s\n", why.text);
        return 2;
    }
    for (size_t i = 0; i < HDL_ARRAY_LEN(goldens); i++)
        if (is_asked(goldens[i].name, argc, argv))
            tests[n++] = (struct CMUnitTest){
                .name = goldens[i].name, .test_func = test_golden, .initial_state = &goldens[i]};
    return _cmocka_run_group_tests("plugin", tests, n, NULL, NULL);
}
