/* SPDX-License-Identifier: Apache-2.0 */
/* Latent attention before its absorbed product: of each token one cache row [rank + rope_dim] (the
 * first part normed, the last rotated), of each query head the rotated part behind the place of its
 * product.
 *
 * A warp for the cache row and one for each query head. Roof: memory. Limits: rank + rope_dim <=
 * HDL_HEAD_DIM_MAX. Bits: as ref. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/kv_store.h"

enum { HEADS = 8 }; /* warps of a block */

/* Pair i of x [rope_dim], turned. */
struct turned {
    uint32_t first, second;
    float lo, hi;
};
GPU_DEVICE turned turn(const hdl_latent_rope_args *a, uint32_t pos, const float *x, uint32_t i)
{
    uint32_t half = a->rope_dim / 2;
    size_t at = (size_t)pos * half + i;
    turned t;
    t.first = a->interleaved ? 2 * i : i;
    t.second = t.first + (a->interleaved ? 1 : half);
    float lo = x[t.first], hi = x[t.second];
    t.lo = lo * a->rope_cos[at] - hi * a->rope_sin[at];
    t.hi = hi * a->rope_cos[at] + lo * a->rope_sin[at];
    return t;
}

GPU_DEVICE void store_row(const hdl_latent_rope_args *a, const hdl_attn_row *row, uint32_t pos,
                          const float *kv)
{
    float *key = gpu_shared<float>(); /* one warp of a block comes here */
    float scale = warp_rms_scale(kv, a->rank, a->norm_eps);
    for (uint32_t i = gpu_lane(); i < a->rank; i += GPU_WARP)
        key[i] = kv[i] * scale * a->kv_norm[i];
    for (uint32_t i = gpu_lane(); i < a->rope_dim / 2; i += GPU_WARP) {
        turned t = turn(a, pos, kv + a->rank, i);
        key[a->rank + t.first] = t.lo;
        key[a->rank + t.second] = t.hi;
    }
    gpu_warp_sync();
    kv_store(&a->kv_cache, kv_place_of(&a->kv_cache, row, pos, 0), key);
}

GPU_KERNEL(256) latent_rope(hdl_latent_rope_args a)
{
    uint32_t token = gpu_block_x(), item = gpu_block_y() * HEADS + gpu_warp();
    if (item > a.n_heads)
        return;
    const hdl_attn_row *row = row_of_token(a.rows, a.n_rows, token);
    if (row->n_tokens == 0)
        return; /* padding */
    uint32_t pos = row->pos + token - row->token_at, dim = a.nope_dim + a.rope_dim;
    if (item == a.n_heads) {
        store_row(&a, row, pos, a.kv + token * a.kv_stride);
        return;
    }
    float *q = a.q + token * a.q_stride + (size_t)item * dim;
    float *out = a.q_latent + ((size_t)token * a.n_heads + item) * a.kv_cache.head_dim + a.rank;
    for (uint32_t i = gpu_lane(); a.q_scale && i < dim; i += GPU_WARP)
        q[i] *= a.q_scale[pos];
    gpu_warp_sync();
    for (uint32_t i = gpu_lane(); i < a.rope_dim / 2; i += GPU_WARP) {
        turned t = turn(&a, pos, q + a.nope_dim, i);
        out[t.first] = t.lo;
        out[t.second] = t.hi;
    }
}

void hdl_cuda_latent_rope(const hdl_latent_rope_args *a, hdl_stream *stream)
{
    gpu_grid g;
    HDL_ASSERT_LE(a->kv_cache.head_dim, HDL_HEAD_DIM_MAX);
    HDL_ASSERT_EQ(a->kv_cache.head_dim, a->rank + a->rope_dim);
    HDL_ASSERT_EQ(a->kv_cache.n_kv_heads, 1);
    HDL_ASSERT(a->kv_cache.type != HDL_KV_INT8);
    g.x = a->n_tokens;
    g.y = gpu_div_up(a->n_heads + 1, HEADS);
    g.threads = HEADS * GPU_WARP;
    g.shared = a->kv_cache.head_dim * sizeof(float);
    GPU_LAUNCH(stream, g, latent_rope, *a);
}
