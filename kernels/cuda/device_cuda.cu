/* SPDX-License-Identifier: Apache-2.0 */
/* The device layer of the CUDA plugin: the runtime API (linked statically; the driver is found when
 * a device is opened), one stream, one scratch, pinned staging.
 *
 * An error is kept in the stream and returned by every call from then on: after a fault the context
 * is gone, and the process has to end. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/fast.h"
#include "kernels/cuda/matmul.h"

struct hdl_plugin_device {
    hdl_stream stream;
    char fast_by[64];
    int index;
    struct taken *all; /* owned: what close frees */
};
struct taken {
    taken *next;
    void *ptr;
    bool pinned;
};
struct hdl_plugin_event {
    hdl_plugin_device *device;
    cudaEvent_t at;
};

/* One device per process; loader threads have to be told of it. */
static int device_index;

static hdl_err keep(hdl_stream *s, cudaError_t e, const char *what)
{
    if (e != cudaSuccess && s->err == HDL_OK) {
        s->err = e == cudaErrorMemoryAllocation ? HDL_NOMEM : HDL_DEVICE;
        fprintf(stderr, "cuda: %s: %s\n", what, cudaGetErrorString(e));
    }
    return s->err;
}

void gpu_launched(hdl_stream *s, const char *kernel)
{
    (void)keep(s, cudaPeekAtLastError(), kernel);
}

void gpu_allow_shared(hdl_stream *s, const void *kernel, size_t bytes)
{
    (void)keep(
        s, cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes),
        "shared memory of a kernel");
}

void hdl_cuda_store(void *to, const void *from, size_t bytes)
{
    static thread_local bool told;
    if (!told)
        told = cudaSetDevice(device_index) == cudaSuccess;
    cudaError_t e = cudaMemcpy(to, from, bytes, cudaMemcpyDefault);
    if (e != cudaSuccess)
        fprintf(stderr, "cuda: weights: %s\n", cudaGetErrorString(e)); /* sync tells the worker */
}

/* Done when it returns: loader threads store into it beside the stream (hdl_cuda_store). */
static void clear(hdl_plugin_device *d, void *ptr, size_t bytes)
{
    cudaStream_t queue = (cudaStream_t)d->stream.queue;
    if (keep(&d->stream, cudaMemsetAsync(ptr, 0, bytes, queue), "clearing memory") == HDL_OK)
        (void)keep(&d->stream, cudaStreamSynchronize(queue), "clearing memory");
}

static void *take_as(hdl_plugin_device *d, size_t bytes, bool pinned)
{
    taken *t = (taken *)malloc(sizeof *t);
    void *ptr = NULL;
    cudaError_t e = cudaErrorMemoryAllocation;
    if (bytes == 0)
        bytes = 1;
    if (t)
        e = pinned ? cudaHostAlloc(&ptr, bytes, cudaHostAllocPortable) : cudaMalloc(&ptr, bytes);
    if (e != cudaSuccess) {
        (void)cudaGetLastError(); /* no room is the caller's business, not a fault of the device */
        free(t);
        return NULL;
    }
    if (pinned)
        memset(ptr, 0, bytes);
    else
        clear(d, ptr, bytes);
    *t = {d->all, ptr, pinned};
    d->all = t;
    return ptr;
}

static void give_as(hdl_plugin_device *d, void *ptr)
{
    if (!ptr)
        return;
    taken **at = &d->all;
    while (*at && (*at)->ptr != ptr)
        at = &(*at)->next;
    taken *t = *at;
    HDL_ASSERT(t != NULL);
    *at = t->next;
    (void)(t->pinned ? cudaFreeHost(ptr) : cudaFree(ptr));
    free(t);
}

static void close_device(hdl_plugin_device *d)
{
    if (!d)
        return;
    fast_close(&d->stream);
    gpu_upload_forget(&d->stream);
    while (d->all)
        give_as(d, d->all->ptr);
    if (d->stream.queue)
        cudaStreamDestroy((cudaStream_t)d->stream.queue);
    free(d);
}

static hdl_err no_device(hdl_errmsg *why, cudaError_t e)
{
    return hdl_fail(
        HDL_UNSUPPORTED, why,
        "no CUDA backend: %s; install NVIDIA's driver and give this process the GPU, or "
        "say --device cpu",
        cudaGetErrorString(e));
}

