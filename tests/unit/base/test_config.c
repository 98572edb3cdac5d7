/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "base/config.h"
#include "base/fs.h"
#include "heddle/types.h"

typedef struct values {
    bool cache;
    int64_t port;
    double share;
    uint64_t kv_bytes;
    uint64_t timeout_us;
    const char *host;
    int weights;
    hdl_cfg_list cpus;
    int64_t deep;
} values;

static const char *const weights[] = {"auto", "bf16", "q8", NULL};

/* clang-format off */
static const hdl_cfg_key keys[] = {
    {.path = "http.host", .type = HDL_CFG_STRING, .offset = offsetof(values, host),
     .def = "127.0.0.1", .doc = "address that the API listens on"},
    {.path = "http.port", .type = HDL_CFG_INT, .offset = offsetof(values, port), .def = "8080",
     .doc = "port of the API", .min = 1, .max = 65535},
    {.path = "http.limits.deep", .type = HDL_CFG_INT, .offset = offsetof(values, deep)},
    {.path = "http.limits.timeout", .type = HDL_CFG_DURATION,
     .offset = offsetof(values, timeout_us), .def = "30s", .min = 1000, .max = 3600e6},
    {.path = "kv.bytes", .type = HDL_CFG_SIZE, .offset = offsetof(values, kv_bytes), .def = "1GiB",
     .min = 1024, .max = 1e15},
    {.path = "kv.prefix_cache", .type = HDL_CFG_BOOL, .offset = offsetof(values, cache),
     .def = "true"},
    {.path = "kv.share", .type = HDL_CFG_FLOAT, .offset = offsetof(values, share), .def = "0.9",
     .min = 0, .max = 1},
    {.path = "weights", .type = HDL_CFG_ENUM, .offset = offsetof(values, weights),
     .choices = weights, .doc = "arithmetic of the weights"},
    {.path = "cpus", .type = HDL_CFG_LIST, .offset = offsetof(values, cpus)},
};
/* clang-format on */

static values v;
static hdl_cfg *cfg;

static int open_cfg(void **state)
{
    (void)state;
    memset(&v, 0xAA, sizeof v);
    hdl_cfg_opts opts = {.keys = keys, .keys_count = HDL_ARRAY_LEN(keys), .values = &v};
    return hdl_cfg_open(&cfg, &opts) == HDL_OK ? 0 : -1;
}

static int close_cfg(void **state)
{
    (void)state;
    hdl_cfg_close(cfg);
    return 0;
}

static void load(const char *text)
{
    hdl_errmsg why = {""};
    if (hdl_cfg_load_text(cfg, "h.yaml", text, &why) != HDL_OK)
        fail_msg("%s", why.text);
}

static void test_defaults(void **state)
{
    (void)state;
    assert_string_equal(v.host, "127.0.0.1");
    assert_int_equal(v.port, 8080);
    assert_int_equal(v.timeout_us, 30000000);
    assert_int_equal(v.kv_bytes, 1 << 30);
    assert_true(v.cache);
    assert_true(v.share == 0.9);
    assert_int_equal(v.weights, 0);
    assert_int_equal(v.cpus.count, 0);
    assert_int_equal(v.deep, 0);
    assert_string_equal(hdl_cfg_origin(cfg, "http.port"), "default");
    assert_null(hdl_cfg_origin(cfg, "http.prot"));
}

