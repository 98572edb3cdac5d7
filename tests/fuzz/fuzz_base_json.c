/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes into the JSON reader. What it takes must survive writing: text -> document -> text
 * -> document -> the same text. The same bytes also go through the string writer, whose output
 * must always parse. */
#include <stdint.h>
#include <string.h>

#include "base/assert.h"
#include "base/json.h"
#include "base/json_write.h"

enum { OUT_BYTES_MAX = 64 << 20 };

static void touch(const hdl_jv *v)
{
    char path[200];
    hdl_errmsg why;
    int64_t n;
    double d;
    bool flag;
    const char *text;
    size_t len;
    hdl_jv_path(v, path, sizeof path);
    if (hdl_jv_int(v, (hdl_jv_range){INT64_MIN, INT64_MAX}, &n, &why) == HDL_OK)
        HDL_ASSERT_EQ(hdl_jv_double(v, &d, &why), HDL_OK);
    if (hdl_jv_bool(v, &flag, &why) != HDL_OK)
        HDL_ASSERT(why.text[0] != '\0');
    if (hdl_jv_string(v, &text, &len, &why) == HDL_OK)
        HDL_ASSERT_EQ(strlen(text), len);
    void *iter = NULL;
    hdl_jv child;
    while (hdl_jv_next(v, &iter, &child))
        touch(&child);
    for (size_t i = 0; hdl_jv_kind(v) == HDL_JSON_ARRAY && i < hdl_jv_len(v); i++) {
        child = hdl_jv_at(v, i);
        touch(&child);
    }
}

static void check_string(const char *text, size_t len)
{
    hdl_buf out;
    hdl_json_writer w;
    hdl_json *doc;
    hdl_errmsg why;
    hdl_buf_init(&out, OUT_BYTES_MAX);
    hdl_jw_init(&w, &out);
    hdl_jw_string(&w, text, len);
    /* U+0000 is the one thing that the writer may write and the reader refuses. */
    if (!memchr(text, '\0', len)) {
        HDL_ASSERT_EQ(hdl_json_parse((const char *)hdl_buf_data(&out), out.len, 0, &doc, &why),
                      HDL_OK);
        hdl_json_close(doc);
    }
    hdl_buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hdl_json *doc, *again;
    hdl_errmsg why;
    check_string((const char *)data, size);
    if (hdl_json_parse((const char *)data, size, 0, &doc, &why) != HDL_OK)
        return 0;
    hdl_buf first, second;
    hdl_buf_init(&first, OUT_BYTES_MAX);
    hdl_buf_init(&second, OUT_BYTES_MAX);
    hdl_jv root = hdl_json_root(doc);
    touch(&root);
    HDL_ASSERT_EQ(hdl_jv_dump(&root, &first), HDL_OK);
    hdl_err err = hdl_json_parse((const char *)hdl_buf_data(&first), first.len, 0, &again, &why);
    HDL_ASSERT_EQ(err, HDL_OK);
    root = hdl_json_root(again);
    HDL_ASSERT_EQ(hdl_jv_dump(&root, &second), HDL_OK);
    HDL_ASSERT_EQ(first.len, second.len);
    HDL_ASSERT(memcmp(hdl_buf_data(&first), hdl_buf_data(&second), first.len) == 0);
    hdl_json_close(doc);
    hdl_json_close(again);
    hdl_buf_deinit(&first);
    hdl_buf_deinit(&second);
    return 0;
}
