/* SPDX-License-Identifier: Apache-2.0 */
/* Collectives over UCX, between processes of one host and over its loopback: every operation
 * against its definition, the same bits as over shared memory, strangers at the door, deaths and
 * aborts. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "coll/script.h"
#include <heddle/limits.h>

/* Shared by the processes of a group; what the scheduler does in life. */
typedef struct meeting {
    char doors[HDL_RANKS_MAX][HDL_COLL_ADDRESS_BYTES];
    atomic_uint n_doors, n_done;
    uint64_t digests[HDL_RANKS_MAX];
} meeting;

typedef struct group {
    const char *backend;
    uint32_t n_ranks;
    uint64_t timeout_us;
    void (*script)(hdl_coll *world);
    meeting *m;
} group;

typedef struct rank {
    const group *g;
    uint32_t idx;
    unsigned char secret[HDL_COLL_SECRET_BYTES];
} rank;

static const unsigned char SECRET[HDL_COLL_SECRET_BYTES] = "0123456789abcde";

static bool have_ucx(void)
{
    char version[HDL_COLL_ADDRESS_BYTES];
    hdl_errmsg why = {0};
    if (hdl_coll_ucx_version(version, &why) == HDL_OK)
        return true;
    print_message("skipped: %s\n", why.text);
    return false;
}

static group make_group(uint32_t n_ranks, void (*script)(hdl_coll *))
{
    group g = {.backend = "ucx", .n_ranks = n_ranks, .timeout_us = 30000000, .script = script};
    g.m = mmap(NULL, sizeof(*g.m), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(g.m != MAP_FAILED);
    return g;
}

static hdl_err open_rank(hdl_coll **coll, const rank *r, hdl_errmsg *why)
{
    meeting *m = r->g->m;
    hdl_coll_opts opts = {.backend = r->g->backend,
                          .rank = r->idx,
                          .n_ranks = r->g->n_ranks,
                          .buffer_bytes = SCRIPT_BUFFER,
                          .timeout_us = r->g->timeout_us,
                          .peers = m->doors,
                          .secret = r->secret};
    const hdl_coll_door_opts door = {.host = "127.0.0.1"};
    MUST(hdl_coll_door_open(&opts.door, &door, m->doors[r->idx], why) == HDL_OK);
    atomic_fetch_add(&m->n_doors, 1);
    while (atomic_load(&m->n_doors) < r->g->n_ranks)
        hdl_clock_sleep_us(1000);
    return hdl_coll_open(coll, &opts, why);
}

static void *run_rank(void *arg)
{
    rank *r = arg;
    hdl_coll *coll = NULL;
    hdl_errmsg why = {0};
    if (open_rank(&coll, r, &why) != HDL_OK) {
        fprintf(stderr, "rank %u: %s\n", r->idx, why.text);
        abort();
    }
    r->g->m->digests[r->idx] = script_digest(coll);
    r->g->script(coll);
    hdl_coll_close(coll);
    atomic_fetch_add(&r->g->m->n_done, 1);
    return NULL;
}

static rank rank_of(const group *g, uint32_t idx)
{
    rank r = {.g = g, .idx = idx};
    memcpy(r.secret, SECRET, sizeof(r.secret));
    return r;
}

static pid_t start_process(const group *g, uint32_t idx)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        rank r = rank_of(g, idx);
        run_rank(&r);
        _exit(0);
    }
    return pid;
}

