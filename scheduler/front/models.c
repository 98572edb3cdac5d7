/* SPDX-License-Identifier: Apache-2.0 */
/* GET /v1/models and /v1/models/{id}. */
#include <string.h>

#include "base/json_write.h"
#include "scheduler/front/conn.h"
#include "scheduler/front/prepare.h"
#include "scheduler/front/reply.h"
#include "scheduler/front/route.h"

enum { BODY_BYTES_MAX = 65536, NAME_BYTES_MAX = 1024 };

static void write_model(hdl_json_writer *w, const hdl_front_model *model, const char *name)
{
    hdl_engine_info info = {0};
    model->engine->info(model->engine->self, &info);
    hdl_jw_begin_object(w);
    hdl_jw_kv_cstr(w, "id", name);
    hdl_jw_kv_cstr(w, "object", "model");
    hdl_jw_kv_int(w, "created", 0); /* the checkpoint does not say */
    hdl_jw_kv_cstr(w, "owned_by", "heddle");
    hdl_jw_kv_cstr(w, "root", model->name);
    if (info.max_len != 0) /* before the workers have said what fits nobody knows it */
        hdl_jw_kv_uint(w, "max_model_len", info.max_len);
    hdl_jw_end_object(w);
}

static bool no_model(hdl_conn *conn, const hdl_front_model *model)
{
    hdl_api_error err;
    if (model)
        return false;
    (void)hdl_api_fail(&err, 503, NULL, "the model is not ready: starting");
    err.retry_after_ms = 1000;
    hdl_reply_error(conn, &err);
    return true;
}

void hdl_models_list(hdl_conn *conn)
{
    const hdl_front_model *model = hdl_front_model_of(conn);
    hdl_json_writer w;
    hdl_buf body;
    if (no_model(conn, model))
        return;
    hdl_buf_init(&body, BODY_BYTES_MAX);
    hdl_jw_init(&w, &body);
    hdl_jw_begin_object(&w);
    hdl_jw_kv_cstr(&w, "object", "list");
    hdl_jw_key(&w, "data");
    hdl_jw_begin_array(&w);
    write_model(&w, model, model->name);
    for (uint32_t i = 0; i < model->n_aliases; i++)
        write_model(&w, model, model->aliases[i]);
    hdl_jw_end_array(&w);
    hdl_jw_end_object(&w);
    hdl_reply_json(conn, &body);
    hdl_buf_deinit(&body);
}

static int hex(char c)
{
    const char *digits = "0123456789abcdef", *at = c ? strchr(digits, c | 0x20) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* Names may hold slashes, which clients percent-encode. False: it does not fit or is no encoding.
 */
static bool decode_name(hdl_http_text text, char out[NAME_BYTES_MAX])
{
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.at[i];
        if (c == '%') {
            if (text.len - i < 3 || hex(text.at[i + 1]) < 0 || hex(text.at[i + 2]) < 0)
                return false;
            c = (char)(hex(text.at[i + 1]) * 16 + hex(text.at[i + 2]));
            i += 2;
        }
        if (c == 0 || n + 1 >= NAME_BYTES_MAX)
            return false;
        out[n++] = c;
    }
    out[n] = 0;
    return true;
}

void hdl_models_get(hdl_conn *conn)
{
    const hdl_front_model *model = hdl_front_model_of(conn);
    char name[NAME_BYTES_MAX];
    hdl_http_text path = conn->http.req.path;
    size_t skip = strlen(conn->route->path);
    hdl_api_error err;
    if (no_model(conn, model))
        return;
    if (!decode_name((hdl_http_text){path.at + skip, path.len - skip}, name)) {
        (void)hdl_api_fail(&err, 400, "model", "the model's name in the path is not readable");
        hdl_reply_error(conn, &err);
        return;
    }
    if (!hdl_prep_check_model(model, name, &err)) {
        hdl_reply_error(conn, &err);
        return;
    }
    hdl_json_writer w;
    hdl_buf body;
    hdl_buf_init(&body, BODY_BYTES_MAX);
    hdl_jw_init(&w, &body);
    write_model(&w, model, name);
    hdl_reply_json(conn, &body);
    hdl_buf_deinit(&body);
}
