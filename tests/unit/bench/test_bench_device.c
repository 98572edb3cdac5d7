/* SPDX-License-Identifier: Apache-2.0 */
/* What benches stand on where the device is a plugin's: `test_bench_device PLUGIN NVML`. Times are
 * read, never judged. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <heddle/device.h>

#include "base/json.h"
#include "bench/kernels/bench_kernels.h"
#include "bench/kernels/energy.h"
#include "bench/kernels/made.h"
#include "bench/model/bench_model.h"
#include "bench/model/idle.h"
#include "bench/model/shapes.h"

static const hdl_plugin *plugin;
static const char *fake_nvml;

static hdl_plugin_device *open_device(void)
{
    hdl_plugin_device *device = NULL;
    hdl_errmsg why = {0};
    if (plugin->open(&device, &(hdl_plugin_opts){.scratch_bytes = 1 << 20}, &why) != HDL_OK)
        fail_msg("%s", why.text);
    return device;
}

static void test_roofs(void **state)
{
    (void)state;
    enum { BYTES = 1 << 20 };
    static const struct {
        hdl_plugin_arith arith;
        double flop; /* of one block of the GPU's grid and round: 8 warps, 8 products each */
    } kinds[] = {{HDL_PLUGIN_BF16, 2.0 * 16 * 8 * 16 * 64},
                 {HDL_PLUGIN_INT8, 2.0 * 16 * 8 * 32 * 64}};
    hdl_plugin_device *device = open_device();
    hdl_plugin_roof *roof = NULL;
    hdl_errmsg why = {0};
    void *memory = plugin->alloc(device, BYTES);
    assert_non_null(memory);
    assert_int_equal(plugin->roofs->open(&roof, device, &why), HDL_OK);
    assert_int_equal(plugin->roofs->read(roof, memory, BYTES), HDL_OK);
    assert_int_equal(plugin->roofs->read(roof, memory, 16), HDL_OK); /* less than a thread each */
    for (size_t i = 0; i < HDL_ARRAY_LEN(kinds); i++) {
        double flop = 0;
        const char *by = NULL;
        assert_int_equal(plugin->roofs->matmul(roof, kinds[i].arith, &flop, &by), HDL_OK);
        assert_string_equal(by, "mma.sync"); /* fibers have no library */
        double blocks = flop / kinds[i].flop;
        assert_true(blocks >= 1 && blocks == (double)(uint32_t)blocks);
    }
    assert_int_equal(plugin->sync(device), HDL_OK);
    plugin->roofs->close(roof);
    plugin->close(device);
}

static void test_times(void **state)
{
    (void)state;
    hdl_plugin_device *device = open_device();
    hdl_plugin_event *marks[3];
    double us[2], both = 0;
    uint32_t *words = plugin->alloc(device, 4096);
    for (int i = 0; i < 3; i++) {
        marks[i] = plugin->event_new_timed(device);
        assert_non_null(marks[i]);
        assert_int_equal(plugin->event_record(marks[i]), HDL_OK);
        assert_int_equal(plugin->fill(device, words, 1, 1024), HDL_OK);
    }
    assert_int_equal(plugin->event_wait(marks[2]), HDL_OK);
    for (int i = 0; i < 2; i++)
        assert_int_equal(plugin->event_elapsed(marks[i], marks[i + 1], &us[i]), HDL_OK);
    assert_int_equal(plugin->event_elapsed(marks[0], marks[2], &both), HDL_OK);
    assert_true(us[0] >= 0 && us[1] >= 0);
    assert_true(both - us[0] - us[1] < 1 &&
                us[0] + us[1] - both < 1); /* a GPU's clock ticks in 0.5 us */
    for (int i = 0; i < 3; i++)
        plugin->event_free(marks[i]);
    plugin->close(device);
}

static double number_of(const hdl_jv *object, const char *key)
{
    hdl_errmsg why = {0};
    double number = 0;
    hdl_jv v = hdl_jv_get(object, key);
    if (hdl_jv_double(&v, &number, &why) != HDL_OK)
        fail_msg("%s", why.text);
    return number;
}

static const char *text_of(const hdl_jv *object, const char *key)
{
    hdl_errmsg why = {0};
    const char *text = NULL;
    hdl_jv v = hdl_jv_get(object, key);
    if (hdl_jv_string(&v, &text, NULL, &why) != HDL_OK)
        fail_msg("%s", why.text);
    return text;
}

/* What a bench prints as one JSON document. */
static hdl_json *document_of(int (*bench)(FILE *out))
{
    char *text = NULL;
    size_t len = 0;
    hdl_json *doc = NULL;
    hdl_errmsg why = {0};
    FILE *out = open_memstream(&text, &len);
    assert_int_equal(bench(out), 0);
    fclose(out);
    if (hdl_json_parse(text, len, 1 << 24, &doc, &why) != HDL_OK)
        fail_msg("%s in %s", why.text, text);
    free(text);
    return doc;
}

