/* SPDX-License-Identifier: Apache-2.0 */
/* Configurations of the goldens, whole and with one thing changed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "goldens.h"
#include "rig.h"

hdl_err rig_golden_desc(hdl_model_desc *out, rig_edit edit, hdl_errmsg *why)
{
    char path[512];
    size_t len = 0;
    snprintf(path, sizeof(path), RIG_GOLDENS "%s.json", edit.name);
    char *file = rig_read(path, &len);
    const char *from = edit.from ? edit.from : "", *to = edit.from ? edit.to : "";
    const char *at = strstr(file, from);
    size_t bytes = len + strlen(to) + 1;
    char *text = malloc(bytes);
    assert_non_null(text);
    assert_non_null(at);
    snprintf(text, bytes, "%.*s%s%s", (int)(at - file), file, to, at + strlen(from));
    *why = (hdl_errmsg){0};
    hdl_err err = hdl_model_desc_parse(out, text, strlen(text), why);
    free(file);
    free(text);
    return err;
}

void rig_golden_load(hdl_model_desc *out, const char *name)
{
    hdl_errmsg why;
    if (rig_golden_desc(out, (rig_edit){.name = name}, &why) != HDL_OK)
        fail_msg("%s: %s", name, why.text);
}
