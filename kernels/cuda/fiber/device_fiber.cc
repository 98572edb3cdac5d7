/* SPDX-License-Identifier: Apache-2.0 */
/* The device layer of the fiber plugin. Everything is done when a call returns; what a caller must
 * wait for on a GPU it may not rely on here either (tests of both share their code). */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/fast.h"
#include "kernels/cuda/fiber/memory.h"
#include "kernels/cuda/matmul.h"

extern "C" {
#include "base/clock.h"
}

struct hdl_plugin_device {
    hdl_stream stream;
    char fast_by[64];
};
struct hdl_plugin_event {
    hdl_plugin_device *device;
    uint64_t at_ns; /* all before it is done */
};

void hdl_cuda_store(void *to, const void *from, size_t bytes)
{
    fiber_memory_open();
    memcpy(to, from, bytes);
    fiber_memory_close();
}

static void close_device(hdl_plugin_device *d)
{
    if (!d)
        return;
    fast_close(&d->stream);
    gpu_upload_forget(&d->stream);
    fiber_memory_give(d->stream.scratch);
    free(d);
}

/* As many as anybody asks for, all alike: ranks of one machine get one each. */
static hdl_err probe(uint32_t index, hdl_errmsg *why)
{
    (void)index;
    (void)why;
    return HDL_OK;
}

static hdl_err open_device(hdl_plugin_device **out, const hdl_plugin_opts *opts, hdl_errmsg *why)
{
    *out = NULL;
    HDL_TRY(probe(opts->index, why));
    hdl_plugin_device *d = (hdl_plugin_device *)calloc(1, sizeof *d);
    if (!d)
        return hdl_fail(HDL_NOMEM, why, "out of memory; the machine is full; stop other programs");
    d->stream.device = d;
    d->stream.queue = &d->stream;
    d->stream.scratch = (unsigned char *)fiber_memory_take(opts->scratch_bytes);
    d->stream.scratch_bytes = opts->scratch_bytes;
    d->stream.order = opts->order;
    d->stream.n_sms = 4;
    if (!d->stream.scratch) {
        close_device(d);
        return hdl_fail(HDL_NOMEM, why,
                        "no memory for %zu bytes of scratch; the machine is full; "
                        "lower sched.step_tokens",
                        opts->scratch_bytes);
    }
    if (opts->fast)
        fast_open(&d->stream, d->fast_by);
    *out = d;
    return HDL_OK;
}

static hdl_err info(hdl_plugin_device *d, hdl_plugin_info *out)
{
    *out = {};
    memcpy(out->fast_by, d->fast_by, sizeof out->fast_by);
    snprintf(out->name, sizeof out->name, "fibers on the host");
    out->n_sms = d->stream.n_sms;
    out->memory_bytes = out->memory_free = (uint64_t)1 << 28;
    return HDL_OK;
}

static hdl_stream *stream(hdl_plugin_device *d) { return &d->stream; }

static hdl_err plan(hdl_plugin_device *d, const hdl_weight *w, uint32_t n_tokens)
{
    mm_plan(w, n_tokens, &d->stream);
    return d->stream.err;
}

static void *take(hdl_plugin_device *d, size_t bytes)
{
    (void)d;
    return fiber_memory_take(bytes);
}
static void give(hdl_plugin_device *d, void *ptr)
{
    (void)d;
    fiber_memory_give(ptr);
}
static void *take_pinned(hdl_plugin_device *d, size_t bytes)
{
    (void)d;
    return calloc(1, bytes);
}
static void give_pinned(hdl_plugin_device *d, void *ptr)
{
    (void)d;
    free(ptr);
}

static hdl_err move(hdl_plugin_device *d, void *to, const void *from, size_t bytes)
{
    if (bytes == 0)
        return d->stream.err;
    return fiber_do(&d->stream, [to, from, bytes]() {
        hdl_cuda_store(to, from, bytes);
        return HDL_OK;
    });
}

static hdl_err fill(hdl_plugin_device *d, uint32_t *to, uint32_t word, size_t count)
{
    return fiber_do(&d->stream, [to, word, count]() {
        fiber_memory_open();
        for (size_t i = 0; i < count; i++)
            to[i] = word;
        fiber_memory_close();
        return HDL_OK;
    });
}

static hdl_err sync(hdl_plugin_device *d)
{
    HDL_ASSERT(!d->stream.notes); /* nothing may wait for what is only being recorded */
    return d->stream.err;
}

static hdl_plugin_event *event_new(hdl_plugin_device *d)
{
    hdl_plugin_event *e = (hdl_plugin_event *)calloc(1, sizeof *e);
    if (e)
        e->device = d;
    return e;
}
static void event_free(hdl_plugin_event *e) { free(e); }
static hdl_err event_record(hdl_plugin_event *e)
{
    e->at_ns = hdl_clock_now_ns();
    return e->device->stream.err;
}
static hdl_err event_wait(hdl_plugin_event *e) { return e->device->stream.err; }
static hdl_err event_elapsed(hdl_plugin_event *from, hdl_plugin_event *to, double *us)
{
    *us = (double)(to->at_ns - from->at_ns) * 1e-3;
    return to->device->stream.err;
}

static bool event_done(hdl_plugin_event *e)
{
    (void)e;
    return true;
}

/* ---- graphs ---- */

struct hdl_plugin_graph {
    fiber_notes notes;
};

static hdl_err graph_begin(hdl_plugin_device *d)
{
    HDL_ASSERT(!d->stream.notes);
    hdl_plugin_graph *g = (hdl_plugin_graph *)calloc(1, sizeof *g);
    if (!g)
        return HDL_NOMEM;
    d->stream.notes = &g->notes;
    return HDL_OK;
}

static hdl_err graph_end(hdl_plugin_device *d, hdl_plugin_graph **out)
{
    HDL_ASSERT(d->stream.notes);
    *out = (hdl_plugin_graph *)d->stream.notes; /* its first member */
    d->stream.notes = NULL;
    return HDL_OK;
}

static hdl_err graph_run(hdl_plugin_graph *g)
{
    for (fiber_note *n = g->notes.first; n; n = n->next)
        HDL_TRY(n->run(n));
    return HDL_OK;
}

static void graph_free(hdl_plugin_graph *g)
{
    for (fiber_note *n = g ? g->notes.first : NULL, *next; n; n = next) {
        next = n->next;
        free(n); /* arguments of kernels, without destructors */
    }
    free(g);
}

const hdl_plugin hdl_cuda_device_layer = {
    HDL_PLUGIN_ABI, sizeof(hdl_plugin),
    "fiber",        NULL,
    probe,          open_device,
    close_device,   info,
    stream,         plan,
    take,           give,
    take_pinned,    give_pinned,
    move,           move,
    move,           fill,
    sync,           event_new,
    event_free,     event_record,
    event_wait,     event_new,
    event_elapsed,  event_done,
    graph_begin,    graph_end,
    graph_run,      graph_free,
    NULL,           NULL,
};
