/* SPDX-License-Identifier: Apache-2.0 */
/* The plugin's collectives (kernels/cuda/nccl.cu) between the fiber plugin's devices, over the part
 * of NCCL that fiber/nccl.cc does between threads: sums against the tree of worker/coll, whatever
 * the size; moves; parts; and an abort that ends a wait. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <heddle/device.h>

#include "base/assert.h"
#include "base/clock.h"
#include "worker/coll/coll_impl.h"

enum { RANKS_MAX = 8 };

typedef struct rank {
    const hdl_plugin *plugin;
    const uint8_t *id;
    uint32_t rank, n;
    void (*script)(struct rank *r);
    hdl_plugin_device *device;
    hdl_plugin_coll *world;
} rank;

static const hdl_plugin *plugin;

#define MUST(call) HDL_ASSERT((call) == HDL_OK)

/* ---- ranks as threads ---------------------------------------------------------------------- */

static void *run_rank(void *arg)
{
    rank *r = arg;
    hdl_errmsg why = {0};
    const hdl_plugin_opts device = {.scratch_bytes = 1 << 20};
    const hdl_plugin_coll_opts coll = {
        .id = r->id, .rank = r->rank, .n_ranks = r->n, .timeout_us = 20 * HDL_SEC_US};
    MUST(r->plugin->open(&r->device, &device, &why));
    MUST(r->plugin->colls->open(&r->world, r->device, &coll, &why));
    r->script(r);
    r->plugin->colls->close(r->world);
    r->plugin->close(r->device);
    return NULL;
}

