/* SPDX-License-Identifier: Apache-2.0 */
/* Online softmax over tiles of keys at absolute positions (Dao et al. 2022, section 3.1; the split
 * over long contexts is flash-decoding). A query's result depends on its own position and the cache
 * alone: which tiles and splits there are follows from absolute positions, never from where a chunk
 * began. */
#include "base/assert.h"
#include "kernels/kv_fp8.h"
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
    /* INT8: q = q8 * q_step, about */
    int16_t q8[HDL_HEAD_DIM_MAX];
    float q_step;
} query;

/* Where a position lies in the cache: bf16, then INT8 and FP8. */
static size_t kv_at(const query *u, uint32_t pos)
{
    const hdl_kv_view *kv = &u->a->kv;
    uint32_t block = u->row->table[pos / kv->block_tokens];
    HDL_ASSERT_LT(block, kv->n_blocks);
    return (((size_t)block * kv->n_kv_heads + u->kv_head) * kv->block_tokens +
            pos % kv->block_tokens) *
           kv->head_dim;
}

static size_t kv8_at(const query *u, uint32_t pos)
{
    const hdl_kv_view *kv = &u->a->kv;
    uint32_t block = u->row->table[pos / kv->block_tokens];
    HDL_ASSERT_LT(block, kv->n_blocks);
    return hdl_kv8_tile_at(kv, block, u->kv_head, pos % kv->block_tokens);
}

static float scale_at(const unsigned char *tile, uint32_t dim, uint32_t pos)
{
    float scale;
    memcpy(&scale, tile + hdl_kv8_scale_at(dim, pos), sizeof scale);
    return scale;
}

/* The key of a position as bf16, or with is_value its value; FP8 becomes bf16 in `room`. */
static const uint16_t *row_at(const query *u, uint32_t pos, bool is_value, uint16_t *room)
{
    const hdl_kv_view *kv = &u->a->kv;
    is_value = is_value && !u->a->latent;
    if (kv->type == HDL_KV_BF16)
        return (is_value ? kv->v : kv->k) + kv_at(u, pos);
    hdl_fp8_load_row((is_value ? kv->v8 : kv->k8) + kv8_at(u, pos), kv->head_dim, pos, room);
    return room;
}

/* q.k in order of the dimension, one rounding each. */
static float dot_bf16(const query *u, uint32_t pos)
{
    uint16_t room[HDL_HEAD_DIM_MAX];
    const uint16_t *k = row_at(u, pos, false, room);
    float dot = 0;
    for (uint32_t i = 0; i < u->a->kv.head_dim; i++)
        dot = fmaf(u->q[i], hdl_bf16_to_f32(k[i]), dot);
    return dot * u->a->scale;
}

static float dot_int8(const query *u, uint32_t pos)
{
    const unsigned char *tile = u->a->kv.k8 + kv8_at(u, pos);
    int32_t dot = 0;
    for (uint32_t i = 0; i < u->a->kv.head_dim; i++)
        dot += u->q8[i] * (int8_t)tile[hdl_kv8_k_at(pos, i)];
    return (float)dot * (u->q_step * u->a->scale) * scale_at(tile, u->a->kv.head_dim, pos);
}

static float score(const query *u, uint32_t pos)
{
    float dot = u->a->kv.type == HDL_KV_INT8 ? dot_int8(u, pos) : dot_bf16(u, pos);
    return u->a->softcap != 0.0f ? hdl_softcap(dot, u->a->softcap) : dot;
}

static void make_q8(query *u)
{
    float max = 0;
    for (uint32_t i = 0; i < u->a->kv.head_dim; i++)
        max = hdl_absmax(max, u->q[i]);
    hdl_fixed fixed = hdl_fixed_of(hdl_f32_bits(max), HDL_FIXED_Q_BITS);
    for (uint32_t i = 0; i < u->a->kv.head_dim; i++)
        u->q8[i] = hdl_fixed_round(u->q[i], fixed.to);
    u->q_step = fixed.from;
}

