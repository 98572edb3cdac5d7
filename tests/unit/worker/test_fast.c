/* SPDX-License-Identifier: Apache-2.0 */
/* `numerics: fast` through a plugin: `test_worker_fast FILE`. What was planned and has rows enough
 * is multiplied by another order of sums, within the bound of a sum; all else keeps the bits of
 * exact; a whole model chooses the CPU's tokens. ctest gives the fiber plugin. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <heddle/device.h>

#include "base/rng.h"
#include "goldens.h"
#include "kernels/numeric.h"
#include "rig.h"

enum { K = 200, N = 96, N_MORE = 40, M = 33, Y_STRIDE = N + N_MORE + 3 };

static const hdl_plugin *plugin;

/* A stack of two bf16 matrices on a device, and rows to meet it. */
typedef struct rig {
    hdl_plugin_device *device;
    hdl_weight w, more;
    float *x, *bias, *y; /* of the device */
} rig;

static float *numbers(hdl_plugin_device *device, const float *from, size_t n)
{
    float *to = plugin->alloc(device, n * sizeof *to);
    assert_non_null(to);
    assert_int_equal(plugin->write(device, to, from, n * sizeof *to), HDL_OK);
    return to;
}

static void random_numbers(float *out, size_t n, uint64_t seed)
{
    hdl_rng rng;
    hdl_rng_init(&rng, seed);
    for (size_t i = 0; i < n; i++)
        out[i] = (float)((double)hdl_rng_below(&rng, 2001) / 1000 - 1);
}

static float host_w[(N + N_MORE) * K], host_x[M * K], host_bias[N + N_MORE];

static void make_weight(rig *r, hdl_weight *w, float *rows, uint32_t n)
{
    const hdl_tensor tensor = hdl_tensor_2d(rows, HDL_DTYPE_F32, n, K);
    w->format = HDL_WFORMAT_BF16;
    w->n = n;
    w->k = K;
    w->n_leaves = 1;
    w->bytes = plugin->ops->weight_bytes(HDL_WFORMAT_BF16, n, K, 1);
    w->data = plugin->alloc(r->device, w->bytes);
    assert_non_null(w->data);
    plugin->ops->weight_pack(&(hdl_pack_args){.src = hdl_source_of_tensor(&tensor), .dst = w});
}

static void open_rig(rig *r, bool fast)
{
    hdl_errmsg why = {0};
    const hdl_ops_extent extent = {
        .n_tokens = M, .n_rows = M, .hidden = K, .n_max = N + N_MORE, .k_max = K, .fast = fast};
    const hdl_plugin_opts opts = {.scratch_bytes = plugin->ops->scratch_bytes(&extent),
                                  .fast = fast};
    *r = (rig){0};
    if (plugin->open(&r->device, &opts, &why) != HDL_OK)
        fail_msg("%s", why.text);
    make_weight(r, &r->w, host_w, N);
    make_weight(r, &r->more, host_w + (size_t)N * K, N_MORE);
    r->w.n += N_MORE;
    r->w.more = &r->more;
    r->x = numbers(r->device, host_x, HDL_ARRAY_LEN(host_x));
    r->bias = numbers(r->device, host_bias, HDL_ARRAY_LEN(host_bias));
    r->y = plugin->alloc(r->device, sizeof(float) * M * Y_STRIDE);
    assert_non_null(r->y);
}

