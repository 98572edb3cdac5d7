/* SPDX-License-Identifier: Apache-2.0 */
/* Errors of the outside world: one closed list, one text and one HTTP status each.
 *
 * A broken promise of our own is not an hdl_err but an assertion (base/assert.h). A bad request is
 * not an hdl_err inside the core but a REJECT action that touches that request alone. What a person
 * must read is written into an hdl_errmsg in the form `what; why; what to do`. Functions of
 * base/err.c are callable from any thread and allocate nothing. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/*      name         text                                         http */
#define HDL_ERR_LIST(X)                                                                            \
    X(OK, "ok", 200)                                                                               \
    X(AGAIN, "not ready yet, try again", 503)                                                      \
    X(BUSY, "a limit is reached", 429)                                                             \
    X(INVALID, "invalid input", 400)                                                               \
    X(NOTFOUND, "not found", 404)                                                                  \
    X(CANCELLED, "cancelled", 499)                                                                 \
    X(TIMEOUT, "deadline passed", 504)                                                             \
    X(PEER, "the other side failed or went away", 503)                                             \
    X(DEVICE, "device error", 500)                                                                 \
    X(IO, "input/output error", 500)                                                               \
    X(NOMEM, "out of memory", 500)                                                                 \
    X(CORRUPT, "corrupt data", 500)                                                                \
    X(UNSUPPORTED, "not supported", 400)                                                           \
    X(DENIED, "not allowed", 403)                                                                  \
    X(BUG, "internal error", 500)

#define HDL_ERR_ENUM(name, text, http) HDL_##name,
typedef enum hdl_err { HDL_ERR_LIST(HDL_ERR_ENUM) HDL_ERR_COUNT } hdl_err;
#undef HDL_ERR_ENUM

#define HDL_MUST_CHECK               __attribute__((warn_unused_result))
#define HDL_PRINTF(fmt_idx, arg_idx) __attribute__((format(printf, fmt_idx, arg_idx)))

/* A message for a person; caller's storage, always NUL-terminated. An empty text means that none
 * was given. */
typedef struct hdl_errmsg {
    char text[512];
} hdl_errmsg;

/* Short name ("TIMEOUT"), text and HTTP status of a code. Never fails: an unknown value reads as
 * BUG. */
const char *hdl_err_name(hdl_err err);
const char *hdl_err_text(hdl_err err);
int hdl_err_http_status(hdl_err err);

/* Writes `what; why; what to do` into msg (which may be NULL) and returns err, so that `return
 * hdl_fail(...)` is one line. */
hdl_err hdl_fail(hdl_err err, hdl_errmsg *msg, const char *fmt, ...) HDL_PRINTF(3, 4);

/* Puts context before a message that a callee has written: `prefix: old text`. Returns err. */
hdl_err hdl_fail_prefix(hdl_err err, hdl_errmsg *msg, const char *fmt, ...) HDL_PRINTF(3, 4);

#define HDL_TRY(call)                                                                              \
    do {                                                                                           \
        hdl_err try_err_ = (call);                                                                 \
        if (try_err_ != HDL_OK)                                                                    \
            return try_err_;                                                                       \
    } while (0)

/* The caller declares `hdl_err err` and a label `fail:` that cleans up in reverse order and returns
 * err. */
#define HDL_TRY_GOTO(call, label)                                                                  \
    do {                                                                                           \
        err = (call);                                                                              \
        if (err != HDL_OK)                                                                         \
            goto label;                                                                            \
    } while (0)

/* For teardown: keeps the first error, runs the call in any case. */
#define HDL_KEEP_FIRST(err, call)                                                                  \
    do {                                                                                           \
        hdl_err keep_err_ = (call);                                                                \
        if ((err) == HDL_OK)                                                                       \
            (err) = keep_err_;                                                                     \
    } while (0)
