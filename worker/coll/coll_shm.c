/* SPDX-License-Identifier: Apache-2.0 */
/* Collectives between processes of one host, through a POSIX shared-memory segment.
 *
 * Every communicator (the world and each split) has one lane per rank: a counter and two buffers,
 * which only that rank writes. A collective is cut into turns of at most one buffer. In turn t a
 * rank writes buffer t % 2 and then publishes its counter as t + 1; the others wait for that and
 * read. Rules:
 *   R1 A rank starts turn t only when all others have published turn t - 1, that is, have finished
 *      reading turn t - 2, whose buffer it is about to overwrite. Most turns wait for everybody
 *      anyway; a broadcast does not, and this is what keeps its root from running away.
 *   R2 Counters are published with release and read with acquire: what was written to the buffer
 *      before is then visible.
 *   R3 Reductions read all lanes and add in one fixed tree, so every rank gets the same bits.
 *   R4 Waits pause, then yield the CPU, then sleep shortly: ranks may outnumber cores. Each watches
 *      abort and its deadline.
 * Opening and the unlink that leaves nothing behind after a crash: shm_segment.c. */
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/thread.h"
#include "worker/coll/shm_segment.h"

enum {
    PAUSES = 2000,       /* of a wait before it yields, */
    PAUSES_CROWDED = 32, /* and with fewer cores than ranks */
    YIELDS_PER_CLOCK = 16,
    SLEEP_AFTER_US = 5000,
    SLEEP_NS = 50000,
};

typedef struct coll_shm {
    hdl_coll base;
    hdl_shm_segment *segment; /* owned by the world */
    uint32_t comm;            /* index of the communicator in the segment */
    uint32_t pauses;
    uint64_t turn;                                         /* of the next turn */
    uint64_t sent[HDL_RANKS_MAX], received[HDL_RANKS_MAX]; /* pieces of send and recv, by rank */
} coll_shm;

static coll_shm *shm_of(hdl_coll *coll) { return HDL_CONTAINER_OF(coll, coll_shm, base); }

static hdl_shm_lane *lane_of(const coll_shm *c, uint32_t rank)
{
    return hdl_shm_lane_of(c->segment, c->comm, hdl_coll_world_rank(&c->base, rank));
}

static unsigned char *buffer_of(const coll_shm *c, uint32_t rank, uint64_t turn)
{
    uint32_t world = hdl_coll_world_rank(&c->base, rank);
    return hdl_shm_buffer_of(c->segment, c->comm, world, turn % 2);
}

static size_t buffer_bytes(const coll_shm *c) { return c->segment->buffer_bytes; }

/* Until *counter >= want. */
static hdl_err wait_for(const coll_shm *c, const _Atomic uint64_t *counter, uint64_t want)
{
    for (unsigned i = 0; i < c->pauses; i++) {
        if (atomic_load_explicit(counter, memory_order_acquire) >= want)
            return HDL_OK;
        hdl_cpu_relax();
    }
    uint64_t start_us = hdl_clock_now_us();
    const struct timespec nap = {.tv_nsec = SLEEP_NS};
    for (;;) {
        for (unsigned i = 0; i < YIELDS_PER_CLOCK; i++) {
            if (atomic_load_explicit(counter, memory_order_acquire) >= want)
                return HDL_OK;
            sched_yield();
        }
        HDL_TRY(hdl_coll_stop(&c->base));
        uint64_t waited_us = hdl_clock_now_us() - start_us;
        if (waited_us > c->base.timeout_us)
            return HDL_TIMEOUT;
        if (waited_us > SLEEP_AFTER_US)
            (void)nanosleep(&nap, NULL); /* may end early */
    }
}

static hdl_err wait_all(const coll_shm *c, uint64_t want)
{
    for (uint32_t r = 0; r < c->base.size; r++)
        if (r != c->base.rank)
            HDL_TRY(wait_for(c, &lane_of(c, r)->turns, want));
    return HDL_OK;
}

/* R1. Afterwards this rank may write its buffer of the turn. */
static hdl_err turn_begin(const coll_shm *c) { return wait_all(c, c->turn); }

