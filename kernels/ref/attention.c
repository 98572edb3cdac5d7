/* SPDX-License-Identifier: Apache-2.0 */
/* Online softmax over tiles of keys at absolute positions (Dao et al. 2022, section 3.1; the split
 * over long contexts is flash-decoding). A query's result depends on its own position and the cache
 * alone: which tiles and splits there are follows from absolute positions, never from where a chunk
 * began. */
#include "base/assert.h"
#include "kernels/ref/ref.h"

/* Running softmax of one query head over some keys: max, sum of exp(s - max), weighted values. */
typedef struct softmax_state {
    float max, sum;
    float out[HDL_HEAD_DIM_MAX];
} softmax_state;

/* One query of one head and what it may see. */
typedef struct query {
    const hdl_attention_args *a;
    const hdl_attn_row *row;
    const float *q; /* [head_dim] */
    uint32_t head, kv_head, value_dim;
    uint32_t first, end; /* visible positions [first, end) */
} query;

static size_t kv_at(const query *u, uint32_t pos)
{
    const hdl_kv_view *kv = &u->a->kv;
    uint32_t block = u->row->table[pos / kv->block_tokens];
    HDL_ASSERT_LT(block, kv->n_blocks);
    return (((size_t)block * kv->n_kv_heads + u->kv_head) * kv->block_tokens +
            pos % kv->block_tokens) *
           kv->head_dim;
}

/* q.k in order of the dimension, one rounding each, then the scale and the cap. */
static float score(const query *u, uint32_t pos)
{
    const uint16_t *k = u->a->kv.k + kv_at(u, pos);
    float dot = 0;
    for (uint32_t i = 0; i < u->a->kv.head_dim; i++)
        dot = fmaf(u->q[i], hdl_bf16_to_f32(k[i]), dot);
    dot *= u->a->scale;
    return u->a->softcap != 0.0f ? hdl_softcap(dot, u->a->softcap) : dot;
}

/* Adds the visible keys of the tile at `tile` to the state. Key j goes to lane j % 16 of the sum
 * of weights; values are added in order of position. */
static void add_tile(const query *u, uint32_t tile, softmax_state *s)
{
    uint32_t from = hdl_max_u32(tile, u->first), to = hdl_min_u32(tile + HDL_ATTN_TILE, u->end);
    float weight[HDL_ATTN_TILE], lane[HDL_LANES] = {0}, max = s->max;
    for (uint32_t pos = from; pos < to; pos++) {
        weight[pos - tile] = score(u, pos);
        if (weight[pos - tile] > max)
            max = weight[pos - tile];
    }
    for (uint32_t pos = from; pos < to; pos++) {
        weight[pos - tile] = hdl_exp(weight[pos - tile] - max);
        lane[pos % HDL_LANES] += weight[pos - tile];
    }
    float keep = hdl_exp(s->max - max);
    s->max = max;
    s->sum = fmaf(s->sum, keep, hdl_lanes_fold(lane));
    for (uint32_t i = 0; i < u->value_dim; i++)
        s->out[i] *= keep;
    for (uint32_t pos = from; pos < to; pos++) {
        const uint16_t *v = (u->a->latent ? u->a->kv.k : u->a->kv.v) + kv_at(u, pos);
        for (uint32_t i = 0; i < u->value_dim; i++)
            s->out[i] = fmaf(weight[pos - tile], hdl_bf16_to_f32(v[i]), s->out[i]);
    }
}

/* Merges the softmax over later keys into the one over earlier keys. */
static void merge(softmax_state *s, const softmax_state *later, uint32_t value_dim)
{
    float max = later->max > s->max ? later->max : s->max;
    float keep = hdl_exp(s->max - max), add = hdl_exp(later->max - max);
    s->max = max;
    s->sum = fmaf(later->sum, add, s->sum * keep);
    for (uint32_t i = 0; i < value_dim; i++)
        s->out[i] = fmaf(later->out[i], add, s->out[i] * keep);
}

/* A logit that takes its part of the sum and brings no value. */
static void add_sink(softmax_state *s, float sink, uint32_t head_dim)
{
    float max = sink > s->max ? sink : s->max;
    float keep = hdl_exp(s->max - max);
    s->sum = fmaf(s->sum, keep, hdl_exp(sink - max));
    for (uint32_t i = 0; i < head_dim; i++)
        s->out[i] *= keep;
}

/* First position that the query at `end - 1` sees. */
static uint32_t first_seen(const hdl_attention_args *a, uint32_t end)
{
    uint32_t first = a->window && end > a->window ? end - a->window : 0;
    return a->chunk ? hdl_max_u32(first, (end - 1) / a->chunk * a->chunk) : first;
}

static void attend(const query *u, float *out)
{
    softmax_state all = {.max = -INFINITY}, part;
    uint32_t first_split = u->first / HDL_ATTN_SPLIT * HDL_ATTN_SPLIT;
    for (uint32_t split = first_split; split < u->end; split += HDL_ATTN_SPLIT) {
        uint32_t from = hdl_max_u32(split, u->first / HDL_ATTN_TILE * HDL_ATTN_TILE);
        part = (softmax_state){.max = -INFINITY};
        for (uint32_t tile = from; tile < hdl_min_u32(split + HDL_ATTN_SPLIT, u->end);
             tile += HDL_ATTN_TILE)
            add_tile(u, tile, &part);
        if (split == first_split)
            all = part;
        else
            merge(&all, &part, u->value_dim);
    }
    if (u->a->sinks)
        add_sink(&all, u->a->sinks[u->head], u->value_dim);
    for (uint32_t i = 0; i < u->value_dim; i++)
        out[i] = all.out[i] / all.sum;
}

/* Query heads of all tokens, flattened: item = token * n_heads + head of the row in `args`. */
typedef struct attn_job {
    const hdl_attention_args *a;
    const hdl_attn_row *row;
} attn_job;

static void query_heads(const void *args, size_t from, size_t to)
{
    const attn_job *job = args;
    const hdl_attention_args *a = job->a;
    for (size_t item = from; item < to; item++) {
        uint32_t idx = (uint32_t)(item / a->n_heads), head = (uint32_t)(item % a->n_heads);
        size_t at = (job->row->token_at + idx) * (size_t)a->n_heads + head;
        uint32_t end = job->row->pos + idx + 1;
        query u = {.a = a,
                   .row = job->row,
                   .q = a->q + at * a->kv.head_dim,
                   .head = head,
                   .value_dim = hdl_attention_value_dim(a),
                   .kv_head = head / (a->n_heads / a->kv.n_kv_heads),
                   .first = first_seen(a, end),
                   .end = end};
        attend(&u, a->out + at * u.value_dim);
    }
}

void hdl_ref_attention(const hdl_attention_args *a, hdl_stream *stream)
{
    HDL_ASSERT_LE(a->kv.head_dim, HDL_HEAD_DIM_MAX);
    HDL_ASSERT_EQ(a->n_heads % a->kv.n_kv_heads, 0);
    HDL_ASSERT_LE(a->latent, a->kv.head_dim);
    for (uint32_t r = 0; r < a->n_rows; r++) {
        attn_job job = {.a = a, .row = &a->rows[r]};
        hdl_stream_for(stream, (size_t)a->rows[r].n_tokens * a->n_heads, 1, query_heads, &job);
    }
}
