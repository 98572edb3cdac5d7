/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "base/args.h"
#include "heddle/types.h"

/* clang-format off */
static const hdl_arg_opt opts[] = {
    {.name = "tp", .value = "N", .doc = "tensor parallel ranks", .group = "Parallel",
     .aliases = "tensor-parallel-size,tp-size"},
    {.name = "port", .letter = 'p', .value = "PORT", .doc = "port of the API",
     .config = "http.port"},
    {.name = "json", .doc = "one JSON document on stdout"},
    {.name = "kv-bytes", .value = "SIZE", .doc = "KV cache of a worker"},
    {.name = "temperature", .letter = 't', .value = "T", .doc = "sampling temperature"},
    {.name = "gpu-memory-utilization", .value = "F", .refuse = "use --kv-bytes SIZE"},
    {.name = "set", .value = "KEY=VALUE", .doc = "one setting", .repeat = true},
    {.name = "cache", .doc = "share prefixes", .config = "cache"},
};
/* clang-format on */
static const hdl_args_spec spec = {
    .command = "heddle serve",
    .usage = "MODEL [options]",
    .about = "Serves a model on this machine: a scheduler and its workers.",
    .opts = opts,
    .opts_count = HDL_ARRAY_LEN(opts),
    .positionals_min = 1,
    .positionals_max = 2,
    .examples = "heddle serve ./model --tp 2\ttwo workers\nheddle serve ./model",
};

static hdl_args args;
static hdl_errmsg why;

#define PARSE(...) hdl_args_parse(&args, &spec, (char *const[]){"serve", __VA_ARGS__, NULL}, &why)

static void test_forms(void **state)
{
    (void)state;
    assert_ok(PARSE("m", "--tp", "2", "-p9000", "--json", "--temperature", "-1", "-"));
    assert_int_equal(args.positionals_count, 2);
    assert_string_equal(args.positionals[0], "m");
    assert_string_equal(args.positionals[1], "-");
    assert_string_equal(hdl_args_str(&args, "tp", "1"), "2");
    assert_string_equal(hdl_args_str(&args, "port", ""), "9000");
    assert_true(hdl_args_has(&args, "json"));
    assert_false(hdl_args_has(&args, "kv-bytes"));
    assert_string_equal(hdl_args_str(&args, "kv-bytes", "auto"), "auto");

    assert_ok(PARSE("--tensor-parallel-size=4", "-p", "1", "--", "--json", "-x"));
    assert_string_equal(hdl_args_str(&args, "tp", ""), "4");
    assert_string_equal(args.positionals[0], "--json");
    assert_string_equal(args.positionals[1], "-x");
    assert_false(hdl_args_has(&args, "json"));

    assert_ok(PARSE("-5", "--kv-bytes=")); /* a number; an empty value is a value */
    assert_string_equal(hdl_args_str(&args, "kv-bytes", NULL), "");
    assert_ok(PARSE("m", "--tp", "2", "--tp-size", "2")); /* twice the same is the same */
}

static void test_typed(void **state)
{
    (void)state;
    int64_t n = 7;
    double t = 0.5;
    uint64_t bytes = 3;
    assert_ok(PARSE("m"));
    assert_ok(hdl_args_int(&args, (hdl_args_int_opt){"tp", 1, 64}, &n, &why));
    assert_ok(hdl_args_size(&args, "kv-bytes", &bytes, &why));
    assert_int_equal(n, 7);
    assert_int_equal(bytes, 3);
    assert_ok(PARSE("m", "--tp", "8", "--kv-bytes", "2MiB", "-t", "0.25"));
    assert_ok(hdl_args_int(&args, (hdl_args_int_opt){"tp", 1, 64}, &n, &why));
    assert_ok(hdl_args_size(&args, "kv-bytes", &bytes, &why));
    assert_ok(hdl_args_float(&args, "temperature", &t, &why));
    assert_int_equal(n, 8);
    assert_int_equal(bytes, 2 << 20);
    assert_true(t == 0.25);
    assert_err(hdl_args_int(&args, (hdl_args_int_opt){"tp", 1, 4}, &n, &why), INVALID);
    assert_string_equal(why.text, "--tp must be 1 to 4; it is 8");
    assert_ok(PARSE("m", "--tp", "two", "--kv-bytes", "2 apples", "-t", "hot"));
    assert_err(hdl_args_int(&args, (hdl_args_int_opt){"tp", 1, 4}, &n, &why), INVALID);
    assert_string_equal(why.text, "--tp must be an integer; it is \"two\"");
    assert_err(hdl_args_size(&args, "kv-bytes", &bytes, &why), INVALID);
    assert_err(hdl_args_float(&args, "temperature", &t, &why), INVALID);
}

