/* SPDX-License-Identifier: Apache-2.0 */
/* Attention over the paged cache: q [n_tokens, n_heads, head_dim], all of hdl_attention_args.
 *
 * attn_plan cuts the step into items (attention.h) from what rows hold; walkers, as many blocks as
 * the GPU runs at once, take them by a ticket; attn_combine merges the segments of split rows in
 * order. Decode takes tiles of 16 query rows, prefill of 64 or 32; both are attention_tile.h, with
 * the same bits. Keys and values of the next tile are copied (cp.async) while one is computed; INT8
 * and FP8 pass through registers and wait.
 *
 * Limits: head_dim <= 256, or latent <= 512 and head_dim <= 576; block_tokens a power of two.
 *
 * Roof: decode: memory, every key and value once; states of segments add some 1 / 256 of that for
 * each head of a group. Its limiter should be the latency of a tile's three barriers, against which
 * 3 or 4 blocks of a multiprocessor stand. Latent: shared memory and the second cache, as 16 or 32
 * rows a block read all keys again for each part of the heads. Prefill: the tensor cores at twice
 * the products (high and low parts), half of what bf16 alone would reach, and the scores' way
 * through shared memory.
 *
 * Bits: no order is ref's. With A the largest scale |q| |k|, V the largest |v|, n keys:
 *   |score - ref's| <= e = A (2^-16 + (head_dim / 4 + 8) 2^-22) + softcap 2^-20
 *   |out - ref's|   <= V (2 e + 2^-16 + (n / 4 + 64) 2^-22)
 * where a step of mma is taken to lose at most 2^-22 of the sum of magnitudes, and ref's own fma
 * count half as much. That is if all errors had one sign; tests ask for 1e-4 of the largest output.
 * INT8: ref rounds q to 14 bits and weights to 15, here codes are exact: 1e-3. FP8: the bits of
 * BF16 over the same numbers. Infinities in values: the row is not finite, how is not promised. */
#include "kernels/cuda/attention_walk.h"

enum { COMBINE_THREADS = 256, COMBINE_DIMS = 4 * GPU_WARP, COMBINE_AHEAD = 8 };

/* ---- combine ---- */

/* Some values of a query row: those of a warp, over all segments in order. */
struct combined {
    float max, sum;
    gpu_f4 out;
};

GPU_DEVICE combined fold(const attn_job *job, const float *state, size_t step, uint32_t n,
                         uint32_t dim)
{
    uint32_t dv = job->stride - 4;
    combined all = {};
    for (uint32_t base = 0; base < n; base += COMBINE_AHEAD) {
        gpu_f4 values[COMBINE_AHEAD];
        gpu_u2 ends[COMBINE_AHEAD];
        GPU_UNROLL
        for (uint32_t i = 0; i < COMBINE_AHEAD; i++) { /* all loads first: they wait together */
            const float *at = state + hdl_min_u32(base + i, n - 1) * step;
            values[i] = dim < dv ? *(const gpu_f4 *)(at + dim) : gpu_f4{};
            ends[i] = *(const gpu_u2 *)(at + dv);
        }
        GPU_UNROLL
        for (uint32_t i = 0; i < COMBINE_AHEAD; i++) {
            float sum = hdl_f32_from_bits(ends[i].v[0]), max = hdl_f32_from_bits(ends[i].v[1]);
            if (base + i == 0)
                all = {max, sum, values[i]};
            if (base + i == 0 || base + i >= n)
                continue;
            attn_factors f = attn_merge(all.max, max);
            all.max = f.max;
            all.sum = fmaf(sum, f.add, all.sum * f.keep);
            for (uint32_t e = 0; e < 4; e++)
                all.out.v[e] = fmaf(values[i].v[e], f.add, all.out.v[e] * f.keep);
        }
    }
    return all;
}

/* A warp for each query row and each COMBINE_DIMS values of it. */
GPU_KERNEL(COMBINE_THREADS) attn_combine(attn_job job)
{
    uint32_t pieces = hdl_div_ceil_u32(job.value_dim, COMBINE_DIMS);
    uint32_t unit = gpu_block_y() * (COMBINE_THREADS / GPU_WARP) + gpu_warp();
    uint32_t token = gpu_block_x(), head = unit / pieces;
    const hdl_attn_row *row = row_of_token(job.a.rows, job.a.n_rows, token);
    uint32_t slot = job.slot[row - job.a.rows];
    if (head >= job.a.n_heads || slot == ATTN_WHOLE)
        return;
    const attn_tiling *t = &job.tilings[attn_tiling_of(&job, row)];
    attn_segments all = attn_segments_of(&job, row);
    uint32_t idx = token - row->token_at, kv_head = head / job.group, in_group = head % job.group;
    uint32_t part = in_group / t->heads_each;
    uint32_t n_heads = hdl_min_u32(t->heads_each, job.group - part * t->heads_each);
    attn_span seen = attn_span_of(&job.a, row->pos + idx + 1);
    uint32_t first = seen.first / HDL_ATTN_SPLIT, n = (seen.end - 1) / HDL_ATTN_SPLIT - first + 1;
    size_t item = (size_t)idx / t->tokens_each * job.a.kv.n_kv_heads + kv_head;
    item = (item * all.n + (first - all.first)) * t->parts + part;
    size_t state = slot + item * t->rows;
    state += idx % t->tokens_each * n_heads + in_group % t->heads_each;
    uint32_t dim = unit % pieces * COMBINE_DIMS + gpu_lane() * 4;
    combined c = fold(&job, job.states + state * job.stride,
                      (size_t)t->parts * t->rows * job.stride, n, dim);
    attn_end end = attn_finish(&job, head, c.max, c.sum);
    float *out = job.a.out + ((size_t)token * job.a.n_heads + head) * job.value_dim;
    for (uint32_t e = 0; e < 4; e++)
        if (dim + e < job.value_dim)
            out[dim + e] = attn_value(c.out.v[e], end);
}