static void turn_publish(coll_shm *c)
{
    hdl_shm_lane *lane = lane_of(c, c->base.rank);
    atomic_store_explicit(&lane->turns, ++c->turn, memory_order_release);
}

/* ---- one turn of each kind ---------------------------------------------------------------- */

typedef struct span {
    size_t from, to;
} span;

/* Sums a span of elements of the given turn's buffers into out. The turn has been published by
 * all. */
static void sum_lanes(const coll_shm *c, uint64_t turn, span s, float *out)
{
    const float *in[HDL_RANKS_MAX];
    for (uint32_t r = 0; r < c->base.size; r++)
        in[r] = (const float *)(const void *)buffer_of(c, r, turn) + s.from;
    hdl_coll_tree_sum(in, c->base.size, out, s.to - s.from);
}

static hdl_err exchange(coll_shm *c, const void *mine, size_t bytes)
{
    HDL_TRY(turn_begin(c));
    if (bytes != 0)
        memcpy(buffer_of(c, c->base.rank, c->turn), mine, bytes);
    turn_publish(c);
    return wait_all(c, c->turn);
}

/* ---- collectives -------------------------------------------------------------------------- */

/* Small messages: everybody adds everything, one turn. */
static hdl_err reduce_small(coll_shm *c, float *buf, size_t n)
{
    HDL_TRY(exchange(c, buf, n * sizeof(float)));
    sum_lanes(c, c->turn - 1, (span){0, n}, buf);
    return HDL_OK;
}

/* Large ones: each rank adds a share, then all collect the shares. Two turns, but each byte is
 * added once instead of `size` times. */
static hdl_err reduce_large(coll_shm *c, float *buf, size_t n)
{
    uint32_t size = c->base.size;
    HDL_TRY(exchange(c, buf, n * sizeof(float)));
    uint64_t turn = c->turn - 1;
    size_t from = n * c->base.rank / size, to = n * (c->base.rank + 1) / size;
    HDL_TRY(turn_begin(c));
    sum_lanes(c, turn, (span){from, to}, (float *)(void *)buffer_of(c, c->base.rank, c->turn));
    turn_publish(c);
    HDL_TRY(wait_all(c, c->turn));
    for (uint32_t r = 0; r < size; r++) {
        from = n * r / size, to = n * (r + 1) / size;
        memcpy(buf + from, buffer_of(c, r, c->turn - 1), (to - from) * sizeof(float));
    }
    return HDL_OK;
}

static hdl_err shm_all_reduce(hdl_coll *coll, float *buf, size_t n)
{
    coll_shm *c = shm_of(coll);
    size_t piece = buffer_bytes(c) / sizeof(float);
    for (size_t at = 0; at < n; at += piece) {
        size_t len = hdl_min_size(piece, n - at);
        if (len <= HDL_COLL_SMALL_FLOATS || coll->size == 2)
            HDL_TRY(reduce_small(c, buf + at, len));
        else
            HDL_TRY(reduce_large(c, buf + at, len));
    }
    return HDL_OK;
}

static hdl_err shm_all_gather(hdl_coll *coll, const void *in, void *out, size_t bytes)
{
    coll_shm *c = shm_of(coll);
    char *to = out;
    for (size_t at = 0; at < bytes; at += buffer_bytes(c)) {
        size_t len = hdl_min_size(buffer_bytes(c), bytes - at);
        HDL_TRY(exchange(c, (const char *)in + at, len));
        for (uint32_t r = 0; r < coll->size; r++)
            memmove(to + r * bytes + at, buffer_of(c, r, c->turn - 1), len);
    }
    return HDL_OK;
}

static hdl_err shm_reduce_scatter(hdl_coll *coll, const float *in, float *out, size_t n)
{
    coll_shm *c = shm_of(coll);
    size_t piece = buffer_bytes(c) / sizeof(float);
    size_t lo = n / coll->size * coll->rank, hi = lo + n / coll->size;
    for (size_t at = 0; at < n; at += piece) {
        size_t len = hdl_min_size(piece, n - at);
        HDL_TRY(exchange(c, in + at, len * sizeof(float)));
        size_t from = at > lo ? at : lo, to = at + len < hi ? at + len : hi;
        if (from < to)
            sum_lanes(c, c->turn - 1, (span){from - at, to - at}, out + (from - lo));
    }
    return HDL_OK;
}

