/* SPDX-License-Identifier: Apache-2.0 */
/* JSON writer straight into a hdl_buf, for answers and server-sent events.
 *
 * The writer places commas and colons; the caller keeps begin/end and key/value in order
 * (asserted). Bytes that are not UTF-8 become U+FFFD, so the output is always valid JSON. Errors
 * stick in the buffer (hdl_buf_ok). Allocates only through the buffer. One thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

enum { HDL_JW_DEPTH_MAX = 64 };

typedef struct hdl_json_writer {
    hdl_buf *buf; /* borrowed: until the last call */
    int depth;
    uint64_t is_object; /* bit per level */
    uint64_t has_items; /* bit per level */
    bool after_key;
} hdl_json_writer;

void hdl_jw_init(hdl_json_writer *w, hdl_buf *buf);

void hdl_jw_begin_object(hdl_json_writer *w);
void hdl_jw_end_object(hdl_json_writer *w);
void hdl_jw_begin_array(hdl_json_writer *w);
void hdl_jw_end_array(hdl_json_writer *w);
void hdl_jw_key(hdl_json_writer *w, const char *key);

void hdl_jw_string(hdl_json_writer *w, const char *text, size_t len);
void hdl_jw_cstr(hdl_json_writer *w, const char *text); /* NULL writes null */
void hdl_jw_int(hdl_json_writer *w, int64_t v);
void hdl_jw_uint(hdl_json_writer *w, uint64_t v);
void hdl_jw_bool(hdl_json_writer *w, bool v);
void hdl_jw_null(hdl_json_writer *w);
/* Shortest decimal that reads back as the same real (3 is 3.0); NaN and infinities write null. */
void hdl_jw_double(hdl_json_writer *w, double v);
/* The shortest decimal that reads back as the same float: for logprobs. */
void hdl_jw_float(hdl_json_writer *w, float v);
/* digits (0..9) after the point. */
void hdl_jw_fixed(hdl_json_writer *w, double v, int digits);
/* Already JSON. */
void hdl_jw_raw(hdl_json_writer *w, const char *json, size_t len);

/* key and value in one line. */
static inline void hdl_jw_kv_cstr(hdl_json_writer *w, const char *key, const char *text)
{
    hdl_jw_key(w, key);
    hdl_jw_cstr(w, text);
}
static inline void hdl_jw_kv_int(hdl_json_writer *w, const char *key, int64_t v)
{
    hdl_jw_key(w, key);
    hdl_jw_int(w, v);
}
static inline void hdl_jw_kv_uint(hdl_json_writer *w, const char *key, uint64_t v)
{
    hdl_jw_key(w, key);
    hdl_jw_uint(w, v);
}
static inline void hdl_jw_kv_bool(hdl_json_writer *w, const char *key, bool v)
{
    hdl_jw_key(w, key);
    hdl_jw_bool(w, v);
}
