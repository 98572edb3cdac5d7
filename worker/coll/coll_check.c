/* SPDX-License-Identifier: Apache-2.0 */
/* Wraps another backend ("check+self", "check+shm") and verifies that all ranks of a part make the
 * same calls with the same sizes in the same order: before each call they exchange what they are
 * about to do. A difference is a bug of ours that would otherwise show as a hang or as wrong
 * numbers on some layout; it is printed and the call fails with HDL_BUG. For tests; costs a turn.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "worker/coll/coll_impl.h"

typedef enum call_kind {
    ALL_REDUCE,
    ALL_GATHER,
    REDUCE_SCATTER,
    ALL_TO_ALL_V,
    BROADCAST,
    BARRIER,
} call_kind;

/* What a rank is about to do. */
typedef struct call {
    uint64_t serial;
    uint64_t kind;
    uint64_t size; /* bytes or elements; of all_to_all_v: 0, as ranks differ */
    uint64_t root;
} call;

typedef struct coll_check {
    hdl_coll base;
    hdl_coll *inner; /* owned */
    uint64_t serial;
} coll_check;

static coll_check *check_of(hdl_coll *coll) { return HDL_CONTAINER_OF(coll, coll_check, base); }

static hdl_err verify(coll_check *c, call mine)
{
    call all[HDL_RANKS_MAX];
    mine.serial = ++c->serial;
    HDL_TRY(hdl_coll_all_gather(c->inner, &mine, all, sizeof(mine)));
    for (uint32_t r = 0; r < c->base.size; r++) {
        if (memcmp(&all[r], &mine, sizeof(mine)) == 0)
            continue;
        HDL_LOG(ERROR, COLL, "mismatch",
                "rank=%u serial=%" PRIu64 " kind=%" PRIu64 " size=%" PRIu64
                " other_rank=%u other_serial=%" PRIu64 " other_kind=%" PRIu64
                " other_size=%" PRIu64,
                c->base.rank, mine.serial, mine.kind, mine.size, r, all[r].serial, all[r].kind,
                all[r].size);
        return HDL_BUG;
    }
    return HDL_OK;
}

static hdl_err check_all_reduce(hdl_coll *coll, float *buf, size_t n)
{
    coll_check *c = check_of(coll);
    HDL_TRY(verify(c, (call){.kind = ALL_REDUCE, .size = n}));
    return hdl_coll_all_reduce(c->inner, buf, n);
}

static hdl_err check_all_gather(hdl_coll *coll, const void *in, void *out, size_t bytes)
{
    coll_check *c = check_of(coll);
    HDL_TRY(verify(c, (call){.kind = ALL_GATHER, .size = bytes}));
    return hdl_coll_all_gather(c->inner, in, out, bytes);
}

static hdl_err check_reduce_scatter(hdl_coll *coll, const float *in, float *out, size_t n)
{
    coll_check *c = check_of(coll);
    HDL_TRY(verify(c, (call){.kind = REDUCE_SCATTER, .size = n}));
    return hdl_coll_reduce_scatter(c->inner, in, out, n);
}

static hdl_err check_all_to_all_v(hdl_coll *coll, const hdl_a2a_args *args)
{
    coll_check *c = check_of(coll);
    HDL_TRY(verify(c, (call){.kind = ALL_TO_ALL_V}));
    return hdl_coll_all_to_all_v(c->inner, args);
}

static hdl_err check_broadcast(hdl_coll *coll, void *buf, size_t bytes, uint32_t root)
{
    coll_check *c = check_of(coll);
    HDL_TRY(verify(c, (call){.kind = BROADCAST, .size = bytes, .root = root}));
    return hdl_coll_broadcast(c->inner, buf, bytes, root);
}

static hdl_err check_barrier(hdl_coll *coll)
{
    coll_check *c = check_of(coll);
    HDL_TRY(verify(c, (call){.kind = BARRIER}));
    return hdl_coll_barrier(c->inner);
}

/* Only two ranks take part: nothing to compare with the others. */
static hdl_err check_send(hdl_coll *coll, const void *buf, size_t bytes, uint32_t to)
{
    return hdl_coll_send(check_of(coll)->inner, buf, bytes, to);
}

static hdl_err check_recv(hdl_coll *coll, void *buf, size_t bytes, uint32_t from)
{
    return hdl_coll_recv(check_of(coll)->inner, buf, bytes, from);
}

static hdl_err check_open(hdl_coll **out, const hdl_coll_opts *opts, hdl_errmsg *why)
{
    coll_check *c = calloc(1, sizeof(*c));
    if (!c)
        return hdl_fail(HDL_NOMEM, why, "out of memory; the machine is full; stop other programs");
    hdl_coll_opts inner = *opts;
    inner.backend = strchr(opts->backend, '+') + 1;
    hdl_err err = hdl_coll_open(&c->inner, &inner, why);
    if (err != HDL_OK) {
        free(c);
        return err;
    }
    c->base.root = &c->base;
    c->base.rank = opts->rank;
    c->base.size = opts->n_ranks;
    c->base.stride = 1;
    c->base.timeout_us = opts->timeout_us;
    *out = &c->base;
    return HDL_OK;
}

static hdl_err check_split(hdl_coll **out, hdl_coll *parent, const hdl_coll_part *part)
{
    coll_check *c = calloc(1, sizeof(*c));
    if (!c)
        return HDL_NOMEM;
    hdl_err err =
        hdl_coll_split(&c->inner, check_of(parent)->inner, part->base, part->stride, part->n);
    if (err != HDL_OK) {
        free(c);
        return err;
    }
    *out = &c->base;
    return HDL_OK;
}

static void check_abort(hdl_coll *coll) { hdl_coll_abort(check_of(coll)->inner); }

static void check_close(hdl_coll *coll)
{
    coll_check *c = check_of(coll);
    hdl_coll_close(c->inner);
    free(c);
}

const hdl_coll_backend hdl_coll_checked = {
    .name = "check",
    .open = check_open,
    .split = check_split,
    .close = check_close,
    .abort = check_abort,
    .all_reduce = check_all_reduce,
    .all_gather = check_all_gather,
    .reduce_scatter = check_reduce_scatter,
    .all_to_all_v = check_all_to_all_v,
    .broadcast = check_broadcast,
    .send = check_send,
    .recv = check_recv,
    .barrier = check_barrier,
};
