/* SPDX-License-Identifier: Apache-2.0 */
/* The table through which a worker drives a device that lies in a library of its own: the CUDA
 * plugin (libheddle_cuda.so), and the fiber plugin, which runs the same kernels on the host for
 * tests (libheddle_fiber.so). One symbol is exported, hdl_plugin_get.
 *
 * Device memory is not host memory: whoever is not a kernel reads and writes it through this table
 * alone. Everything but `alloc` and its like is in order of the device's one stream; a function
 * returns before the device is done unless it says otherwise. Errors are sticky: after the first
 * one every call returns it, and the worker ends. One device per process. Owner: the step thread;
 * weight_pack and write may be called by loader threads. */
#pragma once

#include <heddle/ops.h>

/* Raised whenever this file or ops.h changes in what a compiled caller sees. */
enum { HDL_PLUGIN_ABI = 1 };

typedef struct hdl_plugin_device hdl_plugin_device;
typedef struct hdl_plugin_event hdl_plugin_event;

typedef struct hdl_plugin_opts {
    uint32_t index;       /* of the GPU, among those that the process sees */
    size_t scratch_bytes; /* of the stream; from ops->scratch_bytes */
    uint32_t order; /* fiber: 0 threads and blocks in order, 1 backwards, else shuffled by it */
} hdl_plugin_opts;

typedef struct hdl_plugin_info {
    char name[96];         /* "NVIDIA H200" */
    uint32_t major, minor; /* compute capability; 0.0: fibers */
    uint32_t n_sms;        /* multiprocessors */
    uint64_t memory_bytes, memory_free;
} hdl_plugin_info;

typedef struct hdl_plugin {
    uint32_t abi;       /* HDL_PLUGIN_ABI of the plugin's build */
    uint32_t bytes;     /* sizeof(hdl_plugin) there */
    const char *name;   /* "cuda", "fiber" */
    const hdl_ops *ops; /* ops are asynchronous; pointers in args are device memory but for weights
                           (hdl_weight structs are the host's, their data the device's) */

    /* HDL_UNSUPPORTED with the reason when there is no such device or no driver; takes nothing. */
    hdl_err (*probe)(uint32_t index, hdl_errmsg *why);
    hdl_err (*open)(hdl_plugin_device **out, const hdl_plugin_opts *opts, hdl_errmsg *why);
    void (*close)(hdl_plugin_device *device); /* frees all memory of it; NULL is fine */
    hdl_err (*info)(hdl_plugin_device *device, hdl_plugin_info *out);
    hdl_stream *(*stream)(hdl_plugin_device *device);

    /* Zeroed, 256-byte aligned; NULL without room. Cold. */
    void *(*alloc)(hdl_plugin_device *device, size_t bytes);
    void (*free)(hdl_plugin_device *device, void *ptr);
    /* Host memory that the device copies from and to at the link's speed. Cold. */
    void *(*alloc_pinned)(hdl_plugin_device *device, size_t bytes);
    void (*free_pinned)(hdl_plugin_device *device, void *ptr);

    /* Host to device. The source may be changed as soon as it returns, unless it is pinned: then
     * after the next sync or event. */
    hdl_err (*write)(hdl_plugin_device *device, void *to, const void *from, size_t bytes);
    /* Device to host. Pinned: valid after the next sync or event; else it waits. */
    hdl_err (*read)(hdl_plugin_device *device, void *to, const void *from, size_t bytes);
    /* Device to device. */
    hdl_err (*copy)(hdl_plugin_device *device, void *to, const void *from, size_t bytes);
    /* `count` words of this value. */
    hdl_err (*fill)(hdl_plugin_device *device, uint32_t *to, uint32_t word, size_t count);
    /* Waits until all that was asked for is done. */
    hdl_err (*sync)(hdl_plugin_device *device);

    /* A mark in the stream. record may be called again; wait returns when the last record was
     * reached. */
    hdl_plugin_event *(*event_new)(hdl_plugin_device *device);
    void (*event_free)(hdl_plugin_event *event);
    hdl_err (*event_record)(hdl_plugin_event *event);
    hdl_err (*event_wait)(hdl_plugin_event *event);
} hdl_plugin;

/* What the library exports under this name. NULL: it was built for another ABI. */
typedef const hdl_plugin *hdl_plugin_get_fn(uint32_t abi);
#define HDL_PLUGIN_SYMBOL "hdl_plugin_get"
