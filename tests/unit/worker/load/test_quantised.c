/* SPDX-License-Identifier: Apache-2.0 */
/* Models in every quantised layout of safetensors files. Expanded to f32 they are the model of
 * their values bit for bit; as they are, within what the formats' arithmetic costs; and so on every
 * layout of ranks and every instruction set. What a rank's memory holds is what inspect says. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rig_quant.h"

enum { N_TOKENS = 24, VOCAB = 97 };

static const char dense[] =
    "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"vocab_size\":97,"
    "\"hidden_size\":256,\"intermediate_size\":512,\"num_hidden_layers\":2,"
    "\"num_attention_heads\":8,\"num_key_value_heads\":4,\"head_dim\":32,\"hidden_act\":\"silu\","
    "\"rms_norm_eps\":1e-5,\"rope_theta\":10000.0,\"max_position_embeddings\":256,"
    "\"tie_word_embeddings\":false,\"attention_bias\":false,\"mlp_bias\":false}";
static const char mixture[] =
    "{\"architectures\":[\"Qwen3MoeForCausalLM\"],\"model_type\":\"qwen3_moe\",\"vocab_size\":97,"
    "\"hidden_size\":128,\"intermediate_size\":128,\"moe_intermediate_size\":256,"
    "\"num_hidden_layers\":2,\"num_attention_heads\":8,\"num_key_value_heads\":4,\"head_dim\":32,"
    "\"num_experts\":4,\"num_experts_per_tok\":2,\"norm_topk_prob\":true,"
    "\"decoder_sparse_step\":1,\"mlp_only_layers\":[],\"hidden_act\":\"silu\","
    "\"rms_norm_eps\":1e-6,\"rope_theta\":10000.0,\"max_position_embeddings\":256,"
    "\"tie_word_embeddings\":true,\"attention_bias\":false,\"use_sliding_window\":false}";
static const char gptoss[] =
    "{\"architectures\":[\"GptOssForCausalLM\"],\"model_type\":\"gpt_oss\",\"vocab_size\":97,"
    "\"hidden_size\":128,\"intermediate_size\":256,\"num_hidden_layers\":2,"
    "\"num_attention_heads\":8,\"num_key_value_heads\":4,\"head_dim\":32,\"num_local_experts\":4,"
    "\"num_experts_per_tok\":2,\"rms_norm_eps\":1e-5,\"rope_theta\":10000.0,\"sliding_window\":64,"
    "\"layer_types\":[\"sliding_attention\",\"full_attention\"],\"hidden_act\":\"silu\","
    "\"max_position_embeddings\":256,\"attention_bias\":true,\"tie_word_embeddings\":false}";

static const struct {
    const char *name, *config;
    rig_quant kind;
} models[] = {
    {"fp8-block", dense, RIG_FP8_BLOCK},
    {"fp8-block", mixture, RIG_FP8_BLOCK},
    {"fp8-ue8m0", dense, RIG_FP8_UE8M0},
    {"fp8-tensor", dense, RIG_FP8_TENSOR},
    {"fp8-channel", dense, RIG_FP8_CHANNEL},
    {"mxfp4", gptoss, RIG_MXFP4},
    {"mxfp4", dense, RIG_MXFP4_CT},
    {"nvfp4", dense, RIG_NVFP4},
    {"nvfp4", mixture, RIG_NVFP4_CT},
    {"int4-packed", dense, RIG_INT4},
    {"int4-packed", mixture, RIG_INT4},
    {"int4-zero", dense, RIG_INT4_ZERO},
    {"awq", dense, RIG_AWQ},
    {"awq", mixture, RIG_AWQ},
    {"gptq", dense, RIG_GPTQ},
    {"gptq-act", dense, RIG_GPTQ_ACT},
    {"gptq8", dense, RIG_GPTQ8},
    {"bitnet", dense, RIG_BITNET},
};

typedef struct logits_of {
    const char *path;
    hdl_wformat weights;
    hdl_isa isa;
    hdl_layout layout;
} logits_of;

static float *run(logits_of what)
{
    static hdl_token ids[N_TOKENS];
    for (int i = 0; i < N_TOKENS; i++)
        ids[i] = (i * 37 + i * i * 5 + 11) % VOCAB;
    rig_logits_opts o = {.worker = {.model_path = what.path,
                                    .weights = what.weights,
                                    .layout = what.layout,
                                    .isa = what.isa},
                         .ids = ids,
                         .n = N_TOKENS,
                         .chunk = 11};
    return rig_logits(&o, VOCAB);
}

static double distance(const float *a, const float *b)
{
    double diff = 0, norm = 0;
    for (size_t i = 0; i < (size_t)N_TOKENS * VOCAB; i++) {
        diff += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        norm += (double)b[i] * b[i];
    }
    return sqrt(diff / norm);
}

static const hdl_layout one = {1, 1, 1, 1};

static void check_same(const char *what, const float *want, float *got)
{
    size_t bytes = (size_t)N_TOKENS * VOCAB * sizeof(float);
    if (memcmp(want, got, bytes) != 0)
        fail_msg("%s: distance %g, must be 0", what, distance(got, want));
    free(got);
}

/* Logits of the model of plain values, of the files expanded to f32, of the files as they are. */
typedef struct runs {
    float *plain, *expanded, *stored; /* owned */
} runs;

