/* SPDX-License-Identifier: Apache-2.0 */
/* Tool definitions of a chat, as far as every template relies on their shape. */
#include <string.h>

#include "scheduler/front/api.h"

static bool fail_typed(const hdl_jv *v, hdl_api_error *err)
{
    err->status = 400;
    hdl_jv_path(v, err->param, sizeof err->param);
    return false;
}

static bool read_string(const hdl_jv *v, const char **text, hdl_api_error *err)
{
    return hdl_jv_string(v, text, NULL, &err->message) == HDL_OK || fail_typed(v, err);
}

static bool expect(const hdl_jv *v, hdl_json_kind kind, hdl_api_error *err)
{
    return hdl_jv_expect(v, kind, &err->message) == HDL_OK || fail_typed(v, err);
}

static bool check_tool(const hdl_jv *tool, hdl_api_error *err)
{
    hdl_jv type = hdl_jv_get(tool, "type"), function = hdl_jv_get(tool, "function");
    hdl_jv name = hdl_jv_get(&function, "name"), about = hdl_jv_get(&function, "description");
    hdl_jv parameters = hdl_jv_get(&function, "parameters");
    const char *text;
    if (!expect(tool, HDL_JSON_OBJECT, err) || !read_string(&type, &text, err))
        return false;
    if (strcmp(text, "function") != 0)
        return hdl_api_fail_at(err, &type, "must be \"function\"; others are not served");
    if (!expect(&function, HDL_JSON_OBJECT, err) || !read_string(&name, &text, err))
        return false;
    if (*text == '\0')
        return hdl_api_fail_at(err, &name, "must not be empty");
    if (hdl_jv_given(&about) && !read_string(&about, &text, err))
        return false;
    return !hdl_jv_given(&parameters) || expect(&parameters, HDL_JSON_OBJECT, err);
}

bool hdl_api_check_tools(const hdl_jv *tools, hdl_api_error *err)
{
    if (!expect(tools, HDL_JSON_ARRAY, err))
        return false;
    for (size_t i = 0; i < hdl_jv_len(tools); i++) {
        hdl_jv tool = hdl_jv_at(tools, i);
        if (!check_tool(&tool, err))
            return false;
    }
    return true;
}
