/* SPDX-License-Identifier: Apache-2.0 */
/* Workers, the ranks they hold, and the epochs of their groups. Brain thread.
 *
 * Hello -> Assign -> (loads) -> Ready -> Join(epoch) when all ranks of the group are ready (meet.c)
 * -> Joined -> the core's RANK_UP when all have joined. Whatever ends a rank ends the epoch:
 * RANK_LOST to the core at once, Abort to the survivors, who keep their weights and wait for the
 * next Join.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include <heddle/types.h>

#include "base/assert.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/metrics.h"
#include "scheduler/cluster/state.h"

static const char *const state_names[] = {"new",     "spare",  "loading", "ready",
                                          "joining", "joined", "gone"};

static bool holds_rank(const hdl_cluster *c, const hdl_conn *conn)
{
    return conn->group < c->n_groups && c->groups[conn->group].ranks[conn->rank] == conn;
}

/* -- assignment ------------------------------------------------------------------------------ */

/* Names what a rank loads: a worker that holds the same key need not load again. */
static uint64_t key_of(const hdl_msg_assign *a)
{
    const uint64_t numbers[] = {a->rank,         a->tp,       a->ep,       a->pp,
                                a->weights,      a->kv_bytes, a->max_seqs, a->step_tokens,
                                a->block_tokens, a->max_len,  a->kv_type};
    uint64_t key = hdl_hash_bytes(numbers, sizeof numbers, HDL_WIRE_PROTOCOL);
    key = hdl_hash_bytes(a->model_path, strlen(a->model_path), key);
    key = hdl_hash_bytes(a->logits_path, strlen(a->logits_path), key);
    return key ? key : 1; /* 0: holds nothing */
}

static hdl_msg_assign assignment(const hdl_cluster *c, uint32_t group, uint32_t rank)
{
    const hdl_config *config = c->config;
    hdl_msg_assign a = {
        .group = group,
        .rank = rank,
        .tp = (uint32_t)config->tp,
        .ep = (uint32_t)config->ep,
        .pp = (uint32_t)config->pp,
        .dp = (uint32_t)config->dp,
        .weights = (uint32_t)config->model_weights,
        .kv_type = (uint32_t)hdl_kv_type_of(config->kv_type),
        .kv_bytes = config->kv_bytes,
        .block_tokens = (uint32_t)config->block_tokens,
        .max_seqs = (uint32_t)config->max_seqs,
        .step_tokens = (uint32_t)config->step_tokens,
        .max_len = (uint32_t)config->model_max_len,
        .coll_timeout_us = config->coll_timeout_us,
        .heartbeat_us = config->heartbeat_us,
        .hang_us = config->hang_us,
    };
    snprintf(a.model_path, sizeof a.model_path, "%s", config->model_path);
    snprintf(a.logits_path, sizeof a.logits_path, "%s", config->logits_path);
    a.key = key_of(&a);
    return a;
}

/* A vacant rank, preferably the one whose weights the worker already holds. */
static bool find_vacancy(const hdl_cluster *c, uint64_t holds, uint32_t *group, uint32_t *rank)
{
    bool found = false;
    for (uint32_t g = 0; g < c->n_groups; g++)
        for (uint32_t r = 0; r < c->n_ranks; r++) {
            if (c->groups[g].ranks[r])
                continue;
            bool fits = holds && assignment(c, g, r).key == holds;
            if (found && !fits)
                continue;
            *group = g;
            *rank = r;
            found = true;
            if (fits)
                return true;
        }
    return found;
}

static void assign(hdl_cluster *c, hdl_conn *conn)
{
    uint32_t group, rank;
    if (!find_vacancy(c, conn->hello.holds, &group, &rank)) {
        conn->state = HDL_CONN_SPARE;
        HDL_LOG(INFO, CLUSTER, "worker_spare", "host=%s pid=%u", HDL_LOG_QUOTE(conn->hello.host),
                conn->hello.pid);
        return;
    }
    conn->group = group;
    conn->rank = rank;
    atomic_store_explicit(&conn->number, group * c->n_ranks + rank, memory_order_relaxed);
    conn->state = HDL_CONN_LOADING;
    c->groups[group].ranks[rank] = conn;
    if (c->groups[group].epoch > 0 && conn->hello.holds == 0) /* a fresh process for a lost one */
        hdl_metric_add(HDL_METRIC_WORKER_RESTARTS, 0, 1);
    const hdl_sched_msg msg = {.kind = HDL_SMSG_ASSIGN, .assign = assignment(c, group, rank)};
    (void)hdl_dispatch_send(c, conn, &msg);
    HDL_LOG(INFO, CLUSTER, "worker_assigned", "group=%u rank=%u host=%s pid=%u device=%s", group,
            rank, HDL_LOG_QUOTE(conn->hello.host), conn->hello.pid,
            HDL_LOG_QUOTE(conn->hello.device));
}

