/* SPDX-License-Identifier: Apache-2.0 */
/* Request path 8 of 14: a plan becomes one message that goes to every rank of its group; and the
 * way back of stage 12, from a result to the core. Brain thread. */
#include <string.h>

#include <heddle/types.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/metrics.h"
#include "scheduler/cluster/state.h"

/* The stream's end follows whatever goes wrong here, and is where the loss is handled. */
static bool send_bytes(hdl_conn *conn, hdl_wire_bytes bytes)
{
    hdl_err err = hdl_rpc_send(conn->stream, bytes.data, bytes.len);
    if (err == HDL_BUSY) {
        HDL_LOG(WARN, CLUSTER, "worker_does_not_read", "group=%u rank=%u", conn->group, conn->rank);
        hdl_rpc_cancel(conn->stream);
    }
    return err == HDL_OK;
}

bool hdl_dispatch_send(hdl_cluster *c, hdl_conn *conn, const hdl_sched_msg *msg)
{
    hdl_wire_bytes bytes;
    hdl_err err = hdl_wire_encode_sched(&c->encoder, msg, &bytes);
    HDL_ASSERT_EQ(err, HDL_OK); /* all but steps are small */
    return send_bytes(conn, bytes);
}

static hdl_flight *find_flight(hdl_cluster_group *group, uint64_t step)
{
    for (uint32_t i = 0; i < HDL_PLANS_IN_FLIGHT; i++)
        if (group->flights[i].step == step)
            return &group->flights[i];
    return NULL;
}

void hdl_dispatch_forget(hdl_cluster_group *group)
{
    for (uint32_t i = 0; i < HDL_PLANS_IN_FLIGHT; i++)
        group->flights[i].step = 0;
}

static void note_opens(hdl_cluster *c, hdl_cluster_group *group, const hdl_plan *plan)
{
    for (uint32_t i = 0; i < plan->n_opens; i++) {
        const hdl_plan_open *open = &plan->opens[i];
        const hdl_req_id id = {(uint64_t)open->req_hi << 32 | open->req_lo};
        hdl_entry *entry = hdl_requests_find(&c->requests, id);
        HDL_ASSERT(entry && open->slot < c->max_seqs);
        c->sampling_refs[i] = &entry->req->sampling;
        group->slot_req[open->slot] = id;
        if (!entry->started) {
            entry->started = true;
            hdl_metric_observe(HDL_METRIC_QUEUE_TIME, 0, c->now_us - entry->req->arrived_us);
        }
    }
}

static void note_flight(hdl_cluster *c, hdl_cluster_group *group, const hdl_plan *plan)
{
    hdl_flight *flight = find_flight(group, 0);
    HDL_ASSERT(flight);
    flight->step = plan->step;
    flight->sent_us = c->now_us;
    flight->n_scored = 0;
    for (uint32_t i = 0; i < plan->n_rows; i++)
        if (plan->rows[i].flags & HDL_ROW_SCORE)
            flight->scored[flight->n_scored++] = (hdl_scored){
                .slot = plan->rows[i].slot, .req = group->slot_req[plan->rows[i].slot]};
}

/* Thousands of sequences that open in one step with a thousand biases each: nobody does that in
 * good faith. They are cancelled; the others go on in the next epoch. Not here and now: the core is
 * in the middle of an event. */
static void give_up(hdl_cluster *c, hdl_cluster_group *group, const hdl_plan *plan)
{
    HDL_LOG(ERROR, CLUSTER, "step_too_large", "group=%u opens=%u tokens=%u", plan->group,
            plan->n_opens, plan->n_tokens);
    for (uint32_t i = 0; i < plan->n_opens; i++)
        hdl_requests_find(&c->requests, group->slot_req[plan->opens[i].slot])->deaf = true;
    c->any_deaf = true;
    group->too_large = true;
}