static void test_repeat(void **state)
{
    (void)state;
    assert_ok(PARSE("m", "--set", "a=1", "--tp", "2", "--set=b=2", "--set", "a=3"));
    static const char *const want[] = {"a=1", "b=2", "a=3"};
    size_t at = 0;
    for (int i = 0; i < 3; i++)
        assert_string_equal(hdl_args_next(&args, "set", &at), want[i]);
    assert_null(hdl_args_next(&args, "set", &at));
    assert_true(hdl_args_has(&args, "set"));
    static char model[] = "m", set[] = "--set", pair[] = "x=1";
    static char *many[2 * HDL_ARGS_REPEATS_MAX + 5] = {model, model};
    for (size_t i = 2; i + 1 < HDL_ARRAY_LEN(many); i += 2) {
        many[i] = set;
        many[i + 1] = pair;
    }
    many[HDL_ARRAY_LEN(many) - 1] = NULL;
    assert_err(hdl_args_parse(&args, &spec, many, &why), INVALID);
    assert_has(why.text, "at most 64 times");
}

static void test_refused(void **state)
{
    (void)state;
    assert_err(PARSE("m", "--prot", "1"), INVALID);
    assert_string_equal(why.text, "unknown option --prot; did you mean --port?");
    assert_err(PARSE("m", "--tensor-paralel-size=2"), INVALID);
    assert_string_equal(why.text, "unknown option --tensor-paralel-size; did you mean "
                                  "--tensor-parallel-size?");
    assert_err(PARSE("m", "--zebra"), INVALID);
    assert_has(why.text, "`heddle serve --help` lists");
    assert_err(PARSE("m", "-z"), INVALID);
    assert_err(PARSE("m", "--tp"), INVALID);
    assert_string_equal(why.text, "--tp needs a value; write --tp N");
    assert_err(PARSE("m", "--tp", "--json"), INVALID);
    assert_err(PARSE("m", "--json=yes"), INVALID);
    assert_has(why.text, "--json takes no value");
    assert_err(PARSE("m", "--tp", "2", "--tp", "4"), INVALID);
    assert_has(why.text, "given twice");
    assert_err(PARSE("a", "b", "c"), INVALID);
    assert_has(why.text, "unexpected argument \"c\"; usage: heddle serve MODEL [options]");
    assert_err(PARSE("--json"), INVALID);
    assert_has(why.text, "missing argument");
    assert_err(PARSE("m", "--gpu-memory-utilization", "0.9"), INVALID);
    assert_has(why.text, "use --kv-bytes SIZE");
    assert_err(PARSE("m", "--gpu-memory-utilization=0.9"), INVALID);
}

static void test_help(void **state)
{
    (void)state;
    assert_ok(PARSE("--zebra", "--help"));
    assert_true(args.help);
    assert_ok(PARSE("-h"));
    assert_true(args.help);
    hdl_buf out;
    hdl_buf_init(&out, 1 << 16);
    assert_ok(hdl_args_help(&spec, &out));
    const char *text = hdl_buf_cstr(&out);
    assert_has(text, "usage: heddle serve MODEL [options]\n");
    assert_has(text, "\nParallel:\n");
    assert_has(text, "  -p, --port PORT");
    assert_has(text, "      --tp N");
    assert_has(text, "Examples:\n  heddle serve ./model --tp 2\n      two workers\n");
    assert_null(strstr(text, "gpu-memory"));
    for (const char *line = text; *line; line += strcspn(line, "\n") + 1)
        assert_true(strcspn(line, "\n") <= 100);
    hdl_buf_deinit(&out);
}

static void test_apply(void **state)
{
    (void)state;
    static struct {
        int64_t port;
        bool cache;
    } v;
    static const hdl_cfg_key keys[] = {
        {.path = "http.port", .type = HDL_CFG_INT, .min = 0, .max = 65535, .def = "8080"},
        {.path = "cache", .type = HDL_CFG_BOOL, .offset = sizeof(int64_t)},
    };
    hdl_cfg *cfg;
    hdl_cfg_opts cfg_opts = {.keys = keys, .keys_count = 2, .values = &v};
    assert_ok(hdl_cfg_open(&cfg, &cfg_opts));
    assert_ok(PARSE("m", "--port", "9000", "--cache"));
    assert_ok(hdl_args_apply(&args, cfg, &why));
    assert_int_equal(v.port, 9000);
    assert_true(v.cache);
    assert_string_equal(hdl_cfg_origin(cfg, "http.port"), "--port");
    assert_ok(PARSE("m", "--port", "900000"));
    assert_err(hdl_args_apply(&args, cfg, &why), INVALID);
    assert_string_equal(why.text, "--port: must be 0 to 65535; it is 900000");
    hdl_cfg_close(cfg);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),  cmocka_unit_test(test_typed), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_repeat), cmocka_unit_test(test_help),  cmocka_unit_test(test_apply),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
