/* SPDX-License-Identifier: Apache-2.0 */
/* Collectives between processes of several hosts, over the connections of ucx_link.c.
 *
 * A collective is cut into turns of at most one buffer. In a turn a rank sends each other rank of
 * its part a message or nothing, receives one of known size or nothing from each, and waits for
 * both. All parts share the connection between two ranks: these make the same calls in the same
 * order, so their messages match; each names its part and its kind, and a wrong one is a bug of
 * ours. Reductions add what all ranks sent in the tree of coll_shm.c: the same bits. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/checked.h"
#include "base/clock.h"
#include "base/log.h"
#include "worker/coll/ucx_link.h"

enum { BYE_US = 1000000 }; /* that a rank which leaves in good order waits for the others' last */

typedef enum kind {
    KIND_EXCHANGE = 0x68646c31, /* "hdl1" */
    KIND_SHARES,
    KIND_PIECES,
    KIND_BROADCAST,
    KIND_SEND,
    KIND_BYE,
} kind;

/* Before each message; 16 bytes keep the payload aligned. */
typedef struct head {
    uint32_t kind, comm, from, bytes;
} head;

/* Of the world, shared by its parts. */
typedef struct memory {
    hdl_coll_door *door; /* owned */
    size_t buffer_bytes, slot_bytes;
    unsigned char *out; /* [slot_bytes + n_ranks heads] owned */
    unsigned char *in;  /* [n_ranks, slot_bytes] owned */
    float *sums;        /* [buffer_bytes] owned */
} memory;

typedef struct coll_ucx {
    hdl_coll base;
    memory *mem; /* owned by the world */
    uint32_t comm;
} coll_ucx;

static coll_ucx *ucx_of(hdl_coll *coll) { return HDL_CONTAINER_OF(coll, coll_ucx, base); }

static unsigned char *in_of(const coll_ucx *c, uint32_t rank)
{
    return c->mem->in + hdl_coll_world_rank(&c->base, rank) * c->mem->slot_bytes;
}

static const void *payload(const coll_ucx *c, uint32_t rank)
{
    return in_of(c, rank) + sizeof(head);
}

/* ---- messages of a turn ------------------------------------------------------------------- */

/* Lays a message out behind those of this turn that are there; *at counts. */
static unsigned char *lay(coll_ucx *c, kind k, const void *data, size_t bytes, size_t *at)
{
    unsigned char *message = c->mem->out + *at;
    const head h = {
        .kind = (uint32_t)k, .comm = c->comm, .from = c->base.rank, .bytes = (uint32_t)bytes};
    memcpy(message, &h, sizeof(h));
    if (bytes != 0)
        memcpy(message + sizeof(h), data, bytes);
    *at += (sizeof(h) + bytes + 15) & ~(size_t)15;
    HDL_ASSERT_LE(*at, c->mem->slot_bytes + (size_t)HDL_RANKS_MAX * 2 * sizeof(head));
    return message;
}

static hdl_err post(coll_ucx *c, uint32_t rank, const unsigned char *message, size_t bytes)
{
    return hdl_ucx_send(c->mem->door, hdl_coll_world_rank(&c->base, rank), message,
                        sizeof(head) + bytes);
}

static hdl_err expect(coll_ucx *c, uint32_t rank, size_t bytes)
{
    HDL_ASSERT_LE(bytes, c->mem->buffer_bytes);
    return hdl_ucx_recv(c->mem->door, hdl_coll_world_rank(&c->base, rank), in_of(c, rank),
                        sizeof(head) + bytes);
}

static hdl_err check(const coll_ucx *c, uint32_t rank, kind k, size_t bytes)
{
    head h;
    memcpy(&h, in_of(c, rank), sizeof(h));
    if (h.kind == (uint32_t)k && h.comm == c->comm && h.from == rank && h.bytes == bytes)
        return HDL_OK;
    if (h.kind == KIND_BYE)
        return HDL_PEER;
    HDL_LOG(ERROR, COLL, "mismatch",
            "rank=%u comm=%u kind=%u bytes=%zu other_rank=%u other_comm=%u other_kind=%u "
            "other_bytes=%u",
            c->base.rank, c->comm, (unsigned)k, bytes, h.from, h.comm, h.kind, h.bytes);
    return HDL_BUG;
}

static hdl_err wait_all(coll_ucx *c) { return hdl_ucx_wait(c->mem->door, &c->base); }

/* The same bytes to everybody, and as many from everybody. */
static hdl_err exchange(coll_ucx *c, kind k, const void *mine, size_t bytes)
{
    size_t at = 0;
    const unsigned char *message = lay(c, k, mine, bytes, &at);
    for (uint32_t i = 1; i < c->base.size; i++) {
        uint32_t r = (c->base.rank + i) % c->base.size;
        HDL_TRY(expect(c, r, bytes));
        HDL_TRY(post(c, r, message, bytes));
    }
    HDL_TRY(wait_all(c));
    for (uint32_t r = 0; r < c->base.size; r++)
        if (r != c->base.rank)
            HDL_TRY(check(c, r, k, bytes));
    return HDL_OK;
}

