/* SPDX-License-Identifier: Apache-2.0 */
/* Splits qkv, norms and rotates heads of q and k, stores q (f32) and k, v (into the cache, as its
 * type has them: kv_store.h).
 *
 * A warp for each head of a token: q heads, then k heads, then v heads; the head waits in shared
 * memory between norm, rotation and the norm after it. Roof: memory, about 4 bytes read and 2 to 4
 * written a number; the launch itself in decode. Limits: head_dim <= HDL_HEAD_DIM_MAX. Bits: as
 * ref, sums of squares are in lane order. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/kv_store.h"

enum { HEADS = 8 }; /* of a block */

/* Norm (w not NULL), rotation, norm after it: x [head_dim] in shared memory, in place. */
GPU_DEVICE void turn_head(const hdl_qkv_rope_args *a, const float *w, uint32_t pos, float *x)
{
    uint32_t dim = a->kv.head_dim, half = a->rope_dim / 2, lane = gpu_lane();
    if (w) {
        float scale = warp_rms_scale(x, dim, a->norm_eps);
        for (uint32_t i = lane; i < dim; i += GPU_WARP)
            x[i] = x[i] * scale * w[i];
        gpu_warp_sync();
    }
    const float *cosine = a->rope_cos + (size_t)pos * half,
                *sine = a->rope_sin + (size_t)pos * half;
    for (uint32_t i = lane; i < half; i += GPU_WARP) {
        uint32_t first = a->interleaved ? 2 * i : i, second = first + (a->interleaved ? 1 : half);
        float lo = x[first], hi = x[second];
        x[first] = lo * cosine[i] - hi * sine[i];
        x[second] = hi * cosine[i] + lo * sine[i];
    }
    gpu_warp_sync();
    if (a->l2_after) {
        float scale = warp_rms_scale(x, dim, a->norm_eps);
        for (uint32_t i = lane; i < dim; i += GPU_WARP)
            x[i] *= scale;
        gpu_warp_sync();
    }
}

GPU_KERNEL(256) qkv_rope(hdl_qkv_rope_args a)
{
    uint32_t token = gpu_block_x(), dim = a.kv.head_dim, n_kv = a.kv.n_kv_heads, lane = gpu_lane();
    uint32_t head = gpu_block_y() * HEADS + gpu_warp();
    if (head >= a.n_heads + 2 * n_kv)
        return;
    const hdl_attn_row *row = row_of_token(a.rows, a.n_rows, token);
    if (row->n_tokens == 0)
        return; /* padding */
    uint32_t pos = row->pos + token - row->token_at;
    const float *from = a.qkv + token * a.qkv_stride + (size_t)head * dim;
    float *x = gpu_shared<float>() + (size_t)gpu_warp() * dim;
    for (uint32_t i = lane; i < dim; i += GPU_WARP)
        x[i] = from[i];
    gpu_warp_sync();
    if (head < a.n_heads) {
        turn_head(&a, a.q_norm, pos, x);
        float scale = a.q_scale ? a.q_scale[pos] : 1.0f,
              *q = a.q + ((size_t)token * a.n_heads + head) * dim;
        for (uint32_t i = lane; i < dim; i += GPU_WARP)
            q[i] = a.q_scale ? x[i] * scale : x[i];
        return;
    }
    bool is_key = head < a.n_heads + n_kv;
    if (is_key)
        turn_head(&a, a.k_norm, pos, x);
    kv_place_at to = kv_place_of(&a.kv, row, pos, head - a.n_heads - (is_key ? 0 : n_kv));
    to.is_key = is_key;
    kv_store(&a.kv, to, x);
}

void hdl_cuda_qkv_rope(const hdl_qkv_rope_args *a, hdl_stream *stream)
{
    hdl_qkv_rope_args b = *a;
    gpu_grid g;
    uint32_t n_heads = a->n_heads + 2 * a->kv.n_kv_heads;
    HDL_ASSERT_LE(a->kv.head_dim, HDL_HEAD_DIM_MAX);
    HDL_ASSERT(a->kv.type == HDL_KV_BF16 || a->kv.block_tokens % HDL_ATTN_TILE == 0);
    b.qkv_stride = a->qkv_stride ? a->qkv_stride : (size_t)n_heads * a->kv.head_dim;
    g.x = a->n_tokens;
    g.y = gpu_div_up(n_heads, HEADS);
    g.threads = HEADS * GPU_WARP;
    g.shared = HEADS * (size_t)a->kv.head_dim * sizeof(float);
    GPU_LAUNCH(stream, g, qkv_rope, b);
}
