/* SPDX-License-Identifier: Apache-2.0 */
/* F32 weights in the matrix engine: a warp for each output, lanes across k, for routers and other
 * small matrices. Rows of x are taken four at a time against the same weights. Inside a part each
 * lane walks every 32nd column with fma, lanes meet by gpu_add. Roof: memory for a few rows; f32
 * arithmetic else (it is not meant for large ones). Bits: another order than ref's, within (k + 4)
 * 2^-24 of the sum of magnitudes. */
#include "kernels/cuda/matmul_tile.h"

enum { ROWS_AT_ONCE = 4 };

GPU_KERNEL(256) mm_f32(mm_args a)
{
    mm_place p = mm_place_of(&a);
    uint32_t out = gpu_block_x() * MM_WARPS + gpu_warp();
    if (!p.is_there || out >= a.n)
        return;
    const unsigned char *data = a.w ? (const unsigned char *)a.w[p.matrix].data : a.data;
    const float *w = (const float *)(data + out * a.layout.row_bytes);
    for (uint32_t at = 0; at < a.tile_rows; at += ROWS_AT_ONCE) {
        leaf_stack<WEIGHT_TREE_LEVELS> tree[ROWS_AT_ONCE] = {};
        for (uint32_t part = 0; part < a.n_parts; part++) {
            float sum[ROWS_AT_ONCE] = {0, 0, 0, 0};
            for (uint32_t step = part * a.part_steps; step < (part + 1) * a.part_steps; step++) {
                float value = w[step * WEIGHT_STEP + gpu_lane()];
                GPU_UNROLL
                for (uint32_t i = 0; i < ROWS_AT_ONCE; i++) {
                    const float *x = (const float *)(a.x.data + (p.x_row + at + i) * a.x.row_bytes);
                    sum[i] = fmaf(x[step * WEIGHT_STEP + gpu_lane()], value, sum[i]);
                }
            }
            GPU_UNROLL
            for (uint32_t i = 0; i < ROWS_AT_ONCE; i++)
                leaf_push(&tree[i], gpu_add(sum[i]));
        }
        GPU_UNROLL
        for (uint32_t i = 0; i < ROWS_AT_ONCE; i++)
            if (gpu_lane() == 0)
                mm_store(&a, &p, out, at + i, tree[i].total);
    }
}

void mm_launch_f32(const mm_args *a, hdl_stream *stream)
{
    gpu_grid g;
    g.threads = MM_WARPS * GPU_WARP;
    g.x = gpu_div_up(a->n, MM_WARPS);
    g.y = a->n_token_tiles;
    g.z = a->n_groups;
    GPU_LAUNCH(stream, g, mm_f32, *a);
}