/* ---- sums ---------------------------------------------------------------------------------- */

/* Of what all ranks sent and of mine. */
static void sum_all(const coll_ucx *c, const float *mine, float *out, size_t n)
{
    const float *in[HDL_RANKS_MAX];
    for (uint32_t r = 0; r < c->base.size; r++)
        in[r] = r == c->base.rank ? mine : payload(c, r);
    hdl_coll_tree_sum(in, c->base.size, out, n);
}

static size_t share_at(const coll_ucx *c, size_t n, uint32_t rank)
{
    return n * rank / c->base.size;
}

/* Each rank gets everybody's part of its share; out: the sum. */
static hdl_err reduce_shares(coll_ucx *c, const float *buf, size_t n, float *out)
{
    uint32_t me = c->base.rank;
    size_t at = 0, from = share_at(c, n, me), mine = share_at(c, n, me + 1) - from;
    for (uint32_t i = 1; i < c->base.size; i++) {
        uint32_t r = (me + i) % c->base.size;
        size_t lo = share_at(c, n, r), bytes = (share_at(c, n, r + 1) - lo) * sizeof(float);
        HDL_TRY(expect(c, r, mine * sizeof(float)));
        HDL_TRY(post(c, r, lay(c, KIND_SHARES, buf + lo, bytes, &at), bytes));
    }
    HDL_TRY(wait_all(c));
    for (uint32_t r = 0; r < c->base.size; r++)
        if (r != me)
            HDL_TRY(check(c, r, KIND_SHARES, mine * sizeof(float)));
    sum_all(c, buf + from, out, mine);
    return HDL_OK;
}

/* Each rank's share to everybody. */
static hdl_err gather_shares(coll_ucx *c, float *buf, size_t n)
{
    uint32_t me = c->base.rank;
    size_t at = 0, mine = (share_at(c, n, me + 1) - share_at(c, n, me)) * sizeof(float);
    const unsigned char *message = lay(c, KIND_SHARES, c->mem->sums, mine, &at);
    for (uint32_t i = 1; i < c->base.size; i++) {
        uint32_t r = (me + i) % c->base.size;
        HDL_TRY(expect(c, r, (share_at(c, n, r + 1) - share_at(c, n, r)) * sizeof(float)));
        HDL_TRY(post(c, r, message, mine));
    }
    HDL_TRY(wait_all(c));
    for (uint32_t r = 0; r < c->base.size; r++) {
        size_t lo = share_at(c, n, r), bytes = (share_at(c, n, r + 1) - lo) * sizeof(float);
        if (r != me)
            HDL_TRY(check(c, r, KIND_SHARES, bytes));
        memcpy(buf + lo, r == me ? c->mem->sums : payload(c, r), bytes);
    }
    return HDL_OK;
}

static hdl_err ucx_all_reduce(hdl_coll *coll, float *buf, size_t n)
{
    coll_ucx *c = ucx_of(coll);
    size_t piece = c->mem->buffer_bytes / sizeof(float);
    for (size_t at = 0; at < n; at += piece) {
        size_t len = hdl_min_size(piece, n - at);
        if (len <= HDL_COLL_SMALL_FLOATS || coll->size == 2) {
            HDL_TRY(exchange(c, KIND_EXCHANGE, buf + at, len * sizeof(float)));
            sum_all(c, buf + at, buf + at, len);
        } else {
            HDL_TRY(reduce_shares(c, buf + at, len, c->mem->sums));
            HDL_TRY(gather_shares(c, buf + at, len));
        }
    }
    return HDL_OK;
}

/* By whole buffers of the input, as they lie: of a piece each rank keeps what falls into its part.
 */
static hdl_err ucx_reduce_scatter(hdl_coll *coll, const float *in, float *out, size_t n)
{
    coll_ucx *c = ucx_of(coll);
    size_t piece = c->mem->buffer_bytes / sizeof(float);
    size_t lo = n / coll->size * coll->rank, hi = lo + n / coll->size;
    for (size_t at = 0; at < n; at += piece) {
        size_t len = hdl_min_size(piece, n - at);
        HDL_TRY(exchange(c, KIND_EXCHANGE, in + at, len * sizeof(float)));
        size_t from = at > lo ? at : lo, to = at + len < hi ? at + len : hi;
        if (from >= to)
            continue;
        sum_all(c, in + at, c->mem->sums, len);
        memcpy(out + (from - lo), c->mem->sums + (from - at), (to - from) * sizeof(float));
    }
    return HDL_OK;
}