static void run(uint32_t n, void (*script)(rank *r))
{
    static rank ranks[RANKS_MAX];
    pthread_t threads[RANKS_MAX];
    uint8_t id[HDL_PLUGIN_COLL_ID_BYTES];
    hdl_errmsg why = {0};
    assert_int_equal(plugin->colls->make_id(id, &why), HDL_OK);
    for (uint32_t i = 0; i < n; i++) {
        ranks[i] = (rank){.plugin = plugin, .id = id, .rank = i, .n = n, .script = script};
        assert_int_equal(pthread_create(&threads[i], NULL, run_rank, &ranks[i]), 0);
    }
    for (uint32_t i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
}

/* ---- numbers ------------------------------------------------------------------------------- */

/* Of very different sizes, so that any other order of a sum would show. */
static float number(uint32_t rank_, size_t i)
{
    uint32_t x = (uint32_t)i * 2654435761u ^ (rank_ + 1) * 0x9E3779B9u;
    x ^= x >> 15;
    x *= 0x2C1B3C6Du;
    x ^= x >> 13;
    const float scale[] = {1e-3f, 1.0f, 1e3f, 1e6f};
    return ((float)(x & 0xffff) - 32768.0f) / 32768.0f * scale[x >> 30];
}

static float *host_numbers(uint32_t rank_, size_t n)
{
    float *x = malloc(n * sizeof *x);
    HDL_ASSERT(x != NULL);
    for (size_t i = 0; i < n; i++)
        x[i] = number(rank_, i);
    return x;
}

static float *device_copy(const rank *r, const float *from, size_t n)
{
    float *to = r->plugin->alloc(r->device, n * sizeof *to);
    HDL_ASSERT(to != NULL);
    MUST(r->plugin->write(r->device, to, from, n * sizeof *to));
    return to;
}

static void check(const rank *r, const float *device, const float *want, size_t n)
{
    float *got = malloc(n * sizeof *got);
    HDL_ASSERT(got != NULL);
    MUST(r->plugin->read(r->device, got, device, n * sizeof *got));
    MUST(r->plugin->sync(r->device));
    HDL_ASSERT(memcmp(got, want, n * sizeof *got) == 0);
    free(got);
}

/* The sum of ranks {base + i * stride} as shm and ucx make it. */
static void expect_sum(float *want, uint32_t base, uint32_t stride, uint32_t size, size_t n)
{
    float *in[RANKS_MAX];
    for (uint32_t i = 0; i < size; i++)
        in[i] = host_numbers(base + i * stride, n);
    hdl_coll_tree_sum((const float *const *)in, size, want, n);
    for (uint32_t i = 0; i < size; i++)
        free(in[i]);
}

/* ---- scripts ------------------------------------------------------------------------------- */

static void reduce_in(const rank *r, hdl_plugin_coll *coll, const uint32_t part[3], size_t n)
{
    float *mine = host_numbers(r->rank, n), *want = malloc(n * sizeof *want);
    HDL_ASSERT(want != NULL);
    float *buf = device_copy(r, mine, n);
    MUST(r->plugin->colls->all_reduce(coll, buf, n));
    expect_sum(want, part[0], part[1], part[2], n);
    check(r, buf, want, n);
    r->plugin->free(r->device, buf);
    free(mine);
    free(want);
}

static void sums(rank *r)
{
    const size_t sizes[] = {1, 5, 16384, 16385, 40001, (1 << 20) + 7};
    const uint32_t all[3] = {0, 1, r->n};
    for (size_t i = 0; i < HDL_ARRAY_LEN(sizes); i++)
        reduce_in(r, r->world, all, sizes[i]);
}

/* Pairs of neighbours, then every second rank, as tp and ep parts are. */
static void parts(rank *r)
{
    const uint32_t pair[3] = {r->rank & ~1u, 1, 2}, half[3] = {r->rank & 1, 2, r->n / 2};
    hdl_plugin_coll *a, *b;
    MUST(r->plugin->colls->split(&a, r->world, pair[0], pair[1], pair[2]));
    MUST(r->plugin->colls->split(&b, r->world, half[0], half[1], half[2]));
    reduce_in(r, a, pair, 1000);
    reduce_in(r, b, half, 33000);
    reduce_in(r, a, pair, 20000);
    r->plugin->colls->close(b);
    r->plugin->colls->close(a);
}

static void gathers(rank *r)
{
    enum { EACH = 77 };
    float want[RANKS_MAX * EACH], mine[RANKS_MAX * EACH] = {0};
    for (uint32_t k = 0; k < r->n; k++)
        for (uint32_t i = 0; i < EACH; i++)
            want[k * EACH + i] = number(k, i);
    memcpy(mine + r->rank * EACH, want + r->rank * EACH, EACH * sizeof *mine);
    size_t n = (size_t)r->n * EACH;
    float *buf = device_copy(r, mine, n);
    MUST(r->plugin->colls->all_gather(r->world, buf, EACH * sizeof *buf));
    check(r, buf, want, n);
    r->plugin->free(r->device, buf);
}

/* Rank s sends s + 1 + r floats to rank r. */
static void exchanges(rank *r)
{
    enum { ROOM = 32 };
    size_t in_at[RANKS_MAX], in_bytes[RANKS_MAX], out_at[RANKS_MAX], out_bytes[RANKS_MAX];
    float mine[RANKS_MAX * ROOM] = {0}, want[RANKS_MAX * ROOM] = {0};
    const float nothing[RANKS_MAX * ROOM] = {0};
    for (uint32_t k = 0; k < r->n; k++) {
        in_at[k] = out_at[k] = k * ROOM * sizeof(float);
        in_bytes[k] = (r->rank + 1 + k) * sizeof(float);
        out_bytes[k] = (k + 1 + r->rank) * sizeof(float);
        for (uint32_t i = 0; i < r->rank + 1 + k; i++) {
            mine[k * ROOM + i] = number(r->rank * 100 + k, i);
            want[k * ROOM + i] = number(k * 100 + r->rank, i);
        }
    }
    size_t n = (size_t)r->n * ROOM;
    float *in = device_copy(r, mine, n), *out = device_copy(r, nothing, n);
    hdl_a2a_args args = {in, in_at, in_bytes, out, out_at, out_bytes};
    MUST(r->plugin->colls->all_to_all_v(r->world, &args));
    check(r, out, want, n);
    r->plugin->free(r->device, in);
    r->plugin->free(r->device, out);
}

static void hands_over(rank *r)
{
    enum { N = 300 };
    float *mine = host_numbers(0, N);
    const float nothing[N] = {0};
    float *buf = device_copy(r, r->rank == 0 ? mine : nothing, N);
    if (r->rank == 0)
        MUST(r->plugin->colls->send(r->world, buf, N * sizeof *buf, 1));
    else
        MUST(r->plugin->colls->recv(r->world, buf, N * sizeof *buf, 0));
    check(r, buf, mine, N);
    r->plugin->free(r->device, buf);
    free(mine);
}

static void *abort_soon(void *arg)
{
    rank *r = arg;
    hdl_clock_sleep_us(20000);
    r->plugin->colls->abort(r->world);
    return NULL;
}

/* Rank 0 aborts: rank 1, which waits for it, gets an error, and later calls of both end at once. */
static void aborts(rank *r)
{
    pthread_t thread;
    const float nothing[8] = {0};
    hdl_plugin_coll *part;
    MUST(r->plugin->colls->split(&part, r->world, 0, 1, 2));
    float *buf = device_copy(r, nothing, 8);
    if (r->rank == 0) {
        r->plugin->colls->abort(r->world);
        HDL_ASSERT(r->plugin->colls->all_reduce(part, buf, 8) == HDL_CANCELLED);
        HDL_ASSERT(r->plugin->colls->all_gather(r->world, buf, 4) == HDL_CANCELLED);
    } else { /* a peer that is gone is an error */
        HDL_ASSERT(pthread_create(&thread, NULL, abort_soon, r) == 0);
        HDL_ASSERT(r->plugin->colls->all_reduce(part, buf, 8) != HDL_OK);
        pthread_join(thread, NULL);
        HDL_ASSERT(r->plugin->colls->all_reduce(part, buf, 8) == HDL_CANCELLED);
    }
    r->plugin->free(r->device, buf);
    r->plugin->colls->close(part);
}

/* ---- tests --------------------------------------------------------------------------------- */

static void test_sums(void **state)
{
    (void)state;
    run(2, sums);
    run(4, sums);
    run(8, sums);
}

static void test_parts(void **state)
{
    (void)state;
    run(4, parts);
    run(8, parts);
}

static void test_moves(void **state)
{
    (void)state;
    run(2, hands_over);
    for (uint32_t n = 2; n <= RANKS_MAX; n *= 2) {
        run(n, gathers);
        run(n, exchanges);
    }
}

static void test_abort(void **state)
{
    (void)state;
    run(2, aborts);
}

static void test_ranks_beyond_the_tree(void **state)
{
    (void)state;
    const hdl_plugin_opts opts = {.scratch_bytes = 1 << 20};
    hdl_plugin_device *device;
    hdl_plugin_coll *coll;
    hdl_errmsg why = {0};
    uint8_t id[HDL_PLUGIN_COLL_ID_BYTES] = {0};
    const hdl_plugin_coll_opts many = {.id = id, .n_ranks = 16, .timeout_us = 1000};
    assert_int_equal(plugin->open(&device, &opts, &why), HDL_OK);
    assert_int_equal(plugin->colls->open(&coll, device, &many, &why), HDL_UNSUPPORTED);
    assert_non_null(strstr(why.text, "16 ranks"));
    plugin->close(device);
}

int main(int argc, char **argv)
{
    hdl_errmsg why = {0};
    if (argc != 2) {
        fprintf(stderr, "usage: %s PLUGIN\n", argv[0]);
        return 2;
    }
    hdl_err err = hdl_plugin_load(&plugin, argv[1], &why);
    if (!plugin || !plugin->colls || (err != HDL_OK && !strstr(why.text, "has no kernel"))) {
        fprintf(stderr, "%s\n", why.text);
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_moves),
        cmocka_unit_test(test_abort),
        cmocka_unit_test(test_ranks_beyond_the_tree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
