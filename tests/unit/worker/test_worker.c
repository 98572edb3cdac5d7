/* SPDX-License-Identifier: Apache-2.0 */
/* Opening a worker: what it says of itself, progress, every format, and options that cannot be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rig.h"
#include "rig_plugin.h"

static char model[256];

static hdl_worker_opts options(void)
{
    return (hdl_worker_opts){.model_path = model,
                             .weights = HDL_WFORMAT_COUNT,
                             .max_seqs = 4,
                             .step_tokens = 16,
                             .n_blocks = 8};
}

typedef struct progress {
    uint64_t last, total;
    uint32_t calls;
} progress;

static void on_progress(void *arg, uint64_t done, uint64_t total)
{
    progress *p = arg;
    assert_true(done >= p->last && done <= total);
    p->last = done;
    p->total = total;
    p->calls++;
}

static void test_info_and_progress(void **state)
{
    progress p = {0};
    hdl_errmsg why = {0};
    hdl_worker *w = NULL;
    hdl_worker_opts opts = options();
    (void)state;
    opts.progress = on_progress;
    opts.progress_arg = &p;
    opts.n_threads = 2;
    opts.max_len = 1000000; /* more than the model has */
    assert_int_equal(hdl_worker_open(&w, &opts, &why), HDL_OK);
    assert_true(p.calls >= 1 && p.last == p.total && p.total > 0);
    hdl_worker_info info = hdl_worker_get_info(w);
    assert_int_equal(info.caches[0].n_blocks, 8);
    assert_int_equal(info.block_tokens, HDL_BLOCK_TOKENS);
    assert_int_equal(info.max_len, 256);
    assert_int_equal(info.weights, HDL_WFORMAT_BF16);
    assert_int_equal(info.kv_bytes, 8 * 32 * hdl_model_kv_bytes_per_token(hdl_worker_desc(w)));
    /* The shard's own count agrees with what was really taken; tables and padding come on top. */
    hdl_layout one = {1, 1, 1, 1};
    hdl_shard shard = hdl_shard_of(hdl_worker_desc(w), &one, 0);
    hdl_shard_bytes bytes = hdl_shard_count_bytes(hdl_worker_desc(w), &shard, HDL_WFORMAT_COUNT);
    assert_true(info.weight_bytes >= bytes.weight_bytes);
    assert_true(info.weight_bytes < bytes.weight_bytes * 3 / 2 + 100000);
    hdl_worker_close(w);
    /* A second one at the same time, as cli and tests do. */
    hdl_worker *v = NULL;
    p = (progress){0};
    assert_int_equal(hdl_worker_open(&w, &opts, &why), HDL_OK);
    p = (progress){0};
    assert_int_equal(hdl_worker_open(&v, &opts, &why), HDL_OK);
    hdl_worker_close(w);
    hdl_worker_close(v);
}

static uint32_t blocks_of(const hdl_worker *w) { return hdl_worker_get_info(w).caches[0].n_blocks; }

static void test_kv_sizes(void **state)
{
    hdl_errmsg why = {0};
    hdl_worker *w = NULL;
    hdl_worker_opts opts = options();
    (void)state;
    opts.n_blocks = 0; /* four sequences of 256 tokens */
    assert_int_equal(hdl_worker_open(&w, &opts, &why), HDL_OK);
    assert_int_equal(blocks_of(w), 4 * 256 / 32);
    uint64_t block_bytes = hdl_worker_get_info(w).kv_bytes / blocks_of(w);
    hdl_worker_close(w);
    opts.kv_bytes = 5 * block_bytes + 1;
    assert_int_equal(hdl_worker_open(&w, &opts, &why), HDL_OK);
    assert_int_equal(blocks_of(w), 5);
    hdl_worker_close(w);
    /* Two ranks of tp hold one KV head each of two: half the bytes a block. */
    opts.layout.tp = 2;
    assert_int_equal(hdl_worker_open(&w, &opts, &why), HDL_OK);
    assert_int_equal(blocks_of(w), 10);
    hdl_worker_close(w);
}

static void refuse(hdl_worker_opts opts, hdl_err want, const char *word)
{
    hdl_errmsg why = {0};
    hdl_worker *w = NULL;
    assert_int_equal(hdl_worker_open(&w, &opts, &why), want);
    assert_null(w);
    if (!strstr(why.text, word) || !strchr(why.text, ';'))
        fail_msg("\"%s\" does not say %s; why; what to do", why.text, word);
}

