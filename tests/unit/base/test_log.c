/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include <pthread.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "base/metrics.h"

static char dir[64], path[96];
static hdl_errmsg why;

static void open_log(bool json, uint32_t rate_max)
{
    assert_ok(hdl_fs_mkdtemp(dir, sizeof dir, "heddle-log-", &why));
    assert_ok(hdl_fs_join(path, sizeof path, dir, "log"));
    hdl_log_opts opts = {.path = path, .level = HDL_LOG_INFO, .json = json, .rate_max = rate_max};
    assert_ok(hdl_log_setup(&opts, &why));
}

/* Ends the test's log; the caller frees the text. */
static char *close_log(void)
{
    char *text;
    size_t len;
    assert_ok(hdl_log_setup(&(hdl_log_opts){.level = HDL_LOG_INFO}, &why)); /* back to stderr */
    assert_ok(hdl_fs_read(path, 64 << 20, &text, &len, &why));
    assert_ok(hdl_fs_remove_tree(dir));
    return text;
}

static size_t count_lines(const char *text)
{
    size_t n = 0;
    for (; *text; text++)
        n += *text == '\n';
    return n;
}

static void test_line(void **state)
{
    (void)state;
    open_log(false, 0);
    HDL_LOG(WARN, BRAIN, "preempt", "req=%d seq=%u", 812, 14u);
    HDL_LOG(INFO, FRONT, "listen");
    HDL_LOG(DEBUG, FRONT, "not_shown", "x=%d", 1);
    HDL_LOG(INFO, FRONT, "foreign", "name=%s", HDL_LOG_QUOTE("a \"b\"\n\x01\\"));
    HDL_LOG(INFO, FRONT, "raw", "name=%s", "two\nlines");
    char *text = close_log();
    assert_int_equal(count_lines(text), 4);
    assert_int_equal(text[10], 'T');
    assert_int_equal(text[26], 'Z');
    assert_has(text, "Z W brain preempt req=812 seq=14\n");
    assert_has(text, "Z I front listen\n");
    assert_has(text, "foreign name=\"a \\\"b\\\"\\n\\x01\\\\\"\n");
    assert_has(text, "raw name=two\\nlines\n");
    free(text);
}

static void test_json(void **state)
{
    (void)state;
    open_log(true, 0);
    HDL_LOG(WARN, BRAIN, "preempt", "req=%d ratio=%.2f name=%s word id=007 bad=1.", 812, 0.5,
            HDL_LOG_QUOTE("a \"b\"\n\x01"));
    char *text = close_log();
    hdl_json *doc;
    assert_ok(hdl_json_parse(text, strlen(text), 0, &doc, &why));
    hdl_jv root = hdl_json_root(doc);
    static const char *const fields[][2] = {
        {"level", "warn"},         {"component", "brain"}, {"event", "preempt"}, {"word1", "word"},
        {"name", "a \"b\"\n\x01"}, {"id", "007"},          {"bad", "1."},
    };
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        hdl_jv v = hdl_jv_get(&root, fields[i][0]);
        const char *value;
        assert_ok(hdl_jv_string(&v, &value, NULL, &why));
        assert_string_equal(value, fields[i][1]);
    }
    hdl_jv req = hdl_jv_get(&root, "req"), ratio = hdl_jv_get(&root, "ratio");
    int64_t n;
    double d;
    assert_ok(hdl_jv_int(&req, (hdl_jv_range){0, 1000}, &n, &why));
    assert_ok(hdl_jv_double(&ratio, &d, &why));
    assert_int_equal(n, 812);
    assert_true(d == 0.5);
    hdl_json_close(doc);
    free(text);
}

static void test_long_line(void **state)
{
    (void)state;
    char value[5000];
    memset(value, 'x', sizeof value - 1);
    value[sizeof value - 1] = '\0';
    open_log(false, 0);
    HDL_LOG(INFO, TEST, "long", "v=%s", value);
    char *text = close_log();
    assert_int_equal(count_lines(text), 1);
    assert_true(strlen(text) < 1100);
    assert_has(text, "xxx...\n");
    free(text);
    char small[8];
    assert_string_equal(hdl_log_quote(small, sizeof small, "abcdefgh"), "\"abcde\"");
    assert_string_equal(hdl_log_quote(small, 3, "a"), "");
}

static void one_site(int n)
{
    for (int i = 0; i < n; i++)
        HDL_LOG(INFO, TEST, "storm", "i=%d", i);
}

