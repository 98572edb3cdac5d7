/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include <float.h>
#include <math.h>

#include "base/json.h"
#include "base/json_write.h"
#include "base/rng.h"

static char report[2048];

static void test_shape(void **state)
{
    (void)state;
    hdl_buf buf;
    hdl_json_writer w;
    hdl_buf_init(&buf, 4096);
    hdl_jw_init(&w, &buf);
    hdl_jw_begin_object(&w);
    hdl_jw_kv_cstr(&w, "id", "chatcmpl-1");
    hdl_jw_kv_int(&w, "n", -5);
    hdl_jw_kv_uint(&w, "max", UINT64_MAX);
    hdl_jw_kv_bool(&w, "ok", true);
    hdl_jw_key(&w, "choices");
    hdl_jw_begin_array(&w);
    hdl_jw_begin_object(&w);
    hdl_jw_end_object(&w);
    hdl_jw_begin_array(&w);
    hdl_jw_end_array(&w);
    hdl_jw_cstr(&w, NULL);
    hdl_jw_int(&w, INT64_MIN);
    hdl_jw_raw(&w, "{\"x\":1}", 7);
    hdl_jw_end_array(&w);
    hdl_jw_kv_cstr(&w, "last", "");
    hdl_jw_end_object(&w);
    assert_string_equal(hdl_buf_cstr(&buf),
                        "{\"id\":\"chatcmpl-1\",\"n\":-5,\"max\":18446744073709551615,\"ok\":true,"
                        "\"choices\":[{},[],null,-9223372036854775808,{\"x\":1}],\"last\":\"\"}");
    hdl_buf_deinit(&buf);
}

static void test_strings(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"plain", "\"plain\""},
        {"a\"b\\c/d", "\"a\\\"b\\\\c/d\""},
        {"\b\f\n\r\t\v\x01\x1f\x7f", "\"\\b\\f\\n\\r\\t\\u000b\\u0001\\u001f\x7f\""},
        {"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\""},
        {"a\xff"
         "b",
         "\"a\xEF\xBF\xBD"
         "b\""},
        {"\xc0\xaf", "\"\xEF\xBF\xBD\xEF\xBF\xBD\""},                 /* overlong */
        {"\xed\xa0\x80", "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\""}, /* surrogate */
        {"\xf4\x90\x80\x80", "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\""},
        {"\xe2\x82", "\"\xEF\xBF\xBD\xEF\xBF\xBD\""}, /* cut at the end */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        hdl_buf buf;
        hdl_json_writer w;
        hdl_buf_init(&buf, 4096);
        hdl_jw_init(&w, &buf);
        hdl_jw_cstr(&w, cases[i].in);
        assert_string_equal(hdl_buf_cstr(&buf), cases[i].out);
        hdl_buf_deinit(&buf);
    }
}

/* Whatever bytes come in, a strict parser takes what comes out. */
static void test_random_bytes(void **state)
{
    (void)state;
    hdl_rng rng;
    hdl_rng_init(&rng, 11);
    for (int turn = 0; turn < 2000; turn++) {
        unsigned char bytes[64];
        size_t n = hdl_rng_below(&rng, sizeof bytes);
        for (size_t i = 0; i < n; i++)
            do
                bytes[i] = (unsigned char)hdl_rng_below(&rng, 256);
            while (bytes[i] == 0); /* U+0000 is valid JSON that our own reader refuses */
        hdl_buf buf;
        hdl_json_writer w;
        hdl_buf_init(&buf, 4096);
        hdl_jw_init(&w, &buf);
        hdl_jw_string(&w, (const char *)bytes, n);
        hdl_json *doc;
        hdl_errmsg why;
        if (hdl_json_parse((const char *)hdl_buf_data(&buf), buf.len, 0, &doc, &why) != HDL_OK)
            fail_msg("turn %d: %s", turn, why.text);
        hdl_json_close(doc);
        hdl_buf_deinit(&buf);
    }
}

static const char *number_text(hdl_buf *buf, double v, int digits)
{
    hdl_json_writer w;
    hdl_buf_clear(buf);
    hdl_jw_init(&w, buf);
    if (digits < 0)
        hdl_jw_double(&w, v);
    else
        hdl_jw_fixed(&w, v, digits);
    return hdl_buf_cstr(buf);
}

static void test_numbers(void **state)
{
    (void)state;
    hdl_buf buf;
    hdl_buf_init(&buf, 400);
    assert_string_equal(number_text(&buf, 0.7, -1), "0.7");
    assert_string_equal(number_text(&buf, 3, -1), "3.0");
    assert_string_equal(number_text(&buf, -0.0, -1), "-0.0"); /* once read back as the integer 0 */
    assert_string_equal(number_text(&buf, 0.1 + 0.2, -1), "0.30000000000000004");
    assert_string_equal(number_text(&buf, NAN, -1), "null");
    assert_string_equal(number_text(&buf, -INFINITY, 3), "null");
    assert_string_equal(number_text(&buf, 1.0 / 3, 4), "0.3333");
    assert_string_equal(number_text(&buf, 2, 0), "2");
    hdl_rng rng;
    hdl_rng_init(&rng, 5);
    for (int i = 0; i < 2000; i++) {
        uint64_t bits = hdl_rng_u64(&rng);
        double v;
        float f;
        memcpy(&v, &bits, sizeof v);
        memcpy(&f, &bits, sizeof f);
        if (!isfinite(v) || !isfinite(f))
            continue;
        assert_true(strtod(number_text(&buf, v, -1), NULL) == v);
        hdl_json_writer w;
        hdl_buf_clear(&buf);
        hdl_jw_init(&w, &buf);
        hdl_jw_float(&w, f);
        assert_true(strtof(hdl_buf_cstr(&buf), NULL) == f);
    }
    hdl_buf_deinit(&buf);
}

static void key_in_array(void)
{
    hdl_buf buf;
    hdl_json_writer w;
    hdl_buf_init(&buf, 100);
    hdl_jw_init(&w, &buf);
    hdl_jw_begin_array(&w);
    hdl_jw_key(&w, "k");
}

static void value_without_key(void)
{
    hdl_buf buf;
    hdl_json_writer w;
    hdl_buf_init(&buf, 100);
    hdl_jw_init(&w, &buf);
    hdl_jw_begin_object(&w);
    hdl_jw_int(&w, 1);
}

static void wrong_end(void)
{
    hdl_buf buf;
    hdl_json_writer w;
    hdl_buf_init(&buf, 100);
    hdl_jw_init(&w, &buf);
    hdl_jw_begin_object(&w);
    hdl_jw_end_array(&w);
}

static void test_misuse(void **state)
{
    (void)state;
    must_abort(key_in_array, report, sizeof report);
    must_abort(value_without_key, report, sizeof report);
    must_abort(wrong_end, report, sizeof report);
}

static void test_full_buffer(void **state)
{
    (void)state;
    hdl_buf buf;
    hdl_json_writer w;
    hdl_buf_init(&buf, 16);
    hdl_jw_init(&w, &buf);
    hdl_jw_begin_array(&w);
    for (int i = 0; i < 100; i++)
        hdl_jw_int(&w, i);
    hdl_jw_end_array(&w);
    assert_false(hdl_buf_ok(&buf));
    assert_true(buf.len <= 16);
    hdl_buf_deinit(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shape),        cmocka_unit_test(test_strings),
        cmocka_unit_test(test_random_bytes), cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_misuse),       cmocka_unit_test(test_full_buffer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