static void run_processes(const group *g)
{
    pid_t pids[HDL_RANKS_MAX];
    for (uint32_t i = 0; i < g->n_ranks; i++)
        pids[i] = start_process(g, i);
    for (uint32_t i = 0; i < g->n_ranks; i++) {
        int status = 0;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
}

/* ---- operations ---------------------------------------------------------------------------- */

static void test_processes(void **state)
{
    (void)state;
    for (uint32_t n = 2; n <= 4; n *= 2) {
        group g = make_group(n, script_operations);
        run_processes(&g);
    }
    group g = make_group(4, script_fast_root);
    run_processes(&g);
}

static void test_checked(void **state)
{
    (void)state;
    group g = make_group(4, script_operations);
    g.backend = "check+ucx";
    run_processes(&g);
}

static void nothing(hdl_coll *world) { MUST(hdl_coll_barrier(world) == HDL_OK); }

typedef struct shm_rank {
    uint32_t idx, n_ranks;
    uint64_t digest;
} shm_rank;

static void *run_shm(void *arg)
{
    shm_rank *r = arg;
    char address[64];
    hdl_coll *coll = NULL;
    hdl_errmsg why = {0};
    snprintf(address, sizeof(address), "heddle-ucx-%d-%u", (int)getpid(), r->n_ranks);
    hdl_coll_opts opts = {.backend = "shm",
                          .address = address,
                          .rank = r->idx,
                          .n_ranks = r->n_ranks,
                          .buffer_bytes = SCRIPT_BUFFER,
                          .timeout_us = 30000000};
    MUST(hdl_coll_open(&coll, &opts, &why) == HDL_OK);
    r->digest = script_digest(coll);
    hdl_coll_close(coll);
    return NULL;
}

static uint64_t digest_over_shm(uint32_t n_ranks)
{
    pthread_t threads[HDL_RANKS_MAX];
    shm_rank ranks[HDL_RANKS_MAX];
    for (uint32_t i = 0; i < n_ranks; i++) {
        ranks[i] = (shm_rank){.idx = i, .n_ranks = n_ranks};
        assert_int_equal(pthread_create(&threads[i], NULL, run_shm, &ranks[i]), 0);
    }
    for (uint32_t i = 0; i < n_ranks; i++)
        pthread_join(threads[i], NULL);
    return ranks[0].digest;
}

/* Sums over UCX and over shared memory have the same bits. */
static void test_same_bits(void **state)
{
    (void)state;
    uint64_t last = 0;
    for (uint32_t n = 2; n <= 8; n *= 2) {
        group g = make_group(n, nothing);
        run_processes(&g);
        uint64_t want = digest_over_shm(n);
        for (uint32_t i = 0; i < n; i++)
            assert_int_equal(g.m->digests[i], want);
        assert_true(want != last); /* the digest is one of the sums */
        last = want;
    }
}

/* ---- failures ------------------------------------------------------------------------------ */

/* The peer is killed in the middle: an error at once, not at the deadline, and closing ends. */
static void test_killed_peer(void **state)
{
    (void)state;
    group g = make_group(2, nothing);
    pid_t pid = fork();
    assert_true(pid >= 0);
    hdl_coll *c = NULL;
    hdl_errmsg why = {0};
    float x[4] = {1, 2, 3, 4};
    rank r = rank_of(&g, pid == 0);
    hdl_err err = open_rank(&c, &r, &why);
    if (pid == 0) {
        if (err == HDL_OK && hdl_coll_all_reduce(c, x, 4) == HDL_OK)
            kill(getpid(), SIGKILL);
        _exit(1);
    }
    assert_int_equal(err, HDL_OK);
    assert_int_equal(hdl_coll_all_reduce(c, x, 4), HDL_OK);
    assert_true(x[3] == 8);
    assert_int_equal(hdl_coll_all_reduce(c, x, 4), HDL_PEER);
    assert_int_equal(hdl_coll_poll(c), HDL_PEER); /* sticky */
    hdl_coll_close(c);
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
}

/* Whoever does not know the secret does not get in, and those who do are not kept from meeting. */
static void test_stranger(void **state)
{
    (void)state;
    group g = make_group(2, nothing), theirs = make_group(2, nothing);
    pid_t first = start_process(&g, 0);
    while (atomic_load(&g.m->n_doors) < 1)
        hdl_clock_sleep_us(1000);
    memcpy(theirs.m->doors, g.m->doors, sizeof(g.m->doors));
    atomic_store(&theirs.m->n_doors, 1);
    theirs.timeout_us = 5000000;
    pid_t stranger = fork();
    assert_true(stranger >= 0);
    if (stranger == 0) {
        rank r = rank_of(&theirs, 1);
        hdl_coll *c = NULL;
        hdl_errmsg why = {0};
        r.secret[HDL_COLL_SECRET_BYTES - 1] ^= 1;
        hdl_err err = open_rank(&c, &r, &why);
        _exit(err == HDL_PEER || err == HDL_TIMEOUT ? 0 : 1);
    }
    /* Only now does rank 0 look around: the stranger is before its door. */
    while (atomic_load(&theirs.m->n_doors) < 2)
        hdl_clock_sleep_us(1000);
    hdl_clock_sleep_us(50000);
    pid_t second = start_process(&g, 1);
    int status = 0;
    assert_int_equal(waitpid(stranger, &status, 0), stranger);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_int_equal(waitpid(first, &status, 0), first);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_int_equal(waitpid(second, &status, 0), second);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void *abort_soon(void *arg)
{
    hdl_clock_sleep_us(20000);
    hdl_coll_abort(arg);
    return NULL;
}

/* A rank whose peer does nothing is freed by an abort from another thread. */
static void test_abort(void **state)
{
    (void)state;
    group g = make_group(2, nothing);
    pid_t pid = fork();
    assert_true(pid >= 0);
    hdl_coll *c = NULL;
    hdl_errmsg why = {0};
    rank r = rank_of(&g, pid == 0);
    hdl_err err = open_rank(&c, &r, &why);
    if (pid == 0) {
        while (atomic_load(&g.m->n_done) == 0)
            hdl_clock_sleep_us(1000);
        _exit(err != HDL_OK);
    }
    assert_int_equal(err, HDL_OK);
    float x[4] = {0};
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, abort_soon, c), 0);
    assert_int_equal(hdl_coll_all_reduce(c, x, 4), HDL_CANCELLED);
    pthread_join(t, NULL);
    hdl_coll_close(c);
    atomic_store(&g.m->n_done, 1);
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void test_nobody_comes(void **state)
{
    (void)state;
    for (uint32_t idx = 0; idx < 2; idx++) {
        group g = make_group(2, nothing);
        rank r = rank_of(&g, idx);
        hdl_coll *c = NULL;
        hdl_errmsg why = {0};
        g.timeout_us = 200000;
        atomic_store(&g.m->n_doors, 1);
        strcpy(g.m->doors[!idx], "127.0.0.1:1"); /* nobody listens there */
        hdl_err err = open_rank(&c, &r, &why);
        assert_true(err == (idx == 0 ? HDL_TIMEOUT : HDL_PEER));
        assert_true(strlen(why.text) > 10);
    }
}

static void test_bad_doors(void **state)
{
    (void)state;
    static const hdl_coll_door_opts bad[] = {
        {.host = "203.0.113.1"},                       /* not ours */
        {.host = "127.0.0.1", .transports = "pigeon"}, /* no such transport */
        {.host = "", .towards = "no-port"},
    };
    for (size_t i = 0; i < HDL_ARRAY_LEN(bad); i++) {
        char address[HDL_COLL_ADDRESS_BYTES];
        hdl_coll_door *door = NULL;
        hdl_errmsg why = {0};
        assert_int_not_equal(hdl_coll_door_open(&door, &bad[i], address, &why), HDL_OK);
        assert_null(door);
        assert_true(strlen(why.text) > 10);
    }
    hdl_coll *c = NULL;
    hdl_errmsg why = {0};
    const hdl_coll_opts none = {.backend = "ucx", .n_ranks = 2};
    assert_int_equal(hdl_coll_open(&c, &none, &why), HDL_INVALID);
}

int main(void)
{
    /* Those that fork come first: UCX is loaded in each child, not here. */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_processes),    cmocka_unit_test(test_checked),
        cmocka_unit_test(test_same_bits),    cmocka_unit_test(test_stranger),
        cmocka_unit_test(test_killed_peer),  cmocka_unit_test(test_abort),
        cmocka_unit_test(test_nobody_comes), cmocka_unit_test(test_bad_doors),
    };
    hdl_coll_ucx_prepare("tcp"); /* ThreadSanitizer does not survive patched mappings */
    if (fork() == 0)
        _exit(have_ucx() ? 0 : 77);
    int status = 0;
    wait(&status);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        return 77;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
