/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/wire.h"

#include <stdlib.h>
#include <string.h>

#include "proto/wire_pb.h"

/* Heartbeats and the like: a millisecond to an hour. */
#define TIME_US_MAX                       UINT64_C(3600000000)
#define CACHE_WORDS                       (sizeof(hdl_cache_capacity) / 4)

#define TRY_RANGE(field, value, min, max) HDL_TRY(check_range((field), (value), (min), (max), why))

hdl_err wire_refuse(hdl_errmsg *why, const char *field, uint64_t value)
{
    return hdl_fail(HDL_INVALID, why, "control message refused; %s is out of range (%llu)", field,
                    (unsigned long long)value);
}

static hdl_err check_range(const char *field, uint64_t value, uint64_t min, uint64_t max,
                           hdl_errmsg *why)
{
    return value >= min && value <= max ? HDL_OK : wire_refuse(why, field, value);
}

/* -- memory ---------------------------------------------------------------------------------- */

hdl_err hdl_wire_encoder_init(hdl_wire_encoder *encoder, size_t bytes)
{
    encoder->mem = malloc(bytes);
    encoder->size = bytes;
    return encoder->mem ? HDL_OK : HDL_NOMEM;
}

void hdl_wire_encoder_deinit(hdl_wire_encoder *encoder)
{
    free(encoder->mem);
    encoder->mem = NULL;
}

hdl_err wire_pack(hdl_wire_encoder *encoder, size_t at, const ProtobufCMessage *msg,
                  hdl_wire_bytes *out)
{
    size_t len = protobuf_c_message_get_packed_size(msg);
    if (at > encoder->size || len > encoder->size - at)
        return HDL_BUSY;
    protobuf_c_message_pack(msg, encoder->mem + at);
    *out = (hdl_wire_bytes){.data = encoder->mem + at, .len = len};
    return HDL_OK;
}

/* The arena is the byte budget of a message: protobuf-c multiplies a hostile one by 45. */
static void *arena_give(void *arena, size_t size)
{
    return hdl_arena_alloc(arena, size ? size : 1, 16);
}
static void arena_ignore(void *arena, void *ptr)
{
    (void)arena;
    (void)ptr;
}

ProtobufCMessage *wire_unpack(const ProtobufCMessageDescriptor *descriptor, hdl_wire_bytes bytes,
                              hdl_arena *arena)
{
    ProtobufCAllocator allocator = {
        .alloc = arena_give, .free = arena_ignore, .allocator_data = arena};
    hdl_arena_reset(arena);
    return protobuf_c_message_unpack(descriptor, &allocator, bytes.len, bytes.data);
}

hdl_err wire_refuse_bytes(hdl_errmsg *why, const hdl_arena *arena)
{
    /* A full arena and broken bytes look alike to protobuf-c; nearly full decides. */
    if (arena->used > arena->size / 2)
        return hdl_fail(HDL_BUSY, why, "control message refused; it needs more than %zu bytes",
                        arena->size);
    return hdl_fail(HDL_CORRUPT, why, "control message refused; it is not valid protobuf");
}

/* -- texts ----------------------------------------------------------------------------------- */

ProtobufCBinaryData wire_text_of(const char *text, size_t size)
{
    return (ProtobufCBinaryData){.len = strnlen(text, size - 1),
                                 .data = (uint8_t *)(uintptr_t)text};
}

hdl_err wire_read_text(wire_text out, const ProtobufCBinaryData *bytes, const char *field,
                       hdl_errmsg *why)
{
    if (bytes->len >= out.size)
        return wire_refuse(why, field, bytes->len);
    for (size_t i = 0; i < bytes->len; i++)
        if (bytes->data[i] < 0x20 || bytes->data[i] == 0x7f)
            return wire_refuse(why, field, bytes->data[i]);
    if (bytes->len)
        memcpy(out.text, bytes->data, bytes->len);
    out.text[bytes->len] = '\0';
    return HDL_OK;
}

/* -- worker to scheduler --------------------------------------------------------------------- */

