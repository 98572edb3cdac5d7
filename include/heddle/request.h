/* SPDX-License-Identifier: Apache-2.0 */
/* A request as the front hands it to the brain, and what comes back: the seam between
 * scheduler/front (and the CLI) and scheduler/cluster.
 *
 * Ownership: hdl_engine_submit takes the request; the brain frees it (and all it owns) after its
 * last emit. Emits arrive on the sink's ring as PODs, in order; the last one of a request has kind
 * HDL_EMIT_DONE or HDL_EMIT_ERROR and comes exactly once. */
#pragma once

#include <heddle/event.h>
#include <heddle/sampling.h>

struct hdl_ring;

/* Where a request's emits go: a ring of hdl_emit read by one thread; `user` comes back in every
 * emit. */
typedef struct hdl_sink {
    struct hdl_ring *ring; /* shared: outlives every request that points to it */
    uint64_t user;
} hdl_sink;

typedef struct hdl_request {
    hdl_req_id id; /* filled by hdl_engine_submit */
    uint32_t tenant, priority;
    uint32_t submit_flags; /* HDL_SUBMIT_* */
    uint32_t max_new;
    uint64_t deadline_us; /* absolute monotonic; 0: none */
    uint64_t salt;
    hdl_req_id fork_of;
    hdl_token *prompt; /* [n_prompt] owned, malloc */
    uint32_t n_prompt;
    uint32_t n_stop_ids;
    hdl_token stop_ids[HDL_STOP_IDS_MAX];
    hdl_sampling sampling; /* .bias owned, malloc */
    hdl_sink sink;
    uint64_t arrived_us; /* when the front accepted it; queue time and TTFT count from here */
} hdl_request;

typedef enum hdl_emit_kind {
    HDL_EMIT_TOKEN,
    HDL_EMIT_SCORE,
    HDL_EMIT_DONE,
    HDL_EMIT_ERROR
} hdl_emit_kind;

typedef struct hdl_emit {
    hdl_req_id req;
    uint64_t user; /* of the sink */
    hdl_emit_kind kind;
    union {
        struct {
            hdl_token token;
            uint32_t index; /* TOKEN: index among generated tokens; SCORE: position in the prompt */
            float logprob;
            uint32_t n_top;
            hdl_logprob top[HDL_TOP_LOGPROBS_MAX];
        } token;
        hdl_act_done done;
        struct {
            hdl_err err;
            uint32_t retry_after_ms;
            char text[192]; /* for the client; from a fixed table, no internals */
        } error;
    };
} hdl_emit;

/* State of the service as /health, /readyz, /v1/models, top and the drain logic see it. */
typedef struct hdl_engine_info {
    bool ready; /* all ranks of at least one group are READY and the control loop is alive */
    bool draining;
    char state[64]; /* "waiting for workers", "loading 43 %", "ready", ... for people */
    uint32_t n_ranks, n_ranks_ready;
    uint64_t epoch;
    uint64_t load_bytes_done, load_bytes_total;
    uint32_t max_len; /* longest sequence */
    uint32_t vocab;
    uint64_t kv_tokens_capacity; /* tokens that the KV pool holds */
    uint32_t running, waiting;
    uint32_t requests_max; /* that may run and wait at once; 0: not known yet */
    uint64_t
        last_step_age_us; /* since the last completed step while work was queued; 0 when idle */
    uint64_t turn_age_us; /* since the control loop last turned; it turns every heartbeat */
} hdl_engine_info;

/* The brain as the front sees it. All are callable from any thread. */
typedef struct hdl_engine {
    void *self;
    /* Takes `req` on HDL_OK and sets its id in *id; on error the caller keeps it. BUSY: the inbox
     * is full (429). */
    hdl_err (*submit)(void *self, hdl_request *req, hdl_req_id *id);
    void (*cancel)(
        void *self,
        hdl_req_id id); /* the request still ends with one DONE(CANCELLED) or what overtook it */
    void (*info)(void *self, hdl_engine_info *out);
    /* A request was refused because no group has ever been ready: demand that the queue does not
     * show. May be NULL. */
    void (*missed)(void *self);
} hdl_engine;

/* Frees a request that was not taken. */
void hdl_request_free(hdl_request *req);
