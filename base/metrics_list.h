/* SPDX-License-Identifier: Apache-2.0 */
/* The one table of metrics: what metrics.c stores, /metrics prints and dashboards are checked
 * against.
 *
 * X(id, kind, unit, label, buckets, name, help)
 *   kind     COUNTER (name ends in _total), GAUGE, HISTOGRAM
 *   unit     NONE, or SECONDS: code records whole microseconds, the text shows seconds; or BYTES
 *   label    NONE, or a label set below: a bounded list, so that the number of
 *            series is fixed; or RANK: 0 .. HDL_METRIC_RANKS_MAX-1, numbered over all replicas:
 *            replica * ranks of a replica + rank
 *   buckets  NONE or a bucket set of metrics.c
 * Names are final: dashboards of others depend on them. Not a contract for logs. */
#pragma once

/* Label sets: the values in index order; metrics.c knows the label's name. */
#define HDL_LABEL_OUTCOME_LIST(X) X("done") X("cancelled") X("rejected") X("failed")
#define HDL_LABEL_REASON_LIST(X)                                                                   \
    X("queue_full")                                                                                \
    X("too_long") X("kv_capacity") X("deadline") X("draining") X("no_worker") X("auth") X("other")
#define HDL_LABEL_CODE_LIST(X)                                                                     \
    X("200")                                                                                       \
    X("400")                                                                                       \
    X("401")                                                                                       \
    X("403") X("404") X("405") X("408") X("409") X("411") X("413") X("414") X("415") X("422")      \
        X("429") X("431") X("499") X("500") X("501") X("503") X("504") X("505") X("other")

#define HDL_LABEL_CACHE_LIST(X) X("0") X("1") X("2") X("3") /* index in the model's cache groups   \
                                                             */

enum { HDL_METRIC_RANKS_MAX = 1024 }; /* values of the numbered label "rank" */

