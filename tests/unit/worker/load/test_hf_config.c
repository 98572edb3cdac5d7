/* SPDX-License-Identifier: Apache-2.0 */
/* config.json -> description: what is read, what is refused and why. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/fs.h"
#include "rig.h"

static hdl_model_desc desc;

static hdl_err parse(const char *json, hdl_errmsg *why)
{
    *why = (hdl_errmsg){0};
    return hdl_model_desc_parse(&desc, json, strlen(json), why);
}

/* base with its closing brace replaced by more keys. */
static hdl_err parse_with(const char *base, const char *more, hdl_errmsg *why)
{
    char text[4096];
    snprintf(text, sizeof(text), "%.*s,%s}", (int)strlen(base) - 1, base, more);
    return parse(text, why);
}

static void test_moe(void **state)
{
    hdl_errmsg why;
    (void)state;
    assert_int_equal(parse(rig_config_moe, &why), HDL_OK);
    assert_string_equal(desc.arch, "Qwen3MoeForCausalLM");
    assert_true(desc.qk_norm && desc.tied && desc.router.renorm);
    assert_int_equal(desc.router.kind, HDL_ROUTER_SOFTMAX_TOPK);
    assert_int_equal(desc.n_experts, 8);
    assert_int_equal(desc.layers[1].ffn, HDL_FFN_MOE);
    assert_int_equal(desc.layers[1].cache_layer, 1);
    assert_int_equal(desc.n_cache_groups, 1);
    assert_int_equal(desc.cache_groups[0].block_tokens, HDL_BLOCK_TOKENS);
    assert_true(desc.attn_scale == 0.25f);
    assert_true(fabsf(desc.norm_eps - 1e-6f) < 1e-12f);
}

static void test_dense_layers_of_a_mixture(void **state)
{
    hdl_errmsg why;
    char text[4096];
    (void)state;
    snprintf(text, sizeof(text), "%s", rig_config_moe);
    memcpy(strstr(text, "\"mlp_only_layers\":[]"), "\"mlp_only_layers\":[0", 20);
    /* The bracket moved by one: close it over the comma. */
    char *at = strstr(text, "\"mlp_only_layers\":[0") + 20;
    memmove(at + 1, at, strlen(at) + 1);
    *at = ']';
    assert_int_equal(parse(text, &why), HDL_OK);
    assert_int_equal(desc.layers[0].ffn, HDL_FFN_DENSE);
    assert_int_equal(desc.layers[1].ffn, HDL_FFN_MOE);
}

static void test_rope_forms(void **state)
{
    hdl_errmsg why;
    (void)state;
    assert_int_equal(
        parse_with(
            rig_config_llama,
            "\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8.0,\"low_freq_factor\":1,"
            "\"high_freq_factor\":4,\"original_max_position_embeddings\":8192}",
            &why),
        HDL_OK);
    assert_int_equal(desc.ropes[0].kind, HDL_ROPE_LLAMA3);
    assert_int_equal(desc.ropes[0].original_max_len, 8192);
    assert_int_equal(
        parse_with(rig_config_llama,
                   "\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":5e5}", &why),
        HDL_OK);
    assert_int_equal(desc.ropes[0].kind, HDL_ROPE_PLAIN);
    assert_true(desc.ropes[0].theta == 5e5);
    assert_int_equal(
        parse_with(rig_config_llama, "\"rope_scaling\":{\"type\":\"linear\",\"factor\":2}", &why),
        HDL_OK);
    assert_int_equal(desc.ropes[0].kind, HDL_ROPE_LINEAR);
}

static void test_yarn(void **state)
{
    hdl_errmsg why;
    (void)state;
    assert_int_equal(parse_with(rig_config_llama,
                                "\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":32.0,"
                                "\"truncate\":false,\"original_max_position_embeddings\":4096}",
                                &why),
                     HDL_OK);
    const hdl_rope *rope = &desc.ropes[0];
    assert_int_equal(rope->kind, HDL_ROPE_YARN);
    assert_true(rope->beta_fast == 32 && rope->beta_slow == 1 && !rope->truncate);
    assert_true(fabs(rope->attn_factor - (0.1 * log(32) + 1)) < 1e-12);
    assert_int_equal(parse_with(rig_config_llama,
                                "\"rope_scaling\":{\"type\":\"yarn\",\"factor\":40,\"mscale\":1.0,"
                                "\"mscale_all_dim\":1.0,\"beta_fast\":16,"
                                "\"original_max_position_embeddings\":4096}",
                                &why),
                     HDL_OK);
    assert_true(rope->attn_factor == 1 && rope->beta_fast == 16 && rope->truncate);
}