static void fill_hello(const hdl_msg_hello *m, Heddle__V1__Hello *pb)
{
    heddle__v1__hello__init(pb);
    pb->protocol = m->protocol;
    pb->pid = m->pid;
    pb->n_cpus = m->n_cpus;
    pb->memory_bytes = m->memory_bytes;
    pb->instance = m->instance;
    pb->holds = m->holds;
    pb->epoch = m->epoch;
    pb->machine = m->machine;
    pb->version = WIRE_TEXT_OF(m->version);
    pb->host = WIRE_TEXT_OF(m->host);
    pb->device = WIRE_TEXT_OF(m->device);
    pb->token = WIRE_TEXT_OF(m->token);
}

static hdl_err read_hello(const Heddle__V1__Hello *pb, hdl_msg_hello *m, hdl_errmsg *why)
{
    *m = (hdl_msg_hello){.protocol = pb->protocol,
                         .pid = pb->pid,
                         .n_cpus = pb->n_cpus,
                         .memory_bytes = pb->memory_bytes,
                         .instance = pb->instance,
                         .holds = pb->holds,
                         .epoch = pb->epoch,
                         .machine = pb->machine};
    WIRE_TRY_TEXT(m->version, pb->version, "hello.version");
    WIRE_TRY_TEXT(m->host, pb->host, "hello.host");
    WIRE_TRY_TEXT(m->device, pb->device, "hello.device");
    WIRE_TRY_TEXT(m->token, pb->token, "hello.token");
    return HDL_OK;
}

static void fill_ready(const hdl_msg_ready *m, Heddle__V1__Ready *pb)
{
    heddle__v1__ready__init(pb);
    pb->key = m->key;
    pb->weight_bytes = m->weight_bytes;
    pb->kv_bytes = m->kv_bytes;
    pb->n_caches = (size_t)m->n_caches * CACHE_WORDS;
    pb->caches = (uint32_t *)(uintptr_t)m->caches;
    pb->block_tokens = m->block_tokens;
    pb->max_seqs = m->max_seqs;
    pb->step_tokens = m->step_tokens;
    pb->max_len = m->max_len;
    pb->vocab = m->vocab;
    pb->device = WIRE_TEXT_OF(m->device);
}

static hdl_err read_caches(const Heddle__V1__Ready *pb, hdl_msg_ready *m, hdl_errmsg *why)
{
    if (pb->n_caches % CACHE_WORDS != 0)
        return wire_refuse(why, "ready.caches", pb->n_caches);
    m->n_caches = (uint32_t)(pb->n_caches / CACHE_WORDS);
    TRY_RANGE("ready.caches", pb->n_caches / CACHE_WORDS, 1, HDL_CACHE_GROUPS_MAX);
    memcpy(m->caches, pb->caches, pb->n_caches * sizeof *pb->caches);
    for (uint32_t i = 0; i < m->n_caches; i++) {
        TRY_RANGE("ready.n_blocks", m->caches[i].n_blocks, 1, UINT32_MAX / 2);
        if (hdl_cache_rule_problem(&m->caches[i].rule))
            return hdl_fail(HDL_INVALID, why,
                            "control message refused; a cache group of the worker is impossible: "
                            "%s",
                            hdl_cache_rule_problem(&m->caches[i].rule));
    }
    return HDL_OK;
}

static hdl_err read_ready(const Heddle__V1__Ready *pb, hdl_msg_ready *m, hdl_errmsg *why)
{
    *m = (hdl_msg_ready){.key = pb->key,
                         .weight_bytes = pb->weight_bytes,
                         .kv_bytes = pb->kv_bytes,
                         .block_tokens = pb->block_tokens,
                         .max_seqs = pb->max_seqs,
                         .step_tokens = pb->step_tokens,
                         .max_len = pb->max_len,
                         .vocab = pb->vocab};
    WIRE_TRY_TEXT(m->device, pb->device, "ready.device");
    HDL_TRY(read_caches(pb, m, why));
    TRY_RANGE("ready.block_tokens", m->block_tokens, 1, 65536);
    TRY_RANGE("ready.max_seqs", m->max_seqs, 1, HDL_SEQS_MAX);
    TRY_RANGE("ready.step_tokens", m->step_tokens, 1, HDL_STEP_TOKENS_MAX);
    TRY_RANGE("ready.max_len", m->max_len, 1, INT32_MAX);
    TRY_RANGE("ready.vocab", m->vocab, 1, INT32_MAX);
    return HDL_OK;
}