static void fill_vacancies(hdl_cluster *c)
{
    for (hdl_conn *conn = c->conns; conn; conn = conn->next)
        if (conn->state == HDL_CONN_SPARE)
            assign(c, conn);
}

/* -- epochs ---------------------------------------------------------------------------------- */

static void lose_rank(hdl_cluster *c, uint32_t g)
{
    hdl_dispatch_forget(&c->groups[g]);
    hdl_brain_feed(c, &(hdl_event){.kind = HDL_EV_RANK_LOST,
                                   .rank = {.group = g, .epoch = c->groups[g].epoch}});
}

void hdl_registry_end_epoch(hdl_cluster *c, uint32_t g, const char *reason)
{
    hdl_cluster_group *group = &c->groups[g];
    if (group->state == HDL_GROUP_FORMING)
        return;
    HDL_LOG(WARN, CLUSTER, "epoch_ends", "group=%u epoch=%llu why=%s", g,
            (unsigned long long)group->epoch, HDL_LOG_QUOTE(reason));
    bool was_up = group->state == HDL_GROUP_UP;
    group->state = HDL_GROUP_FORMING;
    hdl_time_us delay = (hdl_time_us)REFORM_DELAY_US << hdl_min_u32(group->n_fails++, 7);
    group->form_at_us = c->now_us + (delay < REFORM_DELAY_MAX_US ? delay : REFORM_DELAY_MAX_US);
    const hdl_sched_msg msg = {.kind = HDL_SMSG_ABORT, .abort = {.epoch = group->epoch}};
    for (uint32_t r = 0; r < c->n_ranks; r++) {
        hdl_conn *conn = group->ranks[r];
        if (!conn || (conn->state != HDL_CONN_JOINING && conn->state != HDL_CONN_JOINED))
            continue;
        conn->state = HDL_CONN_READY;
        (void)hdl_dispatch_send(c, conn, &msg);
    }
    if (was_up && !group->lost_us)
        group->lost_us = c->now_us;
    if (was_up)
        lose_rank(c, g);
}

static uint32_t count_in(const hdl_cluster *c, const hdl_cluster_group *group, hdl_conn_state state)
{
    uint32_t n = 0;
    for (uint32_t r = 0; r < c->n_ranks; r++)
        n += group->ranks[r] && group->ranks[r]->state == state;
    return n;
}

/* Machine, device and weights: what the self-test is a test of. */
static uint64_t tested_word(const hdl_conn *conn)
{
    uint64_t word = hdl_hash_bytes(conn->hello.host, strlen(conn->hello.host), conn->ready.key);
    return hdl_hash_bytes(conn->ready.device, strlen(conn->ready.device), word);
}

static bool needs_test(const hdl_cluster *c, const hdl_cluster_group *group)
{
    for (uint32_t r = 0; r < c->n_ranks; r++)
        if (group->tested[r] != tested_word(group->ranks[r]))
            return true;
    return false;
}

static void form(hdl_cluster *c, uint32_t g)
{
    hdl_cluster_group *group = &c->groups[g];
    if (!c->sched && hdl_brain_make_core(c, group) != HDL_OK) {
        snprintf(c->trouble, sizeof c->trouble, "the scheduler's tables cannot be built");
        group->form_at_us = c->now_us + REFORM_DELAY_MAX_US;
        return;
    }
    for (uint32_t r = 0; r < c->n_ranks; r++)
        if (group->ranks[r]->hello.epoch > group->epoch)
            group->epoch = group->ranks[r]->hello.epoch;
    group->epoch++;
    group->state = HDL_GROUP_JOINING;
    group->n_joined = 0;
    group->self_test = needs_test(c, group);
    for (uint32_t r = 0; r < c->n_ranks; r++)
        group->ranks[r]->state = HDL_CONN_JOINING;
    hdl_meet_begin(c, g);
    hdl_metric_add(HDL_METRIC_EPOCHS, 0, 1);
    HDL_LOG(INFO, CLUSTER, "epoch_forms", "group=%u epoch=%llu ranks=%u", g,
            (unsigned long long)group->epoch, c->n_ranks);
}

