/* SPDX-License-Identifier: Apache-2.0 */
/* Request path 6 of 14: the inbox, where requests become events of the core. One thread; it waits
 * in its loop, drains both rings, feeds the core, does what the core wants. Time is read once per
 * turn. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#include <heddle/types.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/units.h"
#include "scheduler/cluster/state.h"

static const char *const trace_names[] = {
#define TRACE_NAME(name, text) text,
    HDL_TRACE_LIST(TRACE_NAME)
#undef TRACE_NAME
};

static void trace(hdl_trace what, uint64_t a, uint64_t b)
{
    HDL_LOG(DEBUG, BRAIN, "core", "what=%s a=%llu b=%llu", trace_names[what], (unsigned long long)a,
            (unsigned long long)b);
}

static void act(hdl_cluster *c, const hdl_action *action)
{
    switch (action->kind) {
    case HDL_ACT_PLAN: hdl_dispatch_plan(c, action->plan.plan); break;
    case HDL_ACT_EMIT: hdl_answer_tokens(c, &action->emit); break;
    case HDL_ACT_DONE: hdl_answer_done(c, &action->done); break;
    case HDL_ACT_REJECT: hdl_answer_reject(c, &action->reject); break;
    case HDL_ACT_TIMER: c->core_timer_us = action->timer.at_us; break;
    case HDL_ACT_TRACE: trace(action->trace.what, action->trace.a, action->trace.b); break;
    case HDL_ACT_COUNT: HDL_UNREACHABLE("action");
    }
}

void hdl_brain_feed(hdl_cluster *c, hdl_event *event)
{
    hdl_actions actions;
    HDL_ON_THREAD(BRAIN);
    event->now_us = c->now_us;
    hdl_alloc_freeze(); /* on the token path nothing allocates; what must, thaws */
    hdl_recorder_step(c->recorder, c->sched, event, &actions);
    for (uint32_t i = 0; i < actions.count; i++)
        act(c, &actions.list[i]);
    hdl_alloc_thaw();
}

/* -- orders ---------------------------------------------------------------------------------- */

/* The front checks requests and names the field; this is the last door before workers see them,
 * whoever the caller is. */
static const char *problem_of(const hdl_cluster *c, const hdl_request *req)
{
    if (req->n_prompt == 0 || req->tenant >= HDL_TENANTS_MAX || req->priority >= HDL_PRIORITIES ||
        req->n_stop_ids > HDL_STOP_IDS_MAX)
        return "the request is not valid";
    for (uint32_t i = 0; i < req->n_prompt; i++)
        if (req->prompt[i] < 0 || (uint32_t)req->prompt[i] >= c->vocab)
            return "the prompt holds a token id that the model does not have";
    for (uint32_t i = 0; i < req->sampling.n_bias; i++)
        if (req->sampling.bias[i].token < 0 || (uint32_t)req->sampling.bias[i].token >= c->vocab)
            return "logit_bias names a token id that the model does not have";
    return hdl_wire_sampling_problem(&req->sampling);
}

static void submit(hdl_cluster *c, hdl_request *req)
{
    if (!c->sched || c->stopping) {
        hdl_answer_error(c, req, HDL_AGAIN, "the model is not ready");
        return;
    }
    const char *problem = problem_of(c, req);
    if (problem) {
        hdl_answer_error(c, req, HDL_INVALID, problem);
        return;
    }
    if (!hdl_requests_add(&c->requests, req)) {
        hdl_answer_error(c, req, HDL_BUSY, "too many requests are waiting");
        return;
    }
    hdl_event event = {.kind = HDL_EV_SUBMIT,
                       .submit = {.req = req->id,
                                  .tenant = req->tenant,
                                  .priority = req->priority,
                                  .flags = req->submit_flags,
                                  .max_new = req->max_new,
                                  .salt = req->salt,
                                  .fork_of = req->fork_of,
                                  .deadline_us = req->deadline_us,
                                  .prompt = req->prompt,
                                  .n_prompt = req->n_prompt,
                                  .n_stop_ids = req->n_stop_ids}};
    memcpy(event.submit.stop_ids, req->stop_ids, sizeof event.submit.stop_ids);
    hdl_brain_feed(c, &event);
}

