/* SPDX-License-Identifier: Apache-2.0 */
/* Steps and results, the messages that cross on every token. The first byte picks which side
 * decodes. What passes is walked as the receiver walks it, so that ASan sees an index that should
 * have been refused, and must come out the same after another trip. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "proto/wire.h"

enum { ARENA_BYTES = 1 << 20 };

static unsigned char mem[2][ARENA_BYTES];
static hdl_wire_encoder encoder;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t walk_step(const hdl_msg_step *step)
{
    const hdl_plan *plan = &step->plan;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < plan->n_rows; i++) {
        const hdl_plan_row *row = &plan->rows[i];
        uint32_t n = row->n_tokens + (row->flags & HDL_ROW_SCORE ? 1u : 0u);
        for (uint32_t t = 0; t < n; t++)
            sum += (uint32_t)plan->tokens[row->token_at + t];
    }
    for (uint32_t i = 0; i < plan->n_grants; i++)
        for (uint32_t b = 0; b < plan->grants[i].n_blocks; b++)
            sum += plan->blocks[plan->grants[i].block_at + b] + plan->grants[i].slot;
    for (uint32_t i = 0; i < plan->n_opens; i++) {
        for (uint32_t t = 0; t < plan->opens[i].n_history; t++)
            sum += (uint32_t)plan->tokens[plan->opens[i].history_at + t];
        for (uint32_t b = 0; b < step->samplings[i].n_bias; b++)
            sum += (uint32_t)step->samplings[i].bias[b].token;
    }
    for (uint32_t i = 0; i < plan->n_closes; i++)
        sum += plan->closes[i];
    for (uint32_t i = 0; i < plan->n_copies; i++)
        sum += plan->copies[i].src + plan->copies[i].dst + plan->copies[i].cache;
    return sum;
}

static uint64_t walk_result(const hdl_result *result)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < result->n_rows; i++) {
        sum += (uint32_t)result->rows[i].token;
        for (uint32_t t = 0; t < result->rows[i].n_probs; t++)
            sum += (uint32_t)result->probs[result->rows[i].probs_at + t].token;
    }
    return sum;
}

static void try_sched(hdl_wire_bytes bytes, hdl_arena *arena, hdl_arena *again)
{
    hdl_sched_msg msg, twin;
    hdl_errmsg why = {0};
    if (hdl_wire_decode_sched(bytes, arena, &msg, &why) != HDL_OK) {
        HDL_ASSERT(why.text[0]);
        return;
    }
    if (msg.kind != HDL_SMSG_STEP ||
        hdl_wire_encode_sched(&encoder, &msg, &bytes) != HDL_OK) /* may be larger than it came */
        return;
    HDL_ASSERT(hdl_wire_decode_sched(bytes, again, &twin, &why) == HDL_OK);
    HDL_ASSERT(walk_step(&msg.step) == walk_step(&twin.step));
}

static void try_worker(hdl_wire_bytes bytes, hdl_arena *arena, hdl_arena *again)
{
    hdl_worker_msg msg, twin;
    hdl_errmsg why = {0};
    if (hdl_wire_decode_worker(bytes, arena, &msg, &why) != HDL_OK) {
        HDL_ASSERT(why.text[0]);
        return;
    }
    if (msg.kind != HDL_WMSG_RESULT || hdl_wire_encode_worker(&encoder, &msg, &bytes) != HDL_OK)
        return;
    HDL_ASSERT(hdl_wire_decode_worker(bytes, again, &twin, &why) == HDL_OK);
    HDL_ASSERT(walk_result(&msg.result) == walk_result(&twin.result));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hdl_arena arena, again;
    if (size == 0)
        return 0;
    if (!encoder.mem && hdl_wire_encoder_init(&encoder, ARENA_BYTES) != HDL_OK)
        abort();
    hdl_arena_init(&arena, mem[0], ARENA_BYTES);
    hdl_arena_init(&again, mem[1], ARENA_BYTES);
    const hdl_wire_bytes bytes = {.data = data + 1, .len = size - 1};
    if (data[0] & 1)
        try_worker(bytes, &arena, &again);
    else
        try_sched(bytes, &arena, &again);
    return 0;
}
