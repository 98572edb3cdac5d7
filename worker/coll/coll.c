/* SPDX-License-Identifier: Apache-2.0 */
/* Collectives: choice of the backend, parts, sticky errors, time. The work is the backend's. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/checked.h"
#include "base/clock.h"
#include "base/inject.h"
#include "worker/coll/coll_impl.h"

static const struct {
    const char *name;
    const hdl_coll_backend *backend;
} backends[] = {
    {"self", &hdl_coll_self},         {"shm", &hdl_coll_shm},
    {"ucx", &hdl_coll_ucx},           {"check+self", &hdl_coll_checked},
    {"check+shm", &hdl_coll_checked}, {"check+ucx", &hdl_coll_checked},
};

static const hdl_coll_backend *find_backend(const char *name)
{
    for (size_t i = 0; i < HDL_ARRAY_LEN(backends); i++)
        if (strcmp(backends[i].name, name) == 0)
            return backends[i].backend;
    return NULL;
}

void hdl_coll_init_world(hdl_coll *coll, const hdl_coll_opts *opts)
{
    coll->root = coll;
    coll->rank = opts->rank;
    coll->size = opts->n_ranks;
    coll->stride = 1;
    coll->timeout_us = opts->timeout_us ? opts->timeout_us : 60 * HDL_SEC_US;
    coll->cancel = opts->cancel;
}

static hdl_err check_opts(const hdl_coll_opts *opts, const hdl_coll_backend *backend,
                          hdl_errmsg *why)
{
    if (!backend)
        return hdl_fail(HDL_UNSUPPORTED, why,
                        "collectives \"%.32s\" are not built in; self, shm and ucx are; choose one "
                        "of them",
                        opts->backend);
    if (!hdl_is_pow2(opts->n_ranks) || opts->rank >= opts->n_ranks || opts->n_ranks > HDL_RANKS_MAX)
        return hdl_fail(HDL_INVALID, why,
                        "rank %u of %u is not possible; a group has a power of two of at most %d "
                        "ranks, numbered from 0; correct the layout",
                        opts->rank, opts->n_ranks, HDL_RANKS_MAX);
    return HDL_OK;
}

hdl_err hdl_coll_open(hdl_coll **out, const hdl_coll_opts *opts, hdl_errmsg *why)
{
    const hdl_coll_backend *backend = find_backend(opts->backend ? opts->backend : "self");
    *out = NULL;
    hdl_err err = check_opts(opts, backend, why);
    if (err != HDL_OK) {
        hdl_coll_door_close(opts->door);
        return err;
    }
    HDL_TRY(backend->open(out, opts, why));
    (*out)->backend = backend;
    (*out)->cancel = NULL; /* from here on it is hdl_coll_abort */
    return HDL_OK;
}

static bool part_ok(const hdl_coll *parent, uint32_t base, uint32_t stride, uint32_t n)
{
    if (!hdl_is_pow2(n) || stride == 0 || base >= parent->size || n > parent->size)
        return false;
    if (base + (uint64_t)(n - 1) * stride >= parent->size || parent->rank < base)
        return false;
    return (parent->rank - base) % stride == 0 && (parent->rank - base) / stride < n;
}

hdl_err hdl_coll_split(hdl_coll **out, hdl_coll *parent, uint32_t base, uint32_t stride, uint32_t n)
{
    HDL_ASSERT(part_ok(parent, base, stride, n));
    hdl_coll_part part = {.idx = parent->root->n_splits++, .base = base, .stride = stride, .n = n};
    HDL_TRY(parent->backend->split(out, parent, &part));
    hdl_coll *c = *out;
    c->backend = parent->backend;
    c->root = parent->root;
    c->rank = (parent->rank - base) / stride;
    c->size = n;
    c->base = hdl_coll_world_rank(parent, base);
    c->stride = stride * parent->stride;
    c->timeout_us = parent->timeout_us;
    return HDL_OK;
}

void hdl_coll_close(hdl_coll *coll)
{
    if (coll)
        coll->backend->close(coll);
}

