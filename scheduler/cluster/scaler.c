/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/cluster/scaler.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <heddle/types.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/thread.h"
#include "proto/wire.h"
#include "scheduler/cluster/hook.h"

enum {
    WATCHERS_MAX = 64,
    DECIDE_US = 100000,    /* between looks at the policy while nothing begins or ends */
    REFUSED_US = 60000000, /* so long a refusal counts as demand */
    RETRY_S = 5,           /* after a hook that failed */
};

/* What KEDA may ask for; `signal` in the trigger's metadata chooses. */
typedef enum signal_kind {
    SIGNAL_DESIRED, /* the default: replicas wanted, target 1 */
    SIGNAL_QUEUED,
    SIGNAL_REQUESTS,
    SIGNAL_KV,
    SIGNAL_COUNT
} signal_kind;

static const char *const signal_names[SIGNAL_COUNT] = {"desired_replicas", "queued_tokens",
                                                       "requests", "kv_tokens_held"};

struct hdl_scaler {
    const hdl_config *config; /* borrowed */
    hdl_scale_policy policy;
    hdl_scale_state state; /* brain thread */
    uint64_t decided_us;   /* brain thread */
    bool begun;            /* brain thread */
    _Atomic uint64_t refused_us;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed;
    bool active;
    int64_t values[SIGNAL_COUNT];
    hdl_rpc_stream *watchers[WATCHERS_MAX]; /* pinned until their close */
    bool has_wish, stopping;
    hdl_hook_call wish;
    hdl_thread thread; /* of hooks; not started when there is none */
};

/* -- KEDA ------------------------------------------------------------------------------------- */

static hdl_err send_active(hdl_rpc_stream *stream, bool active)
{
    unsigned char mem[64];
    hdl_wire_encoder encoder = {.mem = mem, .size = sizeof mem};
    hdl_wire_bytes bytes;
    HDL_TRY(hdl_wire_encode_scaler_active(&encoder, active, &bytes));
    return hdl_rpc_send(stream, bytes.data, bytes.len);
}

/* The signal that a request names; SIGNAL_COUNT when there is no such. */
static signal_kind signal_of(const char *name)
{
    signal_kind s = SIGNAL_DESIRED;
    if (name[0] == '\0')
        return s;
    while (s < SIGNAL_COUNT && strcmp(name, signal_names[s]) != 0)
        s++;
    return s;
}

static int64_t target_of(const hdl_scaler *scaler, signal_kind signal)
{
    switch (signal) {
    case SIGNAL_QUEUED: return (int64_t)scaler->policy.queued_tokens;
    case SIGNAL_REQUESTS: return scaler->policy.requests;
    case SIGNAL_KV: return (int64_t)scaler->policy.queued_tokens;
    case SIGNAL_DESIRED:
    case SIGNAL_COUNT: break;
    }
    return 1;
}

static void refuse(hdl_rpc_stream *stream)
{
    hdl_rpc_finish(stream, HDL_INVALID,
                   "signal is desired_replicas, queued_tokens, requests or kv_tokens_held");
}

static void on_is_active(void *arg, hdl_rpc_stream *stream, const void *bytes, size_t len)
{
    hdl_scaler *scaler = arg;
    (void)bytes; /* whatever object asks, there is one service here */
    (void)len;
    pthread_mutex_lock(&scaler->lock);
    bool active = scaler->active;
    pthread_mutex_unlock(&scaler->lock);
    hdl_err err = send_active(stream, active);
    hdl_rpc_finish(stream, err, "");
}

static void on_stream(void *arg, hdl_rpc_stream *stream, const void *bytes, size_t len)
{
    hdl_scaler *scaler = arg;
    bool taken = false;
    (void)bytes;
    (void)len;
    pthread_mutex_lock(&scaler->lock);
    for (size_t i = 0; i < WATCHERS_MAX && !taken; i++) {
        if (scaler->watchers[i])
            continue;
        scaler->watchers[i] = hdl_rpc_stream_keep(stream);
        taken = true;
    }
    if (taken && send_active(stream, scaler->active) != HDL_OK)
        hdl_rpc_cancel(stream);
    pthread_mutex_unlock(&scaler->lock);
    if (!taken)
        hdl_rpc_finish(stream, HDL_BUSY, "too many watchers");
}

static void on_stream_close(void *arg, hdl_rpc_stream *stream, hdl_err err, const char *text)
{
    hdl_scaler *scaler = arg;
    (void)err;
    (void)text;
    pthread_mutex_lock(&scaler->lock);
    for (size_t i = 0; i < WATCHERS_MAX; i++) {
        if (scaler->watchers[i] != stream)
            continue;
        hdl_rpc_stream_drop(stream);
        scaler->watchers[i] = NULL;
    }
    pthread_mutex_unlock(&scaler->lock);
}

typedef hdl_err encode_fn(hdl_wire_encoder *encoder, const hdl_scaler_metric *metric,
                          hdl_wire_bytes *out);

