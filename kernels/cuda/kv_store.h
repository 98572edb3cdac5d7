/* SPDX-License-Identifier: Apache-2.0 */
/* One head's key, or its value, into the cache, as the cache's type has it (kv.h): by a warp, from
 * shared memory. Bits: as ref, whose largest value and codes are a number's own. */
#pragma once

#include "kernels/cuda/warp.h"
#include "kernels/kv_fp8.h"

/* Bits of the largest |x|; a NaN is larger than all. All lanes get them. */
GPU_DEVICE uint32_t warp_absmax_bits(const float *x, uint32_t dim)
{
    uint32_t max = 0;
    for (uint32_t i = gpu_lane(); i < dim; i += GPU_WARP)
        max = hdl_max_u32(max, hdl_f32_bits(x[i]) & 0x7fffffffu);
    for (uint32_t mask = GPU_WARP / 2; mask > 0; mask /= 2)
        max = hdl_max_u32(max, gpu_shfl_xor(max, mask));
    return max;
}

struct kv_place_at {
    uint32_t block, head, at; /* at: token of the block */
    bool is_key;
};

GPU_DEVICE void kv_store_int8(const hdl_kv_view *kv, kv_place_at p, const float *x)
{
    uint32_t dim = kv->head_dim;
    unsigned char *tile = (p.is_key ? kv->k8 : kv->v8) + hdl_kv8_tile_at(kv, p.block, p.head, p.at);
    float scale = hdl_f32_from_bits(warp_absmax_bits(x, dim)) / 127.0f;
    for (uint32_t i = gpu_lane(); i < dim; i += GPU_WARP) {
        size_t at = p.is_key ? hdl_kv8_k_at(p.at, i) : hdl_kv8_v_at(dim, p.at, i);
        tile[at] = (unsigned char)hdl_q8_round(x[i], scale);
    }
    if (gpu_lane() == 0)
        *(float *)(tile + hdl_kv8_scale_at(dim, p.at)) = scale;
}

GPU_DEVICE void kv_store_fp8(const hdl_kv_view *kv, kv_place_at p, const float *x)
{
    uint32_t dim = kv->head_dim;
    unsigned char *tile = (p.is_key ? kv->k8 : kv->v8) + hdl_kv8_tile_at(kv, p.block, p.head, p.at);
    hdl_fp8_scale scale = hdl_fp8_scale_of(warp_absmax_bits(x, dim));
    for (uint32_t i = gpu_lane(); i < dim; i += GPU_WARP)
        tile[hdl_kv8_row_at(dim, p.at) + i] = hdl_e4m3_from_f32(x[i] * scale.to);
    if (gpu_lane() == 0)
        *(float *)(tile + hdl_kv8_scale_at(dim, p.at)) = scale.from;
}

GPU_DEVICE void kv_store(const hdl_kv_view *kv, kv_place_at p, const float *x)
{
    if (kv->type == HDL_KV_INT8) {
        kv_store_int8(kv, p, x);
    } else if (kv->type == HDL_KV_FP8) {
        kv_store_fp8(kv, p, x);
    } else {
        size_t row = ((size_t)p.block * kv->n_kv_heads + p.head) * kv->block_tokens + p.at;
        uint16_t *to = (p.is_key ? kv->k : kv->v) + row * kv->head_dim;
        for (uint32_t i = gpu_lane(); i < kv->head_dim; i += GPU_WARP)
            to[i] = hdl_bf16_from_f32(x[i]);
    }
}

/* Where the token at a position lies. */
GPU_DEVICE kv_place_at kv_place_of(const hdl_kv_view *kv, const hdl_attn_row *row, uint32_t pos,
                                   uint32_t head)
{
    return {row->table[pos / kv->block_tokens], head, pos % kv->block_tokens, true};
}