static hdl_err read_failed(const Heddle__V1__Failed *pb, hdl_msg_failed *m, hdl_errmsg *why)
{
    TRY_RANGE("failed.err", pb->err, 1, HDL_ERR_COUNT - 1);
    *m = (hdl_msg_failed){.epoch = pb->epoch, .err = (hdl_err)pb->err, .fatal = pb->fatal != 0};
    WIRE_TRY_TEXT(m->text, pb->text, "failed.text");
    return HDL_OK;
}

static hdl_err read_listening(const Heddle__V1__Listening *pb, hdl_msg_listening *m,
                              hdl_errmsg *why)
{
    m->epoch = pb->epoch;
    WIRE_TRY_TEXT(m->address, pb->address, "listening.address");
    return pb->address.len > 0 ? HDL_OK : wire_refuse(why, "listening.address", 0);
}

hdl_err hdl_wire_encode_worker(hdl_wire_encoder *encoder, const hdl_worker_msg *msg,
                               hdl_wire_bytes *out)
{
    pb_worker pb = HEDDLE__V1__WORKER_MESSAGE__INIT;
    union {
        Heddle__V1__Hello hello;
        Heddle__V1__Progress progress;
        Heddle__V1__Ready ready;
        Heddle__V1__Joined joined;
        pb_result result;
        Heddle__V1__Failed failed;
        Heddle__V1__Heartbeat heartbeat;
        Heddle__V1__Listening listening;
    } body;
    switch (msg->kind) {
    case HDL_WMSG_HELLO: fill_hello(&msg->hello, &body.hello); break;
    case HDL_WMSG_PROGRESS:
        heddle__v1__progress__init(&body.progress);
        body.progress.bytes_done = msg->progress.bytes_done;
        body.progress.bytes_total = msg->progress.bytes_total;
        break;
    case HDL_WMSG_READY: fill_ready(&msg->ready, &body.ready); break;
    case HDL_WMSG_JOINED:
        heddle__v1__joined__init(&body.joined);
        body.joined.epoch = msg->joined.epoch;
        break;
    case HDL_WMSG_RESULT: wire_result_fill(&msg->result, &body.result); break;
    case HDL_WMSG_FAILED:
        heddle__v1__failed__init(&body.failed);
        body.failed.epoch = msg->failed.epoch;
        body.failed.err = (uint32_t)msg->failed.err;
        body.failed.fatal = msg->failed.fatal;
        body.failed.text = WIRE_TEXT_OF(msg->failed.text);
        break;
    case HDL_WMSG_HEARTBEAT:
        heddle__v1__heartbeat__init(&body.heartbeat);
        body.heartbeat.count = msg->heartbeat.count;
        break;
    case HDL_WMSG_LISTENING:
        heddle__v1__listening__init(&body.listening);
        body.listening.epoch = msg->listening.epoch;
        body.listening.address = WIRE_TEXT_OF(msg->listening.address);
        break;
    }
    /* The numbers of the oneof are those of the enum plus one; test_wire.c pins each. */
    pb.body_case = (Heddle__V1__WorkerMessage__BodyCase)(msg->kind + 1);
    pb.hello = &body.hello;
    return wire_pack(encoder, 0, &pb.base, out);
}