/* clang-format off */
/*    id                    kind       unit     label    buckets  name, help */
#define HDL_METRIC_LIST(X)                                                                         \
    X(REQUESTS,             COUNTER,   NONE,    OUTCOME, NONE,                                     \
      "heddle_requests_total", "Requests that ended, by outcome.")                                 \
    X(REJECTED,             COUNTER,   NONE,    REASON,  NONE,                                     \
      "heddle_admission_rejected_total", "Requests refused before they ran, by reason.")           \
    X(RUNNING,              GAUGE,     NONE,    NONE,    NONE,                                     \
      "heddle_requests_running", "Requests that hold a sequence slot.")                            \
    X(WAITING,              GAUGE,     NONE,    NONE,    NONE,                                     \
      "heddle_requests_waiting", "Requests in the queue.")                                         \
    X(QUEUE_TOKENS,         GAUGE,     NONE,    NONE,    NONE,                                     \
      "heddle_queue_tokens", "Prompt tokens of the waiting requests.")                             \
    X(KV_BLOCKS_TOTAL,      GAUGE,     NONE,    CACHE,   NONE,                                     \
      "heddle_kv_blocks", "KV blocks of all groups, by cache group of the model.")                 \
    X(KV_BLOCKS_USED,       GAUGE,     NONE,    CACHE,   NONE,                                     \
      "heddle_kv_blocks_used", "KV blocks held by running requests.")                              \
    X(KV_BLOCKS_CACHED,     GAUGE,     NONE,    CACHE,   NONE,                                     \
      "heddle_kv_blocks_cached", "Free KV blocks that still hold a reusable prefix.")              \
    X(SNAPSHOTS,            COUNTER,   NONE,    NONE,    NONE,                                     \
      "heddle_state_snapshots_total", "States of recurrent layers kept for the prefix cache.")     \
    X(PREFIX_QUERY_TOKENS,  COUNTER,   NONE,    NONE,    NONE,                                     \
      "heddle_prefix_cache_query_tokens_total", "Prompt tokens looked up in the prefix cache.")    \
    X(PREFIX_HIT_TOKENS,    COUNTER,   NONE,    NONE,    NONE,                                     \
      "heddle_prefix_cache_hit_tokens_total", "Prompt tokens found in the prefix cache.")          \
    X(PREEMPTIONS,          COUNTER,   NONE,    NONE,    NONE,                                     \
      "heddle_preemptions_total", "Running requests put back into the queue for lack of KV.")      \
    X(PROMPT_TOKENS,        COUNTER,   NONE,    NONE,    NONE,                                     \
      "heddle_prompt_tokens_total", "Prompt tokens of admitted requests.")                         \
    X(GENERATION_TOKENS,    COUNTER,   NONE,    NONE,    NONE,                                     \
      "heddle_generation_tokens_total", "Tokens generated.")                                       \
    X(GUESS_ROWS,           COUNTER,   NONE,    NONE,    NONE,                                     \
      "heddle_spec_decode_drafts_total", "Rows of a step with guessed tokens.")                    \
    X(GUESSES,              COUNTER,   NONE,    NONE,    NONE,                                     \
      "heddle_spec_decode_draft_tokens_total", "Tokens guessed by speculative decoding.")          \
    X(GUESSES_HELD,         COUNTER,   NONE,    NONE,    NONE,                                     \
      "heddle_spec_decode_accepted_tokens_total", "Guessed tokens that came true.")                \
    X(TTFT,                 HISTOGRAM, SECONDS, NONE,    TTFT,                                     \
      "heddle_time_to_first_token_seconds", "From arrival to the first token.")                    \
    X(ITL,                  HISTOGRAM, SECONDS, NONE,    ITL,                                      \
      "heddle_inter_token_latency_seconds", "Between two tokens of a request.")                    \
    X(TPOT,                 HISTOGRAM, SECONDS, NONE,    TPOT,                                     \
      "heddle_time_per_output_token_seconds", "Mean time per token after the first, by request.")  \
    X(E2E,                  HISTOGRAM, SECONDS, NONE,    REQUEST,                                  \
      "heddle_request_duration_seconds", "From arrival to the end of a request.")                  \
    X(QUEUE_TIME,           HISTOGRAM, SECONDS, NONE,    TTFT,                                     \
      "heddle_request_queue_time_seconds", "From arrival to the first scheduled step.")            \
    X(STEP_TIME,            HISTOGRAM, SECONDS, RANK,    STEP,                                     \
      "heddle_step_seconds", "Time of one step on a rank, numbered over all replicas.")            \
    X(COLL_TIME,            HISTOGRAM, SECONDS, RANK,    STEP,                                     \
      "heddle_collective_seconds", "Time of one step that a rank spent in collectives.")           \
    X(EPOCHS,               COUNTER,   NONE,    NONE,    NONE,                                     \
      "heddle_group_epochs_total", "Times a group of ranks was formed anew.")                      \
    X(WORKER_RESTARTS,      COUNTER,   NONE,    NONE,    NONE,                                     \
      "heddle_worker_restarts_total", "Workers restarted by the supervisor.")                      \
    X(WORKERS_WANTED,       GAUGE,     NONE,    NONE,    NONE,                                     \
      "heddle_workers_wanted", "Workers that the configured layout needs.")                        \
    X(WORKERS_READY,        GAUGE,     NONE,    NONE,    NONE,                                     \
      "heddle_workers_ready", "Workers that hold a shard and answer.")                             \
    X(REPLICAS,             GAUGE,     NONE,    NONE,    NONE,                                     \
      "heddle_replicas", "Groups of ranks that serve.")                                            \
    X(REPLICAS_DESIRED,     GAUGE,     NONE,    NONE,    NONE,                                     \
      "heddle_replicas_desired", "Groups of ranks that the demand asks for.")                      \
    X(RECOVERY,             HISTOGRAM, SECONDS, NONE,    REQUEST,                                  \
      "heddle_recovery_seconds", "From the loss of a rank to the next token of its group.")        \
    X(HTTP_REQUESTS,        COUNTER,   NONE,    CODE,    NONE,                                     \
      "heddle_http_requests_total", "HTTP answers, by status code.")                               \
    X(HTTP_CONNECTIONS,     GAUGE,     NONE,    NONE,    NONE,                                     \
      "heddle_http_connections", "Open HTTP connections.")                                         \
    X(SLOW_READERS,         COUNTER,   NONE,    NONE,    NONE,                                     \
      "heddle_http_slow_readers_total", "Streams ended because the client did not read.")          \
    X(LOG_DROPPED,          COUNTER,   NONE,    NONE,    NONE,                                     \
      "heddle_log_lines_dropped_total", "Log lines lost to a full log ring.")                      \
    X(START_TIME,           GAUGE,     SECONDS, NONE,    NONE,                                     \
      "heddle_start_time_seconds", "Start of the process since the epoch.")
/* clang-format on */