static hdl_err probe(uint32_t index, hdl_errmsg *why)
{
    int count = 0, major = 0;
    cudaError_t e = cudaGetDeviceCount(&count);
    if (e != cudaSuccess)
        return no_device(why, e);
    if (index >= (uint32_t)count)
        return hdl_fail(HDL_UNSUPPORTED, why,
                        "no CUDA backend: GPU %u does not exist, this process sees %d; give cuda:0 "
                        "to cuda:%d",
                        index, count, count - 1);
    e = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, (int)index);
    if (e != cudaSuccess)
        return no_device(why, e);
    if (major < 8)
        return hdl_fail(HDL_UNSUPPORTED, why,
                        "no CUDA backend: GPU %u has compute capability %d.x and 8.0 is needed; "
                        "use an Ampere GPU or a later one",
                        index, major);
    return HDL_OK;
}

static hdl_err open_device(hdl_plugin_device **out, const hdl_plugin_opts *opts, hdl_errmsg *why)
{
    *out = NULL;
    HDL_TRY(probe(opts->index, why));
    hdl_plugin_device *d = (hdl_plugin_device *)calloc(1, sizeof *d);
    if (!d)
        return hdl_fail(HDL_NOMEM, why, "out of memory; the machine is full; stop other programs");
    cudaStream_t queue = NULL;
    int n_sms = 0;
    device_index = d->index = (int)opts->index;
    cudaError_t e = cudaSetDevice(d->index);
    if (e == cudaSuccess)
        e = cudaStreamCreateWithFlags(&queue, cudaStreamNonBlocking);
    if (e == cudaSuccess)
        e = cudaDeviceGetAttribute(&n_sms, cudaDevAttrMultiProcessorCount, d->index);
    d->stream.device = d;
    d->stream.queue = queue;
    d->stream.n_sms = (uint32_t)n_sms;
    if (e != cudaSuccess) {
        close_device(d);
        return no_device(why, e);
    }
    d->stream.scratch = (unsigned char *)take_as(d, opts->scratch_bytes, false);
    d->stream.scratch_bytes = opts->scratch_bytes;
    if (!d->stream.scratch) {
        close_device(d);
        return hdl_fail(HDL_NOMEM, why,
                        "no memory for %zu bytes of scratch; the GPU is full; lower "
                        "sched.step_tokens",
                        opts->scratch_bytes);
    }
    if (opts->fast)
        fast_open(&d->stream, d->fast_by);
    *out = d;
    return HDL_OK;
}

static hdl_err info(hdl_plugin_device *d, hdl_plugin_info *out)
{
    cudaDeviceProp p;
    size_t free_bytes = 0, total = 0;
    *out = {};
    memcpy(out->fast_by, d->fast_by, sizeof out->fast_by);
    HDL_TRY(keep(&d->stream, cudaGetDeviceProperties(&p, d->index), "properties"));
    HDL_TRY(keep(&d->stream, cudaMemGetInfo(&free_bytes, &total), "free memory"));
    HDL_TRY(keep(&d->stream, cudaDeviceGetPCIBusId(out->bus_id, (int)sizeof out->bus_id, d->index),
                 "its bus"));
    snprintf(out->name, sizeof out->name, "%.90s", p.name);
    out->major = (uint32_t)p.major;
    out->minor = (uint32_t)p.minor;
    out->n_sms = (uint32_t)p.multiProcessorCount;
    out->memory_bytes = total;
    out->memory_free = free_bytes;
    return HDL_OK;
}

static hdl_stream *stream(hdl_plugin_device *d) { return &d->stream; }

static hdl_err plan(hdl_plugin_device *d, const hdl_weight *w, uint32_t n_tokens)
{
    mm_plan(w, n_tokens, &d->stream);
    return d->stream.err;
}
static void *take(hdl_plugin_device *d, size_t bytes) { return take_as(d, bytes, false); }
static void *take_pinned(hdl_plugin_device *d, size_t bytes) { return take_as(d, bytes, true); }

static hdl_err move(hdl_plugin_device *d, void *to, const void *from, size_t bytes)
{
    hdl_stream *s = &d->stream;
    if (s->err != HDL_OK || bytes == 0)
        return s->err;
    return keep(s, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, (cudaStream_t)s->queue),
                "a copy");
}

GPU_KERNEL(256) fill_words(uint32_t *to, uint32_t word, size_t count)
{
    for (size_t i = gpu_index(); i < count; i += gpu_indices())
        to[i] = word;
}

static hdl_err fill(hdl_plugin_device *d, uint32_t *to, uint32_t word, size_t count)
{
    GPU_LAUNCH(&d->stream, gpu_grid_for(count), fill_words, to, word, count);
    return d->stream.err;
}

