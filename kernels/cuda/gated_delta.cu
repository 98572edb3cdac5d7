/* SPDX-License-Identifier: Apache-2.0 */
/* The recurrence of Gated DeltaNet: a block for each v head of each row, which walks the row's
 * tokens in order; then norm and gate of all heads of all tokens in a launch of their own, so that
 * nothing but the recurrence waits for the token before.
 *
 * Thread j owns column j of the state, S[i][j], and its sums over i are fma in order, as ops.h
 * says. k_dim and v_dim 128 (what models have): the column lies in registers for the whole row, k
 * and q of the next token are copied to shared memory meanwhile; other sizes keep the column in
 * global memory, where caches hold it. Limits: v_dim <= 1024, k_dim <= 4096.
 *
 * Roof: one token: memory, the state read and written once. Many: the two chains of k_dim fma of a
 * token, some 8 k_dim cycles whatever the width, times the tokens of the longest row. Bits: ref's.
 */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/warp.h"

enum {
    HELD = 128,
    K_MAX = CUDA_GDN_K_MAX,
    NORM_THREADS = 256,
    NORM_HEADS = NORM_THREADS / HDL_LANES
};

GPU_DEVICE const float *q_of(const hdl_gated_delta_args *a, size_t token, uint32_t head)
{
    size_t channels = 2 * a->n_k_heads * a->k_dim + a->n_v_heads * a->v_dim;
    return a->qkv + token * channels + head / (a->n_v_heads / a->n_k_heads) * a->k_dim;
}

/* What a token brings to one head, but for q and k. */
struct delta_token {
    float v, decay, beta;
};

GPU_DEVICE delta_token token_at(const hdl_gated_delta_args *a, size_t token, uint32_t head,
                                uint32_t j)
{
    size_t keys = 2 * a->n_k_heads * a->k_dim, channels = keys + a->n_v_heads * a->v_dim;
    const float *ba = a->ba + token * 2 * a->n_v_heads;
    return {a->qkv[token * channels + keys + head * a->v_dim + j],
            hdl_gdn_decay(a->a_log[head], ba[a->n_v_heads + head] + a->dt_bias[head]),
            hdl_sigmoid(ba[head])};
}

/* One token of a column that lies in registers; k and q are shared memory. The warp meets now and
 * then, so that the compiler does not fetch all of k and q before it uses any. */
GPU_DEVICE float step_held(float s[HELD], const float *k, const float *q, const delta_token &t)
{
    float seen = 0, sum = 0;
    GPU_UNROLL
    for (int i = 0; i < HELD; i += 4) {
        gpu_f4 k4 = *(const gpu_f4 *)(k + i);
        GPU_UNROLL
        for (int e = 0; e < 4; e++) {
            s[i + e] *= t.decay;
            seen = fmaf(s[i + e], k4.v[e], seen);
        }
        if (i % 16 == 12)
            gpu_warp_sync();
    }
    float d = (t.v - seen) * t.beta;
    GPU_UNROLL
    for (int i = 0; i < HELD; i += 4) {
        gpu_f4 k4 = *(const gpu_f4 *)(k + i), q4 = *(const gpu_f4 *)(q + i);
        GPU_UNROLL
        for (int e = 0; e < 4; e++) {
            s[i + e] = fmaf(k4.v[e], d, s[i + e]);
            sum = fmaf(s[i + e], q4.v[e], sum);
        }
        if (i % 16 == 12)
            gpu_warp_sync();
    }
    return sum;
}

/* The same where the column's value i is s[i * stride]. */
GPU_DEVICE float step_far(float *s, const hdl_gated_delta_args *a, const float *k, const float *q,
                          const delta_token &t)
{
    float seen = 0, sum = 0;
    for (uint32_t i = 0; i < a->k_dim; i++)
        seen = fmaf(s[i * a->v_dim] * t.decay, k[i], seen);
    float d = (t.v - seen) * t.beta;
    for (uint32_t i = 0; i < a->k_dim; i++) {
        float now = fmaf(k[i], d, s[i * a->v_dim] * t.decay);
        s[i * a->v_dim] = now;
        sum = fmaf(now, q[i], sum);
    }
    return sum;
}

/* q, then k of a token into shared memory, or on the way there. */
template <bool is_async>
GPU_DEVICE void fetch(const hdl_gated_delta_args *a, size_t token, uint32_t head, float *to)
{
    const float *q = q_of(a, token, head), *k = q + a->n_k_heads * a->k_dim;
    uint32_t unit = is_async ? 4 : 1;
    for (uint32_t i = gpu_thread() * unit; i < 2 * a->k_dim; i += gpu_threads() * unit) {
        const float *from = i < a->k_dim ? q + i : k + (i - a->k_dim);
        if constexpr (is_async)
            gpu_copy_async(to + i, from);
        else
            to[i] = *from;
    }
    if (is_async)
        gpu_copy_commit();
}

