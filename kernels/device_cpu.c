/* SPDX-License-Identifier: Apache-2.0 */
/* The CPU device: anonymous mappings with huge pages advised, one stream.
 *
 * malloc was not taken for device memory: weights are streamed once per token, and with 4 KiB
 * pages the page walks alone cost a tenth of the bandwidth. Large blocks are therefore mapped at
 * 2 MiB boundaries and advised MADV_HUGEPAGE; without huge pages they still work. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/assert.h"
#include "base/checked.h"
#include "kernels/device_impl.h"

enum { HUGE_PAGE = 2 << 20, PAGE = 4096 };

/* One per allocation, so that close frees what was not freed one by one. */
typedef struct block {
    struct block *next;
    void *mem;
    size_t bytes;
} block;

static size_t mapped_bytes(size_t bytes)
{
    size_t align = bytes >= HUGE_PAGE ? HUGE_PAGE : PAGE, mapped;
    return hdl_align_up_size(bytes ? bytes : 1, align, &mapped) ? mapped : 0;
}

/* Zeroed, page aligned; 2 MiB aligned and advised when large. NULL without room. */
static void *map(size_t bytes)
{
    size_t mapped = mapped_bytes(bytes), reserve;
    if (mapped == 0)
        return NULL;
    size_t slack = bytes >= HUGE_PAGE ? HUGE_PAGE : 0;
    if (!hdl_add_size(mapped, slack, &reserve))
        return NULL;
    char *mem = mmap(NULL, reserve, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mem == MAP_FAILED)
        return NULL;
    if (slack == 0)
        return mem;
    size_t before = (size_t)(-(uintptr_t)mem & (HUGE_PAGE - 1));
    if (before > 0)
        munmap(mem, before);
    if (before < slack)
        munmap(mem + before + mapped, slack - before);
    madvise(mem + before, mapped, MADV_HUGEPAGE); /* advice: failure costs speed only */
    return mem + before;
}

static void unmap(void *mem, size_t bytes)
{
    if (mem)
        munmap(mem, mapped_bytes(bytes));
}

static hdl_err open_team(hdl_stream *stream, const hdl_cpu_device_opts *opts, hdl_errmsg *why)
{
    if (opts->n_threads == 0 || opts->n_threads > HDL_TEAM_THREADS_MAX)
        return hdl_fail(HDL_INVALID, why,
                        "cannot open the CPU device; %u threads were asked for; use 1 to %d",
                        opts->n_threads, HDL_TEAM_THREADS_MAX);
    int cpus[HDL_TEAM_THREADS_MAX];
    bool pinned = opts->cpus && opts->n_cpus > 0;
    for (uint32_t i = 0; pinned && i < opts->n_threads; i++)
        cpus[i] = opts->cpus[i % opts->n_cpus];
    hdl_team_opts team = {.n_threads = (int)opts->n_threads, .cpus = pinned ? cpus : NULL};
    HDL_TRY(hdl_team_open(&stream->team, &team, why));
    stream->n_threads = opts->n_threads;
    return HDL_OK;
}

hdl_err hdl_device_open_cpu(hdl_device **out, const hdl_cpu_device_opts *opts, hdl_errmsg *why)
{
    *out = NULL;
    const hdl_ops *ops = hdl_ops_cpu(opts->isa, why);
    if (!ops)
        return HDL_UNSUPPORTED;
    hdl_device *device = aligned_alloc(_Alignof(hdl_device), sizeof *device);
    if (!device)
        return hdl_fail(HDL_NOMEM, why, "cannot open the CPU device; out of memory");
    memset(device, 0, sizeof *device);
    device->ops = ops;
    hdl_err err;
    HDL_TRY_GOTO(open_team(&device->stream, opts, why), fail);

    device->scratch_bytes = opts->scratch_bytes;
    device->thread_bytes = (size_t)opts->n_threads * HDL_STREAM_THREAD_BYTES;
    unsigned char *scratch = map(device->scratch_bytes);
    device->stream.thread_mem = map(device->thread_bytes);
    hdl_arena_init(&device->stream.scratch, scratch, scratch ? opts->scratch_bytes : 0);
    if (!scratch || !device->stream.thread_mem) {
        err =
            hdl_fail(HDL_NOMEM, why,
                     "no memory for kernel scratch; %zu bytes are needed; lower sched.step_tokens "
                     "or give the worker more memory",
                     device->scratch_bytes + device->thread_bytes);
        goto fail;
    }
    *out = device;
    return HDL_OK;
fail:
    hdl_device_close(device);
    return err;
}

void hdl_device_close(hdl_device *device)
{
    if (!device)
        return;
    if (device->remote)
        device->plugin->close(device->remote);
    hdl_team_close(device->stream.team);
    while (device->blocks) {
        block *b = device->blocks;
        device->blocks = b->next;
        unmap(b->mem, b->bytes);
        free(b);
    }
    unmap(device->stream.scratch.base, device->scratch_bytes);
    unmap(device->stream.thread_mem, device->thread_bytes);
    free(device);
}

const hdl_ops *hdl_device_ops(const hdl_device *device) { return device->ops; }

hdl_stream *hdl_device_stream(hdl_device *device)
{
    return device->remote ? device->plugin->stream(device->remote) : &device->stream;
}

hdl_stream *hdl_device_host(hdl_device *device) { return &device->stream; }

bool hdl_device_is_host(const hdl_device *device) { return device->remote == NULL; }

void *hdl_device_alloc(hdl_device *device, size_t bytes)
{
    if (device->remote)
        return device->plugin->alloc(device->remote, bytes);
    block *b = malloc(sizeof *b);
    void *mem = b ? map(bytes) : NULL;
    if (!mem) {
        free(b);
        return NULL;
    }
    *b = (block){.next = device->blocks, .mem = mem, .bytes = bytes};
    device->blocks = b;
    return mem;
}

void hdl_device_free(hdl_device *device, void *ptr, size_t bytes)
{
    if (!ptr)
        return;
    if (device->remote) {
        device->plugin->free(device->remote, ptr);
        return;
    }
    block **at = &device->blocks;
    while (*at && (*at)->mem != ptr)
        at = &(*at)->next;
    HDL_ASSERT(*at != NULL); /* not of this device, or freed before */
    block *b = *at;
    HDL_ASSERT_EQ(b->bytes, bytes);
    *at = b->next;
    unmap(b->mem, b->bytes);
    free(b);
}

void hdl_device_park(hdl_device *device) { hdl_team_park(device->stream.team); }
