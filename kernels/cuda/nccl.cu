/* SPDX-License-Identifier: Apache-2.0 */
/* Collectives between devices: the balanced tree of the numerics contract (N2) over what NCCL
 * moves. NCCL's own reductions are not used: their order hangs on rings, trees and sizes.
 *
 * all_reduce: up to SMALL floats every rank gathers all and adds all; above, rank r gets
 * everybody's r-th share, adds it, and gathers the sums, a piece of the buffer at a time. Roof: the
 * link, twice the bytes less one rank's part; small ones: latency. The sum is a kernel of its own:
 * memory, size + 1 times the bytes.
 *
 * Communicators do not block (config.blocking 0): a call that is on its way is asked for until it
 * is settled, with the abort flag and, while opening, a deadline watched. A lost peer is noticed by
 * the hosts' communicator and the control plane; their abort ends the kernels here (ncclCommAbort),
 * and with them the wait for the stream. */
#include <pthread.h>
#include <time.h>

#include "kernels/cuda/nccl_api.h"

extern "C" {
#include "base/clock.h"
}

enum { SMALL = 16384, PIECE = 1 << 20, WAIT_NS = 100000, PART_US = 2000000 };

#ifndef HDL_NO_NCCL

struct hdl_plugin_coll {
    const nccl_calls *nccl;
    hdl_plugin_device *device;
    hdl_stream *stream;
    hdl_plugin_coll *root, *next_part; /* parts of a root, so that its abort reaches them */
    pthread_mutex_t lock;              /* of the root: no call beside an abort */
    bool aborted;                      /* of the root, under its lock */
    ncclComm_t comm;                   /* NULL once aborted */
    uint32_t rank, size;
    uint64_t timeout_us;
    const volatile uint32_t *cancel;
    float *part; /* owned, of the device [PIECE]: what is added */
};

/* sum[i] = ((r0 + r1) + (r2 + r3)) + ... of in[r * stride + i]. */
GPU_KERNEL(256) tree_sum(const float *in, size_t stride, uint32_t size, float *sum, size_t n)
{
    for (size_t i = gpu_index(); i < n; i += gpu_indices()) {
        hdl_leaf_tree tree = {};
        for (uint32_t r = 0; r < size; r++)
            hdl_leaf_push(&tree, in[r * stride + i]);
        sum[i] = tree.open[0];
    }
}

static void pause_briefly()
{
    struct timespec t = {0, WAIT_NS};
    nanosleep(&t, NULL);
}

static bool cancelled(const hdl_plugin_coll *c) { return c->cancel && *c->cancel; }

/* Until what was asked of the communicator is under way. Under the root's lock; gives it up between
 * looks, so that an abort gets through. */
static hdl_err settle(hdl_plugin_coll *c, ncclResult_t result, uint64_t deadline_us)
{
    hdl_plugin_coll *root = c->root;
    while (result == ncclInProgress) {
        pthread_mutex_unlock(&root->lock);
        pause_briefly();
        pthread_mutex_lock(&root->lock);
        if (root->aborted || cancelled(root))
            return HDL_CANCELLED;
        if (deadline_us != 0 && hdl_clock_now_us() > deadline_us)
            return HDL_TIMEOUT;
        if (c->nccl->ncclCommGetAsyncError(c->comm, &result) != ncclSuccess)
            return HDL_PEER;
    }
    if (result == ncclSuccess)
        return HDL_OK;
    fprintf(stderr, "nccl: %s\n", c->nccl->ncclGetErrorString(result));
    return HDL_PEER;
}

/* ---- opening ------------------------------------------------------------------------------- */

static hdl_err make_id(uint8_t id[HDL_PLUGIN_COLL_ID_BYTES], hdl_errmsg *why)
{
    static_assert(sizeof(ncclUniqueId) == HDL_PLUGIN_COLL_ID_BYTES, "as NCCL has it");
    const nccl_calls *nccl = nccl_find(why);
    ncclUniqueId made;
    if (!nccl)
        return HDL_UNSUPPORTED;
    ncclResult_t result = nccl->ncclGetUniqueId(&made);
    if (result != ncclSuccess)
        return hdl_fail(HDL_UNSUPPORTED, why,
                        "NCCL makes no id; %s; look at NCCL_DEBUG=INFO, or say worker.collectives "
                        "shm",
                        nccl->ncclGetErrorString(result));
    memcpy(id, &made, sizeof made);
    return HDL_OK;
}

