/* SPDX-License-Identifier: Apache-2.0 */
/* linear_screened: the screen, the k-th largest lower bound, the tiles above it, those tiles. Four
 * passes with a barrier after each; tiles are many or few, wherever they lie, and so the last pass
 * takes them from one list. */
#include <stdatomic.h>

#include "kernels/cpu/gemm.h"
#include "kernels/screen.h"

enum { TOKENS = HDL_SCREEN_TOKENS_MAX };
_Static_assert((int)HDL_TILE == (int)HDL_SCREEN_TILE, "the definition's tiles are the kernels'");

typedef struct screen_job {
    const hdl_linear_screened_args *a;
    hdl_gemm_job approximate, exact[TOKENS]; /* exact: a job of its own for each token */
    hdl_screen_token token[TOKENS];
    uint32_t n_tiles;
    uint32_t *list; /* [n_tiles * n_tokens] tile * TOKENS + token */
    _Atomic uint32_t n_list, next;
    hdl_stream *stream;
} screen_job;

/* A thread's largest lower bounds of each token, in its own scratch; others read them later. */
static hdl_screen_best *bests_of(const screen_job *job, int thread)
{
    return hdl_stream_thread_mem(job->stream, thread);
}
_Static_assert(TOKENS * sizeof(hdl_screen_best) <= HDL_STREAM_THREAD_BYTES, "they fit");

static hdl_team_part tiles_of(const screen_job *job, int thread, int n_threads)
{
    return hdl_team_share(job->n_tiles, 1, thread, n_threads);
}

/* hdl_screen_range_of for a tile; rows that do not count are -infinity. */
typedef struct tile_range {
    v16 low, high;
} tile_range;

V16_FN tile_range range_at(const screen_job *job, size_t tile, uint32_t t)
{
    const hdl_linear_screened_args *a = job->a;
    uint32_t row = (uint32_t)tile * HDL_TILE, n = hdl_min_u32(HDL_TILE, a->n_rows - row);
    const v16 minus = v16_set1(-INFINITY), plus = v16_set1(INFINITY);
    v16 y = v16_load_part(a->linear->y + t * a->linear->y_stride + row, n);
    v16 size = v16_mul(v16_load(a->norms.size + row), v16_set1(job->token[t].size));
    v16 e = v16_fma(v16_load(a->norms.err + row), v16_set1(job->token[t].err), size);
    v16 bound = v16_set1(HDL_SCREEN_BOUND);
    tile_range r = {.low = v16_where_lt(e, bound, v16_sub(y, e), minus),
                    .high = v16_where_lt(e, bound, v16_add(y, e), plus)};
    if (n < HDL_TILE) {
        r.low = v16_where_lanes(0, n, r.low, minus);
        r.high = v16_where_lanes(0, n, r.high, minus);
    }
    return r;
}

/* Activations in both forms, and the norms of each token. */
static void pack(screen_job *job, int thread, int n_threads)
{
    const hdl_linear_args *l = job->a->linear;
    hdl_team_part part = hdl_team_share(l->n_tokens, 1, thread, n_threads);
    for (uint32_t t = (uint32_t)part.from; t < part.to; t++) {
        hdl_gemm_piece all = {.x = l->x + t * l->x_stride, .to = l->w->k};
        hdl_gemm_pack_token(&job->approximate, 1, t, all);
        hdl_gemm_pack_token(&job->exact[t], 1, 0, all);
        job->token[t] = hdl_screen_token_of(all.x, l->w->k, l->w->format);
    }
}

static void find_best(const screen_job *job, int thread, int n_threads)
{
    const hdl_linear_screened_args *a = job->a;
    hdl_team_part part = tiles_of(job, thread, n_threads);
    for (uint32_t t = 0; t < a->linear->n_tokens; t++) {
        hdl_screen_best *best = &bests_of(job, thread)[t];
        hdl_screen_best_open(best, a->keep[t]);
        for (size_t tile = part.from; tile < part.to && tile * HDL_TILE < a->n_rows; tile++) {
            v16 low = range_at(job, tile, t).low;
            float lanes[HDL_TILE];
            if (!(v16_fold_max(low) > hdl_screen_least(best)))
                continue;
            v16_store(lanes, low);
            for (uint32_t i = 0; i < HDL_TILE; i++)
                hdl_screen_best_add(best, lanes[i]);
        }
    }
}

static float floor_of(const screen_job *job, uint32_t t, int n_threads)
{
    hdl_screen_best all;
    hdl_screen_best_open(&all, job->a->keep[t]);
    for (int i = 0; i < n_threads; i++) {
        const hdl_screen_best *own = &bests_of(job, i)[t];
        for (uint32_t j = 0; j < own->keep && own->values[j] > hdl_screen_least(&all); j++)
            hdl_screen_best_add(&all, own->values[j]);
    }
    return hdl_screen_floor(hdl_screen_least(&all), job->a->softcap);
}

