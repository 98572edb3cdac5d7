/* SPDX-License-Identifier: Apache-2.0 */
/* What the tables of latent attention make of config.json, and what they refuse; where the heads of
 * kv_b_proj go on each rank; what is cached. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/fs.h"
#include "goldens.h"
#include "kernels/numeric.h"
#include "rig.h"
#include "worker/load/quant.h"
#include "worker/model/arch.h"

#define KV_B "model.layers.1.self_attn.kv_b_proj.weight"

static hdl_model_desc desc;

static void test_v3(void **state)
{
    (void)state;
    rig_golden_load(&desc, "deepseek-v3");
    assert_int_equal(desc.head_dim, 48);
    assert_int_equal(desc.ropes[0].dim, 16);
    assert_true(desc.ropes[0].interleaved);
    assert_true(desc.router.group_top2 && desc.router.renorm && desc.router_correction);
    assert_int_equal(desc.shared_inter, desc.moe_inter);
    assert_int_equal(desc.layers[0].ffn, HDL_FFN_DENSE);
    assert_int_equal(desc.layers[1].ffn, HDL_FFN_MOE);
    /* Scores are multiplied by (0.1 ln 8 + 1)^2 / sqrt(48); cos and sin by nothing, because mscale
     * equals mscale_all_dim. */
    double factor = 0.1 * log(8) + 1;
    assert_true(fabs((double)desc.attn_scale - factor * factor / sqrt(48)) < 1e-6);
    assert_true(desc.ropes[0].attn_factor == 1.0);
    /* One row of kv_rank + rope_dim values a layer. */
    assert_int_equal(desc.n_cache_groups, 1);
    assert_int_equal(desc.cache_groups[0].rule.kind, HDL_CACHE_LATENT);
    assert_int_equal(hdl_model_kv_bytes_per_token(&desc), 2 * (48 + 16) * 2);
}

static void test_v2(void **state)
{
    hdl_errmsg why;
    (void)state;
    rig_golden_load(&desc, "deepseek-v2");
    assert_int_equal(desc.router.n_group, 4);
    assert_false(desc.router.group_top2 || desc.router.renorm || desc.router_correction);
    rig_golden_load(&desc, "deepseek-v2-lite");
    assert_int_equal(desc.mla.q_rank, 0);
    assert_int_equal(desc.router.n_group, 0);
    assert_int_equal(desc.shared_inter, 2 * desc.moe_inter);
    assert_int_equal(
        rig_golden_desc(
            &desc, (rig_edit){"deepseek-v2", "\"group_limited_greedy\"", "\"noaux_tc\""}, &why),
        HDL_UNSUPPORTED);
    assert_non_null(strstr(why.text, "topk_method"));
}

/* Mistral3ForConditionalGeneration is told from others by the text model inside. */
static void test_inner(void **state)
{
    (void)state;
    rig_golden_load(&desc, "mistral3-mla");
    assert_string_equal(desc.arch, "Mistral3ForConditionalGeneration");
    assert_int_equal(desc.layers[0].mixer, HDL_MIXER_MLA);
    assert_true(desc.layers[0].q_temp);
    assert_true(hdl_arch_skips(&desc, "vision_tower.patch_conv.weight"));
    rig_golden_load(&desc, "mistral3");
    assert_int_equal(desc.layers[0].mixer, HDL_MIXER_ATTENTION);
}

