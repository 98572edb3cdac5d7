/* SPDX-License-Identifier: Apache-2.0 */
/* The brain, the registry and the control plane against fake workers over real sockets: forming,
 * steps, every way of losing a worker, and what a request's owner hears. */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/config_keys.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/ring.h"
#include "base/thread.h"
#include "fake_worker.h"
#include "scheduler/cluster/cluster.h"

enum { WORKERS_MAX = 4, PROMPT = 40 };

typedef struct fixture {
    hdl_cfg *cfg;
    hdl_config config;
    hdl_cluster *cluster;
    hdl_engine engine;
    hdl_ring *ring;
    fake_worker *workers[WORKERS_MAX];
    char token_file[192], token_dir[128];
} fixture;

/* -- helpers --------------------------------------------------------------------------------- */

static void open_ring(fixture *f, size_t count)
{
    const hdl_ring_opts opts = {.kind = HDL_RING_SPSC,
                                .item_bytes = sizeof(hdl_emit),
                                .count = count,
                                .wake = HDL_RING_WAKE_OWN};
    assert_int_equal(hdl_ring_open(&f->ring, &opts), HDL_OK);
}

static void start(fixture *f, int64_t tp)
{
    hdl_errmsg why = {0};
    if (!f->cfg)
        assert_int_equal(hdl_cfg_open(&f->cfg, &(hdl_cfg_opts){.keys = hdl_config_keys,
                                                               .keys_count = hdl_config_keys_count,
                                                               .values = &f->config}),
                         HDL_OK);
    f->config.tp = tp;
    f->config.model_path = "/models/fake";
    f->config.max_seqs = FAKE_SEQS;
    f->config.step_tokens = 64;
    f->config.rpc_listen = "";
    if (f->token_file[0])
        f->config.rpc_token_file = f->token_file;
    assert_int_equal(hdl_cluster_open(&f->cluster, &f->config, &why), HDL_OK);
    f->engine = hdl_cluster_engine(f->cluster);
    if (!f->ring)
        open_ring(f, 4096);
}

static hdl_engine_info info(fixture *f)
{
    hdl_engine_info out;
    f->engine.info(f->engine.self, &out);
    return out;
}

/* Comes true or the test's time limit ends it. */
#define AWAIT(condition)                                                                           \
    while (!(condition))                                                                           \
    hdl_clock_sleep_us(500)

static fake_worker *join(fixture *f)
{
    return fake_start(&(fake_opts){.address = hdl_cluster_address(f->cluster)});
}

static void join_all(fixture *f)
{
    for (int64_t i = 0; i < f->config.tp; i++) { /* one by one: the index is the rank */
        f->workers[i] = join(f);
        AWAIT(atomic_load(&f->workers[i]->n_assigns) == 1);
    }
    AWAIT(info(f).ready);
}

static void stop(fixture *f)
{
    hdl_cluster_close(f->cluster);
    for (size_t i = 0; i < WORKERS_MAX; i++)
        fake_kill(f->workers[i]);
    hdl_ring_close(f->ring);
    hdl_cfg_close(f->cfg);
}

static hdl_request *request(fixture *f, uint32_t n, uint32_t max_new)
{
    return fake_request(PROMPT, max_new, (hdl_sink){.ring = f->ring, .user = n});
}

static hdl_req_id submit(fixture *f, hdl_request *req)
{
    hdl_req_id id;
    assert_int_equal(f->engine.submit(f->engine.self, req, &id), HDL_OK);
    return id;
}

static hdl_emit next(fixture *f)
{
    hdl_emit emit;
    while (!hdl_ring_pop(f->ring, &emit)) {
        if (!hdl_ring_arm(f->ring))
            continue;
        struct pollfd p = {.fd = hdl_ring_fd(f->ring), .events = POLLIN};
        (void)poll(&p, 1, -1);
        hdl_ring_ack(f->ring);
    }
    return emit;
}

static hdl_emit next_end(fixture *f)
{
    hdl_emit emit = next(f);
    while (emit.kind == HDL_EMIT_TOKEN)
        emit = next(f);
    return emit;
}

