/* SPDX-License-Identifier: Apache-2.0 */
/* How the bytes are shared between cache groups, and where a group's blocks lie. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "worker/kvstore.h"

static hdl_model_desc desc;

/* Like gpt-oss with recurrent layers besides: half the pages all, half a window of 128, states. */
static void describe(void)
{
    desc = (hdl_model_desc){.n_layers = 24, .max_len = 131072, .n_cache_groups = 3};
    desc.cache_groups[0] =
        (hdl_cache_group){.n_layers = 12, .n_heads = 8, .k_dim = 64, .v_dim = 64};
    desc.cache_groups[1] = desc.cache_groups[0];
    desc.cache_groups[1].rule.window = 128;
    desc.cache_groups[2] = (hdl_cache_group){
        .rule = {.kind = HDL_CACHE_STATE}, .n_layers = 4, .n_heads = 16, .k_dim = 1000};
    for (uint32_t i = 0; i < desc.n_cache_groups; i++)
        desc.cache_groups[i].block_tokens = 32;
}

static hdl_kvstore_opts options(uint64_t kv_bytes)
{
    return (hdl_kvstore_opts){.desc = &desc,
                              .shard = {.tp = 1},
                              .kv_bytes = kv_bytes,
                              .max_seqs = 16,
                              .max_len = desc.max_len,
                              .step_tokens = 512};
}

static hdl_kvstore split(uint32_t n_pools, const hdl_kvstore_opts *opts, hdl_err want)
{
    hdl_errmsg why = {0};
    hdl_kvstore kv = {.block_tokens = 32, .n_pools = n_pools};
    for (uint32_t i = 0; i < n_pools; i++) {
        hdl_kvpool *pool = &kv.pools[i];
        pool->group = desc.cache_groups[i];
        pool->n_heads = hdl_cache_rank_heads(&pool->group, opts->shard.tp);
        pool->block_bytes = hdl_cache_block_bytes(&pool->group, pool->n_heads, 32);
    }
    assert_int_equal(hdl_kvstore_split(&kv, opts, &why), want);
    if (want != HDL_OK)
        assert_non_null(strstr(why.text, "--kv-bytes"));
    return kv;
}

static uint64_t bytes_of(const hdl_kvstore *kv, uint32_t pool)
{
    return kv->pools[pool].n_blocks * kv->pools[pool].block_bytes * kv->pools[pool].group.n_layers;
}

static void test_one_group_takes_all(void **state)
{
    (void)state;
    describe();
    const uint64_t block = 12ull * 8 * 128 * 32 * 2;
    hdl_kvstore_opts opts = options(7 * block + 5);
    hdl_kvstore kv = split(1, &opts, HDL_OK);
    assert_int_equal(kv.pools[0].n_blocks, 7);
    opts.kv_bytes = block - 1;
    split(1, &opts, HDL_INVALID);
    opts.kv_bytes = UINT64_MAX; /* absurd, and no overflow */
    kv = split(1, &opts, HDL_OK);
    assert_true(kv.pools[0].n_blocks > 1u << 30);
}

/* Of 4,096 tokens a sequence takes 128 full blocks, 6 of the window, 2 states. */
static void test_groups_run_out_together(void **state)
{
    (void)state;
    describe();
    for (uint64_t kv_bytes = 16ull << 20; kv_bytes < 1ull << 40; kv_bytes = kv_bytes * 3 + 12345) {
        hdl_kvstore_opts opts = options(kv_bytes);
        hdl_kvstore kv = split(3, &opts, HDL_OK);
        uint64_t used = bytes_of(&kv, 0) + bytes_of(&kv, 1) + bytes_of(&kv, 2);
        assert_true(used <= kv_bytes);
        assert_true(kv_bytes - used < kv.pools[0].block_bytes * 12);
        uint64_t seqs = kv.pools[0].n_blocks / 128;
        assert_in_range(kv.pools[1].n_blocks, seqs * 6, seqs * 6 + 6 + 8 + 32);
        assert_in_range(kv.pools[2].n_blocks, seqs * 2, seqs * 2 + 3);
    }
    hdl_kvstore_opts opts = options(1 << 20);
    split(3, &opts, HDL_INVALID);
}

/* A code for each value, a scale for each token and head; windows and states follow. */
static void test_int8_takes_half(void **state)
{
    (void)state;
    hdl_errmsg why = {0};
    describe();
    assert_int_equal(hdl_model_kv_bytes_per_token(&desc), 12 * 8 * 2 * 128);
    assert_int_equal(hdl_cache_groups_keep(&desc, HDL_KV_INT8, &why), HDL_OK);
    assert_int_equal(hdl_model_kv_bytes_per_token(&desc), 12 * 8 * 2 * (64 + 4));
    assert_int_equal(hdl_model_kv_bytes_fixed(&desc),
                     128 * 12 * 8 * 2 * (64 + 4) + 4 * 16 * 1000 * sizeof(float));
    const uint64_t block = 12ull * 8 * 2 * 68 * 32;
    hdl_kvstore_opts opts = options(7 * block + 5);
    hdl_kvstore kv = split(1, &opts, HDL_OK);
    assert_int_equal(kv.pools[0].n_blocks, 7);
}