/* ---- host ---- */

enum { STATES_BYTES_MAX = 256 << 20, STATE_EXTRA = 4 };

/* Blocks of a multiprocessor, the most that sm_90 runs at once; those that come later find no work
 * left. */
enum { BLOCKS = 4 };

static attn_tiling tiling_of(uint32_t rows, uint32_t group)
{
    attn_tiling t = {rows, 0, gpu_div_up(group, rows), 0, 0};
    t.heads_each = gpu_div_up(group, t.parts);
    t.tokens_each = rows / t.heads_each;
    return t;
}

/* At most so many tiles are there, whatever the rows. */
static size_t tiles_max(const attn_tiling *t, size_t n_tokens, size_t n_rows, size_t n_kv_heads)
{
    size_t blocks = n_rows + n_tokens / t->tokens_each;
    return hdl_min_size(blocks, n_tokens) * n_kv_heads * t->parts;
}

/* So many states are of use at most, where the longest row has so many tokens. */
static size_t states_max(const attn_tiling tilings[ATTN_TILINGS], const hdl_ops_extent *e)
{
    size_t segments = gpu_div_up(e->max_len, HDL_ATTN_SPLIT) + 1, most = 0;
    for (uint32_t i = 0; i < ATTN_TILINGS; i++)
        most += tiles_max(&tilings[i], e->n_tokens, e->n_rows, e->n_kv_heads) * tilings[i].rows *
                segments;
    return most;
}

/* What is left of the stream's scratch is for states, as far as they can be of use. */
static void take_states(attn_job *job, hdl_stream *stream)
{
    const hdl_attention_args *a = &job->a;
    hdl_ops_extent e = {};
    e.n_tokens = a->n_tokens;
    e.n_rows = a->n_rows;
    e.n_kv_heads = a->kv.n_kv_heads;
    e.max_len = a->kv.n_blocks * a->kv.block_tokens;
    size_t one = job->stride * sizeof(float);
    size_t left = stream->scratch_bytes - (stream->scratch_at + 255) / 256 * 256;
    left = hdl_min_size(left, STATES_BYTES_MAX) / one;
    job->n_states = (uint32_t)hdl_min_size(states_max(job->tilings, &e), left);
    job->states = (float *)gpu_take(stream, job->n_states * one);
}

static uint32_t padded_dim(uint32_t value_dim)
{
    return value_dim <= 64 ? 64 : value_dim <= 128 ? 128 : value_dim <= 256 ? 256 : 512;
}

/* Fewer states than are of use cost time alone: long rows are walked whole. */
size_t hdl_cuda_attention_scratch(const hdl_ops_extent *e)
{
    enum { ROWS_MAX = 64 };
    if (e->n_kv_heads == 0)
        return 0;
    uint32_t group = e->n_heads / (e->latent_rank ? 1 : e->n_kv_heads);
    attn_tiling tilings[] = {tiling_of(ATTN_SMALL_ROWS, group), tiling_of(ROWS_MAX, group)};
    size_t one = (padded_dim(e->latent_rank ? 512 : e->head_dim) + STATE_EXTRA) * sizeof(float);
    size_t plan = ((size_t)e->n_rows + 1) * (ATTN_TILINGS + 1) * sizeof(uint32_t);
    return plan + ATTN_BLOCKS_MAX * ROWS_MAX * one +
           hdl_min_size(states_max(tilings, e) * one, STATES_BYTES_MAX);
}

template <class C, int tiling> static void walk(const attn_job *job, hdl_stream *stream)
{
    gpu_grid g;
    g.x = job->tilings[tiling].n_blocks;
    g.threads = C::threads;
    g.shared = attn_shared_bytes<C>(job->a.latent != 0);
    GPU_LAUNCH(stream, g, (attn_walk<C, tiling>), *job);
}

