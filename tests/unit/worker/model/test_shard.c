/* SPDX-License-Identifier: Apache-2.0 */
/* Shards of published models on every layout up to 64 ranks, without a weight: each value of each
 * matrix is held by exactly the ranks that it should be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <heddle/config.h>

#include "rig.h"
#include "worker/model/slots.h"

static hdl_model_desc desc;

static void describe(const char *json)
{
    hdl_errmsg why = {0};
    if (hdl_model_desc_parse(&desc, json, strlen(json), &why) != HDL_OK)
        fail_msg("%s", why.text);
}

/* Large shapes, as published; only what shards depend on. */
static const char config_235b[] =
    "{\"architectures\":[\"Qwen3MoeForCausalLM\"],\"vocab_size\":151936,\"hidden_size\":4096,"
    "\"intermediate_size\":12288,\"moe_intermediate_size\":1536,\"num_hidden_layers\":94,"
    "\"num_attention_heads\":64,\"num_key_value_heads\":4,\"head_dim\":128,\"num_experts\":128,"
    "\"num_experts_per_tok\":8,\"norm_topk_prob\":true,\"rms_norm_eps\":1e-6,"
    "\"max_position_embeddings\":40960,\"rope_theta\":1e6,\"hidden_act\":\"silu\"}";
static const char config_70b[] =
    "{\"architectures\":[\"LlamaForCausalLM\"],\"vocab_size\":128256,\"hidden_size\":8192,"
    "\"intermediate_size\":28672,\"num_hidden_layers\":80,\"num_attention_heads\":64,"
    "\"num_key_value_heads\":8,\"rms_norm_eps\":1e-5,\"max_position_embeddings\":131072,"
    "\"rope_theta\":5e5,\"hidden_act\":\"silu\"}";

/* GLM-4.5-Air: the dense layer has 2 leaves, the shared experts 4, on up to 8 ranks of tp. */
static const char config_air[] =
    "{\"architectures\":[\"Glm4MoeForCausalLM\"],\"vocab_size\":151552,\"hidden_size\":4096,"
    "\"intermediate_size\":10944,\"moe_intermediate_size\":1408,\"num_hidden_layers\":46,"
    "\"num_attention_heads\":96,\"num_key_value_heads\":8,\"head_dim\":128,"
    "\"n_routed_experts\":128,\"n_shared_experts\":1,\"num_experts_per_tok\":8,"
    "\"first_k_dense_replace\":1,\"attention_bias\":true,\"rms_norm_eps\":1e-5,"
    "\"max_position_embeddings\":131072,\"hidden_act\":\"silu\"}";

/* MiniMax-M2 with half of its KV heads: their keys have 8 leaves, more than there are heads. */
static const char config_keys_norm[] =
    "{\"architectures\":[\"MiniMaxM2ForCausalLM\"],\"vocab_size\":200064,\"hidden_size\":3072,"
    "\"intermediate_size\":1536,\"num_hidden_layers\":62,\"num_attention_heads\":48,"
    "\"num_key_value_heads\":4,\"head_dim\":128,\"rotary_dim\":64,\"num_local_experts\":256,"
    "\"num_experts_per_tok\":8,\"rms_norm_eps\":1e-6,\"max_position_embeddings\":196608,"
    "\"rope_theta\":5e6,\"hidden_act\":\"silu\"}";

/* How many ranks hold each value of a slot. */
static uint32_t copies_of(const hdl_layout *l, hdl_wslot slot)
{
    uint32_t n_ranks = hdl_layout_ranks(l), replicas = n_ranks / l->tp;
    switch (slot) {
    case HDL_WSLOT_Q:
    case HDL_WSLOT_O:
    case HDL_WSLOT_GATE:
    case HDL_WSLOT_UP:
    case HDL_WSLOT_DOWN:
    case HDL_WSLOT_Q_BIAS:
    case HDL_WSLOT_SHARED_GATE:
    case HDL_WSLOT_SHARED_UP:
    case HDL_WSLOT_SHARED_DOWN:
    case HDL_WSLOT_LM_HEAD: return replicas;
    case HDL_WSLOT_K:
    case HDL_WSLOT_V:
    case HDL_WSLOT_K_BIAS:
    case HDL_WSLOT_V_BIAS:
        return replicas * (l->tp > desc.n_kv_heads ? l->tp / desc.n_kv_heads : 1);
    case HDL_WSLOT_EXPERT_GATE:
    case HDL_WSLOT_EXPERT_UP:
    case HDL_WSLOT_EXPERT_DOWN: return n_ranks > l->ep ? 1 : n_ranks / l->ep;
    default: return n_ranks;
    }
}

