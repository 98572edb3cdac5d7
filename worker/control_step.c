/* SPDX-License-Identifier: Apache-2.0 */
/* The step thread: it owns the hdl_worker and takes one order after the other: load, join, step.
 * Where the worker can be at two steps, the second is taken while the first one runs. An idle
 * worker sleeps in poll; between two steps in quick succession it only blinks. */
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include <heddle/types.h>

#include "base/alloc.h"
#include "base/log.h"
#include "worker/control.h"

enum {
    PROGRESS_US = 100000,
    DOZE_MS = 1, /* after that the device's threads are parked, too */
};

/* -- answers --------------------------------------------------------------------------------- */

static void answer(hdl_control *c, hdl_rpc_stream *stream, const hdl_worker_msg *msg)
{
    hdl_wire_bytes bytes;
    hdl_err err = hdl_wire_encode_worker(&c->encoder, msg, &bytes);
    if (err == HDL_OK)
        err = hdl_rpc_send(stream, bytes.data, bytes.len);
    if (err == HDL_BUSY) { /* the scheduler does not read; a new session will tell it all */
        HDL_LOG(ERROR, STEP, "answer_lost", "kind=%d", msg->kind);
        hdl_rpc_cancel(stream);
    }
}

/* Device errors are for good: the process goes, the supervisor starts a fresh one. What a peer's
 * death or an abort causes is only the end of an epoch. */
static bool is_fatal(hdl_err err)
{
    return err != HDL_PEER && err != HDL_CANCELLED && err != HDL_TIMEOUT;
}

static void fail(hdl_control *c, hdl_rpc_stream *stream, hdl_err err, const char *text)
{
    hdl_worker_msg msg = {.kind = HDL_WMSG_FAILED,
                          .failed = {.epoch = atomic_load(&c->epoch), .err = err}};
    msg.failed.fatal = is_fatal(err);
    snprintf(msg.failed.text, sizeof msg.failed.text, "%s", text[0] ? text : hdl_err_text(err));
    HDL_LOG(ERROR, STEP, "failed", "err=%s fatal=%d why=%s", hdl_err_name(err), msg.failed.fatal,
            HDL_LOG_QUOTE(msg.failed.text));
    answer(c, stream, &msg);
    if (msg.failed.fatal) {
        fprintf(stderr, "heddle-worker: %s\n", msg.failed.text);
        atomic_store(&c->step_failed, true);
        hdl_loop_wake(c->loop);
    }
}

/* -- assign ---------------------------------------------------------------------------------- */

static void on_progress(void *arg, uint64_t done, uint64_t total)
{
    hdl_control *c = arg;
    hdl_time_us now = hdl_clock_now_us();
    atomic_store_explicit(&c->step_beat_us, now, memory_order_relaxed);
    if (done < total && now < c->progress_us + PROGRESS_US)
        return;
    c->progress_us = now;
    answer(c, c->progress_stream,
           &(hdl_worker_msg){.kind = HDL_WMSG_PROGRESS,
                             .progress = {.bytes_done = done, .bytes_total = total}});
}

static void set_worker(hdl_control *c, hdl_worker *worker)
{
    pthread_mutex_lock(&c->worker_lock);
    hdl_worker *old = c->worker;
    c->worker = worker;
    pthread_mutex_unlock(&c->worker_lock);
    hdl_worker_close(old);
}

static hdl_wformat format_of(uint32_t choice)
{
    switch ((hdl_weights_choice)choice) {
    case HDL_WEIGHTS_F32: return HDL_WFORMAT_F32;
    case HDL_WEIGHTS_BF16: return HDL_WFORMAT_BF16;
    case HDL_WEIGHTS_Q8: return HDL_WFORMAT_Q8;
    case HDL_WEIGHTS_Q4: return HDL_WFORMAT_Q4;
    case HDL_WEIGHTS_AUTO: break;
    }
    return HDL_WFORMAT_COUNT;
}

/* CPUs that the threads are pinned to: as configured, else none. */
static hdl_err read_cpus(const hdl_control *c, int *cpus, size_t *count, hdl_errmsg *why)
{
    *count = 0;
    for (size_t i = 0; i < c->config->cpus.count; i++) {
        size_t n;
        HDL_TRY(hdl_cpus_parse(c->config->cpus.items[i], cpus + *count, HDL_CPUS_MAX - *count, &n,
                               why));
        *count += n;
    }
    return HDL_OK;
}

