/* SPDX-License-Identifier: Apache-2.0 */
/* The kernels of the matrix engine for formats that use mma, over a format F (matmul_<format>.cu):
 *
 *   struct F { static void walk(const mm_lane *l, uint32_t from, uint32_t to, float
 * (&acc)[tiles][4]) }
 *
 * adds steps [from, to) of k to 16 outputs by 8 rows of x, tiles times, in order of k. Outputs are
 * the rows of the mma (weights are its first operand), so that decode streams weights at full width
 * and wastes only arithmetic; lane (g, t) = (lane / 4, lane % 4) reads weight rows g and g + 8 and
 * row g of each tile of x, and holds outputs g, g + 8 of rows 2 t and 2 t + 1.
 *
 * few: a tile of x of at most 32 rows; warps_k warps share the parts of the same outputs, their
 * sums meet in shared memory. Roof: memory, the weights' bytes. many: 64 rows; a warp walks all of
 * k with the tree in its registers. Roof: mma.sync's share of the tensor peak; x is read from
 * cache. Both give the same bits. Limits: n_parts <= WEIGHT_PARTS_MAX. */
#pragma once

#include "kernels/cuda/matmul.h"
#include "kernels/cuda/warp.h"

enum { MM_ROWS = 16, MM_COLS = 8, MM_WARPS = 8 };

/* What a lane reads. */
struct mm_lane {
    const mm_args *a;
    const unsigned char *w[2];        /* codes of rows g and g + 8 */
    const float *scales[2], *mins[2]; /* of these */
    const unsigned char *x;           /* packed row g of the first tile; others 8 rows on */
    const float *x_scales, *x_sums;   /* packed row 2 t of the first tile */
};

/* The tile of x that this block multiplies. */
struct mm_place {
    uint32_t matrix, x_row, row_at, rows; /* x_row: among all packed; row_at: in its group */
    uint32_t group;
    bool is_there;
};

GPU_DEVICE mm_place mm_place_of(const mm_args *a)
{
    mm_place p;
    uint32_t tile = gpu_block_y();
    p.group = p.matrix = gpu_block_z();
    p.rows = a->n_rows;
    p.row_at = tile * a->tile_rows;
    p.is_there = true;
    if (a->tiles) {
        p.is_there = tile < *a->n_tiles;
        if (p.is_there) {
            p.matrix = a->tiles[tile].matrix;
            p.row_at = a->tiles[tile].x_row;
        }
        p.rows = a->x.rows_per_group;
    }
    p.x_row = p.group * a->x.rows_per_group + p.row_at;
    return p;
}

/* Outputs beyond the matrix read its last row: nobody stores them. */
GPU_DEVICE mm_lane mm_lane_of(const mm_args *a, const mm_place *p, uint32_t out_at)
{
    mm_lane l;
    uint32_t g = gpu_lane() / 4, t = gpu_lane() % 4;
    const unsigned char *data = a->w ? (const unsigned char *)a->w[p->matrix].data : a->data;
    size_t groups = a->group ? a->k / a->group : 0;
    l.a = a;
    for (uint32_t i = 0; i < 2; i++) {
        size_t row = hdl_min_u32(out_at + g + 8 * i, a->n - 1);
        l.w[i] = data + row * a->layout.row_bytes;
        l.scales[i] = (const float *)(data + a->layout.scales_at) + row * groups;
        l.mins[i] = (const float *)(data + a->layout.mins_at) + row * groups;
    }
    l.x = a->x.data + (size_t)(p->x_row + g) * a->x.row_bytes;
    l.x_scales = a->x.scales + (size_t)(p->x_row + 2 * t) * (a->k / WEIGHT_STEP);
    l.x_sums = a->x.sums + (size_t)(p->x_row + 2 * t) * (a->k / 16);
    return l;
}

/* Output `out` of packed row `col` of the tile. */
GPU_DEVICE void mm_store(const mm_args *a, const mm_place *p, uint32_t out, uint32_t col, float sum)
{
    uint32_t row = p->row_at + col;
    if (out >= a->n || row >= p->rows)
        return;
    size_t target = row;
    if (a->items) {
        uint32_t item = a->items[row];
        if (item == HDL_NONE_U32)
            return;
        target = a->out.to_items ? item : row;
    }
    const float *bias = a->out.bias ? a->out.bias + p->matrix * a->out.bias_stride : NULL;
    a->out.y[target * a->out.stride + p->group * a->out.group_stride + out] =
        sum + (bias ? bias[out] : 0.0f);
}

template <int tiles> GPU_DEVICE void mm_clear(float (&acc)[tiles][4])
{
    GPU_UNROLL
    for (int j = 0; j < tiles; j++)
        GPU_UNROLL
    for (int e = 0; e < 4; e++)
        acc[j][e] = 0;
}