hdl_err hdl_wire_decode_worker(hdl_wire_bytes bytes, hdl_arena *arena, hdl_worker_msg *out,
                               hdl_errmsg *why)
{
    pb_worker *pb =
        (pb_worker *)(void *)wire_unpack(&heddle__v1__worker_message__descriptor, bytes, arena);
    if (!pb)
        return wire_refuse_bytes(why, arena);
    switch (pb->body_case) {
    case HEDDLE__V1__WORKER_MESSAGE__BODY_HELLO:
        out->kind = HDL_WMSG_HELLO;
        return read_hello(pb->hello, &out->hello, why);
    case HEDDLE__V1__WORKER_MESSAGE__BODY_PROGRESS:
        out->kind = HDL_WMSG_PROGRESS;
        out->progress = (hdl_msg_progress){.bytes_done = pb->progress->bytes_done,
                                           .bytes_total = pb->progress->bytes_total};
        return HDL_OK;
    case HEDDLE__V1__WORKER_MESSAGE__BODY_READY:
        out->kind = HDL_WMSG_READY;
        return read_ready(pb->ready, &out->ready, why);
    case HEDDLE__V1__WORKER_MESSAGE__BODY_JOINED:
        out->kind = HDL_WMSG_JOINED;
        out->joined.epoch = pb->joined->epoch;
        return HDL_OK;
    case HEDDLE__V1__WORKER_MESSAGE__BODY_RESULT:
        out->kind = HDL_WMSG_RESULT;
        return wire_result_read(pb->result, &out->result, why);
    case HEDDLE__V1__WORKER_MESSAGE__BODY_FAILED:
        out->kind = HDL_WMSG_FAILED;
        return read_failed(pb->failed, &out->failed, why);
    case HEDDLE__V1__WORKER_MESSAGE__BODY_HEARTBEAT:
        out->kind = HDL_WMSG_HEARTBEAT;
        out->heartbeat.count = pb->heartbeat->count;
        return HDL_OK;
    case HEDDLE__V1__WORKER_MESSAGE__BODY_LISTENING:
        out->kind = HDL_WMSG_LISTENING;
        return read_listening(pb->listening, &out->listening, why);
    default: return wire_refuse(why, "worker message kind", (uint64_t)pb->body_case);
    }
}

/* -- scheduler to worker --------------------------------------------------------------------- */

static void fill_assign(const hdl_msg_assign *m, Heddle__V1__Assign *pb)
{
    heddle__v1__assign__init(pb);
    pb->key = m->key;
    pb->group = m->group;
    pb->rank = m->rank;
    pb->tp = m->tp;
    pb->ep = m->ep;
    pb->pp = m->pp;
    pb->dp = m->dp;
    pb->model_path = WIRE_TEXT_OF(m->model_path);
    pb->weights = m->weights;
    pb->kv_bytes = m->kv_bytes;
    pb->block_tokens = m->block_tokens;
    pb->max_seqs = m->max_seqs;
    pb->step_tokens = m->step_tokens;
    pb->max_len = m->max_len;
    pb->coll_timeout_us = m->coll_timeout_us;
    pb->heartbeat_us = m->heartbeat_us;
    pb->hang_us = m->hang_us;
    pb->logits_path = WIRE_TEXT_OF(m->logits_path);
    pb->kv_type = m->kv_type;
}

