/* SPDX-License-Identifier: Apache-2.0 */
/* Every body of tests/integration/api/malformed.json is refused with the status and the field that
 * its row names, and the same connection goes on. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/json_write.h"
#include "rig.h"
#include "unit.h"

#define TABLE HDL_SOURCE_DIR "/tests/integration/api/malformed.json"
#define GOOD  "{\"model\":\"fake\",\"prompt\":\"hi\",\"max_tokens\":1}"

static const char *text_of(const hdl_jv *row, const char *key)
{
    hdl_jv v = hdl_jv_get(row, key);
    const char *text = NULL;
    if (hdl_jv_given(&v))
        assert_int_equal(hdl_jv_string(&v, &text, NULL, NULL), HDL_OK);
    return text;
}

static int64_t int_of(const hdl_jv *obj, const char *key, int64_t def)
{
    hdl_jv v = hdl_jv_get(obj, key);
    if (hdl_jv_given(&v))
        assert_int_equal(hdl_jv_int(&v, (hdl_jv_range){0, INT32_MAX}, &def, NULL), HDL_OK);
    return def;
}

static void replace(hdl_buf *text, const char *what, const char *with)
{
    hdl_buf out;
    hdl_buf_init(&out, 1 << 22);
    const char *all = hdl_buf_cstr(text), *at;
    while ((at = strstr(all, what))) {
        hdl_buf_append(&out, all, (size_t)(at - all));
        hdl_buf_puts(&out, with);
        all = at + strlen(what);
    }
    hdl_buf_puts(&out, all);
    assert_true(hdl_buf_ok(&out));
    hdl_buf_deinit(text);
    *text = out;
}

static void body_of(const hdl_jv *row, hdl_buf *body)
{
    hdl_jv json = hdl_jv_get(row, "body");
    const char *raw = text_of(row, "raw");
    if (raw)
        hdl_buf_puts(body, raw);
    else
        assert_int_equal(hdl_jv_dump(&json, body), HDL_OK);
    replace(body, "\"MODEL\"", "\"fake\"");
    hdl_jv repeat = hdl_jv_get(row, "repeat");
    if (hdl_jv_given(&repeat)) {
        hdl_buf long_text;
        hdl_buf_init(&long_text, 1 << 22);
        for (int64_t i = 0; i < int_of(&repeat, "times", 0); i++)
            hdl_buf_puts(&long_text, text_of(&repeat, "text"));
        replace(body, "REPEAT", hdl_buf_cstr(&long_text));
        hdl_buf_deinit(&long_text);
    }
}

static void post(client *c, const char *path, hdl_buf *body, answer *a)
{
    char head[256];
    (void)snprintf(head, sizeof head,
                   "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                   "Content-Length: %zu\r\n\r\n",
                   path, body->len);
    client_puts(c, head);
    client_send(c, (const char *)hdl_buf_data(body), body->len);
    client_answer(c, a);
}

static void check_row(client *c, const hdl_jv *row)
{
    const char *name = text_of(row, "name"), *param = text_of(row, "param");
    hdl_buf body, good;
    answer a;
    hdl_json *doc;
    hdl_buf_init(&body, 1 << 22);
    body_of(row, &body);
    post(c, text_of(row, "path"), &body, &a);
    if (a.status != int_of(row, "status", 400))
        fail_msg("%s: status %d: %.*s", name, a.status, (int)a.body.len, hdl_buf_data(&a.body));
    assert_int_equal(hdl_json_parse((const char *)hdl_buf_data(&a.body), a.body.len, 0, &doc, NULL),
                     HDL_OK);
    hdl_jv root = hdl_json_root(doc), error = hdl_jv_get(&root, "error");
    const char *said = text_of(&error, "param");
    if ((said == NULL) != (param == NULL) || (said && strcmp(said, param) != 0))
        fail_msg("%s: param %s instead of %s: %s", name, said ? said : "null",
                 param ? param : "null", text_of(&error, "message"));
    assert_true(strlen(text_of(&error, "message")) > 10);
    assert_non_null(text_of(&error, "type"));
    hdl_json_close(doc);
    hdl_buf_deinit(&body);
    answer_free(&a);

    hdl_buf_init(&good, 1024);
    hdl_buf_puts(&good, GOOD);
    post(c, "/v1/completions", &good, &a);
    if (a.status != 200)
        fail_msg("%s: the next request gets %d", name, a.status);
    answer_free(&a);
    hdl_buf_deinit(&good);
}

static void test_table(void **state)
{
    (void)state;
    rig r;
    client c;
    char *text;
    size_t len;
    hdl_json *doc;
    hdl_errmsg why = {0};
    assert_int_equal(hdl_fs_read(TABLE, 1 << 22, &text, &len, &why), HDL_OK);
    if (hdl_json_parse(text, len, 0, &doc, &why) != HDL_OK)
        fail_msg("%s: %s", TABLE, why.text);
    rig_open(&r, NULL);
    client_open(&c, &r);
    hdl_jv rows = hdl_json_root(doc);
    assert_true(hdl_jv_len(&rows) >= 60);
    for (size_t i = 0; i < hdl_jv_len(&rows); i++) {
        hdl_jv row = hdl_jv_at(&rows, i);
        check_row(&c, &row);
    }
    client_close(&c);
    assert_int_equal(fake_engine_state(r.engine).submitted, hdl_jv_len(&rows));
    rig_close(&r);
    hdl_json_close(doc);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_table)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