/* Every rank's slice lies inside the tensor; together they hold every value equally often. */
static void check_slot(const hdl_layout *l, hdl_wslot slot)
{
    const hdl_slot_info *info = hdl_slot_info_of(slot);
    uint64_t rows = hdl_dim_size(&desc, info->rows), cols = hdl_dim_size(&desc, info->cols);
    uint64_t experts = info->scope == HDL_SCOPE_EXPERT ? desc.n_experts : 1, held = 0;
    for (uint32_t r = 0; r < hdl_layout_ranks(l); r++) {
        hdl_shard s = hdl_shard_of(&desc, l, r);
        hdl_slice c = hdl_slot_slice(&desc, &s, slot);
        assert_true((uint64_t)c.row_at + c.n_rows <= rows);
        assert_true((uint64_t)c.col_at + c.n_cols <= cols);
        uint64_t n = info->scope == HDL_SCOPE_EXPERT ? s.n_experts : 1;
        held += n * c.n_rows * c.n_cols;
    }
    assert_int_equal(held, rows * cols * experts * copies_of(l, slot));
}

static void check_rank(const hdl_layout *l, uint32_t rank)
{
    hdl_shard s = hdl_shard_of(&desc, l, rank);
    uint32_t group = desc.n_heads / desc.n_kv_heads;
    /* The KV head of each query head is here, at the index that the attention op computes. */
    for (uint32_t h = 0; h < s.n_heads; h++)
        assert_int_equal(s.kv_head_at + h / (s.n_heads / s.n_kv_heads), (s.head_at + h) / group);
    /* Leaves of row-parallel matrices are whole on a rank. */
    assert_true(s.o_leaves >= 1);
    assert_int_equal(s.inter != 0, s.down_leaves != 0);
    assert_int_equal(s.shared != 0, s.shared_leaves != 0);
    assert_int_equal(s.o_leaves * s.tp, hdl_leaf_count(desc.n_heads * desc.head_dim));
    if (s.n_experts != 0) {
        uint32_t per_leaf = desc.n_experts / hdl_expert_leaf_count(desc.n_experts);
        assert_int_equal(s.expert_at % per_leaf, 0);
        assert_int_equal(s.n_experts % per_leaf, 0);
        assert_int_equal(s.moe_down_leaves * s.moe_tp, hdl_leaf_count(desc.moe_inter));
    }
    assert_true(s.vocab <= s.vocab_padded);
}

static uint32_t check_layouts(void)
{
    uint32_t n = 0;
    for (uint32_t tp = 1; tp <= HDL_RANKS_MAX; tp *= 2) {
        for (uint32_t ep = 1; ep <= HDL_RANKS_MAX; ep *= 2) {
            hdl_layout l = {.tp = tp, .ep = ep, .pp = 1, .dp = 1};
            hdl_errmsg why = {0};
            if (hdl_layout_check(&desc, &l, &why) != HDL_OK) {
                assert_non_null(strchr(why.text, ';'));
                continue;
            }
            n++;
            for (hdl_wslot slot = 0; slot < HDL_WSLOT_COUNT; slot++)
                if (hdl_dim_size(&desc, hdl_slot_info_of(slot)->rows) != 0 &&
                    (hdl_slot_used(&desc, slot, 0) ||
                     hdl_slot_used(&desc, slot, desc.n_layers - 1)) &&
                    slot != HDL_WSLOT_EMBED)
                    check_slot(&l, slot);
            for (uint32_t r = 0; r < hdl_layout_ranks(&l); r++)
                check_rank(&l, r);
        }
    }
    return n;
}

static void test_every_layout(void **state)
{
    (void)state;
    describe(config_235b);
    assert_int_equal(check_layouts(), 16); /* tp and ep of 1, 2, 4, 8: leaves end there */
    describe(config_70b);
    assert_int_equal(check_layouts(), 4);
    describe(config_air);
    assert_int_equal(check_layouts(), 15); /* an expert has 4 leaves: not tp 8 without ep */
    describe(rig_config_moe);
    assert_int_equal(check_layouts(), 12); /* tp up to 4, ep up to 8 */
    describe(rig_config_llama);
    assert_int_equal(check_layouts(), 3);
}

/* The published figures; shared/reference and the models' own pages. */
static void test_counts(void **state)
{
    (void)state;
    describe(config_235b);
    hdl_model_params p = hdl_model_count_params(&desc);
    assert_int_equal(p.total, 235093634560);
    assert_true(p.active > 21900000000 && p.active < 22500000000);
    assert_int_equal(hdl_model_kv_bytes_per_token(&desc), 188 * 1024);
    describe(config_70b);
    p = hdl_model_count_params(&desc);
    assert_int_equal(p.total, 70553706496);
    assert_int_equal(p.active, p.total);
    assert_int_equal(hdl_model_kv_bytes_per_token(&desc), 320 * 1024);
}

