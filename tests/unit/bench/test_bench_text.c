/* SPDX-License-Identifier: Apache-2.0 */
/* What `heddle bench text` measures with, and that its rows say what was encoded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "bench/text/bench_text.h"
#include "bench/text/corpus.h"
#include "scheduler/text/utf8.h"

#define assert_ok(call) assert_string_equal(hdl_err_name(call), "OK")

static void texts_are_utf8_and_come_again(void **state)
{
    (void)state;
    for (int kind = 0; kind < HDL_CORPUS_COUNT; kind++) {
        hdl_buf a, b, other;
        hdl_buf_init(&a, 1 << 20);
        hdl_buf_init(&b, 1 << 20);
        hdl_buf_init(&other, 1 << 20);
        assert_ok(hdl_corpus_write((hdl_corpus_kind)kind, 7, 20000, &a));
        assert_ok(hdl_corpus_write((hdl_corpus_kind)kind, 7, 20000, &b));
        assert_ok(hdl_corpus_write((hdl_corpus_kind)kind, 8, 20000, &other));
        assert_true(a.len >= 20000 && a.len < 21000);
        assert_int_equal(hdl_utf8_valid_prefix((const char *)hdl_buf_data(&a), a.len), a.len);
        assert_int_equal(a.len, b.len);
        assert_memory_equal(hdl_buf_data(&a), hdl_buf_data(&b), a.len);
        assert_true(memcmp(hdl_buf_data(&a), hdl_buf_data(&other), 1000) != 0);
        hdl_buf_deinit(&a);
        hdl_buf_deinit(&b);
        hdl_buf_deinit(&other);
    }
}

static void rows_say_what_was_encoded(void **state)
{
    static const char *const models[] = {HDL_SOURCE_DIR "/tests/golden/text/llama.gguf",
                                         HDL_SOURCE_DIR "/tests/golden/text/mistral"};
    char *json = NULL;
    size_t len = 0;
    hdl_json *doc;
    hdl_errmsg why = {""};
    (void)state;
    FILE *out = open_memstream(&json, &len);
    hdl_bench_text_opts opts = {
        .models = models, .n_models = 2, .samples = 1, .json = true, .out = out};
    assert_int_equal(hdl_bench_text(&opts), 0);
    fclose(out);
    if (hdl_json_parse(json, len, 0, &doc, &why) != HDL_OK)
        fail_msg("%s", why.text);
    hdl_jv root = hdl_json_root(doc), rows = hdl_jv_get(&root, "rows");
    assert_int_equal(hdl_jv_len(&rows), 4);
    for (size_t i = 0; i < 4; i++) {
        const hdl_jv_range any = {0, INT64_MAX};
        hdl_jv row = hdl_jv_at(&rows, i), v = hdl_jv_get(&row, "bytes");
        int64_t bytes, tokens;
        assert_ok(hdl_jv_int(&v, any, &bytes, NULL));
        v = hdl_jv_get(&row, "tokens");
        assert_ok(hdl_jv_int(&v, any, &tokens, NULL));
        assert_true(bytes >= 100000 && tokens > bytes / 20 && tokens <= bytes + 1);
    }
    hdl_json_close(doc);
    free(json);
    opts.models = (const char *const[]){"/nowhere"};
    opts.n_models = 1;
    opts.out = out = fopen("/dev/null", "w");
    assert_int_equal(hdl_bench_text(&opts), 1);
    fclose(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_utf8_and_come_again),
        cmocka_unit_test(rows_say_what_was_encoded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
