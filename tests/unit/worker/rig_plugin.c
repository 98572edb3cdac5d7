/* SPDX-License-Identifier: Apache-2.0 */
#include "rig_plugin.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <heddle/device.h>

#include "base/assert.h"
#include "kernels/numeric.h"

struct hdl_plugin_device {
    hdl_device *cpu; /* owned: runs the kernels */
};
struct hdl_plugin_event {
    hdl_plugin_device *device;
};

/* ---- memory ------------------------------------------------------------------------------- */

typedef struct region {
    struct region *next;
    void *at;
    size_t bytes;
} region;

static struct {
    pthread_mutex_t lock;
    region *regions;
    unsigned n_open;
} memory = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void protect(int how)
{
    for (region *r = memory.regions; r; r = r->next)
        HDL_ASSERT(mprotect(r->at, r->bytes, how) == 0);
}

static void open_memory(void)
{
    pthread_mutex_lock(&memory.lock);
    if (memory.n_open++ == 0)
        protect(PROT_READ | PROT_WRITE);
    pthread_mutex_unlock(&memory.lock);
}

static void close_memory(void)
{
    pthread_mutex_lock(&memory.lock);
    if (--memory.n_open == 0)
        protect(PROT_NONE);
    pthread_mutex_unlock(&memory.lock);
}

static void *alloc(hdl_plugin_device *device, size_t bytes)
{
    (void)device;
    region *r = malloc(sizeof *r);
    HDL_ASSERT(r != NULL);
    bytes = bytes ? bytes : 1;
    void *at = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    HDL_ASSERT(at != MAP_FAILED);
    pthread_mutex_lock(&memory.lock);
    *r = (region){memory.regions, at, bytes};
    memory.regions = r;
    if (memory.n_open > 0)
        HDL_ASSERT(mprotect(at, bytes, PROT_READ | PROT_WRITE) == 0);
    pthread_mutex_unlock(&memory.lock);
    return at;
}

static void release(hdl_plugin_device *device, void *ptr)
{
    (void)device;
    if (!ptr)
        return;
    pthread_mutex_lock(&memory.lock);
    region **at = &memory.regions;
    while (*at && (*at)->at != ptr)
        at = &(*at)->next;
    region *r = *at;
    HDL_ASSERT(r != NULL);
    *at = r->next;
    pthread_mutex_unlock(&memory.lock);
    munmap(r->at, r->bytes);
    free(r);
}

static void *alloc_pinned(hdl_plugin_device *device, size_t bytes)
{
    (void)device;
    return calloc(1, bytes ? bytes : 1);
}

static void free_pinned(hdl_plugin_device *device, void *ptr)
{
    (void)device;
    free(ptr);
}

static hdl_err move(hdl_plugin_device *device, void *to, const void *from, size_t bytes)
{
    (void)device;
    if (bytes == 0)
        return HDL_OK;
    open_memory();
    memcpy(to, from, bytes);
    close_memory();
    return HDL_OK;
}

static hdl_err fill(hdl_plugin_device *device, uint32_t *to, uint32_t word, size_t count)
{
    (void)device;
    open_memory();
    for (size_t i = 0; i < count; i++)
        to[i] = word;
    close_memory();
    return HDL_OK;
}

/* ---- kernels ------------------------------------------------------------------------------ */

#define RUN_OPEN(op, args)                                                                         \
    static void run_##op(const args *a, hdl_stream *stream)                                        \
    {                                                                                              \
        open_memory();                                                                             \
        hdl_ops_ref()->op(a, stream);                                                              \
        close_memory();                                                                            \
    }
HDL_OP_LIST(RUN_OPEN)

static size_t weight_bytes(hdl_wformat format, uint32_t n, uint32_t k, uint32_t n_leaves)
{
    return hdl_ops_ref()->weight_bytes(format, n, k, n_leaves);
}

static void weight_pack(const hdl_pack_args *args)
{
    open_memory();
    hdl_ops_ref()->weight_pack(args);
    close_memory();
}

static size_t scratch_bytes(const hdl_ops_extent *extent)
{
    return hdl_ops_ref()->scratch_bytes(extent);
}

#define NAME_OPEN(op, args) .op = run_##op,
static const hdl_ops ops = {.name = "ref behind a wall",
                            .limits = HDL_LIMITS_CPU,
                            HDL_OP_LIST(NAME_OPEN).weight_bytes = weight_bytes,
                            .weight_pack = weight_pack,
                            .scratch_bytes = scratch_bytes};

/* ---- devices ------------------------------------------------------------------------------ */

static hdl_err probe(uint32_t index, hdl_errmsg *why)
{
    if (index == 0)
        return HDL_OK;
    return hdl_fail(HDL_UNSUPPORTED, why, "there is no device %u; there is one; say 0", index);
}

static void close_device(hdl_plugin_device *device)
{
    hdl_device_close(device->cpu);
    free(device);
}

static hdl_err open_device(hdl_plugin_device **out, const hdl_plugin_opts *opts, hdl_errmsg *why)
{
    hdl_plugin_device *device = calloc(1, sizeof *device);
    const hdl_cpu_device_opts cpu = {
        .n_threads = 1, .isa = HDL_ISA_REF, .scratch_bytes = opts->scratch_bytes};
    HDL_ASSERT(device != NULL);
    hdl_err err = hdl_device_open_cpu(&device->cpu, &cpu, why);
    *out = err == HDL_OK ? device : NULL;
    if (err != HDL_OK)
        free(device);
    return err;
}

static hdl_err info(hdl_plugin_device *device, hdl_plugin_info *out)
{
    (void)device;
    *out = (hdl_plugin_info){.n_sms = 1, .memory_bytes = 1 << 28, .memory_free = 1 << 26};
    snprintf(out->name, sizeof out->name, "%s", ops.name);
    return HDL_OK;
}

static hdl_stream *stream(hdl_plugin_device *device) { return hdl_device_stream(device->cpu); }

static hdl_err plan(hdl_plugin_device *device, const hdl_weight *w, uint32_t n_tokens)
{
    (void)device;
    (void)w;
    (void)n_tokens;
    return HDL_OK;
}

static hdl_err sync_device(hdl_plugin_device *device)
{
    (void)device;
    return HDL_OK;
}

static hdl_plugin_event *event_new(hdl_plugin_device *device)
{
    hdl_plugin_event *event = malloc(sizeof *event);
    if (event)
        event->device = device;
    return event;
}

static void event_free(hdl_plugin_event *event) { free(event); }

static hdl_err event_now(hdl_plugin_event *event)
{
    (void)event;
    return HDL_OK;
}

static bool event_is_done(hdl_plugin_event *event)
{
    (void)event;
    return true;
}

const hdl_plugin *rig_plugin(void)
{
    static const hdl_plugin plugin = {
        .abi = HDL_PLUGIN_ABI,
        .bytes = sizeof(hdl_plugin),
        .name = "walled",
        .ops = &ops,
        .probe = probe,
        .open = open_device,
        .close = close_device,
        .info = info,
        .stream = stream,
        .plan = plan,
        .alloc = alloc,
        .free = release,
        .alloc_pinned = alloc_pinned,
        .free_pinned = free_pinned,
        .write = move,
        .read = move,
        .copy = move,
        .fill = fill,
        .sync = sync_device,
        .event_new = event_new,
        .event_free = event_free,
        .event_record = event_now,
        .event_wait = event_now,
        .event_done = event_is_done,
    };
    return &plugin;
}