/* What peers still read from here has to reach them: an abort might break it off. */
static void part_in_peace(hdl_plugin_coll *c)
{
    pthread_mutex_lock(&c->root->lock);
    hdl_err err = c->root->aborted || !c->comm ? HDL_CANCELLED : HDL_OK;
    if (err == HDL_OK)
        err = settle(c, c->nccl->ncclCommFinalize(c->comm), hdl_clock_now_us() + PART_US);
    if (err == HDL_OK && c->comm) {
        (void)c->nccl->ncclCommDestroy(c->comm);
        c->comm = NULL;
    }
    pthread_mutex_unlock(&c->root->lock);
}

static void destroy(hdl_plugin_coll *c)
{
    if (c->comm)
        (void)c->nccl->ncclCommAbort(c->comm);
    if (c->part)
        hdl_cuda_device_layer.free(c->device, c->part);
    if (c->root == c)
        pthread_mutex_destroy(&c->lock);
    free(c);
}

static hdl_plugin_coll *make(hdl_plugin_device *device, uint64_t timeout_us)
{
    hdl_plugin_coll *c = (hdl_plugin_coll *)calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->device = device;
    c->stream = hdl_cuda_device_layer.stream(device);
    c->timeout_us = timeout_us;
    c->part = (float *)hdl_cuda_device_layer.alloc(device, PIECE * sizeof(float));
    if (c->part)
        return c;
    free(c);
    return NULL;
}

static hdl_err open_coll(hdl_plugin_coll **out, hdl_plugin_device *device,
                         const hdl_plugin_coll_opts *opts, hdl_errmsg *why)
{
    *out = NULL;
    const nccl_calls *nccl = nccl_find(why);
    if (nccl && opts->n_ranks > HDL_LEAVES_MAX)
        return hdl_fail(HDL_UNSUPPORTED, why,
                        "%u ranks are more than a sum has leaves; collectives between devices take "
                        "%d; say worker.collectives shm",
                        opts->n_ranks, HDL_LEAVES_MAX);
    hdl_plugin_coll *c = nccl ? make(device, opts->timeout_us) : NULL;
    if (!c)
        return nccl ? hdl_fail(HDL_NOMEM, why,
                               "no memory for collectives; the device is full; lower --kv-bytes")
                    : HDL_UNSUPPORTED;
    ncclUniqueId id;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    memcpy(&id, opts->id, sizeof id);
    config.blocking = 0;
    c->nccl = nccl;
    c->root = c;
    c->rank = opts->rank;
    c->size = opts->n_ranks;
    c->cancel = opts->cancel;
    pthread_mutex_init(&c->lock, NULL);
    pthread_mutex_lock(&c->lock);
    ncclResult_t result =
        nccl->ncclCommInitRankConfig(&c->comm, (int)c->size, id, (int)c->rank, &config);
    hdl_err err = settle(c, result, hdl_clock_now_us() + opts->timeout_us);
    c->cancel = NULL;
    pthread_mutex_unlock(&c->lock);
    if (err == HDL_OK) {
        *out = c;
        return HDL_OK;
    }
    destroy(c);
    return hdl_fail(err == HDL_PEER ? HDL_UNSUPPORTED : err, why,
                    "NCCL does not connect the ranks; %s; look at NCCL_DEBUG=INFO, or say "
                    "worker.collectives shm",
                    hdl_err_text(err));
}

static hdl_err split(hdl_plugin_coll **out, hdl_plugin_coll *parent, uint32_t base, uint32_t stride,
                     uint32_t n)
{
    hdl_plugin_coll *root = parent->root, *c = make(parent->device, parent->timeout_us);
    *out = NULL;
    if (!c)
        return HDL_NOMEM;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    c->nccl = parent->nccl;
    c->root = root;
    c->size = n;
    c->rank = (parent->rank - base) / stride;
    pthread_mutex_lock(&root->lock);
    hdl_err err = root->aborted ? HDL_CANCELLED : HDL_OK;
    if (err == HDL_OK) { /* parts are disjoint: the first rank of each names it */
        ncclResult_t result =
            parent->nccl->ncclCommSplit(parent->comm, (int)base, (int)c->rank, &c->comm, &config);
        uint64_t deadline_us = hdl_clock_now_us() + parent->timeout_us;
        err = settle(parent, result, deadline_us);
        if (err == HDL_OK)
            err = settle(c, ncclInProgress, deadline_us);
    }
    if (err == HDL_OK) {
        c->next_part = root->next_part;
        root->next_part = c;
        *out = c;
    }
    pthread_mutex_unlock(&root->lock);
    if (err != HDL_OK)
        destroy(c);
    return err;
}

