/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/front/route.h"

#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/metrics.h"
#include "base/units.h"
#include "scheduler/front/conn.h"
#include "scheduler/front/reply.h"

enum { MATCH_EXACT = 0, MATCH_PREFIX = 1 };

static const hdl_route routes[] = {
#define ROW(path_, match_, method_, auth_, handler_)                                               \
    {.path = (path_),                                                                              \
     .prefix = MATCH_##match_,                                                                     \
     .methods = (uint32_t)HDL_HTTP_##method_ |                                                     \
                (HDL_HTTP_##method_ == HDL_HTTP_GET ? (uint32_t)HDL_HTTP_HEAD : 0u),               \
     .auth = HDL_AUTH_##auth_,                                                                     \
     .handler = (handler_)},
    HDL_ROUTE_LIST(ROW)
#undef ROW
};

const hdl_route *hdl_routes(uint32_t *n)
{
    *n = (uint32_t)HDL_ARRAY_LEN(routes);
    return routes;
}

static const hdl_route *find_route(hdl_http_text path)
{
    for (size_t i = 0; i < HDL_ARRAY_LEN(routes); i++) {
        size_t len = strlen(routes[i].path);
        if (path.len >= len && memcmp(path.at, routes[i].path, len) == 0 &&
            (path.len == len) != routes[i].prefix)
            return &routes[i];
    }
    return NULL;
}

/* Answers before the body has come end the connection: what follows would be read as a request. */
static bool answer_early(hdl_conn *conn, const hdl_api_error *err, const char *headers)
{
    if (conn->http.state != HDL_HTTP_ST_DONE)
        conn->keep_alive = false;
    if (!err) {
        hdl_reply_send(conn, &(hdl_reply){.status = 204, .headers = headers});
    } else if (headers) {
        hdl_buf body;
        hdl_buf_init(&body, 8192);
        hdl_api_error_write(err, &body);
        hdl_reply_send(conn, &(hdl_reply){.status = err->status,
                                          .headers = headers,
                                          .body = hdl_buf_data(&body),
                                          .len = body.len});
        hdl_buf_deinit(&body);
    } else {
        hdl_reply_error(conn, err);
    }
    return false;
}

static bool refuse_path(hdl_conn *conn)
{
    hdl_api_error err;
    hdl_http_text path = conn->http.req.path;
    const char *known[HDL_ARRAY_LEN(routes)];
    char asked[128];
    (void)snprintf(asked, sizeof asked, "%.*s", (int)hdl_min_size(path.len, 100), path.at);
    for (size_t i = 0; i < HDL_ARRAY_LEN(routes); i++)
        known[i] = routes[i].path;
    int near = hdl_suggest(asked, known, HDL_ARRAY_LEN(routes));
    (void)hdl_api_fail(&err, 404, NULL, "there is nothing at %s%s%s%s", asked,
                       near >= 0 ? "; did you mean " : "", near >= 0 ? known[near] : "",
                       near >= 0 ? "?" : "");
    return answer_early(conn, &err, NULL);
}

static bool refuse_method(hdl_conn *conn, const hdl_route *route)
{
    bool get = route->methods & HDL_HTTP_GET;
    const char *allow = get ? "allow: GET, HEAD, OPTIONS\r\n" : "allow: POST, OPTIONS\r\n";
    if (conn->http.req.method == HDL_HTTP_OPTIONS)
        return answer_early(conn, NULL, allow);
    hdl_api_error err;
    (void)hdl_api_fail(&err, 405, NULL, "%s takes %s", route->path, get ? "GET" : "POST");
    return answer_early(conn, &err, allow);
}

static bool bearer_of(hdl_http_text header, hdl_http_text *key)
{
    static const char word[] = "bearer ";
    hdl_http_text scheme = {header.at, sizeof word - 1};
    if (!header.at || header.len <= scheme.len || !hdl_http_text_is(scheme, word))
        return false;
    *key = (hdl_http_text){header.at + scheme.len, header.len - scheme.len};
    while (key->len && *key->at == ' ')
        *key = (hdl_http_text){key->at + 1, key->len - 1};
    return key->len > 0;
}

static bool check_key(hdl_conn *conn, const hdl_route *route)
{
    hdl_front *front = conn->thread->front;
    conn->tenant = (hdl_tenant){0};
    bool needed = route->auth == HDL_AUTH_KEY ||
                  (route->auth == HDL_AUTH_METRICS && front->opts.metrics_need_key);
    if (!front->keys || !needed)
        return true;
    hdl_http_text key = conn->http.req.header[HDL_HTTP_X_API_KEY];
    bool given = bearer_of(conn->http.req.header[HDL_HTTP_AUTHORIZATION], &key) || key.at;
    if (given && hdl_keys_find(front->keys, key.at, key.len, &conn->tenant))
        return true;
    hdl_api_error err;
    (void)hdl_api_fail(&err, 401, NULL,
                       given ? "the API key is not known here"
                             : "an API key is needed; send it as `Authorization: Bearer KEY`");
    err.code = "invalid_api_key";
    hdl_metric_add(HDL_METRIC_REJECTED, hdl_metric_label(HDL_METRIC_REJECTED, "auth"), 1);
    return answer_early(conn, &err, NULL);
}

static bool is_json_type(hdl_http_text type)
{
    const char *end = type.at ? memchr(type.at, ';', type.len) : NULL;
    if (end)
        type.len = (size_t)(end - type.at);
    while (type.len && type.at[type.len - 1] == ' ')
        type.len--;
    return hdl_http_text_is(type, "application/json");
}

/* Only JSON, also because a web page may make a browser post forms and plain text to any address
 * without asking, but not JSON. */
static bool check_body_kind(hdl_conn *conn)
{
    const hdl_http_req *req = &conn->http.req;
    hdl_api_error err = {0};
    if (!req->framed)
        (void)hdl_api_fail(&err, 411, NULL, "a POST needs a body with Content-Length");
    else if (!is_json_type(req->header[HDL_HTTP_CONTENT_TYPE]))
        (void)hdl_api_fail(&err, 415, NULL,
                           "the body must be JSON; send `Content-Type: application/json`");
    else if (req->header[HDL_HTTP_CONTENT_ENCODING].at &&
             !hdl_http_text_is(req->header[HDL_HTTP_CONTENT_ENCODING], "identity"))
        (void)hdl_api_fail(&err, 415, NULL, "compressed bodies are not taken");
    return err.status == 0 || answer_early(conn, &err, NULL);
}

bool hdl_route_head(hdl_conn *conn)
{
    hdl_front_thread *thread = conn->thread;
    /* Ours, never the client's: an id that a client chooses must not name anything in here. */
    uint64_t id = hdl_hash_mix(thread->id_key + ++thread->id_count);
    (void)snprintf(conn->request_id, sizeof conn->request_id, "req_%016llx",
                   (unsigned long long)id);
    const hdl_route *route = find_route(conn->http.req.path);
    if (!route) {
        bool star = conn->http.req.method == HDL_HTTP_OPTIONS && *conn->http.req.path.at == '*';
        return star ? answer_early(conn, NULL, "allow: GET, HEAD, POST, OPTIONS\r\n")
                    : refuse_path(conn);
    }
    if (!(route->methods & conn->http.req.method))
        return refuse_method(conn, route);
    conn->route = route;
    if (!check_key(conn, route))
        return false;
    return conn->http.req.method != HDL_HTTP_POST || check_body_kind(conn);
}

void hdl_route_run(hdl_conn *conn) { conn->route->handler(conn); }