/* y of m rows, into out [m, Y_STRIDE]; what lies behind each row has to stay as it was. */
static void multiply(rig *r, uint32_t m, bool has_bias, float *out)
{
    const size_t n = (size_t)m * Y_STRIDE;
    assert_int_equal(plugin->fill(r->device, (uint32_t *)(void *)r->y, 0x40400000, n), HDL_OK);
    const hdl_linear_args a = {.x = r->x,
                               .x_stride = K,
                               .w = &r->w,
                               .bias = has_bias ? r->bias : NULL,
                               .y = r->y,
                               .y_stride = Y_STRIDE,
                               .n_tokens = m};
    plugin->ops->linear(&a, plugin->stream(r->device));
    assert_int_equal(plugin->read(r->device, out, r->y, n * sizeof *out), HDL_OK);
    assert_int_equal(plugin->sync(r->device), HDL_OK);
    for (uint32_t i = 0; i < m; i++)
        for (uint32_t j = N + N_MORE; j < Y_STRIDE; j++)
            assert_true(out[(size_t)i * Y_STRIDE + j] == 3.0f);
}

/* |y - sum| against (k + 4) 2^-24 of the sum of magnitudes. */
static void check_near(const float *y, uint32_t m, bool has_bias)
{
    for (uint32_t i = 0; i < m; i++)
        for (uint32_t j = 0; j < N + N_MORE; j++) {
            double sum = has_bias ? (double)host_bias[j] : 0, size = fabs(sum);
            for (uint32_t k = 0; k < K; k++) {
                double x = (double)hdl_bf16_to_f32(hdl_bf16_from_f32(host_x[i * K + k]));
                double w = (double)hdl_bf16_to_f32(hdl_bf16_from_f32(host_w[j * K + k]));
                sum += x * w;
                size += fabs(x * w);
            }
            double apart = fabs((double)y[(size_t)i * Y_STRIDE + j] - sum);
            if (!(apart <= size * (K + 4) * 0x1p-24))
                fail_msg("%u rows: y[%u][%u] is %.3e from the sum", m, i, j, apart);
        }
}

static void test_linear(void **state)
{
    static float want[M * Y_STRIDE], got[M * Y_STRIDE];
    static const uint32_t rows[] = {1, 15, 16, 17, M};
    (void)state;
    rig exact, fast;
    hdl_plugin_info info;
    open_rig(&exact, false);
    open_rig(&fast, true);
    assert_int_equal(plugin->info(exact.device, &info), HDL_OK);
    assert_string_equal(info.fast_by, "");
    assert_int_equal(plugin->info(fast.device, &info), HDL_OK);
    bool somebody = strncmp(info.fast_by, "own kernels", 11) != 0;
    print_message("fast: %s\n", info.fast_by);
    for (int planned = 0; planned < 2; planned++) {
        if (planned) {
            assert_int_equal(plugin->plan(exact.device, &exact.w, M), HDL_OK); /* means nothing */
            assert_int_equal(plugin->plan(fast.device, &fast.w, M), HDL_OK);
        }
        for (size_t i = 0; i < HDL_ARRAY_LEN(rows); i++)
            for (int has_bias = 0; has_bias < 2; has_bias++) {
                size_t bytes = sizeof(float) * rows[i] * Y_STRIDE;
                multiply(&exact, rows[i], has_bias, want);
                multiply(&fast, rows[i], has_bias, got);
                check_near(want, rows[i], has_bias);
                check_near(got, rows[i], has_bias);
                bool other = somebody && planned && rows[i] >= 16;
                assert_int_equal(memcmp(want, got, bytes) != 0, other);
            }
    }
    plugin->close(exact.device);
    plugin->close(fast.device);
}

/* Token by token near the CPU's, as in test_plugin.c; where a router is near a tie, which one in
 * fifty may be, another expert is taken. */
static void check_logits(const float *got, const float *cpu, uint32_t n_tokens, uint32_t vocab)
{
    uint32_t n_far = 0;
    double largest = 0;
    for (uint32_t i = 0; i < n_tokens; i++, got += vocab, cpu += vocab) {
        double diff = 0, norm = 0;
        for (uint32_t j = 0; j < vocab; j++) {
            diff += pow((double)got[j] - (double)cpu[j], 2);
            norm += pow((double)cpu[j], 2);
        }
        double apart = sqrt(diff / norm);
        if (!(apart <= 0.03))
            n_far++;
        else
            largest = fmax(largest, apart);
    }
    print_message("%.2e from the CPU's logits, %u tokens farther\n", largest, n_far);
    assert_true(n_far <= n_tokens / 50);
}