static int kernels(FILE *out)
{
    return hdl_bench_kernels(&(hdl_bench_kernels_opts){
        .n_threads = 1, .plugin = plugin, .is_short = true, .json = true, .out = out});
}

/* Every row that reads or multiplies has its share of a roof. */
static void test_kernels(void **state)
{
    (void)state;
    hdl_json *doc = document_of(kernels);
    hdl_jv root = hdl_json_root(doc), rows = hdl_jv_get(&root, "rows");
    uint32_t n_read = 0, n_done = 0;
    assert_string_equal(text_of(&root, "peak_by"), "mma.sync");
    for (size_t i = 0; i < hdl_jv_len(&rows); i++) {
        hdl_jv row = hdl_jv_at(&rows, i);
        const char *name = text_of(&row, "name");
        bool reads = number_of(&row, "bytes_per_s") > 0,
             is_matrix = strncmp(name, "linear", 6) == 0;
        assert_true(number_of(&row, "call_us") > 0);
        assert_true(!reads || number_of(&row, "stream_bytes_per_s") > 0);
        assert_true(!is_matrix || (reads && number_of(&row, "peak_flop_per_s") > 0));
        n_read += reads;
        n_done += is_matrix;
    }
    assert_true(n_read > 20 && n_done > 10);
    hdl_json_close(doc);
}

/* Matrices of one shape are copies, and what is repeated is the pattern. */
static void test_made(void **state)
{
    (void)state;
    enum { N = 24, K = 64, PATTERN = 96, BYTES = 1000 };
    hdl_device *device = NULL;
    hdl_errmsg why = {0};
    hdl_plugin_device_opts opts = {
        .plugin = plugin, .device = {.scratch_bytes = 1 << 20}, .host = {.n_threads = 2}};
    assert_int_equal(hdl_device_open_plugin(&device, &opts, &why), HDL_OK);
    hdl_made made = {.device = device};
    hdl_weight w[2];
    unsigned char *bytes[2];
    for (int i = 0; i < 2; i++) {
        w[i] = (hdl_weight){.format = HDL_WFORMAT_Q4, .n = N, .k = K, .n_leaves = 1};
        w[i].bytes = hdl_device_ops(device)->weight_bytes(HDL_WFORMAT_Q4, N, K, 1);
        w[i].data = hdl_device_alloc(device, w[i].bytes);
        bytes[i] = calloc(1, w[i].bytes);
        assert_int_equal(hdl_made_weight(&made, &w[i]), HDL_OK);
        assert_int_equal(hdl_device_read(device, bytes[i], w[i].data, w[i].bytes), HDL_OK);
    }
    assert_int_equal(made.n_shapes, 1);
    assert_memory_equal(bytes[0], bytes[1], w[0].bytes);
    for (size_t row = 1; row < N; row++) /* rows differ, or a router would not choose */
        assert_memory_not_equal(bytes[0], bytes[0] + row * K / 2, K / 2);
    unsigned char pattern[PATTERN], got[BYTES];
    for (size_t i = 0; i < PATTERN; i++)
        pattern[i] = (unsigned char)(i * 7);
    void *memory = hdl_device_alloc(device, BYTES);
    assert_int_equal(hdl_made_repeat(device, memory, BYTES, pattern, PATTERN), HDL_OK);
    assert_int_equal(hdl_device_read(device, got, memory, BYTES), HDL_OK);
    for (size_t i = 0; i < BYTES; i++)
        assert_int_equal(got[i], pattern[i % PATTERN]);
    free(bytes[0]);
    free(bytes[1]);
    hdl_device_close(device);
}

static int model(FILE *out)
{
    return hdl_bench_model(&(hdl_bench_model_opts){.shape = "tiny-moe:q4",
                                                   .weights = HDL_WFORMAT_COUNT,
                                                   .plugin = plugin,
                                                   .n_threads = 1,
                                                   .kv_bytes = 16 << 20,
                                                   .prefill = {1, {9}},
                                                   .batches = {1, {2}},
                                                   .contexts = {1, {8}},
                                                   .decode = 14,
                                                   .json = true,
                                                   .out = out});
}

/* A whole model without files: shares of both roofs, what the host makes the device wait for, and
 * energy that is left out where nobody counts it. */
static void test_model(void **state)
{
    (void)state;
    hdl_json *doc = document_of(model);
    hdl_jv root = hdl_json_root(doc), rows = hdl_jv_get(&root, "rows");
    assert_string_equal(text_of(&root, "weights"), "q4");
    assert_string_equal(text_of(&root, "peak_by"), "mma.sync");
    assert_int_equal(hdl_jv_len(&rows), 2);
    for (size_t i = 0; i < 2; i++) {
        hdl_jv row = hdl_jv_at(&rows, i), idle = hdl_jv_get(&row, "host_idle_share");
        hdl_jv energy = hdl_jv_get(&row, "joule_per_token");
        bool decodes = strcmp(text_of(&row, "phase"), "decode") == 0;
        assert_true(number_of(&row, "stream_bytes_per_s") > 0);
        assert_true(number_of(&row, "peak_flop_per_s") > 0);
        assert_true(number_of(&row, "tokens_per_s") > 0);
        assert_int_equal(hdl_jv_present(&idle), decodes);
        assert_true(!decodes || (number_of(&row, "host_idle_share") >= 0 &&
                                 number_of(&row, "host_idle_share") < 1));
        assert_false(hdl_jv_present(&energy));
    }
    hdl_json_close(doc);
}