/* Shared: [MM_WARPS / warps_k][n_parts][tiles][4][32] sums. */
template <class F, int tiles> GPU_KERNEL(256) mm_few(mm_args a)
{
    mm_place p = mm_place_of(&a);
    if (!p.is_there)
        return;
    enum { SUMS = tiles * 4 * GPU_WARP };
    uint32_t mine = gpu_warp() / a.warps_k, k_warp = gpu_warp() % a.warps_k;
    uint32_t block_at = gpu_block_x() * (MM_WARPS / a.warps_k * MM_ROWS);
    float *sums = gpu_shared<float>() + (size_t)mine * a.n_parts * SUMS;
    mm_lane l = mm_lane_of(&a, &p, block_at + mine * MM_ROWS);
    uint32_t each = a.n_parts / a.warps_k; /* neighbours: one stream of k for a warp */
    for (uint32_t part = k_warp * each; part < (k_warp + 1) * each; part++) {
        float acc[tiles][4];
        mm_clear<tiles>(acc);
        F::walk(&l, part * a.part_steps, (part + 1) * a.part_steps, acc);
        GPU_UNROLL
        for (int j = 0; j < tiles; j++)
            GPU_UNROLL
        for (int e = 0; e < 4; e++)
            sums[part * SUMS + (j * 4 + e) * GPU_WARP + gpu_lane()] = acc[j][e];
    }
    gpu_sync();
    for (uint32_t i = gpu_thread(); i < MM_WARPS / a.warps_k * SUMS; i += gpu_threads()) {
        uint32_t warp = i / SUMS, at = i % SUMS, lane = at % GPU_WARP;
        uint32_t e = at / GPU_WARP % 4, j = at / GPU_WARP / 4;
        leaf_stack<WEIGHT_TREE_LEVELS> tree = {};
        for (uint32_t part = 0; part < a.n_parts; part++)
            leaf_push(&tree, gpu_shared<float>()[(warp * a.n_parts + part) * SUMS + at]);
        mm_store(&a, &p, block_at + warp * MM_ROWS + lane / 4 + e / 2 * 8,
                 j * MM_COLS + lane % 4 * 2 + e % 2, tree.total);
    }
}

/* Sums of parts until their tree is complete, in registers. */
template <int tiles> struct mm_tree {
    float open[WEIGHT_TREE_LEVELS - 1][tiles][4];
};

/* acc joins the tree as its n-th part; after the last one it holds the total. */
template <int tiles>
GPU_DEVICE void mm_push(mm_tree<tiles> *tree, uint32_t n, float (&acc)[tiles][4])
{
    bool placed = false;
    GPU_UNROLL
    for (int level = 0; level < WEIGHT_TREE_LEVELS - 1; level++) {
        bool add = !placed && (n >> level & 1), put = !placed && !add;
        GPU_UNROLL
        for (int j = 0; j < tiles; j++)
            GPU_UNROLL
        for (int e = 0; e < 4; e++) {
            if (add)
                acc[j][e] = tree->open[level][j][e] + acc[j][e];
            if (put)
                tree->open[level][j][e] = acc[j][e];
        }
        placed = placed || put;
    }
}

template <class F, int tiles> GPU_KERNEL(256) mm_many(mm_args a)
{
    mm_place p = mm_place_of(&a);
    if (!p.is_there)
        return;
    uint32_t out_at = (gpu_block_x() * MM_WARPS + gpu_warp()) * MM_ROWS;
    if (out_at >= a.n)
        return;
    mm_lane l = mm_lane_of(&a, &p, out_at);
    mm_tree<tiles> tree;
    float acc[tiles][4];
    for (uint32_t part = 0; part < a.n_parts; part++) {
        mm_clear<tiles>(acc);
        F::walk(&l, part * a.part_steps, (part + 1) * a.part_steps, acc);
        mm_push<tiles>(&tree, part, acc);
    }
    uint32_t g = gpu_lane() / 4, t = gpu_lane() % 4;
    GPU_UNROLL
    for (int j = 0; j < tiles; j++)
        GPU_UNROLL
    for (uint32_t e = 0; e < 4; e++)
        mm_store(&a, &p, out_at + g + e / 2 * 8, (uint32_t)j * MM_COLS + 2 * t + e % 2, acc[j][e]);
}

template <class F> static void mm_launch(const mm_args *a, hdl_stream *stream)
{
    gpu_grid g;
    g.threads = MM_WARPS * GPU_WARP;
    g.y = a->n_token_tiles;
    g.z = a->n_groups;
    uint32_t warps_m = MM_WARPS / a->warps_k;
    g.x = gpu_div_up(a->n, MM_ROWS * warps_m);
    g.shared = (size_t)warps_m * a->n_parts * a->tile_rows / MM_COLS * 4 * GPU_WARP * sizeof(float);
    if (!a->few) {
        g.x = gpu_div_up(a->n, MM_ROWS * MM_WARPS);
        g.shared = 0;
        GPU_LAUNCH(stream, g, (mm_many<F, 4>), *a);
    } else if (a->tile_rows == 8) {
        GPU_LAUNCH(stream, g, (mm_few<F, 1>), *a);
    } else if (a->tile_rows == 16) {
        GPU_LAUNCH(stream, g, (mm_few<F, 2>), *a);
    } else {
        HDL_ASSERT_EQ(a->tile_rows, MM_TILE_ROWS_MAX);
        GPU_LAUNCH(stream, g, (mm_few<F, 4>), *a);
    }
}
