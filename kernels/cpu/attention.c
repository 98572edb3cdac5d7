/* SPDX-License-Identifier: Apache-2.0 */
/* Walks the cache for blocks of query rows (attention.h): tiles into a split's state, splits in
 * order into the result. Two ways to spread work, with the same bits:
 *
 *   many blocks      a block's thread walks all splits, merging as it goes;
 *   few (decode of   (block, split) is the item; states go to scratch and are merged, in order,
 *   long contexts)   after a barrier.
 */
#include "kernels/cpu/attention.h"
#include "kernels/kv_fp8.h"
#include "kernels/ref/ref.h"

enum { SPLIT_ROWS_MAX = 256 }; /* query rows of the whole step up to which splits are items */

typedef struct attn_job {
    const hdl_attention_args *a;
    hdl_stream *stream;
    uint32_t value_dim;
    uint32_t heads_per_kv, heads_each, n_head_parts; /* query heads of a KV head, of a block */
    uint32_t tokens_each;                            /* of a block */
    uint32_t n_splits; /* of the longest row when splits are items, else 1 */
    float *states;     /* [n_splits, n_tokens * n_heads, value_dim + 2]; max, sum, out */
} attn_job;

/* Neighbouring tokens of one row, some heads of one KV head. */
typedef struct attn_block {
    const hdl_attn_row *row;
    uint32_t token, n_tokens; /* within the row */
    uint32_t kv_head, head, n_heads;
    uint32_t n_rows; /* n_tokens * n_heads; row r: token r / n_heads, head r % n_heads */
} attn_block;

static uint32_t blocks_of(const attn_job *job, const hdl_attn_row *row)
{
    return hdl_div_ceil_u32(row->n_tokens, job->tokens_each) * job->a->kv.n_kv_heads *
           job->n_head_parts;
}

static bool block_at(const attn_job *job, uint32_t idx, attn_block *b)
{
    uint32_t r = 0;
    for (; r < job->a->n_rows && idx >= blocks_of(job, &job->a->rows[r]); r++)
        idx -= blocks_of(job, &job->a->rows[r]);
    if (r == job->a->n_rows)
        return false;
    const hdl_attn_row *row = &job->a->rows[r];
    uint32_t part = idx % job->n_head_parts, at = idx / job->n_head_parts;
    *b = (attn_block){.row = row, .kv_head = at % job->a->kv.n_kv_heads};
    b->token = at / job->a->kv.n_kv_heads * job->tokens_each;
    b->n_tokens = hdl_min_u32(job->tokens_each, row->n_tokens - b->token);
    b->head = b->kv_head * job->heads_per_kv + part * job->heads_each;
    b->n_heads = hdl_min_u32(job->heads_each, job->heads_per_kv - part * job->heads_each);
    b->n_rows = b->n_tokens * b->n_heads;
    return true;
}

/* Visible positions of one token of the block. */
typedef struct span {
    uint32_t first, end;
} span;

static span visible(const attn_job *job, const attn_block *b, uint32_t token)
{
    uint32_t end = b->row->pos + b->token + token + 1, window = job->a->window;
    uint32_t first = window && end > window ? end - window : 0, chunk = job->a->chunk;
    return (span){chunk ? hdl_max_u32(first, (end - 1) / chunk * chunk) : first, end};
}

/* [n_tokens * n_heads of the step] index of a block's row: q, out and states use it. */
static size_t row_index(const attn_job *job, const attn_block *b, uint32_t r)
{
    size_t token = b->row->token_at + b->token + r / b->n_heads;
    return token * job->a->n_heads + b->head + r % b->n_heads;
}

