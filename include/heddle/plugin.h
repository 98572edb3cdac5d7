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

#include <heddle/coll.h>
#include <heddle/ops.h>

/* Raised whenever this file or ops.h changes in what a compiled caller sees. */
enum { HDL_PLUGIN_ABI = 10 };

typedef struct hdl_plugin_device hdl_plugin_device;
typedef struct hdl_plugin_event hdl_plugin_event;
typedef struct hdl_plugin_graph hdl_plugin_graph;

typedef struct hdl_plugin_opts {
    uint32_t index;       /* of the GPU, among those that the process sees */
    size_t scratch_bytes; /* of the stream; from ops->scratch_bytes */
    bool fast;            /* numerics: fast (DESIGN 6): sums in an order that nobody promises */
    uint32_t order; /* fiber: 0 threads and blocks in order, 1 backwards, else shuffled by it */
} hdl_plugin_opts;

typedef struct hdl_plugin_info {
    char name[96];         /* "NVIDIA H200" */
    char bus_id[16];       /* "0000:3b:00.0", by which NVML knows it; "" on fibers */
    uint32_t major, minor; /* compute capability; 0.0: fibers */
    uint32_t n_sms;        /* multiprocessors */
    uint64_t memory_bytes, memory_free;
    char fast_by[64]; /* who multiplies in `fast`, or that nobody does and why; "": exact */
} hdl_plugin_info;

/* Collectives between devices (NCCL), over device memory and in order with the ops of the stream.
 * Beside them the ranks keep a communicator of hosts (coll.h): it carries the id, agrees on errors,
 * and whoever loses a peer there aborts here. All ranks make the same calls in the same order.
 * Owner: the step thread; abort may be called by any. */
typedef struct hdl_plugin_coll hdl_plugin_coll;
enum { HDL_PLUGIN_COLL_ID_BYTES = 128 };
typedef struct hdl_plugin_coll_opts {
    const uint8_t *id;               /* [HDL_PLUGIN_COLL_ID_BYTES] of make_id on one rank */
    uint32_t rank, n_ranks;          /* a power of two */
    uint64_t timeout_us;             /* of opening and splitting */
    const volatile uint32_t *cancel; /* opening gives up when it turns non-zero */
} hdl_plugin_coll_opts;
typedef struct hdl_plugin_colls {
    bool within_process; /* ranks have to be threads of one process (fibers, for tests): used only
                            where it is asked for */
    /* UNSUPPORTED with the reason where there is no library for it. */
    hdl_err (*make_id)(uint8_t id[HDL_PLUGIN_COLL_ID_BYTES], hdl_errmsg *why);
    hdl_err (*open)(hdl_plugin_coll **out, hdl_plugin_device *device,
                    const hdl_plugin_coll_opts *opts, hdl_errmsg *why);
    /* Ranks {base + i * stride, i < n} of the parent, of which the caller is one. */
    hdl_err (*split)(hdl_plugin_coll **out, hdl_plugin_coll *parent, uint32_t base, uint32_t stride,
                     uint32_t n);
    void (*close)(hdl_plugin_coll *coll); /* parts before their parent; NULL is fine */
    /* What is on its way ends, here and in all parts; every later call is CANCELLED. */
    void (*abort)(hdl_plugin_coll *coll);
    /* As in coll.h: the balanced tree in rank order, the same bits on every rank. */
    hdl_err (*all_reduce)(hdl_plugin_coll *coll, float *buf, size_t n);
    /* out [size, bytes]; the caller's part stands in it already. */
    hdl_err (*all_gather)(hdl_plugin_coll *coll, void *out, size_t bytes);
    /* in_at, in_bytes by destination, out_at, out_bytes by source, as in coll.h. */
    hdl_err (*all_to_all_v)(hdl_plugin_coll *coll, const hdl_a2a_args *args);
    hdl_err (*send)(hdl_plugin_coll *coll, const void *buf, size_t bytes, uint32_t to);
    hdl_err (*recv)(hdl_plugin_coll *coll, void *buf, size_t bytes, uint32_t from);
} hdl_plugin_colls;

/* What the device does at its best at this moment: the roofs that bench/ measures against. Calls
 * launch, in order of the stream; the first one of a kind takes memory and tries what is quickest.
 * Owner: the step thread. */
typedef struct hdl_plugin_roof hdl_plugin_roof;
typedef enum hdl_plugin_arith { HDL_PLUGIN_BF16, HDL_PLUGIN_INT8 } hdl_plugin_arith;
typedef struct hdl_plugin_roofs {
    hdl_err (*open)(hdl_plugin_roof **out, hdl_plugin_device *device, hdl_errmsg *why);
    void (*close)(hdl_plugin_roof *roof); /* before the device; NULL is fine */
    /* Reads device memory once: 16-byte loads on all multiprocessors. bytes: a multiple of 16. */
    hdl_err (*read)(hdl_plugin_roof *roof, const void *from, size_t bytes);
    /* Products with sums in f32 or int32: *flop operations, *by whom ("cuBLASLt", or "mma.sync"
     * from registers where that library is missing). */
    hdl_err (*matmul)(hdl_plugin_roof *roof, hdl_plugin_arith arith, double *flop, const char **by);
} hdl_plugin_roofs;

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

    /* In `fast`: chooses how products of this matrix with up to n_tokens rows run; steps choose
     * nothing. Once a matrix lies on the device, or after. Cold. */
    hdl_err (*plan)(hdl_plugin_device *device, const hdl_weight *w, uint32_t n_tokens);

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
    /* For measurements: an event that knows its time, and the time between two that were reached.
     */
    hdl_plugin_event *(*event_new_timed)(hdl_plugin_device *device);
    hdl_err (*event_elapsed)(hdl_plugin_event *from, hdl_plugin_event *to, double *us);
    /* Would wait return at once? */
    bool (*event_done)(hdl_plugin_event *event);

    /* Work recorded once and given to the device again and again as one launch. Between begin and
     * end ops, fills, copies on the device and collectives are noted and not run; nothing else is
     * asked of the device. Ops that never ran before may fail there: run them once first. end
     * without success has recorded nothing, and harmed nothing. Cold but for graph_run. All are
     * NULL where there are no graphs. */
    hdl_err (*graph_begin)(hdl_plugin_device *device);
    hdl_err (*graph_end)(hdl_plugin_device *device, hdl_plugin_graph **out);
    hdl_err (*graph_run)(hdl_plugin_graph *graph);
    void (*graph_free)(hdl_plugin_graph *graph);

    const hdl_plugin_colls *colls; /* NULL: none */
    const hdl_plugin_roofs *roofs;
} hdl_plugin;

/* What the library exports under this name. NULL: it was built for another ABI. */
typedef const hdl_plugin *hdl_plugin_get_fn(uint32_t abi);
#define HDL_PLUGIN_SYMBOL "hdl_plugin_get"
