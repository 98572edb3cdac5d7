/* SPDX-License-Identifier: Apache-2.0 */
/* What happens to the scheduler core and what it wants done: the whole interface of scheduler/core.
 *
 * The core is a pure state machine, `hdl_sched_step(state, event, actions)`: one event in, a
 * bounded list of actions out; no I/O, no clock, no thread, no heap, no floating point. Owner: the
 * brain thread (or a simulator, or `heddle replay`), never two at once. Every event carries its
 * time, in microseconds of a monotonic clock; a time before an earlier event's is treated as that
 * one's.
 *
 * Every accepted SUBMIT ends in exactly one of DONE (whose reason says how) or REJECT. Pointers
 * inside an event are borrowed for the call; pointers inside an action are valid until the next
 * hdl_sched_step. */
#pragma once

#include <heddle/err.h>
#include <heddle/plan.h>

typedef enum hdl_event_kind {
    HDL_EV_SUBMIT,
    HDL_EV_CANCEL,
    HDL_EV_RESULT,
    HDL_EV_TICK,    /* time passes: deadlines, fairness windows; asked for by TIMER */
    HDL_EV_RANK_UP, /* a group is complete and READY: epoch, capacity in blocks. Its KV is empty. */
    HDL_EV_RANK_LOST, /* a rank of the group died or hangs: the epoch ends, running sequences go
                         back to the queue with their tokens */
    HDL_EV_DRAIN,     /* refuse new requests, finish the admitted ones */
    HDL_EV_COUNT
} hdl_event_kind;

enum {
    HDL_SUBMIT_HISTORY =
        1u << 0, /* a penalty needs the token history on the workers (plan opens carry it) */
    HDL_SUBMIT_SCORE =
        1u
        << 1, /* log-probabilities of the prompt are wanted: no prefix-cache hit for this request */
    HDL_SUBMIT_LOGITS = 1u << 2,     /* dump all logits: no prefix-cache hit */
    HDL_SUBMIT_NO_CACHE = 1u << 3,   /* neither use nor feed the prefix cache */
    HDL_SUBMIT_IGNORE_EOS = 1u << 4, /* stop ids do not end the sequence */
};

typedef struct hdl_ev_submit {
    hdl_req_id req;
    uint32_t tenant;   /* 0..HDL_TENANTS_MAX-1; fairness */
    uint32_t priority; /* 0 most urgent .. HDL_PRIORITIES-1 */
    uint32_t flags;    /* HDL_SUBMIT_* */
    uint32_t max_new;  /* tokens to generate at most, >= 1 (0 with SCORE or LOGITS: prompt only) */
    uint64_t
        salt; /* part of the prefix-cache key: requests share cached blocks only within one salt */
    hdl_req_id fork_of;      /* another choice of the same prompt (n > 1): shares its blocks
                                copy-on-write when still possible */
    uint64_t deadline_us;    /* absolute; 0: none. Passed while waiting: REJECT(TIMEOUT). While
                                running: DONE(TIMEOUT). */
    const hdl_token *prompt; /* [n_prompt] */
    uint32_t n_prompt;       /* >= 1 */
    uint32_t n_stop_ids;
    hdl_token stop_ids[HDL_STOP_IDS_MAX];
} hdl_ev_submit;

typedef struct hdl_ev_result {
    uint32_t group;
    uint64_t epoch, step;
    uint32_t n_rows;
    const hdl_result_row *rows; /* sampled rows only matter to the core; scored ones pass it by */
} hdl_ev_result;

typedef struct hdl_ev_rank {
    uint32_t group;
    uint64_t epoch; /* RANK_UP: the new epoch, greater than all before; RANK_LOST: the epoch that
                       ended */
    /* RANK_UP: blocks of each cache group's pool (the least over its ranks). */
    uint32_t n_blocks[HDL_CACHE_GROUPS_MAX];
    uint32_t max_len; /* RANK_UP: longest sequence the model takes */
} hdl_ev_rank;