static void on_joined(hdl_cluster *c, hdl_conn *conn, uint64_t epoch)
{
    hdl_cluster_group *group = &c->groups[conn->group];
    if (conn->state != HDL_CONN_JOINING || epoch != group->epoch)
        return; /* the answer to an epoch that ended meanwhile */
    conn->state = HDL_CONN_JOINED;
    if (++group->n_joined < c->n_ranks)
        return;
    hdl_event up = {.kind = HDL_EV_RANK_UP,
                    .rank = {.group = conn->group, .epoch = epoch, .max_len = UINT32_MAX}};
    uint32_t *n_blocks = up.rank.n_blocks;
    for (uint32_t i = 0; i < c->n_caches; i++)
        n_blocks[i] = c->caches[i].n_blocks;
    for (uint32_t r = 0; r < c->n_ranks; r++) {
        const hdl_msg_ready *ready = &group->ranks[r]->ready;
        for (uint32_t i = 0; i < c->n_caches; i++)
            n_blocks[i] = hdl_min_u32(n_blocks[i], ready->caches[i].n_blocks);
        up.rank.max_len = hdl_min_u32(up.rank.max_len, ready->max_len);
        group->tested[r] = tested_word(group->ranks[r]);
    }
    group->state = HDL_GROUP_UP;
    group->last_result_us = c->now_us;
    HDL_LOG(INFO, CLUSTER, "epoch_up", "group=%u epoch=%llu blocks=%u,%u,%u,%u", conn->group,
            (unsigned long long)epoch, n_blocks[0], n_blocks[1], n_blocks[2], n_blocks[3]);
    hdl_brain_feed(c, &up);
}

/* -- what workers say ------------------------------------------------------------------------ */

void hdl_registry_drop(hdl_cluster *c, hdl_conn *conn, hdl_err err, const char *text)
{
    hdl_sched_msg msg = {.kind = HDL_SMSG_GOODBYE, .goodbye = {.err = err}};
    if (conn->state == HDL_CONN_GONE)
        return;
    HDL_LOG(WARN, CLUSTER, "worker_dropped", "group=%d rank=%u state=%s pid=%u why=%s",
            (int)conn->group, conn->rank, state_names[conn->state], conn->hello.pid,
            HDL_LOG_QUOTE(text));
    bool had_rank = holds_rank(c, conn);
    bool in_epoch = conn->state == HDL_CONN_JOINING || conn->state == HDL_CONN_JOINED;
    conn->state = HDL_CONN_GONE;
    snprintf(msg.goodbye.text, sizeof msg.goodbye.text, "%s", text);
    (void)hdl_dispatch_send(c, conn, &msg);
    if (err == HDL_TIMEOUT)
        hdl_rpc_cancel(conn->stream); /* it does not read */
    else
        hdl_rpc_finish(conn->stream, err, text);
    if (!had_rank)
        return;
    c->groups[conn->group].ranks[conn->rank] = NULL;
    if (in_epoch)
        hdl_registry_end_epoch(c, conn->group, text);
    fill_vacancies(c);
}

/* Takes as long for a wrong token as for the right one of the same length. */
static bool is_same_secret(const char *a, const char *b)
{
    size_t a_len = strlen(a), b_len = strlen(b);
    unsigned char difference = a_len != b_len;
    for (size_t i = 0; i < a_len && i < b_len; i++)
        difference |= (unsigned char)(a[i] ^ b[i]);
    return difference == 0;
}

void hdl_registry_opened(hdl_cluster *c, hdl_conn *conn)
{
    conn->next = c->conns;
    conn->prev = NULL;
    if (conn->next)
        conn->next->prev = conn;
    c->conns = conn;
}

