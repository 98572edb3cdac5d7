/* SPDX-License-Identifier: Apache-2.0 */
/* What the bytes of rpc.h mean: control messages as plain structs, encoded and decoded by protobuf.
 *
 * Encoding writes into the encoder's memory, decoding into the caller's arena; neither allocates
 * otherwise, so a step crosses without malloc on either side's own threads. Decoding trusts
 * nothing: every count, range and index is checked and a message that fails is refused whole.
 * Numbers that only the receiver can judge (slots, blocks, token ids) are the receiver's to check.
 * Pure; an encoder or arena belongs to one thread. */
#pragma once

#include <heddle/cache.h>
#include <heddle/kv.h>
#include <heddle/plan.h>
#include <heddle/request.h>

#include "base/arena.h"

enum {
    HDL_WIRE_PROTOCOL = 6,    /* raised when an old peer would misunderstand */
    HDL_WIRE_NAME_BYTES = 64, /* names, with their NUL */
    HDL_WIRE_PATH_BYTES = 1024,
    HDL_WIRE_TEXT_BYTES = 256,
    HDL_WIRE_SECRET_BYTES = 16,
};

#define HDL_WIRE_ATTACH "/heddle.v1.Control/Attach"
#define HDL_WIRE_STATUS "/heddle.v1.Control/Status"
#define HDL_WIRE_DRAIN  "/heddle.v1.Control/Drain"

/* Fields as in heddle.proto. */
typedef struct hdl_msg_hello {
    uint32_t protocol, pid, n_cpus;
    uint64_t memory_bytes, instance, holds, epoch, machine;
    char version[HDL_WIRE_NAME_BYTES], host[HDL_WIRE_NAME_BYTES], device[HDL_WIRE_NAME_BYTES];
    char token[HDL_WIRE_TEXT_BYTES];
} hdl_msg_hello;

typedef struct hdl_msg_progress {
    uint64_t bytes_done, bytes_total;
} hdl_msg_progress;

typedef struct hdl_msg_ready {
    uint64_t key, weight_bytes, kv_bytes;
    uint32_t block_tokens, max_seqs, step_tokens, max_len, vocab;
    uint32_t n_caches; /* cache groups, in the model's order; at least one */
    hdl_cache_capacity caches[HDL_CACHE_GROUPS_MAX];
    char device[HDL_WIRE_NAME_BYTES];
} hdl_msg_ready;

typedef struct hdl_msg_failed {
    uint64_t epoch;
    hdl_err err;
    bool fatal;
    char text[HDL_WIRE_TEXT_BYTES];
} hdl_msg_failed;

typedef struct hdl_msg_assign {
    uint64_t key, kv_bytes, coll_timeout_us, heartbeat_us, hang_us;
    uint32_t group, rank, tp, ep, pp, dp;
    uint32_t weights; /* hdl_weights_choice */
    uint32_t kv_type; /* hdl_kv_type */
    uint32_t block_tokens, max_seqs, step_tokens, max_len;
    char model_path[HDL_WIRE_PATH_BYTES], logits_path[HDL_WIRE_PATH_BYTES];
} hdl_msg_assign;

typedef struct hdl_msg_join {
    uint64_t epoch;
    bool self_test;
    char backend[HDL_WIRE_NAME_BYTES], address[HDL_WIRE_TEXT_BYTES];
    uint32_t n_peers; /* 0, or the ranks of the group; then there is a secret, too */
    char peers[HDL_RANKS_MAX][HDL_WIRE_NAME_BYTES];
    uint8_t secret[HDL_WIRE_SECRET_BYTES];
} hdl_msg_join;

typedef struct hdl_msg_listening {
    uint64_t epoch;
    char address[HDL_WIRE_NAME_BYTES];
} hdl_msg_listening;

typedef struct hdl_msg_step {
    hdl_plan plan;
    /* Decoding: [n_opens] in the arena. Encoding: pointers, because requests own theirs. */
    const hdl_sampling *samplings;
    const hdl_sampling *const *sampling_refs;
} hdl_msg_step;

typedef struct hdl_msg_goodbye {
    hdl_err err;
    char text[HDL_WIRE_TEXT_BYTES];
} hdl_msg_goodbye;

typedef enum hdl_worker_msg_kind {
    HDL_WMSG_HELLO,
    HDL_WMSG_PROGRESS,
    HDL_WMSG_READY,
    HDL_WMSG_JOINED,
    HDL_WMSG_RESULT,
    HDL_WMSG_FAILED,
    HDL_WMSG_HEARTBEAT,
    HDL_WMSG_LISTENING
} hdl_worker_msg_kind;

typedef struct hdl_worker_msg {
    hdl_worker_msg_kind kind;
    union {
        hdl_msg_hello hello;
        hdl_msg_progress progress;
        hdl_msg_ready ready;
        struct {
            uint64_t epoch;
        } joined;
        hdl_result result;
        hdl_msg_failed failed;
        struct {
            uint64_t count;
        } heartbeat;
        hdl_msg_listening listening;
    };
} hdl_worker_msg;

typedef enum hdl_sched_msg_kind {
    HDL_SMSG_ASSIGN,
    HDL_SMSG_JOIN,
    HDL_SMSG_STEP,
    HDL_SMSG_ABORT,
    HDL_SMSG_HEARTBEAT,
    HDL_SMSG_GOODBYE,
    HDL_SMSG_LISTEN
} hdl_sched_msg_kind;

