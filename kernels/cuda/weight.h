/* SPDX-License-Identifier: Apache-2.0 */
/* How a packed matrix lies on the device, and how its sums are cut.
 *
 * Rows are side by side, so that loaders pack any rows at any time and a part of a matrix is a
 * pointer: first the codes [rows][row_bytes], then f32 scales [rows][k / group], then mins. Within
 * 32 columns the order of codes is the one in which lanes of an mma want them: F32   in order; rows
 * padded to 32 columns with zeros BF16  in order, padded likewise: lane t of four takes columns 8 t
 * to 8 t + 7 FP8   a byte each, in order: lane t takes columns 8 t to 8 t + 7 Q8    a byte each:
 * lane t takes columns 4 t.. and 16 + 4 t.. side by side (weight_place) Q4    half a byte each, in
 * the order of Q8, low half first: indices into the codebook
 * Q2    a quarter of a byte each, in the order of Q8, low first
 *
 * A leaf of k is cut into parts by its own length alone, so that several warps can share an output
 * and every batch, rank count and kernel adds the same numbers in the same order: inside a part k
 * is walked in order, parts and leaves combine as one balanced tree. */
#pragma once

#include "kernels/cuda/gpu.h"

enum {
    WEIGHT_STEP = 32,       /* columns that a warp takes at once */
    WEIGHT_PARTS_MAX = 32,  /* HDL_LEAVES_MAX leaves of 4 parts */
    WEIGHT_TREE_LEVELS = 6, /* log2 of that, and one */
};
static_assert(WEIGHT_PARTS_MAX == HDL_LEAVES_MAX * 4, "weight_parts stops at 4 for a leaf");

struct weight_layout {
    size_t row_bytes, scales_at, mins_at, bytes;
};

static inline weight_layout weight_layout_of(hdl_wformat format, uint32_t n, uint32_t k)
{
    const hdl_wformat_info *info = hdl_wformat_info_of(format);
    size_t cols = ((size_t)k + WEIGHT_STEP - 1) / WEIGHT_STEP * WEIGHT_STEP;
    size_t scales = info->group ? (size_t)n * (k / info->group) * sizeof(float) : 0;
    weight_layout l;
    l.row_bytes = cols * info->bits / 8;
    l.scales_at = (n * l.row_bytes + 63) / 64 * 64;
    l.mins_at = l.scales_at + scales;
    l.bytes = l.mins_at + (info->has_mins ? scales : 0);
    return l;
}

/* Place of a column's code among the 32 of its step, of Q8 and Q4. */
HDL_INLINE uint32_t weight_place(uint32_t col)
{
    return col % 16 / 4 * 8 + col / 16 % 2 * 4 + col % 4;
}

/* Parts of a leaf: at least 512 columns each, and whole groups. */
static inline uint32_t weight_parts(hdl_wformat format, uint32_t leaf_k)
{
    uint32_t unit = hdl_max_u32(WEIGHT_STEP, hdl_wformat_info_of(format)->group), parts = 1;
    while (parts < 4 && leaf_k % (2 * parts * unit) == 0 && leaf_k / (2 * parts) >= 512)
        parts *= 2;
    return parts;
}
