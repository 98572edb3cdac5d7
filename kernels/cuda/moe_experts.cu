/* SPDX-License-Identifier: Apache-2.0 */
/* ye[t, j] = W_down[e] act(W_gate_up[e] x[t]) for the local experts e = ids[t, j].
 *
 * Choices are counted by expert, each expert's rows are padded to whole tiles of the matrix engine,
 * and both products run over one list of tiles: no expert waits for another, and a tile never holds
 * rows of two. gate_up's outputs stay in scratch; the unit between is applied while they are packed
 * for down. Places of rows follow from a counter, so their order may vary; bits do not, since rows
 * are independent. Roof: memory of the experts that are met, in decode; mma.sync's peak else.
 * Limits: n_local <= HDL_EXPERTS_MAX, no stacks. Bits: as linear and glu. */
#include "kernels/cuda/matmul.h"

/* Scratch of the routing, on the device. */
struct moe_lists {
    uint32_t *count, *start; /* [n_local] choices; first packed row */
    uint32_t *items;         /* [rows_max] t * topk + j, or HDL_NONE_U32 */
    mm_tile *tiles;
    uint32_t *n_tiles;
    uint32_t rows_max, tiles_max, tile_rows;
};

/* One block: counts, then starts and tiles in order of expert, then places. */
GPU_KERNEL(1024) moe_sort(hdl_moe_experts_args a, moe_lists l)
{
    uint32_t n = a.n_tokens * a.topk;
    for (uint32_t i = gpu_thread(); i < l.rows_max; i += gpu_threads())
        l.items[i] = HDL_NONE_U32;
    for (uint32_t e = gpu_thread(); e < a.n_local; e += gpu_threads())
        l.count[e] = 0;
    gpu_sync();
    for (uint32_t i = gpu_thread(); i < n; i += gpu_threads())
        if (a.ids[i] - a.expert_lo < a.n_local) /* wraps for ids below */
            gpu_atomic_add(&l.count[a.ids[i] - a.expert_lo], 1);
    gpu_sync();
    if (gpu_thread() == 0) {
        uint32_t tiles = 0;
        for (uint32_t e = 0; e < a.n_local; e++) {
            l.start[e] = tiles * l.tile_rows;
            for (uint32_t left = l.count[e]; left > 0; left -= hdl_min_u32(left, l.tile_rows)) {
                l.tiles[tiles].matrix = e;
                l.tiles[tiles].x_row = tiles * l.tile_rows;
                tiles++;
            }
            l.count[e] = 0;
        }
        *l.n_tiles = tiles;
    }
    gpu_sync();
    for (uint32_t i = gpu_thread(); i < n; i += gpu_threads()) {
        uint32_t e = a.ids[i] - a.expert_lo;
        if (e < a.n_local)
            l.items[l.start[e] + gpu_atomic_add(&l.count[e], 1)] = i;
    }
}

static moe_lists take_lists(const hdl_moe_experts_args *a, hdl_stream *stream)
{
    moe_lists l;
    uint32_t n = a->n_tokens * a->topk;
    l.tile_rows = mm_tile_rows(gpu_div_up(n, hdl_max_u32(1, a->n_local)));
    /* Every expert that is met wastes less than a tile. */
    l.tiles_max = hdl_min_u32(n, gpu_div_up(n, l.tile_rows) + a->n_local);
    l.rows_max = l.tiles_max * l.tile_rows;
    l.count = (uint32_t *)gpu_take(stream, a->n_local * sizeof(uint32_t));
    l.start = (uint32_t *)gpu_take(stream, a->n_local * sizeof(uint32_t));
    l.items = (uint32_t *)gpu_take(stream, l.rows_max * sizeof(uint32_t));
    l.tiles = (mm_tile *)gpu_take(stream, l.tiles_max * sizeof(mm_tile));
    l.n_tiles = (uint32_t *)gpu_take(stream, sizeof(uint32_t));
    return l;
}

static mm_job job_of(const hdl_weight *w, uint32_t n_local, const moe_lists *l, hdl_stream *stream)
{
    mm_job job;
    memset(&job, 0, sizeof job);
    for (uint32_t e = 0; e < n_local; e++)
        HDL_ASSERT(!w[e].more && w[e].format == w->format && w[e].codebook == w->codebook);
    job.host = w;
    job.device = (const hdl_weight *)gpu_upload(stream, w, n_local * sizeof *w);
    job.in.items = l->items;
    job.in.n_rows = job.in.n_rows_max = l->rows_max;
    job.in.n_groups = 1;
    job.tiles = l->tiles;
    job.n_tiles = l->n_tiles;
    job.n_tiles_max = l->tiles_max;
    job.tile_rows = l->tile_rows;
    return job;
}

void hdl_cuda_moe_experts(const hdl_moe_experts_args *a, hdl_stream *stream)
{
    size_t mark = stream->scratch_at;
    if (a->n_local == 0 || a->n_tokens == 0)
        return;
    HDL_ASSERT_LE(a->n_local, HDL_EXPERTS_MAX);
    moe_lists lists = take_lists(a, stream);
    gpu_grid one;
    one.threads = 1024;
    GPU_LAUNCH(stream, one, moe_sort, *a, lists);

    size_t wide = 2 * (size_t)a->inter;
    float *gate_up = (float *)gpu_take(stream, lists.rows_max * wide * sizeof(float));
    mm_job job = job_of(a->gate_up, a->n_local, &lists, stream);
    job.in.x = a->x;
    job.in.stride = a->hidden;
    job.in.item_div = a->topk;
    job.in.factor = a->x_weights;
    job.out.y = gate_up;
    job.out.stride = wide;
    job.out.bias = a->gate_up_bias;
    job.out.bias_stride = wide;
    mm_run(&job, stream);

    hdl_glu_act act = {a->glu, a->glu_limit, a->glu_alpha};
    job = job_of(a->down, a->n_local, &lists, stream);
    job.in.x = gate_up;
    job.in.stride = wide;
    job.in.item_div = 1;
    job.in.in_place = true;
    job.in.glu = &act;
    job.out.y = a->ye;
    job.out.stride = a->hidden;
    job.out.to_items = true;
    mm_run(&job, stream);
    stream->scratch_at = mark;
}
