/* SPDX-License-Identifier: Apache-2.0 */
/* The engine's host side: which kernel, which grid. */
#include "kernels/cuda/fast.h"
#include "kernels/cuda/matmul.h"

enum { WARPS = 8 };

uint32_t mm_tile_rows(size_t rows)
{
    uint32_t tile = 8;
    while (tile < MM_TILE_ROWS_MAX && tile < rows)
        tile *= 2;
    return tile;
}

static void describe(const hdl_weight *w, mm_args *a)
{
    const hdl_wformat_info *info = hdl_wformat_info_of(w->format);
    uint32_t leaf_k = w->k / w->n_leaves, parts = weight_parts(w->format, leaf_k);
    a->n = hdl_weight_rows(w);
    a->k = w->k;
    a->layout = weight_layout_of(w->format, a->n, w->k);
    a->data = (const unsigned char *)w->data;
    a->group = info->group;
    a->has_mins = info->has_mins;
    a->n_parts = w->n_leaves * parts;
    a->part_steps = gpu_div_up(leaf_k / parts, WEIGHT_STEP);
    if (w->codebook)
        memcpy(a->book, w->codebook, sizeof a->book);
    HDL_ASSERT_LE(a->n_parts, WEIGHT_PARTS_MAX);
}

static void launch(const mm_args *a, hdl_wformat format, hdl_stream *stream)
{
    if (format == HDL_WFORMAT_F32)
        mm_launch_f32(a, stream);
    else if (format == HDL_WFORMAT_BF16)
        mm_launch_bf16(a, stream);
    else if (!hdl_wformat_is_int(format))
        mm_launch_fp8(a, stream);
    else if (hdl_wformat_info_of(format)->bits == 8)
        mm_launch_q8(a, stream);
    else if (hdl_wformat_info_of(format)->bits == 4)
        mm_launch_q4(a, stream);
    else
        mm_launch_q2(a, stream);
}

/* Of a matrix alone, of bf16. */
static fast_product fast_of(const hdl_weight *w)
{
    fast_product p = {};
    p.w = (const uint16_t *)w->data;
    p.n = hdl_weight_rows(w);
    p.k = w->k;
    p.stride = weight_layout_of(w->format, p.n, p.k).row_bytes / sizeof(uint16_t);
    return p;
}

void mm_plan(const hdl_weight *w, uint32_t n_rows, hdl_stream *stream)
{
    for (; w && stream->fast; w = w->more)
        if (w->format == HDL_WFORMAT_BF16) {
            fast_product shape = fast_of(w);
            fast_plan(stream, &shape, n_rows);
        }
}

/* In `fast`: one matrix of bf16 and rows enough. */
static bool run_fast(const mm_job *job, const hdl_weight *w, const mm_args *a, hdl_stream *stream)
{
    if (!stream->fast || w->format != HDL_WFORMAT_BF16 || a->n_rows < FAST_ROWS_MIN)
        return false;
    if (job->device || job->tiles || job->in.items || job->in.n_groups != 1)
        return false;
    fast_product p = fast_of(w);
    p.x = (const uint16_t *)a->x.data;
    p.m = a->n_rows;
    p.bias = a->out.bias;
    p.y = a->out.y;
    p.y_stride = a->out.stride;
    return fast_run(stream, &p);
}

/* The rows that lie in w's own data. */
static void run_part(const mm_job *job, const hdl_weight *w, const mm_output *out,
                     hdl_stream *stream)
{
    mm_args a;
    size_t mark = stream->scratch_at;
    memset(&a, 0, sizeof a);
    describe(w, &a);
    a.tile_rows = job->tiles ? job->tile_rows : mm_tile_rows(job->in.n_rows);
    a.x = mm_pack(&job->in, w->format, w->k, a.tile_rows, stream);
    a.w = job->device;
    a.out = *out;
    a.items = job->in.items;
    a.n_rows = job->in.n_rows;
    a.tiles = job->tiles;
    a.n_tiles = job->n_tiles;
    a.n_token_tiles = job->tiles ? job->n_tiles_max : gpu_div_up(job->in.n_rows, a.tile_rows);
    a.n_groups = job->in.n_groups;
    a.warps_k = 1;
    a.few = a.tile_rows < MM_TILE_ROWS_MAX || a.n_token_tiles == 1;
    while (a.few && a.warps_k < WARPS && a.warps_k < a.n_parts)
        a.warps_k *= 2;
    if (!run_fast(job, w, &a, stream))
        launch(&a, w->format, stream);
    stream->scratch_at = mark;
}

void mm_run(const mm_job *job, hdl_stream *stream)
{
    mm_output out = job->out;
    if (job->in.n_rows == 0 && !job->in.items)
        return;
    for (const hdl_weight *w = job->host; w; w = w->more) {
        HDL_ASSERT(!job->device || !w->more); /* stacks are of single matrices */
        run_part(job, w, &out, stream);
        out.y += hdl_weight_rows(w);
        if (out.bias)
            out.bias += hdl_weight_rows(w);
    }
}