/* Keys of Qwen3-Coder's file that say what the architecture is anyway. */
static void test_moe_extras(void **state)
{
    hdl_errmsg why;
    (void)state;
    assert_int_equal(parse_with(rig_config_moe,
                                "\"qkv_bias\":false,\"use_qk_norm\":true,"
                                "\"shared_expert_intermediate_size\":0",
                                &why),
                     HDL_OK);
    assert_int_equal(parse_with(rig_config_moe, "\"use_qk_norm\":false", &why), HDL_UNSUPPORTED);
    assert_int_equal(parse_with(rig_config_moe, "\"shared_expert_intermediate_size\":64", &why),
                     HDL_UNSUPPORTED);
}

static void test_eos_forms(void **state)
{
    hdl_errmsg why;
    (void)state;
    assert_int_equal(parse_with(rig_config_llama, "\"eos_token_id\":2,\"bos_token_id\":1", &why),
                     HDL_OK);
    assert_int_equal(desc.n_eos_ids, 1);
    assert_int_equal(desc.bos_id, 1);
    assert_int_equal(parse_with(rig_config_llama, "\"eos_token_id\":[5,6,7]", &why), HDL_OK);
    assert_int_equal(desc.n_eos_ids, 3);
    assert_int_equal(desc.eos_ids[2], 7);
    assert_int_equal(desc.bos_id, HDL_NONE_U32);
}

/* As Python writes them. */
static void test_words_for_numbers(void **state)
{
    hdl_errmsg why;
    (void)state;
    assert_int_equal(
        parse_with(rig_config_llama, "\"id2label\":[0.0,Infinity,-Infinity,NaN,\"\\\"NaN\"]", &why),
        HDL_OK);
    assert_int_equal(parse_with(rig_config_llama, "\"rope_scaling\":Infinity", &why), HDL_INVALID);
}

static void test_refusals(void **state)
{
    static const struct {
        const char *more, *word;
        hdl_err err;
    } cases[] = {
        {"\"attention_sink\":true", "attention_sink", HDL_UNSUPPORTED},
        {"\"sliding_window\":4096", "sliding_window", HDL_UNSUPPORTED},
        {"\"quantization_config\":{\"quant_method\":\"quip\"}", "quip", HDL_UNSUPPORTED},
        {"\"rope_scaling\":{\"rope_type\":\"dynamic\",\"factor\":4}", "dynamic", HDL_UNSUPPORTED},
        {"\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4}", "original_max", HDL_INVALID},
        {"\"rope_scaling\":{\"rope_type\":\"linear\",\"factor\":4,\"truncate\":true}", "truncate",
         HDL_UNSUPPORTED},
        {"\"rope_scaling\":{\"rope_type\":\"default\",\"act\":1}", "\"act\"", HDL_UNSUPPORTED},
        {"\"rope_scaling\":{\"rope_type\":\"default\",\" type\":1}", "\" type\"", HDL_UNSUPPORTED},
        {"\"rope_scaling\":{\"rope_type\":\"default\",\"rope_type type\":1}", "\"rope_type type\"",
         HDL_UNSUPPORTED},
        {"\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8}", "low_freq_factor",
         HDL_INVALID},
        {"\"rope_scaling\":{\"rope_type\":\"linear\",\"factor\":-2}", "factor", HDL_INVALID},
        {"\"pretraining_tp\":2", "pretraining_tp", HDL_UNSUPPORTED},
        {"\"layer_types\":[\"sliding_attention\"]", "sliding_attention", HDL_UNSUPPORTED},
        {"\"torch_dtype\":\"float8\"", "bfloat16", HDL_INVALID},
        {"\"vocab_size\":97", "vocab_size", HDL_INVALID}, /* twice */
        {"\"eos_token_id\":[1,2,3,4,5,6,7,8,9]", "eos_token_id", HDL_INVALID},
        {"\"eos_token_id\":-4", "eos_token_id", HDL_INVALID},
    };
    (void)state;
    for (size_t i = 0; i < HDL_ARRAY_LEN(cases); i++) {
        hdl_errmsg why;
        assert_int_equal(parse_with(rig_config_llama, cases[i].more, &why), cases[i].err);
        if (!strstr(why.text, cases[i].word))
            fail_msg("\"%s\" does not name %s", why.text, cases[i].word);
    }
}