/* As configured, or this rank's share of the machine if its peers live here, too. */
static uint32_t thread_count(const hdl_control *c, const hdl_msg_assign *a, size_t n_cpus)
{
    int allowed[HDL_CPUS_MAX];
    if (c->config->threads > 0)
        return (uint32_t)c->config->threads;
    if (n_cpus > 0)
        return (uint32_t)n_cpus;
    uint32_t n = (uint32_t)hdl_cpus_allowed(allowed, HDL_CPUS_MAX);
    if (hdl_rpc_address_is_local(c->config->scheduler_address))
        n /= hdl_max_u32(a->tp, a->ep) * a->dp;
    return hdl_max_u32(n, 1);
}

static hdl_err load(hdl_control *c, const hdl_msg_assign *a, hdl_errmsg *why)
{
    int cpus[HDL_CPUS_MAX];
    size_t n_cpus;
    HDL_TRY(read_cpus(c, cpus, &n_cpus, why));
    const hdl_plugin *plugin = NULL;
    if (c->config->device != HDL_DEVICE_CPU)
        HDL_TRY(hdl_plugin_load(&plugin, c->config->cuda_plugin, why));
    const hdl_worker_opts opts = {
        .model_path = a->model_path,
        .layout = {.tp = a->tp, .ep = a->ep, .pp = a->pp, .dp = a->dp},
        .rank = a->rank,
        .weights = format_of(a->weights),
        .kv_bytes = a->kv_bytes,
        .kv_type = (hdl_kv_type)a->kv_type,
        .block_tokens = a->block_tokens,
        .max_seqs = a->max_seqs,
        .step_tokens = a->step_tokens,
        .max_len = a->max_len,
        .n_threads = thread_count(c, a, n_cpus),
        .cpus = n_cpus ? cpus : NULL,
        .n_cpus = (uint32_t)n_cpus,
        .isa = (hdl_isa)c->config->isa,
        .plugin = plugin,
        .gpu = hdl_device_gpu(c->config->device),
        .fast = c->config->numerics == HDL_NUMERICS_FAST,
        .nccl = c->config->collectives == HDL_COLLECTIVES_NCCL   ? HDL_NCCL_REQUIRED
                : c->config->collectives == HDL_COLLECTIVES_AUTO ? HDL_NCCL_AUTO
                                                                 : HDL_NCCL_NEVER,
        .head_screen = (hdl_head_screen)c->config->head_screen,
        .packed_cache = c->config->packed_cache,
        .logits_dump_path = a->logits_path[0] ? a->logits_path : NULL,
        .progress = on_progress,
        .progress_arg = c,
    };
    hdl_worker *worker;
    set_worker(c, NULL); /* another assignment's memory first */
    atomic_store(&c->holds, 0);
    HDL_TRY(hdl_worker_open(&worker, &opts, why));
    set_worker(c, worker);
    atomic_store(&c->holds, a->key);
    return HDL_OK;
}

static void say_ready(hdl_control *c, hdl_rpc_stream *stream, uint64_t key)
{
    const hdl_worker_info info = hdl_worker_get_info(c->worker);
    hdl_worker_msg msg = {.kind = HDL_WMSG_READY,
                          .ready = {.key = key,
                                    .weight_bytes = info.weight_bytes,
                                    .kv_bytes = info.kv_bytes,
                                    .n_caches = info.n_caches,
                                    .block_tokens = info.block_tokens,
                                    .max_seqs = info.max_seqs,
                                    .step_tokens = info.step_tokens,
                                    .max_len = info.max_len,
                                    .vocab = hdl_worker_desc(c->worker)->vocab}};
    memcpy(msg.ready.caches, info.caches, sizeof msg.ready.caches);
    snprintf(msg.ready.device, sizeof msg.ready.device, "%s", info.device);
    answer(c, stream, &msg);
}