/* Ranks do not know each other's sizes: the number of rounds is agreed on first. */
static hdl_err agree_rounds(coll_shm *c, const hdl_a2a_args *args, size_t piece, uint64_t *rounds)
{
    uint64_t mine = 0;
    for (uint32_t r = 0; r < c->base.size; r++) {
        uint64_t need = (args->in_bytes[r] + piece - 1) / piece;
        mine = need > mine ? need : mine;
    }
    HDL_TRY(exchange(c, &mine, sizeof(mine)));
    *rounds = 0;
    for (uint32_t r = 0; r < c->base.size; r++) {
        uint64_t theirs;
        memcpy(&theirs, buffer_of(c, r, c->turn - 1), sizeof(theirs));
        *rounds = theirs > *rounds ? theirs : *rounds;
    }
    return HDL_OK;
}

static size_t rest(size_t bytes, uint64_t round, size_t piece)
{
    size_t at = (size_t)round * piece;
    return at < bytes ? hdl_min_size(piece, bytes - at) : 0;
}

static hdl_err shm_all_to_all_v(hdl_coll *coll, const hdl_a2a_args *args)
{
    coll_shm *c = shm_of(coll);
    uint64_t rounds = 0;
    size_t piece = buffer_bytes(c) / coll->size & ~(size_t)7;
    HDL_TRY(agree_rounds(c, args, piece, &rounds));
    for (uint64_t round = 0; round < rounds; round++) {
        size_t at = (size_t)round * piece;
        HDL_TRY(turn_begin(c));
        for (uint32_t r = 0; r < coll->size; r++) {
            size_t len = rest(args->in_bytes[r], round, piece);
            if (len != 0)
                memcpy(buffer_of(c, coll->rank, c->turn) + r * piece,
                       (const char *)args->in + args->in_at[r] + at, len);
        }
        turn_publish(c);
        HDL_TRY(wait_all(c, c->turn));
        for (uint32_t r = 0; r < coll->size; r++) {
            size_t len = rest(args->out_bytes[r], round, piece);
            if (len != 0)
                memcpy((char *)args->out + args->out_at[r] + at,
                       buffer_of(c, r, c->turn - 1) + coll->rank * piece, len);
        }
    }
    return HDL_OK;
}

static hdl_err shm_broadcast(hdl_coll *coll, void *buf, size_t bytes, uint32_t root)
{
    coll_shm *c = shm_of(coll);
    for (size_t at = 0; at < bytes; at += buffer_bytes(c)) {
        size_t len = hdl_min_size(buffer_bytes(c), bytes - at);
        if (coll->rank == root) {
            HDL_TRY(turn_begin(c));
            memcpy(buffer_of(c, root, c->turn), (const char *)buf + at, len);
            turn_publish(c);
            continue;
        }
        turn_publish(c);
        HDL_TRY(wait_for(c, &lane_of(c, root)->turns, c->turn));
        memcpy((char *)buf + at, buffer_of(c, root, c->turn - 1), len);
    }
    return HDL_OK;
}

static hdl_err shm_barrier(hdl_coll *coll) { return exchange(shm_of(coll), NULL, 0); }

/* ---- point to point ----------------------------------------------------------------------- */

/* A rank has one outgoing box: a piece stays in it until its receiver has taken it. Two ranks may
 * send to each other at once as long as a message fits into one box. */
static hdl_err shm_send(hdl_coll *coll, const void *buf, size_t bytes, uint32_t to)
{
    coll_shm *c = shm_of(coll);
    hdl_shm_lane *lane = lane_of(c, coll->rank);
    hdl_shm_box *box = hdl_shm_box_of(c->segment, c->comm, hdl_coll_world_rank(coll, coll->rank));
    size_t at = 0;
    do {
        size_t len = hdl_min_size(HDL_SHM_BOX_BYTES, bytes - at);
        uint64_t posted = atomic_load_explicit(&lane->posted, memory_order_relaxed);
        HDL_TRY(wait_for(c, &lane->taken, posted));
        if (len != 0)
            memcpy(box->data, (const char *)buf + at, len);
        atomic_store_explicit(&box->to, to, memory_order_release);
        box->piece = ++c->sent[to];
        atomic_store_explicit(&lane->posted, posted + 1, memory_order_release);
        at += len;
    } while (at < bytes);
    return HDL_OK;
}

