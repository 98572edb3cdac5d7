/* SPDX-License-Identifier: Apache-2.0 */
/* A device: memory and a stream for ops. One per worker process, owned by its step thread.
 *
 * CPU: memory is huge-page-friendly host memory, the stream is a thread team (pinned, spinning
 * while hot) with a scratch arena. Plugin (CUDA): memory is the device's, which the host reaches
 * through hdl_device_write and its like alone, and ops are in flight when they return; the host's
 * team is there, too, for loading and sampling. All memory is taken at load; nothing here allocates
 * after READY. */
#pragma once

#include <heddle/ops.h>
#include <heddle/plugin.h>

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

/* Loads a plugin for good. HDL_UNSUPPORTED with `no CUDA backend: ...` when there is none, or one
 * of another build. path: the library; NULL or "": libheddle_cuda.so beside the program or in
 * ../lib/heddle from there. Cold; any thread. */
hdl_err hdl_plugin_load(const hdl_plugin **out, const char *path, hdl_errmsg *why) HDL_MUST_CHECK;

typedef struct hdl_plugin_device_opts {
    const hdl_plugin *plugin;
    hdl_plugin_opts device;
    hdl_cpu_device_opts host; /* the team; its isa and scratch are not used */
} hdl_plugin_device_opts;
hdl_err hdl_device_open_plugin(hdl_device **out, const hdl_plugin_device_opts *opts,
                               hdl_errmsg *why) HDL_MUST_CHECK;

const hdl_ops *hdl_device_ops(const hdl_device *device);
/* For ops. */
hdl_stream *hdl_device_stream(hdl_device *device);
/* For hdl_stream_run; of the CPU it is the same. */
hdl_stream *hdl_device_host(hdl_device *device);
/* May the host touch what hdl_device_alloc gives? */
bool hdl_device_is_host(const hdl_device *device);

/* Its plugin's collectives, or NULL, and what they take. */
const hdl_plugin_colls *hdl_device_colls(const hdl_device *device);
hdl_plugin_device *hdl_device_remote(hdl_device *device);
/* Its plugin; NULL: the CPU. */
const hdl_plugin *hdl_device_plugin(const hdl_device *device);

/* Bytes that hdl_device_alloc could still give; 0: of the host's memory nobody says. */
uint64_t hdl_device_memory_free(hdl_device *device);

/* 64-byte aligned, zeroed, NULL when the machine has no room. Freed with the device or one by one.
 * Cold. */
void *hdl_device_alloc(hdl_device *device, size_t bytes);
void hdl_device_free(hdl_device *device, void *ptr, size_t bytes);

/* Host memory that the device copies from and to quickly; zeroed, NULL without room. Cold. */
void *hdl_device_alloc_pinned(hdl_device *device, size_t bytes);
void hdl_device_free_pinned(hdl_device *device, void *ptr, size_t bytes);

/* In order with the ops of the stream. write and read: between the host and the device; what is
 * pinned may be changed or read after the next sync only. copy: on the device. fill: words of one
 * value. On the CPU all are plain copies, done when they return. */
hdl_err hdl_device_write(hdl_device *device, void *to, const void *from,
                         size_t bytes) HDL_MUST_CHECK;
hdl_err hdl_device_read(hdl_device *device, void *to, const void *from,
                        size_t bytes) HDL_MUST_CHECK;
hdl_err hdl_device_copy(hdl_device *device, void *to, const void *from,
                        size_t bytes) HDL_MUST_CHECK;
hdl_err hdl_device_fill(hdl_device *device, uint32_t *to, uint32_t word,
                        size_t count) HDL_MUST_CHECK;
/* Waits for all of it; tells of errors in ops, too. */
hdl_err hdl_device_sync(hdl_device *device) HDL_MUST_CHECK;

/* Runs fn(arg, thread, n_threads) on all threads of the stream and waits (loading, sampling,
 * tests). */
void hdl_stream_run(hdl_stream *stream, void (*fn)(void *arg, uint32_t thread, uint32_t n_threads),
                    void *arg);

/* Lets the stream's threads sleep until the next op (an idle worker burns nothing). */
void hdl_device_park(hdl_device *device);