/* What the oracle says to the n-th request. */
static void expect_tokens(fixture *f, uint32_t n, uint32_t from, hdl_token *context)
{
    hdl_request *req = request(f, n, 1);
    memcpy(context, req->prompt, PROMPT * sizeof *context);
    hdl_request_free(req);
    for (uint32_t i = 0; i < from; i++)
        context[PROMPT + i] = fake_oracle(context, PROMPT + i);
}

typedef struct stream_check {
    hdl_token context[FAKE_LEN];
    uint32_t n_seen;
    bool done;
} stream_check;

/* Reads until all of the streams have ended; every token must be the oracle's, in order. */
static void read_streams(fixture *f, stream_check *streams, uint32_t n, uint32_t max_new)
{
    uint32_t left = n;
    for (uint32_t i = 0; i < n; i++)
        expect_tokens(f, i, max_new, streams[i].context);
    while (left > 0) {
        hdl_emit emit = next(f);
        stream_check *s = &streams[emit.user];
        assert_true(emit.user < n && !s->done);
        if (emit.kind == HDL_EMIT_TOKEN) {
            assert_int_equal(emit.token.index, s->n_seen);
            assert_int_equal(emit.token.token, s->context[PROMPT + s->n_seen]);
            s->n_seen++;
            continue;
        }
        assert_int_equal(emit.kind, HDL_EMIT_DONE);
        assert_int_equal(emit.done.reason, HDL_FINISH_LENGTH);
        assert_int_equal(emit.done.n_new, max_new);
        assert_int_equal(s->n_seen, max_new);
        s->done = true;
        left--;
    }
}

/* -- tests ----------------------------------------------------------------------------------- */

static void streams_are_the_oracles(void **state)
{
    (void)state;
    fixture f = {0};
    stream_check streams[6] = {0};
    start(&f, 2);
    assert_false(info(&f).ready);
    assert_string_equal(info(&f).state, "waiting for workers: 0 of 2");
    join_all(&f);
    assert_int_equal(info(&f).vocab, FAKE_VOCAB);
    assert_int_equal(info(&f).kv_tokens_capacity, FAKE_BLOCKS * FAKE_BLOCK_TOKENS);
    assert_int_equal(info(&f).epoch, 1);
    for (uint32_t i = 0; i < 6; i++)
        submit(&f, request(&f, i, 50));
    read_streams(&f, streams, 6, 50);
    AWAIT(hdl_cluster_idle(f.cluster));
    stop(&f);
}

/* The first rank drives the steps: it stops after so many more, and with it the streams. 0: never.
 */
static void hold_after(fixture *f, unsigned n_more)
{
    unsigned now = atomic_load(&f->workers[0]->n_steps);
    atomic_store(&f->workers[0]->hold_at, n_more ? now + n_more : 0);
}

static void await_held(fixture *f)
{
    AWAIT(atomic_load(&f->workers[0]->n_steps) >= atomic_load(&f->workers[0]->hold_at));
}

static void a_lost_worker_is_replaced(void **state)
{
    (void)state;
    fixture f = {0};
    stream_check streams[4] = {0};
    start(&f, 2);
    join_all(&f);
    hold_after(&f, 7);
    for (uint32_t i = 0; i < 4; i++)
        submit(&f, request(&f, i, 200));
    for (int turn = 0; turn < 4; turn++) { /* each rank twice, in the middle of the streams */
        await_held(&f);
        hold_after(&f, turn == 3 ? 0 : 7); /* in this epoch it has missed a step: it stays held */
        fake_kill(f.workers[turn % 2]);
        f.workers[turn % 2] =
            fake_start(&(fake_opts){.address = hdl_cluster_address(f.cluster), .hold_at = 7});
        AWAIT(info(&f).epoch == (uint64_t)turn + 2 && info(&f).ready);
    }
    read_streams(&f, streams, 4, 200);
    assert_true(atomic_load(&f.workers[0]->n_aborts) >= 1);
    stop(&f);
}

static fake_worker *join_from(fixture *f, uint64_t machine)
{
    fake_worker *w =
        fake_start(&(fake_opts){.address = hdl_cluster_address(f->cluster), .machine = machine});
    AWAIT(atomic_load(&w->n_assigns) == 1);
    return w;
}

/* Ranks of two machines are told each other's addresses and one secret, new for each epoch; of one
 * machine, a name. */