static hdl_err read_assign(const Heddle__V1__Assign *pb, hdl_msg_assign *m, hdl_errmsg *why)
{
    const uint32_t ranks = HDL_RANKS_MAX;
    *m = (hdl_msg_assign){.key = pb->key,
                          .group = pb->group,
                          .rank = pb->rank,
                          .tp = pb->tp,
                          .ep = pb->ep,
                          .pp = pb->pp,
                          .dp = pb->dp,
                          .weights = pb->weights,
                          .kv_type = pb->kv_type,
                          .kv_bytes = pb->kv_bytes,
                          .block_tokens = pb->block_tokens,
                          .max_seqs = pb->max_seqs,
                          .step_tokens = pb->step_tokens,
                          .max_len = pb->max_len,
                          .coll_timeout_us = pb->coll_timeout_us,
                          .heartbeat_us = pb->heartbeat_us,
                          .hang_us = pb->hang_us};
    WIRE_TRY_TEXT(m->model_path, pb->model_path, "assign.model_path");
    WIRE_TRY_TEXT(m->logits_path, pb->logits_path, "assign.logits_path");
    TRY_RANGE("assign.group", m->group, 0, HDL_GROUPS_MAX - 1);
    TRY_RANGE("assign.rank", m->rank, 0, ranks - 1);
    TRY_RANGE("assign.tp", m->tp, 1, ranks);
    TRY_RANGE("assign.ep", m->ep, 1, ranks);
    TRY_RANGE("assign.pp", m->pp, 1, ranks);
    TRY_RANGE("assign.dp", m->dp, 1, HDL_GROUPS_MAX);
    TRY_RANGE("assign.kv_type", m->kv_type, 0, HDL_KV_TYPE_COUNT - 1);
    TRY_RANGE("assign.max_seqs", m->max_seqs, 1, HDL_SEQS_MAX);
    TRY_RANGE("assign.step_tokens", m->step_tokens, 1, HDL_STEP_TOKENS_MAX);
    TRY_RANGE("assign.block_tokens", m->block_tokens, 0, 65536);
    TRY_RANGE("assign.max_len", m->max_len, 0, INT32_MAX);
    TRY_RANGE("assign.coll_timeout", m->coll_timeout_us, 1000, TIME_US_MAX);
    TRY_RANGE("assign.heartbeat", m->heartbeat_us, 1000, TIME_US_MAX);
    TRY_RANGE("assign.hang", m->hang_us, 1000, TIME_US_MAX);
    return HDL_OK;
}

typedef struct pb_peers {
    Heddle__V1__Peer each[HDL_RANKS_MAX], *refs[HDL_RANKS_MAX];
} pb_peers;

/* peers: must last as long as pb. */
static void fill_join(const hdl_msg_join *m, Heddle__V1__Join *pb, pb_peers *peers)
{
    heddle__v1__join__init(pb);
    pb->epoch = m->epoch;
    pb->self_test = m->self_test;
    pb->backend = WIRE_TEXT_OF(m->backend);
    pb->address = WIRE_TEXT_OF(m->address);
    if (m->n_peers == 0)
        return;
    for (uint32_t i = 0; i < m->n_peers; i++) {
        heddle__v1__peer__init(&peers->each[i]);
        peers->each[i].address = WIRE_TEXT_OF(m->peers[i]);
        peers->refs[i] = &peers->each[i];
    }
    pb->n_peers = m->n_peers;
    pb->peers = peers->refs;
    pb->secret =
        (ProtobufCBinaryData){.len = sizeof m->secret, .data = (uint8_t *)(uintptr_t)m->secret};
}

static hdl_err read_join(const Heddle__V1__Join *pb, hdl_msg_join *m, hdl_errmsg *why)
{
    m->epoch = pb->epoch;
    m->self_test = pb->self_test != 0;
    WIRE_TRY_TEXT(m->backend, pb->backend, "join.backend");
    WIRE_TRY_TEXT(m->address, pb->address, "join.address");
    TRY_RANGE("join.peers", pb->n_peers, 0, HDL_RANKS_MAX);
    m->n_peers = (uint32_t)pb->n_peers;
    for (uint32_t i = 0; i < m->n_peers; i++)
        WIRE_TRY_TEXT(m->peers[i], pb->peers[i]->address, "join.peers");
    size_t secret = m->n_peers ? sizeof m->secret : 0;
    TRY_RANGE("join.secret", pb->secret.len, secret, secret);
    if (secret)
        memcpy(m->secret, pb->secret.data, secret);
    return HDL_OK;
}

static hdl_err read_goodbye(const Heddle__V1__Goodbye *pb, hdl_msg_goodbye *m, hdl_errmsg *why)
{
    TRY_RANGE("goodbye.err", pb->err, 0, HDL_ERR_COUNT - 1);
    m->err = (hdl_err)pb->err;
    WIRE_TRY_TEXT(m->text, pb->text, "goodbye.text");
    return HDL_OK;
}

