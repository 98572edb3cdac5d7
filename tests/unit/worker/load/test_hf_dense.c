/* SPDX-License-Identifier: Apache-2.0 */
/* config.json of the dense families -> description, from the configurations of the goldens: what
 * their own keys mean, and which contradictions are refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "goldens.h"
#include "rig.h"
#include "worker/model/arch.h"

static hdl_model_desc desc;
static hdl_errmsg why;

/* A golden's config with `from` (its first place) replaced; from NULL: as it is. */
static hdl_err parse(const char *golden, const char *from, const char *to)
{
    char path[512], text[8192];
    size_t len = 0;
    snprintf(path, sizeof(path), RIG_GOLDENS "%s.json", golden);
    char *json = rig_read(path, &len);
    const char *at = from ? strstr(json, from) : json;
    if (!at)
        fail_msg("%s does not hold %s", path, from);
    snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - json), json, from ? to : "",
             at + (from ? strlen(from) : 0));
    free(json);
    why = (hdl_errmsg){0};
    return hdl_model_desc_parse(&desc, text, strlen(text), &why);
}

static void read(const char *golden)
{
    if (parse(golden, NULL, NULL) != HDL_OK)
        fail_msg("%s: %s", golden, why.text);
}

static void check_windows(const uint32_t *windows)
{
    for (uint32_t i = 0; i < desc.n_layers; i++)
        assert_int_equal(desc.layers[i].window, windows[i]);
}

static bool near(double a, double b) { return fabs(a - b) <= 1e-6 * fabs(b); }

static void test_llama(void **state)
{
    (void)state;
    read("llama-bias");
    assert_true(desc.qkv_bias && desc.o_bias && desc.ffn_bias);
    read("llama");
    assert_true(!desc.qkv_bias && !desc.o_bias && !desc.ffn_bias && !desc.post_norm);
}

static void test_mistral(void **state)
{
    (void)state;
    read("mistral-window");
    check_windows((uint32_t[]){12, 12});
    read("ministral");
    check_windows((uint32_t[]){0, 20, 20});
    assert_int_equal(parse("ministral", "\"layer_types\"", "\"_name_or_path\""), HDL_OK);
    check_windows((uint32_t[]){20, 20, 20}); /* as transformers fills it in */
    read("ministral3");
    assert_true(near(desc.q_temp.beta, 0.1) && desc.q_temp.floor_scale == 64);
    assert_true(desc.q_temp.offset == 0 && desc.layers[1].q_temp);
    assert_int_equal(desc.ropes[0].kind, HDL_ROPE_YARN);
    assert_true(desc.ropes[0].attn_factor == 1 && desc.ropes[0].theta == 1e6);
}

static void test_mistral_with_images(void **state)
{
    (void)state;
    read("mistral3");
    assert_string_equal(desc.arch, "Mistral3ForConditionalGeneration");
    assert_true(desc.q_temp.beta > 0 && !desc.tied);
    assert_int_equal(desc.hidden, 64); /* not the tower's */
    assert_true(hdl_arch_skips(&desc, "vision_tower.transformer.layers.0.attention.q_proj.weight"));
    assert_true(hdl_arch_skips(&desc, "multi_modal_projector.linear_1.weight"));
    assert_false(hdl_arch_skips(&desc, "language_model.model.layers.3.mlp.up_proj.weight"));
    assert_int_equal(parse("mistral3", "\"ministral3\"", "\"mistral9\""), HDL_UNSUPPORTED);
    assert_non_null(strstr(why.text, "mistral9"));
    assert_int_equal(parse("mistral3", "\"text_config\"", "\"_name_or_path\""), HDL_INVALID);
    assert_non_null(strstr(why.text, "text_config"));
}

static void test_qwen(void **state)
{
    (void)state;
    read("qwen2");
    assert_true(desc.qkv_bias && !desc.o_bias && desc.tied);
    check_windows((uint32_t[]){0, 24, 24});
    read("qwen2-yarn"); /* use_sliding_window is false */
    check_windows((uint32_t[]){0, 0});
    assert_true(near(desc.ropes[0].attn_factor, 0.1 * log(4) + 1));
    read("qwen3-bias");
    assert_true(desc.qkv_bias && desc.o_bias && desc.qk_norm == HDL_QK_NORM_HEAD);
    check_windows((uint32_t[]){0, 0, 24});
    const char *types = "\"layer_types\":[\"full_attention\",\"sliding_attention\"],\"use_cache\"";
    assert_int_equal(parse("qwen2-yarn", "\"tie_word_embeddings\"", types), HDL_INVALID);
    assert_non_null(strstr(why.text, "use_sliding_window"));
    assert_int_equal(
        parse("qwen2-yarn", "\"tie_word_embeddings\"", "\"use_mrope\": true, \"use_cache\""),
        HDL_UNSUPPORTED);
}

static void test_gemma2(void **state)
{
    (void)state;
    read("gemma2");
    assert_true(desc.pre_norm && desc.post_norm && desc.norm_plus_one && desc.tied);
    assert_true(desc.glu == HDL_GLU_GELU && desc.embed_scale == 8);
    assert_true(near((double)desc.attn_scale, 1 / sqrt(24)));
    assert_true(desc.attn_softcap == 5 && desc.logit_softcap == 10);
    check_windows((uint32_t[]){20, 0, 20});
    assert_int_equal(
        parse("gemma2", "\"final_logit_softcapping\": 10.0", "\"final_logit_softcapping\": null"),
        HDL_OK);
    assert_true(desc.logit_softcap == 0 && desc.attn_softcap == 5);
    assert_int_equal(parse("gemma2", "\"sliding_window\": 20", "\"use_cache\": true"), HDL_INVALID);
    assert_non_null(strstr(why.text, "sliding_window"));
    assert_int_equal(
        parse("gemma2", "\"attn_logit_softcapping\": 5.0", "\"attn_logit_softcapping\": -5.0"),
        HDL_INVALID);
    assert_int_equal(parse("gemma2", "\"gelu_pytorch_tanh\"", "\"gelu\""), HDL_UNSUPPORTED);
}

