/* SPDX-License-Identifier: Apache-2.0 */
/* What a backend of collectives is to coll.c: a table of functions over its own struct, which
 * starts with a hdl_coll.
 *
 * coll.c keeps what all backends share: rank and size of the part, the sticky error, the abort flag
 * of the root, the time spent. A backend never sees a part of one rank (coll.c answers for it) and
 * checks hdl_coll_stop in every wait. */
#pragma once

#include <heddle/coll.h>
#include <heddle/limits.h>
#include <stdatomic.h>

/* A part of a communicator, in ranks of that communicator. */
typedef struct hdl_coll_part {
    uint32_t idx; /* of the splits of the whole root, from 0 */
    uint32_t base, stride, n;
} hdl_coll_part;

typedef struct hdl_coll_backend {
    const char *name;
    /* Opens the world; fills *out with its own struct. */
    hdl_err (*open)(hdl_coll **out, const hdl_coll_opts *opts, hdl_errmsg *why);
    hdl_err (*split)(hdl_coll **out, hdl_coll *parent, const hdl_coll_part *part);
    void (*close)(hdl_coll *coll);
    void (*abort)(hdl_coll *coll); /* any thread; NULL: the flag is enough */
    hdl_err (*all_reduce)(hdl_coll *coll, float *buf, size_t n);
    hdl_err (*all_gather)(hdl_coll *coll, const void *in, void *out, size_t bytes);
    hdl_err (*reduce_scatter)(hdl_coll *coll, const float *in, float *out, size_t n);
    hdl_err (*all_to_all_v)(hdl_coll *coll, const hdl_a2a_args *args);
    hdl_err (*broadcast)(hdl_coll *coll, void *buf, size_t bytes, uint32_t root);
    hdl_err (*send)(hdl_coll *coll, const void *buf, size_t bytes, uint32_t to);
    hdl_err (*recv)(hdl_coll *coll, void *buf, size_t bytes, uint32_t from);
    hdl_err (*barrier)(hdl_coll *coll);
} hdl_coll_backend;

struct hdl_coll {
    const hdl_coll_backend *backend;
    hdl_coll *root;        /* the world that it was split from; itself for the world */
    uint32_t rank, size;   /* inside this part */
    uint32_t base, stride; /* world rank of a member = base + rank * stride */
    uint64_t timeout_us;
    /* Of the root only. */
    _Atomic bool aborted;
    const volatile uint32_t *cancel; /* borrowed: of the opts, while opening; else NULL */
    hdl_err err;                     /* sticky */
    uint64_t time_us;
    uint32_t n_splits;
};

/* A world as it stands in the opts, for a backend that opens one. */
void hdl_coll_init_world(hdl_coll *coll, const hdl_coll_opts *opts);

extern const hdl_coll_backend hdl_coll_self;
extern const hdl_coll_backend hdl_coll_shm;
extern const hdl_coll_backend hdl_coll_ucx;     /* also in builds without UCX: opening says so */
extern const hdl_coll_backend hdl_coll_checked; /* coll_check.c */

enum {
    HDL_COLL_SPLITS_MAX = 3,      /* tp, moe_tp, ep */
    HDL_COLL_SMALL_FLOATS = 4096, /* up to here every rank adds everything, above each a share */
    HDL_COLL_BUFFER_DEFAULT = 256 << 10,
};

/* What all ranks hold at element i, in the tree ((r0 + r1) + (r2 + r3)) + ...; out may be one of
 * the inputs. */
void hdl_coll_tree_sum(const float *const *in, uint32_t size, float *out, size_t n);

static inline uint32_t hdl_coll_world_rank(const hdl_coll *coll, uint32_t rank)
{
    return coll->base + rank * coll->stride;
}

/* Asked in every wait: HDL_CANCELLED after an abort. */
static inline hdl_err hdl_coll_stop(const hdl_coll *coll)
{
    const hdl_coll *root = coll->root;
    if (atomic_load_explicit(&root->aborted, memory_order_relaxed))
        return HDL_CANCELLED;
    if (root->cancel && __atomic_load_n(root->cancel, __ATOMIC_RELAXED))
        return HDL_CANCELLED;
    return HDL_OK;
}
