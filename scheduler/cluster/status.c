/* SPDX-License-Identifier: Apache-2.0 */
/* What others see of the brain: the engine's info, the ranks' states, gauges. Written at most every
 * PUBLISH_US, and in the turn in which a rank or a group comes or goes, or there is something to do
 * after a while of nothing; under a lock that nobody holds for longer than a copy. */
#include <stdio.h>
#include <string.h>

#include <heddle/types.h>

#include "base/metrics.h"
#include "scheduler/cluster/state.h"

enum { PUBLISH_US = 100 * 1000 };

typedef struct census {
    hdl_standing now;
    uint64_t bytes_done, bytes_total;
} census;

static hdl_time_us now_us(const hdl_cluster *c)
{
    return c->now_us ? c->now_us : hdl_clock_now_us();
}

static census count(hdl_cluster *c)
{
    census n = {.now = {.draining = c->draining,
                        .in_trouble = c->trouble[0] != '\0',
                        .has_requests = c->requests.count > 0,
                        .has_missed = hdl_scaler_has_refused(c->scaler, now_us(c))}};
    for (uint32_t g = 0; g < c->n_groups; g++) {
        n.now.n_groups_up += c->groups[g].state == HDL_GROUP_UP;
        n.now.epochs += c->groups[g].epoch;
        for (uint32_t r = 0; r < c->n_ranks; r++) {
            hdl_conn *conn = c->groups[g].ranks[r];
            if (!conn)
                continue;
            n.now.n_present++;
            n.now.n_ready += conn->state >= HDL_CONN_READY && conn->state <= HDL_CONN_JOINED;
            n.bytes_done += atomic_load_explicit(&conn->bytes_done, memory_order_relaxed);
            n.bytes_total += atomic_load_explicit(&conn->bytes_total, memory_order_relaxed);
        }
    }
    return n;
}

static void say_state(const hdl_cluster *c, const census *n, char *out, size_t size)
{
    const uint32_t n_all = c->n_groups * c->n_ranks;
    if (c->draining)
        snprintf(out, size, "draining");
    else if (n->now.n_groups_up == c->n_groups)
        snprintf(out, size, "ready");
    else if (c->trouble[0])
        snprintf(out, size, "a worker failed: %.*s", (int)size - 20, c->trouble);
    else if (n->now.n_present < n_all)
        snprintf(out, size, "waiting for workers: %u of %u", n->now.n_present, n_all);
    else if (n->now.n_ready < n_all && n->bytes_total)
        snprintf(out, size, "loading %u %%", (unsigned)(n->bytes_done * 100 / n->bytes_total));
    else
        snprintf(out, size, n->now.n_ready < n_all ? "loading" : "joining");
}

static void count_metrics(hdl_cluster *c)
{
    const hdl_sched_stats *now = &c->stats, *then = &c->counted;
    hdl_metric_set(HDL_METRIC_RUNNING, 0, now->running);
    hdl_metric_set(HDL_METRIC_WAITING, 0, now->waiting);
    hdl_metric_set(HDL_METRIC_QUEUE_TOKENS, 0, (int64_t)now->queued_tokens);
    for (uint32_t i = 0; i < c->n_caches; i++) {
        hdl_metric_set(HDL_METRIC_KV_BLOCKS_TOTAL, i, (int64_t)now->caches[i].total);
        hdl_metric_set(HDL_METRIC_KV_BLOCKS_USED, i, (int64_t)now->caches[i].used);
        hdl_metric_set(HDL_METRIC_KV_BLOCKS_CACHED, i, (int64_t)now->caches[i].cached);
    }
    hdl_metric_add(HDL_METRIC_SNAPSHOTS, 0, now->snapshots - then->snapshots);
    hdl_metric_add(HDL_METRIC_PREFIX_QUERY_TOKENS, 0,
                   now->prefix_query_tokens - then->prefix_query_tokens);
    hdl_metric_add(HDL_METRIC_PREFIX_HIT_TOKENS, 0,
                   now->prefix_hit_tokens - then->prefix_hit_tokens);
    hdl_metric_add(HDL_METRIC_GUESS_ROWS, 0, now->guess_rows - then->guess_rows);
    hdl_metric_add(HDL_METRIC_GUESSES, 0, now->guesses - then->guesses);
    hdl_metric_add(HDL_METRIC_GUESSES_HELD, 0, now->guesses_held - then->guesses_held);
    hdl_metric_add(HDL_METRIC_PREEMPTIONS, 0, now->preemptions - then->preemptions);
    c->counted = c->stats;
}