static void test_gemma3(void **state)
{
    (void)state;
    read("gemma3");
    assert_true(desc.attn_softcap == 0 && desc.logit_softcap == 0);
    assert_int_equal(desc.n_ropes, 2);
    assert_true(desc.ropes[0].kind == HDL_ROPE_LINEAR && desc.ropes[0].factor == 8);
    assert_true(desc.ropes[1].kind == HDL_ROPE_PLAIN && desc.ropes[1].theta == 1000);
    check_windows((uint32_t[]){20, 20, 0});
    assert_int_equal(desc.layers[1].rope, 1);
    assert_int_equal(desc.layers[2].rope, 0);
    read("gemma3-image"); /* as transformers 5 writes the tables */
    assert_true(desc.ropes[0].kind == HDL_ROPE_LINEAR && desc.ropes[0].theta == 1e6);
    assert_true(desc.ropes[1].kind == HDL_ROPE_PLAIN && desc.ropes[1].theta == 1e4);
    check_windows((uint32_t[]){20, 0, 20});
    assert_int_equal(desc.n_eos_ids, 2);
    assert_int_equal(parse("gemma3-image", "\"full_attention\": {", "\"other\": {"),
                     HDL_UNSUPPORTED);
    assert_non_null(strstr(why.text, "other"));
}

/* The published files of Gemma 3 with images leave out what is a default. */
static void test_gemma3_defaults(void **state)
{
    static const char json[] =
        "{\"architectures\":[\"Gemma3ForConditionalGeneration\"],\"model_type\":\"gemma3\","
        "\"text_config\":{\"hidden_size\":2560,\"intermediate_size\":10240,"
        "\"model_type\":\"gemma3_text\",\"num_hidden_layers\":34,\"sliding_window\":1024,"
        "\"rope_scaling\":{\"factor\":8.0,\"rope_type\":\"linear\"}},\"vision_config\":{}}";
    (void)state;
    assert_int_equal(hdl_model_desc_parse(&desc, json, strlen(json), &why), HDL_OK);
    assert_true(desc.n_heads == 8 && desc.n_kv_heads == 4 && desc.head_dim == 256);
    assert_true(desc.vocab == 262208 && desc.max_len == 131072 && desc.tied);
    assert_true(desc.layers[4].window == 1024 && desc.layers[5].window == 0);
    assert_int_equal(hdl_model_count_params(&desc).total, 3880263168);
}

static void test_phi3(void **state)
{
    (void)state;
    read("phi3-long");
    const hdl_rope *rope = &desc.ropes[0];
    assert_true(rope->kind == HDL_ROPE_LONGROPE && rope->dim == 24 && rope->n_factors == 12);
    assert_int_equal(rope->original_max_len, 64);
    assert_true(near(rope->attn_factor, sqrt(1 + log(512.0 / 64) / log(64))));
    assert_true(rope->short_factors[3] == 1 && rope->long_factors[1] == 1.7f);
    read("phi3"); /* no longer than in pre-training */
    assert_true(rope->attn_factor == 0 && rope->original_max_len == 512);
    assert_int_equal(parse("phi3", "\"longrope\"", "\"su\""), HDL_OK);
    assert_int_equal(rope->kind, HDL_ROPE_LONGROPE);
    /* The length beside max_position_embeddings goes before the one in rope_scaling. */
    assert_int_equal(
        parse("phi3", "\"longrope\"", "\"longrope\", \"original_max_position_embeddings\": 100"),
        HDL_OK);
    assert_int_equal(rope->original_max_len, 512);
    assert_int_equal(parse("phi3-long", "0.75", "0.5"), HDL_INVALID);
    assert_non_null(strstr(why.text, "12 factors"));
    assert_int_equal(parse("phi3-long", "0.75", "1.5"), HDL_INVALID);
    assert_int_equal(parse("phi3-long", "\"long_factor\": [", "\"long_factor\": [1.0,"),
                     HDL_INVALID);
    assert_int_equal(parse("phi3-long", "\"longrope\"", "\"dynamic\""), HDL_UNSUPPORTED);
    assert_non_null(strstr(why.text, "dynamic"));
}

static void test_olmo2(void **state)
{
    (void)state;
    read("olmo2");
    assert_true(!desc.pre_norm && desc.post_norm && desc.qk_norm == HDL_QK_NORM_PROJECTION);
    assert_int_equal(parse("olmo2", "\"attention_bias\": false", "\"clip_qkv\": 8.0"),
                     HDL_UNSUPPORTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_llama),
        cmocka_unit_test(test_mistral),
        cmocka_unit_test(test_mistral_with_images),
        cmocka_unit_test(test_qwen),
        cmocka_unit_test(test_gemma2),
        cmocka_unit_test(test_gemma3),
        cmocka_unit_test(test_gemma3_defaults),
        cmocka_unit_test(test_phi3),
        cmocka_unit_test(test_olmo2),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