/* A tile is put on the list, or its outputs become HDL_SCREENED. */
static void judge(screen_job *job, size_t tile, uint32_t t, float floor)
{
    const hdl_linear_args *l = job->a->linear;
    uint32_t row = (uint32_t)tile * HDL_TILE;
    if (row < job->a->n_rows && v16_fold_max(range_at(job, tile, t).high) >= floor)
        job->list[atomic_fetch_add(&job->n_list, 1)] = (uint32_t)tile * TOKENS + t;
    else
        v16_store_part(l->y + t * l->y_stride + row, v16_set1(HDL_SCREENED),
                       hdl_min_u32(HDL_TILE, l->w->n - row));
}

static void choose(screen_job *job, int thread, int n_threads)
{
    hdl_team_part part = tiles_of(job, thread, n_threads);
    uint32_t n_tokens = job->a->linear->n_tokens;
    float floors[TOKENS];
    for (uint32_t t = 0; t < n_tokens; t++)
        floors[t] = floor_of(job, t, n_threads);
    for (size_t tile = part.from; tile < part.to; tile++)
        for (uint32_t t = 0; t < n_tokens; t++)
            judge(job, tile, t, floors[t]);
}

/* One tile for one token, as a matrix of its own. */
static void compute(const screen_job *job, uint32_t item)
{
    hdl_gemm_job one = job->exact[item % TOKENS];
    hdl_weight w = *one.w;
    size_t tile = item / TOKENS;
    w.n = hdl_min_u32(HDL_TILE, w.n - (uint32_t)tile * HDL_TILE);
    w.bytes = hdl_tile_bytes(w.format, w.k);
    w.data = (unsigned char *)w.data + tile * w.bytes;
    one.w = &w;
    one.y += tile * HDL_TILE;
    hdl_gemm_run(&one, 1, 0, 1);
}

static void screen_thread(void *arg, int thread, int n_threads)
{
    screen_job *job = arg;
    hdl_team *team = job->stream->team;
    hdl_gemm_ask(&job->approximate, 1, thread, n_threads);
    pack(job, thread, n_threads);
    if (n_threads > 1)
        hdl_team_barrier(team, thread);
    hdl_gemm_run(&job->approximate, 1, thread, n_threads);
    if (n_threads > 1)
        hdl_team_barrier(team, thread);
    find_best(job, thread, n_threads);
    if (n_threads > 1)
        hdl_team_barrier(team, thread);
    choose(job, thread, n_threads);
    if (n_threads > 1)
        hdl_team_barrier(team, thread);
    for (uint32_t i, n = atomic_load(&job->n_list); (i = atomic_fetch_add(&job->next, 1)) < n;)
        compute(job, job->list[i]);
}

static void plan(screen_job *job)
{
    const hdl_linear_args *l = job->a->linear;
    hdl_gemm_job first = {
        .w = job->a->q8, .y = l->y, .y_stride = l->y_stride, .n_tokens = l->n_tokens};
    hdl_gemm_plan(&job->approximate, &first, job->stream);
    for (uint32_t t = 0; t < l->n_tokens; t++) {
        hdl_gemm_job one = {
            .w = l->w, .y = l->y + t * l->y_stride, .y_stride = l->y_stride, .n_tokens = 1};
        HDL_ASSERT(job->a->keep[t] > 0 && job->a->keep[t] <= HDL_SCREEN_KEEP_MAX);
        hdl_gemm_plan(&job->exact[t], &one, job->stream);
    }
    job->n_tiles = hdl_div_ceil_u32(l->w->n, HDL_TILE);
    job->list = hdl_stream_take(job->stream, (size_t)job->n_tiles * l->n_tokens, sizeof(uint32_t));
}

void HDL_ISA_NAME(linear_screened)(const hdl_linear_screened_args *a, hdl_stream *stream)
{
    const hdl_linear_args *l = a->linear;
    HDL_ASSERT_LE(l->n_tokens, TOKENS);
    HDL_ASSERT_LE(a->n_rows, l->w->n);
    HDL_ASSERT(!l->w->more && !a->q8->more && !l->bias && !l->x_ints);
    HDL_ASSERT(l->w->format == HDL_WFORMAT_F32 || l->w->format == HDL_WFORMAT_BF16);
    HDL_ASSERT(a->q8->n == l->w->n && a->q8->k == l->w->k);
    if (l->n_tokens == 0)
        return;
    size_t mark = hdl_stream_mark(stream);
    screen_job job = {.a = a, .stream = stream};
    plan(&job);
    hdl_team_run(stream->team, screen_thread, &job);
    if (a->n_tiles)
        *a->n_tiles += atomic_load(&job.n_list);
    hdl_stream_release(stream, mark);
}