static void load_queries(const attn_job *job, const attn_block *b, const hdl_attn_work *work)
{
    const float *rows[HDL_ATTN_ROWS];
    uint32_t dim = job->a->kv.head_dim;
    for (uint32_t r = 0; r < b->n_rows; r++)
        rows[r] = job->a->q + row_index(job, b, r) * dim;
    if (job->a->kv.type != HDL_KV_INT8) { /* FP8 too */
        hdl_attn_load_queries(rows, b->n_rows, dim, work->q);
        return;
    }
    for (uint32_t r = 0; r < b->n_rows; r++)
        work->q8_step[r] =
            job->a->scale *
            hdl_attn_load_query8(rows[r], dim, work->q8 + (size_t)r * HDL_ATTN_Q8_ROW);
}

/* A tile of FP8 as bf16, in `wide`. */
static void widen_keys(const attn_job *job, hdl_attn_tile *tile, uint16_t *wide)
{
    uint32_t dim = job->a->kv.head_dim;
    uint16_t *values = job->a->latent ? wide : wide + (size_t)HDL_ATTN_TILE * dim;
    for (uint32_t j = 0; j < tile->n_keys; j++) {
        tile->k[j] = wide + (size_t)j * dim;
        tile->v[j] = values + (size_t)j * dim;
        hdl_fp8_load_row(tile->k8, dim, j, wide + (size_t)j * dim);
        if (!job->a->latent)
            hdl_fp8_load_row(tile->v8, dim, j, values + (size_t)j * dim);
    }
}

/* Where the keys of the tile at `pos` lie. wide: room for them, which FP8 needs. */
static void find_keys(const attn_job *job, const attn_block *b, uint32_t pos, uint16_t *wide,
                      hdl_attn_tile *tile)
{
    uint32_t end = visible(job, b, b->n_tokens - 1).end;
    tile->n_keys = hdl_min_u32(HDL_ATTN_TILE, end - pos);
    const hdl_kv_view *kv = &job->a->kv;
    if (kv->type != HDL_KV_BF16) {
        uint32_t block = b->row->table[pos / kv->block_tokens];
        HDL_ASSERT_LT(block, kv->n_blocks);
        size_t at = hdl_kv8_tile_at(kv, block, b->kv_head, pos % kv->block_tokens);
        tile->k8 = kv->k8 + at;
        tile->v8 = job->a->latent ? NULL : kv->v8 + at;
        if (kv->type == HDL_KV_FP8)
            widen_keys(job, tile, wide);
        return;
    }
    for (uint32_t j = 0; j < tile->n_keys;) { /* a piece of a cache block at a time */
        uint32_t at = (pos + j) % kv->block_tokens,
                 block = b->row->table[(pos + j) / kv->block_tokens];
        HDL_ASSERT_LT(block, kv->n_blocks);
        size_t offset =
            (((size_t)block * kv->n_kv_heads + b->kv_head) * kv->block_tokens + at) * kv->head_dim;
        uint32_t piece_end = hdl_min_u32(tile->n_keys, j + kv->block_tokens - at);
        for (; j < piece_end; j++, offset += kv->head_dim) {
            tile->k[j] = kv->k + offset;
            tile->v[j] = (job->a->latent ? kv->k : kv->v) + offset;
        }
    }
}

/* Which keys of the tile at `pos` each row sees. */
static void set_visible(const attn_job *job, const attn_block *b, uint32_t pos, hdl_attn_tile *tile)
{
    for (uint32_t token = 0, r = 0; token < b->n_tokens; token++) {
        span s = visible(job, b, token);
        uint32_t lo = s.first > pos ? hdl_min_u32(s.first - pos, HDL_ATTN_TILE) : 0;
        uint32_t hi = s.end > pos ? hdl_min_u32(s.end - pos, HDL_ATTN_TILE) : 0;
        for (uint32_t end = r + b->n_heads; r < end; r++) {
            tile->lo[r] = lo;
            tile->hi[r] = hi;
        }
    }
}