static uint64_t step_age(const hdl_cluster *c)
{
    uint64_t age = 0;
    if (c->stats.running + c->stats.waiting == 0)
        return 0;
    for (uint32_t g = 0; g < c->n_groups; g++) {
        hdl_time_us last = c->groups[g].last_result_us;
        if (last && c->now_us - last > age)
            age = c->now_us - last;
    }
    return age;
}

static void fill_rank(hdl_cluster *c, uint32_t g, uint32_t r, hdl_rank_status *out)
{
    static const char *const names[] = {"new",     "spare",   "loading", "ready",
                                        "joining", "running", "gone"};
    hdl_conn *conn = c->groups[g].ranks[r];
    *out = (hdl_rank_status){.group = g, .rank = r};
    snprintf(out->state, sizeof out->state, "%s", conn ? names[conn->state] : "missing");
    if (!conn)
        return;
    hdl_time_us seen = atomic_load_explicit(&conn->seen_us, memory_order_relaxed);
    out->pid = conn->hello.pid;
    out->step_us = atomic_load_explicit(&conn->step_us, memory_order_relaxed);
    out->coll_us = atomic_load_explicit(&conn->coll_us, memory_order_relaxed);
    out->bytes_done = atomic_load_explicit(&conn->bytes_done, memory_order_relaxed);
    out->bytes_total = atomic_load_explicit(&conn->bytes_total, memory_order_relaxed);
    out->silent_us = c->now_us > seen ? c->now_us - seen : 0;
    memcpy(out->host, conn->hello.host, sizeof out->host);
    memcpy(out->device, conn->ready.device[0] ? conn->ready.device : conn->hello.device,
           sizeof out->device);
}

hdl_time_us hdl_status_turn(hdl_cluster *c)
{
    const hdl_standing now = count(c).now;
    if (c->now_us < c->publish_at_us && memcmp(&now, &c->published, sizeof now) == 0)
        return c->publish_at_us;
    hdl_status_publish(c);
    c->publish_at_us = c->now_us + PUBLISH_US;
    return UINT64_MAX;
}

void hdl_status_publish(hdl_cluster *c)
{
    if (c->sched) {
        hdl_sched_read_stats(c->sched, &c->stats);
        count_metrics(c);
    }
    const census n = count(c);
    c->published = n.now;
    hdl_engine_info info = {
        .ready = n.now.n_groups_up > 0 && !c->draining,
        .draining = c->draining,
        .n_ranks = c->n_groups * c->n_ranks,
        .n_ranks_ready = n.now.n_ready,
        .load_bytes_done = n.bytes_done,
        .load_bytes_total = n.bytes_total,
        .max_len = c->sched ? c->stats.max_len : 0,
        .vocab = c->vocab,
        .kv_tokens_capacity = c->stats.kv_tokens_total,
        .running = c->stats.running,
        .waiting = c->stats.waiting,
        .requests_max = (uint32_t)c->config->max_seqs + (uint32_t)c->config->max_waiting,
        .last_step_age_us = step_age(c),
    };
    for (uint32_t g = 0; g < c->n_groups; g++)
        info.epoch = info.epoch > c->groups[g].epoch ? info.epoch : c->groups[g].epoch;
    say_state(c, &n, info.state, sizeof info.state);
    hdl_metric_set(HDL_METRIC_WORKERS_WANTED, 0, c->n_groups * c->n_ranks);
    hdl_metric_set(HDL_METRIC_WORKERS_READY, 0, n.now.n_ready);
    pthread_mutex_lock(&c->lock);
    bool was_ready = c->info.ready;
    c->info = info;
    for (uint32_t g = 0; g < c->n_groups; g++)
        for (uint32_t r = 0; r < c->n_ranks; r++)
            fill_rank(c, g, r, &c->statuses[g * c->n_ranks + r]);
    pthread_mutex_unlock(&c->lock);
    if (was_ready != info.ready)
        hdl_health_set(c->health, info.ready);
    hdl_scaler_report(c->scaler, &(hdl_scaler_look){
                                     .demand = {.queued_tokens = c->stats.queued_tokens,
                                                .running = c->stats.running,
                                                .waiting = c->stats.waiting},
                                     .kv_tokens_held = c->stats.kv_tokens_used,
                                     .replicas = n.now.n_groups_up,
                                     .now_us = now_us(c),
                                 });
}
