/* SPDX-License-Identifier: Apache-2.0 */
/* The load generator's arithmetic: arrivals, datasets, figures, plot; and that the client reads a
 * real server's stream piece by piece (selfcheck.c is that server). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/json.h"
#include "bench/serve/plot.h"
#include "bench/serve/selfcheck.h"
#include "bench/serve/trace.h"

static char dir[256];

static int make_dir(void **state)
{
    hdl_errmsg why = {0};
    (void)state;
    return hdl_fs_mkdtemp(dir, sizeof(dir), "heddle-bench-", &why) == HDL_OK ? 0 : -1;
}

static const char *write_file(const char *name, const char *text)
{
    static char path[512];
    hdl_errmsg why = {0};
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    if (hdl_fs_write_atomic(path, (hdl_fs_bytes){text, strlen(text)}, &why) != HDL_OK)
        fail_msg("%s", why.text);
    return path;
}

static hdl_load_spec random_spec(void)
{
    return (hdl_load_spec){.model = "m",
                           .n = 200,
                           .input_len = 20,
                           .output_len = 8,
                           .prefix_len = 64,
                           .prefixes = 2,
                           .vocab = 100,
                           .rate = 50,
                           .burstiness = 1,
                           .speedup = 1,
                           .seed = 7};
}

/* ---- arrivals ------------------------------------------------------------------------------ */

/* Mean and squared coefficient of variation of the gaps of many arrivals. */
static void gaps(hdl_load_spec spec, double *mean, double *cv2)
{
    enum { N = 40000 };
    hdl_load_set set = {.items = calloc(N, sizeof(*set.items)), .n = N};
    double sum = 0, square = 0;
    hdl_load_arrive(&set, &spec);
    assert_int_equal(set.items[0].at_us, 0);
    for (size_t i = 1; i < N; i++) {
        double gap = (double)(set.items[i].at_us - set.items[i - 1].at_us);
        sum += gap;
        square += gap * gap;
    }
    *mean = sum / (N - 1);
    *cv2 = square / (N - 1) / (*mean * *mean) - 1;
    free(set.items);
}

/* A gamma distribution of shape b has the squared coefficient of variation 1 / b. 40,000 draws know
 * the mean to 1.5 % and the variation to 10 % at these shapes; the seed is fixed. */
static void test_arrivals(void **state)
{
    const double shapes[] = {0.5, 1, 4};
    double mean = 0, cv2 = 0;
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        hdl_load_spec spec = random_spec();
        spec.burstiness = shapes[i];
        gaps(spec, &mean, &cv2);
        assert_true(fabs(mean / 20000 - 1) < 0.03);
        assert_true(fabs(cv2 * shapes[i] - 1) < 0.1);
    }
    hdl_load_spec spec = random_spec();
    spec.arrivals = HDL_LOAD_CONSTANT;
    gaps(spec, &mean, &cv2);
    assert_true(fabs(mean - 20000) < 1 && cv2 < 1e-6);
    spec.rate = 0; /* all at once */
    gaps(spec, &mean, &cv2);
    assert_true(mean == 0);
}

/* ---- datasets ------------------------------------------------------------------------------ */

/* Token ids of a request's prompt; returns how many. */
static size_t prompt_of(const hdl_load_item *item, int64_t *ids, size_t max)
{
    hdl_json *doc = NULL;
    hdl_errmsg why = {0};
    assert_int_equal(hdl_json_parse(item->body, item->body_len, 0, &doc, &why), HDL_OK);
    hdl_jv root = hdl_json_root(doc), prompt = hdl_jv_get(&root, "prompt");
    size_t n = hdl_jv_len(&prompt);
    for (size_t i = 0; i < n && i < max; i++) {
        hdl_jv id = hdl_jv_at(&prompt, i);
        assert_int_equal(hdl_jv_int(&id, (hdl_jv_range){0, 1 << 30}, &ids[i], &why), HDL_OK);
    }
    hdl_json_close(doc);
    return n;
}

static void test_random(void **state)
{
    hdl_load_spec spec = random_spec();
    hdl_load_set a, b;
    hdl_errmsg why = {0};
    size_t shortest = 1000, longest = 0;
    (void)state;
    spec.range_ratio = 0.5;
    assert_int_equal(hdl_load_make(&a, &spec, &why), HDL_OK);
    assert_int_equal(hdl_load_make(&b, &spec, &why), HDL_OK);
    for (size_t i = 0; i < a.n; i++) {
        int64_t ids[64];
        size_t n = prompt_of(&a.items[i], ids, 64);
        assert_int_equal(n, a.items[i].n_input);
        assert_string_equal(a.items[i].body, b.items[i].body); /* the seed decides */
        shortest = n < shortest ? n : shortest;
        longest = n > longest ? n : longest;
        for (size_t j = 0; j < n; j++)
            assert_in_range(ids[j], 1, 99);
    }
    assert_true(shortest == 10 && longest == 30); /* both ends are met among 200 */
    hdl_load_free(&a);
    hdl_load_free(&b);
}

