/* SPDX-License-Identifier: Apache-2.0 */
/* Collectives between the ranks of a group. Implementations: self (one rank), shm (processes of one
 * host), ucx (CPU ranks on several hosts), nccl (GPUs); coll_check wraps any of them in tests and
 * verifies that all ranks issue the same calls in the same order.
 *
 * Owner: the step thread; only hdl_coll_abort may be called from another thread. Every wait has a
 * deadline and watches the abort flag. An error is sticky: the communicator is of no use
 * afterwards, the worker reports it and waits for the next epoch (where the host process and its
 * weights live on) or exits. A new epoch means new communicators with a new address. */
#pragma once

#include <heddle/err.h>
#include <heddle/types.h>

typedef struct hdl_coll hdl_coll;

enum { HDL_COLL_ADDRESS_BYTES = 64, HDL_COLL_SECRET_BYTES = 16 };

/* Where a rank waits for its peers on other hosts (ucx), before a group forms: the scheduler
 * gathers the addresses of all ranks and gives each the list. Owner: the step thread. */
typedef struct hdl_coll_door hdl_coll_door;

typedef struct hdl_coll_door_opts {
    const char *host; /* address of this machine that peers reach; empty: the one that this machine
                         reaches `towards` from */
    const char *towards;    /* HOST:PORT of the scheduler; of a unix socket: loopback */
    uint16_t port;          /* first of 1024 ports: 64 to listen on, the rest for data; 0: any */
    const char *transports; /* that UCX may use; empty: tcp */
} hdl_coll_door_opts;

/* address: "IP:PORT". HDL_UNSUPPORTED: a build, or a machine, without UCX. */
hdl_err hdl_coll_door_open(hdl_coll_door **out, const hdl_coll_door_opts *opts,
                           char address[HDL_COLL_ADDRESS_BYTES], hdl_errmsg *why) HDL_MUST_CHECK;
void hdl_coll_door_close(hdl_coll_door *door); /* NULL is allowed */

/* Before the process has threads, when UCX may use these transports. For those that register memory
 * UCX watches the process's mappings by patching mmap and its like in the running program; TCP
 * registers none, and then they are left alone. */
void hdl_coll_ucx_prepare(const char *transports);
/* Whether this build and machine can do ucx: HDL_OK and the library's version, or why not. */
hdl_err hdl_coll_ucx_version(char text[HDL_COLL_ADDRESS_BYTES], hdl_errmsg *why);

typedef struct hdl_coll_opts {
    const char *backend;    /* "self", "shm", "ucx", "nccl" */
    const char *address;    /* shm: name of the segment, from the scheduler's assignment, unique to
                               group and epoch */
    uint32_t rank, n_ranks; /* a power of two */
    size_t buffer_bytes;    /* of one rank; longer messages are cut up inside */
    uint64_t timeout_us;    /* of one collective, and of opening */
    /* ucx */
    hdl_coll_door *door;                         /* taken over, whatever comes of opening */
    const char (*peers)[HDL_COLL_ADDRESS_BYTES]; /* [n_ranks] doors of all ranks */
    const uint8_t
        *secret; /* [HDL_COLL_SECRET_BYTES] of this epoch: who does not know it is no peer */
    const volatile uint32_t *cancel; /* opening gives up when it turns non-zero; NULL: never */
} hdl_coll_opts;

/* Opens the world communicator; blocks until all ranks are there or the timeout passes. */
hdl_err hdl_coll_open(hdl_coll **out, const hdl_coll_opts *opts, hdl_errmsg *why) HDL_MUST_CHECK;

/* A part of a communicator: ranks {base + i * stride, i < n}, of which the caller is one. Borrows
 * the parent, which must outlive it. All ranks of the parent make the same calls of split in the
 * same order, each with the part that it belongs to. */
hdl_err hdl_coll_split(hdl_coll **out, hdl_coll *parent, uint32_t base, uint32_t stride,
                       uint32_t n) HDL_MUST_CHECK;
void hdl_coll_close(hdl_coll *coll);

uint32_t hdl_coll_rank(const hdl_coll *coll);
uint32_t hdl_coll_size(const hdl_coll *coll);

/* In place; buf[i] becomes the balanced binary tree, in rank order, of all ranks' buf[i] in f32:
 * ((r0 + r1) + (r2 + r3)) ... Every rank gets the same bits. Finishes the leaf tree of the numerics
 * contract (N2). */
hdl_err hdl_coll_all_reduce(hdl_coll *coll, float *buf, size_t n) HDL_MUST_CHECK;

/* out: [size, bytes], part r from rank r. `in` may be out + rank * bytes. */
hdl_err hdl_coll_all_gather(hdl_coll *coll, const void *in, void *out, size_t bytes) HDL_MUST_CHECK;

/* The tree sum as above, of which rank r keeps elements [r * n / size, (r + 1) * n / size); n is a
 * multiple of size. */
hdl_err hdl_coll_reduce_scatter(hdl_coll *coll, const float *in, float *out,
                                size_t n) HDL_MUST_CHECK;

/* Rank r receives bytes in_bytes[s -> r] of every rank s, laid out by source; offsets in bytes. */
typedef struct hdl_a2a_args {
    const void *in;
    const size_t *in_at, *in_bytes; /* [size] by destination */
    void *out;
    const size_t *out_at, *out_bytes; /* [size] by source */
} hdl_a2a_args;
hdl_err hdl_coll_all_to_all_v(hdl_coll *coll, const hdl_a2a_args *args) HDL_MUST_CHECK;

hdl_err hdl_coll_broadcast(hdl_coll *coll, void *buf, size_t bytes, uint32_t root) HDL_MUST_CHECK;
hdl_err hdl_coll_send(hdl_coll *coll, const void *buf, size_t bytes, uint32_t to) HDL_MUST_CHECK;
hdl_err hdl_coll_recv(hdl_coll *coll, void *buf, size_t bytes, uint32_t from) HDL_MUST_CHECK;
hdl_err hdl_coll_barrier(hdl_coll *coll) HDL_MUST_CHECK;

/* HDL_OK, or the sticky error. */
hdl_err hdl_coll_poll(hdl_coll *coll) HDL_MUST_CHECK;

/* Makes every wait of this rank, present and future, return HDL_CANCELLED. Any thread. */
void hdl_coll_abort(hdl_coll *coll);

/* Microseconds spent inside collectives since open. */
uint64_t hdl_coll_time_us(const hdl_coll *coll);