static void test_refusals(void **state)
{
    static const struct {
        const char *name, *from, *to, *word;
        hdl_err err;
    } cases[] = {
        {"deepseek-v3", "\"kv_lora_rank\": 48", "\"kv_lora_rank\": null", "kv_lora_rank",
         HDL_INVALID},
        {"deepseek-v3", "\"moe_layer_freq\": 1", "\"moe_layer_freq\": 2", "moe_layer_freq",
         HDL_UNSUPPORTED},
        {"deepseek-v3", "\"sigmoid\"", "\"softmax\"", "scoring_func", HDL_UNSUPPORTED},
        {"deepseek-v3", "\"attention_bias\": false", "\"attention_bias\": true", "attention_bias",
         HDL_UNSUPPORTED},
        {"deepseek-v3", "\"n_group\": 4", "\"n_group\": 3", "3 groups", HDL_INVALID},
        {"deepseek-v3", "\"ep_size\": 1", "\"index_topk\": 2048", "index_topk", HDL_UNSUPPORTED},
        {"deepseek-v3", "DeepseekV3ForCausalLM", "DeepseekV32ForCausalLM", "indexer",
         HDL_UNSUPPORTED},
        {"deepseek-v3", "\"qk_rope_head_dim\": 16", "\"qk_rope_head_dim\": 15", "rotary",
         HDL_UNSUPPORTED},
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

/* Layers past the last one predict further tokens; they are left out, whatever they hold. */
static void test_skips(void **state)
{
    (void)state;
    rig_golden_load(&desc, "deepseek-v3");
    assert_true(hdl_arch_skips(&desc, "model.layers.2.eh_proj.weight"));
    assert_true(hdl_arch_skips(&desc, "model.layers.2.mlp.experts.0.up_proj.weight_scale_inv"));
    assert_false(hdl_arch_skips(&desc, "model.layers.1.mlp.experts.0.up_proj.weight"));
}

/* kv_b_proj holds for each head its rows for k, then its rows for v. */
static void test_kv_b(void **state)
{
    char dir[256], path[512];
    size_t len = 0;
    hdl_errmsg why;
    hdl_files *files = NULL;
    hdl_found k, v;
    float value = 0;
    const uint32_t head = 2, each = 64, rank = 48; /* 32 + 32 rows of 48 */
    (void)state;
    rig_golden_load(&desc, "deepseek-v3");
    snprintf(path, sizeof(path), RIG_GOLDENS "deepseek-v3.json");
    char *config = rig_read(path, &len);
    rig_make_model(dir, config, HDL_DTYPE_BF16);
    assert_int_equal(hdl_files_open(&files, dir, &why), HDL_OK);
    hdl_files_ask ask = {&desc, {HDL_WSLOT_MLA_K_B, 1, 0}};
    assert_int_equal(hdl_files_find(files, ask, &k, &why), HDL_OK);
    ask.at.slot = HDL_WSLOT_MLA_V_B;
    assert_int_equal(hdl_files_find(files, ask, &v, &why), HDL_OK);
    /* Transposed: row r is the latent's value r, columns are the head's. */
    assert_true(k.heads.across && k.heads.each == 32 && k.heads.step == each);
    assert_int_equal(k.src.n_rows, rank);
    hdl_source_values(&k.src, (hdl_span){7, head * k.heads.step + k.heads.first + 5, 1}, &value);
    assert_true(value == rig_weight(KV_B, (head * each + 5) * rank + 7, rank, false));
    assert_false(v.heads.across);
    hdl_source_values(&v.src, (hdl_span){head * v.heads.step + v.heads.first + 5, 7, 1}, &value);
    assert_true(value == rig_weight(KV_B, (head * each + 32 + 5) * rank + 7, rank, false));
    hdl_files_close(files);
    rig_remove(dir);
    free(config);
}

/* One tensor of E4M3 codes i % 120 and the scales of its blocks of 128 x 128. */
static void write_fp8(const char *dir, uint32_t rows, uint32_t cols)
{
    char path[512], header[512];
    snprintf(path, sizeof(path), "%s/model.safetensors", dir);
    uint32_t n = rows * cols;
    int len = snprintf(header, sizeof(header),
                       "{\"%s\":{\"dtype\":\"F8_E4M3\",\"shape\":[%u,%u],\"data_offsets\":[0,%u]},"
                       "\"%s_scale_inv\":{\"dtype\":\"F32\",\"shape\":[2,1],"
                       "\"data_offsets\":[%u,%u]}}",
                       KV_B, rows, cols, n, KV_B, n, n + 8);
    uint64_t size = (uint64_t)len;
    float scales[2] = {0.5f, 0.75f};
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fwrite(&size, sizeof(size), 1, f);
    fwrite(header, 1, (size_t)len, f);
    for (uint32_t i = 0; i < n; i++)
        fputc((int)(i % 120), f);
    fwrite(scales, sizeof(scales), 1, f);
    assert_int_equal(fclose(f), 0);
}

/* FP8 is transposed with its scales, and kept as FP8 where the heads' parts fit its groups. */
static void test_fp8_kv_b(void **state)
{
    char dir[256];
    hdl_errmsg why;
    hdl_files *files = NULL;
    hdl_found k;
    float value = 0;
    (void)state;
    const rig_edit fp8 = {"deepseek-v3", "\"ep_size\": 1",
                          "\"quantization_config\": {\"quant_method\": \"fp8\", \"fmt\": "
                          "\"e4m3\", \"activation_scheme\": \"dynamic\", "
                          "\"weight_block_size\": [128, 128]}"};
    assert_int_equal(rig_golden_desc(&desc, fp8, &why), HDL_OK);
    assert_int_equal(hdl_fs_mkdtemp(dir, sizeof(dir), "heddle-fp8-", &why), HDL_OK);
    write_fp8(dir, 256, 48);
    assert_int_equal(hdl_files_open(&files, dir, &why), HDL_OK);
    hdl_files_ask ask = {&desc, {HDL_WSLOT_MLA_K_B, 1, 0}};
    if (hdl_files_find(files, ask, &k, &why) != HDL_OK)
        fail_msg("%s", why.text);
    uint32_t row = 2 * 64 + 5; /* of head 2, in the second block */
    hdl_source_values(&k.src, (hdl_span){7, row, 1}, &value);
    assert_true(value == hdl_e4m3_to_f32((uint8_t)((row * 48 + 7) % 120)) * 0.75f);
    hdl_source head = hdl_source_part(&k.src, (hdl_window){0, 48, 2 * 64, 32});
    assert_int_equal(hdl_quant_kind(&head, HDL_WFORMAT_COUNT, 32).format, HDL_WFORMAT_FP8_32);
    hdl_files_close(files);
    rig_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_v3),       cmocka_unit_test(test_v2),    cmocka_unit_test(test_inner),
        cmocka_unit_test(test_refusals), cmocka_unit_test(test_skips), cmocka_unit_test(test_kv_b),
        cmocka_unit_test(test_fp8_kv_b),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
