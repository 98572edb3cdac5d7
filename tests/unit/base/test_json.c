/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "base/json.h"
#include "heddle/limits.h"
#include "heddle/types.h"

static hdl_json *parse(const char *text)
{
    hdl_json *doc;
    hdl_errmsg why = {""};
    if (hdl_json_parse(text, strlen(text), 0, &doc, &why) != HDL_OK)
        fail_msg("%s", why.text);
    return doc;
}

typedef struct text_of {
    const char *text;
    size_t len; /* 0: strlen */
} text_of;

static void test_refused(void **state)
{
    (void)state;
    static const text_of cases[] = {
        {"", 0},
        {"{", 0},
        {"{\"a\":1,\"a\":2}", 0},
        {"{\"a\":1} x", 0},
        {"{'a':1}", 0},
        {"{\"a\":01}", 0},
        {"{\"a\":NaN}", 0},
        {"{\"a\":Infinity}", 0},
        {"{\"a\":1,}", 0},
        {"[1 2]", 0},
        {"{\"a\":1} // c", 0},
        {"\"\\ud800\"", 0},
        {"\"\\u0000\"", 0},
        {"{\"a\\u0000b\":1}", 0},
        {"\"\xff\"", 0},
        {"\"\xc0\xaf\"", 0},
        {"\"\xed\xa0\x80\"", 0},
        {"\xef\xbb\xbf{}", 0},
        {"\"a\nb\"", 0},
        {"\"a\0b\"", 5},
        {"1e999", 0},
        {"18446744073709551616", 0},
        {"9223372036854775808", 0},
        {"{\"a\":\"b\"", 0},
        {"tru", 0},
    };
    for (size_t i = 0; i < HDL_ARRAY_LEN(cases); i++) {
        size_t len = cases[i].len ? cases[i].len : strlen(cases[i].text);
        hdl_json *doc;
        hdl_errmsg why = {""};
        if (hdl_json_parse(cases[i].text, len, 0, &doc, &why) == HDL_OK)
            fail_msg("taken: %s", cases[i].text);
        assert_null(doc);
        assert_true(strlen(why.text) > 10);
    }
    hdl_json *doc;
    hdl_errmsg why;
    assert_err(hdl_json_parse("{\n \"a\" 1}", 9, 0, &doc, &why), INVALID);
    assert_has(why.text, "line 2 column");
}

static void test_caps(void **state)
{
    (void)state;
    hdl_json *doc;
    hdl_errmsg why;
    assert_err(hdl_json_parse("[1,2,3]", 7, 6, &doc, &why), INVALID);
    assert_has(why.text, "7 bytes");
    char text[2 * HDL_JSON_DEPTH_MAX + 3];
    for (int over = 0; over <= 1; over++) {
        size_t depth = (size_t)HDL_JSON_DEPTH_MAX + (size_t)over;
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        assert_int_equal(hdl_json_parse(text, 2 * depth, 0, &doc, &why),
                         over ? HDL_INVALID : HDL_OK);
        hdl_json_close(doc);
    }
    assert_has(why.text, "deep");
    /* Brackets in strings are no nesting, an escaped quote ends none. */
    memset(text, '[', sizeof text);
    text[0] = '"';
    text[1] = '\\';
    text[2] = '"';
    text[sizeof text - 1] = '"';
    assert_ok(hdl_json_parse(text, sizeof text, 0, &doc, &why));
    hdl_json_close(doc);
}

static void test_values_bounded(void **state)
{
    (void)state;
    size_t len = 2 * (size_t)HDL_JSON_VALUES_MAX + 3;
    char *text = malloc(len);
    hdl_errmsg why;
    hdl_json *doc;
    assert_non_null(text);
    text[0] = '[';
    for (size_t i = 1; i + 1 < len; i++)
        text[i] = i % 2 ? '1' : ',';
    text[len - 1] = ']';
    assert_int_equal(hdl_json_parse(text, len, len, &doc, &why), HDL_INVALID);
    assert_has(why.text, "too many values");
    text[0] = text[len - 1] = '"'; /* commas of a string are none */
    assert_int_equal(hdl_json_parse(text, len, len, &doc, &why), HDL_OK);
    hdl_json_close(doc);
    free(text);
}

static void test_walk(void **state)
{
    (void)state;
    hdl_json *doc = parse("{\"model\":\"m\",\"messages\":[{\"role\":\"user\"},"
                          "{\"content\":[true,null,1,2.5]}],\"n\":null}");
    hdl_jv root = hdl_json_root(doc), messages = hdl_jv_get(&root, "messages");
    assert_int_equal(hdl_jv_kind(&messages), HDL_JSON_ARRAY);
    assert_int_equal(hdl_jv_len(&messages), 2);
    hdl_jv second = hdl_jv_at(&messages, 1), content = hdl_jv_get(&second, "content");
    hdl_jv third = hdl_jv_at(&content, 2);
    char path[64];
    assert_string_equal(hdl_jv_path(&third, path, sizeof path), "messages[1].content[2]");
    assert_string_equal(hdl_jv_path(&third, path, 9), "messages");
    assert_string_equal(hdl_jv_path(&root, path, sizeof path), "");
    hdl_jv absent = hdl_jv_get(&second, "role"), null = hdl_jv_get(&root, "n");
    assert_false(hdl_jv_present(&absent));
    assert_true(hdl_jv_present(&null));
    assert_false(hdl_jv_given(&null));
    hdl_jv past = hdl_jv_at(&content, 4), below = hdl_jv_get(&past, "x");
    assert_false(hdl_jv_present(&past));
    assert_false(hdl_jv_present(&below)); /* an absent parent is no crash */
    assert_int_equal(hdl_jv_len(&below), 0);

    void *iter = NULL;
    hdl_jv member;
    const char *const names[] = {"model", "messages", "n"};
    for (int i = 0; i < 3; i++) {
        assert_true(hdl_jv_next(&root, &iter, &member));
        assert_string_equal(member.key, names[i]);
    }
    assert_false(hdl_jv_next(&root, &iter, &member));
    iter = NULL;
    assert_false(hdl_jv_next(&content, &iter, &member));
    hdl_json_close(doc);
}

