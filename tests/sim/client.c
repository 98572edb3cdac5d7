/* SPDX-License-Identifier: Apache-2.0 */
/* The judge: every stream is the oracle's, in order, once; every request ends once and for a reason
 * that holds; nobody is passed by a tenant that has had more than its share. */
#include "tests/sim/sim.h"

static uint64_t per_token(const sim_world *w, uint32_t tenant)
{
    uint32_t weight = w->env.config.tenant_weight[tenant];
    return (1u << 20) / (weight ? weight : 1);
}

static void leave_fifo(sim_world *w, sim_req *r)
{
    if (r->in_fifo)
        w->tenant_waiting[r->submit.tenant]--;
    r->in_fifo = false;
}

/* The books are exact only where order within the queue is by tenant alone. */
static bool keeps_books(const sim_world *w)
{
    return w->env.n_tenants > 1 && w->env.n_priorities == 1 && w->env.p_fork == 0;
}

static void admitted(sim_world *w, sim_req *r, uint32_t pos)
{
    SIM_CHECK(w, r->end == SIM_LIVE, "an ended request is admitted");
    if (!r->in_fifo)
        return;
    leave_fifo(w, r);
    uint32_t u = r->submit.tenant;
    for (uint32_t t = 0; keeps_books(w) && t < w->env.n_tenants; t++)
        SIM_CHECK(w, t == u || w->tenant_waiting[t] == 0 || w->served[u] <= w->served[t],
                  "tenant %u goes before tenant %u, which has had less", u, t);
    if (w->served[u] > w->floor)
        w->floor = w->served[u];
    w->served[u] += per_token(w, u) * (r->submit.n_prompt - pos);
}

static bool is_stop(const sim_req *r, hdl_token token)
{
    if (r->submit.flags & HDL_SUBMIT_IGNORE_EOS)
        return false;
    for (uint32_t i = 0; i < r->submit.n_stop_ids; i++)
        if (r->submit.stop_ids[i] == token)
            return true;
    return false;
}

static void emitted(sim_world *w, const hdl_new_token *e, const hdl_event *ev, uint32_t row)
{
    uint32_t idx = sim_req_idx(w, e->req);
    sim_req *r = &w->reqs[idx];
    SIM_CHECK(w, r->end == SIM_LIVE && r->submitted, "request %u emits after its end", idx);
    SIM_CHECK(w, !r->stopped, "request %u emits after a stop id", idx);
    SIM_CHECK(w, e->index == r->n_emitted, "request %u emits token %u, expected %u", idx, e->index,
              r->n_emitted);
    SIM_CHECK(w, e->index < r->submit.max_new, "request %u emits too many tokens", idx);
    hdl_token want = sim_oracle_token(w, r, r->submit.n_prompt + e->index);
    SIM_CHECK(w, e->token == want, "request %u emits %d, expected %d", idx, e->token, want);
    SIM_CHECK(w,
              ev->kind == HDL_EV_RESULT && row < ev->result.n_rows &&
                  ev->result.rows[row].token == want && !ev->result.rows[row].scored,
              "request %u: emit names a wrong result row", idx);
    r->n_emitted++;
    r->stopped = is_stop(r, want);
    w->served[r->submit.tenant] += per_token(w, r->submit.tenant);
}

static bool reason_holds(const sim_world *w, const sim_req *r, hdl_finish reason)
{
    uint32_t len = r->submit.n_prompt + r->n_emitted;
    switch (reason) {
    case HDL_FINISH_STOP: return r->stopped;
    case HDL_FINISH_LENGTH:
        return !r->stopped && (r->n_emitted == r->submit.max_new || len == r->limit);
    case HDL_FINISH_CANCELLED: return r->cancelled;
    case HDL_FINISH_TIMEOUT:
        return r->submit.deadline_us && r->submit.deadline_us <= w->core_us && r->admitted;
    case HDL_FINISH_FAILED: return r->admitted && len + (r->submit.max_new > 0) > w->len_limit;
    case HDL_FINISH_COUNT: break;
    }
    return false;
}

static void ended(sim_world *w, const hdl_act_done *d)
{
    uint32_t idx = sim_req_idx(w, d->req);
    sim_req *r = &w->reqs[idx];
    SIM_CHECK(w, r->submitted && r->end == SIM_LIVE, "request %u ends twice", idx);
    SIM_CHECK(w, reason_holds(w, r, d->reason), "request %u ends for a wrong reason %d", idx,
              (int)d->reason);
    SIM_CHECK(w,
              d->n_new == r->n_emitted && d->n_prompt == r->submit.n_prompt &&
                  d->n_cached < d->n_prompt,
              "request %u: wrong usage", idx);
    leave_fifo(w, r);
    r->end = SIM_DONE;
    w->n_live--;
}

static bool refusal_holds(const sim_world *w, const sim_req *r, const hdl_act_reject *a)
{
    switch (a->err) {
    case HDL_BUSY: return w->n_live > 1 && a->retry_after_ms > 0;
    case HDL_INVALID: return r->submit.n_prompt + (r->submit.max_new > 0) > w->len_limit;
    case HDL_TIMEOUT:
        return r->submit.deadline_us && r->submit.deadline_us <= w->core_us && !r->admitted;
    case HDL_AGAIN: return w->draining;
    default: return false;
    }
}

