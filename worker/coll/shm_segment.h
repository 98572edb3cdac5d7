/* SPDX-License-Identifier: Apache-2.0 */
/* The shared-memory segment under coll_shm: its layout, and how ranks meet in it.
 *
 * Rank 0 makes it under the address of the epoch, the others attach, and as soon as all are there
 * its name is removed: from then on it dies with the last process, however that dies. A segment
 * that an earlier, crashed group left under the same name is replaced by rank 0 and recognised by
 * the others (its name is gone, and nobody declared it ready). Cold; the step thread. */
#pragma once

#include <stdatomic.h>

#include "worker/coll/coll_impl.h"

enum {
    HDL_SHM_BOX_BYTES = 8192,
};

/* One rank's part of a communicator; only that rank writes it, but for `taken`. */
typedef struct hdl_shm_lane {
    _Alignas(64) _Atomic uint64_t turns;  /* entered */
    _Alignas(64) _Atomic uint64_t posted; /* pieces put into the box */
    _Alignas(64) _Atomic uint64_t taken;  /* of them, taken by their receivers */
} hdl_shm_lane;

typedef struct hdl_shm_box {
    _Alignas(64) _Atomic uint32_t to;
    uint64_t piece; /* serial of the pair, a check */
    unsigned char data[HDL_SHM_BOX_BYTES];
} hdl_shm_box;

struct hdl_shm_header;
typedef struct hdl_shm_segment {
    struct hdl_shm_header *header; /* owned: the mapping */
    size_t bytes, buffer_bytes;
    uint32_t n_ranks;
    hdl_shm_lane *lanes;    /* [1 + splits, n_ranks] */
    hdl_shm_box *boxes;     /* [1 + splits, n_ranks] */
    unsigned char *buffers; /* [1 + splits, n_ranks, 2, buffer_bytes] */
} hdl_shm_segment;

/* Blocks until all ranks are there; watches hdl_coll_stop of coll and its deadline. */
hdl_err hdl_shm_segment_open(hdl_shm_segment **out, const hdl_coll_opts *opts, const hdl_coll *coll,
                             hdl_errmsg *why) HDL_MUST_CHECK;
void hdl_shm_segment_close(hdl_shm_segment *segment);

static inline hdl_shm_lane *hdl_shm_lane_of(const hdl_shm_segment *s, uint32_t comm,
                                            uint32_t world_rank)
{
    return &s->lanes[(size_t)comm * s->n_ranks + world_rank];
}

static inline hdl_shm_box *hdl_shm_box_of(const hdl_shm_segment *s, uint32_t comm,
                                          uint32_t world_rank)
{
    return &s->boxes[(size_t)comm * s->n_ranks + world_rank];
}

static inline unsigned char *hdl_shm_buffer_of(const hdl_shm_segment *s, uint32_t comm,
                                               uint32_t world_rank, uint64_t parity)
{
    size_t idx = ((size_t)comm * s->n_ranks + world_rank) * 2 + parity;
    return s->buffers + idx * s->buffer_bytes;
}
