/* SPDX-License-Identifier: Apache-2.0 */
/* Dates for chat templates, in UTC and English wherever the server stands: the same prompt on every
 * machine. Pure. */
#pragma once

#include <heddle/err.h>

#include "base/buf.h"
#include "scheduler/text/vocab.h"

/* Appends; UNSUPPORTED for a directive beyond %a %A %b %B %d %e %F %H %I %j %m %M %p %S %T %y %Y %Z
 * %z %% and %- before a number. */
hdl_err hdl_strftime(uint64_t wall_us, hdl_text format, hdl_buf *out) HDL_MUST_CHECK;
