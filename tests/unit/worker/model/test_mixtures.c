/* SPDX-License-Identifier: Apache-2.0 */
/* What the tables of the mixtures make of config.json: the golden configurations of each family,
 * and what they refuse. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rig.h"
#include "worker/model/arch.h"

static hdl_model_desc desc;

static void test_refusals(void **state)
{
    static const struct {
        const char *name, *from, *to, *word;
        hdl_err err;
    } cases[] = {
        {"qwen2moe", "\"use_sliding_window\": false", "\"use_sliding_window\": true",
         "use_sliding_window", HDL_UNSUPPORTED},
        {"glm4moe-groups", "\"n_group\": 4", "\"n_group\": 5", "5 groups", HDL_INVALID},
        {"glm4moe-groups", "\"topk_group\": 2", "\"topk_group\": 5", "5 of 4", HDL_INVALID},
        {"glm4moe", "\"partial_rotary_factor\": 0.5", "\"partial_rotary_factor\": 1.5",
         "partial_rotary_factor", HDL_INVALID},
        {"minimaxm2", "\"per_layer\"", "\"per_head\"", "qk_norm_type", HDL_UNSUPPORTED},
        {"minimaxm2", "\"rotary_dim\": 8", "\"rotary_dim\": 7", "7 of a head's 16",
         HDL_UNSUPPORTED},
        {"minimaxm2", "\"shared_intermediate_size\": 0", "\"shared_intermediate_size\": 64",
         "shared_intermediate_size", HDL_UNSUPPORTED},
        {"gptoss", "\"layer_types\"", "\"id2label\"", "lacks layer_types", HDL_INVALID},
        {"gptoss", "\"full_attention\",", "", "2 entries for 3 layers", HDL_INVALID},
        {"gptoss", "\"full_attention\"", "\"linear_attention\"", "linear_attention",
         HDL_UNSUPPORTED},
        {"gptoss", "\"sliding_window\": 24,", "", "lacks sliding_window", HDL_INVALID},
        {"llama4-maverick", "\"text_config\"", "\"vision_config2\"", "text_config", HDL_INVALID},
        {"llama4-maverick", "\"vision_config\"", "\"audio_config\"", "audio_config",
         HDL_UNSUPPORTED},
        {"llama4-maverick", "\"floor_scale\"", "\"ceil_scale\"", "ceil_scale", HDL_UNSUPPORTED},
        {"llama4-scout", "\"attention_bias\": false", "\"attention_bias\": true", "attention_bias",
         HDL_UNSUPPORTED},
        {"llama4-scout", "\"no_rope_layers\": []", "\"no_rope_layers\": [1, 0]", "no_rope_layers",
         HDL_INVALID},
    };
    (void)state;
    for (size_t i = 0; i < HDL_ARRAY_LEN(cases); i++) {
        hdl_errmsg why;
        hdl_err err =
            rig_golden_desc(&desc, (rig_edit){cases[i].name, cases[i].from, cases[i].to}, &why);
        if (err != cases[i].err || !strstr(why.text, cases[i].word))
            fail_msg("%s with %s: error %d, \"%s\"", cases[i].name, cases[i].to, (int)err,
                     why.text);
    }
}

static void test_qwen2moe(void **state)
{
    (void)state;
    rig_golden_load(&desc, "qwen2moe");
    assert_true(desc.qkv_bias && desc.shared_gate && !desc.o_bias && !desc.router.renorm);
    assert_int_equal(desc.shared_inter, 128);
    rig_golden_load(&desc, "qwen2moe-odd"); /* decoder_sparse_step 2 */
    assert_int_equal(desc.layers[0].ffn, HDL_FFN_DENSE);
    assert_int_equal(desc.layers[1].ffn, HDL_FFN_MOE);
}

static void test_glm4moe(void **state)
{
    (void)state;
    rig_golden_load(&desc, "glm4moe");
    assert_int_equal(desc.qk_norm, HDL_QK_NORM_HEAD);
    assert_int_equal(desc.ropes[0].dim, 8);
    assert_int_equal(desc.layers[0].ffn, HDL_FFN_DENSE);
    assert_int_equal(desc.layers[1].ffn, HDL_FFN_MOE);
    assert_true(desc.router.scale == 2.5f && desc.router.group_top2 && desc.router_correction);
    rig_golden_load(&desc, "glm4moe-groups");
    assert_int_equal(desc.qk_norm, HDL_QK_NORM_NONE);
    assert_int_equal(desc.shared_inter, 64); /* two experts side by side */
    assert_int_equal(desc.layers[0].ffn, HDL_FFN_MOE);
}

