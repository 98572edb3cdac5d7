/* SPDX-License-Identifier: Apache-2.0 */
/* How attention.cu cuts a step into items, and what one item is. Made on the host (attn_job) and by
 * attn_plan on the device; read by all kernels of the op.
 *
 *   tile      neighbouring tokens of one row and some heads of one KV head: at most the rows of a
 *             block's mma tiles. Two tilings: rows with few query rows, and the others.
 *   segment   HDL_ATTN_SPLIT keys at an absolute position
 *   item      a tile and one segment (the row is split: states go to scratch), or a tile and all
 *             its segments (whole: merged by the block that walks them). The bits are the same. */
#pragma once

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/warp.h"

enum { ATTN_SMALL, ATTN_LARGE, ATTN_TILINGS };
enum { ATTN_SMALL_ROWS = 16, ATTN_BLOCKS_MAX = 1024, ATTN_WHOLE = 0xffffffffu };

struct attn_tiling {
    uint32_t rows;                           /* of a tile, at most */
    uint32_t heads_each, parts, tokens_each; /* heads of a tile, tiles of a KV head's heads */
    uint32_t n_blocks;                       /* that walk */
};

struct attn_job {
    hdl_attention_args a;
    uint32_t value_dim, group, block_shift;
    bool is_int8, is_fp8;
    bool wide; /* rows of the cache are read 8 numbers at a time */
    attn_tiling tilings[ATTN_TILINGS];
    /* Scratch. A state is `stride` floats: a row's values, its sum, its maximum. */
    uint32_t stride, n_states;
    float *states, *running; /* running: of whole items, a tile for each block */
    /* Of attn_plan. */
    uint32_t *first_item; /* [ATTN_TILINGS, n_rows + 1] */
    uint32_t *slot;       /* [n_rows] first state of the row, or ATTN_WHOLE */
    uint32_t *ticket;     /* [ATTN_TILINGS] next item */
};

struct attn_item {
    const hdl_attn_row *row;
    uint32_t token, n_tokens; /* within the row */
    uint32_t kv_head, head, n_heads;
    uint32_t n_rows;               /* row r: token r / n_heads, head r % n_heads */
    uint32_t first, end;           /* positions that any of them sees */
    uint32_t all_first, all_end;   /* and that all do; may be none */
    uint32_t segment, segment_end; /* to be walked */
    float *states;                 /* of its rows; NULL: whole */
};

/* Visible positions of a query. */
struct attn_span {
    uint32_t first, end;
};

GPU_DEVICE attn_span attn_span_of(const hdl_attention_args *a, uint32_t end)
{
    uint32_t first = a->window && end > a->window ? end - a->window : 0;
    return {a->chunk ? hdl_max_u32(first, (end - 1) / a->chunk * a->chunk) : first, end};
}

/* Row r of an item; rows beyond its end see nothing. */
GPU_DEVICE attn_span attn_row_span(const attn_job *job, const attn_item *item, uint32_t r)
{
    if (r >= item->n_rows)
        return {0, 0};
    return attn_span_of(&job->a, item->row->pos + item->token + r / item->n_heads + 1);
}

GPU_DEVICE bool attn_sees(attn_span s, uint32_t segment)
{
    return s.end > segment * HDL_ATTN_SPLIT && s.first < (segment + 1) * HDL_ATTN_SPLIT;
}

/* [n_tokens, n_heads] index of row r in q and out. */
GPU_DEVICE size_t attn_query(const attn_job *job, const attn_item *item, uint32_t r)
{
    size_t token = item->row->token_at + item->token + r / item->n_heads;
    return token * job->a.n_heads + item->head + r % item->n_heads;
}

GPU_DEVICE uint32_t attn_tiling_of(const attn_job *job, const hdl_attn_row *row)
{
    return row->n_tokens * job->group <= ATTN_SMALL_ROWS ? ATTN_SMALL : ATTN_LARGE;
}

struct attn_segments {
    uint32_t first, n;
};

GPU_DEVICE attn_segments attn_segments_of(const attn_job *job, const hdl_attn_row *row)
{
    uint32_t first = attn_span_of(&job->a, row->pos + 1).first / HDL_ATTN_SPLIT;
    return {first, (row->pos + row->n_tokens - 1) / HDL_ATTN_SPLIT - first + 1};
}

GPU_DEVICE uint32_t attn_tiles_of(const attn_job *job, const hdl_attn_row *row)
{
    const attn_tiling *t = &job->tilings[attn_tiling_of(job, row)];
    return hdl_div_ceil_u32(row->n_tokens, t->tokens_each) * job->a.kv.n_kv_heads * t->parts;
}

/* Two softmaxes into one: what the earlier and the later one are multiplied by. */
struct attn_factors {
    float keep, add, max;
};

GPU_DEVICE attn_factors attn_merge(float max, float later)
{
    float larger = later > max ? later : max;
    return {hdl_exp(max - larger), hdl_exp(later - larger), larger};
}

/* Sum and factor of a finished row: the sink joins. */
struct attn_end {
    float keep, sum;
};

GPU_DEVICE attn_end attn_finish(const attn_job *job, uint32_t head, float max, float sum)
{
    if (!job->a.sinks)
        return {1.0f, sum};
    float sink = job->a.sinks[head], larger = sink > max ? sink : max;
    float keep = hdl_exp(max - larger);
    return {keep, fmaf(sum, keep, hdl_exp(sink - larger))};
}

/* Rounding leaves no sign to a zero: tiles that a row does not see must not show. */
GPU_DEVICE float attn_value(float out, attn_end end) { return out * end.keep / end.sum + 0.0f; }