/* The block's softmax over the keys of one split. */
static void walk_split(const attn_job *job, const attn_block *b, uint32_t split,
                       const hdl_attn_work *work, hdl_attn_state *state)
{
    hdl_attn_tile
        tiles[2]; /* this one and the next: blocks are too short for hardware to foresee */
    span first = visible(job, b, 0), last = visible(job, b, b->n_tokens - 1);
    uint32_t begin = split * HDL_ATTN_SPLIT;
    uint32_t end = hdl_min_u32(begin + HDL_ATTN_SPLIT, last.end);
    begin = hdl_max_u32(begin, first.first / HDL_ATTN_TILE * HDL_ATTN_TILE);
    for (uint32_t r = 0; r < b->n_rows; r++) {
        state->max[r] = -INFINITY;
        state->sum[r] = 0;
    }
    memset(state->out, 0, (size_t)b->n_rows * job->value_dim * sizeof *state->out);
    void (*add_tile)(const hdl_attn_tile_args *a) =
        job->a->kv.type == HDL_KV_INT8 ? hdl_attn_add_tile8 : hdl_attn_add_tile;
    uint32_t turn = 0;
    if (begin < end)
        find_keys(job, b, begin, work->wide[0], &tiles[0]);
    for (uint32_t pos = begin; pos < end; pos += HDL_ATTN_TILE, turn ^= 1) {
        hdl_attn_tile *tile = &tiles[turn];
        hdl_attn_tile *next = pos + HDL_ATTN_TILE < end ? &tiles[turn ^ 1] : NULL;
        if (next)
            find_keys(job, b, pos + HDL_ATTN_TILE, work->wide[turn ^ 1], next);
        set_visible(job, b, pos, tile);
        add_tile(&(hdl_attn_tile_args){.tile = tile,
                                       .next = next,
                                       .work = work,
                                       .state = state,
                                       .n_rows = b->n_rows,
                                       .head_dim = job->a->kv.head_dim,
                                       .value_dim = job->value_dim,
                                       .scale = job->a->scale,
                                       .softcap = job->a->softcap});
    }
}

/* One query row's state, wherever it lies. */
typedef struct row_state {
    float *max, *sum, *out;
} row_state;

static row_state row_of(hdl_attn_state *s, uint32_t r, uint32_t dim)
{
    return (row_state){&s->max[r], &s->sum[r], s->out + (size_t)r * dim};
}

static row_state row_in_scratch(const attn_job *job, const attn_block *b, uint32_t split,
                                uint32_t r)
{
    size_t rows = (size_t)job->a->n_tokens * job->a->n_heads;
    float *at = job->states + (split * rows + row_index(job, b, r)) * ((size_t)job->value_dim + 2);
    return (row_state){at, at + 1, at + 2};
}

/* ref/attention.c: merge. A row that saw nothing yet takes the later state as it is. */
static void merge_row(row_state all, row_state later, bool is_first, uint32_t dim)
{
    float max = is_first || *later.max > *all.max ? *later.max : *all.max;
    float keep = is_first ? 0 : hdl_exp(*all.max - max), add = hdl_exp(*later.max - max);
    if (is_first) {
        *all.sum = *later.sum;
        memcpy(all.out, later.out, dim * sizeof *all.out);
    } else {
        *all.sum = fmaf(*later.sum, add, *all.sum * keep);
        for (uint32_t d = 0; d < dim; d += HDL_LANES) {
            v16 kept = v16_mul(v16_load(all.out + d), v16_set1(keep));
            v16_store(all.out + d, v16_fma(v16_load(later.out + d), v16_set1(add), kept));
        }
    }
    *all.max = max;
}

/* ref/attention.c: add_sink */
static void add_sink(row_state s, float sink, uint32_t dim)
{
    float max = sink > *s.max ? sink : *s.max, keep = hdl_exp(*s.max - max);
    *s.sum = fmaf(*s.sum, keep, hdl_exp(sink - max));
    for (uint32_t d = 0; d < dim; d += HDL_LANES)
        v16_store(s.out + d, v16_mul(v16_load(s.out + d), v16_set1(keep)));
}

