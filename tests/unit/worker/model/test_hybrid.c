/* SPDX-License-Identifier: Apache-2.0 */
/* What the tables of Qwen3-Next and Qwen3.5 make of config.json, and what they refuse; where the
 * rows of their fused tensors are; what a sequence's state takes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "goldens.h"
#include "rig.h"
#include "worker/load/files.h"
#include "worker/model/arch.h"

static hdl_model_desc desc;

static void test_next(void **state)
{
    hdl_errmsg why;
    (void)state;
    rig_golden_load(&desc, "qwen3next");
    assert_int_equal(desc.layers[0].mixer, HDL_MIXER_GDN); /* by full_attention_interval */
    assert_int_equal(desc.layers[1].mixer, HDL_MIXER_ATTENTION);
    assert_int_equal(desc.layers[0].ffn, HDL_FFN_MOE);
    assert_true(desc.norm_plus_one && desc.attn_gate && desc.shared_gate && desc.router.renorm);
    assert_int_equal(desc.ropes[0].dim, 8); /* a quarter of 32 */
    rig_golden_load(&desc, "qwen3next-odd");
    assert_int_equal(desc.layers[0].mixer, HDL_MIXER_ATTENTION);
    assert_int_equal(desc.layers[1].mixer, HDL_MIXER_GDN);
    assert_int_equal(desc.layers[0].ffn, HDL_FFN_DENSE);
    assert_false(desc.router.renorm);
    assert_int_equal(
        rig_golden_desc(&desc,
                        (rig_edit){"qwen3next-odd", "\"full_attention\"", "\"sliding_attention\""},
                        &why),
        HDL_INVALID);
}

/* All of one sequence and layer: matrices of its v heads and three inputs of the convolution. */
static void test_state(void **state)
{
    (void)state;
    rig_golden_load(&desc, "qwen35");
    assert_int_equal(desc.n_cache_groups, 2);
    assert_int_equal(desc.cache_groups[0].rule.kind, HDL_CACHE_STATE);
    assert_int_equal(desc.cache_groups[0].n_layers, 2);
    assert_int_equal(hdl_model_kv_bytes_fixed(&desc), 2 * (4 * 32 * 32 + 3 * 384) * 4);
    assert_int_equal(hdl_model_kv_bytes_per_token(&desc), 1 * 2 * 2 * 32 * 2);
    /* Ranks share k heads, each with its v heads. */
    hdl_shard s = hdl_shard_of(&desc, &(hdl_layout){2, 1, 1, 1}, 1);
    assert_int_equal(s.gdn_k_heads, 2);
    assert_int_equal(s.gdn_v_heads, 2);
    hdl_slice v = hdl_slot_slice(&desc, &s, HDL_WSLOT_GDN_V);
    assert_int_equal(v.row_at, 2 * 32);
    assert_int_equal(v.n_rows, 2 * 32);
}

static void test_layouts(void **state)
{
    hdl_errmsg why = {0};
    (void)state;
    rig_golden_load(&desc, "qwen3next"); /* 4 k heads, 8 heads of attention */
    assert_int_equal(hdl_layout_check(&desc, &(hdl_layout){4, 4, 1, 1}, &why), HDL_OK);
    assert_int_equal(hdl_layout_check(&desc, &(hdl_layout){8, 8, 1, 1}, &why), HDL_UNSUPPORTED);
    assert_non_null(strstr(why.text, "key heads"));
}

/* What is around the text model is left out, and what predicts further tokens. */
static void test_skips(void **state)
{
    (void)state;
    rig_golden_load(&desc, "qwen35moe-vl");
    assert_true(hdl_arch_skips(&desc, "model.visual.blocks.0.attn.qkv.weight"));
    assert_true(hdl_arch_skips(&desc, "mtp.layers.0.mlp.experts.gate_up_proj"));
    assert_false(hdl_arch_skips(&desc, "model.language_model.layers.0.extra"));
}