typedef struct hdl_event {
    hdl_event_kind kind;
    uint64_t now_us;
    union {
        hdl_ev_submit submit;
        struct {
            hdl_req_id req;
        } cancel;             /* unknown ids are ignored: the request may have just ended */
        hdl_ev_result result; /* of an old epoch or an answered step: ignored and counted */
        hdl_ev_rank rank;
    };
} hdl_event;

/* How a request ended. STOP and LENGTH are the API's finish reasons; the others become errors of
 * that request. */
typedef enum hdl_finish {
    HDL_FINISH_STOP,      /* a stop id was sampled (it is emitted, flagged as stop) */
    HDL_FINISH_LENGTH,    /* max_new or the model's length is reached */
    HDL_FINISH_CANCELLED, /* by CANCEL */
    HDL_FINISH_TIMEOUT,   /* its deadline passed while it ran */
    HDL_FINISH_FAILED,    /* cannot be continued (pool shrank below its need after a loss) */
    HDL_FINISH_COUNT
} hdl_finish;

typedef enum hdl_action_kind {
    HDL_ACT_PLAN,   /* send this plan to all ranks of its group */
    HDL_ACT_EMIT,   /* new tokens of some requests; in order, each exactly once */
    HDL_ACT_DONE,   /* the request ended */
    HDL_ACT_REJECT, /* the request was refused: err, and when to retry */
    HDL_ACT_TIMER,  /* send a TICK at this time (replaces the one asked for before) */
    HDL_ACT_TRACE,  /* a line for the log: fixed event word and two numbers */
    HDL_ACT_COUNT
} hdl_action_kind;

typedef struct hdl_new_token {
    hdl_req_id req;
    hdl_token token;
    uint32_t index; /* 0 for the first generated token */
} hdl_new_token;

/* Token i came with row result_row + i of the RESULT event being absorbed: the shell takes
 * log-probabilities from there. */
typedef struct hdl_act_emit {
    const hdl_new_token *list;
    uint32_t n;
    uint32_t result_row;
} hdl_act_emit;

typedef struct hdl_act_done {
    hdl_req_id req;
    hdl_finish reason;
    uint32_t n_prompt, n_cached,
        n_new;            /* usage: prompt tokens, of them served from cache, generated tokens */
    uint32_t n_preempted; /* times that it was preempted or requeued */
} hdl_act_done;

typedef struct hdl_act_reject {
    hdl_req_id req;
    hdl_err err; /* BUSY (429), INVALID (never fits: 400), TIMEOUT, AGAIN (draining: 503) */
    uint32_t retry_after_ms; /* 0: retrying is pointless */
    uint32_t need, have;     /* e.g. tokens asked for and possible, for the message */
} hdl_act_reject;

/* BAD_RESULT: a result did not answer its plan; the core ends the epoch by itself, as if RANK_LOST
 * had come (EPOCH_END follows with group and epoch), and the shell must form the group anew. */
// clang-format off
#define HDL_TRACE_LIST(X)                                                                          \
    X(ADMIT, "admit") X(PREEMPT, "preempt") X(REQUEUE, "requeue") X(STALE_RESULT, "stale_result")  \
    X(EPOCH_UP, "epoch_up") X(EPOCH_END, "epoch_end") X(DRAINED, "drained") X(EVICT, "evict")      \
    X(BAD_RESULT, "bad_result")
// clang-format on
#define HDL_TRACE_ENUM(name, text) HDL_TRACE_##name,
typedef enum hdl_trace { HDL_TRACE_LIST(HDL_TRACE_ENUM) HDL_TRACE_COUNT } hdl_trace;
#undef HDL_TRACE_ENUM

typedef struct hdl_action {
    hdl_action_kind kind;
    union {
        struct {
            const hdl_plan *plan;
        } plan; /* valid until the core has absorbed that step's RESULT or the epoch's end */
        hdl_act_emit emit;
        hdl_act_done done;
        hdl_act_reject reject;
        struct {
            uint64_t at_us;
        } timer;
        struct {
            hdl_trace what;
            uint64_t a, b;
        } trace;
    };
} hdl_action;

/* Filled by hdl_sched_step; storage belongs to the state and is valid until its next step. */
typedef struct hdl_actions {
    const hdl_action *list;
    uint32_t count;
} hdl_actions;
