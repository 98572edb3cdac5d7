/* SPDX-License-Identifier: Apache-2.0 */
/* The matrix engine: y = x W^T for one matrix, for a matrix of each head, for the experts of a
 * mixture. Ops describe their inputs and outputs as rows; the engine packs the inputs into the
 * weight's arithmetic (pack_x.cu) and multiplies (matmul.cu, matmul_f32.cu). Host side; launches
 * only.
 *
 * Rows of x are taken in tiles of mm_tile_rows, each of which meets one matrix. Without a tile list
 * tile i of group z is rows i * tile.. of the group, and z names the matrix. */
#pragma once

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/weight.h"

/* A tile of a mixture: rows [x_row, x_row + tile rows) of the packed input meet w[matrix]. */
struct mm_tile {
    uint32_t matrix, x_row;
};

/* Row r of group z of the input: k numbers at x + source(r) * stride + z * group_stride. */
struct mm_input {
    const float *x;
    size_t stride, group_stride;
    const uint32_t
        *items;        /* [n_rows] what row r stands for, HDL_NONE_U32: nothing (zeros); NULL: r */
    uint32_t item_div; /* source(r) = item / item_div, or r where items_in_place */
    bool in_place;     /* items only say which rows are there: source(r) = r */
    const float *factor;    /* by item, multiplies the row; NULL: none */
    const hdl_glu_act *glu; /* the row is act(gate) * up of 2 k numbers; NULL: it is as it is */
    bool ints;              /* as hdl_linear_args.x_ints */
    uint32_t n_rows;        /* of a group, those that are there; packed ones are padded to tiles */
    uint32_t n_groups;
    uint32_t n_rows_max; /* with items: rows of the packed input, a multiple of the tile */
};

/* Output column `row` of the matrix for row r: y[target(r) * stride + z * group_stride + row]. */
struct mm_output {
    float *y;
    size_t stride, group_stride;
    const float *bias; /* [rows], or of each matrix [bias_stride], or NULL */
    size_t bias_stride;
    bool to_items; /* target(r) = the input's item, else r */
};

struct mm_job {
    const hdl_weight *host;   /* the first of the matrices: format, shape, leaves of all */
    const hdl_weight *device; /* [matrices] uploaded; NULL: host alone, one matrix */
    mm_input in;
    mm_output out;
    const mm_tile *tiles;    /* device [n_tiles_max] or NULL */
    const uint32_t *n_tiles; /* device */
    uint32_t n_tiles_max;
    uint32_t tile_rows; /* with tiles: 8, 16 or 32 */
};

/* Rows of a tile for so many rows of x that meet the same matrix: 8, 16 or 32. The choice moves no
 * bit. */
enum { MM_TILE_ROWS_MAX = 32 };
uint32_t mm_tile_rows(size_t rows);

/* All parts of a stacked matrix (hdl_weight.more). Scratch is the caller's to give back. */
void mm_run(const mm_job *job, hdl_stream *stream);

/* In `fast`: chooses, while loading, how products of this matrix with up to so many rows run. */
void mm_plan(const hdl_weight *w, uint32_t n_rows, hdl_stream *stream);

/* Upper bound of mm_run's scratch for so many packed rows of k numbers. */
size_t mm_scratch_bytes(size_t rows, size_t k);

/* ---- between the engine's files ---- */

/* Inputs in the arithmetic of a format, [rows] of them: F32 floats; BF16 and FP8 bf16, both padded
 * to whole steps with zeros; integers int8 in the order of weight_place, f32 scales [rows][k / 32]
 * and sums of 16 codes as f32 [rows][k / 16]. */
struct mm_packed {
    unsigned char *data;
    float *scales, *sums;
    size_t row_bytes;
    uint32_t k, rows_per_group;
};
mm_packed mm_pack(const mm_input *in, hdl_wformat format, uint32_t k, uint32_t tile,
                  hdl_stream *stream);

/* What a kernel gets. */
struct mm_args {
    const hdl_weight *w; /* device array, or NULL */
    const unsigned char *data;
    weight_layout layout;
    uint32_t n, k, part_steps, n_parts, group;
    uint32_t book[4]; /* Q4; Q2: the first */
    bool has_mins;
    mm_packed x;
    mm_output out;
    const uint32_t *items;
    uint32_t n_rows;
    const mm_tile *tiles;
    const uint32_t *n_tiles;
    uint32_t tile_rows, n_token_tiles, n_groups, warps_k;
    bool few; /* warps share the parts of k */
};
void mm_launch_f32(const mm_args *a, hdl_stream *stream);
void mm_launch_bf16(const mm_args *a, hdl_stream *stream);
void mm_launch_fp8(const mm_args *a, hdl_stream *stream);
void mm_launch_q8(const mm_args *a, hdl_stream *stream);
void mm_launch_q4(const mm_args *a, hdl_stream *stream);
void mm_launch_q2(const mm_args *a, hdl_stream *stream);