static void ranks_of_two_machines_are_introduced(void **state)
{
    (void)state;
    fixture f = {0};
    start(&f, 2);
    f.workers[0] = join_from(&f, 1);
    f.workers[1] = join_from(&f, 2);
    AWAIT(atomic_load(&f.workers[0]->n_joins) == 1 && atomic_load(&f.workers[1]->n_joins) == 1);
    AWAIT(info(&f).ready);
    const hdl_msg_join *a = &f.workers[0]->join, *b = &f.workers[1]->join;
    const hdl_msg_join first = *a;
    assert_int_equal(atomic_load(&f.workers[0]->n_listens), 1);
    assert_string_equal(a->backend, "ucx");
    assert_int_equal(a->n_peers, 2);
    assert_string_equal(a->peers[1], "192.0.2.1:1");
    assert_memory_equal(a->secret, b->secret, sizeof a->secret);
    fake_kill(f.workers[1]);
    f.workers[1] = join_from(&f, 3);
    AWAIT(atomic_load(&f.workers[0]->n_joins) == 2 && info(&f).ready);
    assert_string_equal(a->backend, "ucx");
    assert_true(memcmp(a->secret, first.secret, sizeof a->secret) != 0);
    fake_kill(f.workers[1]);
    f.workers[1] = join_from(&f, 1);
    AWAIT(atomic_load(&f.workers[0]->n_joins) == 3 && info(&f).ready);
    assert_string_equal(a->backend, "shm");
    assert_int_equal(a->n_peers, 0);
    assert_int_equal(atomic_load(&f.workers[0]->n_listens), 2);
    stop(&f);
}

static void a_spare_takes_the_rank(void **state)
{
    (void)state;
    fixture f = {0};
    stream_check streams[2] = {0};
    start(&f, 2);
    join_all(&f);
    f.workers[2] = join(&f);
    hold_after(&f, 5);
    submit(&f, request(&f, 0, 100));
    submit(&f, request(&f, 1, 100));
    await_held(&f);
    assert_int_equal(atomic_load(&f.workers[2]->n_assigns), 0);
    hold_after(&f, 0);
    fake_kill(f.workers[1]);
    f.workers[1] = NULL;
    read_streams(&f, streams, 2, 100);
    assert_int_equal(atomic_load(&f.workers[2]->n_assigns), 1);
    stop(&f);
}

static void a_failed_step_ends_the_epoch_alone(void **state)
{
    (void)state;
    fixture f = {0};
    stream_check streams[2] = {0};
    start(&f, 2);
    join_all(&f);
    atomic_store(&f.workers[0]->fail_at, 5);
    submit(&f, request(&f, 0, 100));
    submit(&f, request(&f, 1, 100));
    read_streams(&f, streams, 2, 100);
    assert_int_equal(info(&f).epoch, 2);
    assert_int_equal(atomic_load(&f.workers[0]->n_assigns), 1); /* weights were kept */
    assert_int_equal(atomic_load(&f.workers[1]->n_assigns), 1);
    stop(&f);
}

static void fast_heartbeats(fixture *f)
{
    assert_int_equal(hdl_cfg_open(&f->cfg, &(hdl_cfg_opts){.keys = hdl_config_keys,
                                                           .keys_count = hdl_config_keys_count,
                                                           .values = &f->config}),
                     HDL_OK);
    f->config.heartbeat_us = 50000;
    f->config.hang_us = 1500000; /* a loaded machine may starve a healthy one for a while */
}

static void a_silent_worker_is_dropped(void **state)
{
    (void)state;
    fixture f = {0};
    stream_check streams[1] = {0};
    fast_heartbeats(&f);
    start(&f, 2);
    join_all(&f);
    hold_after(&f, 5);
    submit(&f, request(&f, 0, 100));
    await_held(&f);
    hold_after(&f, 0);
    atomic_store(&f.workers[1]->mute, true); /* alive, connected, hanging */
    f.workers[2] = join(&f);
    read_streams(&f, streams, 1, 100);
    AWAIT(atomic_load(&f.workers[1]->closed));
    stop(&f);
}

static void on_dropped(void *arg, hdl_rpc_stream *stream, hdl_err err, const char *text)
{
    (void)stream;
    (void)err;
    (void)text;
    atomic_store((atomic_bool *)arg, true);
}