static void refused(sim_world *w, const hdl_act_reject *a)
{
    uint32_t idx = sim_req_idx(w, a->req);
    sim_req *r = &w->reqs[idx];
    SIM_CHECK(w, r->submitted && r->end == SIM_LIVE, "request %u is refused after its end", idx);
    SIM_CHECK(w, r->n_emitted == 0, "request %u is refused after it emitted", idx);
    SIM_CHECK(w, refusal_holds(w, r, a), "request %u is refused for a wrong reason: %d", idx,
              (int)a->err);
    leave_fifo(w, r);
    r->end = SIM_REFUSED;
    w->n_live--;
}

static void planned(sim_world *w, const hdl_plan *p)
{
    SIM_CHECK(w, p->group < w->env.config.n_groups, "plan for group %u", p->group);
    sim_group *g = &w->groups[p->group];
    SIM_CHECK(w, g->up && p->epoch == g->epoch, "plan for a group that is down");
    SIM_CHECK(w, g->n_flight < HDL_PLANS_IN_FLIGHT, "too many plans in flight");
    g->flight[g->n_flight++] = (sim_flight){.plan = p, .step = p->step, .epoch = p->epoch};
    for (uint32_t i = 0; i < p->n_opens; i++) {
        hdl_req_id id = {p->opens[i].req_lo | (uint64_t)p->opens[i].req_hi << 32};
        w->reqs[sim_req_idx(w, id)].limit = g->max_len;
    }
    sim_fault_plan(w, p->group, p);
}

static void traced(sim_world *w, const hdl_action *a)
{
    switch (a->trace.what) {
    case HDL_TRACE_ADMIT: {
        sim_req *r = &w->reqs[sim_req_idx(w, (hdl_req_id){a->trace.a})];
        admitted(w, r, (uint32_t)a->trace.b);
        r->admitted = true;
        break;
    }
    case HDL_TRACE_DRAINED:
        SIM_CHECK(w, w->draining && w->n_live == 0, "drained with %u live requests", w->n_live);
        w->drained = true;
        break;
    case HDL_TRACE_EPOCH_END:
        w->groups[a->trace.a].up = false;
        w->groups[a->trace.a].n_flight = 0;
        sim_count_limit(w);
        break;
    default: break;
    }
}

void sim_client_submit(sim_world *w, uint32_t idx)
{
    sim_req *r = &w->reqs[idx];
    r->submitted = true;
    w->n_live++;
    w->n_submitted++;
}

/* A new request enters its tenant's books before anybody is admitted, and after those whose time
 * was over. */
static void enter_fifo(sim_world *w, const hdl_actions *actions, hdl_req_id id)
{
    sim_req *r = &w->reqs[sim_req_idx(w, id)];
    for (uint32_t i = 0; i < actions->count; i++) {
        if (actions->list[i].kind != HDL_ACT_REJECT)
            continue;
        if (actions->list[i].reject.req.v == id.v)
            return;
        leave_fifo(w, &w->reqs[sim_req_idx(w, actions->list[i].reject.req)]);
    }
    uint32_t t = r->submit.tenant;
    if (w->tenant_waiting[t]++ == 0 && w->served[t] < w->floor)
        w->served[t] = w->floor;
    r->in_fifo = true;
}

void sim_client_take(sim_world *w, const hdl_actions *actions, const hdl_event *ev)
{
    if (ev->kind == HDL_EV_SUBMIT)
        enter_fifo(w, actions, ev->submit.req);
    for (uint32_t i = 0; i < actions->count; i++) {
        const hdl_action *a = &actions->list[i];
        switch (a->kind) {
        case HDL_ACT_PLAN: planned(w, a->plan.plan); break;
        case HDL_ACT_EMIT:
            for (uint32_t k = 0; k < a->emit.n; k++)
                emitted(w, &a->emit.list[k], ev, a->emit.result_row + k);
            break;
        case HDL_ACT_DONE: ended(w, &a->done); break;
        case HDL_ACT_REJECT: refused(w, &a->reject); break;
        case HDL_ACT_TIMER: {
            int64_t at = (int64_t)a->timer.at_us - w->skew_us;
            sim_push(w, at > (int64_t)w->now_us ? (uint64_t)at : w->now_us, SIM_TICK, 0, 0);
            break;
        }
        case HDL_ACT_TRACE: traced(w, a); break;
        case HDL_ACT_COUNT: sim_fail(w, "unknown action");
        }
    }
    for (uint32_t i = 0; i < w->env.n_reqs; i++) {
        const sim_req *r = &w->reqs[i];
        if (!r->submitted || r->end != SIM_LIVE)
            continue;
        SIM_CHECK(w, !r->stopped, "request %u goes on after a stop id", i);
        SIM_CHECK(w, !r->cancelled, "request %u lives on after its cancel", i);
        SIM_CHECK(w, r->submit.deadline_us == 0 || r->submit.deadline_us > w->core_us,
                  "request %u lives on after its deadline", i);
    }
}
