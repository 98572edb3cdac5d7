/* SPDX-License-Identifier: Apache-2.0 */
/* Inputs of the matrix engine in its formats: f32 rows -> bf16, int8 with scales, or padded f32
 * (mm_packed).
 *
 * A block for each row, a warp for 32 columns at a time: lane i holds column i, so that a group's
 * maximum and sums are warp words. What a mixture does to its rows on the way (a factor, the gated
 * unit between its two products) is done here. Roof: memory. Bits: values and roundings as ref. */
#include "kernels/cuda/matmul.h"

struct pack_args {
    mm_input in;
    hdl_glu_act act;
    bool has_act;
    hdl_wformat format;
    mm_packed to;
};

/* Number i of row r, 0 beyond what is there. */
GPU_DEVICE float input_value(const pack_args *a, const float *row, float factor, uint32_t i)
{
    uint32_t k = a->to.k;
    if (!row || i >= k)
        return 0;
    float v = a->has_act ? hdl_glu(a->act, row[i], row[k + i]) : row[i];
    return a->in.factor ? v * factor : v;
}

GPU_DEVICE void store_ints(const pack_args *a, size_t r, uint32_t step, float v)
{
    uint32_t lane = gpu_lane();
    float max = v, scale = 1;
    for (uint32_t mask = GPU_WARP / 2; mask > 0; mask /= 2)
        max = hdl_absmax(hdl_absmax(0, max), gpu_shfl_xor(max, mask));
    if (!a->in.ints)
        scale = hdl_absmax(0, max) / 127.0f;
    int32_t q = hdl_q8_round(v, scale), sum = q;
    for (uint32_t mask = 8; mask > 0; mask /= 2)
        sum += gpu_shfl_xor(sum, mask);
    a->to.data[r * a->to.row_bytes + step * WEIGHT_STEP + weight_place(lane)] = (unsigned char)q;
    if (lane == 0)
        a->to.scales[r * (a->to.k / WEIGHT_STEP) + step] = scale;
    if (lane % 16 == 0)
        a->to.sums[r * (a->to.k / 16) + 2 * step + lane / 16] = (float)sum;
}

GPU_KERNEL(256) pack_x(pack_args a)
{
    uint32_t in_group = gpu_block_x(), z = gpu_block_y(), item = in_group;
    size_t r = (size_t)z * a.to.rows_per_group + in_group;
    if (a.in.items)
        item = a.in.items[in_group];
    else if (in_group >= a.in.n_rows)
        item = HDL_NONE_U32;
    const float *row = NULL;
    float factor = 1;
    if (item != HDL_NONE_U32) {
        size_t source = a.in.in_place ? in_group : item / a.in.item_div;
        row = a.in.x + source * a.in.stride + z * a.in.group_stride;
        factor = a.in.factor ? a.in.factor[item] : 1.0f;
    }
    uint32_t steps = (a.to.k + WEIGHT_STEP - 1) / WEIGHT_STEP;
    for (uint32_t step = gpu_warp(); step < steps; step += gpu_threads() / GPU_WARP) {
        uint32_t i = step * WEIGHT_STEP + gpu_lane();
        float v = input_value(&a, row, factor, i);
        unsigned char *to = a.to.data + r * a.to.row_bytes;
        if (hdl_wformat_is_int(a.format))
            store_ints(&a, r, step, v);
        else if (a.format == HDL_WFORMAT_F32)
            ((float *)to)[i] = v;
        else
            ((uint16_t *)to)[i] = hdl_bf16_from_f32(v);
    }
}

mm_packed mm_pack(const mm_input *in, hdl_wformat format, uint32_t k, uint32_t tile,
                  hdl_stream *stream)
{
    pack_args a;
    bool ints = hdl_wformat_is_int(format);
    size_t cols = ((size_t)k + WEIGHT_STEP - 1) / WEIGHT_STEP * WEIGHT_STEP, item = 2;
    if (ints || format == HDL_WFORMAT_F32)
        item = ints ? 1 : sizeof(float);
    memset(&a, 0, sizeof a);
    a.in = *in;
    a.has_act = in->glu != NULL;
    if (in->glu)
        a.act = *in->glu;
    a.format = format;
    a.to.k = k;
    a.to.row_bytes = cols * item;
    a.to.rows_per_group = in->items ? in->n_rows_max : gpu_div_up(in->n_rows, tile) * tile;
    size_t rows = (size_t)a.to.rows_per_group * in->n_groups;
    a.to.data = (unsigned char *)gpu_take(stream, rows * a.to.row_bytes);
    if (ints) {
        a.to.scales = (float *)gpu_take(stream, rows * (k / WEIGHT_STEP) * sizeof(float));
        a.to.sums = (float *)gpu_take(stream, rows * (k / 16) * sizeof(float));
    }
    gpu_grid g;
    g.x = a.to.rows_per_group;
    g.y = in->n_groups;
    g.threads = gpu_threads_for(k);
    GPU_LAUNCH(stream, g, pack_x, a);
    return a.to;
}

size_t mm_scratch_bytes(size_t rows, size_t k)
{
    size_t cols = (k + WEIGHT_STEP - 1) / WEIGHT_STEP * WEIGHT_STEP;
    return rows * cols * sizeof(float) + 3 * 256; /* f32 is the largest */
}