static void test_prefixes(void **state)
{
    hdl_load_spec spec = random_spec();
    hdl_load_set set;
    hdl_errmsg why = {0};
    int64_t first[128], other[128];
    size_t same = 0;
    (void)state;
    spec.dataset = HDL_LOAD_PREFIX;
    assert_int_equal(hdl_load_make(&set, &spec, &why), HDL_OK);
    assert_int_equal(prompt_of(&set.items[0], first, 128), 84);
    for (size_t i = 1; i < set.n; i++) {
        assert_int_equal(prompt_of(&set.items[i], other, 128), 84);
        bool shared = memcmp(first, other, 64 * sizeof(*first)) == 0;
        same += shared;
        assert_true(memcmp(first + 64, other + 64, 20 * sizeof(*first)) != 0);
    }
    assert_in_range(same, 60, 140); /* one of two prefixes */
    hdl_load_free(&set);
}

static hdl_err open_trace(hdl_trace *t, hdl_load_dataset dataset, const char *text)
{
    hdl_errmsg why = {0};
    hdl_load_spec spec = random_spec();
    spec.dataset = dataset;
    spec.output_len = 0;
    spec.path = write_file("trace", text);
    return hdl_trace_open(t, &spec, &why);
}

static void test_traces(void **state)
{
    hdl_trace t;
    (void)state;
    assert_int_equal(
        open_trace(&t, HDL_LOAD_BURSTGPT,
                   "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
                   "5,ChatGPT,472,18,490,Conversation log\n"
                   "7.5,GPT-4,100,0,100,Conversation log\n"
                   "45,ChatGPT,1087,230,1317,Conversation log\r\n"),
        HDL_OK);
    assert_int_equal(t.n, 2); /* the one without an answer is left out */
    assert_int_equal(t.rows[0].at_us, 0);
    assert_int_equal(t.rows[1].at_us, 40000000);
    assert_int_equal(t.rows[1].n_input, 1087);
    assert_int_equal(t.rows[1].n_output, 230);
    hdl_trace_close(&t);
    assert_int_equal(open_trace(&t, HDL_LOAD_AZURE,
                                "TIMESTAMP,ContextTokens,GeneratedTokens\n"
                                "2023-11-16 18:17:03.9799600,4808,10\n"
                                "2023-11-16 18:17:04.0319600,3180,8\n"),
                     HDL_OK);
    assert_int_equal(t.n, 2);
    assert_in_range(t.rows[1].at_us, 51999, 52001); /* a fraction of a second is a double here */
    assert_int_equal(t.rows[1].n_input, 3180);
    hdl_trace_close(&t);
    assert_int_equal(
        open_trace(&t, HDL_LOAD_SHAREGPT,
                   "[{\"conversations\":[{\"from\":\"human\",\"value\":\"Tell me more\"},"
                   "{\"from\":\"gpt\",\"value\":\"There is no more to be told.\"}]},"
                   "{\"conversations\":[]}]"),
        HDL_OK);
    assert_int_equal(t.n, 1);
    assert_string_equal(t.rows[0].text, "Tell me more");
    assert_int_equal(t.rows[0].n_output, 8);
    hdl_trace_close(&t);
    assert_int_equal(open_trace(&t, HDL_LOAD_BURSTGPT, "a,b\n1,2\n"), HDL_INVALID);
    assert_int_equal(open_trace(&t, HDL_LOAD_AZURE, "x\ny,1,2\n"), HDL_INVALID);
    assert_int_equal(open_trace(&t, HDL_LOAD_MOONCAKE, "{\"timestamp\":1}\n"), HDL_INVALID);
    assert_int_equal(open_trace(&t, HDL_LOAD_SHAREGPT, "{}"), HDL_INVALID);
}

/* Equal hashes are equal blocks of 512 tokens, at the times of the file. */
static void test_mooncake(void **state)
{
    static int64_t ids[3][2048];
    hdl_load_spec spec = random_spec();
    hdl_load_set set;
    hdl_errmsg why = {0};
    (void)state;
    spec.dataset = HDL_LOAD_MOONCAKE;
    spec.arrivals = HDL_LOAD_TRACE;
    spec.speedup = 2;
    spec.path = write_file(
        "mooncake",
        "{\"timestamp\":1000,\"input_length\":1100,\"output_length\":5,\"hash_ids\":[4,5,6]}\n"
        "{\"timestamp\":3000,\"input_length\":1024,\"output_length\":5,\"hash_ids\":[4,7]}\n"
        "{\"timestamp\":3000,\"input_length\":600,\"output_length\":5,\"hash_ids\":[4]}\n");
    assert_int_equal(hdl_load_make(&set, &spec, &why), HDL_OK);
    assert_int_equal(set.n, 3);
    assert_int_equal(set.items[1].at_us - set.items[0].at_us, 1000000);
    for (size_t i = 0; i < 3; i++)
        prompt_of(&set.items[i], ids[i], 2048);
    assert_memory_equal(ids[0], ids[1], 512 * sizeof(int64_t));
    assert_memory_equal(ids[0], ids[2], 512 * sizeof(int64_t));
    assert_memory_not_equal(ids[0] + 512, ids[1] + 512, 512 * sizeof(int64_t));
    assert_memory_not_equal(ids[0] + 512, ids[2] + 512, 88 * sizeof(int64_t));
    hdl_load_free(&set);
}