/* The sender's box may hold pieces for others first: they are theirs to take. */
static hdl_err wait_piece(coll_shm *c, uint32_t from, uint64_t *seen)
{
    hdl_shm_lane *lane = lane_of(c, from);
    hdl_shm_box *box = hdl_shm_box_of(c->segment, c->comm, hdl_coll_world_rank(&c->base, from));
    for (;;) {
        uint64_t taken = atomic_load_explicit(&lane->taken, memory_order_acquire);
        HDL_TRY(wait_for(c, &lane->posted, taken + 1));
        uint32_t to = atomic_load_explicit(&box->to, memory_order_acquire);
        /* Taken meanwhile: `to` may be that of the piece after it. */
        if (atomic_load_explicit(&lane->taken, memory_order_acquire) != taken)
            continue;
        if (to == c->base.rank) {
            *seen = taken + 1;
            return HDL_OK;
        }
        HDL_TRY(wait_for(c, &lane->taken, taken + 1));
    }
}

static hdl_err shm_recv(hdl_coll *coll, void *buf, size_t bytes, uint32_t from)
{
    coll_shm *c = shm_of(coll);
    hdl_shm_lane *lane = lane_of(c, from);
    hdl_shm_box *box = hdl_shm_box_of(c->segment, c->comm, hdl_coll_world_rank(coll, from));
    size_t at = 0;
    do {
        size_t len = hdl_min_size(HDL_SHM_BOX_BYTES, bytes - at);
        uint64_t seen = 0;
        HDL_TRY(wait_piece(c, from, &seen));
        c->received[from]++;
        HDL_ASSERT_EQ(box->piece, c->received[from]);
        if (len != 0)
            memcpy((char *)buf + at, box->data, len);
        atomic_store_explicit(&lane->taken, seen, memory_order_release);
        at += len;
    } while (at < bytes);
    return HDL_OK;
}

/* ---- life --------------------------------------------------------------------------------- */

static hdl_err shm_open_world(hdl_coll **out, const hdl_coll_opts *opts, hdl_errmsg *why)
{
    coll_shm *c = calloc(1, sizeof(*c));
    if (!c)
        return hdl_fail(HDL_NOMEM, why, "out of memory; the machine is full; stop other programs");
    hdl_coll_init_world(&c->base, opts);
    c->pauses = sysconf(_SC_NPROCESSORS_ONLN) < (long)opts->n_ranks ? PAUSES_CROWDED : PAUSES;
    hdl_err err = hdl_shm_segment_open(&c->segment, opts, &c->base, why);
    if (err != HDL_OK) {
        free(c);
        return err;
    }
    *out = &c->base;
    return HDL_OK;
}

static hdl_err shm_split(hdl_coll **out, hdl_coll *parent, const hdl_coll_part *part)
{
    if (part->idx >= HDL_COLL_SPLITS_MAX)
        return HDL_BUSY;
    coll_shm *c = calloc(1, sizeof(*c));
    if (!c)
        return HDL_NOMEM;
    c->segment = shm_of(parent)->segment;
    c->pauses = shm_of(parent)->pauses;
    c->comm = 1 + part->idx;
    *out = &c->base;
    return HDL_OK;
}

static void shm_close(hdl_coll *coll)
{
    coll_shm *c = shm_of(coll);
    if (coll->root == coll)
        hdl_shm_segment_close(c->segment);
    free(c);
}

const hdl_coll_backend hdl_coll_shm = {
    .name = "shm",
    .open = shm_open_world,
    .split = shm_split,
    .close = shm_close,
    .all_reduce = shm_all_reduce,
    .all_gather = shm_all_gather,
    .reduce_scatter = shm_reduce_scatter,
    .all_to_all_v = shm_all_to_all_v,
    .broadcast = shm_broadcast,
    .send = shm_send,
    .recv = shm_recv,
    .barrier = shm_barrier,
};