static void reply(hdl_rpc_stream *stream, encode_fn *encode, const hdl_scaler_metric *metric)
{
    unsigned char mem[1024];
    hdl_wire_encoder encoder = {.mem = mem, .size = sizeof mem};
    hdl_wire_bytes bytes;
    hdl_err err = encode(&encoder, metric, &bytes);
    if (err == HDL_OK)
        err = hdl_rpc_send(stream, bytes.data, bytes.len);
    hdl_rpc_finish(stream, err, "");
}

static void on_spec(void *arg, hdl_rpc_stream *stream, const void *bytes, size_t len)
{
    hdl_scaler *scaler = arg;
    unsigned char mem[8192];
    hdl_arena arena;
    hdl_scaler_request request;
    hdl_arena_init(&arena, mem, sizeof mem);
    hdl_err err = hdl_wire_decode_scaler_ref((hdl_wire_bytes){bytes, len}, &arena, &request);
    signal_kind signal = err == HDL_OK ? signal_of(request.signal) : SIGNAL_COUNT;
    if (signal == SIGNAL_COUNT) {
        refuse(stream);
        return;
    }
    reply(stream, hdl_wire_encode_scaler_spec,
          &(hdl_scaler_metric){signal_names[signal], target_of(scaler, signal)});
}

static void on_metrics(void *arg, hdl_rpc_stream *stream, const void *bytes, size_t len)
{
    hdl_scaler *scaler = arg;
    unsigned char mem[8192];
    hdl_arena arena;
    hdl_scaler_request request;
    hdl_arena_init(&arena, mem, sizeof mem);
    hdl_err err = hdl_wire_decode_scaler_metrics((hdl_wire_bytes){bytes, len}, &arena, &request);
    signal_kind signal = err == HDL_OK ? signal_of(request.metric) : SIGNAL_COUNT;
    if (signal == SIGNAL_COUNT) {
        refuse(stream);
        return;
    }
    pthread_mutex_lock(&scaler->lock);
    int64_t value = scaler->values[signal];
    pthread_mutex_unlock(&scaler->lock);
    reply(stream, hdl_wire_encode_scaler_value, &(hdl_scaler_metric){signal_names[signal], value});
}

void hdl_scaler_methods(hdl_scaler *scaler, hdl_rpc_method methods[HDL_SCALER_METHODS])
{
    const hdl_rpc_method rows[HDL_SCALER_METHODS] = {
        {.path = "/externalscaler.ExternalScaler/IsActive",
         .kind = HDL_RPC_UNARY,
         .callbacks = {.on_message = on_is_active, .arg = scaler}},
        {.path = "/externalscaler.ExternalScaler/StreamIsActive",
         .kind = HDL_RPC_PUSH,
         .callbacks = {.on_message = on_stream, .on_close = on_stream_close, .arg = scaler}},
        {.path = "/externalscaler.ExternalScaler/GetMetricSpec",
         .kind = HDL_RPC_UNARY,
         .callbacks = {.on_message = on_spec, .arg = scaler}},
        {.path = "/externalscaler.ExternalScaler/GetMetrics",
         .kind = HDL_RPC_UNARY,
         .callbacks = {.on_message = on_metrics, .arg = scaler}},
    };
    memcpy(methods, rows, sizeof rows);
}

/* -- hooks ------------------------------------------------------------------------------------ */

static bool run_hooks(const hdl_scaler *scaler, const hdl_hook_call *call)
{
    const char *command = scaler->config->scale_exec, *url = scaler->config->scale_webhook;
    hdl_errmsg why = {0};
    hdl_err err = HDL_OK;
    if (command[0])
        err = hdl_hook_exec(command, call, &why);
    if (err == HDL_OK && url[0])
        err = hdl_hook_post(url, call, &why);
    if (err != HDL_OK)
        HDL_LOG(ERROR, CLUSTER, "scale_hook_failed", "desired=%u why=%s", call->desired,
                HDL_LOG_QUOTE(why.text));
    return err == HDL_OK;
}

/* After a failure the wish stands, unless a newer one has come: it is told again. */
static void hook_main(void *arg)
{
    hdl_scaler *scaler = arg;
    pthread_mutex_lock(&scaler->lock);
    while (!scaler->stopping) {
        if (!scaler->has_wish) {
            pthread_cond_wait(&scaler->changed, &scaler->lock);
            continue;
        }
        hdl_hook_call call = scaler->wish;
        scaler->has_wish = false;
        pthread_mutex_unlock(&scaler->lock);
        bool ok = run_hooks(scaler, &call);
        pthread_mutex_lock(&scaler->lock);
        if (ok || scaler->has_wish || scaler->stopping)
            continue;
        scaler->wish = call;
        scaler->has_wish = true;
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += RETRY_S;
        pthread_cond_timedwait(&scaler->changed, &scaler->lock, &until);
    }
    pthread_mutex_unlock(&scaler->lock);
}

/* -- the brain's side ------------------------------------------------------------------------- */

