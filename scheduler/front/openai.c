/* SPDX-License-Identifier: Apache-2.0 */
/* The two handlers of the API: /v1/chat/completions and /v1/completions. */
#include <stdlib.h>

#include "base/metrics.h"
#include "scheduler/front/call.h"
#include "scheduler/front/prepare.h"
#include "scheduler/front/route.h"

static void count_reject(const char *reason)
{
    hdl_metric_add(HDL_METRIC_REJECTED, hdl_metric_label(HDL_METRIC_REJECTED, reason), 1);
}

/* Fills info; false: draining, or no model is ready yet. */
static bool check_service(hdl_conn *conn, hdl_engine_info *info, hdl_api_error *err)
{
    hdl_front *front = conn->thread->front;
    const hdl_front_model *model = hdl_front_model_of(conn);
    *info = (hdl_engine_info){0};
    *err = (hdl_api_error){0};
    if (model)
        model->engine->info(model->engine->self, info);
    if (info->ready)
        atomic_store_explicit(&front->was_ready, true, memory_order_relaxed);
    if (atomic_load_explicit(&front->draining, memory_order_relaxed) || info->draining) {
        (void)hdl_api_fail(err, 503, NULL, "the service is shutting down; ask another replica");
        count_reject("draining");
    } else if (!atomic_load_explicit(&front->was_ready, memory_order_relaxed)) {
        /* Later a lost group is formed anew and its requests wait; the first time there is no
         * knowing how long that takes. */
        (void)hdl_api_fail(err, 503, NULL, "the model is not ready: %s",
                           info->state[0] ? info->state : "starting");
        count_reject("no_worker");
        if (model && model->engine->missed)
            model->engine->missed(model->engine->self);
    }
    err->retry_after_ms = err->status ? 1000 : 0;
    return err->status == 0;
}

/* The call of a prepared request; false: prep->err says why there is none. */
static bool start_call(hdl_conn *conn, hdl_prep *prep)
{
    hdl_api_error *err = &prep->err;
    hdl_call *call = hdl_call_new(conn, prep);
    if (!call) {
        (void)hdl_api_fail(err, 429, NULL, "this server has no room for more choices; try again");
        err->retry_after_ms = 1000;
        count_reject("queue_full");
        return false;
    }
    if (!hdl_call_submit(call, &prep->params, &prep->info, err)) {
        count_reject(err->status == 429 ? "queue_full" : err->status == 400 ? "too_long" : "other");
        hdl_call_abandon(call);
        return false;
    }
    hdl_conn_answer_later(conn, call);
    return true;
}

static void on_prepared(hdl_job *job, hdl_conn *conn)
{
    hdl_prep *prep = (hdl_prep *)(void *)job;
    if (conn && (prep->err.status != 0 || !start_call(conn, prep)))
        hdl_reply_error(conn, &prep->err);
    hdl_prep_free(prep);
}

static void run(hdl_conn *conn, hdl_api_kind kind)
{
    hdl_engine_info info;
    hdl_api_error err;
    hdl_prep *prep = NULL;
    if (check_service(conn, &info, &err) && !(prep = calloc(1, sizeof *prep)))
        (void)hdl_api_fail(&err, 503, NULL, "out of memory");
    if (!prep) {
        hdl_reply_error(conn, &err);
        return;
    }
    prep->job = (hdl_job){.work = hdl_prep_work, .done = on_prepared};
    prep->kind = kind;
    prep->model = hdl_front_model_of(conn);
    prep->info = info;
    prep->body = hdl_http_take_body(&conn->http);
    hdl_job_start(conn, &prep->job, prep->body.len);
}

void hdl_openai_chat(hdl_conn *conn) { run(conn, HDL_API_CHAT); }

void hdl_openai_completions(hdl_conn *conn) { run(conn, HDL_API_COMPLETION); }
