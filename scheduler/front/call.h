/* SPDX-License-Identifier: Apache-2.0 */
/* One API call from its parsed body to its last byte: prompts times n choices, each an engine
 * request of its own, and the answer that they make together.
 *
 * Emits find their choice through a pool reference (hdl_sink.user), so that one that comes after
 * its call is gone finds nothing. The status line goes out with the first token, not before: what
 * the scheduler refuses is then still an HTTP status. An answer ends once: with the last choice's
 * end, with the first error, or with the client's leaving. Owner: the front thread of its
 * connection. */
#pragma once

#include "scheduler/front/api.h"
#include "scheduler/front/conn.h"
#include "scheduler/front/prepare.h"
#include "scheduler/text/detok.h"
#include "scheduler/text/stop.h"

/* A token whose log-probability is wanted, waiting until its text may go out. */
typedef struct hdl_lp_entry {
    hdl_token token;
    float logprob;
    uint32_t n_top;
    bool none;           /* the first token of a prompt has no log-probability */
    uint64_t start, end; /* bytes of the choice's text */
    uint64_t chars;      /* code points before it */
    hdl_logprob top[HDL_TOP_LOGPROBS_MAX];
} hdl_lp_entry;

/* The parts of a completion's logprobs object; a chat's has the first alone. */
enum { HDL_LP_TOKENS, HDL_LP_LOGPROBS, HDL_LP_TOPS, HDL_LP_OFFSETS, HDL_LP_PARTS };

typedef struct hdl_lp {
    hdl_lp_entry *waiting; /* owned; [n_waiting] of [size] */
    uint32_t n_waiting, size;
    hdl_buf parts[HDL_LP_PARTS]; /* released, as JSON items with commas between */
    uint32_t n_released;         /* items in parts */
} hdl_lp;

typedef struct hdl_choice {
    hdl_call *call;
    uint32_t index, prompt_idx;
    hdl_pool_ref ref; /* in thread->choices */
    hdl_req_id req;
    bool live;     /* submitted, and its last emit has not come */
    bool stopped;  /* a stop string came; waits for the engine's DONE */
    bool finished; /* nothing more comes */
    bool said_role;
    const char *finish; /* "stop", "length" */
    hdl_detok detok;
    hdl_stop stop;
    hdl_buf text;      /* released text; of a stream: what the next chunk carries */
    uint64_t pushed;   /* bytes of text so far, those held back for a stop string included */
    uint64_t released; /* bytes that went into text, ever */
    uint64_t chars;    /* code points in pushed */
    uint32_t n_new, n_scored;
    hdl_lp lp;
} hdl_choice;

struct hdl_call {
    hdl_conn *conn;
    const hdl_front_model *model;
    hdl_api_kind kind;
    bool stream, include_usage, continuous_usage, echo, logprobs;
    bool begun; /* the stream's headers are out */
    char id[40];
    uint64_t created_s;
    hdl_time_us arrived_us;
    hdl_stop_set *stops; /* owned; NULL: none */
    hdl_token stop_ids[HDL_STOP_IDS_MAX];
    uint32_t n_stop_ids;
    uint32_t n_prompts, n_choices, n_finished;
    hdl_prompt *prompts; /* [n_prompts] owned */
    hdl_choice *choices; /* [n_choices] owned */
    uint64_t usage_prompt, usage_cached, usage_new;
    hdl_buf head; /* what every chunk of the stream begins with */
};

/* call.c */
/* Takes the prompts out of prep; NULL: no room for its choices. */
hdl_call *hdl_call_new(hdl_conn *conn, hdl_prep *prep);
/* Ends what runs; the connection is not touched. */
void hdl_call_abandon(hdl_call *call);
void hdl_call_on_emit(hdl_front_thread *thread, const hdl_emit *emit);
/* Answers with the error, as a status or inside the stream, and ends the call. */
void hdl_call_fail(hdl_call *call, const hdl_api_error *err);
bool hdl_call_streams(const hdl_call *call);
/* Keeps a silent stream alive. */
void hdl_call_ping(hdl_call *call);

/* submit.c: all choices to the engine; false: err says why and nothing runs. */
bool hdl_call_submit(hdl_call *call, const hdl_api_params *params, const hdl_engine_info *info,
                     hdl_api_error *err);

/* openai_reply.c */
void hdl_openai_write_head(hdl_call *call);
void hdl_openai_write_chunk(hdl_choice *choice);
void hdl_openai_write_end(hdl_call *call); /* of a stream */
void hdl_openai_write_answer(hdl_call *call, hdl_buf *out);

/* logprobs.c: any of them may find no memory, which the answer's buffers then say. */
void hdl_lp_init(hdl_lp *lp);
void hdl_lp_deinit(hdl_lp *lp);
void hdl_lp_push(hdl_choice *choice, const hdl_lp_entry *entry);
/* Moves the entries whose text is out to the parts; last: and drops the others. */
void hdl_lp_release(hdl_choice *choice, bool last);
/* Writes the logprobs object of what was released and forgets it; null when there is none. */
void hdl_lp_write(hdl_choice *choice, hdl_buf *out);
