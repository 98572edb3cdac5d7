/* SPDX-License-Identifier: Apache-2.0 */
/* The way of a line: hdl_log_write formats the pairs into a record on its stack, the ring
 * carries it, the writer thread adds time and names and writes a batch with one system call.
 * Without the thread the same functions run in the caller. */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/log_format.h"
#include "base/metrics.h"
#include "base/ring.h"
#include "base/thread.h"

enum { BATCH = 16, OUT_BYTES_MAX = 256 << 10, RATE_MAX_DEFAULT = 100, RING_LINES_DEFAULT = 1024 };

static struct {
    /* set by setup, before other threads */
    hdl_log_level level;
    uint32_t mod_mask;
    uint32_t rate_max;
    uint32_t ring_lines;
    bool json;
    int fd;
    /* writer */
    hdl_ring *ring; /* owned; kept after stop, because a late caller may still be pushing */
    hdl_thread thread;
    /* any thread */
    _Atomic bool running;
    _Atomic uint64_t dropped;
    uint64_t dropped_said; /* writer only */
} state = {.level = HDL_LOG_INFO,
           .mod_mask = UINT32_MAX,
           .rate_max = RATE_MAX_DEFAULT,
           .ring_lines = RING_LINES_DEFAULT,
           .fd = STDERR_FILENO};

