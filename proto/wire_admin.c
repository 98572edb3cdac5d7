/* SPDX-License-Identifier: Apache-2.0 */
/* Messages for people and tools: the cluster's status, and the standard health protocol. */
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "health.pb-c.h"
#include "proto/wire.h"
#include "proto/wire_pb.h"

enum { STATUS_RANKS_MAX = HDL_GROUPS_MAX * HDL_RANKS_MAX };

static void fill_rank(const hdl_rank_status *m, Heddle__V1__RankStatus *pb)
{
    heddle__v1__rank_status__init(pb);
    pb->group = m->group;
    pb->rank = m->rank;
    pb->pid = m->pid;
    pb->step_us = m->step_us;
    pb->coll_us = m->coll_us;
    pb->bytes_done = m->bytes_done;
    pb->bytes_total = m->bytes_total;
    pb->silent_us = m->silent_us;
    pb->state = WIRE_TEXT_OF(m->state);
    pb->host = WIRE_TEXT_OF(m->host);
    pb->device = WIRE_TEXT_OF(m->device);
}

hdl_err hdl_wire_encode_status(hdl_wire_encoder *encoder, const hdl_cluster_status *status,
                               hdl_wire_bytes *out)
{
    Heddle__V1__StatusReply pb = HEDDLE__V1__STATUS_REPLY__INIT;
    hdl_arena scratch;
    hdl_arena_init(&scratch, encoder->mem, encoder->size);
    Heddle__V1__RankStatus *ranks =
        HDL_ARENA_ARRAY(&scratch, Heddle__V1__RankStatus, status->n_ranks + 1);
    Heddle__V1__RankStatus **refs =
        HDL_ARENA_ARRAY(&scratch, Heddle__V1__RankStatus *, status->n_ranks + 1);
    if (!ranks || !refs)
        return HDL_BUSY;
    for (uint32_t i = 0; i < status->n_ranks; i++) {
        fill_rank(&status->ranks[i], &ranks[i]);
        refs[i] = &ranks[i];
    }
    pb.ready = status->ready;
    pb.draining = status->draining;
    pb.epoch = status->epoch;
    pb.kv_tokens = status->kv_tokens;
    pb.running = status->running;
    pb.waiting = status->waiting;
    pb.state = WIRE_TEXT_OF(status->state);
    pb.n_ranks = status->n_ranks;
    pb.ranks = refs;
    return wire_pack(encoder, scratch.used, &pb.base, out);
}

static hdl_err read_rank(const Heddle__V1__RankStatus *pb, hdl_rank_status *m, hdl_errmsg *why)
{
    *m = (hdl_rank_status){.group = pb->group,
                           .rank = pb->rank,
                           .pid = pb->pid,
                           .step_us = pb->step_us,
                           .coll_us = pb->coll_us,
                           .bytes_done = pb->bytes_done,
                           .bytes_total = pb->bytes_total,
                           .silent_us = pb->silent_us};
    WIRE_TRY_TEXT(m->state, pb->state, "status.rank.state");
    WIRE_TRY_TEXT(m->host, pb->host, "status.rank.host");
    WIRE_TRY_TEXT(m->device, pb->device, "status.rank.device");
    return HDL_OK;
}

hdl_err hdl_wire_decode_status(hdl_wire_bytes bytes, hdl_arena *arena, hdl_cluster_status *out,
                               hdl_errmsg *why)
{
    Heddle__V1__StatusReply *pb = (Heddle__V1__StatusReply *)(void *)wire_unpack(
        &heddle__v1__status_reply__descriptor, bytes, arena);
    if (!pb)
        return wire_refuse_bytes(why, arena);
    if (pb->n_ranks > STATUS_RANKS_MAX)
        return wire_refuse(why, "status.ranks", pb->n_ranks);
    hdl_rank_status *ranks = HDL_ARENA_ARRAY(arena, hdl_rank_status, pb->n_ranks + 1);
    if (!ranks)
        return hdl_fail(HDL_BUSY, why, "status refused; too many ranks");
    *out = (hdl_cluster_status){.ready = pb->ready != 0,
                                .draining = pb->draining != 0,
                                .epoch = pb->epoch,
                                .kv_tokens = pb->kv_tokens,
                                .running = pb->running,
                                .waiting = pb->waiting,
                                .n_ranks = (uint32_t)pb->n_ranks,
                                .ranks = ranks};
    WIRE_TRY_TEXT(out->state, pb->state, "status.state");
    for (size_t i = 0; i < pb->n_ranks; i++)
        HDL_TRY(read_rank(pb->ranks[i], &ranks[i], why));
    return HDL_OK;
}

hdl_err hdl_wire_decode_health(hdl_wire_bytes bytes, hdl_arena *arena,
                               char service[HDL_WIRE_NAME_BYTES])
{
    Grpc__Health__V1__HealthCheckRequest *pb =
        (Grpc__Health__V1__HealthCheckRequest *)(void *)wire_unpack(
            &grpc__health__v1__health_check_request__descriptor, bytes, arena);
    if (!pb)
        return HDL_CORRUPT;
    size_t len = strnlen(pb->service, HDL_WIRE_NAME_BYTES);
    if (len == HDL_WIRE_NAME_BYTES)
        return HDL_NOTFOUND; /* none of ours has so long a name */
    memcpy(service, pb->service, len + 1);
    return HDL_OK;
}

hdl_err hdl_wire_encode_health(hdl_wire_encoder *encoder, hdl_health health, hdl_wire_bytes *out)
{
    Grpc__Health__V1__HealthCheckResponse pb = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
    pb.status = (Grpc__Health__V1__HealthCheckResponse__ServingStatus)health;
    return wire_pack(encoder, 0, &pb.base, out);
}