static void obey(hdl_cluster *c, const hdl_order *order)
{
    switch (order->kind) {
    case HDL_ORDER_SUBMIT: submit(c, order->req); break;
    case HDL_ORDER_CANCEL:
        if (c->sched)
            hdl_brain_feed(c, &(hdl_event){.kind = HDL_EV_CANCEL, .cancel = {.req = order->id}});
        break;
    case HDL_ORDER_DRAIN:
        if (c->sched && !c->draining)
            hdl_brain_feed(c, &(hdl_event){.kind = HDL_EV_DRAIN});
        c->draining = true;
        break;
    case HDL_ORDER_STOP: c->stopping = true; break;
    }
}

static void hear(hdl_cluster *c, const hdl_note *note)
{
    hdl_conn *conn = note->conn;
    if (note->slot == HDL_NOTE_OPENED || note->slot == HDL_NOTE_CLOSED) {
        (note->slot == HDL_NOTE_OPENED ? hdl_registry_opened : hdl_registry_closed)(c, conn);
        return;
    }
    hdl_slot *slot = &conn->slots[note->slot];
    if (conn->state != HDL_CONN_GONE) {
        if (slot->msg.kind == HDL_WMSG_RESULT)
            hdl_dispatch_result(c, conn, &slot->msg.result);
        else
            hdl_registry_message(c, conn, &slot->msg);
    }
    /* Release: the rpc thread may write into the slot once it sees it free. */
    atomic_store_explicit(&slot->busy, false, memory_order_release);
}

/* -- the core's memory ----------------------------------------------------------------------- */

static void log_memory(const hdl_cluster *c, const hdl_sched_config *sc, size_t bytes)
{
    char core[HDL_UNITS_TEXT_BYTES], wire[HDL_UNITS_TEXT_BYTES], slots[HDL_UNITS_TEXT_BYTES];
    HDL_LOG(
        INFO, BRAIN, "memory",
        "core=%s encoder=%s worker_messages=%s max_seqs=%u waiting=%u blocks=%u block_tokens=%u "
        "max_len=%u step_tokens=%u",
        HDL_LOG_QUOTE(hdl_format_size(bytes, core)),
        HDL_LOG_QUOTE(hdl_format_size(c->encoder.size, wire)),
        HDL_LOG_QUOTE(hdl_format_size(
            (uint64_t)c->slot_bytes * CONN_SLOTS * c->n_groups * c->n_ranks, slots)),
        sc->max_seqs, sc->waiting_max, sc->caches[0].n_blocks, sc->block_tokens, sc->max_len,
        sc->step_tokens);
}

static void fill_core_config(const hdl_cluster *c, hdl_sched_config *sc)
{
    hdl_sched_config_default(sc);
    sc->n_groups = c->n_groups;
    sc->max_seqs = c->max_seqs;
    sc->waiting_max = (uint32_t)c->config->max_waiting;
    sc->step_tokens = c->step_tokens;
    sc->max_row_tokens = c->config->chunk_tokens > 0
                             ? hdl_min_u32((uint32_t)c->config->chunk_tokens, c->step_tokens)
                             : c->step_tokens;
    sc->step_us = (uint32_t)hdl_min_size((size_t)c->config->step_us, UINT32_MAX);
    sc->block_tokens = c->block_tokens;
    sc->n_caches = c->n_caches;
    memcpy(sc->caches, c->caches, sizeof sc->caches);
    sc->snapshot_tokens = (uint32_t)c->config->snapshot_tokens / c->block_tokens * c->block_tokens;
    sc->max_len = c->max_len;
    sc->log_tokens = 0;
    sc->watermark_permille = (uint32_t)c->config->watermark_permille;
    sc->guess_tokens =
        c->config->speculate == HDL_SPECULATE_OFF ? 0 : (uint32_t)c->config->speculate_tokens;
    sc->guess_step_tokens = (uint32_t)c->config->speculate_batch;
    sc->n_tenants = HDL_TENANTS_MAX;
    sc->prefix_cache = c->config->prefix_cache;
}

