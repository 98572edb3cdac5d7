/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of scheduler/text share: cmocka, files of tests/golden/text, encoding in one line.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/json.h"
#include "scheduler/text/tokenizer.h"

#define assert_ok(call)        assert_string_equal(hdl_err_name(call), "OK")
#define assert_err(call, code) assert_string_equal(hdl_err_name(call), #code)
#define assert_has(text, part)                                                                     \
    do {                                                                                           \
        if (strstr((text), (part)) == NULL)                                                        \
            fail_msg("\"%s\" does not hold \"%s\"", (text), (part));                               \
    } while (0)

/* A file of the source tree; the caller frees it. */
static inline char *read_source(const char *name, size_t *len)
{
    char path[1024], *text = NULL;
    hdl_errmsg why = {""};
    snprintf(path, sizeof path, "%s/%s", HDL_SOURCE_DIR, name);
    if (hdl_fs_read(path, (size_t)64 << 20, &text, len, &why) != HDL_OK)
        fail_msg("%s", why.text);
    return text;
}

static inline hdl_json *read_source_json(const char *name)
{
    size_t len;
    hdl_json *doc = NULL;
    hdl_errmsg why = {""};
    char *text = read_source(name, &len);
    if (hdl_json_parse(text, len, (size_t)64 << 20, &doc, &why) != HDL_OK)
        fail_msg("%s: %s", name, why.text);
    free(text);
    return doc;
}

static inline hdl_tokenizer *open_golden(const char *name)
{
    char path[256];
    size_t len;
    hdl_tokenizer *tok = NULL;
    hdl_errmsg why = {""};
    snprintf(path, sizeof path, "tests/golden/text/%s.json", name);
    char *text = read_source(path, &len);
    if (hdl_tokenizer_open_json(&tok, text, len, &why) != HDL_OK)
        fail_msg("%s: %s", name, why.text);
    free(text);
    return tok;
}
