/* SPDX-License-Identifier: Apache-2.0 */
/* Private to log*.c: one record and its two text forms. Pure; any thread. */
#pragma once

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"

enum { HDL_LOG_TEXT_BYTES = 984 };

typedef struct hdl_log_record {
    hdl_time_us wall_us;
    const char *event; /* static */
    uint32_t suppressed;
    uint16_t text_len;
    uint8_t level;
    uint8_t mod;
    char text[HDL_LOG_TEXT_BYTES]; /* key=value pairs, not terminated */
} hdl_log_record;

_Static_assert(sizeof(hdl_log_record) == 1008, "two cache lines more would be a waste");

/* One line with its newline. Errors stick in out. */
void hdl_log_format_text(const hdl_log_record *record, hdl_buf *out);
void hdl_log_format_json(const hdl_log_record *record, hdl_buf *out);
