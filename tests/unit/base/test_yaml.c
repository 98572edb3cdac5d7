/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "base/yaml.h"
#include "heddle/types.h"

static hdl_yaml *parse(const char *text)
{
    hdl_yaml *doc;
    hdl_errmsg why = {""};
    if (hdl_yaml_parse("t.yaml", text, strlen(text), &doc, &why) != HDL_OK)
        fail_msg("%s", why.text);
    return doc;
}

static void test_tree(void **state)
{
    (void)state;
    hdl_yaml *doc = parse("http:\n  port: 8080\n  hosts: [a, \"b\"]\nempty:\n");
    const hdl_yaml_node *root = hdl_yaml_root(doc), *http = hdl_yaml_get(root, "http");
    assert_int_equal(root->kind, HDL_YAML_MAP);
    assert_int_equal(root->count, 2);
    const hdl_yaml_node *port = hdl_yaml_get(http, "port"), *hosts = hdl_yaml_get(http, "hosts");
    assert_int_equal(port->kind, HDL_YAML_INT);
    assert_int_equal(port->line, 2);
    assert_int_equal(port->col, 9);
    assert_int_equal(hosts->kind, HDL_YAML_SEQ);
    assert_int_equal(hosts->count, 2);
    assert_string_equal(hosts->items[1]->text, "b");
    assert_true(hosts->items[1]->quoted);
    assert_int_equal(hdl_yaml_get(root, "empty")->kind, HDL_YAML_NULL);
    assert_null(hdl_yaml_get(root, "none"));
    assert_null(hdl_yaml_get(port, "x"));
    assert_null(hdl_yaml_get(NULL, "x"));
    assert_string_equal(hdl_yaml_name(doc), "t.yaml");
    hdl_yaml_close(doc);
}

static void test_kinds(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        hdl_yaml_kind kind;
    } cases[] = {
        {"true", HDL_YAML_BOOL},        {"FALSE", HDL_YAML_BOOL},    {"yes", HDL_YAML_STRING},
        {"no", HDL_YAML_STRING},        {"on", HDL_YAML_STRING},     {"~", HDL_YAML_NULL},
        {"null", HDL_YAML_NULL},        {"12", HDL_YAML_INT},        {"-3", HDL_YAML_INT},
        {"0x1f", HDL_YAML_INT},         {"0123", HDL_YAML_STRING},   {"1.5", HDL_YAML_FLOAT},
        {"1e3", HDL_YAML_FLOAT},        {".nan", HDL_YAML_STRING},   {"4GiB", HDL_YAML_STRING},
        {"\"12\"", HDL_YAML_STRING},    {"'true'", HDL_YAML_STRING}, {"1_000", HDL_YAML_STRING},
        {"|\n  12\n", HDL_YAML_STRING},
    };
    for (size_t i = 0; i < HDL_ARRAY_LEN(cases); i++) {
        char text[64];
        snprintf(text, sizeof text, "k: %s\n", cases[i].text);
        hdl_yaml *doc = parse(text);
        const hdl_yaml_node *node = hdl_yaml_get(hdl_yaml_root(doc), "k");
        if (node->kind != cases[i].kind)
            fail_msg("%s is %s", cases[i].text, hdl_yaml_kind_text(node->kind));
        hdl_yaml_close(doc);
    }
}

static void test_empty(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "\n", "# only a comment\n", "---\n", "---\n...\n", "~"};
    for (size_t i = 0; i < HDL_ARRAY_LEN(texts); i++) {
        hdl_yaml *doc = parse(texts[i]);
        assert_int_equal(hdl_yaml_root(doc)->kind, HDL_YAML_MAP);
        assert_int_equal(hdl_yaml_root(doc)->count, 0);
        hdl_yaml_close(doc);
    }
    hdl_yaml *doc = parse("{a: {}, b: []}");
    assert_int_equal(hdl_yaml_get(hdl_yaml_root(doc), "b")->count, 0);
    hdl_yaml_close(doc);
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"a: 1\nb: 2\na: 3\n", "t.yaml:3:1: duplicate key \"a\"; the first is in line 1"},
        {"x:\n  - {k: 1, \"k\": 2}\n", "t.yaml:2:12: duplicate key \"k\""},
        {"a: &x 1\nb: 2\n", "t.yaml:1:4: anchors"},
        {"a: *x\n", "t.yaml:1:4: aliases"},
        {"<<: {a: 1}\n", "t.yaml:1:1: merge keys"},
        {"a: !!str 1\n", "t.yaml:1:4: tags"},
        {"a: !own [1]\n", "t.yaml:1:4: tags"},
        {"a: 1\n---\nb: 2\n", "t.yaml:2:1: a second document"},
        {"? [a]\n: 1\n", "t.yaml:1:3: a key must be a plain word"},
        {"\"\": 1\n", "t.yaml:1:1: a key without a name"},
        {"a: \"x\\0y\"\n", "t.yaml:1:4: a NUL byte"},
        {"a: [1\n", "t.yaml:2:1: not valid YAML"},
        {"a: 1\n b: 2\n", "not valid YAML"},
        {"a:\n\t- 1\n", "not valid YAML"},
        {"a: 1\nb: \xff\n", "t.yaml:2:4: not valid YAML"},
    };
    for (size_t i = 0; i < HDL_ARRAY_LEN(cases); i++) {
        hdl_yaml *doc;
        hdl_errmsg why = {""};
        if (hdl_yaml_parse("t.yaml", cases[i].text, strlen(cases[i].text), &doc, &why) == HDL_OK)
            fail_msg("taken: %s", cases[i].text);
        assert_null(doc);
        assert_has(why.text, cases[i].message);
    }
}

/* Input that explodes or goes quadratic in careless readers. */
static void test_hostile(void **state)
{
    (void)state;
    hdl_yaml *doc;
    hdl_errmsg why;
    size_t len = 100000;
    char *text = malloc(len);
    assert_non_null(text);
    memset(text, '[', len);
    assert_err(hdl_yaml_parse("t", text, len, &doc, &why), INVALID);
    assert_has(why.text, "nested too deeply");
    memset(text, ',', len);
    memcpy(text, "[a", 2);
    for (size_t i = 2; i + 2 < len; i += 2)
        text[i + 1] = 'a';
    text[len - 1] = ']';
    assert_ok(hdl_yaml_parse("t", text, len, &doc, &why)); /* 50,000 items */
    hdl_yaml_close(doc);
    free(text);

    len = HDL_YAML_BYTES_MAX + 1;
    text = malloc(len);
    assert_non_null(text);
    memset(text, '#', len);
    assert_err(hdl_yaml_parse("t", text, len, &doc, &why), INVALID);
    assert_has(why.text, "too long");
    text[0] = '[';
    for (size_t i = 1; i + 1 < len; i += 2)
        memcpy(text + i, "a,", 2);
    assert_err(hdl_yaml_parse("t", text, len - 1, &doc, &why), INVALID);
    assert_has(why.text, "too many values");
    free(text);

    static const char bomb[] = "a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n";
    assert_err(hdl_yaml_parse("t", bomb, sizeof bomb - 1, &doc, &why), INVALID);
}

static void test_load(void **state)
{
    (void)state;
    hdl_yaml *doc;
    hdl_errmsg why;
    assert_err(hdl_yaml_load("/nonexistent/heddle.yaml", &doc, &why), NOTFOUND);
    assert_has(why.text, "/nonexistent/heddle.yaml");
    assert_null(doc);
    hdl_yaml_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tree),    cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_empty),   cmocka_unit_test(test_refused),
        cmocka_unit_test(test_hostile), cmocka_unit_test(test_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