/* This thread's column of the row's state; threads beyond v_dim look at the first one. */
GPU_DEVICE float *column_of(const hdl_gated_delta_args *a, const hdl_attn_row *row)
{
    float *state = a->state.data + row->table[0] * a->state.entry_floats;
    uint32_t j = gpu_thread() < a->v_dim ? gpu_thread() : 0;
    return state + (size_t)gpu_block_x() * a->k_dim * a->v_dim + j;
}

/* out becomes what the recurrence gives, before norm and gate. */
GPU_KERNEL(HELD) delta_held(hdl_gated_delta_args a)
{
    const hdl_attn_row *row = &a.rows[gpu_block_y()];
    if (row->n_tokens == 0)
        return; /* padding */
    uint32_t head = gpu_block_x(), j = gpu_thread();
    size_t token = row->token_at, end = token + row->n_tokens;
    float *state = column_of(&a, row), *shared = gpu_shared<float>(), s[HELD];
    fetch<true>(&a, token, head, shared);
    GPU_UNROLL
    for (int i = 0; i < HELD; i++)
        s[i] = row->pos == 0 ? 0.0f : state[i * HELD];
    for (uint32_t turn = 0; token < end; token++, turn ^= 1) {
        const float *q = shared + turn * 2 * HELD;
        delta_token t = token_at(&a, token, head, j);
        gpu_copy_wait<0>();
        gpu_sync(); /* and the token before is done with the other half */
        if (token + 1 < end)
            fetch<true>(&a, token + 1, head, shared + (turn ^ 1) * 2 * HELD);
        a.out[(token * a.n_v_heads + head) * HELD + j] = step_held(s, q + HELD, q, t);
    }
    GPU_UNROLL
    for (int i = 0; i < HELD; i++)
        state[i * HELD] = s[i];
}

GPU_KERNEL(1024) delta_far(hdl_gated_delta_args a)
{
    const hdl_attn_row *row = &a.rows[gpu_block_y()];
    if (row->n_tokens == 0)
        return; /* padding */
    uint32_t head = gpu_block_x(), j = gpu_thread();
    bool mine = j < a.v_dim;
    float *state = column_of(&a, row), *q = gpu_shared<float>();
    for (uint32_t i = 0; row->pos == 0 && mine && i < a.k_dim; i++)
        state[i * a.v_dim] = 0;
    for (size_t token = row->token_at; token < row->token_at + row->n_tokens; token++) {
        delta_token t = token_at(&a, token, head, mine ? j : 0);
        gpu_sync(); /* the token before is done with q and k */
        fetch<false>(&a, token, head, q);
        gpu_sync();
        if (mine)
            a.out[(token * a.n_v_heads + head) * a.v_dim + j] =
                step_far(state, &a, q + a.k_dim, q, t);
    }
}

/* Half a warp for each head of each token. */
GPU_KERNEL(NORM_THREADS) delta_norm(hdl_gated_delta_args a)
{
    size_t token = gpu_block_x();
    uint32_t head = gpu_block_y() * NORM_HEADS + gpu_thread() / HDL_LANES;
    uint32_t lane = gpu_thread() % HDL_LANES, width = head < a.n_v_heads ? a.v_dim : 0;
    float *out = a.out + (token * a.n_v_heads + head) * a.v_dim, squares = 0;
    const float *z = a.z + token * a.z_stride + (size_t)head * a.v_dim;
    for (uint32_t j = lane; j < width; j += HDL_LANES)
        squares += out[j] * out[j];
    for (uint32_t half = HDL_LANES / 2; half > 0; half /= 2) /* hdl_lanes_fold */
        squares += gpu_shfl_xor(squares, half);
    float scale = hdl_rms_scale_of(squares, a.v_dim, a.norm_eps);
    for (uint32_t j = lane; j < width; j += HDL_LANES)
        out[j] = out[j] * scale * a.norm[j] * hdl_silu(z[j]);
}

void hdl_cuda_gated_delta(const hdl_gated_delta_args *a, hdl_stream *stream)
{
    gpu_grid g;
    HDL_ASSERT_EQ(a->n_v_heads % a->n_k_heads, 0);
    HDL_ASSERT(a->v_dim <= CUDA_GDN_V_MAX && a->k_dim <= K_MAX);
    bool held = a->k_dim == HELD && a->v_dim == HELD && (uintptr_t)a->qkv % 16 == 0;
    g.x = a->n_v_heads;
    g.y = a->n_rows;
    g.threads = (a->v_dim + GPU_WARP - 1) / GPU_WARP * GPU_WARP;
    g.shared = (held ? 4 : 2) * (size_t)a->k_dim * sizeof(float);
    if (held)
        GPU_LAUNCH(stream, g, delta_held, *a);
    else
        GPU_LAUNCH(stream, g, delta_far, *a);
    g.x = a->n_tokens;
    g.y = gpu_div_up(a->n_v_heads, NORM_HEADS);
    g.threads = NORM_THREADS;
    g.shared = 0;
    GPU_LAUNCH(stream, g, delta_norm, *a);
}
