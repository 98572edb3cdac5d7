/* SPDX-License-Identifier: Apache-2.0 */
/* The table of everything that can be asked of the server, and the checks that hold for all of it:
 * path, method, key, kind of body. Denied by default: a row names its auth class or does not
 * compile. The checks happen when the head is there, before a byte of the body is waited for. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef struct hdl_conn hdl_conn;

typedef enum hdl_auth {
    HDL_AUTH_PUBLIC,  /* probes, version */
    HDL_AUTH_METRICS, /* as PUBLIC unless hdl_front_opts.metrics_need_key */
    HDL_AUTH_KEY      /* a key, when the server has keys */
} hdl_auth;

/* clang-format off */
/*    path                    match   method  auth     handler */
#define HDL_ROUTE_LIST(X)                                                                          \
    X("/v1/chat/completions", EXACT,  POST,   KEY,     hdl_openai_chat)                            \
    X("/v1/completions",      EXACT,  POST,   KEY,     hdl_openai_completions)                     \
    X("/v1/models",           EXACT,  GET,    KEY,     hdl_models_list)                            \
    X("/v1/models/",          PREFIX, GET,    KEY,     hdl_models_get)                             \
    X("/tokenize",            EXACT,  POST,   KEY,     hdl_tokens_tokenize)                        \
    X("/detokenize",          EXACT,  POST,   KEY,     hdl_tokens_detokenize)                      \
    X("/health",              EXACT,  GET,    PUBLIC,  hdl_admin_health)                           \
    X("/livez",               EXACT,  GET,    PUBLIC,  hdl_admin_livez)                            \
    X("/readyz",              EXACT,  GET,    PUBLIC,  hdl_admin_readyz)                           \
    X("/version",             EXACT,  GET,    PUBLIC,  hdl_admin_version)                          \
    X("/metrics",             EXACT,  GET,    METRICS, hdl_admin_metrics)                          \
    X("/",                    EXACT,  GET,    PUBLIC,  hdl_admin_root)
/* clang-format on */

/* Handlers: the request is complete in conn->http; they answer, or take the connection over with
 * hdl_conn_answer_later. */
#define HDL_ROUTE_HANDLER(path, match, method, auth, handler) void handler(hdl_conn *conn);
HDL_ROUTE_LIST(HDL_ROUTE_HANDLER)
#undef HDL_ROUTE_HANDLER

/* The head is complete. False: an answer was given. */
bool hdl_route_head(hdl_conn *conn);
/* The request is complete. */
void hdl_route_run(hdl_conn *conn);

/* For tests that walk the table. */
typedef struct hdl_route {
    const char *path;
    bool prefix;
    uint32_t methods; /* hdl_http_method bits */
    hdl_auth auth;
    void (*handler)(hdl_conn *conn);
} hdl_route;
const hdl_route *hdl_routes(uint32_t *n);