/* What a type cannot act on is refused with the reason. */
static void test_types_are_refused(void **state)
{
    (void)state;
    hdl_errmsg why = {0};
    describe();
    desc.cache_groups[0].v_dim = 32;
    assert_int_equal(hdl_cache_groups_keep(&desc, HDL_KV_INT8, &why), HDL_UNSUPPORTED);
    assert_non_null(strstr(why.text, "64 and 32"));
    describe();
    desc.n_cache_groups = 1;
    desc.cache_groups[0].rule = (hdl_cache_rule){.kind = HDL_CACHE_LATENT};
    assert_int_equal(hdl_cache_groups_keep(&desc, HDL_KV_INT8, &why), HDL_UNSUPPORTED);
    assert_non_null(strstr(why.text, "latent"));
    assert_int_equal(hdl_cache_groups_keep(&desc, HDL_KV_BF16, &why), HDL_OK);
    assert_int_equal(desc.cache_groups[0].type, HDL_KV_BF16);
    assert_int_equal(hdl_cache_groups_keep(&desc, HDL_KV_FP8, &why), HDL_OK);
    assert_int_equal(desc.cache_groups[0].type, HDL_KV_FP8);
    desc.cache_groups[0].rule = (hdl_cache_rule){.kind = HDL_CACHE_STATE};
    assert_int_equal(hdl_cache_groups_keep(&desc, HDL_KV_INT8, &why), HDL_UNSUPPORTED);
    assert_non_null(strstr(why.text, "states"));
    assert_int_equal(hdl_cache_groups_keep(&desc, HDL_KV_FP8, &why), HDL_UNSUPPORTED);
}

static void test_default_holds_all_sequences(void **state)
{
    (void)state;
    describe();
    desc.max_len = 1024;
    hdl_kvstore_opts opts = options(0);
    hdl_kvstore kv = split(3, &opts, HDL_OK);
    assert_int_equal(kv.pools[0].n_blocks, 16 * 32);
    assert_int_equal(kv.pools[1].n_blocks, 16 * 6 + 32);
    assert_int_equal(kv.pools[2].n_blocks, 16 * 2);
    desc.max_len = opts.max_len = 131072; /* more than a GiB */
    kv = split(3, &opts, HDL_OK);
    assert_true(bytes_of(&kv, 0) + bytes_of(&kv, 1) + bytes_of(&kv, 2) <= 1ull << 30);
    opts.n_blocks = 5; /* as told */
    kv = split(3, &opts, HDL_OK);
    assert_int_equal(kv.pools[0].n_blocks, 5);
    assert_int_equal(kv.pools[1].n_blocks, 5);
    assert_int_equal(kv.pools[2].n_blocks, 32);
}

static void test_pools_do_not_overlap(void **state)
{
    hdl_errmsg why = {0};
    hdl_device *device = NULL;
    hdl_kvstore kv;
    (void)state;
    describe();
    desc.cache_groups[0].v_dim = 32; /* k and v of different sizes */
    desc.cache_groups[1].rule = (hdl_cache_rule){.kind = HDL_CACHE_LATENT};
    desc.cache_groups[1].n_heads = 1;
    desc.cache_groups[1].v_dim = 0;
    hdl_cpu_device_opts cpu = {.n_threads = 1, .isa = HDL_ISA_REF, .scratch_bytes = 4096};
    assert_int_equal(hdl_device_open_cpu(&device, &cpu, &why), HDL_OK);
    hdl_kvstore_opts opts = options(0);
    opts.device = device;
    opts.n_blocks = 3;
    opts.shard.tp = 2;
    assert_int_equal(hdl_kvstore_open(&kv, &opts, &why), HDL_OK);
    assert_int_equal(kv.pools[0].n_heads, 4);
    assert_int_equal(kv.pools[1].n_heads, 1); /* latent rows are whole on every rank */
    assert_int_equal(kv.pools[2].n_heads, 8);
    const unsigned char *end = kv.memory;
    for (uint32_t cache = 0; cache < kv.n_pools; cache++)
        for (uint32_t layer = 0; layer < kv.pools[cache].group.n_layers; layer++) {
            hdl_kv_part parts[2];
            uint32_t n = hdl_kvstore_parts(&kv, cache, layer, parts);
            assert_int_equal(n, cache == 0 ? 2 : 1);
            for (uint32_t i = 0; i < n; i++) {
                const unsigned char *at = parts[i].memory;
                assert_true(at >= end && at < end + 64);
                end = at + parts[i].block_bytes * kv.pools[cache].n_blocks;
            }
        }
    assert_true(end <= (const unsigned char *)kv.memory + kv.bytes);
    assert_ptr_equal(hdl_kvstore_view(&kv, 0, 0).k, kv.memory);
    hdl_kvstore_close(&kv);

    describe();
    assert_int_equal(hdl_cache_groups_keep(&desc, HDL_KV_INT8, &why), HDL_OK);
    assert_int_equal(hdl_kvstore_open(&kv, &opts, &why), HDL_OK);
    hdl_kv_part parts[2];
    assert_int_equal(hdl_kvstore_parts(&kv, 1, 0, parts), 2);
    hdl_kv_view view = hdl_kvstore_view(&kv, 1, 0);
    assert_ptr_equal(view.k8, parts[0].memory);
    assert_ptr_equal(view.v8, parts[1].memory);
    assert_int_equal(parts[0].block_bytes, hdl_kv8_tile_at(&view, 1, 0, 0));
    assert_int_equal(parts[1].block_bytes, parts[0].block_bytes);
    hdl_kvstore_close(&kv);
    hdl_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_group_takes_all),
        cmocka_unit_test(test_groups_run_out_together),
        cmocka_unit_test(test_int8_takes_half),
        cmocka_unit_test(test_types_are_refused),
        cmocka_unit_test(test_default_holds_all_sequences),
        cmocka_unit_test(test_pools_do_not_overlap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
