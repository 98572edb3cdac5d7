/* SPDX-License-Identifier: Apache-2.0 */
#include "coll/script.h"

#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/rng.h"
#include <heddle/limits.h>

enum { BIG = 5000 /* floats: several buffers, odd rest */ };

/* Rank r's element i of a call; sums of such values depend on the order of addition. */
static float value(uint32_t r, size_t i, uint32_t call)
{
    hdl_rng rng;
    hdl_rng_init(&rng, r * 1000003u + i * 31u + call);
    return (float)(hdl_rng_unit(&rng) * 2 - 1) * (float)(1 + (r * 7 + i) % 1000);
}

static float tree(uint32_t lo, uint32_t n, size_t i, uint32_t call)
{
    if (n == 1)
        return value(lo, i, call);
    return tree(lo, n / 2, i, call) + tree(lo + n / 2, n / 2, i, call);
}

/* ---- operations --------------------------------------------------------------------------- */

static void check_all_reduce(hdl_coll *c, size_t n, uint32_t call)
{
    static _Thread_local float buf[BIG];
    for (size_t i = 0; i < n; i++)
        buf[i] = value(hdl_coll_rank(c), i, call);
    MUST(hdl_coll_all_reduce(c, buf, n) == HDL_OK);
    for (size_t i = 0; i<n; i += n> 100 ? 97 : 1) {
        float want = tree(0, hdl_coll_size(c), i, call);
        MUST(memcmp(&buf[i], &want, sizeof(want)) == 0);
    }
}

static void check_all_gather(hdl_coll *c, size_t bytes)
{
    unsigned char *in = malloc(bytes), *out = malloc(bytes * hdl_coll_size(c));
    memset(in, (int)(hdl_coll_rank(c) + 1), bytes);
    MUST(hdl_coll_all_gather(c, in, out, bytes) == HDL_OK);
    for (uint32_t r = 0; r < hdl_coll_size(c); r++)
        for (size_t i = 0; i < bytes; i++)
            MUST(out[r * bytes + i] == r + 1);
    free(in);
    free(out);
}

static void check_reduce_scatter(hdl_coll *c, size_t share, uint32_t call)
{
    size_t n = share * hdl_coll_size(c);
    float *in = malloc(n * sizeof(*in)), *out = malloc(share * sizeof(*out));
    for (size_t i = 0; i < n; i++)
        in[i] = value(hdl_coll_rank(c), i, call);
    MUST(hdl_coll_reduce_scatter(c, in, out, n) == HDL_OK);
    for (size_t i = 0; i < share; i++)
        MUST(out[i] == tree(0, hdl_coll_size(c), hdl_coll_rank(c) * share + i, call));
    free(in);
    free(out);
}

/* Rank s sends (s * 3 + r * 7) * scale bytes of value s ^ r to rank r. */
static void check_all_to_all_v(hdl_coll *c, size_t scale)
{
    uint32_t size = hdl_coll_size(c), me = hdl_coll_rank(c);
    size_t in_at[HDL_RANKS_MAX], in_bytes[HDL_RANKS_MAX], out_at[HDL_RANKS_MAX];
    size_t out_bytes[HDL_RANKS_MAX], in_total = 0, out_total = 0;
    for (uint32_t r = 0; r < size; r++) {
        in_bytes[r] = (me * 3 + r * 7) * scale, in_at[r] = in_total, in_total += in_bytes[r];
        out_bytes[r] = (r * 3 + me * 7) * scale, out_at[r] = out_total, out_total += out_bytes[r];
    }
    unsigned char *in = malloc(in_total + 1), *out = malloc(out_total + 1);
    for (uint32_t r = 0; r < size; r++)
        memset(in + in_at[r], (int)(me ^ r), in_bytes[r]);
    hdl_a2a_args args = {.in = in,
                         .in_at = in_at,
                         .in_bytes = in_bytes,
                         .out = out,
                         .out_at = out_at,
                         .out_bytes = out_bytes};
    MUST(hdl_coll_all_to_all_v(c, &args) == HDL_OK);
    for (uint32_t r = 0; r < size; r++)
        for (size_t i = 0; i < out_bytes[r]; i++)
            MUST(out[out_at[r] + i] == (me ^ r));
    free(in);
    free(out);
}

static void check_broadcast(hdl_coll *c, size_t bytes, uint32_t root)
{
    unsigned char *buf = malloc(bytes);
    memset(buf, hdl_coll_rank(c) == root ? 0x5a : 0, bytes);
    MUST(hdl_coll_broadcast(c, buf, bytes, root) == HDL_OK);
    for (size_t i = 0; i < bytes; i++)
        MUST(buf[i] == 0x5a);
    free(buf);
}

