/* SPDX-License-Identifier: Apache-2.0 */
/* The open loop: every request is sent at its time, whatever became of the others, and its latency
 * counts from that time. A server that falls behind is therefore seen to fall behind (no
 * coordinated omission). With a concurrency limit the loop is closed: a request that had to wait
 * for a place counts from when it got one. */
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "bench/serve/client.h"

enum { PROGRESS_US = 100000 };

typedef struct runner {
    hdl_load_shared shared;
    hdl_load_run *run;
    const hdl_load_set *set;
    const hdl_load_target *target;
    hdl_loop *loop;
    hdl_timer next_due;
    hdl_load_conn *conns; /* owned [n] one for each request that may be open */
    hdl_load_conn *idle;
    uint32_t **gaps; /* owned [n] of owned: gaps of each request, moved to the run at its end */
    uint32_t *gaps_size;
    size_t next, done, active, n_conns;
    uint64_t shown_us;
    bool no_memory;
} runner;

static uint64_t elapsed(const runner *r) { return hdl_clock_now_us() - r->shared.start_us; }

static void note_gap(runner *r, size_t idx, uint64_t gap)
{
    hdl_load_result *res = &r->run->results[idx];
    if (res->n_gaps == r->gaps_size[idx]) {
        uint32_t size = r->gaps_size[idx] ? 2 * r->gaps_size[idx] : 64;
        uint32_t *grown = realloc(r->gaps[idx], size * sizeof(*grown));
        if (!grown) {
            r->no_memory = true;
            return;
        }
        r->gaps[idx] = grown;
        r->gaps_size[idx] = size;
    }
    r->gaps[idx][res->n_gaps++] = (uint32_t)gap;
}

static void note_second(runner *r, uint64_t at_us)
{
    size_t second = (size_t)(at_us / 1000000);
    if (second >= r->run->n_seconds) {
        size_t size = 2 * second + 64;
        uint32_t *grown = realloc(r->run->per_second, size * sizeof(*grown));
        if (!grown) {
            r->no_memory = true;
            return;
        }
        memset(grown + r->run->n_seconds, 0, (size - r->run->n_seconds) * sizeof(*grown));
        r->run->per_second = grown;
        r->run->n_seconds = size;
    }
    r->run->per_second[second]++;
}

static void on_text(void *arg, size_t idx, uint64_t at_us)
{
    runner *r = arg;
    hdl_load_result *res = &r->run->results[idx];
    if (res->first_us == 0)
        res->first_us = at_us;
    else
        note_gap(r, idx, at_us - res->last_us);
    res->last_us = at_us;
    note_second(r, at_us);
}

static void send_due(runner *r);

static void on_end(void *arg, hdl_load_conn *c)
{
    runner *r = arg;
    hdl_load_result *res = c->job.result;
    if (res->n_output > 0)
        r->run->counted = true;
    else if (res->first_us != 0)
        res->n_output = res->n_gaps + 1;
    if (res->n_input == 0)
        res->n_input = c->job.item->n_input;
    c->next = r->idle;
    r->idle = c;
    r->active--;
    r->done++;
    if (r->done == r->set->n)
        hdl_loop_stop(r->loop);
    else
        send_due(r);
}

static void tell(runner *r)
{
    uint64_t at = elapsed(r);
    if (r->target->progress && at - r->shown_us >= PROGRESS_US) {
        r->shown_us = at;
        r->target->progress(r->done, r->set->n);
    }
}

static void send_one(runner *r, uint64_t now_us)
{
    size_t idx = r->next++;
    hdl_load_conn *c = r->idle;
    hdl_load_result *res = &r->run->results[idx];
    r->idle = c->next;
    r->active++;
    if (r->active > r->run->peak_concurrent)
        r->run->peak_concurrent = (uint32_t)r->active;
    res->due_us = r->target->max_concurrency ? now_us : r->set->items[idx].at_us;
    hdl_load_conn_start(c, (hdl_load_job){&r->set->items[idx], res, idx});
}

static void send_due(runner *r)
{
    uint64_t now_us = elapsed(r);
    while (r->next < r->set->n && r->set->items[r->next].at_us <= now_us) {
        if (r->active >= r->n_conns) /* at the limit: the next end sends it */
            return;
        send_one(r, now_us);
    }
    if (r->next < r->set->n)
        (void)!hdl_timer_set(r->loop, &r->next_due,
                             r->shared.start_us + r->set->items[r->next].at_us);
    tell(r);
}