typedef struct hdl_sched_msg {
    hdl_sched_msg_kind kind;
    union {
        hdl_msg_assign assign;
        hdl_msg_join join;
        hdl_msg_step step;
        struct {
            uint64_t epoch;
        } abort;
        struct {
            uint64_t count;
        } heartbeat;
        hdl_msg_goodbye goodbye;
        struct {
            uint64_t epoch;
        } listen;
    };
} hdl_sched_msg;

typedef struct hdl_rank_status {
    uint32_t group, rank, pid, step_us, coll_us;
    uint64_t bytes_done, bytes_total, silent_us;
    char state[HDL_WIRE_NAME_BYTES], host[HDL_WIRE_NAME_BYTES], device[HDL_WIRE_NAME_BYTES];
} hdl_rank_status;

typedef struct hdl_cluster_status {
    bool ready, draining;
    uint64_t epoch, kv_tokens;
    uint32_t running, waiting, n_ranks;
    char state[HDL_WIRE_NAME_BYTES];
    const hdl_rank_status *ranks; /* [n_ranks] */
} hdl_cluster_status;

typedef struct hdl_wire_bytes {
    const void *data; /* borrowed: until the encoder is used again */
    size_t len;
} hdl_wire_bytes;

/* Memory that messages are encoded into. */
typedef struct hdl_wire_encoder {
    unsigned char *mem; /* owned */
    size_t size;
} hdl_wire_encoder;

hdl_err hdl_wire_encoder_init(hdl_wire_encoder *encoder, size_t bytes) HDL_MUST_CHECK;
void hdl_wire_encoder_deinit(hdl_wire_encoder *encoder);

/* HDL_BUSY: the message does not fit. Strings longer than their field are cut. */
hdl_err hdl_wire_encode_worker(hdl_wire_encoder *encoder, const hdl_worker_msg *msg,
                               hdl_wire_bytes *out) HDL_MUST_CHECK;
hdl_err hdl_wire_encode_sched(hdl_wire_encoder *encoder, const hdl_sched_msg *msg,
                              hdl_wire_bytes *out) HDL_MUST_CHECK;
hdl_err hdl_wire_encode_status(hdl_wire_encoder *encoder, const hdl_cluster_status *status,
                               hdl_wire_bytes *out) HDL_MUST_CHECK;

/* Resets the arena, then puts arrays of out into it: valid until its next reset. HDL_CORRUPT: not
 * protobuf. HDL_INVALID: a field is out of its range; why names it. HDL_BUSY: more than the arena
 * holds. */
hdl_err hdl_wire_decode_worker(hdl_wire_bytes bytes, hdl_arena *arena, hdl_worker_msg *out,
                               hdl_errmsg *why) HDL_MUST_CHECK;
hdl_err hdl_wire_decode_sched(hdl_wire_bytes bytes, hdl_arena *arena, hdl_sched_msg *out,
                              hdl_errmsg *why) HDL_MUST_CHECK;
hdl_err hdl_wire_decode_status(hdl_wire_bytes bytes, hdl_arena *arena, hdl_cluster_status *out,
                               hdl_errmsg *why) HDL_MUST_CHECK;

/* NULL, or what is wrong with it: what decoding refuses and a scheduler must refuse before. */
const char *hdl_wire_sampling_problem(const hdl_sampling *sampling);

/* KEDA's external scaler. signal: of the trigger's metadata, empty when it has none. */
typedef struct hdl_scaler_request {
    char signal[HDL_WIRE_NAME_BYTES];
    char metric[HDL_WIRE_NAME_BYTES]; /* of GetMetrics */
} hdl_scaler_request;
typedef struct hdl_scaler_metric {
    const char *name; /* borrowed */
    int64_t value;    /* or the target */
} hdl_scaler_metric;
hdl_err hdl_wire_decode_scaler_ref(hdl_wire_bytes bytes, hdl_arena *arena,
                                   hdl_scaler_request *out) HDL_MUST_CHECK;
hdl_err hdl_wire_decode_scaler_metrics(hdl_wire_bytes bytes, hdl_arena *arena,
                                       hdl_scaler_request *out) HDL_MUST_CHECK;
hdl_err hdl_wire_encode_scaler_active(hdl_wire_encoder *encoder, bool active,
                                      hdl_wire_bytes *out) HDL_MUST_CHECK;
hdl_err hdl_wire_encode_scaler_spec(hdl_wire_encoder *encoder, const hdl_scaler_metric *metric,
                                    hdl_wire_bytes *out) HDL_MUST_CHECK;
hdl_err hdl_wire_encode_scaler_value(hdl_wire_encoder *encoder, const hdl_scaler_metric *metric,
                                     hdl_wire_bytes *out) HDL_MUST_CHECK;

/* grpc.health.v1; an empty service name is the whole server. */
typedef enum hdl_health {
    HDL_HEALTH_UNKNOWN,
    HDL_HEALTH_SERVING,
    HDL_HEALTH_NOT_SERVING,
    HDL_HEALTH_SERVICE_UNKNOWN
} hdl_health;
hdl_err hdl_wire_decode_health(hdl_wire_bytes bytes, hdl_arena *arena,
                               char service[HDL_WIRE_NAME_BYTES]) HDL_MUST_CHECK;
hdl_err hdl_wire_encode_health(hdl_wire_encoder *encoder, hdl_health health,
                               hdl_wire_bytes *out) HDL_MUST_CHECK;