static void test_model(void **state)
{
    enum { TOKENS = 40, VOCAB = 97 };
    char dir[256];
    hdl_token ids[TOKENS];
    (void)state;
    for (uint32_t i = 0; i < TOKENS; i++)
        ids[i] = (hdl_token)((i * 37 + i * i * 5 + 11) % VOCAB);
    rig_make_model(dir, rig_config_moe, HDL_DTYPE_BF16);
    rig_logits_opts opts = {
        .worker = {.model_path = dir, .weights = HDL_WFORMAT_BF16, .fast = true},
        .ids = ids,
        .n = TOKENS};
    float *cpu = rig_logits(&opts, VOCAB); /* exact nevertheless */
    opts.worker.plugin = plugin;
    float *fast = rig_logits(&opts, VOCAB);
    opts.worker.fast = false;
    float *exact = rig_logits(&opts, VOCAB);
    check_logits(fast, cpu, TOKENS, VOCAB);
    if (strcmp(plugin->name, "fiber") == 0)
        assert_memory_not_equal(fast, exact, sizeof(float) * TOKENS * VOCAB);
    free(cpu);
    free(fast);
    free(exact);
    rig_remove(dir);
}

static uint32_t n_expanded; /* calls */

static void count_expanded(const hdl_latent_prefill_args *a, hdl_stream *stream)
{
    n_expanded++;
    plugin->ops->latent_prefill(a, stream);
}

/* Latent attention: steps of long rows expand it, in `fast` alone, and what decodes over the same
 * cache does not. */
static void test_latent(void **state)
{
    enum { PROMPT = 270, TOKENS = PROMPT + 6, VOCAB = 97, LAYERS = 2 };
    char dir[256];
    hdl_token ids[TOKENS];
    size_t len;
    (void)state;
    for (uint32_t i = 0; i < TOKENS; i++)
        ids[i] = (hdl_token)((i * 37 + i * i * 5 + 11) % VOCAB);
    char *config = rig_read(RIG_GOLDENS "deepseek-v3.json", &len);
    rig_make_model(dir, config, HDL_DTYPE_BF16);
    hdl_ops ops = *plugin->ops;
    hdl_plugin counted = *plugin;
    ops.latent_prefill = count_expanded;
    counted.ops = &ops;
    rig_logits_opts opts = {
        .worker = {.model_path = dir, .weights = HDL_WFORMAT_COUNT, .fast = true},
        .ids = ids,
        .n = TOKENS,
        .chunk = PROMPT};
    float *cpu = rig_logits(&opts, VOCAB);
    opts.worker.plugin = &counted;
    float *fast = rig_logits(&opts, VOCAB);
    assert_int_equal(n_expanded, LAYERS);
    check_logits(fast, cpu, TOKENS, VOCAB);
    opts.worker.fast = false;
    float *exact = rig_logits(&opts, VOCAB);
    assert_int_equal(n_expanded, LAYERS);
    check_logits(exact, cpu, TOKENS, VOCAB);
    free(cpu);
    free(fast);
    free(exact);
    free(config);
    rig_remove(dir);
}

int main(int argc, char **argv)
{
    hdl_errmsg why = {0};
    if (argc != 2 || hdl_plugin_load(&plugin, argv[1], &why) != HDL_OK) {
        fprintf(stderr, "usage: test_worker_fast FILE; %s\n", why.text);
        return 2;
    }
    random_numbers(host_w, HDL_ARRAY_LEN(host_w), 1);
    random_numbers(host_x, HDL_ARRAY_LEN(host_x), 2);
    random_numbers(host_bias, HDL_ARRAY_LEN(host_bias), 3);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_linear), cmocka_unit_test(test_model),
                                       cmocka_unit_test(test_latent)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
