/* SPDX-License-Identifier: Apache-2.0 */
/* Every message of the control plane, status and health included: the first byte picks the decoder.
 * What passes keeps the promises of wire.h, which the receivers rely on without another look. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <heddle/types.h>

#include "base/assert.h"
#include "proto/wire.h"

enum { ARENA_BYTES = 1 << 18 };

static unsigned char mem[ARENA_BYTES];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(const char *text, size_t size)
{
    size_t len = strnlen(text, size);
    HDL_ASSERT_LT(len, size);
    for (size_t i = 0; i < len; i++)
        HDL_ASSERT((unsigned char)text[i] >= 0x20);
}
#define CHECK_TEXT(array) check_text((array), sizeof(array))

static void check_worker(const hdl_worker_msg *msg)
{
    if (msg->kind == HDL_WMSG_HELLO) {
        CHECK_TEXT(msg->hello.host);
        CHECK_TEXT(msg->hello.token);
        CHECK_TEXT(msg->hello.device);
        CHECK_TEXT(msg->hello.version);
    } else if (msg->kind == HDL_WMSG_READY) {
        HDL_ASSERT(msg->ready.n_caches > 0 && msg->ready.n_caches <= HDL_CACHE_GROUPS_MAX);
        for (uint32_t i = 0; i < msg->ready.n_caches; i++)
            HDL_ASSERT(msg->ready.caches[i].n_blocks > 0 &&
                       hdl_cache_rule_problem(&msg->ready.caches[i].rule) == NULL);
        HDL_ASSERT(msg->ready.max_seqs <= HDL_SEQS_MAX);
        CHECK_TEXT(msg->ready.device);
    } else if (msg->kind == HDL_WMSG_FAILED) {
        HDL_ASSERT(msg->failed.err > HDL_OK && msg->failed.err < HDL_ERR_COUNT);
        CHECK_TEXT(msg->failed.text);
    } else if (msg->kind == HDL_WMSG_LISTENING) {
        CHECK_TEXT(msg->listening.address);
    }
}

static void check_sched(const hdl_sched_msg *msg)
{
    if (msg->kind == HDL_SMSG_ASSIGN) {
        HDL_ASSERT(msg->assign.tp > 0 && msg->assign.rank < HDL_RANKS_MAX);
        CHECK_TEXT(msg->assign.model_path);
        CHECK_TEXT(msg->assign.logits_path);
    } else if (msg->kind == HDL_SMSG_JOIN) {
        CHECK_TEXT(msg->join.backend);
        CHECK_TEXT(msg->join.address);
        HDL_ASSERT(msg->join.n_peers <= HDL_RANKS_MAX);
        for (uint32_t i = 0; i < msg->join.n_peers; i++)
            CHECK_TEXT(msg->join.peers[i]);
    } else if (msg->kind == HDL_SMSG_GOODBYE) {
        HDL_ASSERT(msg->goodbye.err < HDL_ERR_COUNT);
        CHECK_TEXT(msg->goodbye.text);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hdl_arena arena;
    hdl_errmsg why = {0};
    hdl_worker_msg worker;
    hdl_sched_msg sched;
    hdl_cluster_status status;
    char service[HDL_WIRE_NAME_BYTES];
    if (size == 0)
        return 0;
    hdl_arena_init(&arena, mem, sizeof mem);
    const hdl_wire_bytes bytes = {.data = data + 1, .len = size - 1};
    switch (data[0] & 3) {
    case 0:
        if (hdl_wire_decode_worker(bytes, &arena, &worker, &why) == HDL_OK)
            check_worker(&worker);
        break;
    case 1:
        if (hdl_wire_decode_sched(bytes, &arena, &sched, &why) == HDL_OK)
            check_sched(&sched);
        break;
    case 2:
        if (hdl_wire_decode_status(bytes, &arena, &status, &why) == HDL_OK)
            for (uint32_t i = 0; i < status.n_ranks; i++)
                CHECK_TEXT(status.ranks[i].state);
        break;
    default:
        if (hdl_wire_decode_health(bytes, &arena, service) == HDL_OK)
            HDL_ASSERT_LT(strlen(service), sizeof service);
    }
    return 0;
}