/* ... though it is counted: a layer of attention, the matrix before it, three norms. */
static void test_further_tokens(void **state)
{
    const uint64_t attention = 64 * (2 * 4 + 2 * 2 + 4) * 32 + 2 * 32, mlp = 3 * 64 * 128;
    (void)state;
    rig_golden_load(&desc, "qwen35");
    assert_int_equal(desc.n_mtp_layers, 1);
    hdl_model_params p = hdl_model_count_params(&desc);
    assert_int_equal(p.published - p.total, attention + mlp + 2 * 64 + 2 * 64 * 64 + 3 * 64);
    assert_int_equal(p.head, 97 * 64);
    desc.mtp_vocab = true;
    p.published += 2 * p.head;
    assert_int_equal(hdl_model_count_params(&desc).published, p.published);
    desc.n_mtp_layers = 0;
    assert_int_equal(hdl_model_count_params(&desc).published, p.total);
}

static void test_refusals(void **state)
{
    static const struct {
        const char *name, *from, *to, *word;
        hdl_err err;
    } cases[] = {
        {"qwen35", "\"attn_output_gate\": true", "\"attn_output_gate\": false", "attn_output_gate",
         HDL_UNSUPPORTED},
        {"qwen35", "\"mamba_ssm_dtype\": \"float32\"", "\"mamba_ssm_dtype\": \"bfloat16\"",
         "mamba_ssm_dtype", HDL_UNSUPPORTED},
        {"qwen35", "\"linear_num_key_heads\": 4", "\"linear_num_key_heads\": 3", "3 key heads",
         HDL_INVALID},
        {"qwen35", "\"mrope_interleaved\"", "\"mrope_turned\"", "mrope_turned", HDL_UNSUPPORTED},
        {"qwen3next", "\"use_sliding_window\": false", "\"use_sliding_window\": true",
         "use_sliding_window", HDL_UNSUPPORTED},
    };
    (void)state;
    for (size_t i = 0; i < HDL_ARRAY_LEN(cases); i++) {
        hdl_errmsg why;
        assert_int_equal(
            rig_golden_desc(&desc, (rig_edit){cases[i].name, cases[i].from, cases[i].to}, &why),
            cases[i].err);
        if (!strstr(why.text, cases[i].word))
            fail_msg("%s -> %s: %s", cases[i].from, cases[i].to, why.text);
    }
}

/* in_proj_qkvz holds for each k head its q, its k, its v heads' v and their z. */
static void test_fused(void **state)
{
    char dir[256];
    size_t len = 0;
    hdl_errmsg why;
    hdl_files *files = NULL;
    static const char name[] = "model.layers.0.linear_attn.in_proj_qkvz.weight";
    static const struct {
        hdl_wslot slot;
        uint32_t first, each;
    } parts[] = {{HDL_WSLOT_GDN_Q, 0, 16},
                 {HDL_WSLOT_GDN_K, 16, 16},
                 {HDL_WSLOT_GDN_V, 32, 64},
                 {HDL_WSLOT_GDN_Z, 96, 64}};
    const uint32_t step = 160, head = 3;
    (void)state;
    rig_golden_load(&desc, "qwen3next");
    char *config = rig_read(RIG_GOLDENS "qwen3next.json", &len);
    rig_make_model(dir, config, HDL_DTYPE_BF16);
    assert_int_equal(hdl_files_open(&files, dir, &why), HDL_OK);
    for (size_t i = 0; i < HDL_ARRAY_LEN(parts); i++) {
        hdl_found f;
        float value = 0;
        hdl_files_ask ask = {&desc, {parts[i].slot, 0, 0}};
        assert_int_equal(hdl_files_find(files, ask, &f, &why), HDL_OK);
        assert_int_equal(f.heads.each, parts[i].each);
        assert_int_equal(f.heads.step, step);
        assert_int_equal(f.heads.first, parts[i].first);
        uint32_t row = head * step + parts[i].first + 5;
        hdl_source_values(&f.src, (hdl_span){row, 7, 1}, &value);
        assert_true(value == rig_weight(name, (uint64_t)row * 64 + 7, 64, false));
    }
    hdl_files_close(files);
    rig_remove(dir);
    free(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_next),           cmocka_unit_test(test_state),
        cmocka_unit_test(test_layouts),        cmocka_unit_test(test_skips),
        cmocka_unit_test(test_refusals),       cmocka_unit_test(test_fused),
        cmocka_unit_test(test_further_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