void hdl_dispatch_plan(hdl_cluster *c, const hdl_plan *plan)
{
    hdl_cluster_group *group = &c->groups[plan->group];
    HDL_ASSERT_LE(plan->n_opens, c->max_seqs);
    note_opens(c, group, plan);
    note_flight(c, group, plan);
    const hdl_sched_msg msg = {.kind = HDL_SMSG_STEP,
                               .step = {.plan = *plan, .sampling_refs = c->sampling_refs}};
    hdl_wire_bytes bytes;
    hdl_err err = hdl_wire_encode_sched(&c->encoder, &msg, &bytes);
    if (err != HDL_OK || bytes.len > HDL_RPC_MESSAGE_BYTES_MAX) {
        give_up(c, group, plan);
        return;
    }
    hdl_alloc_thaw(); /* gRPC allocates */
    for (uint32_t r = 0; r < c->n_ranks; r++)
        if (group->ranks[r])
            (void)send_bytes(group->ranks[r], bytes);
    hdl_alloc_freeze();
}

/* A worker that makes such a result is broken or not ours: its tokens would reach clients. */
static const char *problem_of(const hdl_cluster *c, const hdl_conn *conn, const hdl_result *result)
{
    if (result->group != conn->group || result->rank != conn->rank)
        return "another rank's number";
    for (uint32_t i = 0; i < result->n_rows; i++) {
        if (result->rows[i].slot >= c->max_seqs)
            return "a slot that does not exist";
        if ((uint32_t)result->rows[i].token >= c->vocab)
            return "a token that does not exist";
    }
    for (uint32_t i = 0; i < result->n_probs; i++)
        if ((uint32_t)result->probs[i].token >= c->vocab)
            return "a log-probability of a token that does not exist";
    return NULL;
}

static void absorb(hdl_cluster *c, hdl_cluster_group *group, hdl_flight *flight,
                   const hdl_result *result)
{
    hdl_answer_scores(c, flight, result);
    flight->step = 0;
    group->last_result_us = c->now_us;
    group->n_fails = 0;
    if (group->lost_us) {
        HDL_LOG(INFO, CLUSTER, "recovered", "group=%u epoch=%llu after_us=%llu", result->group,
                (unsigned long long)result->epoch,
                (unsigned long long)(c->now_us - group->lost_us));
        hdl_metric_observe(HDL_METRIC_RECOVERY, 0, c->now_us - group->lost_us);
        group->lost_us = 0;
    }
    c->result = result;
    hdl_brain_feed(c, &(hdl_event){.kind = HDL_EV_RESULT,
                                   .result = {.group = result->group,
                                              .epoch = result->epoch,
                                              .step = result->step,
                                              .n_rows = result->n_rows,
                                              .rows = result->rows}});
    c->result = NULL;
}

void hdl_dispatch_result(hdl_cluster *c, hdl_conn *conn, const hdl_result *result)
{
    if (conn->state != HDL_CONN_JOINED)
        return; /* of an epoch that has ended, as below */
    hdl_cluster_group *group = &c->groups[conn->group];
    if (group->state != HDL_GROUP_UP || result->epoch != group->epoch)
        return;
    const char *problem = problem_of(c, conn, result);
    if (problem) {
        HDL_LOG(ERROR, CLUSTER, "bad_result", "group=%u rank=%u why=%s", conn->group, conn->rank,
                HDL_LOG_QUOTE(problem));
        hdl_registry_drop(c, conn, HDL_INVALID, "the result is not valid");
        return;
    }
    if (result->err != HDL_OK) {
        HDL_LOG(WARN, CLUSTER, "step_failed", "group=%u rank=%u epoch=%llu step=%llu err=%s",
                conn->group, conn->rank, (unsigned long long)result->epoch,
                (unsigned long long)result->step, hdl_err_name((hdl_err)result->err));
        hdl_registry_end_epoch(c, conn->group, "a step failed");
        return;
    }
    if (conn->rank != 0)
        return;
    hdl_flight *flight = result->step ? find_flight(group, result->step) : NULL;
    if (flight)
        absorb(c, group, flight, result);
}