static void a_stream_without_hello_is_dropped(void **state)
{
    (void)state;
    fixture f = {0};
    hdl_errmsg why;
    hdl_rpc_client *client;
    hdl_rpc_stream *stream;
    atomic_bool dropped = false;
    fast_heartbeats(&f);
    start(&f, 1);
    const hdl_rpc_callbacks callbacks = {.on_close = on_dropped, .arg = &dropped};
    assert_int_equal(
        hdl_rpc_client_open(
            &client, &(hdl_rpc_client_opts){.address = hdl_cluster_address(f.cluster)}, &why),
        HDL_OK);
    assert_int_equal(hdl_rpc_stream_open(&stream, client, HDL_WIRE_ATTACH, &callbacks), HDL_OK);
    AWAIT(atomic_load(&dropped));
    hdl_rpc_stream_drop(stream);
    hdl_rpc_client_close(client);
    stop(&f);
}

static void stale_results_are_ignored(void **state)
{
    (void)state;
    fixture f = {0};
    stream_check streams[1] = {0};
    start(&f, 1);
    join_all(&f);
    atomic_store(&f.workers[0]->stale, true);
    submit(&f, request(&f, 0, 100));
    read_streams(&f, streams, 1, 100);
    assert_int_equal(info(&f).epoch, 1);
    stop(&f);
}

static void a_worker_that_lies_is_dropped(void **state)
{
    (void)state;
    fixture f = {0};
    stream_check streams[1] = {0};
    start(&f, 1);
    join_all(&f);
    atomic_store(&f.workers[0]->wrong_at, 5); /* a step that samples: the prompt is one step */
    submit(&f, request(&f, 0, 100));
    AWAIT(atomic_load(&f.workers[0]->closed));
    assert_int_equal(atomic_load(&f.workers[0]->close_err), HDL_INVALID);
    f.workers[1] = join(&f);
    read_streams(&f, streams, 1, 100);
    stop(&f);
}

static void strangers_are_refused(void **state)
{
    (void)state;
    fixture f = {0};
    hdl_errmsg why;
    assert_int_equal(hdl_fs_mkdtemp(f.token_dir, sizeof f.token_dir, "heddle-", &why), HDL_OK);
    snprintf(f.token_file, sizeof f.token_file, "%s/token", f.token_dir);
    assert_int_equal(
        hdl_fs_write_atomic(f.token_file, (hdl_fs_bytes){.data = "sesame\n", .len = 7}, &why),
        HDL_OK);
    start(&f, 1);
    const char *address = hdl_cluster_address(f.cluster);
    const struct {
        fake_opts opts;
        hdl_err err;
    } strangers[] = {
        {{.address = address}, HDL_DENIED},
        {{.address = address, .token = "sesam"}, HDL_DENIED},
        {{.address = address, .token = "sesame", .protocol = 99}, HDL_UNSUPPORTED},
        {{.address = address, .token = "sesame", .device = "cuda:0"}, HDL_UNSUPPORTED},
    };
    for (size_t i = 0; i < HDL_ARRAY_LEN(strangers); i++) {
        fake_worker *w = fake_start(&strangers[i].opts);
        AWAIT(atomic_load(&w->closed));
        assert_int_equal(atomic_load(&w->close_err), strangers[i].err);
        assert_true(atomic_load(&w->dismissed));
        assert_int_equal(atomic_load(&w->n_assigns), 0);
        fake_kill(w);
    }
    f.workers[0] = fake_start(&(fake_opts){.address = address, .token = "sesame"});
    AWAIT(info(&f).ready);
    stop(&f);
    assert_int_equal(hdl_fs_remove_tree(f.token_dir), HDL_OK);
}

static void expect_error(fixture *f, hdl_request *req, hdl_err err, const char *word)
{
    submit(f, req);
    hdl_emit emit = next(f);
    assert_int_equal(emit.kind, HDL_EMIT_ERROR);
    assert_int_equal(emit.error.err, err);
    assert_non_null(strstr(emit.error.text, word));
}