static void test_load_and_set(void **state)
{
    (void)state;
    load("http:\n"
         "  host: \"0.0.0.0\"\n"
         "  port: 9000\n"
         "  limits: {timeout: 150ms}\n"
         "kv:\n"
         "  bytes: 4GiB\n"
         "  prefix_cache: false\n"
         "  share: 1\n"
         "weights: q8\n"
         "cpus: [\"0-3\", \"8\"]\n");
    assert_string_equal(v.host, "0.0.0.0");
    assert_int_equal(v.port, 9000);
    assert_int_equal(v.timeout_us, 150000);
    assert_int_equal(v.kv_bytes, 4ull << 30);
    assert_false(v.cache);
    assert_true(v.share == 1);
    assert_int_equal(v.weights, 2);
    assert_int_equal(v.cpus.count, 2);
    assert_string_equal(v.cpus.items[1], "8");
    assert_string_equal(hdl_cfg_origin(cfg, "http.port"), "h.yaml:3:9");

    hdl_errmsg why;
    assert_ok(hdl_cfg_set(cfg, (hdl_cfg_assign){"http.port", "9001", "--port"}, &why));
    assert_int_equal(v.port, 9001);
    assert_string_equal(hdl_cfg_origin(cfg, "http.port"), "--port");
    assert_ok(hdl_cfg_set(cfg, (hdl_cfg_assign){"cpus", "1,2,,3", NULL}, &why));
    assert_int_equal(v.cpus.count, 4);
    assert_string_equal(v.cpus.items[2], "");
    assert_string_equal(v.cpus.items[3], "3");
    assert_ok(hdl_cfg_set(cfg, (hdl_cfg_assign){"cpus", "", NULL}, &why));
    assert_int_equal(v.cpus.count, 0);
    assert_err(hdl_cfg_set(cfg, (hdl_cfg_assign){"http.port", "0", "--port"}, &why), INVALID);
    assert_string_equal(why.text, "--port: must be 1 to 65535; it is 0");
    assert_int_equal(v.port, 9001); /* a bad value changes nothing */
    assert_err(hdl_cfg_set(cfg, (hdl_cfg_assign){"http.prot", "1", "--set"}, &why), INVALID);
    assert_string_equal(why.text, "--set: unknown key \"http.prot\"; did you mean \"http.port\"?");
    /* Dotted keys and an empty section are fine. */
    load("http.port: 1\nkv:\n");
    assert_int_equal(v.port, 1);
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"http:\n  prot: 1\n",
         "h.yaml:2:3: unknown key \"http.prot\"; did you mean \"http.port\"?"},
        {"htpp:\n  port: 1\n", "h.yaml:1:1: unknown key \"htpp\"; did you mean \"http\"?"},
        {"port: 1\n", "h.yaml:1:1: unknown key \"port\"; did you mean \"http.port\"?"},
        {"zebra: 1\n", "unknown key \"zebra\"; `heddle config` lists all keys"},
        {"http:\n  port: 0\n", "h.yaml:2:9: http.port: must be 1 to 65535; it is 0"},
        {"http:\n  port: 70000\n", "must be 1 to 65535"},
        {"http:\n  port: \"80\"\n", "h.yaml:2:9: http.port must be of type int; it is a string"},
        {"http:\n  port: 1.5\n", "must be of type int; it is a number"},
        {"http:\n  port: [1]\n", "must be of type int; it is a list"},
        {"http:\n  port:\n", "http.port has no value"},
        {"http:\n  host: 7\n", "http.host must be of type string; it is an integer; quote it"},
        {"http: 5\n", "h.yaml:1:7: http is a section"},
        {"http.port: 1\nhttp:\n  port: 2\n", "h.yaml:3:9: http.port is given twice"},
        {"kv:\n  prefix_cache: yes\n", "must be of type bool; it is a string"},
        {"kv:\n  bytes: 12 apples\n", "must be a size such as 512MiB or 4GiB; it is \"12 apples\""},
        {"kv:\n  bytes: 1\n", "must be 1KiB to "},
        {"http:\n  limits:\n    timeout: 5\n", "must be a duration such as 150ms"},
        {"http:\n  limits:\n    timeout: 2h\n", "must be 1ms to 3600s; it is 2h"},
        {"weights: q9\n", "must be one of auto, bf16, q8; it is \"q9\"; did you mean \"q8\"?"},
        {"cpus: 1\n", "cpus must be a list of strings; it is an integer"},
        {"cpus: [1]\n", "h.yaml:1:8: cpus must hold strings; this is an integer; quote it"},
        {"- 1\n", "a configuration is a mapping; it is a list"},
        {"a: 1\na: 2\n", "duplicate key"},
        {"http:\n  port: {x: 1}\n", "must be of type int; it is a mapping"},
    };
    for (size_t i = 0; i < HDL_ARRAY_LEN(cases); i++) {
        hdl_errmsg why = {""};
        if (hdl_cfg_load_text(cfg, "h.yaml", cases[i].text, &why) == HDL_OK)
            fail_msg("taken: %s", cases[i].text);
        assert_has(why.text, cases[i].message);
    }
}

