/* SPDX-License-Identifier: Apache-2.0 */
/* What a scheduler of several replicas shows of them: a series of step times for each rank of each,
 * over real sockets to fake workers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/config_keys.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/ring.h"
#include "base/thread.h"
#include "fake_worker.h"
#include "scheduler/cluster/cluster.h"

enum { REPLICAS = 3, RANKS = 2, PROMPT = 40, NEW = 30 };

/* Comes true or the test's time limit ends it. */
#define AWAIT(condition)                                                                           \
    while (!(condition))                                                                           \
    hdl_clock_sleep_us(500)

typedef struct fixture {
    hdl_cfg *cfg;
    hdl_config config;
    hdl_cluster *cluster;
    hdl_engine engine;
    hdl_ring *ring;
    fake_worker *workers[REPLICAS * RANKS];
} fixture;

static bool is_ready(fixture *f)
{
    hdl_engine_info info;
    f->engine.info(f->engine.self, &info);
    return info.ready && strcmp(info.state, "ready") == 0;
}

static void start(fixture *f)
{
    hdl_errmsg why = {0};
    const hdl_ring_opts ring = {.kind = HDL_RING_SPSC,
                                .item_bytes = sizeof(hdl_emit),
                                .count = 4096,
                                .wake = HDL_RING_WAKE_NONE};
    const hdl_cfg_opts opts = {
        .keys = hdl_config_keys, .keys_count = hdl_config_keys_count, .values = &f->config};
    assert_int_equal(hdl_cfg_open(&f->cfg, &opts), HDL_OK);
    f->config.tp = RANKS;
    f->config.dp = REPLICAS;
    f->config.model_path = "/models/fake";
    f->config.max_seqs = 1; /* so that replicas share them */
    f->config.step_tokens = 64;
    f->config.rpc_listen = "";
    assert_int_equal(hdl_ring_open(&f->ring, &ring), HDL_OK);
    assert_int_equal(hdl_cluster_open(&f->cluster, &f->config, &why), HDL_OK);
    f->engine = hdl_cluster_engine(f->cluster);
    for (int i = 0; i < REPLICAS * RANKS; i++) { /* one by one: the index is the number */
        f->workers[i] = fake_start(&(fake_opts){.address = hdl_cluster_address(f->cluster)});
        AWAIT(atomic_load(&f->workers[i]->n_assigns) == 1);
        assert_int_equal(f->workers[i]->assign.group * RANKS + f->workers[i]->assign.rank, i);
    }
    AWAIT(is_ready(f));
}

static void stop(fixture *f)
{
    hdl_cluster_close(f->cluster);
    for (size_t i = 0; i < REPLICAS * RANKS; i++)
        fake_kill(f->workers[i]);
    hdl_ring_close(f->ring);
    hdl_cfg_close(f->cfg);
}

static void submit(fixture *f, uint32_t n)
{
    hdl_req_id id;
    hdl_request *req = fake_request(PROMPT, NEW, (hdl_sink){.ring = f->ring, .user = n});
    assert_int_equal(f->engine.submit(f->engine.self, req, &id), HDL_OK);
}

/* As many requests as replicas until the worker has taken steps: which replica gets one is not
 * said. */
static void work_until_steps(fixture *f, const fake_worker *worker, unsigned before)
{
    hdl_emit emit;
    while (atomic_load(&worker->n_steps) == before) {
        for (uint32_t i = 0; i < REPLICAS; i++)
            submit(f, i);
        for (uint32_t left = REPLICAS; left > 0;) {
            if (!hdl_ring_pop(f->ring, &emit))
                hdl_clock_sleep_us(500);
            else if (emit.kind != HDL_EMIT_TOKEN) {
                assert_int_equal(emit.kind, HDL_EMIT_DONE);
                left--;
            }
        }
    }
}

static int64_t counted(hdl_metric_id id, uint32_t i) { return hdl_metric_get(id, i); }

static void every_rank_has_its_series(void **state)
{
    (void)state;
    fixture f = {0};
    hdl_buf text;
    char line[96];
    hdl_metrics_reset();
    start(&f);
    for (uint32_t i = 0; i < REPLICAS * RANKS; i++)
        work_until_steps(&f, f.workers[i], 0);
    hdl_buf_init(&text, 1 << 20);
    for (uint32_t i = 0; i < REPLICAS * RANKS; i++) { /* all ranks' last times are on their way */
        AWAIT(counted(HDL_METRIC_STEP_TIME, i) == atomic_load(&f.workers[i]->n_steps));
        assert_int_equal(counted(HDL_METRIC_COLL_TIME, i), counted(HDL_METRIC_STEP_TIME, i));
    }
    assert_int_equal(counted(HDL_METRIC_STEP_TIME, REPLICAS * RANKS), 0);
    assert_int_equal(hdl_metrics_render(&text), HDL_OK);
    for (uint32_t i = 0; i <= REPLICAS * RANKS; i++) {
        snprintf(line, sizeof line, "\nheddle_step_seconds_count{rank=\"%u\"} ", i);
        assert_int_equal(strstr(hdl_buf_cstr(&text), line) != NULL, i < REPLICAS * RANKS);
    }
    hdl_buf_deinit(&text);
    stop(&f);
}

/* A fresh worker in a lost one's place goes on with its series. */
static void a_new_worker_takes_the_series(void **state)
{
    (void)state;
    enum { LOST = 3 };
    fixture f = {0};
    start(&f);
    fake_kill(f.workers[LOST]);
    f.workers[LOST] = fake_start(&(fake_opts){.address = hdl_cluster_address(f.cluster)});
    AWAIT(atomic_load(&f.workers[LOST]->n_joins) == 1 && is_ready(&f));
    hdl_metrics_reset();
    const unsigned before = atomic_load(&f.workers[LOST]->n_steps);
    work_until_steps(&f, f.workers[LOST], before);
    AWAIT(counted(HDL_METRIC_STEP_TIME, LOST) == atomic_load(&f.workers[LOST]->n_steps) - before);
    stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_rank_has_its_series),
        cmocka_unit_test(a_new_worker_takes_the_series),
    };
    hdl_thread_block_signals();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