static void assign(hdl_control *c, hdl_rpc_stream *stream, const hdl_msg_assign *a)
{
    hdl_errmsg why = {0};
    hdl_err err = HDL_OK;
    c->joined = 0;
    c->coll_timeout_us = a->coll_timeout_us;
    if (atomic_load(&c->holds) != a->key) {
        hdl_time_us from = hdl_clock_now_us();
        c->progress_stream = stream;
        err = load(c, a, &why);
        if (err == HDL_OK)
            HDL_LOG(INFO, STEP, "loaded", "group=%u rank=%u took_us=%llu", a->group, a->rank,
                    (unsigned long long)(hdl_clock_now_us() - from));
    }
    if (err == HDL_OK) {
        say_ready(c, stream, a->key);
        return;
    }
    /* A load that was cut short is as final as one that failed. */
    fail(c, stream, is_fatal(err) ? err : HDL_IO, why.text);
}

/* -- join ------------------------------------------------------------------------------------ */

void hdl_control_abort(hdl_control *c, uint64_t epoch)
{
    uint64_t before = atomic_load(&c->aborted);
    while (before < epoch && !atomic_compare_exchange_weak(&c->aborted, &before, epoch))
        continue;
    pthread_mutex_lock(&c->worker_lock);
    if (c->worker)
        hdl_worker_abort(c->worker);
    pthread_mutex_unlock(&c->worker_lock);
}

static void open_door(hdl_control *c, hdl_rpc_stream *stream, uint64_t epoch)
{
    const hdl_config *config = c->config;
    const hdl_coll_door_opts opts = {.host = config->coll_host,
                                     .towards = config->scheduler_address,
                                     .port = (uint16_t)config->coll_port,
                                     .transports = config->coll_transports};
    hdl_errmsg why = {0};
    hdl_worker_msg msg = {.kind = HDL_WMSG_LISTENING, .listening = {.epoch = epoch}};
    hdl_err err = HDL_CANCELLED;
    c->joined = 0;
    if (c->worker && epoch > atomic_load(&c->aborted))
        err = hdl_worker_listen(c->worker, &opts, msg.listening.address, &why);
    if (err == HDL_OK)
        answer(c, stream, &msg);
    else
        fail(c, stream, err, why.text);
}

static hdl_err join_and_test(hdl_control *c, const hdl_msg_join *join, hdl_errmsg *why)
{
    hdl_coll_opts opts = {
        .backend = join->backend, .address = join->address, .timeout_us = c->coll_timeout_us};
    if (join->n_peers > 0) {
        opts.peers = join->peers;
        opts.secret = join->secret;
    }
    HDL_TRY(hdl_worker_join(c->worker, &opts, join->epoch, why));
    return join->self_test ? hdl_worker_self_test(c->worker, why) : HDL_OK;
}

static void join(hdl_control *c, hdl_rpc_stream *stream, const hdl_msg_join *join)
{
    hdl_errmsg why = {0};
    c->joined = 0;
    atomic_store(&c->busy_epoch, join->epoch);
    hdl_err err = HDL_CANCELLED;
    if (c->worker && join->epoch > atomic_load(&c->aborted))
        err = join_and_test(c, join, &why);
    atomic_store(&c->busy_epoch, 0);
    if (err != HDL_OK) {
        fail(c, stream, err, why.text);
        return;
    }
    c->joined = join->epoch;
    answer(c, stream, &(hdl_worker_msg){.kind = HDL_WMSG_JOINED, .joined = {.epoch = join->epoch}});
}

/* -- step ------------------------------------------------------------------------------------ */

static void give_up_oldest(hdl_control *c)
{
    hdl_rpc_stream_drop(c->asked[0]);
    c->n_steps--;
    memmove(c->asked, c->asked + 1, c->n_steps * sizeof *c->asked);
}

/* Steps of an epoch that is over: the worker forgets them when it enters the next. */
static void forget_steps(hdl_control *c)
{
    while (c->n_steps > 0)
        give_up_oldest(c);
}

static void enter(hdl_control *c)
{
    atomic_store_explicit(&c->busy_epoch, c->joined, memory_order_relaxed);
    hdl_alloc_freeze();
}

static void leave(hdl_control *c)
{
    hdl_alloc_thaw();
    atomic_store_explicit(&c->busy_epoch, 0, memory_order_relaxed);
}