/* BitNet's layers see int8 activations, which a model of plain values has not: what that costs is
 * bounded, and the files' codes give the logits of their values. tests/golden/models compares with
 * transformers. */
static void check_int8(const char *name, const runs *r)
{
    double rounding = distance(r->expanded, r->plain), codes = distance(r->stored, r->expanded);
    if (!(rounding > 1e-4 && rounding < 2e-2))
        fail_msg("%s: int8 activations cost %g, 1e-4 to 2e-2 expected", name, rounding);
    if (!(codes < 2e-3)) /* the head is bf16 */
        fail_msg("%s: distance %g between codes and values, 2e-3 allowed", name, codes);
}

static void check_values(const char *name, const runs *r)
{
    double d = distance(r->stored, r->plain);
    if (memcmp(r->plain, r->expanded, (size_t)N_TOKENS * VOCAB * sizeof(float)) != 0)
        fail_msg("%s expanded to f32: distance %g, must be 0", name,
                 distance(r->expanded, r->plain));
    if (!(d < 1e-2))
        fail_msg("%s: distance %g from the model of its values, 1e-2 allowed", name, d);
}

/* The worker's memory is what count.c says without loading, but for tiles and tables. */
static void check_bytes(const char *name, const char *path)
{
    static hdl_model_desc desc;
    static hdl_model_stored stored;
    hdl_errmsg why = {0};
    hdl_worker *w = NULL;
    hdl_worker_opts o = {.model_path = path,
                         .weights = HDL_WFORMAT_COUNT,
                         .max_seqs = 1,
                         .n_blocks = 4,
                         .step_tokens = 8};
    assert_int_equal(hdl_model_desc_load(&desc, path, &why), HDL_OK);
    hdl_model_count ask = {path, &desc, {2, 1, 1, 1}, HDL_WFORMAT_COUNT};
    if (hdl_model_count_stored(&stored, &ask, &why) != HDL_OK)
        fail_msg("%s: %s", name, why.text);
    o.layout = ask.layout;
    for (o.rank = 0; o.rank < 2; o.rank++) {
        assert_int_equal(hdl_worker_open(&w, &o, &why), HDL_OK);
        uint64_t held = hdl_worker_get_info(w).weight_bytes;
        uint64_t said = stored.ranks[o.rank].weight_bytes;
        if (held < said || held > said + said / 8 + 200000)
            fail_msg("%s: rank %u holds %llu bytes, inspect says %llu", name, o.rank,
                     (unsigned long long)held, (unsigned long long)said);
        hdl_worker_close(w);
    }
}

static void test_model(void **state)
{
    size_t i = *(const size_t *)*state;
    const char *name = models[i].name;
    bool experts = models[i].config != dense;
    char quantised[256], values[256], what[128];
    rig_make_quantised(quantised, models[i].config, models[i].kind, false);
    rig_make_quantised(values, models[i].config, models[i].kind, true);
    runs r = {.plain = run((logits_of){values, HDL_WFORMAT_F32, HDL_ISA_AUTO, one}),
              .expanded = run((logits_of){quantised, HDL_WFORMAT_F32, HDL_ISA_AUTO, one}),
              .stored = run((logits_of){quantised, HDL_WFORMAT_COUNT, HDL_ISA_AUTO, one})};
    (models[i].kind == RIG_BITNET ? check_int8 : check_values)(name, &r);
    snprintf(what, sizeof(what), "%s by the reference", name);
    check_same(what, r.stored, run((logits_of){quantised, HDL_WFORMAT_COUNT, HDL_ISA_REF, one}));
    static const hdl_layout layouts[] = {{2, 1, 1, 1}, {4, 1, 1, 1}, {2, 2, 1, 1}, {2, 4, 1, 1}};
    for (int l = 0; l < (experts ? 4 : 2); l++) {
        snprintf(what, sizeof(what), "%s on tp %u ep %u", name, layouts[l].tp, layouts[l].ep);
        check_same(what, r.stored,
                   run((logits_of){quantised, HDL_WFORMAT_COUNT, HDL_ISA_AUTO, layouts[l]}));
    }
    check_bytes(name, quantised);
    rig_covered("weights", name, experts ? "moe" : "logits");
    free(r.plain);
    free(r.expanded);
    free(r.stored);
    rig_remove(quantised);
    rig_remove(values);
}

int main(void)
{
    static size_t at[HDL_ARRAY_LEN(models)];
    static struct CMUnitTest tests[HDL_ARRAY_LEN(models)];
    for (size_t i = 0; i < HDL_ARRAY_LEN(models); i++) {
        at[i] = i;
        tests[i] = (struct CMUnitTest){
            .name = models[i].name, .test_func = test_model, .initial_state = &at[i]};
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