static void publish(hdl_scaler *scaler, const hdl_scaler_look *look, bool active, bool wish)
{
    const hdl_scale_demand *d = &look->demand;
    pthread_mutex_lock(&scaler->lock);
    scaler->values[SIGNAL_DESIRED] = scaler->state.desired;
    scaler->values[SIGNAL_QUEUED] = (int64_t)d->queued_tokens;
    scaler->values[SIGNAL_REQUESTS] = (int64_t)d->running + d->waiting;
    scaler->values[SIGNAL_KV] = (int64_t)look->kv_tokens_held;
    bool push = scaler->active != active;
    scaler->active = active;
    for (size_t i = 0; push && i < WATCHERS_MAX; i++)
        if (scaler->watchers[i] && send_active(scaler->watchers[i], active) != HDL_OK)
            hdl_rpc_cancel(scaler->watchers[i]);
    if (wish) {
        scaler->wish = (hdl_hook_call){.desired = scaler->state.desired,
                                       .replicas = look->replicas,
                                       .reason = scaler->state.reason};
        scaler->has_wish = true;
        pthread_cond_signal(&scaler->changed);
    }
    pthread_mutex_unlock(&scaler->lock);
}

void hdl_scaler_report(hdl_scaler *scaler, const hdl_scaler_look *look)
{
    hdl_scale_demand demand = look->demand;
    demand.refused = hdl_scaler_has_refused(scaler, look->now_us);
    if (demand.refused &&
        look->replicas > 0) /* what was missed can be taken now: no longer a wish */
        atomic_store_explicit(&scaler->refused_us, 0, memory_order_relaxed);
    bool active = demand.running + demand.waiting > 0 || demand.refused;
    bool changed = false;
    if (!scaler->begun) {
        scaler->begun = true;
        hdl_scale_init(&scaler->state, &scaler->policy, look->now_us);
    }
    /* `active` is written by this thread alone. */
    if (look->now_us >= scaler->decided_us + DECIDE_US || active != scaler->active) {
        scaler->decided_us = look->now_us;
        changed = hdl_scale_step(&scaler->state, &scaler->policy, &demand, look->now_us);
    }
    if (changed)
        HDL_LOG(INFO, CLUSTER, "scale",
                "desired=%u replicas=%u running=%u waiting=%u queued_tokens=%llu reason=%s",
                scaler->state.desired, look->replicas, demand.running, demand.waiting,
                (unsigned long long)demand.queued_tokens, HDL_LOG_QUOTE(scaler->state.reason));
    hdl_metric_set(HDL_METRIC_REPLICAS, 0, look->replicas);
    hdl_metric_set(HDL_METRIC_REPLICAS_DESIRED, 0, scaler->state.desired);
    publish(scaler, look, active, changed);
}

void hdl_scaler_refused(hdl_scaler *scaler)
{
    atomic_store_explicit(&scaler->refused_us, hdl_clock_now_us(), memory_order_relaxed);
}

bool hdl_scaler_has_refused(const hdl_scaler *scaler, uint64_t now_us)
{
    uint64_t refused = atomic_load_explicit(&scaler->refused_us, memory_order_relaxed);
    return refused && now_us < refused + REFUSED_US;
}

/* -- life ------------------------------------------------------------------------------------- */

hdl_err hdl_scaler_open(hdl_scaler **out, const hdl_config *config, hdl_errmsg *why)
{
    *out = NULL;
    uint32_t max = (uint32_t)(config->scale_max ? config->scale_max : config->dp);
    if (max > (uint32_t)config->dp || config->scale_min > (int64_t)max)
        return hdl_fail(HDL_INVALID, why,
                        "scale.min and scale.max do not fit; replicas are groups, of which "
                        "parallel.dp allows %lld; set parallel.dp to the most that may run",
                        (long long)config->dp);
    hdl_scaler *scaler = calloc(1, sizeof *scaler);
    if (!scaler)
        return hdl_fail(HDL_NOMEM, why, "out of memory");
    scaler->config = config;
    scaler->policy = (hdl_scale_policy){
        .min = (uint32_t)config->scale_min,
        .max = max,
        .queued_tokens = (uint64_t)config->scale_queued_tokens,
        .requests = (uint32_t)(config->scale_requests ? config->scale_requests : config->max_seqs),
        .up_after_us = config->scale_up_us,
        .down_after_us = config->scale_down_us,
        .zero_after_us = config->scale_zero_us,
    };
    pthread_mutex_init(&scaler->lock, NULL);
    pthread_cond_init(&scaler->changed, NULL);
    *out = scaler;
    if (config->scale_exec[0] == '\0' && config->scale_webhook[0] == '\0')
        return HDL_OK;
    const hdl_thread_opts thread = {
        .name = "scale-hooks", .role = HDL_ROLE_NONE, .fn = hook_main, .arg = scaler};
    hdl_err err = hdl_thread_start(&scaler->thread, &thread, why);
    if (err != HDL_OK) {
        hdl_scaler_close(scaler);
        *out = NULL;
    }
    return err;
}

void hdl_scaler_close(hdl_scaler *scaler)
{
    if (!scaler)
        return;
    pthread_mutex_lock(&scaler->lock);
    scaler->stopping = true;
    pthread_cond_signal(&scaler->changed);
    pthread_mutex_unlock(&scaler->lock);
    hdl_thread_join(&scaler->thread);
    pthread_cond_destroy(&scaler->changed);
    pthread_mutex_destroy(&scaler->lock);
    free(scaler);
}
