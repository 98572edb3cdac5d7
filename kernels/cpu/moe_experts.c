/* SPDX-License-Identifier: Apache-2.0 */
/* The expert matrices of an MoE layer over a whole step.
 *
 * Choices (token, j) with a local expert are grouped by expert with a counting sort; each expert
 * with tokens is one gemm job for gate and up and one for down. All threads walk all jobs together:
 * pack x | gate_up | glu, pack | down, with a barrier at each bar. A token's bits do not depend on
 * who shares its expert, because the matrix engine's do not. */
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/rowwise.h"

enum {
    UP_PARTS = 2,        /* of a stacked gate_up, at most */
    CHUNK = 512,         /* elements of one choice that a thread converts at a time */
    WORK_ALONE = 1 << 17 /* multiply-adds below which the team stays asleep */
};

typedef struct moe_step {
    const hdl_moe_experts_args *a;
    const hdl_stream *stream;
    uint32_t n_items, n_jobs;
    uint32_t *items;     /* [n_items] token * topk + j, grouped by expert */
    uint32_t *item_job;  /* [n_items] */
    uint32_t *job_first; /* [n_jobs] index in items */
    uint32_t *up_first;  /* [n_jobs + 1] index in up: an expert's gate and up may be a stack */
    hdl_gemm_job *up;    /* [n_jobs * UP_PARTS] */
    hdl_gemm_job *down;  /* [n_jobs] */
    float *gate_up;      /* [n_items, 2 * inter]; then act(gate) * up in the first half */
} moe_step;

static void sort_choices(moe_step *s, hdl_stream *stream)
{
    const hdl_moe_experts_args *a = s->a;
    uint32_t n_choices = a->n_tokens * a->topk;
    uint32_t *at = hdl_stream_take(stream, (size_t)a->n_local + 1, sizeof *at);
    memset(at, 0, ((size_t)a->n_local + 1) * sizeof *at);
    for (uint32_t c = 0; c < n_choices; c++)
        if (a->ids[c] - a->expert_lo < a->n_local) /* wraps for ids below */
            at[a->ids[c] - a->expert_lo + 1]++;
    for (uint32_t e = 0; e < a->n_local; e++) {
        uint32_t n = at[e + 1];
        if (n > 0) {
            s->down[s->n_jobs] = (hdl_gemm_job){.w = &a->down[e], .n_tokens = n};
            s->job_first[s->n_jobs] = at[e];
            for (uint32_t i = at[e]; i < at[e] + n; i++)
                s->item_job[i] = s->n_jobs;
            s->n_jobs++;
        }
        at[e + 1] += at[e];
    }
    for (uint32_t c = 0; c < n_choices; c++)
        if (a->ids[c] - a->expert_lo < a->n_local)
            s->items[at[a->ids[c] - a->expert_lo]++] = c;
    s->n_items = s->n_jobs ? s->job_first[s->n_jobs - 1] + s->down[s->n_jobs - 1].n_tokens : 0;
}

static void plan_jobs(moe_step *s, hdl_stream *stream)
{
    const hdl_moe_experts_args *a = s->a;
    size_t pair = 2 * (size_t)a->inter;
    s->gate_up = hdl_stream_take(stream, s->n_items * pair, sizeof *s->gate_up);
    for (uint32_t j = 0; j < s->n_jobs; j++) {
        hdl_gemm_job *down = &s->down[j];
        size_t e = (size_t)(down->w - a->down);
        hdl_gemm_job up = {.w = &a->gate_up[e],
                           .bias = a->gate_up_bias ? a->gate_up_bias + e * pair : NULL,
                           .y = s->gate_up + s->job_first[j] * pair,
                           .y_stride = pair,
                           .n_tokens = down->n_tokens};
        HDL_ASSERT(up.w->k == a->hidden && up.w->n == pair);
        HDL_ASSERT(!up.w->more || !up.w->more->more);
        HDL_ASSERT(down->w->k == a->inter && down->w->n == a->hidden && !down->w->more);
        s->up_first[j + 1] = s->up_first[j] + hdl_gemm_plan(s->up + s->up_first[j], &up, stream);
        down->y = a->ye;
        down->y_stride = a->hidden;
        down->y_rows = s->items + s->job_first[j];
        hdl_gemm_job whole = *down;
        (void)hdl_gemm_plan(down, &whole, stream);
    }
}

/* x[from, to) times the choice's weight, at the same indices of `row`. */
static const float *scale_x(const float *x, float weight, float *row, hdl_team_part k)
{
    for (size_t i = k.from; i < k.to; i += HDL_LANES) {
        uint32_t part = (uint32_t)hdl_min_size(k.to - i, HDL_LANES);
        v16_store_part(row + i, v16_mul(v16_load_part(x + i, part), v16_set1(weight)), part);
    }
    return row;
}