/* A device with memory of its own (64 MiB free): nothing is loaded that will not fit. */
static void test_what_does_not_fit_the_device(void **state)
{
    progress p = {0};
    hdl_errmsg why = {0};
    hdl_worker *w = NULL;
    hdl_worker_opts opts = options();
    (void)state;
    opts.plugin = rig_plugin();
    opts.n_blocks = 0;
    opts.kv_bytes = (uint64_t)65 << 20;
    opts.progress = on_progress;
    opts.progress_arg = &p;
    assert_int_equal(hdl_worker_open(&w, &opts, &why), HDL_NOMEM);
    assert_non_null(strstr(why.text, "the device has 64 MiB free; this rank needs 6"));
    assert_non_null(strstr(why.text, "KV cache 65 MiB or more; use --weights"));
    assert_int_equal(p.calls, 0);
    opts.kv_bytes = (uint64_t)16 << 20;
    assert_int_equal(hdl_worker_open(&w, &opts, &why), HDL_OK);
    hdl_worker_close(w);
}

static void test_refusals(void **state)
{
    hdl_worker_opts o;
    (void)state;
#define REFUSE(err, word, ...)                                                                     \
    do {                                                                                           \
        o = options();                                                                             \
        __VA_ARGS__;                                                                               \
        refuse(o, err, word);                                                                      \
    } while (0)
    REFUSE(HDL_NOTFOUND, "/nowhere", o.model_path = "/nowhere");
    REFUSE(HDL_INVALID, "rank 2", o.rank = 2; o.layout.tp = 2);
    REFUSE(HDL_UNSUPPORTED, "tp is 3", o.layout.tp = 3);
    REFUSE(HDL_UNSUPPORTED, "pp is 2", o.layout.pp = 2);
    REFUSE(HDL_INVALID, "max_seqs", o.max_seqs = HDL_SEQS_MAX + 1);
    REFUSE(HDL_INVALID, "step_tokens", o.step_tokens = HDL_STEP_TOKENS_MAX + 1);
    REFUSE(HDL_INVALID, "48 tokens", o.block_tokens = 48);
    REFUSE(HDL_INVALID, "16 tokens", o.block_tokens = 16);
    REFUSE(HDL_INVALID, "no block", o.n_blocks = 0; o.kv_bytes = 100);
    REFUSE(HDL_IO, "/nowhere/dump", o.logits_dump_path = "/nowhere/dump");
    REFUSE(HDL_INVALID, "threads", o.n_threads = 100000);
#undef REFUSE
}

/* Q8 needs an inner dimension of whole groups; a model without is refused, not run in another way.
 */
static void test_format_that_does_not_fit(void **state)
{
    char dir[256], config[1024];
    (void)state;
    snprintf(config, sizeof(config), "%s", rig_config_llama);
    memcpy(strstr(config, "\"hidden_size\":64"), "\"hidden_size\":48", 16);
    rig_make_model(dir, config, HDL_DTYPE_BF16);
    hdl_worker_opts o = options();
    o.model_path = dir;
    o.weights = HDL_WFORMAT_Q8;
    refuse(o, HDL_UNSUPPORTED, "q8");
    rig_remove(dir);
}

static void test_shapes_beyond_the_kernels(void **state)
{
    char dir[256], config[1024];
    const char *at = strstr(rig_config_llama, "\"head_dim\":16");
    (void)state;
    snprintf(config, sizeof(config), "%.*s\"head_dim\":700%s", (int)(at - rig_config_llama),
             rig_config_llama, at + strlen("\"head_dim\":16"));
    rig_make_model(dir, config, HDL_DTYPE_BF16);
    hdl_worker_opts o = options();
    o.model_path = dir;
    refuse(o, HDL_UNSUPPORTED, "head_dim is 700");
    rig_remove(dir);
}

static int setup(void **state)
{
    (void)state;
    rig_make_model(model, rig_config_moe, HDL_DTYPE_BF16);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig_remove(model);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_info_and_progress),
        cmocka_unit_test(test_kv_sizes),
        cmocka_unit_test(test_what_does_not_fit_the_device),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_format_that_does_not_fit),
        cmocka_unit_test(test_shapes_beyond_the_kernels),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
