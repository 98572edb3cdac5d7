/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/model/idle.h"

enum { MARKS_MAX = 4096 }; /* two for each wait */

static struct {
    const hdl_plugin *real;
    hdl_plugin plugin;
    hdl_ops ops;
    hdl_plugin_device *device;          /* the one that was opened; borrowed */
    hdl_plugin_event *marks[MARKS_MAX]; /* owned; begin, end, begin, ... */
    uint32_t n, n_made;
    bool on, busy, recording; /* recording: a graph, in which no mark may stand */
    hdl_err err;
} idle;

static void mark(void)
{
    if (idle.n == MARKS_MAX) {
        idle.err = HDL_NOMEM;
        return;
    }
    if (idle.n == idle.n_made) {
        idle.marks[idle.n] = idle.real->event_new_timed(idle.device);
        if (!idle.marks[idle.n]) {
            idle.err = HDL_NOMEM;
            return;
        }
        idle.n_made++;
    }
    if (idle.real->event_record(idle.marks[idle.n++]) != HDL_OK)
        idle.err = HDL_DEVICE;
}

/* Before work is given to the device. */
static void work(void)
{
    if (!idle.on || idle.recording || idle.busy || idle.err != HDL_OK)
        return;
    mark();
    idle.busy = true;
}

/* Before the host waits. */
static void rest(void)
{
    if (!idle.on || idle.recording || !idle.busy || idle.err != HDL_OK)
        return;
    mark();
    idle.busy = false;
}

/* ---- the table ----------------------------------------------------------------------------- */

#define IDLE_OP(op, args)                                                                          \
    static void op_##op(const args *a, hdl_stream *stream)                                         \
    {                                                                                              \
        work();                                                                                    \
        idle.real->ops->op(a, stream);                                                             \
    }
HDL_OP_LIST(IDLE_OP)

static hdl_err open_device(hdl_plugin_device **out, const hdl_plugin_opts *opts, hdl_errmsg *why)
{
    hdl_err err = idle.real->open(out, opts, why);
    idle.device = *out;
    return err;
}

static hdl_err write_there(hdl_plugin_device *d, void *to, const void *from, size_t bytes)
{
    work();
    return idle.real->write(d, to, from, bytes);
}

/* It may have waited: whatever comes next begins anew. */
static hdl_err read_here(hdl_plugin_device *d, void *to, const void *from, size_t bytes)
{
    work();
    hdl_err err = idle.real->read(d, to, from, bytes);
    rest();
    return err;
}

static hdl_err copy_there(hdl_plugin_device *d, void *to, const void *from, size_t bytes)
{
    work();
    return idle.real->copy(d, to, from, bytes);
}

static hdl_err fill_there(hdl_plugin_device *d, uint32_t *to, uint32_t word, size_t count)
{
    work();
    return idle.real->fill(d, to, word, count);
}

static hdl_err wait_for_all(hdl_plugin_device *d)
{
    rest();
    return idle.real->sync(d);
}

static hdl_err wait_for_event(hdl_plugin_event *e)
{
    rest();
    return idle.real->event_wait(e);
}

static bool ask_event(hdl_plugin_event *e)
{
    rest();
    return idle.real->event_done(e);
}

static hdl_err graph_begin(hdl_plugin_device *d)
{
    hdl_err err = idle.real->graph_begin(d);
    idle.recording = err == HDL_OK;
    return err;
}

static hdl_err graph_end(hdl_plugin_device *d, hdl_plugin_graph **out)
{
    idle.recording = false;
    return idle.real->graph_end(d, out);
}

static hdl_err graph_run(hdl_plugin_graph *graph)
{
    work();
    return idle.real->graph_run(graph);
}

const hdl_plugin *hdl_idle_wrap(const hdl_plugin *real)
{
    hdl_plugin *p = &idle.plugin;
    idle.real = real;
    *p = *real;
    idle.ops = *real->ops;
#define IDLE_MEMBER(op, args) idle.ops.op = real->ops->op ? op_##op : NULL;
    HDL_OP_LIST(IDLE_MEMBER)
    p->ops = &idle.ops;
    p->open = open_device;
    p->write = write_there;
    p->read = read_here;
    p->copy = copy_there;
    p->fill = fill_there;
    p->sync = wait_for_all;
    p->event_wait = wait_for_event;
    p->event_done = real->event_done ? ask_event : NULL;
    if (real->graph_begin) {
        p->graph_begin = graph_begin;
        p->graph_end = graph_end;
        p->graph_run = graph_run;
    }
    return p;
}

/* ---- measuring ----------------------------------------------------------------------------- */

void hdl_idle_begin(void)
{
    idle.n = 0;
    idle.err = HDL_OK;
    idle.busy = false;
    idle.on = true;
}

hdl_err hdl_idle_end(hdl_idle_sum *sum)
{
    double gaps = 0, all = 0, us = 0;
    uint32_t n_gaps = 0;
    rest();
    idle.on = false;
    HDL_TRY(idle.real->sync(idle.device));
    HDL_TRY(idle.err);
    for (uint32_t i = 1; i + 1 < idle.n; i += 2) {
        HDL_TRY(idle.real->event_elapsed(idle.marks[i], idle.marks[i + 1], &us));
        gaps += us;
        n_gaps++;
    }
    if (idle.n >= 2)
        HDL_TRY(idle.real->event_elapsed(idle.marks[0], idle.marks[idle.n - 1], &all));
    sum->idle_us += gaps;
    sum->all_us += all;
    sum->n_gaps += n_gaps;
    return HDL_OK;
}

void hdl_idle_close(void)
{
    for (uint32_t i = 0; i < idle.n_made; i++)
        idle.real->event_free(idle.marks[i]);
    idle.n = idle.n_made = 0; /* the table is still in use */
}