static bool has_states(const hdl_sched_config *sc)
{
    for (uint32_t i = 0; i < sc->n_caches; i++)
        if (hdl_cache_is_state(&sc->caches[i].rule))
            return true;
    return false;
}

static hdl_err make_tables(hdl_cluster *c)
{
    c->sampling_refs = calloc(c->max_seqs, sizeof(void *));
    if (!c->sampling_refs)
        return HDL_NOMEM;
    for (uint32_t g = 0; g < c->n_groups; g++) {
        hdl_cluster_group *group = &c->groups[g];
        group->slot_req = calloc(c->max_seqs, sizeof *group->slot_req);
        if (!group->slot_req)
            return HDL_NOMEM;
        for (uint32_t f = 0; f < HDL_PLANS_IN_FLIGHT; f++) {
            group->flights[f].scored = calloc(c->max_seqs, sizeof(hdl_scored));
            if (!group->flights[f].scored)
                return HDL_NOMEM;
        }
    }
    return HDL_OK;
}

/* Without it the service works as well: a disk that fails is said and no more. */
static void open_recorder(hdl_cluster *c, const hdl_sched_config *sc)
{
    hdl_errmsg why = {0};
    hdl_recorder_opts opts = {.path = c->config->recorder_path,
                              .cap_bytes = c->config->recorder_bytes};
    if (opts.path[0] == '\0')
        return;
    if (getrandom(&opts.key, sizeof opts.key, 0) != sizeof opts.key ||
        hdl_recorder_open(&c->recorder, &opts, sc, &why) != HDL_OK)
        HDL_LOG(ERROR, BRAIN, "recorder_failed", "why=%s", HDL_LOG_QUOTE(why.text));
}

/* The core's state is reached at random: large pages spare the processor most of its look-ups. What
 * the core never touches stays without memory all the same. */
static void *alloc_state(size_t bytes)
{
    const size_t huge = 2u << 20, align = bytes < 2 * huge ? 64 : huge;
    void *mem = aligned_alloc(align, (bytes + align - 1) & ~(align - 1));
    if (mem && align == huge)
        (void)madvise(mem, bytes, MADV_HUGEPAGE); /* advice: failure costs speed only */
    return mem;
}

hdl_err hdl_brain_make_core(hdl_cluster *c, const hdl_cluster_group *group)
{
    c->n_caches = group->ranks[0]->ready.n_caches;
    memcpy(c->caches, group->ranks[0]->ready.caches, sizeof c->caches);
    c->max_seqs = c->step_tokens = c->max_len = UINT32_MAX;
    for (uint32_t r = 0; r < c->n_ranks; r++) {
        const hdl_msg_ready *ready = &group->ranks[r]->ready;
        for (uint32_t i = 0; i < c->n_caches; i++)
            c->caches[i].n_blocks = hdl_min_u32(c->caches[i].n_blocks, ready->caches[i].n_blocks);
        c->max_seqs = hdl_min_u32(c->max_seqs, ready->max_seqs);
        c->step_tokens = hdl_min_u32(c->step_tokens, ready->step_tokens);
        c->max_len = hdl_min_u32(c->max_len, ready->max_len);
        c->block_tokens = ready->block_tokens;
        c->vocab = ready->vocab;
    }
    hdl_sched_config sc;
    fill_core_config(c, &sc);
    const char *problem = hdl_sched_config_problem(&sc);
    if (!problem && c->config->speculate == HDL_SPECULATE_NGRAM && has_states(&sc))
        problem =
            "sched.speculate is ngram; a recurrent layer cannot take guesses back; say auto or "
            "off";
    if (problem) {
        HDL_LOG(ERROR, BRAIN, "core_refused", "why=%s", HDL_LOG_QUOTE(problem));
        return HDL_INVALID;
    }
    size_t bytes = hdl_sched_bytes(&sc);
    HDL_TRY(make_tables(c));
    c->sched_mem = alloc_state(bytes);
    if (!c->sched_mem)
        return HDL_NOMEM;
    c->sched = hdl_sched_init(c->sched_mem, bytes, &sc);
    open_recorder(c, &sc);
    log_memory(c, &sc, bytes);
    if (c->draining)
        hdl_brain_feed(c, &(hdl_event){.kind = HDL_EV_DRAIN});
    return HDL_OK;
}

