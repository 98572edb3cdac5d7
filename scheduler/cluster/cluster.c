/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and closing, and the engine that the front sees: what other threads may ask of the brain
 * goes through its inbox, what they may read is a copy. */
#include "scheduler/cluster/cluster.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include <heddle/types.h>

#include "base/assert.h"
#include "base/fs.h"
#include "base/log.h"
#include "scheduler/cluster/state.h"

enum { CLOSE_GRACE_US = 500000, SLOT_SLACK_BYTES = 65536 };

static hdl_err engine_submit(void *self, hdl_request *req, hdl_req_id *id)
{
    hdl_cluster *c = self;
    req->id.v = atomic_fetch_add(&c->next_req, 1);
    *id = req->id; /* before the push: the first emit may be there before we return */
    return hdl_ring_push(c->inbox,
                         &(hdl_order){.kind = HDL_ORDER_SUBMIT, .id = req->id, .req = req});
}

/* The inbox is bounded, a cancel must not get lost: it waits for room like any producer that has
 * nothing better to do. The brain empties the ring within a turn. */
static void engine_cancel(void *self, hdl_req_id id)
{
    hdl_cluster *c = self;
    while (hdl_ring_push(c->inbox, &(hdl_order){.kind = HDL_ORDER_CANCEL, .id = id}) != HDL_OK)
        hdl_clock_sleep_us(100);
}

uint64_t hdl_cluster_turn_age_us(const hdl_cluster *c, uint64_t now_us)
{
    uint64_t turned = atomic_load_explicit(&c->turned_us, memory_order_relaxed);
    return now_us > turned ? now_us - turned : 0;
}

static void engine_info(void *self, hdl_engine_info *out)
{
    hdl_cluster *c = self;
    pthread_mutex_lock(&c->lock);
    *out = c->info;
    pthread_mutex_unlock(&c->lock);
    out->turn_age_us = hdl_cluster_turn_age_us(c, hdl_clock_now_us());
}

static void engine_missed(void *self)
{
    hdl_cluster *c = self;
    hdl_scaler_refused(c->scaler);
    hdl_loop_wake(c->loop);
}

hdl_engine hdl_cluster_engine(hdl_cluster *c)
{
    return (hdl_engine){.self = c,
                        .submit = engine_submit,
                        .cancel = engine_cancel,
                        .info = engine_info,
                        .missed = engine_missed};
}

const char *hdl_cluster_address(const hdl_cluster *c) { return hdl_rpc_server_address(c->server); }

static void order(hdl_cluster *c, hdl_order_kind kind)
{
    while (hdl_ring_push(c->inbox, &(hdl_order){.kind = kind}) != HDL_OK)
        hdl_clock_sleep_us(100);
}

void hdl_cluster_drain(hdl_cluster *c) { order(c, HDL_ORDER_DRAIN); }

bool hdl_cluster_idle(hdl_cluster *c)
{
    hdl_engine_info info;
    engine_info(c, &info);
    return info.running == 0 && info.waiting == 0 && hdl_ring_len(c->inbox) == 0;
}

static hdl_err read_token(hdl_cluster *c, hdl_errmsg *why)
{
    char *text;
    size_t len;
    if (c->config->rpc_token_file[0] == '\0')
        return HDL_OK;
    HDL_TRY(hdl_fs_read(c->config->rpc_token_file, sizeof c->token - 1, &text, &len, why));
    text[strcspn(text, "\r\n")] = '\0';
    memcpy(c->token, text, strlen(text) + 1);
    explicit_bzero(text, len);
    free(text);
    return HDL_OK;
}

/* The largest result: a row and its log-probabilities for each sequence, and for each scored token.
 */
static size_t slot_bytes_for(const hdl_config *config)
{
    size_t rows = (size_t)config->max_seqs + (size_t)config->step_tokens;
    return rows * (sizeof(hdl_result_row) + HDL_ROW_PROBS_MAX * sizeof(hdl_logprob)) +
           SLOT_SLACK_BYTES;
}