static void finish_row(const attn_job *job, const attn_block *b, uint32_t r, row_state s)
{
    uint32_t dim = job->value_dim;
    if (job->a->sinks)
        add_sink(s, job->a->sinks[b->head + r % b->n_heads], dim);
    float *out = job->a->out + row_index(job, b, r) * dim;
    for (uint32_t d = 0; d < dim; d += HDL_LANES)
        v16_store(out + d, v16_div(v16_load(s.out + d), v16_set1(*s.sum)));
}

/* Buffers of a thread, cut from its private scratch. */
typedef struct thread_buffers {
    hdl_attn_work work;
    hdl_attn_state part, all;
} thread_buffers;

static void cut_buffers(hdl_stream *stream, int thread, uint32_t dim, thread_buffers *t)
{
    float *at = hdl_stream_thread_mem(stream, thread);
    t->work.q = at;
    t->work.q8 = (int16_t *)(void *)at;
    t->work.keys = at += (size_t)hdl_max_u32(dim, HDL_ATTN_Q8_ROW / 2) * HDL_ATTN_ROWS;
    t->work.q8_step = at;
    t->work.weight = at += (size_t)dim * HDL_ATTN_TILE;
    t->part.out = at += HDL_ATTN_ROWS * HDL_ATTN_TILE;
    t->all.out = at += (size_t)dim * HDL_ATTN_ROWS;
    t->work.wide[0] = (uint16_t *)(void *)(at += (size_t)dim * HDL_ATTN_ROWS);
    /* two rows of bf16 take the room of one of f32 */
    t->work.wide[1] = (uint16_t *)(void *)(at + (size_t)dim * HDL_ATTN_TILE);
}
_Static_assert(HDL_HEAD_DIM_MAX *(3 * HDL_ATTN_ROWS + 3 * HDL_ATTN_TILE) * sizeof(float) +
                       HDL_ATTN_ROWS * HDL_ATTN_TILE * sizeof(float) <=
                   HDL_STREAM_THREAD_BYTES,
               "a thread's scratch holds its attention buffers");

/* All splits of a block, one after the other. */
static void whole_block(const attn_job *job, const attn_block *b, thread_buffers *t)
{
    uint32_t dim = job->value_dim;
    uint32_t first = visible(job, b, 0).first / HDL_ATTN_SPLIT;
    uint32_t n_splits = hdl_div_ceil_u32(visible(job, b, b->n_tokens - 1).end, HDL_ATTN_SPLIT);
    load_queries(job, b, &t->work);
    for (uint32_t split = first; split < n_splits; split++) {
        walk_split(job, b, split, &t->work, split == first ? &t->all : &t->part);
        for (uint32_t r = 0; split > first && r < b->n_rows; r++) {
            span seen = visible(job, b, r / b->n_heads);
            if (seen.end > split * HDL_ATTN_SPLIT && seen.first < (split + 1) * HDL_ATTN_SPLIT)
                merge_row(row_of(&t->all, r, dim), row_of(&t->part, r, dim),
                          seen.first / HDL_ATTN_SPLIT == split, dim);
        }
    }
    for (uint32_t r = 0; r < b->n_rows; r++)
        finish_row(job, b, r, row_of(&t->all, r, dim));
}

static void one_split(const attn_job *job, const attn_block *b, uint32_t split, thread_buffers *t)
{
    uint32_t dim = job->value_dim;
    if (split * HDL_ATTN_SPLIT >= visible(job, b, b->n_tokens - 1).end ||
        (split + 1) * HDL_ATTN_SPLIT <= visible(job, b, 0).first)
        return;
    load_queries(job, b, &t->work);
    walk_split(job, b, split, &t->work, &t->part);
    for (uint32_t r = 0; r < b->n_rows; r++) {
        row_state to = row_in_scratch(job, b, split, r), from = row_of(&t->part, r, dim);
        *to.max = *from.max;
        *to.sum = *from.sum;
        memcpy(to.out, from.out, dim * sizeof *to.out);
    }
}