static void answer_step(hdl_control *c, hdl_rpc_stream *stream, const hdl_result *result)
{
    hdl_err err = (hdl_err)result->err;
    if (err != HDL_OK)
        c->joined = 0;
    answer(c, stream, &(hdl_worker_msg){.kind = HDL_WMSG_RESULT, .result = *result});
    if (err != HDL_OK && is_fatal(err))
        fail(c, stream, err, "a step failed");
}

/* The oldest step's result, for which it may wait. */
static void finish_step(hdl_control *c)
{
    hdl_result result;
    enter(c);
    hdl_err err = hdl_worker_collect(c->worker, &result);
    leave(c);
    answer_step(c, c->asked[0], &result);
    give_up_oldest(c);
    atomic_store_explicit(&c->step_beat_us, hdl_clock_now_us(), memory_order_relaxed);
    if (err != HDL_OK)
        forget_steps(c);
}

/* Sends a step on its way; its result is finish_step's. */
static void step(hdl_control *c, hdl_control_slot *slot)
{
    const hdl_msg_step *msg = &slot->msg.step;
    hdl_result refused;
    if (msg->plan.epoch != c->joined)
        return; /* sent before the epoch ended */
    enter(c);
    hdl_err err = hdl_worker_submit(c->worker, &msg->plan, msg->samplings, &refused);
    leave(c);
    if (err == HDL_OK) {
        c->asked[c->n_steps++] = slot->stream;
        slot->stream = NULL; /* it is the step's now */
        return;
    }
    while (c->n_steps > 0)
        finish_step(c);
    answer_step(c, slot->stream, &refused);
}

/* -- the loop -------------------------------------------------------------------------------- */

/* Between two looks for the next order and at the device. */
enum { LOOK_US = 20 };

/* With steps under way: the next order, or -2 when there was something else to do. */
static int order_or_result(hdl_control *c)
{
    int order;
    bool full = c->n_steps == hdl_worker_steps_max(c->worker);
    if (!full && hdl_ring_pop(c->orders, &order))
        return order;
    if (full || hdl_worker_is_done(c->worker))
        finish_step(c);
    else
        hdl_clock_sleep_us(LOOK_US);
    return -2;
}

static int idle_order(hdl_control *c)
{
    int order;
    bool dozed = false;
    atomic_store(&c->step_busy, false);
    while (!hdl_ring_pop(c->orders, &order)) {
        if (!hdl_ring_arm(c->orders))
            continue;
        struct pollfd p = {.fd = hdl_ring_fd(c->orders), .events = POLLIN};
        bool woken = poll(&p, 1, dozed || !c->worker ? -1 : DOZE_MS) != 0;
        if (!woken && c->worker)
            hdl_worker_park(c->worker);
        dozed = !woken;
        if (woken)
            hdl_ring_ack(c->orders);
    }
    return order;
}

static int next_order(hdl_control *c)
{
    int order = -2;
    while (order == -2)
        order = c->n_steps > 0 ? order_or_result(c) : idle_order(c);
    return order;
}

void hdl_control_step_main(void *arg)
{
    hdl_control *c = arg;
    for (int i = next_order(c); i >= 0; i = next_order(c)) {
        hdl_control_slot *slot = &c->slots[i];
        atomic_store_explicit(&c->step_beat_us, hdl_clock_now_us(), memory_order_relaxed);
        atomic_store(&c->step_busy, true);
        if (slot->msg.kind != HDL_SMSG_STEP)
            forget_steps(c);
        switch (slot->msg.kind) {
        case HDL_SMSG_ASSIGN: assign(c, slot->stream, &slot->msg.assign); break;
        case HDL_SMSG_JOIN: join(c, slot->stream, &slot->msg.join); break;
        case HDL_SMSG_LISTEN: open_door(c, slot->stream, slot->msg.listen.epoch); break;
        case HDL_SMSG_STEP: step(c, slot); break;
        case HDL_SMSG_ABORT:
        case HDL_SMSG_HEARTBEAT:
        case HDL_SMSG_GOODBYE: break; /* not for this thread */
        }
        if (slot->stream)
            hdl_rpc_stream_drop(slot->stream);
        slot->stream = NULL;
        /* Release: the rpc thread may write into the slot once it sees it free. */
        atomic_store_explicit(&slot->busy, false, memory_order_release);
    }
    forget_steps(c);
    set_worker(c, NULL);
    atomic_store(&c->step_done, true);
    hdl_loop_wake(c->loop);
}
