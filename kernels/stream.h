/* SPDX-License-Identifier: Apache-2.0 */
/* The CPU stream as kernels see it: a thread team and a scratch arena of fixed size.
 *
 * Owner: the step thread, which is the team's thread 0. Kernels take scratch on thread 0 before
 * they start the team and give it back when they return; nothing here allocates or enters the
 * kernel. Running out of scratch is a wrong bound of ours and asserts. */
#pragma once

#include <heddle/device.h>
#include <stdatomic.h>

#include "base/arena.h"
#include "base/team.h"

enum {
    HDL_STREAM_THREAD_BYTES = 704 * 1024, /* private scratch of each thread (attention tiles) */
    HDL_STREAM_ALIGN = 64,
};

struct hdl_stream {
    hdl_team *team; /* owned by the device */
    uint32_t n_threads;
    hdl_arena scratch;
    unsigned char *thread_mem;            /* [n_threads, HDL_STREAM_THREAD_BYTES] */
    _Alignas(64) _Atomic uint32_t ticket; /* next item of a run that is balanced dynamically */
};

/* Scratch on thread 0, 64-byte aligned, uninitialised. */
void *hdl_stream_take(hdl_stream *stream, size_t count, size_t item_bytes);

static inline size_t hdl_stream_mark(const hdl_stream *stream)
{
    return hdl_arena_mark(&stream->scratch);
}

static inline void hdl_stream_release(hdl_stream *stream, size_t mark)
{
    hdl_arena_rewind(&stream->scratch, mark);
}

static inline void *hdl_stream_thread_mem(const hdl_stream *stream, int thread)
{
    return stream->thread_mem + (size_t)thread * HDL_STREAM_THREAD_BYTES;
}

/* Calls fn for disjoint ranges that cover [0, total), in parallel. A range is a multiple of
 * `grain` items, except the last; work of one grain or less stays on the calling thread. */
typedef void hdl_range_fn(const void *args, size_t from, size_t to);
void hdl_stream_for(hdl_stream *stream, size_t total, size_t grain, hdl_range_fn *fn,
                    const void *args);