static void close_coll(hdl_plugin_coll *c)
{
    if (!c)
        return;
    hdl_plugin_coll *root = c->root;
    part_in_peace(c);
    if (root != c) {
        pthread_mutex_lock(&root->lock);
        hdl_plugin_coll **at = &root->next_part;
        while (*at != c)
            at = &(*at)->next_part;
        *at = c->next_part;
        pthread_mutex_unlock(&root->lock);
    }
    destroy(c);
}

static void abort_coll(hdl_plugin_coll *c)
{
    hdl_plugin_coll *root = c->root;
    pthread_mutex_lock(&root->lock);
    root->aborted = true;
    for (hdl_plugin_coll *part = root; part; part = part->next_part) {
        if (part->comm)
            (void)part->nccl->ncclCommAbort(part->comm);
        part->comm = NULL;
    }
    pthread_mutex_unlock(&root->lock);
}

/* ---- calls --------------------------------------------------------------------------------- */

/* A call enters under the lock, and leaves when NCCL has taken it. */
static hdl_err enter(hdl_plugin_coll *c)
{
    pthread_mutex_lock(&c->root->lock);
    return c->root->aborted ? HDL_CANCELLED : c->stream->err;
}

static hdl_err leave(hdl_plugin_coll *c, hdl_err err, ncclResult_t result)
{
    if (err == HDL_OK)
        err = settle(c, result, 0);
    pthread_mutex_unlock(&c->root->lock);
    return err;
}

static hdl_err gather(hdl_plugin_coll *c, const void *in, void *out, size_t bytes)
{
    hdl_err err = enter(c);
    ncclResult_t result = ncclSuccess;
    if (err == HDL_OK)
        result = c->nccl->ncclAllGather(in, out, bytes, ncclInt8, c->comm,
                                        (cudaStream_t)c->stream->queue);
    return leave(c, err, result);
}

static hdl_err all_gather(hdl_plugin_coll *c, void *out, size_t bytes)
{
    return gather(c, (char *)out + c->rank * bytes, out, bytes);
}

static hdl_err copy(hdl_plugin_coll *c, void *to, const void *from, size_t bytes)
{
    return hdl_cuda_device_layer.copy(c->device, to, from, bytes);
}

static hdl_err all_to_all_v(hdl_plugin_coll *c, const hdl_a2a_args *a)
{
    cudaStream_t queue = (cudaStream_t)c->stream->queue;
    const nccl_calls *nccl = c->nccl;
    HDL_TRY(copy(c, (char *)a->out + a->out_at[c->rank], (const char *)a->in + a->in_at[c->rank],
                 a->in_bytes[c->rank]));
    hdl_err err = enter(c);
    ncclResult_t result = err == HDL_OK ? nccl->ncclGroupStart() : ncclSuccess;
    for (uint32_t r = 0; err == HDL_OK && r < c->size; r++) {
        if (r == c->rank)
            continue;
        if (a->in_bytes[r] > 0)
            (void)nccl->ncclSend((const char *)a->in + a->in_at[r], a->in_bytes[r], ncclInt8,
                                 (int)r, c->comm, queue);
        if (a->out_bytes[r] > 0)
            (void)nccl->ncclRecv((char *)a->out + a->out_at[r], a->out_bytes[r], ncclInt8, (int)r,
                                 c->comm, queue);
    }
    if (err == HDL_OK) /* the group's end tells what was wrong with any of them */
        result = nccl->ncclGroupEnd();
    return leave(c, err, result);
}

static hdl_err send_to(hdl_plugin_coll *c, const void *buf, size_t bytes, uint32_t to)
{
    hdl_err err = enter(c);
    ncclResult_t result = ncclSuccess;
    if (err == HDL_OK)
        result = c->nccl->ncclSend(buf, bytes, ncclInt8, (int)to, c->comm,
                                   (cudaStream_t)c->stream->queue);
    return leave(c, err, result);
}