/* rig_config_llama with one piece of text replaced. */
static hdl_err parse_changed(const char *from, const char *to, hdl_errmsg *why)
{
    char text[4096];
    const char *at = strstr(rig_config_llama, from);
    assert_non_null(at);
    snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - rig_config_llama), rig_config_llama, to,
             at + strlen(from));
    return parse(text, why);
}

static void test_bad_values(void **state)
{
    static const struct {
        const char *from, *to, *word;
    } cases[] = {
        {"\"hidden_size\":64,", "", "hidden_size"},
        {"\"hidden_size\":64", "\"hidden_size\":-64", "hidden_size"},
        {"\"hidden_size\":64", "\"hidden_size\":99999999999", "hidden_size"},
        {"\"hidden_size\":64", "\"hidden_size\":\"64\"", "hidden_size"},
        {"\"intermediate_size\":128,", "", "intermediate_size"},
        {"\"num_hidden_layers\":2", "\"num_hidden_layers\":257", "num_hidden_layers"},
        {"\"num_key_value_heads\":4", "\"num_key_value_heads\":3", "KV heads"},
        {"\"head_dim\":16", "\"head_dim\":15", "head_dim"},
        {"\"rms_norm_eps\":1e-5", "\"rms_norm_eps\":0", "rms_norm_eps"},
        {"\"rms_norm_eps\":1e-5,", "", "rms_norm_eps"},
        {"\"rope_theta\":10000.0", "\"rope_theta\":0", "rope_theta"},
        {"\"hidden_act\":\"silu\"", "\"hidden_act\":\"gelu\"", "hidden_act"},
        {"\"attention_bias\":false", "\"attention_bias\":3", "attention_bias"},
        {"\"LlamaForCausalLM\"", "\"GPT2LMHeadModel\"", "GPT2LMHeadModel"},
        {"\"architectures\":[\"LlamaForCausalLM\"],", "", "architectures"},
        {"\"tie_word_embeddings\":false", "\"tie_word_embeddings\":3", "tie_word_embeddings"},
    };
    (void)state;
    for (size_t i = 0; i < HDL_ARRAY_LEN(cases); i++) {
        hdl_errmsg why;
        assert_int_not_equal(parse_changed(cases[i].from, cases[i].to, &why), HDL_OK);
        if (!strstr(why.text, cases[i].word))
            fail_msg("\"%s\" does not name %s", why.text, cases[i].word);
    }
}

static void test_no_json(void **state)
{
    static const char *const bad[] = {
        "", "[]", "null", "{", "{\"architectures\":3}", "{\"architectures\":[7]}"};
    (void)state;
    for (size_t i = 0; i < HDL_ARRAY_LEN(bad); i++) {
        hdl_errmsg why;
        assert_int_not_equal(parse(bad[i], &why), HDL_OK);
        assert_true(why.text[0] != '\0');
    }
}

static void test_folder_errors(void **state)
{
    hdl_errmsg why = {0};
    (void)state;
    assert_int_equal(hdl_model_desc_load(&desc, "/nonexistent/model", &why), HDL_NOTFOUND);
    assert_non_null(strstr(why.text, "folder"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_moe),           cmocka_unit_test(test_dense_layers_of_a_mixture),
        cmocka_unit_test(test_rope_forms),    cmocka_unit_test(test_yarn),
        cmocka_unit_test(test_moe_extras),    cmocka_unit_test(test_eos_forms),
        cmocka_unit_test(test_refusals),      cmocka_unit_test(test_words_for_numbers),
        cmocka_unit_test(test_bad_values),    cmocka_unit_test(test_no_json),
        cmocka_unit_test(test_folder_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