/* What is printed loads back to the same values. */
static void test_print(void **state)
{
    (void)state;
    load("http: {host: \"a \\\"b\\\": #c\", port: 77, limits: {timeout: 1500us, deep: -4}}\n"
         "kv: {bytes: 1536KiB, share: 0.123456789012345}\n"
         "weights: bf16\ncpus: [\"x y\", \"\"]\n");
    values before = v;
    hdl_buf dump, docs;
    hdl_buf_init(&dump, 1 << 16);
    hdl_buf_init(&docs, 1 << 16);
    assert_ok(hdl_cfg_dump(cfg, &dump));
    assert_ok(hdl_cfg_print_docs(cfg, &docs));
    assert_has(hdl_buf_cstr(&docs), "  # port of the API (int, 1 to 65535)\n  port: 77\n");
    assert_has(hdl_buf_cstr(&docs), "# arithmetic of the weights (auto | bf16 | q8)\n");
    assert_has(hdl_buf_cstr(&dump), "    timeout: 1500us  # h.yaml:1:");
    for (int i = 0; i < 2; i++) {
        close_cfg(NULL);
        open_cfg(NULL);
        load(hdl_buf_cstr(i == 0 ? &dump : &docs));
        assert_string_equal(v.host, "a \"b\": #c");
        assert_int_equal(v.port, before.port);
        assert_int_equal(v.timeout_us, before.timeout_us);
        assert_int_equal(v.deep, -4);
        assert_int_equal(v.kv_bytes, before.kv_bytes);
        assert_true(v.share == before.share);
        assert_int_equal(v.weights, 1);
        assert_int_equal(v.cpus.count, 2);
        assert_string_equal(v.cpus.items[0], "x y");
    }
    hdl_buf_deinit(&dump);
    hdl_buf_deinit(&docs);
}

/* Characters that YAML does not read as they are, or takes for line breaks. */
static void test_print_awkward(void **state)
{
    static const char text[] = "\xc2\x87 \xc2\x85 \xe2\x80\xa8 \xe2\x80\xa9 \xef\xbb\xbf "
                               "\xef\xbf\xbe \x7f \x01\n\t\\ \"\xf0\x9f\x8e\xb2\xc3\xa9\"";
    (void)state;
    load("http: {host: \"\\x87 \\N \\L \\P \\uFEFF \\uFFFE \\x7f \\x01\\n\\t\\\\ "
         "\\\"\\U0001F3B2\\xe9\\\"\"}\ncpus: [\"\\x87\\L\"]\n");
    assert_string_equal(v.host, text);
    hdl_buf docs;
    hdl_buf_init(&docs, 1 << 16);
    assert_ok(hdl_cfg_print_docs(cfg, &docs));
    close_cfg(NULL);
    open_cfg(NULL);
    load(hdl_buf_cstr(&docs));
    assert_string_equal(v.host, text);
    assert_string_equal(v.cpus.items[0], "\xc2\x87\xe2\x80\xa8");
    hdl_buf_deinit(&docs);
}

static void test_file(void **state)
{
    (void)state;
    char dir[64], path[96];
    hdl_errmsg why;
    assert_ok(hdl_fs_mkdtemp(dir, sizeof dir, "heddle-config-", &why));
    assert_ok(hdl_fs_join(path, sizeof path, dir, "heddle.yaml"));
    assert_err(hdl_cfg_load_file(cfg, path, &why), NOTFOUND);
    static const char text[] = "http:\n  port: x\n";
    assert_ok(hdl_fs_write_atomic(path, (hdl_fs_bytes){text, sizeof text - 1}, &why));
    assert_err(hdl_cfg_load_file(cfg, path, &why), INVALID);
    assert_has(why.text, path);
    assert_has(why.text, ":2:9: http.port must be of type int; it is a string");
    assert_ok(hdl_fs_remove_tree(dir));
}

static void bad_default(void)
{
    static const hdl_cfg_key bad[] = {
        {.path = "a", .type = HDL_CFG_INT, .def = "9", .min = 1, .max = 5}};
    hdl_cfg *out;
    hdl_cfg_opts opts = {.keys = bad, .keys_count = 1, .values = &v};
    (void)!hdl_cfg_open(&out, &opts);
}

static void split_section(void)
{
    static const hdl_cfg_key bad[] = {{.path = "a.x", .type = HDL_CFG_INT},
                                      {.path = "b", .type = HDL_CFG_INT},
                                      {.path = "a.y", .type = HDL_CFG_INT}};
    hdl_cfg *out;
    hdl_cfg_opts opts = {.keys = bad, .keys_count = 3, .values = &v};
    (void)!hdl_cfg_open(&out, &opts);
}

static void test_bad_tables(void **state)
{
    (void)state;
    static char report[2048];
    must_abort(bad_default, report, sizeof report);
    must_abort(split_section, report, sizeof report);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_defaults, open_cfg, close_cfg),
        cmocka_unit_test_setup_teardown(test_load_and_set, open_cfg, close_cfg),
        cmocka_unit_test_setup_teardown(test_refused, open_cfg, close_cfg),
        cmocka_unit_test_setup_teardown(test_print, open_cfg, close_cfg),
        cmocka_unit_test_setup_teardown(test_print_awkward, open_cfg, close_cfg),
        cmocka_unit_test_setup_teardown(test_file, open_cfg, close_cfg),
        cmocka_unit_test(test_bad_tables),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