static hdl_err recv_from(hdl_plugin_coll *c, void *buf, size_t bytes, uint32_t from)
{
    hdl_err err = enter(c);
    ncclResult_t result = ncclSuccess;
    if (err == HDL_OK)
        result = c->nccl->ncclRecv(buf, bytes, ncclInt8, (int)from, c->comm,
                                   (cudaStream_t)c->stream->queue);
    return leave(c, err, result);
}

static hdl_err add_up(hdl_plugin_coll *c, float *sum, size_t stride, size_t n)
{
    GPU_LAUNCH(c->stream, gpu_grid_for(n), tree_sum, (const float *)c->part, stride, c->size, sum,
               n);
    return c->stream->err;
}

/* n floats of all ranks fit into part. */
static hdl_err reduce_small(hdl_plugin_coll *c, float *buf, size_t n)
{
    HDL_TRY(gather(c, buf, c->part, n * sizeof *buf));
    return add_up(c, buf, n, n);
}

/* n <= PIECE, a multiple of size: rank r adds the r-th share. */
static hdl_err reduce_shares(hdl_plugin_coll *c, float *buf, size_t n)
{
    size_t share = n / c->size, bytes = share * sizeof *buf;
    size_t in_at[HDL_LEAVES_MAX], out_at[HDL_LEAVES_MAX], each[HDL_LEAVES_MAX];
    for (uint32_t r = 0; r < c->size; r++) {
        in_at[r] = out_at[r] = r * bytes;
        each[r] = bytes;
    }
    hdl_a2a_args args = {buf, in_at, each, c->part, out_at, each};
    HDL_TRY(all_to_all_v(c, &args));
    HDL_TRY(add_up(c, buf + c->rank * share, share, share));
    return all_gather(c, buf, bytes);
}

static hdl_err all_reduce(hdl_plugin_coll *c, float *buf, size_t n)
{
    static_assert((size_t)SMALL * HDL_LEAVES_MAX <= PIECE, "small ones fit into part");
    for (size_t at = 0, piece; at < n; at += piece) {
        piece = n - at < (size_t)PIECE ? n - at : (size_t)PIECE;
        if (piece > SMALL)
            piece = piece / c->size * c->size;
        HDL_TRY(piece > SMALL ? reduce_shares(c, buf + at, piece)
                              : reduce_small(c, buf + at, piece));
    }
    return HDL_OK;
}

#ifdef __CUDACC__
#define WITHIN_PROCESS false
#else
#define WITHIN_PROCESS true
#endif
static const hdl_plugin_colls table = {WITHIN_PROCESS, make_id,    open_coll,  split,
                                       close_coll,     abort_coll, all_reduce, all_gather,
                                       all_to_all_v,   send_to,    recv_from};
const hdl_plugin_colls *const hdl_cuda_colls = &table;

#else
const hdl_plugin_colls *const hdl_cuda_colls = NULL; /* built without NCCL's header */
#endif

/* ---- where NCCL is ------------------------------------------------------------------------- */

#if defined(__CUDACC__) && !defined(HDL_NO_NCCL)
#include <dlfcn.h>

const nccl_calls *nccl_find(hdl_errmsg *why)
{
    static nccl_calls calls;
    static bool found;
    if (found)
        return &calls;
    void *library = dlopen("libnccl.so.2", RTLD_NOW | RTLD_GLOBAL);
    const char *missing = library ? NULL : "libnccl.so.2";
#define NCCL_FIND(call)                                                                            \
    if (!missing) {                                                                                \
        calls.call = (decltype(calls.call))dlsym(library, #call);                                  \
        missing = calls.call ? NULL : #call;                                                       \
    }
    NCCL_CALLS(NCCL_FIND)
#undef NCCL_FIND
    if (missing) {
        (void)hdl_fail(HDL_UNSUPPORTED, why,
                       "there is no NCCL for collectives between GPUs; %s is not found; install "
                       "NCCL 2.19 or later, or say worker.collectives shm",
                       missing);
        return NULL;
    }
    found = true;
    return &calls;
}
#elif !defined(HDL_NO_NCCL)
const nccl_calls *nccl_find(hdl_errmsg *why)
{
    (void)why;
#define NCCL_HERE(call) ::call,
    static const nccl_calls calls = {NCCL_CALLS(NCCL_HERE)};
#undef NCCL_HERE
    return &calls;
}
#endif