/* A tile's part of the keys that a query sees, with exp(score - max) of each. */
typedef struct weights {
    uint32_t from, to;
    float of[HDL_ATTN_TILE];
} weights;

static void add_values_bf16(const query *u, const weights *w, float *out)
{
    uint16_t room[HDL_HEAD_DIM_MAX];
    for (uint32_t pos = w->from; pos < w->to; pos++) {
        const uint16_t *v = row_at(u, pos, true, room);
        for (uint32_t i = 0; i < u->value_dim; i++)
            out[i] = fmaf(w->of[pos % HDL_ATTN_TILE], hdl_bf16_to_f32(v[i]), out[i]);
    }
}

static void add_values_int8(const query *u, const weights *w, float *out)
{
    const unsigned char *tile = u->a->kv.v8 + kv8_at(u, w->from);
    float max = 0, weight[HDL_ATTN_TILE];
    for (uint32_t pos = w->from; pos < w->to; pos++) {
        uint32_t j = pos % HDL_ATTN_TILE;
        weight[j] = w->of[j] * scale_at(tile, u->value_dim, pos);
        max = hdl_absmax(max, weight[j]);
    }
    hdl_fixed fixed = hdl_fixed_of(hdl_f32_bits(max), HDL_FIXED_WEIGHT_BITS);
    for (uint32_t i = 0; i < u->value_dim; i++) {
        int32_t dot = 0;
        for (uint32_t pos = w->from; pos < w->to; pos++)
            dot += hdl_fixed_round(weight[pos % HDL_ATTN_TILE], fixed.to) *
                   (int8_t)tile[hdl_kv8_v_at(u->value_dim, pos, i)];
        out[i] = fmaf((float)dot, fixed.from, out[i]);
    }
}

/* Adds the visible keys of the tile at `tile` to the state. Key j goes to lane j % 16 of the sum
 * of weights; values are added in order of position. */
static void add_tile(const query *u, uint32_t tile, softmax_state *s)
{
    weights w = {hdl_max_u32(tile, u->first), hdl_min_u32(tile + HDL_ATTN_TILE, u->end), {0}};
    float lane[HDL_LANES] = {0}, max = s->max;
    for (uint32_t pos = w.from; pos < w.to; pos++) {
        w.of[pos - tile] = score(u, pos);
        if (w.of[pos - tile] > max)
            max = w.of[pos - tile];
    }
    for (uint32_t pos = w.from; pos < w.to; pos++) {
        w.of[pos - tile] = hdl_exp(w.of[pos - tile] - max);
        lane[pos % HDL_LANES] += w.of[pos - tile];
    }
    float keep = hdl_exp(s->max - max);
    s->max = max;
    s->sum = fmaf(s->sum, keep, hdl_lanes_fold(lane));
    for (uint32_t i = 0; i < u->value_dim; i++)
        s->out[i] *= keep;
    if (u->a->kv.type == HDL_KV_INT8)
        add_values_int8(u, &w, s->out);
    else
        add_values_bf16(u, &w, s->out);
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
        if (a->kv.type == HDL_KV_INT8)
            make_q8(&u);
        attend(&u, a->out + at * u.value_dim);
    }
}

void hdl_ref_attention(const hdl_attention_args *a, hdl_stream *stream)
{
    HDL_ASSERT_LE(a->kv.head_dim, HDL_HEAD_DIM_MAX);
    HDL_ASSERT_EQ(a->n_heads % a->kv.n_kv_heads, 0);
    HDL_ASSERT_LE(a->latent, a->kv.head_dim);
    if (a->kv.type == HDL_KV_INT8)
        HDL_ASSERT(a->latent == 0 && a->kv.head_dim % 2 == 0);
    HDL_ASSERT(a->kv.type == HDL_KV_BF16 || a->kv.block_tokens % HDL_ATTN_TILE == 0);
    for (uint32_t r = 0; r < a->n_rows; r++) {
        attn_job job = {.a = a, .row = &a->rows[r]};
        hdl_stream_for(stream, (size_t)a->rows[r].n_tokens * a->n_heads, 1, query_heads, &job);
    }
}