template <class Small, class Large> static void run(attn_job *job, hdl_stream *stream)
{
    const hdl_attention_args *a = &job->a;
    size_t scratch_at = stream->scratch_at, running = 0;
    job->stride = Small::dv + STATE_EXTRA;
    job->tilings[ATTN_SMALL] = tiling_of(Small::rows, job->group);
    job->tilings[ATTN_LARGE] = tiling_of(Large::rows, job->group);
    for (uint32_t i = 0; i < ATTN_TILINGS; i++) {
        attn_tiling *t = &job->tilings[i];
        size_t blocks = (size_t)stream->n_sms * BLOCKS;
        blocks = hdl_min_size(blocks, ATTN_BLOCKS_MAX);
        t->n_blocks = (uint32_t)blocks;
        running = running > blocks * t->rows ? running : blocks * t->rows;
    }
    job->first_item = (uint32_t *)gpu_take(stream, ATTN_TILINGS * (a->n_rows + 1) * 4);
    job->slot = (uint32_t *)gpu_take(stream, a->n_rows * 4);
    job->ticket = (uint32_t *)gpu_take(stream, ATTN_TILINGS * 4);
    job->running = (float *)gpu_take(stream, running * job->stride * sizeof(float));
    take_states(job, stream);
    gpu_grid g;
    g.threads = PLAN_THREADS;
    g.shared = PLAN_THREADS * sizeof(uint32_t);
    GPU_LAUNCH(stream, g, attn_plan, *job);
    bool one_each = a->n_tokens == a->n_rows; /* as every row has at least one */
    if (job->group <= ATTN_SMALL_ROWS)
        walk<Small, ATTN_SMALL>(job, stream);
    if (job->group > ATTN_SMALL_ROWS || (!one_each && a->n_tokens * job->group > ATTN_SMALL_ROWS))
        walk<Large, ATTN_LARGE>(job, stream);
    g.x = a->n_tokens;
    g.y = gpu_div_up(a->n_heads * hdl_div_ceil_u32(job->value_dim, COMBINE_DIMS),
                     COMBINE_THREADS / GPU_WARP);
    g.threads = COMBINE_THREADS;
    g.shared = 0;
    GPU_LAUNCH(stream, g, attn_combine, *job);
    stream->scratch_at = scratch_at;
}

void hdl_cuda_attention(const hdl_attention_args *a, hdl_stream *stream)
{
    cuda_attention(a, hdl_attention_value_dim(a), stream);
}

void cuda_attention(const hdl_attention_args *a, uint32_t value_dim, hdl_stream *stream)
{
    attn_job job = {};
    uint32_t dim = a->kv.head_dim;
    HDL_ASSERT_EQ(a->n_heads % a->kv.n_kv_heads, 0);
    HDL_ASSERT_LE(a->latent, dim);
    HDL_ASSERT_EQ(a->kv.block_tokens & (a->kv.block_tokens - 1), 0);
    job.a = *a;
    job.value_dim = value_dim;
    job.group = a->n_heads / a->kv.n_kv_heads;
    while (1u << job.block_shift < a->kv.block_tokens)
        job.block_shift++;
    job.is_int8 = a->kv.type == HDL_KV_INT8;
    job.is_fp8 = a->kv.type == HDL_KV_FP8;
    HDL_ASSERT(!job.is_int8 || !a->latent);
    HDL_ASSERT(a->kv.type == HDL_KV_BF16 || a->kv.block_tokens % HDL_ATTN_TILE == 0);
    uintptr_t places = job.is_fp8 ? (uintptr_t)a->kv.k8 : (uintptr_t)a->kv.k;
    if (!a->latent)
        places |= job.is_fp8 ? (uintptr_t)a->kv.v8 : (uintptr_t)a->kv.v;
    job.wide = dim % 8 == 0 && places % 16 == 0;
    if (dim <= 64) {
        run<attn_shape<64, 64, 1, 4>, attn_shape<64, 64, 4, 2>>(&job, stream);
    } else if (dim <= 128) {
        run<attn_shape<128, 128, 1, 4>, attn_shape<128, 128, 4, 2>>(&job, stream);
    } else if (dim <= 192 && value_dim <= 128) { /* of latent_prefill */
        run<attn_shape<192, 128, 1, 4>, attn_shape<192, 128, 2, 4>>(&job, stream);
    } else if (dim <= CUDA_HEAD_DIM_MAX) {
        run<attn_shape<256, 256, 1, 4>, attn_shape<256, 256, 2, 4>>(&job, stream);
    } else {
        HDL_ASSERT(a->latent != 0 && dim <= CUDA_LATENT_ROW_MAX);
        HDL_ASSERT_LE(job.value_dim, CUDA_LATENT_RANK_MAX);
        if (job.is_fp8)
            run<attn_shape<576, 512, 1, 4, true>, attn_shape<576, 512, 2, 4, true>>(&job, stream);
        else
            run<attn_shape<576, 512, 1, 4>, attn_shape<576, 512, 2, 4>>(&job, stream);
    }
}
