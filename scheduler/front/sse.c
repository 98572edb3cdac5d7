/* SPDX-License-Identifier: Apache-2.0 */
/* Request path 14 of 14: pieces of text to server-sent events (DESIGN section 4). */
#include "scheduler/front/sse.h"

void hdl_sse_begin(hdl_buf *out) { (void)hdl_buf_append(out, "data: ", 6); }

void hdl_sse_end(hdl_buf *out) { (void)hdl_buf_append(out, "\n\n", 2); }

void hdl_sse_ping(hdl_buf *out) { (void)hdl_buf_append(out, ": ping\n\n", 8); }

void hdl_sse_done(hdl_buf *out) { (void)hdl_buf_append(out, "data: [DONE]\n\n", 14); }