static hdl_err sync(hdl_plugin_device *d)
{
    if (d->stream.err != HDL_OK)
        return d->stream.err;
    return keep(&d->stream, cudaStreamSynchronize((cudaStream_t)d->stream.queue), "waiting");
}

static hdl_plugin_event *event_with(hdl_plugin_device *d, unsigned flags)
{
    hdl_plugin_event *e = (hdl_plugin_event *)calloc(1, sizeof *e);
    if (!e)
        return NULL;
    e->device = d;
    if (cudaEventCreateWithFlags(&e->at, flags) == cudaSuccess)
        return e;
    free(e);
    return NULL;
}
static hdl_plugin_event *event_new(hdl_plugin_device *d)
{
    return event_with(d, cudaEventDisableTiming);
}
static hdl_plugin_event *event_new_timed(hdl_plugin_device *d)
{
    return event_with(d, cudaEventDefault);
}
static void event_free(hdl_plugin_event *e)
{
    if (e)
        cudaEventDestroy(e->at);
    free(e);
}
static hdl_err event_record(hdl_plugin_event *e)
{
    hdl_stream *s = &e->device->stream;
    return keep(s, cudaEventRecord(e->at, (cudaStream_t)s->queue), "an event");
}
static hdl_err event_wait(hdl_plugin_event *e)
{
    return keep(&e->device->stream, cudaEventSynchronize(e->at), "waiting");
}

static hdl_err event_elapsed(hdl_plugin_event *from, hdl_plugin_event *to, double *us)
{
    float ms = 0;
    *us = 0;
    HDL_TRY(keep(&to->device->stream, cudaEventElapsedTime(&ms, from->at, to->at), "a time"));
    *us = (double)ms * 1e3;
    return HDL_OK;
}

static bool event_done(hdl_plugin_event *e)
{
    if (cudaEventQuery(e->at) != cudaErrorNotReady)
        return true;          /* an error, too: wait tells of it */
    (void)cudaGetLastError(); /* it is none */
    return false;
}

/* ---- graphs ---- */

struct hdl_plugin_graph {
    hdl_plugin_device *device;
    cudaGraphExec_t exec;
};

static hdl_err graph_begin(hdl_plugin_device *d)
{
    hdl_stream *s = &d->stream;
    if (s->err != HDL_OK)
        return s->err;
    return keep(s, cudaStreamBeginCapture((cudaStream_t)s->queue, cudaStreamCaptureModeThreadLocal),
                "the beginning of a graph");
}

/* What went wrong while it was recorded has not run: the stream goes on as before. */
static hdl_err graph_end(hdl_plugin_device *d, hdl_plugin_graph **out)
{
    hdl_stream *s = &d->stream;
    hdl_plugin_graph *g = (hdl_plugin_graph *)calloc(1, sizeof *g);
    cudaGraph_t graph = NULL;
    *out = NULL;
    cudaError_t e = cudaStreamEndCapture((cudaStream_t)s->queue, &graph);
    if (e == cudaSuccess && s->err == HDL_OK && g)
        e = cudaGraphInstantiate(&g->exec, graph, 0);
    if (graph)
        cudaGraphDestroy(graph);
    if (e == cudaSuccess && s->err == HDL_OK && g) {
        g->device = d;
        *out = g;
        return HDL_OK;
    }
    fprintf(stderr, "cuda: a graph: %s\n", cudaGetErrorString(e));
    (void)cudaGetLastError();
    s->err = HDL_OK;
    free(g);
    return HDL_UNSUPPORTED;
}

static hdl_err graph_run(hdl_plugin_graph *g)
{
    hdl_stream *s = &g->device->stream;
    if (s->err != HDL_OK)
        return s->err;
    return keep(s, cudaGraphLaunch(g->exec, (cudaStream_t)s->queue), "a graph");
}

static void graph_free(hdl_plugin_graph *g)
{
    if (g)
        cudaGraphExecDestroy(g->exec);
    free(g);
}

const hdl_plugin hdl_cuda_device_layer = {
    HDL_PLUGIN_ABI, sizeof(hdl_plugin),
    "cuda",         NULL,
    probe,          open_device,
    close_device,   info,
    stream,         plan,
    take,           give_as,
    take_pinned,    give_as,
    move,           move,
    move,           fill,
    sync,           event_new,
    event_free,     event_record,
    event_wait,     event_new_timed,
    event_elapsed,  event_done,
    graph_begin,    graph_end,
    graph_run,      graph_free,
    NULL,           NULL,
};