/* The shapes are those of the models that they are named after. */
static void test_shapes(void **state)
{
    (void)state;
    static hdl_model_desc desc;
    static const struct {
        const char *name;
        double total, active; /* as their publishers say */
        bool embedding;       /* which counts as active, or not */
    } known[] = {{"8b", 8.03e9, 8.03e9, true},
                 {"qwen3-30b-a3b:bf16", 30.5e9, 3.3e9, true},
                 {"gpt-oss-20b", 20.9e9, 3.6e9, false}};
    hdl_bench_made made;
    hdl_errmsg why = {0};
    for (size_t i = 0; i < HDL_ARRAY_LEN(known); i++) {
        assert_int_equal(hdl_bench_made_open(&made, known[i].name, &why), HDL_OK);
        if (hdl_model_desc_load(&desc, made.path, &why) != HDL_OK)
            fail_msg("%s", why.text);
        hdl_model_params n = hdl_model_count_params(&desc);
        n.active -= known[i].embedding ? 0 : n.embedding;
        double total = (double)n.total / known[i].total;
        double active = (double)n.active / known[i].active;
        print_message("%s: %.3g parameters, %.3g active\n", known[i].name, (double)n.total,
                      (double)n.active);
        assert_true(total > 0.99 && total < 1.01 && active > 0.98 && active < 1.02);
        hdl_bench_made_close(&made);
    }
    assert_int_equal(hdl_bench_made_open(&made, "8c", &why), HDL_NOTFOUND);
    assert_int_equal(hdl_bench_made_open(&made, "8b:q3", &why), HDL_INVALID);
    hdl_bench_made_close(&made);
}

/* A gap is where the host waited before it gave more work, and nowhere else. */
static void test_idle(void **state)
{
    (void)state;
    const hdl_plugin *wrapped = hdl_idle_wrap(plugin);
    hdl_plugin_device *device = NULL;
    hdl_errmsg why = {0};
    hdl_idle_sum sum = {0};
    assert_int_equal(wrapped->open(&device, &(hdl_plugin_opts){.scratch_bytes = 1 << 20}, &why),
                     HDL_OK);
    uint32_t *words = wrapped->alloc(device, 4096);
    hdl_plugin_event *event = wrapped->event_new(device);
    assert_int_equal(wrapped->fill(device, words, 1, 16), HDL_OK); /* before: not seen */
    hdl_idle_begin();
    for (int i = 0; i < 3; i++) {
        assert_int_equal(wrapped->fill(device, words, 1, 1024), HDL_OK);
        assert_int_equal(wrapped->event_record(event), HDL_OK);
        assert_int_equal(wrapped->fill(device, words, 2, 1024), HDL_OK);
        assert_int_equal(wrapped->event_wait(event), HDL_OK);
        assert_int_equal(wrapped->sync(device), HDL_OK); /* the same wait */
    }
    assert_int_equal(hdl_idle_end(&sum), HDL_OK);
    assert_int_equal(sum.n_gaps, 2);
    assert_true(sum.idle_us > 0 && sum.all_us > sum.idle_us);
    hdl_idle_begin();
    assert_int_equal(wrapped->fill(device, words, 1, 1024), HDL_OK);
    assert_int_equal(hdl_idle_end(&sum), HDL_OK);
    assert_int_equal(sum.n_gaps, 2); /* one stretch of work has none */
    hdl_idle_close();
    wrapped->event_free(event);
    wrapped->close(device);
}

static void test_energy(void **state)
{
    (void)state;
    double before = 0, after = 0;
    assert_null(hdl_energy_open("no-such-library.so", "0000:01:00.0"));
    assert_null(hdl_energy_open(fake_nvml, "")); /* fibers are on no bus */
    assert_false(hdl_energy_read(NULL, &before));
    hdl_energy *energy = hdl_energy_open(fake_nvml, "0000:01:00.0");
    assert_non_null(energy);
    assert_true(hdl_energy_read(energy, &before) && hdl_energy_read(energy, &after));
    assert_true(after - before > 1.4999 && after - before < 1.5001);
    hdl_energy_close(energy);
}

int main(int argc, char **argv)
{
    hdl_errmsg why = {0};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_roofs), cmocka_unit_test(test_times), cmocka_unit_test(test_kernels),
        cmocka_unit_test(test_made),  cmocka_unit_test(test_model), cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_idle),  cmocka_unit_test(test_energy)};
    if (argc < 3 || hdl_plugin_load(&plugin, argv[1], &why) != HDL_OK) {
        fprintf(stderr, "usage: test_bench_device PLUGIN NVML; %s\n", why.text);
        return 2;
    }
    fake_nvml = argv[2];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