/* Around a ring, even ranks send first; then everybody to rank 0, out of order. */
static void check_send_recv(hdl_coll *c, size_t bytes)
{
    uint32_t me = hdl_coll_rank(c), size = hdl_coll_size(c);
    uint32_t next = (me + 1) % size, prev = (me + size - 1) % size;
    unsigned char *out = malloc(bytes), *in = malloc(bytes);
    memset(out, (int)me + 1, bytes);
    if (me % 2 == 0)
        MUST(hdl_coll_send(c, out, bytes, next) == HDL_OK);
    MUST(hdl_coll_recv(c, in, bytes, prev) == HDL_OK);
    if (me % 2 != 0)
        MUST(hdl_coll_send(c, out, bytes, next) == HDL_OK);
    MUST(in[0] == prev + 1 && in[bytes - 1] == prev + 1);
    if (me != 0)
        MUST(hdl_coll_send(c, out, bytes, 0) == HDL_OK);
    for (uint32_t r = size - 1; me == 0 && r > 0; r--) {
        MUST(hdl_coll_recv(c, in, bytes, r) == HDL_OK);
        MUST(in[0] == r + 1 && in[bytes - 1] == r + 1);
    }
    free(out);
    free(in);
}

static void all_operations(hdl_coll *c)
{
    static const size_t sizes[] = {1, 3, 1024, 1025, BIG};
    for (uint32_t i = 0; i < HDL_ARRAY_LEN(sizes); i++) {
        check_all_reduce(c, sizes[i], i);
        check_all_gather(c, sizes[i]);
        check_reduce_scatter(c, sizes[i] / 3 + 1, i);
        check_all_to_all_v(c, sizes[i]);
        check_broadcast(c, sizes[i], i % hdl_coll_size(c));
        MUST(hdl_coll_barrier(c) == HDL_OK);
    }
}

void script_operations(hdl_coll *world)
{
    all_operations(world);
    check_send_recv(world, 100);
    check_send_recv(world, 20000);
    uint32_t me = hdl_coll_rank(world), size = hdl_coll_size(world);
    hdl_coll *pair = NULL, *stride = NULL, *alone = NULL;
    MUST(hdl_coll_split(&pair, world, me & ~1u, 1, 2) == HDL_OK);
    MUST(hdl_coll_split(&stride, world, me & 1u, 2, size / 2) == HDL_OK);
    MUST(hdl_coll_split(&alone, world, me, 1, 1) == HDL_OK);
    MUST(hdl_coll_rank(pair) == (me & 1u) && hdl_coll_rank(stride) == me / 2);
    all_operations(pair);
    all_operations(stride);
    all_operations(alone);
    /* Interleaved, without anything that keeps the parts in step. */
    for (uint32_t i = 0; i < 50; i++) {
        check_all_reduce(pair, 40, i);
        check_broadcast(world, 64, i % size);
        check_all_reduce(stride, 1100, i);
    }
    hdl_coll_close(alone);
    hdl_coll_close(stride);
    hdl_coll_close(pair);
}

/* A root that runs ahead must not overwrite what a slow reader has not seen (rule R1). */
void script_fast_root(hdl_coll *c)
{
    for (uint32_t i = 0; i < 3000; i++) {
        uint32_t word = hdl_coll_rank(c) == 0 ? i : 0;
        if (hdl_coll_rank(c) != 0 && i % 500 == 0)
            hdl_clock_sleep_us(1000);
        MUST(hdl_coll_broadcast(c, &word, sizeof(word), 0) == HDL_OK);
        MUST(word == i);
    }
}

uint64_t script_digest(hdl_coll *world)
{
    static const size_t sizes[] = {1, 64, 1023, 4096, 4097, 3 * BIG};
    uint64_t digest = 1;
    float *buf = malloc(3 * BIG * sizeof(*buf));
    for (uint32_t call = 0; call < HDL_ARRAY_LEN(sizes); call++) {
        for (size_t i = 0; i < sizes[call]; i++)
            buf[i] = value(hdl_coll_rank(world), i, call);
        MUST(hdl_coll_all_reduce(world, buf, sizes[call]) == HDL_OK);
        digest = hdl_hash_bytes(buf, sizes[call] * sizeof(*buf), digest);
    }
    free(buf);
    return digest;
}