static void bad_requests_end_once(void **state)
{
    (void)state;
    fixture f = {0};
    stream_check streams[1] = {0};
    start(&f, 1);
    expect_error(&f, request(&f, 0, 10), HDL_AGAIN, "not ready");
    join_all(&f);
    hdl_request *req = request(&f, 0, 10);
    req->prompt[3] = FAKE_VOCAB;
    expect_error(&f, req, HDL_INVALID, "token id");
    req = request(&f, 0, 10);
    req->prompt[3] = -1;
    expect_error(&f, req, HDL_INVALID, "token id");
    req = request(&f, 0, 10);
    req->sampling.temperature = -1;
    expect_error(&f, req, HDL_INVALID, "temperature");
    req = request(&f, 0, 10);
    req->tenant = HDL_TENANTS_MAX;
    expect_error(&f, req, HDL_INVALID, "not valid");
    req = request(&f, 0, 10); /* longer than any sequence may be */
    req->prompt = realloc(req->prompt, 2 * FAKE_LEN * sizeof *req->prompt);
    memset(req->prompt, 0, 2 * FAKE_LEN * sizeof *req->prompt);
    req->n_prompt = 2 * FAKE_LEN;
    expect_error(&f, req, HDL_INVALID, "tokens");
    submit(&f, request(&f, 0, 20)); /* and the next one works */
    read_streams(&f, streams, 1, 20);
    stop(&f);
}

static void scores_and_logprobs(void **state)
{
    (void)state;
    fixture f = {0};
    start(&f, 1);
    join_all(&f);
    hdl_request *req = request(&f, 0, 2);
    req->submit_flags = HDL_SUBMIT_SCORE;
    req->sampling.n_logprobs = 1;
    submit(&f, req);
    req = request(&f, 0, 1); /* to compare with: freed by nobody else */
    uint32_t n_scores = 0, n_tokens = 0;
    for (hdl_emit emit = next(&f); emit.kind != HDL_EMIT_DONE; emit = next(&f)) {
        if (emit.kind == HDL_EMIT_SCORE) {
            assert_int_equal(emit.token.index, ++n_scores);
            assert_int_equal(emit.token.token, req->prompt[n_scores]);
            assert_true(emit.token.logprob == -1.0f);
            continue;
        }
        assert_int_equal(emit.kind, HDL_EMIT_TOKEN);
        assert_int_equal(emit.token.n_top, 1);
        assert_int_equal(emit.token.top[0].token, emit.token.token);
        n_tokens++;
    }
    assert_int_equal(n_scores, PROMPT - 1);
    assert_int_equal(n_tokens, 2);
    hdl_request_free(req);
    stop(&f);
}

static void cancel_ends_with_done(void **state)
{
    (void)state;
    fixture f = {0};
    start(&f, 1);
    join_all(&f);
    hold_after(&f, 1);
    hdl_req_id id = submit(&f, request(&f, 0, 100));
    f.engine.cancel(f.engine.self, id);
    f.engine.cancel(f.engine.self, (hdl_req_id){999}); /* unknown: nothing happens */
    hdl_emit emit = next_end(&f);
    assert_int_equal(emit.kind, HDL_EMIT_DONE);
    assert_int_equal(emit.done.reason, HDL_FINISH_CANCELLED);
    stop(&f);
}

static void close_tells_everybody(void **state)
{
    (void)state;
    fixture f = {0};
    start(&f, 1);
    join_all(&f);
    hold_after(&f, 1);
    for (uint32_t i = 0; i < 20; i++) /* running and waiting ones */
        submit(&f, request(&f, i, 100));
    AWAIT(info(&f).running + info(&f).waiting == 20);
    hdl_cluster_close(f.cluster);
    f.cluster = NULL;
    bool told[20] = {0};
    for (uint32_t i = 0; i < 20; i++) {
        hdl_emit emit = next_end(&f);
        assert_int_equal(emit.kind, HDL_EMIT_ERROR);
        assert_false(told[emit.user]);
        told[emit.user] = true;
    }
    AWAIT(atomic_load(&f.workers[0]->closed));
    assert_true(atomic_load(&f.workers[0]->dismissed));
    assert_int_equal(atomic_load(&f.workers[0]->close_err), HDL_OK);
    stop(&f);
}

static void drain_finishes_what_runs(void **state)
{
    (void)state;
    fixture f = {0};
    stream_check streams[1] = {0};
    start(&f, 1);
    join_all(&f);
    submit(&f, request(&f, 0, 300));
    hdl_cluster_drain(f.cluster); /* behind it in the inbox */
    AWAIT(info(&f).draining);
    assert_false(info(&f).ready);
    read_streams(&f, streams, 1, 300);
    AWAIT(hdl_cluster_idle(f.cluster));
    expect_error(&f, request(&f, 0, 10), HDL_AGAIN, "shutting down");
    stop(&f);
}