static void test_gptoss(void **state)
{
    (void)state;
    rig_golden_load(&desc, "gptoss");
    assert_true(desc.qkv_bias && desc.o_bias && desc.router_bias && desc.expert_bias);
    assert_true(desc.glu_limit == 1.5f && desc.glu_alpha == 1.702f && desc.attn_sinks);
    assert_int_equal(desc.layers[0].window, 24);
    assert_int_equal(desc.layers[1].window, 0);
    assert_int_equal(desc.ropes[0].kind, HDL_ROPE_YARN);
    assert_false(desc.ropes[0].truncate);
}

static void test_llama4(void **state)
{
    hdl_errmsg why;
    (void)state;
    rig_golden_load(&desc, "llama4-scout");
    for (uint32_t i = 0; i < 5; i++) {
        bool rotates = i != 3;
        assert_int_equal(desc.layers[i].rope, rotates ? 0 : HDL_ROPE_NONE);
        assert_int_equal(desc.layers[i].chunk, rotates ? 48 : 0);
        assert_int_equal(desc.layers[i].q_temp, !rotates);
        assert_int_equal(desc.layers[i].ffn, HDL_FFN_MOE);
    }
    assert_true(desc.ropes[0].interleaved && desc.q_temp.floor_scale == 32);
    assert_int_equal(
        rig_golden_desc(&desc,
                        (rig_edit){"llama4-scout", "\"no_rope_layers\": []",
                                   "\"no_rope_layers\": [0, 1, 1, 1, 0], \"moe_layers\": [2]"},
                        &why),
        HDL_OK);
    assert_int_equal(desc.layers[0].rope, HDL_ROPE_NONE);
    assert_int_equal(desc.layers[3].rope, 0);
    assert_int_equal(desc.layers[1].ffn, HDL_FFN_DENSE);
    assert_int_equal(desc.layers[2].ffn, HDL_FFN_MOE);
    assert_int_equal(rig_golden_desc(&desc,
                                     (rig_edit){"llama4-scout", "\"attn_temperature_tuning\": true",
                                                "\"attn_temperature_tuning\": 0"},
                                     &why),
                     HDL_OK);
    assert_false(desc.layers[3].q_temp);
    rig_golden_load(&desc, "llama4-maverick");
    assert_int_equal(desc.qk_norm, HDL_QK_NORM_NONE);
    assert_int_equal(desc.layers[0].ffn, HDL_FFN_DENSE);
    assert_int_equal(desc.layers[1].ffn, HDL_FFN_MOE);
}

/* Tensors of parts that are not run are left out; layers that are run are not. */
static void test_skips(void **state)
{
    (void)state;
    rig_golden_load(&desc, "glm4moe");
    assert_true(hdl_arch_skips(&desc, "model.layers.3.eh_proj.weight"));
    assert_true(hdl_arch_skips(&desc, "model.layers.10.embed_tokens.weight"));
    assert_false(hdl_arch_skips(&desc, "model.layers.2.eh_proj.weight"));
    assert_false(hdl_arch_skips(&desc, "model.layers.x"));
    assert_false(hdl_arch_skips(&desc, "model.layers.3"));
    rig_golden_load(&desc, "llama4-maverick");
    assert_true(hdl_arch_skips(&desc, "vision_model.class_embedding"));
    assert_true(hdl_arch_skips(&desc, "multi_modal_projector.linear_1.weight"));
    assert_false(hdl_arch_skips(&desc, "language_model.model.layers.9.extra"));
    rig_golden_load(&desc, "qwen2moe");
    assert_false(hdl_arch_skips(&desc, "model.layers.3.eh_proj.weight"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals), cmocka_unit_test(test_qwen2moe),
        cmocka_unit_test(test_glm4moe),  cmocka_unit_test(test_gptoss),
        cmocka_unit_test(test_llama4),   cmocka_unit_test(test_skips),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