static void merge_splits(const attn_job *job, const attn_block *b)
{
    for (uint32_t r = 0; r < b->n_rows; r++) {
        span seen = visible(job, b, r / b->n_heads);
        uint32_t first = seen.first / HDL_ATTN_SPLIT;
        row_state all = row_in_scratch(job, b, first, r);
        for (uint32_t split = first + 1; split * HDL_ATTN_SPLIT < seen.end; split++)
            merge_row(all, row_in_scratch(job, b, split, r), false, job->value_dim);
        finish_row(job, b, r, all);
    }
}

static void attn_thread(void *arg, int thread, int n_threads)
{
    const attn_job *job = arg;
    thread_buffers t;
    attn_block b;
    cut_buffers(job->stream, thread, job->a->kv.head_dim, &t);
    /* relaxed: the ticket only divides the work */
    for (;;) {
        uint32_t item = atomic_fetch_add_explicit(&job->stream->ticket, 1, memory_order_relaxed);
        if (!block_at(job, item / job->n_splits, &b))
            break;
        if (job->states)
            one_split(job, &b, item % job->n_splits, &t);
        else
            whole_block(job, &b, &t);
    }
    if (!job->states)
        return;
    hdl_team_barrier(job->stream->team, thread);
    for (uint32_t i = (uint32_t)thread; block_at(job, i, &b); i += (uint32_t)n_threads)
        merge_splits(job, &b);
}

/* Few blocks and long contexts: splits become items. */
static void cut_splits(attn_job *job)
{
    const hdl_attention_args *a = job->a;
    uint32_t n_blocks = 0, n_splits = 1;
    size_t rows = (size_t)a->n_tokens * a->n_heads;
    for (uint32_t r = 0; r < a->n_rows; r++) {
        uint32_t end = a->rows[r].pos + a->rows[r].n_tokens;
        n_blocks += blocks_of(job, &a->rows[r]);
        n_splits = hdl_max_u32(n_splits, hdl_div_ceil_u32(end, HDL_ATTN_SPLIT));
    }
    if (n_splits == 1 || n_blocks >= 4 * job->stream->n_threads || rows > SPLIT_ROWS_MAX)
        return;
    job->n_splits = n_splits;
    job->states = hdl_stream_take(job->stream, n_splits * rows,
                                  ((size_t)job->value_dim + 2) * sizeof *job->states);
}

void HDL_ISA_NAME(attention)(const hdl_attention_args *a, hdl_stream *stream)
{
    HDL_ASSERT_LE(a->kv.head_dim, HDL_HEAD_DIM_MAX);
    HDL_ASSERT_EQ(a->n_heads % a->kv.n_kv_heads, 0);
    if (a->kv.head_dim % HDL_LANES != 0 ||
        a->latent % HDL_LANES != 0) { /* no such model is known; the bits are the same */
        hdl_ref_attention(a, stream);
        return;
    }
    size_t mark = hdl_stream_mark(stream), keys = 0;
    attn_job job = {
        .a = a, .stream = stream, .value_dim = hdl_attention_value_dim(a), .n_splits = 1};
    job.heads_per_kv = a->n_heads / a->kv.n_kv_heads;
    job.heads_each = hdl_min_u32(job.heads_per_kv, HDL_ATTN_ROWS);
    job.n_head_parts = hdl_div_ceil_u32(job.heads_per_kv, job.heads_each);
    job.tokens_each = HDL_ATTN_ROWS / job.heads_each;
    cut_splits(&job);
    atomic_store_explicit(&stream->ticket, 0, memory_order_relaxed); /* the team starts after */
    for (uint32_t r = 0; r < a->n_rows; r++)
        keys += (size_t)a->rows[r].n_tokens * (a->rows[r].pos + a->rows[r].n_tokens);
    if (keys * a->n_heads * a->kv.head_dim < 1u << 14 && !job.states)
        attn_thread(&job, 0, 1);
    else
        hdl_team_run(stream->team, attn_thread, &job);
    hdl_stream_release(stream, mark);
}