uint32_t hdl_coll_rank(const hdl_coll *coll) { return coll->rank; }
uint32_t hdl_coll_size(const hdl_coll *coll) { return coll->size; }

/* Every operation is `begin, backend, end`: a sticky error is answered at once, a new one sticks.
 */
static hdl_err begin(hdl_coll *coll, uint64_t *start_us)
{
    *start_us = hdl_clock_now_us();
    if (coll->root->err == HDL_OK)
        coll->root->err = hdl_coll_stop(coll);
    if (coll->root->err == HDL_OK)
        coll->root->err = HDL_INJECT("coll.begin");
    return coll->root->err;
}

static hdl_err end(hdl_coll *coll, uint64_t start_us, hdl_err err)
{
    coll->root->time_us += hdl_clock_now_us() - start_us;
    if (err != HDL_OK)
        coll->root->err = err;
    return err;
}

#define RUN(coll, call)                                                                            \
    do {                                                                                           \
        uint64_t start_us_;                                                                        \
        HDL_TRY(begin(coll, &start_us_));                                                          \
        return end(coll, start_us_, call);                                                         \
    } while (0)

hdl_err hdl_coll_all_reduce(hdl_coll *coll, float *buf, size_t n)
{
    if (coll->size == 1 || n == 0)
        return coll->root->err;
    RUN(coll, coll->backend->all_reduce(coll, buf, n));
}

hdl_err hdl_coll_all_gather(hdl_coll *coll, const void *in, void *out, size_t bytes)
{
    if (coll->size == 1) {
        if (in != out)
            memcpy(out, in, bytes);
        return coll->root->err;
    }
    RUN(coll, coll->backend->all_gather(coll, in, out, bytes));
}

hdl_err hdl_coll_reduce_scatter(hdl_coll *coll, const float *in, float *out, size_t n)
{
    HDL_ASSERT_EQ(n % coll->size, 0u);
    if (coll->size == 1) {
        if (in != out)
            memcpy(out, in, n * sizeof(float));
        return coll->root->err;
    }
    RUN(coll, coll->backend->reduce_scatter(coll, in, out, n));
}

hdl_err hdl_coll_all_to_all_v(hdl_coll *coll, const hdl_a2a_args *args)
{
    if (coll->size == 1) {
        HDL_ASSERT_EQ(args->in_bytes[0], args->out_bytes[0]);
        memmove((char *)args->out + args->out_at[0], (const char *)args->in + args->in_at[0],
                args->in_bytes[0]);
        return coll->root->err;
    }
    RUN(coll, coll->backend->all_to_all_v(coll, args));
}

hdl_err hdl_coll_broadcast(hdl_coll *coll, void *buf, size_t bytes, uint32_t root)
{
    HDL_ASSERT_LT(root, coll->size);
    if (coll->size == 1 || bytes == 0)
        return coll->root->err;
    RUN(coll, coll->backend->broadcast(coll, buf, bytes, root));
}

hdl_err hdl_coll_send(hdl_coll *coll, const void *buf, size_t bytes, uint32_t to)
{
    HDL_ASSERT(to < coll->size && to != coll->rank);
    RUN(coll, coll->backend->send(coll, buf, bytes, to));
}

hdl_err hdl_coll_recv(hdl_coll *coll, void *buf, size_t bytes, uint32_t from)
{
    HDL_ASSERT(from < coll->size && from != coll->rank);
    RUN(coll, coll->backend->recv(coll, buf, bytes, from));
}

hdl_err hdl_coll_barrier(hdl_coll *coll)
{
    if (coll->size == 1)
        return coll->root->err;
    RUN(coll, coll->backend->barrier(coll));
}

hdl_err hdl_coll_poll(hdl_coll *coll)
{
    if (coll->root->err == HDL_OK)
        coll->root->err = hdl_coll_stop(coll);
    return coll->root->err;
}

void hdl_coll_abort(hdl_coll *coll)
{
    atomic_store_explicit(&coll->root->aborted, true, memory_order_relaxed);
    if (coll->backend->abort)
        coll->backend->abort(coll);
}

uint64_t hdl_coll_time_us(const hdl_coll *coll) { return coll->root->time_us; }