static void on_hello(hdl_cluster *c, hdl_conn *conn, const hdl_msg_hello *hello)
{
    const char *kind = c->config->device == HDL_DEVICE_CPU ? "cpu" : "cuda";
    if (conn->state != HDL_CONN_NEW)
        return;
    conn->hello = *hello;
    if (hello->protocol != HDL_WIRE_PROTOCOL)
        hdl_registry_drop(c, conn, HDL_UNSUPPORTED, "the worker's version is not ours; update it");
    else if (!is_same_secret(hello->token, c->token))
        hdl_registry_drop(c, conn, HDL_DENIED, "the token is wrong; see rpc.token_file");
    else if (strncmp(hello->device, kind, strlen(kind)) != 0)
        hdl_registry_drop(c, conn, HDL_UNSUPPORTED,
                          "the cluster runs on another kind of device; see worker.device");
    else
        assign(c, conn);
}

static bool same_caches(const hdl_msg_ready *ready, uint32_t n, const hdl_cache_capacity *caches)
{
    bool same = ready->n_caches == n;
    for (uint32_t i = 0; same && i < n; i++)
        same = memcmp(&ready->caches[i].rule, &caches[i].rule, sizeof caches[i].rule) == 0;
    return same;
}

/* What the core was built for, or the ranks of its group that were ready before. */
static bool is_as_expected(const hdl_cluster *c, const hdl_conn *conn, const hdl_msg_ready *ready)
{
    if (ready->key != assignment(c, conn->group, conn->rank).key)
        return false;
    for (uint32_t r = 0; r < c->n_ranks; r++) {
        const hdl_conn *other = c->groups[conn->group].ranks[r];
        if (other && other != conn && other->state >= HDL_CONN_READY &&
            !same_caches(ready, other->ready.n_caches, other->ready.caches))
            return false;
    }
    return !c->sched || (ready->vocab == c->vocab && ready->block_tokens == c->block_tokens &&
                         ready->max_seqs >= c->max_seqs && ready->step_tokens >= c->step_tokens &&
                         same_caches(ready, c->n_caches, c->caches));
}

static void on_ready(hdl_cluster *c, hdl_conn *conn, const hdl_msg_ready *ready)
{
    if (conn->state != HDL_CONN_LOADING)
        return;
    if (!is_as_expected(c, conn, ready)) {
        hdl_registry_drop(c, conn, HDL_INVALID, "the worker holds something else than was asked");
        return;
    }
    conn->ready = *ready;
    conn->state = HDL_CONN_READY;
    c->trouble[0] = '\0';
    HDL_LOG(INFO, CLUSTER, "worker_ready",
            "group=%u rank=%u weights=%llu kv=%llu blocks=%u,%u,%u,%u device=%s", conn->group,
            conn->rank, (unsigned long long)ready->weight_bytes,
            (unsigned long long)ready->kv_bytes, ready->caches[0].n_blocks,
            ready->caches[1].n_blocks, ready->caches[2].n_blocks, ready->caches[3].n_blocks,
            HDL_LOG_QUOTE(ready->device));
}

static void on_failed(hdl_cluster *c, hdl_conn *conn, const hdl_msg_failed *failed)
{
    HDL_LOG(ERROR, CLUSTER, "worker_failed", "group=%u rank=%u state=%s fatal=%d err=%s why=%s",
            conn->group, conn->rank, state_names[conn->state], failed->fatal,
            hdl_err_name(failed->err), HDL_LOG_QUOTE(failed->text));
    if (conn->state == HDL_CONN_LOADING)
        snprintf(c->trouble, sizeof c->trouble, "%s", failed->text);
    if (failed->fatal) {
        hdl_registry_drop(c, conn, failed->err, "the worker gave up");
        return;
    }
    bool in_epoch = conn->state == HDL_CONN_JOINING || conn->state == HDL_CONN_JOINED;
    if (in_epoch && failed->epoch == c->groups[conn->group].epoch)
        hdl_registry_end_epoch(c, conn->group, "a rank failed");
}