/* -- turns ----------------------------------------------------------------------------------- */

static void set_timer(hdl_cluster *c, hdl_time_us at_us)
{
    if (c->core_timer_us && c->core_timer_us < at_us)
        at_us = c->core_timer_us;
    if (hdl_timer_set(c->loop, &c->tick, at_us) != HDL_OK)
        HDL_LOG(ERROR, BRAIN, "timer_failed");
}

static void on_tick(hdl_loop *loop, hdl_timer *timer)
{
    hdl_cluster *c = timer->arg;
    c->now_us = hdl_loop_now_us(loop);
    c->wait_left_us = TURN_WAIT_US;
    if (c->core_timer_us && c->core_timer_us <= c->now_us) {
        c->core_timer_us = 0;
        hdl_brain_feed(c, &(hdl_event){.kind = HDL_EV_TICK});
    }
}

static void on_turn(hdl_loop *loop, void *arg)
{
    hdl_cluster *c = arg;
    hdl_note note;
    hdl_order order;
    c->now_us = hdl_loop_now_us(loop);
    atomic_store_explicit(&c->turned_us, c->now_us, memory_order_relaxed);
    c->wait_left_us = TURN_WAIT_US;
    do {
        while (hdl_ring_pop(c->notes, &note))
            hear(c, &note);
        while (hdl_ring_pop(c->inbox, &order))
            obey(c, &order);
    } while (!hdl_ring_arm(c->notes) || !hdl_ring_arm(c->inbox));
    hdl_answer_retry(c);
    if (c->recorder && c->now_us >= c->flush_at_us) {
        hdl_recorder_flush(c->recorder);
        c->flush_at_us = c->now_us + HDL_SEC_US;
    }
    hdl_time_us next_us = hdl_registry_tick(c);
    if (c->late && next_us > c->now_us + LATE_RETRY_US)
        next_us = c->now_us + LATE_RETRY_US;
    const hdl_time_us publish_us = hdl_status_turn(c);
    set_timer(c, publish_us < next_us ? publish_us : next_us);
    if (c->stopping)
        hdl_loop_stop(loop);
}

/* Everyone who waits is told, then the workers. */
static void say_goodbye(hdl_cluster *c)
{
    for (uint32_t i = 0; i <= c->requests.mask; i++)
        while (c->requests.entries[i].req)
            hdl_answer_error(c, hdl_requests_remove(&c->requests, &c->requests.entries[i]),
                             HDL_AGAIN, "the server is shutting down");
    hdl_answer_retry(c);
    const hdl_sched_msg msg = {.kind = HDL_SMSG_GOODBYE,
                               .goodbye = {.text = "the scheduler shuts down"}};
    for (hdl_conn *conn = c->conns; conn; conn = conn->next) {
        (void)hdl_dispatch_send(c, conn, &msg);
        hdl_rpc_finish(conn->stream, HDL_OK, "");
    }
}

void hdl_brain_main(void *arg)
{
    hdl_cluster *c = arg;
    c->now_us = hdl_clock_now_us();
    c->tick = (hdl_timer){.fn = on_tick, .arg = c};
    set_timer(c, c->now_us);
    hdl_loop_on_turn(c->loop, on_turn, c);
    hdl_err err = hdl_loop_run(c->loop);
    if (err != HDL_OK)
        HDL_LOG(ERROR, BRAIN, "loop_failed", "err=%s", hdl_err_name(err));
    say_goodbye(c);
    hdl_recorder_close(c->recorder);
}