/* ---- figures ------------------------------------------------------------------------------- */

/* Requests with times made up so that every figure can be reckoned by hand. */
static void test_figures(void **state)
{
    hdl_load_result results[101] = {0};
    uint32_t gap[200];
    hdl_load_figures f;
    hdl_errmsg why = {0};
    (void)state;
    for (uint32_t i = 0; i < 100; i++) { /* TTFT 1..100 ms, then two gaps of 10 ms and 30 ms */
        gap[2 * i] = 10000;
        gap[2 * i + 1] = 30000;
        results[i] = (hdl_load_result){.due_us = 5000,
                                       .first_us = 5000 + 1000 * (i + 1),
                                       .last_us = 45000 + 1000 * (i + 1),
                                       .n_input = 7,
                                       .n_output = 3,
                                       .gap_at = 2 * i,
                                       .n_gaps = 2,
                                       .ok = true};
    }
    uint32_t seconds[2] = {120, 180};
    hdl_load_run run = {.results = results,
                        .n = 101, /* the last one failed */
                        .gaps_us = gap,
                        .n_gaps = 200,
                        .duration_us = 2000000,
                        .per_second = seconds,
                        .n_seconds = 2};
    hdl_load_slo slo = {.ttft_ms = 60.5, .tpot_ms = 20};
    assert_int_equal(hdl_load_figure(&f, &run, &slo, &why), HDL_OK);
    assert_int_equal(f.completed, 100);
    assert_int_equal(f.failed, 1);
    assert_int_equal(f.n_output, 300);
    assert_true(fabs(f.output_per_s - 150) < 1e-9 && fabs(f.total_per_s - 500) < 1e-9);
    assert_true(fabs(f.goodput_per_s - 30) < 1e-9); /* 60 of them within the limits, in 2 s */
    assert_true(f.peak_output_per_s == 180);
    assert_true(fabs(f.ttft.mean - 50.5) < 1e-9 && fabs(f.ttft.median - 50.5) < 1e-9);
    assert_true(fabs(f.ttft.p99 - 99.01) < 1e-9); /* as numpy.percentile([1..100], 99) */
    assert_true(fabs(f.ttft.std - 28.866070047722118) < 1e-9);
    assert_true(fabs(f.tpot.median - 20) < 1e-9 && fabs(f.itl.mean - 20) < 1e-9);
    assert_true(fabs(f.e2el.p90 - 130.1) < 1e-9);
}

static void test_plot(void **state)
{
    hdl_load_row rows[3] = {{.at = 1}, {.at = 8}, {.at = 32}};
    hdl_buf out;
    (void)state;
    for (int i = 0; i < 3; i++)
        rows[i].figures = (hdl_load_figures){.output_per_s = 100 * (i + 1), .ttft = {.p99 = 7}};
    hdl_buf_init(&out, 1 << 20);
    hdl_load_plot plot = {.title = "a < b & c", .axis = "requests/s", .rows = rows, .n = 3};
    assert_int_equal(hdl_load_svg(&out, &plot), HDL_OK);
    const char *text = hdl_buf_cstr(&out);
    assert_non_null(strstr(text, "a &lt; b &amp; c"));
    size_t lines = 0;
    for (const char *at = text; (at = strstr(at, "<polyline")); at++)
        lines++;
    assert_int_equal(lines, 5);
    assert_non_null(strstr(text, "</svg>"));
    hdl_buf_deinit(&out);
}

/* Every piece that the server wrote was seen, and none before it was written. */
static void test_stream(void **state)
{
    hdl_selfcheck c;
    hdl_errmsg why = {0};
    (void)state;
    if (hdl_selfcheck_run(&c, 20, 200, &why) != HDL_OK)
        fail_msg("%s", why.text);
    assert_int_equal(c.n, 20 * 16);
    assert_true(c.p50_ms >= 0);
    assert_true(c.ttft_got_ms >= c.ttft_asked_ms);
    assert_true(c.itl_got_ms > 0);
}

static int remove_dir(void **state)
{
    char path[512];
    (void)state;
    snprintf(path, sizeof(path), "%s/trace", dir);
    remove(path);
    snprintf(path, sizeof(path), "%s/mooncake", dir);
    remove(path);
    return remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arrivals), cmocka_unit_test(test_random),
        cmocka_unit_test(test_prefixes), cmocka_unit_test(test_traces),
        cmocka_unit_test(test_mooncake), cmocka_unit_test(test_figures),
        cmocka_unit_test(test_plot),     cmocka_unit_test(test_stream),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