static hdl_err make_tables(hdl_cluster *c)
{
    const uint32_t n_ranks = c->n_groups * c->n_ranks;
    c->groups = calloc(c->n_groups, sizeof *c->groups);
    c->statuses = calloc(n_ranks, sizeof *c->statuses);
    if (!c->groups || !c->statuses)
        return HDL_NOMEM;
    HDL_TRY(hdl_requests_init(&c->requests, (uint32_t)c->config->max_waiting +
                                                (uint32_t)c->config->max_seqs + INBOX_COUNT));
    HDL_TRY(hdl_wire_encoder_init(&c->encoder, 2 * (size_t)HDL_RPC_MESSAGE_BYTES_MAX));
    const hdl_ring_opts inbox = {.kind = HDL_RING_MPSC,
                                 .item_bytes = sizeof(hdl_order),
                                 .count = INBOX_COUNT,
                                 .wake = HDL_RING_WAKE_SHARED,
                                 .wake_fd = hdl_loop_wake_fd(c->loop)};
    const hdl_ring_opts notes = {.kind = HDL_RING_SPSC,
                                 .item_bytes = sizeof(hdl_note),
                                 .count = (size_t)CONNS_MAX * (CONN_SLOTS + 2),
                                 .wake = HDL_RING_WAKE_SHARED,
                                 .wake_fd = hdl_loop_wake_fd(c->loop)};
    HDL_TRY(hdl_ring_open(&c->inbox, &inbox));
    return hdl_ring_open(&c->notes, &notes);
}

static hdl_err open_parts(hdl_cluster *c, hdl_errmsg *why)
{
    HDL_TRY(read_token(c, why));
    HDL_TRY(hdl_loop_open(&c->loop, why));
    hdl_err err = make_tables(c);
    if (err != HDL_OK)
        return hdl_fail(err, why, "the scheduler cannot start; no memory for its tables");
    HDL_TRY(hdl_control_open(c, why));
    hdl_status_publish(c); /* something true before the first turn */
    return hdl_thread_start(
        &c->thread,
        &(hdl_thread_opts){.name = "brain", .role = HDL_ROLE_BRAIN, .fn = hdl_brain_main, .arg = c},
        why);
}

hdl_err hdl_cluster_open(hdl_cluster **out, const hdl_config *config, hdl_errmsg *why)
{
    *out = NULL;
    hdl_cluster *c = calloc(1, sizeof *c);
    if (!c)
        return hdl_fail(HDL_NOMEM, why, "out of memory");
    pthread_mutex_init(&c->lock, NULL);
    c->config = config;
    c->n_groups = (uint32_t)config->dp;
    c->n_ranks = hdl_max_u32((uint32_t)config->tp, (uint32_t)config->ep);
    atomic_init(&c->next_req, 1);
    c->slot_bytes = (slot_bytes_for(config) + 63) & ~(size_t)63;
    hdl_err err = HDL_OK;
    if (config->dp > HDL_GROUPS_MAX)
        err = hdl_fail(HDL_INVALID, why, "parallel.dp is too large; at most %d groups are possible",
                       HDL_GROUPS_MAX);
    else if (config->pp > 1)
        err = hdl_fail(HDL_UNSUPPORTED, why,
                       "pipeline parallelism is not there yet; use parallel.tp and parallel.ep");
    else if (getrandom(&c->instance, sizeof c->instance, 0) != sizeof c->instance)
        err = hdl_fail(HDL_IO, why, "the system gives no random numbers");
    if (err == HDL_OK)
        err = open_parts(c, why);
    if (err != HDL_OK) {
        hdl_cluster_close(c);
        return err;
    }
    *out = c;
    return HDL_OK;
}

/* What the rpc thread told a brain that is no more. */
static void free_conns(hdl_cluster *c)
{
    hdl_note note;
    while (c->notes && hdl_ring_pop(c->notes, &note)) {
        if (note.slot == HDL_NOTE_CLOSED)
            hdl_conn_free(note.conn);
    }
}

void hdl_cluster_close(hdl_cluster *c)
{
    hdl_order late;
    if (!c)
        return;
    if (c->thread.started) {
        order(c, HDL_ORDER_STOP);
        hdl_thread_join(&c->thread);
    }
    hdl_rpc_server_close(c->server, CLOSE_GRACE_US);
    free_conns(c);
    hdl_health_close(c->health);
    hdl_scaler_close(c->scaler);
    while (c->inbox && hdl_ring_pop(c->inbox, &late))
        if (late.kind == HDL_ORDER_SUBMIT)
            hdl_answer_error(c, late.req, HDL_AGAIN, "the server is shutting down");
    for (uint32_t g = 0; c->groups && g < c->n_groups; g++) {
        free(c->groups[g].slot_req);
        for (uint32_t f = 0; f < HDL_PLANS_IN_FLIGHT; f++)
            free(c->groups[g].flights[f].scored);
    }
    while (c->late) {
        hdl_late *next = c->late->next;
        free(c->late);
        c->late = next;
    }
    hdl_ring_close(c->inbox);
    hdl_ring_close(c->notes);
    hdl_requests_deinit(&c->requests);
    hdl_wire_encoder_deinit(&c->encoder);
    hdl_loop_close(c->loop);
    free(c->sched_mem);
    free(c->sampling_refs);
    free(c->statuses);
    free(c->groups);
    hdl_run_dir_close(&c->socket_dir);
    pthread_mutex_destroy(&c->lock);
    free(c);
}