/* ---- copies -------------------------------------------------------------------------------- */

static hdl_err ucx_all_gather(hdl_coll *coll, const void *in, void *out, size_t bytes)
{
    coll_ucx *c = ucx_of(coll);
    char *to = out;
    for (size_t at = 0; at < bytes; at += c->mem->buffer_bytes) {
        size_t len = hdl_min_size(c->mem->buffer_bytes, bytes - at);
        HDL_TRY(exchange(c, KIND_EXCHANGE, (const char *)in + at, len));
        for (uint32_t r = 0; r < coll->size; r++)
            memmove(to + r * bytes + at,
                    r == coll->rank ? (const char *)in + at : (const char *)payload(c, r), len);
    }
    return HDL_OK;
}

static size_t rest(size_t bytes, size_t at, size_t piece)
{
    return at < bytes ? hdl_min_size(piece, bytes - at) : 0;
}

/* Both sides of a pair know its size: a pair whose bytes are through takes no part in the rest. */
static hdl_err ucx_all_to_all_v(hdl_coll *coll, const hdl_a2a_args *args)
{
    coll_ucx *c = ucx_of(coll);
    uint32_t me = coll->rank;
    size_t piece = c->mem->buffer_bytes / coll->size & ~(size_t)15, most = 0;
    for (uint32_t r = 0; r < coll->size; r++)
        most = args->in_bytes[r] > most ? args->in_bytes[r] : most;
    for (uint32_t r = 0; r < coll->size; r++)
        most = args->out_bytes[r] > most ? args->out_bytes[r] : most;
    for (size_t at = 0; at < most; at += piece) {
        size_t out_at = 0;
        for (uint32_t i = 1; i < coll->size; i++) {
            uint32_t r = (me + i) % coll->size;
            size_t out = rest(args->in_bytes[r], at, piece);
            size_t in = rest(args->out_bytes[r], at, piece);
            const char *from = (const char *)args->in + args->in_at[r] + at;
            if (in != 0)
                HDL_TRY(expect(c, r, in));
            if (out != 0)
                HDL_TRY(post(c, r, lay(c, KIND_PIECES, from, out, &out_at), out));
        }
        HDL_TRY(wait_all(c));
        for (uint32_t r = 0; r < coll->size; r++) {
            size_t in = rest(args->out_bytes[r], at, piece);
            if (in == 0)
                continue;
            if (r != me)
                HDL_TRY(check(c, r, KIND_PIECES, in));
            const char *own = (const char *)args->in + args->in_at[r] + at;
            memcpy((char *)args->out + args->out_at[r] + at, r == me ? own : payload(c, r), in);
        }
    }
    return HDL_OK;
}

static hdl_err send_piece(coll_ucx *c, kind k, const void *buf, size_t bytes, uint32_t to)
{
    size_t at = 0;
    const unsigned char *message = lay(c, k, buf, bytes, &at);
    for (uint32_t r = 0; r < c->base.size; r++)
        if (r != c->base.rank && (to == r || to == HDL_NONE_U32))
            HDL_TRY(post(c, r, message, bytes));
    return wait_all(c);
}

static hdl_err recv_piece(coll_ucx *c, kind k, void *buf, size_t bytes, uint32_t from)
{
    HDL_TRY(expect(c, from, bytes));
    HDL_TRY(wait_all(c));
    HDL_TRY(check(c, from, k, bytes));
    memcpy(buf, payload(c, from), bytes);
    return HDL_OK;
}

/* The root may run ahead of the others, by what they receive before they ask: UCX keeps it. */
static hdl_err ucx_broadcast(hdl_coll *coll, void *buf, size_t bytes, uint32_t root)
{
    coll_ucx *c = ucx_of(coll);
    for (size_t at = 0; at < bytes; at += c->mem->buffer_bytes) {
        size_t len = hdl_min_size(c->mem->buffer_bytes, bytes - at);
        if (coll->rank == root)
            HDL_TRY(send_piece(c, KIND_BROADCAST, (char *)buf + at, len, HDL_NONE_U32));
        else
            HDL_TRY(recv_piece(c, KIND_BROADCAST, (char *)buf + at, len, root));
    }
    return HDL_OK;
}

static hdl_err ucx_send(hdl_coll *coll, const void *buf, size_t bytes, uint32_t to)
{
    coll_ucx *c = ucx_of(coll);
    for (size_t at = 0; at < bytes; at += c->mem->buffer_bytes)
        HDL_TRY(send_piece(c, KIND_SEND, (const char *)buf + at,
                           hdl_min_size(c->mem->buffer_bytes, bytes - at), to));
    return HDL_OK;
}