static void test_bytes(void **state)
{
    hdl_layout one = {1, 1, 1, 1}, eight = {8, 8, 1, 1};
    (void)state;
    describe(config_70b);
    hdl_shard s = hdl_shard_of(&desc, &one, 0);
    hdl_shard_bytes b = hdl_shard_count_bytes(&desc, &s, HDL_WFORMAT_BF16);
    uint64_t norms = (uint64_t)(2 * 80 + 1) * 8192;
    assert_int_equal(b.weight_bytes + b.mapped_bytes, 2 * 70553706496 + 2 * norms);
    assert_int_equal(b.kv_bytes_per_token, 320 * 1024);
    describe(config_235b);
    s = hdl_shard_of(&desc, &eight, 3);
    b = hdl_shard_count_bytes(&desc, &s, HDL_WFORMAT_BF16);
    /* 4 KV heads on 8 ranks: each is held twice. */
    assert_int_equal(b.kv_bytes_per_token, 188 * 1024 / 4);
    assert_true(b.weight_bytes > 2 * 235093634560 / 8 && b.weight_bytes < 2 * 245093634560 / 8);
    hdl_shard_bytes q8 = hdl_shard_count_bytes(&desc, &s, HDL_WFORMAT_Q8);
    assert_true(q8.weight_bytes < b.weight_bytes * 10 / 17);
}

/* A copy is made where a CPU gains by it: 36 bytes for 64, and two norms a row. */
static void test_head_screen(void **state)
{
    const hdl_layout two = {2, 1, 1, 1}, wide = {1, 2, 1, 1};
    (void)state;
    describe(config_235b);
    hdl_shard s = hdl_shard_of(&desc, &two, 1);
    hdl_shard_bytes b = hdl_shard_count_bytes(&desc, &s, HDL_WFORMAT_BF16);
    const uint64_t rows = 151936 / 2;
    assert_int_equal(b.head_bytes, rows * 4096 * 2);
    assert_int_equal(b.screen_bytes, rows * (4096 / 32 * 36 + 8));
    assert_int_equal(hdl_shard_screen_bytes(&b, HDL_HEAD_SCREEN_AUTO), b.screen_bytes);
    assert_int_equal(hdl_shard_screen_bytes(&b, HDL_HEAD_SCREEN_OFF), 0);
    hdl_shard_bytes q8 = hdl_shard_count_bytes(&desc, &s, HDL_WFORMAT_Q8);
    assert_int_equal(hdl_shard_screen_bytes(&q8, HDL_HEAD_SCREEN_ON), 0);
    /* Behind the ranks of tp are copies of the attention part, which make no logits. */
    s = hdl_shard_of(&desc, &wide, 1);
    b = hdl_shard_count_bytes(&desc, &s, HDL_WFORMAT_BF16);
    assert_int_equal(hdl_shard_screen_bytes(&b, HDL_HEAD_SCREEN_ON), 0);

    const hdl_shard_bytes small = {
        .weight_bytes = 100 << 20, .head_bytes = (16 << 20) - 1, .screen_bytes = 9 << 20};
    const hdl_shard_bytes large = {
        .weight_bytes = 100 << 20, .head_bytes = 16 << 20, .screen_bytes = 20 << 20};
    hdl_shard_bytes larger = large;
    larger.screen_bytes++;
    assert_int_equal(hdl_shard_screen_bytes(&small, HDL_HEAD_SCREEN_AUTO), 0);
    assert_int_equal(hdl_shard_screen_bytes(&small, HDL_HEAD_SCREEN_ON), small.screen_bytes);
    assert_int_equal(hdl_shard_screen_bytes(&large, HDL_HEAD_SCREEN_AUTO), large.screen_bytes);
    assert_int_equal(hdl_shard_screen_bytes(&larger, HDL_HEAD_SCREEN_AUTO), 0);
}

static void refused(hdl_layout l, const char *word)
{
    hdl_errmsg why = {0};
    assert_int_equal(hdl_layout_check(&desc, &l, &why), HDL_UNSUPPORTED);
    if (!strstr(why.text, word))
        fail_msg("\"%s\" does not name %s", why.text, word);
}

static void test_refusals_have_reasons(void **state)
{
    (void)state;
    describe(rig_config_moe);
    refused((hdl_layout){3, 1, 1, 1}, "tp is 3");
    refused((hdl_layout){0, 1, 1, 1}, "tp is 0");
    refused((hdl_layout){1, 1, 2, 1}, "pp is 2");
    refused((hdl_layout){8, 1, 1, 1}, "leaves");
    refused((hdl_layout){1, 16, 1, 1}, "experts");
    refused((hdl_layout){128, 1, 1, 1}, "tp is 128");
    describe(rig_config_llama);
    refused((hdl_layout){1, 2, 1, 1}, "no experts");
    describe(config_70b);
    refused((hdl_layout){16, 1, 1, 1}, "leaves");
    describe(config_keys_norm);
    refused((hdl_layout){8, 1, 1, 1}, "norm over all keys");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_layout),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_head_screen),
        cmocka_unit_test(test_refusals_have_reasons),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