hdl_err hdl_log_setup(const hdl_log_opts *opts, hdl_errmsg *why)
{
    HDL_ASSERT(!atomic_load(&state.running));
    int fd = STDERR_FILENO;
    if (opts->path) {
        fd = open(opts->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
        if (fd < 0)
            return hdl_fail(HDL_IO, why, "cannot open log file %s; %s; check log.file", opts->path,
                            strerror(errno));
    }
    if (state.fd != STDERR_FILENO)
        close(state.fd);
    state.fd = fd;
    state.level = opts->level;
    state.mod_mask = opts->mod_mask ? opts->mod_mask : UINT32_MAX;
    state.rate_max = opts->rate_max ? opts->rate_max : RATE_MAX_DEFAULT;
    state.ring_lines = opts->ring_lines ? opts->ring_lines : RING_LINES_DEFAULT;
    state.json = opts->json;
    return HDL_OK;
}

bool hdl_log_enabled(hdl_log_level level, hdl_log_mod mod)
{
    return level <= state.level && (state.mod_mask >> mod & 1u);
}

static void write_all(const unsigned char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = write(state.fd, bytes, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return; /* a full disk must not stop the daemon */
        bytes += n;
        len -= (size_t)n;
    }
}

static void format(const hdl_log_record *record, hdl_buf *out)
{
    if (state.json)
        hdl_log_format_json(record, out);
    else
        hdl_log_format_text(record, out);
}

static void flush(hdl_buf *out)
{
    write_all(hdl_buf_data(out), out->len);
    hdl_buf_clear(out);
}

/* True when this line may pass; takes over the count of those that could not. */
static bool pass_rate(hdl_log_site *site, hdl_time_us now_us, uint32_t *suppressed)
{
    /* relaxed throughout: counts, no data is published by them; two threads that enter a new
     * second at once may let a few lines more through */
    uint32_t second = (uint32_t)(now_us / HDL_SEC_US);
    if (atomic_load_explicit(&site->window, memory_order_relaxed) != second) {
        atomic_store_explicit(&site->window, second, memory_order_relaxed);
        atomic_store_explicit(&site->count, 0, memory_order_relaxed);
    }
    if (atomic_fetch_add_explicit(&site->count, 1, memory_order_relaxed) >= state.rate_max) {
        atomic_fetch_add_explicit(&site->suppressed, 1, memory_order_relaxed);
        return false;
    }
    *suppressed = atomic_exchange_explicit(&site->suppressed, 0, memory_order_relaxed);
    return true;
}

static void write_now(const hdl_log_record *record)
{
    hdl_buf out;
    hdl_buf_init(&out, OUT_BYTES_MAX);
    format(record, &out);
    flush(&out);
    hdl_buf_deinit(&out);
}

void hdl_log_write(hdl_log_site *site, const char *fmt, ...)
{
    hdl_log_record record;
    if (!pass_rate(site, hdl_clock_now_us(), &record.suppressed))
        return;
    record.wall_us = hdl_clock_wall_us();
    record.event = site->event;
    record.level = (uint8_t)site->level;
    record.mod = (uint8_t)site->mod;
    va_list args;
    va_start(args, fmt);
    /* The macro puts a blank before the format, which is not part of the text. */
    int n = vsnprintf(record.text, sizeof record.text, fmt + (fmt[0] == ' '), args);
    va_end(args);
    size_t len = n < 0 ? 0 : (size_t)n;
    if (len >= sizeof record.text) {
        len = sizeof record.text - 1;
        memcpy(record.text + len - 3, "...", 3);
    }
    record.text_len = (uint16_t)len;

    /* acquire: pairs with the start's release, the ring is there */
    if (!atomic_load_explicit(&state.running, memory_order_acquire)) {
        write_now(&record);
    } else if (hdl_ring_push(state.ring, &record) != HDL_OK) {
        atomic_fetch_add_explicit(&state.dropped, 1, memory_order_relaxed); /* a count */
        hdl_metric_add(HDL_METRIC_LOG_DROPPED, 0, 1);
    }
}

uint64_t hdl_log_dropped(void)
{
    return atomic_load_explicit(&state.dropped, memory_order_relaxed); /* a figure */
}

static void say_dropped(hdl_buf *out)
{
    uint64_t dropped = hdl_log_dropped();
    if (dropped == state.dropped_said)
        return;
    hdl_log_record record = {.wall_us = hdl_clock_wall_us(),
                             .event = "log_dropped",
                             .level = HDL_LOG_WARN,
                             .mod = HDL_MOD_BASE};
    int n = snprintf(record.text, sizeof record.text, "lines=%llu",
                     (unsigned long long)(dropped - state.dropped_said));
    record.text_len = (uint16_t)n;
    state.dropped_said = dropped;
    format(&record, out);
}

static void drain(hdl_buf *out)
{
    hdl_log_record batch[BATCH];
    size_t n;
    while ((n = hdl_ring_pop_many(state.ring, batch, BATCH)) > 0) {
        for (size_t i = 0; i < n; i++)
            format(&batch[i], out);
        say_dropped(out);
        flush(out);
    }
}

static void writer_main(void *arg)
{
    (void)arg;
    hdl_buf out;
    hdl_buf_init(&out, OUT_BYTES_MAX);
    /* acquire: pairs with the stop's release */
    while (atomic_load_explicit(&state.running, memory_order_acquire)) {
        hdl_ring_ack(state.ring);
        drain(&out);
        if (!hdl_ring_arm(state.ring))
            continue;
        /* The time-out only bounds how late a stop is seen when its wake-up was swallowed by the
         * ack above. */
        struct pollfd fd = {.fd = hdl_ring_fd(state.ring), .events = POLLIN};
        (void)poll(&fd, 1, 200);
    }
    drain(&out);
    hdl_buf_deinit(&out);
}

hdl_err hdl_log_start(hdl_errmsg *why)
{
    HDL_ASSERT(!atomic_load(&state.running));
    if (!state.ring) {
        hdl_err err = hdl_ring_open(&state.ring, &(hdl_ring_opts){
                                                     .kind = HDL_RING_MPSC,
                                                     .item_bytes = sizeof(hdl_log_record),
                                                     .count = state.ring_lines,
                                                     .wake = HDL_RING_WAKE_OWN,
                                                 });
        if (err != HDL_OK)
            return hdl_fail(err, why, "cannot make the log ring; %s", hdl_err_text(err));
    }
    /* release: the ring is there before a caller may use it */
    atomic_store_explicit(&state.running, true, memory_order_release);
    hdl_err err = hdl_thread_start(
        &state.thread,
        &(hdl_thread_opts){.name = "hdl-log", .role = HDL_ROLE_LOG, .fn = writer_main}, why);
    if (err != HDL_OK)
        atomic_store_explicit(&state.running, false, memory_order_release); /* as above */
    return err;
}

void hdl_log_stop(void)
{
    if (!atomic_load_explicit(&state.running, memory_order_acquire)) /* as in write */
        return;
    /* release: what was logged before is in the ring */
    atomic_store_explicit(&state.running, false, memory_order_release);
    uint64_t one = 1;
    ssize_t n = write(hdl_ring_fd(state.ring), &one, sizeof one);
    (void)n; /* the writer looks again after its time-out */
    hdl_thread_join(&state.thread);
    /* A caller that saw `running` just before may have pushed after the writer's last look. */
    hdl_buf out;
    hdl_buf_init(&out, OUT_BYTES_MAX);
    drain(&out);
    hdl_buf_deinit(&out);
}