static hdl_err ucx_recv(hdl_coll *coll, void *buf, size_t bytes, uint32_t from)
{
    coll_ucx *c = ucx_of(coll);
    for (size_t at = 0; at < bytes; at += c->mem->buffer_bytes)
        HDL_TRY(recv_piece(c, KIND_SEND, (char *)buf + at,
                           hdl_min_size(c->mem->buffer_bytes, bytes - at), from));
    return HDL_OK;
}

static hdl_err ucx_barrier(hdl_coll *coll)
{
    return exchange(ucx_of(coll), KIND_EXCHANGE, NULL, 0);
}

/* ---- life ---------------------------------------------------------------------------------- */

static void free_memory(memory *m)
{
    if (!m)
        return;
    hdl_coll_door_close(m->door); /* first: UCX may still hold the memory */
    free(m->out);
    free(m->in);
    free(m->sums);
    free(m);
}

static hdl_err take_memory(coll_ucx *c, const hdl_coll_opts *opts, hdl_errmsg *why)
{
    size_t asked = opts->buffer_bytes ? opts->buffer_bytes : HDL_COLL_BUFFER_DEFAULT;
    size_t in_bytes = 0;
    memory *m = c->mem;
    m->buffer_bytes = asked < 4096 ? 4096 : asked & ~(size_t)4095;
    m->slot_bytes = m->buffer_bytes + 64; /* of them a head; the rest keeps slots aligned */
    bool ok =
        m->buffer_bytes <= UINT32_MAX / 2 && hdl_mul_size(m->slot_bytes, opts->n_ranks, &in_bytes);
    m->out = ok ? calloc(1, m->slot_bytes + (size_t)HDL_RANKS_MAX * 2 * sizeof(head)) : NULL;
    m->in = ok ? aligned_alloc(64, in_bytes) : NULL;
    m->sums = ok ? malloc(m->buffer_bytes) : NULL;
    if (!m->out || !m->in || !m->sums)
        return hdl_fail(HDL_NOMEM, why, "out of memory; the machine is full; stop other programs");
    return HDL_OK;
}

static hdl_err ucx_open_world(hdl_coll **out, const hdl_coll_opts *opts, hdl_errmsg *why)
{
    coll_ucx *c = calloc(1, sizeof(*c));
    memory *m = calloc(1, sizeof(*m));
    if (!c || !m) {
        free(c);
        free(m);
        hdl_coll_door_close(opts->door);
        return hdl_fail(HDL_NOMEM, why, "out of memory; the machine is full; stop other programs");
    }
    m->door = opts->door;
    c->mem = m;
    hdl_coll_init_world(&c->base, opts);
    hdl_err err = HDL_OK;
    if (!opts->door || !opts->peers || !opts->secret)
        err = hdl_fail(HDL_INVALID, why,
                       "no addresses of the other ranks; the scheduler is of another version; "
                       "update it");
    if (err == HDL_OK)
        err = take_memory(c, opts, why);
    if (err == HDL_OK)
        err = hdl_ucx_meet(m->door, opts, &c->base, why);
    if (err != HDL_OK) {
        free_memory(m);
        free(c);
        return err;
    }
    *out = &c->base;
    return HDL_OK;
}

static hdl_err ucx_split(hdl_coll **out, hdl_coll *parent, const hdl_coll_part *part)
{
    if (part->idx >= HDL_COLL_SPLITS_MAX)
        return HDL_BUSY;
    coll_ucx *c = calloc(1, sizeof(*c));
    if (!c)
        return HDL_NOMEM;
    c->mem = ucx_of(parent)->mem;
    c->comm = 1 + part->idx;
    *out = &c->base;
    return HDL_OK;
}

/* Connections are cut when they are closed, with what is still on its way. A rank whose epoch went
 * well therefore waits until the others have all that it sent. */
static void say_bye(coll_ucx *c)
{
    if (hdl_coll_poll(&c->base) != HDL_OK || c->base.size == 1)
        return;
    c->base.timeout_us = BYE_US;
    (void)!exchange(c, KIND_BYE, NULL, 0); /* whoever is gone needs nothing any more */
}

static void ucx_close(hdl_coll *coll)
{
    coll_ucx *c = ucx_of(coll);
    if (coll->root == coll) {
        say_bye(c);
        free_memory(c->mem);
    }
    free(c);
}

const hdl_coll_backend hdl_coll_ucx = {
    .name = "ucx",
    .open = ucx_open_world,
    .split = ucx_split,
    .close = ucx_close,
    .all_reduce = ucx_all_reduce,
    .all_gather = ucx_all_gather,
    .reduce_scatter = ucx_reduce_scatter,
    .all_to_all_v = ucx_all_to_all_v,
    .broadcast = ucx_broadcast,
    .send = ucx_send,
    .recv = ucx_recv,
    .barrier = ucx_barrier,
};
