/* SPDX-License-Identifier: Apache-2.0 */
/* The online softmax of one query row over a tile, the same for every type of cache: inside of
 * attention_tile.c and attention_int8.c. */
#pragma once

#include "kernels/cpu/attention.h"

/* A row's numbers for the 32 keys of a tile. */
typedef struct hdl_attn_keys {
    v16 lo, hi;
} hdl_attn_keys;

/* `unseen` where row r does not see the key. */
V16_FN hdl_attn_keys hdl_attn_mask(const hdl_attn_tile *tile, uint32_t r, hdl_attn_keys x,
                                   float unseen)
{
    uint32_t lo = tile->lo[r], hi = tile->hi[r];
    v16 other = v16_set1(unseen);
    if (lo == 0 && hi == HDL_ATTN_TILE)
        return x;
    return (hdl_attn_keys){
        v16_where_lanes(hdl_min_u32(lo, 16), hdl_min_u32(hi, 16), x.lo, other),
        v16_where_lanes(hdl_max_u32(lo, 16) - 16, hdl_max_u32(hi, 16) - 16, x.hi, other)};
}

/* Scores of row r, in work->weight, become weights; max and sum move on; the output so far is
 * scaled to the new max. */
V16_FN hdl_attn_keys hdl_attn_soften(const hdl_attn_tile_args *a, uint32_t r)
{
    hdl_attn_state *s = a->state;
    const float *score = a->work->weight + (size_t)r * HDL_ATTN_TILE;
    hdl_attn_keys w = hdl_attn_mask(
        a->tile, r, (hdl_attn_keys){v16_load(score), v16_load(score + HDL_LANES)}, -INFINITY);
    float max = v16_fold_max(v16_max(w.lo, w.hi));
    max = max > s->max[r] ? max : s->max[r];
    w.lo = v16_exp_below(v16_sub(w.lo, v16_set1(max)));
    w.hi = v16_exp_below(v16_sub(w.hi, v16_set1(max)));
    /* Mostly the max stays. exp(0) is 1; of infinities it is a NaN. */
    bool stays = max == s->max[r] && max > -INFINITY;
    float keep = stays ? 1.0f : hdl_exp(s->max[r] - max);
    s->sum[r] = fmaf(s->sum[r], keep, v16_fold(v16_add(w.lo, w.hi)));
    s->max[r] = max;
    float *out = s->out + (size_t)r * a->value_dim;
    for (uint32_t d = 0; keep != 1.0f && d < a->value_dim; d += HDL_LANES)
        v16_store(out + d, v16_mul(v16_load(out + d), v16_set1(keep)));
    return w;
}