static void test_typed(void **state)
{
    (void)state;
    hdl_json *doc = parse("{\"i\":3,\"r\":3.0,\"f\":3.5,\"s\":\"t\\u00e9\",\"b\":false,"
                          "\"big\":1e300,\"o\":{\"k\":[]}}");
    hdl_jv root = hdl_json_root(doc);
    hdl_errmsg why;
    hdl_jv i = hdl_jv_get(&root, "i"), r = hdl_jv_get(&root, "r"), f = hdl_jv_get(&root, "f");
    hdl_jv s = hdl_jv_get(&root, "s"), b = hdl_jv_get(&root, "b"), o = hdl_jv_get(&root, "o");
    hdl_jv big = hdl_jv_get(&root, "big"), none = hdl_jv_get(&root, "none");
    hdl_jv_range range = {1, 5};
    int64_t n;
    assert_ok(hdl_jv_int(&i, range, &n, &why));
    assert_int_equal(n, 3);
    assert_ok(hdl_jv_int(&r, range, &n, &why));
    assert_err(hdl_jv_int(&f, range, &n, &why), INVALID);
    assert_string_equal(why.text, "f must be an integer; it is a number");
    assert_err(hdl_jv_int(&big, range, &n, &why), INVALID);
    assert_err(hdl_jv_int(&i, (hdl_jv_range){4, 5}, &n, &why), INVALID);
    assert_string_equal(why.text, "i must be 4 to 5; it is 3");
    assert_err(hdl_jv_int(&none, range, &n, &why), INVALID);
    assert_string_equal(why.text, "none is missing; it must be an integer");
    assert_err(hdl_jv_int(&s, range, &n, &why), INVALID);
    double v;
    assert_ok(hdl_jv_double(&i, &v, &why));
    assert_true(v == 3);
    assert_ok(hdl_jv_double(&f, &v, &why));
    assert_true(v == 3.5);
    assert_err(hdl_jv_double(&b, &v, &why), INVALID);
    bool flag = true;
    assert_ok(hdl_jv_bool(&b, &flag, &why));
    assert_false(flag);
    assert_err(hdl_jv_bool(&i, &flag, &why), INVALID);
    const char *text;
    size_t len;
    assert_ok(hdl_jv_string(&s, &text, &len, &why));
    assert_string_equal(text, "t\xc3\xa9");
    assert_int_equal(len, 3);
    assert_err(hdl_jv_string(&o, &text, &len, &why), INVALID);
    assert_string_equal(why.text, "o must be a string; it is an object");
    hdl_jv k = hdl_jv_get(&o, "k");
    assert_err(hdl_jv_string(&k, &text, NULL, &why), INVALID);
    assert_string_equal(why.text, "o.k must be a string; it is an array");
    assert_ok(hdl_jv_expect(&k, HDL_JSON_ARRAY, &why));
    assert_err(hdl_jv_fail(&root, &why, "must be %s", "better"), INVALID);
    assert_string_equal(why.text, "the document must be better");
    hdl_json_close(doc);
}

static void test_nul(void **state)
{
    static const char source[] = "{\"a\":\"x\\u0000y\",\"b\":\"z\"}";
    hdl_json *doc = NULL;
    hdl_errmsg why = {0};
    const char *text;
    (void)state;
    assert_err(hdl_json_parse(source, sizeof source - 1, 0, &doc, &why), INVALID);
    assert_ok(hdl_json_parse_nul(source, sizeof source - 1, 0, &doc, &why));
    hdl_jv root = hdl_json_root(doc), a = hdl_jv_get(&root, "a"), b = hdl_jv_get(&root, "b");
    assert_err(hdl_jv_string(&a, &text, NULL, &why), INVALID);
    assert_string_equal(why.text, "a must not hold \\u0000");
    assert_ok(hdl_jv_string(&b, &text, NULL, &why));
    hdl_json_close(doc);
}

static void test_dump(void **state)
{
    (void)state;
    static const char text[] =
        "{\"z\":[1,-2,0.1,1e+22,true,false,null],\"a\":{\"\\\"\":\"\\u0001\\n\"}}";
    hdl_json *doc = parse(text);
    hdl_buf out;
    hdl_buf_init(&out, 1000);
    hdl_jv root = hdl_json_root(doc);
    assert_ok(hdl_jv_dump(&root, &out));
    assert_string_equal(hdl_buf_cstr(&out), text);
    hdl_buf_deinit(&out);
    hdl_buf_init(&out, 10);
    assert_err(hdl_jv_dump(&root, &out), BUSY);
    hdl_buf_deinit(&out);
    hdl_json_close(doc);
    doc = parse(" 7 "); /* any value may stand at the top */
    hdl_json_close(doc);
    hdl_json_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),        cmocka_unit_test(test_caps),
        cmocka_unit_test(test_values_bounded), cmocka_unit_test(test_walk),
        cmocka_unit_test(test_typed),          cmocka_unit_test(test_nul),
        cmocka_unit_test(test_dump),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