/* One chunk of k of one choice; `i` counts chunks within choices. */
static void pack_chunk(const moe_step *s, size_t i, float *row)
{
    const hdl_moe_experts_args *a = s->a;
    uint32_t chunks = hdl_div_ceil_u32(a->hidden, CHUNK);
    uint32_t item = (uint32_t)(i / chunks), from = (uint32_t)(i % chunks) * CHUNK;
    uint32_t job = s->item_job[item], choice = s->items[item];
    uint32_t to = hdl_min_u32(from + CHUNK, a->hidden);
    const float *x = a->x + (size_t)(choice / a->topk) * a->hidden;
    if (a->x_weights)
        x = scale_x(x, a->x_weights[choice], row, (hdl_team_part){from, to});
    hdl_gemm_pack_token(s->up + s->up_first[job], s->up_first[job + 1] - s->up_first[job],
                        item - s->job_first[job], (hdl_gemm_piece){.x = x, .from = from, .to = to});
}

static void glu_chunk(const moe_step *s, size_t i)
{
    uint32_t inter = s->a->inter, chunks = hdl_div_ceil_u32(inter, CHUNK);
    uint32_t item = (uint32_t)(i / chunks), from = (uint32_t)(i % chunks) * CHUNK;
    uint32_t job = s->item_job[item], to = hdl_min_u32(from + CHUNK, inter);
    float *row = s->gate_up + (size_t)item * 2 * inter;
    hdl_glu_act act = {s->a->glu, s->a->glu_limit, s->a->glu_alpha};
    hdl_glu_span(act, (hdl_glu_rows){row + from, row + inter + from, row + from, to - from});
    hdl_gemm_pack_token(&s->down[job], 1, item - s->job_first[job],
                        (hdl_gemm_piece){.x = row, .from = from, .to = to});
}

static void moe_thread(void *arg, int thread, int n_threads)
{
    const moe_step *s = arg;
    size_t hidden_chunks = hdl_div_ceil_u32(s->a->hidden, CHUNK);
    size_t inter_chunks = hdl_div_ceil_u32(s->a->inter, CHUNK);
    hdl_team_part x = hdl_team_share(s->n_items * hidden_chunks, 1, thread, n_threads);
    hdl_team_part act = hdl_team_share(s->n_items * inter_chunks, 1, thread, n_threads);
    hdl_gemm_ask(s->up, s->up_first[s->n_jobs], thread, n_threads);
    for (size_t i = x.from; i < x.to; i++)
        pack_chunk(s, i, hdl_stream_thread_mem(s->stream, thread));
    if (n_threads > 1)
        hdl_team_barrier(s->stream->team, thread);
    hdl_gemm_run(s->up, s->up_first[s->n_jobs], thread, n_threads);
    hdl_gemm_ask(s->down, s->n_jobs, thread, n_threads);
    if (n_threads > 1)
        hdl_team_barrier(s->stream->team, thread);
    for (size_t i = act.from; i < act.to; i++)
        glu_chunk(s, i);
    if (n_threads > 1)
        hdl_team_barrier(s->stream->team, thread);
    hdl_gemm_run(s->down, s->n_jobs, thread, n_threads);
}

void HDL_ISA_NAME(moe_experts)(const hdl_moe_experts_args *a, hdl_stream *stream)
{
    size_t mark = hdl_stream_mark(stream), n_choices = (size_t)a->n_tokens * a->topk;
    size_t jobs_max = hdl_min_size(n_choices, a->n_local);
    moe_step s = {.a = a, .stream = stream};
    HDL_ASSERT_LE(a->hidden * sizeof(float), HDL_STREAM_THREAD_BYTES);
    s.items = hdl_stream_take(stream, n_choices, sizeof *s.items);
    s.item_job = hdl_stream_take(stream, n_choices, sizeof *s.item_job);
    s.job_first = hdl_stream_take(stream, jobs_max, sizeof *s.job_first);
    s.up_first = hdl_stream_take(stream, jobs_max + 1, sizeof *s.up_first);
    s.up_first[0] = 0;
    s.up = hdl_stream_take(stream, jobs_max * UP_PARTS, sizeof *s.up);
    s.down = hdl_stream_take(stream, jobs_max, sizeof *s.down);
    sort_choices(&s, stream);
    plan_jobs(&s, stream);
    if ((size_t)s.n_items * a->hidden * a->inter * 3 < WORK_ALONE)
        moe_thread(&s, 0, 1);
    else
        hdl_team_run(stream->team, moe_thread, &s);
    hdl_stream_release(stream, mark);
}