hdl_err hdl_wire_encode_sched(hdl_wire_encoder *encoder, const hdl_sched_msg *msg,
                              hdl_wire_bytes *out)
{
    pb_sched pb = HEDDLE__V1__SCHEDULER_MESSAGE__INIT;
    union {
        Heddle__V1__Assign assign;
        Heddle__V1__Join join;
        pb_step step;
        Heddle__V1__Abort abort;
        Heddle__V1__Heartbeat heartbeat;
        Heddle__V1__Goodbye goodbye;
        Heddle__V1__Listen listen;
    } body;
    pb_peers peers;
    size_t at = 0;
    switch (msg->kind) {
    case HDL_SMSG_ASSIGN: fill_assign(&msg->assign, &body.assign); break;
    case HDL_SMSG_JOIN: fill_join(&msg->join, &body.join, &peers); break;
    case HDL_SMSG_STEP: HDL_TRY(wire_step_fill(encoder, &msg->step, &body.step, &at)); break;
    case HDL_SMSG_ABORT:
        heddle__v1__abort__init(&body.abort);
        body.abort.epoch = msg->abort.epoch;
        break;
    case HDL_SMSG_HEARTBEAT:
        heddle__v1__heartbeat__init(&body.heartbeat);
        body.heartbeat.count = msg->heartbeat.count;
        break;
    case HDL_SMSG_GOODBYE:
        heddle__v1__goodbye__init(&body.goodbye);
        body.goodbye.err = (uint32_t)msg->goodbye.err;
        body.goodbye.text = WIRE_TEXT_OF(msg->goodbye.text);
        break;
    case HDL_SMSG_LISTEN:
        heddle__v1__listen__init(&body.listen);
        body.listen.epoch = msg->listen.epoch;
        break;
    }
    pb.body_case = (Heddle__V1__SchedulerMessage__BodyCase)(msg->kind + 1); /* as above */
    pb.assign = &body.assign;
    return wire_pack(encoder, at, &pb.base, out);
}

hdl_err hdl_wire_decode_sched(hdl_wire_bytes bytes, hdl_arena *arena, hdl_sched_msg *out,
                              hdl_errmsg *why)
{
    pb_sched *pb =
        (pb_sched *)(void *)wire_unpack(&heddle__v1__scheduler_message__descriptor, bytes, arena);
    if (!pb)
        return wire_refuse_bytes(why, arena);
    switch (pb->body_case) {
    case HEDDLE__V1__SCHEDULER_MESSAGE__BODY_ASSIGN:
        out->kind = HDL_SMSG_ASSIGN;
        return read_assign(pb->assign, &out->assign, why);
    case HEDDLE__V1__SCHEDULER_MESSAGE__BODY_JOIN:
        out->kind = HDL_SMSG_JOIN;
        return read_join(pb->join, &out->join, why);
    case HEDDLE__V1__SCHEDULER_MESSAGE__BODY_STEP:
        out->kind = HDL_SMSG_STEP;
        return wire_step_read(pb->step, arena, &out->step, why);
    case HEDDLE__V1__SCHEDULER_MESSAGE__BODY_ABORT:
        out->kind = HDL_SMSG_ABORT;
        out->abort.epoch = pb->abort->epoch;
        return HDL_OK;
    case HEDDLE__V1__SCHEDULER_MESSAGE__BODY_HEARTBEAT:
        out->kind = HDL_SMSG_HEARTBEAT;
        out->heartbeat.count = pb->heartbeat->count;
        return HDL_OK;
    case HEDDLE__V1__SCHEDULER_MESSAGE__BODY_GOODBYE:
        out->kind = HDL_SMSG_GOODBYE;
        return read_goodbye(pb->goodbye, &out->goodbye, why);
    case HEDDLE__V1__SCHEDULER_MESSAGE__BODY_LISTEN:
        out->kind = HDL_SMSG_LISTEN;
        out->listen.epoch = pb->listen->epoch;
        return HDL_OK;
    default: return wire_refuse(why, "scheduler message kind", (uint64_t)pb->body_case);
    }
}