static void on_due(hdl_loop *loop, hdl_timer *timer)
{
    (void)loop;
    send_due(timer->arg);
}

/* Gaps of all requests into one array. */
static hdl_err gather_gaps(runner *r, hdl_errmsg *why)
{
    size_t total = 0;
    for (size_t i = 0; i < r->set->n; i++)
        total += r->run->results[i].n_gaps;
    r->run->gaps_us = malloc((total + 1) * sizeof(*r->run->gaps_us));
    if (!r->run->gaps_us || r->no_memory)
        return hdl_fail(HDL_NOMEM, why, "out of memory; ask for fewer requests");
    for (size_t i = 0; i < r->set->n; i++) {
        hdl_load_result *res = &r->run->results[i];
        res->gap_at = r->run->n_gaps;
        if (res->n_gaps)
            memcpy(r->run->gaps_us + res->gap_at, r->gaps[i], res->n_gaps * sizeof(uint32_t));
        r->run->n_gaps += res->n_gaps;
    }
    return HDL_OK;
}

static hdl_err prepare(runner *r, hdl_errmsg *why)
{
    size_t n = r->set->n;
    uint32_t limit = r->target->max_concurrency;
    r->n_conns = limit && limit < n ? limit : n;
    r->run->results = calloc(n + 1, sizeof(*r->run->results));
    r->conns = calloc(r->n_conns + 1, sizeof(*r->conns));
    r->gaps = calloc(n + 1, sizeof(*r->gaps));
    r->gaps_size = calloc(n + 1, sizeof(*r->gaps_size));
    if (!r->run->results || !r->conns || !r->gaps || !r->gaps_size)
        return hdl_fail(HDL_NOMEM, why, "out of memory; ask for fewer requests");
    r->run->n = n;
    HDL_TRY(hdl_loop_open(&r->loop, why));
    r->shared.loop = r->loop;
    for (size_t i = 0; i < r->n_conns; i++) {
        hdl_load_conn_init(&r->conns[i], &r->shared);
        r->conns[i].next = r->idle;
        r->idle = &r->conns[i];
    }
    return HDL_OK;
}

static hdl_err resolve(const hdl_load_target *target, struct addrinfo **out, hdl_errmsg *why)
{
    char port[8];
    snprintf(port, sizeof(port), "%u", target->port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    int rc = getaddrinfo(target->host, port, &hints, out);
    if (rc != 0)
        return hdl_fail(HDL_NOTFOUND, why,
                        "%.120s cannot be resolved: %s; give the server's address", target->host,
                        gai_strerror(rc));
    return HDL_OK;
}

static hdl_err drive(runner *r, hdl_errmsg *why)
{
    HDL_TRY(prepare(r, why));
    r->next_due = (hdl_timer){.fn = on_due, .arg = r};
    r->shared.start_us = r->run->start_us = hdl_clock_now_us();
    HDL_TRY(hdl_timer_set(r->loop, &r->next_due, r->shared.start_us));
    HDL_TRY(hdl_loop_run(r->loop));
    r->run->duration_us = elapsed(r);
    if (r->target->progress)
        r->target->progress(r->done, r->set->n);
    return gather_gaps(r, why);
}

hdl_err hdl_load_go(hdl_load_run *out, const hdl_load_set *set, const hdl_load_target *target,
                    hdl_errmsg *why)
{
    struct addrinfo *address = NULL;
    *out = (hdl_load_run){0};
    HDL_TRY(resolve(target, &address, why));
    runner r = {.run = out, .set = set, .target = target};
    r.shared = (hdl_load_shared){.target = target,
                                 .address = address->ai_addr,
                                 .address_len = address->ai_addrlen,
                                 .on_text = on_text,
                                 .on_end = on_end,
                                 .arg = &r};
    hdl_err err = drive(&r, why);
    for (size_t i = 0; r.loop && i < r.n_conns; i++)
        hdl_load_conn_deinit(&r.conns[i]);
    if (r.loop)
        hdl_loop_close(r.loop);
    for (size_t i = 0; r.gaps && i < set->n; i++)
        free(r.gaps[i]);
    free(r.gaps);
    free(r.gaps_size);
    free(r.conns);
    freeaddrinfo(address);
    if (err != HDL_OK)
        hdl_load_run_free(out);
    return err;
}

void hdl_load_run_free(hdl_load_run *run)
{
    free(run->results);
    free(run->gaps_us);
    free(run->per_second);
    *run = (hdl_load_run){0};
}