static void a_reader_that_does_not_read_loses_its_stream_alone(void **state)
{
    (void)state;
    fixture f = {0};
    stream_check streams[1] = {0};
    hdl_ring *deaf;
    start(&f, 1);
    join_all(&f);
    const hdl_ring_opts opts = {.kind = HDL_RING_SPSC, .item_bytes = sizeof(hdl_emit), .count = 4};
    assert_int_equal(hdl_ring_open(&deaf, &opts), HDL_OK);
    hdl_request *req = request(&f, 7, 300);
    req->sink.ring = deaf;
    submit(&f, req);
    submit(&f, request(&f, 0, 300));
    read_streams(&f, streams, 1, 300);
    AWAIT(hdl_cluster_idle(f.cluster));
    hdl_emit emit;
    uint32_t n_ends = 0;
    AWAIT((hdl_ring_pop(deaf, &emit) && emit.kind != HDL_EMIT_TOKEN && ++n_ends) || n_ends);
    assert_int_equal(emit.kind, HDL_EMIT_DONE);
    assert_int_equal(emit.done.reason, HDL_FINISH_CANCELLED);
    stop(&f);
    hdl_ring_close(deaf);
}

static void status_and_drain_over_the_wire(void **state)
{
    (void)state;
    fixture f = {0};
    hdl_errmsg why;
    hdl_rpc_client *client;
    void *reply;
    size_t len;
    static unsigned char mem[65536];
    hdl_arena arena;
    hdl_cluster_status status;
    start(&f, 2);
    join_all(&f);
    hdl_arena_init(&arena, mem, sizeof mem);
    assert_int_equal(
        hdl_rpc_client_open(
            &client, &(hdl_rpc_client_opts){.address = hdl_cluster_address(f.cluster)}, &why),
        HDL_OK);
    hdl_rpc_request call = {.path = HDL_WIRE_STATUS, .bytes = "", .timeout_us = 5000000};
    assert_int_equal(hdl_rpc_call(client, &call, &reply, &len, &why), HDL_OK);
    assert_int_equal(hdl_wire_decode_status((hdl_wire_bytes){reply, len}, &arena, &status, &why),
                     HDL_OK);
    assert_true(status.ready);
    assert_int_equal(status.n_ranks, 2);
    assert_string_equal(status.ranks[1].state, "running");
    assert_string_equal(status.ranks[1].device, "cpu-fake");
    free(reply);
    call.path = HDL_WIRE_DRAIN;
    assert_int_equal(hdl_rpc_call(client, &call, &reply, &len, &why), HDL_OK);
    free(reply);
    AWAIT(info(&f).draining);
    hdl_rpc_client_close(client);
    stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams_are_the_oracles),
        cmocka_unit_test(a_lost_worker_is_replaced),
        cmocka_unit_test(ranks_of_two_machines_are_introduced),
        cmocka_unit_test(a_spare_takes_the_rank),
        cmocka_unit_test(a_failed_step_ends_the_epoch_alone),
        cmocka_unit_test(a_silent_worker_is_dropped),
        cmocka_unit_test(a_stream_without_hello_is_dropped),
        cmocka_unit_test(stale_results_are_ignored),
        cmocka_unit_test(a_worker_that_lies_is_dropped),
        cmocka_unit_test(strangers_are_refused),
        cmocka_unit_test(bad_requests_end_once),
        cmocka_unit_test(scores_and_logprobs),
        cmocka_unit_test(cancel_ends_with_done),
        cmocka_unit_test(close_tells_everybody),
        cmocka_unit_test(drain_finishes_what_runs),
        cmocka_unit_test(a_reader_that_does_not_read_loses_its_stream_alone),
        cmocka_unit_test(status_and_drain_over_the_wire),
    };
    hdl_errmsg why;
    hdl_thread_block_signals();
    if (hdl_log_setup(&(hdl_log_opts){.level = HDL_LOG_ERROR}, &why) != HDL_OK ||
        hdl_log_start(&why) != HDL_OK)
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    hdl_log_stop();
    return failed;
}
