/* SPDX-License-Identifier: Apache-2.0 */
/* A device: memory and a stream for ops. One per worker process, owned by its step thread.
 *
 * CPU: memory is huge-page-friendly host memory, the stream is a thread team (pinned, spinning
 * while hot) with a scratch arena. All memory is taken at load; nothing here allocates after READY.
 */
#pragma once

#include <heddle/ops.h>

typedef struct hdl_device hdl_device;

typedef struct hdl_cpu_device_opts {
    uint32_t n_threads; /* >= 1; the calling thread is the first of them */
    const int
        *cpus; /* [n_cpus] logical CPUs to pin to, thread i to cpus[i % n_cpus]; NULL: not pinned */
    uint32_t n_cpus;
    hdl_isa isa;
    size_t scratch_bytes; /* of the stream; from ops->scratch_bytes */
} hdl_cpu_device_opts;

hdl_err hdl_device_open_cpu(hdl_device **out, const hdl_cpu_device_opts *opts,
                            hdl_errmsg *why) HDL_MUST_CHECK;
void hdl_device_close(hdl_device *device);

const hdl_ops *hdl_device_ops(const hdl_device *device);
hdl_stream *hdl_device_stream(hdl_device *device);

/* 64-byte aligned, zeroed, NULL when the machine has no room. Freed with the device or one by one.
 * Cold. */
void *hdl_device_alloc(hdl_device *device, size_t bytes);
void hdl_device_free(hdl_device *device, void *ptr, size_t bytes);

/* Runs fn(arg, thread, n_threads) on all threads of the stream and waits (loading, sampling,
 * tests). */
void hdl_stream_run(hdl_stream *stream, void (*fn)(void *arg, uint32_t thread, uint32_t n_threads),
                    void *arg);

/* Lets the stream's threads sleep until the next op (an idle worker burns nothing). */
void hdl_device_park(hdl_device *device);
