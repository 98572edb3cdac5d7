/* SPDX-License-Identifier: Apache-2.0 */
/* Asynchronous one-line log, logfmt or JSON lines.
 *
 *     HDL_LOG(WARN, BRAIN, "preempt", "req=%llu seq=%u blocks=%u", ...);
 *     2026-11-21T07:09:36.123456Z W brain preempt req=812 seq=14 blocks=37
 *
 * The event is a fixed word, the rest key=value with units in the keys; put foreign strings
 * through hdl_log_quote. Prompts, answers and API keys are never logged: there is no call for
 * it, and reviews refuse one.
 *
 * Any thread. Before hdl_log_start and after hdl_log_stop lines are written at once; between
 * them callers format into a bounded ring and a thread of role LOG writes. A full ring drops the
 * line and counts it; each call site is limited to rate_max lines a second and says how many it
 * suppressed. Control bytes are escaped, so a line stays a line. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "heddle/err.h"

typedef enum hdl_log_level {
    HDL_LOG_ERROR,
    HDL_LOG_WARN,
    HDL_LOG_INFO,
    HDL_LOG_DEBUG,
    HDL_LOG_LEVEL_COUNT
} hdl_log_level;

#define HDL_MOD_LIST(X)                                                                            \
    X(BASE, "base")                                                                                \
    X(MAIN, "main")                                                                                \
    X(CONFIG, "config")                                                                            \
    X(PROTO, "proto")                                                                              \
    X(FRONT, "front")                                                                              \
    X(TEXT, "text")                                                                                \
    X(BRAIN, "brain")                                                                              \
    X(CLUSTER, "cluster")                                                                          \
    X(WORKER, "worker")                                                                            \
    X(STEP, "step")                                                                                \
    X(LOAD, "load")                                                                                \
    X(COLL, "coll")                                                                                \
    X(TOPO, "topo")                                                                                \
    X(KERNEL, "kernel")                                                                            \
    X(CLI, "cli")                                                                                  \
    X(TEST, "test")

#define HDL_MOD_ENUM(name, text) HDL_MOD_##name,
typedef enum hdl_log_mod { HDL_MOD_LIST(HDL_MOD_ENUM) HDL_MOD_COUNT } hdl_log_mod;
#undef HDL_MOD_ENUM

/* One per call site, made by HDL_LOG. */
typedef struct hdl_log_site {
    hdl_log_level level;
    hdl_log_mod mod;
    const char *event;
    _Atomic uint32_t window;     /* second in which `count` counts */
    _Atomic uint32_t count;      /* lines in that second */
    _Atomic uint32_t suppressed; /* since the last line that was written */
} hdl_log_site;

/* level and mod are the bare names: INFO, FRONT. The format may be left out. */
#define HDL_LOG(level_, mod_, event_, ...)                                                         \
    do {                                                                                           \
        static hdl_log_site hdl_site_ = {                                                          \
            .level = HDL_LOG_##level_, .mod = HDL_MOD_##mod_, .event = (event_)};                  \
        if (hdl_log_enabled(HDL_LOG_##level_, HDL_MOD_##mod_))                                     \
            hdl_log_write(&hdl_site_, " " __VA_ARGS__);                                            \
    } while (0)

typedef struct hdl_log_opts {
    const char *path; /* file to append to; NULL: stderr */
    hdl_log_level level;
    uint32_t mod_mask; /* bit per hdl_log_mod; 0: all */
    bool json;
    uint32_t rate_max;   /* lines a second and call site; 0: 100 */
    uint32_t ring_lines; /* 0: 1024 */
} hdl_log_opts;

/* Level, mask and format, for the synchronous mode too. Before other threads exist. */
hdl_err hdl_log_setup(const hdl_log_opts *opts, hdl_errmsg *why) HDL_MUST_CHECK;
/* Starts the writer thread. After setup; block signals first (thread.h). */
hdl_err hdl_log_start(hdl_errmsg *why) HDL_MUST_CHECK;
/* Writes what is queued, ends the thread; further lines are synchronous. */
void hdl_log_stop(void);

/* "error", "warn", "info", "debug". */
bool hdl_log_level_parse(const char *text, hdl_log_level *out);
bool hdl_log_enabled(hdl_log_level level, hdl_log_mod mod);
void hdl_log_write(hdl_log_site *site, const char *fmt, ...) HDL_PRINTF(2, 3);

/* Quotes and escapes a foreign string as a logfmt value, cut to fit; returns out. */
const char *hdl_log_quote(char *out, size_t size, const char *text);
#define HDL_LOG_QUOTE(text) hdl_log_quote((char[160]){0}, 160, (text))

/* Lines lost to a full ring since the start; also said in the log when there is room again. */
uint64_t hdl_log_dropped(void);