void hdl_registry_message(hdl_cluster *c, hdl_conn *conn, const hdl_worker_msg *msg)
{
    switch (msg->kind) {
    case HDL_WMSG_HELLO: on_hello(c, conn, &msg->hello); break;
    case HDL_WMSG_READY: on_ready(c, conn, &msg->ready); break;
    case HDL_WMSG_JOINED:
        if (holds_rank(c, conn))
            on_joined(c, conn, msg->joined.epoch);
        break;
    case HDL_WMSG_LISTENING:
        if (holds_rank(c, conn))
            hdl_meet_listening(c, conn, &msg->listening);
        break;
    case HDL_WMSG_FAILED:
        if (holds_rank(c, conn))
            on_failed(c, conn, &msg->failed);
        break;
    case HDL_WMSG_RESULT:   /* dispatch.c */
    case HDL_WMSG_PROGRESS: /* control.c */
    case HDL_WMSG_HEARTBEAT: /* control.c */ break;
    }
}

void hdl_registry_closed(hdl_cluster *c, hdl_conn *conn)
{
    if (conn->state != HDL_CONN_GONE) {
        HDL_LOG(WARN, CLUSTER, "worker_lost", "group=%d rank=%u state=%s pid=%u", (int)conn->group,
                conn->rank, state_names[conn->state], conn->hello.pid);
        bool in_epoch = conn->state == HDL_CONN_JOINING || conn->state == HDL_CONN_JOINED;
        bool had_rank = holds_rank(c, conn);
        conn->state = HDL_CONN_GONE;
        if (had_rank)
            c->groups[conn->group].ranks[conn->rank] = NULL;
        if (had_rank && in_epoch) {
            hdl_registry_end_epoch(c, conn->group, "a worker was lost");
            c->groups[conn->group].form_at_us = c->now_us; /* the reason is known and gone */
        }
    }
    *(conn->prev ? &conn->prev->next : &c->conns) = conn->next;
    if (conn->next)
        conn->next->prev = conn->prev;
    hdl_conn_free(conn);
    atomic_fetch_sub(&c->n_conns, 1);
    fill_vacancies(c);
}

/* -- time ------------------------------------------------------------------------------------ */

static void beat(hdl_cluster *c)
{
    const hdl_sched_msg msg = {.kind = HDL_SMSG_HEARTBEAT,
                               .heartbeat = {.count = ++c->n_heartbeats}};
    for (hdl_conn *conn = c->conns; conn; conn = conn->next)
        if (conn->state != HDL_CONN_GONE)
            (void)hdl_dispatch_send(c, conn, &msg);
    c->heartbeat_at_us = c->now_us + c->config->heartbeat_us;
}

/* A stopped or hung process would hold its memory and its place for ever, and the supervisor starts
 * another only once it has ended. Its stream is open, so the process is the one that dialled; the
 * socket is in a folder that is the supervisor's alone. */
static void end_silent(const hdl_cluster *c, const hdl_conn *conn)
{
    bool supervised = c->config->die_with_parent && strncmp(c->config->rpc_listen, "unix:", 5) == 0;
    if (supervised && conn->hello.pid > 1)
        kill((pid_t)conn->hello.pid, SIGKILL);
}

static void drop_silent(hdl_cluster *c)
{
    for (hdl_conn *conn = c->conns; conn; conn = conn->next) {
        hdl_time_us seen = atomic_load_explicit(&conn->seen_us, memory_order_relaxed);
        if (conn->state == HDL_CONN_GONE || c->now_us <= seen + c->config->hang_us)
            continue;
        hdl_registry_drop(c, conn, HDL_TIMEOUT, "the worker is silent");
        end_silent(c, conn);
    }
}

hdl_time_us hdl_registry_tick(hdl_cluster *c)
{
    if (c->now_us >= c->heartbeat_at_us) {
        /* When this process was stopped itself, the workers' words still wait in its sockets. */
        if (c->now_us < c->heartbeat_at_us + c->config->hang_us / 2)
            drop_silent(c);
        beat(c);
    }
    hdl_time_us next = c->heartbeat_at_us;
    for (uint32_t g = 0; g < c->n_groups; g++) {
        hdl_cluster_group *group = &c->groups[g];
        if (group->too_large)
            hdl_registry_end_epoch(c, g, "a step is too large to be sent");
        group->too_large = false;
        if (group->state != HDL_GROUP_FORMING || count_in(c, group, HDL_CONN_READY) < c->n_ranks)
            continue;
        if (c->now_us >= group->form_at_us)
            form(c, g);
        else if (group->form_at_us < next)
            next = group->form_at_us;
    }
    return next;
}