/* More than rate_max lines a second of one site are counted instead; the clock may pass a second
 * meanwhile. */
static void test_rate(void **state)
{
    (void)state;
    open_log(false, 5);
    one_site(1000);
    HDL_LOG(INFO, TEST, "other");
    char *text = close_log();
    assert_in_range(count_lines(text), 6, 3 * 5 + 1);
    assert_has(text, "test other\n"); /* other sites are not touched */
    free(text);
}

static void test_parse(void **state)
{
    (void)state;
    hdl_log_level level;
    assert_true(hdl_log_level_parse("debug", &level) && level == HDL_LOG_DEBUG);
    assert_false(hdl_log_level_parse("verbose", &level));
    hdl_log_opts bad = {.path = "/nonexistent/log"};
    assert_err(hdl_log_setup(&bad, &why), IO);
    hdl_log_opts masked = {.level = HDL_LOG_INFO, .mod_mask = 1u << HDL_MOD_COLL};
    assert_ok(hdl_log_setup(&masked, &why));
    assert_true(hdl_log_enabled(HDL_LOG_INFO, HDL_MOD_COLL));
    assert_false(hdl_log_enabled(HDL_LOG_INFO, HDL_MOD_FRONT));
    assert_false(hdl_log_enabled(HDL_LOG_DEBUG, HDL_MOD_COLL));
    assert_ok(hdl_log_setup(&(hdl_log_opts){.level = HDL_LOG_INFO}, &why));
}

enum { THREADS = 4, LINES = 2000 };

static void *shout(void *arg)
{
    for (int i = 0; i < LINES; i++)
        HDL_LOG(INFO, TEST, "shout", "thread=%d i=%d", (int)(intptr_t)arg, i);
    return NULL;
}

/* Every line is either whole in the file or counted as dropped; each thread's own lines keep
 * their order. */
static void test_async(void **state)
{
    (void)state;
    open_log(false, 1u << 30);
    uint64_t dropped_before = hdl_log_dropped();
    for (int round = 0; round < 2; round++) { /* start and stop twice */
        assert_ok(hdl_log_start(&why));
        pthread_t threads[THREADS];
        for (int i = 0; i < THREADS; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, shout, (void *)(intptr_t)i), 0);
        for (int i = 0; i < THREADS; i++)
            assert_int_equal(pthread_join(threads[i], NULL), 0);
        hdl_log_stop();
        hdl_log_stop(); /* nothing */
    }
    HDL_LOG(INFO, TEST, "after"); /* synchronous again */
    uint64_t dropped = hdl_log_dropped() - dropped_before;
    char *text = close_log();
    int last[THREADS] = {-1, -1, -1, -1};
    size_t seen = 0;
    for (char *line = text; *line;) {
        char *end = strchr(line, '\n');
        assert_non_null(end);
        *end = '\0';
        int thread, i;
        const char *event = strstr(line, " shout ");
        if (event) {
            assert_int_equal(sscanf(event, " shout thread=%d i=%d", &thread, &i), 2);
            assert_in_range(thread, 0, THREADS - 1);
            if (i <= last[thread])
                last[thread] = -1; /* the second round */
            assert_true(i > last[thread]);
            last[thread] = i;
            seen++;
        } else {
            assert_true(strstr(line, "log_dropped lines=") || strstr(line, "test after"));
        }
        line = end + 1;
    }
    assert_int_equal(seen + dropped, 2 * THREADS * LINES);
    free(text);
}

/* A frozen thread logs, counts and pushes without allocating: they are on the token path. */
static void test_frozen(void **state)
{
    (void)state;
    open_log(false, 0);
    assert_ok(hdl_log_start(&why));
    hdl_alloc_freeze();
    HDL_LOG(WARN, STEP, "slow_step", "step=%llu ms=%.3f name=%s", 99121ull, 17.25,
            HDL_LOG_QUOTE("a b"));
    hdl_metric_observe(HDL_METRIC_STEP_TIME, 0, 17250);
    hdl_alloc_thaw();
    hdl_log_stop();
    char *text = close_log();
    assert_has(text, "W step slow_step step=99121 ms=17.250 name=\"a b\"\n");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_line),      cmocka_unit_test(test_json),
        cmocka_unit_test(test_long_line), cmocka_unit_test(test_rate),
        cmocka_unit_test(test_parse),     cmocka_unit_test(test_frozen),
        cmocka_unit_test(test_async),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
