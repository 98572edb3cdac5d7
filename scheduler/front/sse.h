/* SPDX-License-Identifier: Apache-2.0 */
/* Server-sent events: `data: ` lines, comments, OpenAI's end mark. Pure writing into a buffer. */
#pragma once

#include "base/buf.h"

/* An event's data is written between begin and end; it must hold no line break (JSON text does
 * not). */
void hdl_sse_begin(hdl_buf *out);
void hdl_sse_end(hdl_buf *out);
/* `: ping`, which every client skips. */
void hdl_sse_ping(hdl_buf *out);
/* `data: [DONE]` */
void hdl_sse_done(hdl_buf *out);
