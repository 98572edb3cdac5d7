/* SPDX-License-Identifier: Apache-2.0 */
/* Probes, metrics, version. Health is what the engine says about its own progress, not that this
 * thread can still answer. */
#include "base/json_write.h"
#include "base/metrics.h"
#include "scheduler/front/conn.h"
#include "scheduler/front/reply.h"
#include "scheduler/front/route.h"

enum { BODY_BYTES_MAX = 4 * 1024 * 1024 };
/* Steps take milliseconds; a queue that has not moved for so long is stuck. */
#define STUCK_US (10 * HDL_SEC_US)
/* The control loop turns at every heartbeat, twice a second by default. */
#define DEAD_US (5 * HDL_SEC_US)

typedef struct health {
    hdl_engine_info info;
    bool ready;
    const char *state; /* for people; of the engine while it says nothing worse of itself */
} health;

static void look(const hdl_conn *conn, health *h)
{
    const hdl_front_model *model = hdl_front_model_of(conn);
    hdl_front *front = conn->thread->front;
    *h = (health){.state = "starting"};
    if (model) {
        model->engine->info(model->engine->self, &h->info);
        h->ready = h->info.ready;
        h->state = h->ready ? "ready" : h->info.state;
        if (h->ready)
            atomic_store_explicit(&front->was_ready, true, memory_order_relaxed);
    }
    if (h->info.draining || atomic_load_explicit(&front->draining, memory_order_relaxed)) {
        h->ready = false;
        h->state = "draining";
    } else if (h->ready && h->info.last_step_age_us > STUCK_US) {
        /* A no of the engine says more: it names the missing worker for which the queue waits. */
        h->ready = false;
        h->state = "stuck: work is queued and no step completes";
    }
}

static void write_health(hdl_conn *conn, const health *h)
{
    hdl_json_writer w;
    hdl_buf body;
    hdl_buf_init(&body, BODY_BYTES_MAX);
    hdl_jw_init(&w, &body);
    hdl_jw_begin_object(&w);
    hdl_jw_kv_bool(&w, "ready", h->ready);
    hdl_jw_kv_cstr(&w, "state", h->state);
    hdl_jw_kv_uint(&w, "ranks", h->info.n_ranks);
    hdl_jw_kv_uint(&w, "ranks_ready", h->info.n_ranks_ready);
    hdl_jw_kv_uint(&w, "epoch", h->info.epoch);
    hdl_jw_kv_uint(&w, "load_bytes", h->info.load_bytes_done);
    hdl_jw_kv_uint(&w, "load_bytes_total", h->info.load_bytes_total);
    hdl_jw_kv_uint(&w, "running", h->info.running);
    hdl_jw_kv_uint(&w, "waiting", h->info.waiting);
    hdl_jw_end_object(&w);
    hdl_reply_send(conn, &(hdl_reply){.status = h->ready ? 200 : 503,
                                      .headers = h->ready ? NULL : "retry-after: 1\r\n",
                                      .body = hdl_buf_data(&body),
                                      .len = body.len});
    hdl_buf_deinit(&body);
}

void hdl_admin_readyz(hdl_conn *conn)
{
    health h;
    look(conn, &h);
    write_health(conn, &h);
}

/* What vLLM's users poll: the same as /readyz. */
void hdl_admin_health(hdl_conn *conn) { hdl_admin_readyz(conn); }

/* This loop turns, or there would be no answer, and the control loop does, which is asked for. Load
 * and progress are not: a liveness probe that depends on them restarts a busy server. */
void hdl_admin_livez(hdl_conn *conn)
{
    const hdl_front_model *model = hdl_front_model_of(conn);
    hdl_engine_info info = {0};
    if (model)
        model->engine->info(model->engine->self, &info);
    if (info.turn_age_us > DEAD_US)
        hdl_reply_send(conn, &(hdl_reply){.status = 503, .body = "{\"live\":false}", .len = 14});
    else
        hdl_reply_send(conn, &(hdl_reply){.body = "{\"live\":true}", .len = 13});
}

void hdl_admin_version(hdl_conn *conn)
{
    static const char body[] = "{\"version\":\"" HDL_VERSION "\",\"name\":\"heddle\"}";
    hdl_reply_send(conn, &(hdl_reply){.body = body, .len = sizeof body - 1});
}

void hdl_admin_metrics(hdl_conn *conn)
{
    hdl_buf body;
    hdl_api_error err;
    hdl_buf_init(&body, BODY_BYTES_MAX);
    if (hdl_metrics_render(&body) == HDL_OK) {
        hdl_reply_send(conn, &(hdl_reply){.content_type = HDL_METRICS_CONTENT_TYPE,
                                          .body = hdl_buf_data(&body),
                                          .len = body.len});
    } else {
        (void)hdl_api_fail(&err, 500, NULL, "the metrics do not fit into memory");
        hdl_reply_error(conn, &err);
    }
    hdl_buf_deinit(&body);
}

void hdl_admin_root(hdl_conn *conn)
{
    static const char body[] = "heddle " HDL_VERSION "\n\n"
                               "POST /v1/chat/completions  POST /v1/completions  GET /v1/models\n"
                               "POST /tokenize  POST /detokenize\n"
                               "GET /readyz  /health  /livez  /metrics  /version\n";
    hdl_reply_send(conn, &(hdl_reply){.content_type = "text/plain; charset=utf-8",
                                      .body = body,
                                      .len = sizeof body - 1});
}
