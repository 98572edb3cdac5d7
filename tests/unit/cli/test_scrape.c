/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/scrape.h"

static hdl_scrape parsed(const char *text)
{
    hdl_scrape scrape;
    hdl_errmsg why = {0};
    assert_int_equal(hdl_scrape_parse(&scrape, strdup(text), &why), HDL_OK);
    return scrape;
}

static void test_sums(void **state)
{
    (void)state;
    hdl_scrape s =
        parsed("# HELP a b\n# TYPE a gauge\na 3\nb{x=\"1\"} 4\nb{x=\"2\",y=\"{\"} 5.5\n");
    assert_true(hdl_scrape_sum(&s, "a", "") == 3);
    assert_true(hdl_scrape_sum(&s, "b", "") == 9.5);
    assert_true(hdl_scrape_sum(&s, "b", "x=\"2\"") == 5.5);
    assert_true(isnan(hdl_scrape_sum(&s, "c", "")));
    hdl_scrape_free(&s);
}

/* 10 observations up to 1, 30 more up to 2, 10 more above: what PromQL's histogram_quantile says.
 */
static void test_quantiles(void **state)
{
    (void)state;
    hdl_scrape before =
        parsed("h_bucket{le=\"1\"} 5\nh_bucket{le=\"2\"} 5\nh_bucket{le=\"+Inf\"} 5\n");
    hdl_scrape now =
        parsed("h_bucket{le=\"1\"} 15\nh_bucket{le=\"2\"} 45\nh_bucket{le=\"+Inf\"} 55\n");
    const struct {
        double q, expected;
    } cases[] = {{0.1, 0.5}, {0.2, 1}, {0.5, 1.5}, {0.8, 2}, {0.99, 2}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        double got = hdl_scrape_quantile(&now, &before, (hdl_scrape_ask){"h", "", cases[i].q});
        assert_true(fabs(got - cases[i].expected) < 1e-12);
    }
    assert_true(isnan(hdl_scrape_quantile(&now, &now, (hdl_scrape_ask){"h", "", 0.5})));
    assert_true(isnan(hdl_scrape_quantile(&now, NULL, (hdl_scrape_ask){"g", "", 0.5})));
    hdl_scrape_free(&before);
    hdl_scrape_free(&now);
}

/* Two ranks are one distribution unless one is asked for. */
static void test_series(void **state)
{
    (void)state;
    hdl_scrape s = parsed("h_bucket{rank=\"0\",le=\"1\"} 10\nh_bucket{rank=\"0\",le=\"+Inf\"} 10\n"
                          "h_bucket{rank=\"1\",le=\"1\"} 0\nh_bucket{rank=\"1\",le=\"+Inf\"} 30\n");
    assert_true(hdl_scrape_quantile(&s, NULL, (hdl_scrape_ask){"h", "rank=\"0\"", 0.5}) == 0.5);
    assert_true(hdl_scrape_quantile(&s, NULL, (hdl_scrape_ask){"h", "", 0.125}) == 0.5);
    assert_true(hdl_scrape_quantile(&s, NULL, (hdl_scrape_ask){"h", "", 0.9}) == 1);
    hdl_scrape_free(&s);
}

static void test_other_text(void **state)
{
    hdl_scrape s;
    hdl_errmsg why = {0};
    (void)state;
    assert_int_equal(hdl_scrape_parse(&s, strdup("<html>\n<body>"), &why), HDL_INVALID);
    assert_int_equal(hdl_scrape_parse(&s, strdup("a{b 3\n"), &why), HDL_INVALID);
    assert_int_equal(hdl_scrape_parse(&s, strdup(""), &why), HDL_OK);
    hdl_scrape_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sums), cmocka_unit_test(test_quantiles),
        cmocka_unit_test(test_series), cmocka_unit_test(test_other_text)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
