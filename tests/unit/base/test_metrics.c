/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "base/metrics.h"

static char *render(void)
{
    hdl_buf out;
    size_t len;
    hdl_buf_init(&out, 1 << 20);
    assert_ok(hdl_metrics_render(&out));
    char *text = hdl_buf_steal(&out, &len);
    assert_non_null(text);
    return text;
}

static void test_values(void **state)
{
    (void)state;
    hdl_metrics_reset();
    uint32_t done = hdl_metric_label(HDL_METRIC_REQUESTS, "done");
    hdl_metric_add(HDL_METRIC_REQUESTS, done, 2);
    hdl_metric_add(HDL_METRIC_REQUESTS, done, 1);
    hdl_metric_set(HDL_METRIC_RUNNING, 0, 5);
    hdl_metric_set(HDL_METRIC_RUNNING, 0, -1);
    hdl_metric_add(HDL_METRIC_HTTP_REQUESTS, hdl_metric_http_code(200), 1);
    hdl_metric_add(HDL_METRIC_HTTP_REQUESTS, hdl_metric_http_code(599), 1);
    hdl_metric_set(HDL_METRIC_START_TIME, 0, 1500000);
    assert_int_equal(hdl_metric_get(HDL_METRIC_REQUESTS, done), 3);
    hdl_metrics_build_info("1.2.3", "scheduler");
    char *text = render();
    assert_has(text, "heddle_build_info{version=\"1.2.3\",role=\"scheduler\"} 1\n");
    assert_has(text, "# HELP heddle_requests_total Requests that ended, by outcome.\n"
                     "# TYPE heddle_requests_total counter\n"
                     "heddle_requests_total{outcome=\"done\"} 3\n#");
    assert_has(text, "\nheddle_requests_running -1\n");
    assert_has(text, "heddle_http_requests_total{code=\"200\"} 1\n");
    assert_has(text, "heddle_http_requests_total{code=\"other\"} 1\n");
    assert_has(text, "\nheddle_start_time_seconds 1.5\n");
    assert_has(text, "\nheddle_preemptions_total 0\n"); /* without a label: from the start */
    free(text);
}

static void test_histogram(void **state)
{
    (void)state;
    hdl_metrics_reset();
    static const uint64_t values_us[] = {0, 1000, 1001, 250000, 10000000, 10000001};
    for (size_t i = 0; i < sizeof values_us / sizeof values_us[0]; i++)
        hdl_metric_observe(HDL_METRIC_TTFT, 0, values_us[i]);
    hdl_metric_observe(HDL_METRIC_STEP_TIME, 3, 150);
    assert_int_equal(hdl_metric_get(HDL_METRIC_TTFT, 0), 6);
    char *text = render();
    assert_has(text, "_first_token_seconds_bucket{le=\"0.001\"} 2\n"); /* bounds are included */
    assert_has(text, "_first_token_seconds_bucket{le=\"0.005\"} 3\n");
    assert_has(text, "_first_token_seconds_bucket{le=\"10\"} 5\n");
    assert_has(text, "_first_token_seconds_bucket{le=\"+Inf\"} 6\n");
    assert_has(text, "heddle_time_to_first_token_seconds_sum 20.252002\n");
    assert_has(text, "heddle_time_to_first_token_seconds_count 6\n");
    assert_has(text, "heddle_step_seconds_bucket{rank=\"3\",le=\"0.0002\"} 1\n");
    assert_has(text, "heddle_step_seconds_sum{rank=\"3\"} 0.00015\n");
    assert_null(strstr(text, "rank=\"2\"")); /* untouched series are not shown */
    free(text);
}

/* Rules of naming (what promtool's linter asks), over the whole table. */
static void test_names(void **state)
{
    (void)state;
#define NAME(id, kind, unit, label, buckets, name, help) {name, #kind, #unit, help},
    static const struct {
        const char *name, *kind, *unit, *help;
    } rows[] = {HDL_METRIC_LIST(NAME)};
#undef NAME
    for (size_t i = 0; i < HDL_METRIC_COUNT; i++) {
        size_t len = strlen(rows[i].name);
        assert_memory_equal(rows[i].name, "heddle_", 7);
        assert_int_equal(strspn(rows[i].name, "abcdefghijklmnopqrstuvwxyz_"), len);
        bool total = len > 6 && strcmp(rows[i].name + len - 6, "_total") == 0;
        assert_int_equal(total, strcmp(rows[i].kind, "COUNTER") == 0);
        if (strcmp(rows[i].unit, "SECONDS") == 0)
            assert_string_equal(rows[i].name + len - 8, "_seconds");
        assert_int_equal(rows[i].help[strlen(rows[i].help) - 1], '.');
        assert_null(strpbrk(rows[i].help, "\n\\"));
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(rows[i].name, rows[j].name);
    }
}

static void test_small_buffer(void **state)
{
    (void)state;
    hdl_buf out;
    hdl_buf_init(&out, 100);
    assert_err(hdl_metrics_render(&out), BUSY);
    hdl_buf_deinit(&out);
}

static void wrong_kind(void) { hdl_metric_set(HDL_METRIC_REQUESTS, 0, 1); }

static void wrong_label(void) { hdl_metric_add(HDL_METRIC_REQUESTS, 4, 1); }

static void test_misuse(void **state)
{
    (void)state;
    static char report[2048];
    must_abort(wrong_kind, report, sizeof report);
    must_abort(wrong_label, report, sizeof report);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values), cmocka_unit_test(test_histogram),
        cmocka_unit_test(test_names),  cmocka_unit_test(test_small_buffer),
        cmocka_unit_test(test_misuse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
