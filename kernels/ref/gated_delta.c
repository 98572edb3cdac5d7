/* SPDX-License-Identifier: Apache-2.0 */
#include "base/assert.h"
#include "kernels/ref/ref.h"

/* One token of one v head. */
typedef struct delta_token {
    const float *q, *k; /* [k_dim] */
    const float *v, *z; /* [v_dim] */
    float *out;         /* [v_dim] */
    float decay, beta;
} delta_token;

static delta_token token_at(const hdl_gated_delta_args *a, size_t token, uint32_t head)
{
    uint32_t k_head = head / (a->n_v_heads / a->n_k_heads), keys = a->n_k_heads * a->k_dim;
    const float *qkv = a->qkv + token * ((size_t)2 * keys + (size_t)a->n_v_heads * a->v_dim);
    const float *ba = a->ba + token * 2 * a->n_v_heads;
    return (delta_token){
        .q = qkv + (size_t)k_head * a->k_dim,
        .k = qkv + keys + (size_t)k_head * a->k_dim,
        .v = qkv + (size_t)2 * keys + (size_t)head * a->v_dim,
        .z = a->z + token * a->z_stride + (size_t)head * a->v_dim,
        .out = a->out + (token * a->n_v_heads + head) * a->v_dim,
        .decay = hdl_gdn_decay(a->a_log[head], ba[a->n_v_heads + head] + a->dt_bias[head]),
        .beta = hdl_sigmoid(ba[head])};
}

/* Value j of the state: column j of S. */
static float step_column(const hdl_gated_delta_args *a, const delta_token *t, float *s, uint32_t j)
{
    float seen = 0, sum = 0;
    for (uint32_t i = 0; i < a->k_dim; i++)
        seen = fmaf(s[i * a->v_dim + j] * t->decay, t->k[i], seen);
    float d = (t->v[j] - seen) * t->beta;
    for (uint32_t i = 0; i < a->k_dim; i++) {
        float *at = &s[i * a->v_dim + j];
        *at = fmaf(t->k[i], d, *at * t->decay);
        sum = fmaf(*at, t->q[i], sum);
    }
    return sum;
}

/* Item: a v head of a row. */
static void delta_heads(const void *args, size_t from, size_t to)
{
    const hdl_gated_delta_args *a = args;
    size_t head_floats = (size_t)a->k_dim * a->v_dim;
    for (size_t item = from; item < to; item++) {
        const hdl_attn_row *row = &a->rows[item / a->n_v_heads];
        uint32_t head = (uint32_t)(item % a->n_v_heads);
        HDL_ASSERT_LT(row->table[0], a->state.n_entries);
        float *s = a->state.data + row->table[0] * a->state.entry_floats + head * head_floats;
        if (row->pos == 0)
            memset(s, 0, head_floats * sizeof *s);
        for (uint32_t i = 0; i < row->n_tokens; i++) {
            delta_token t = token_at(a, row->token_at + i, head);
            for (uint32_t j = 0; j < a->v_dim; j++)
                t.out[j] = step_column(a, &t, s, j);
            float scale = hdl_rms_scale(t.out, a->v_dim, a->norm_eps);
            for (uint32_t j = 0; j < a->v_dim; j++)
                t.out[j] = t.out[j] * scale * a->norm[j] * hdl_silu(t.z[j]);
        }
    }
}

void hdl_ref_gated_delta(const hdl_gated_delta_args *a, hdl_stream *stream)
{
    HDL_ASSERT_EQ(a->n_v_heads % a->n_k_heads, 0);
    hdl_stream_for(stream, (size_t)a->n_rows * a->n_v_heads, 1, delta_heads, a);
}
