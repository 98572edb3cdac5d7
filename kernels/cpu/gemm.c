/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cpu/gemm.h"

/* The variant that holds `tokens`, at most the largest block. */
static const hdl_gemm_variant *variant_for(const hdl_gemm_format *f, uint32_t tokens)
{
    const hdl_gemm_variant *v = f->variants;
    while (v->tokens < tokens)
        v++;
    return v;
}

/* Of the blocks into which so many are cut. */
static uint32_t block_tokens(const hdl_gemm_format *f, uint32_t n_tokens)
{
    uint32_t most = f->variants[f->n_variants - 1].tokens;
    return n_tokens > most && f->bulk ? f->bulk : most;
}

static size_t token_bytes(const hdl_gemm_format *f, uint32_t k)
{
    return (size_t)hdl_div_ceil_u32(k, HDL_Q8_GROUP) * f->x_group_bytes;
}

static size_t panel_bytes(const hdl_gemm_job *job)
{
    const hdl_gemm_format *f = job->format;
    uint32_t each = block_tokens(f, job->n_tokens), whole = job->n_tokens / each * each;
    uint32_t rest = job->n_tokens - whole;
    size_t tokens = whole + (rest ? variant_for(f, rest)->tokens : 0);
    return hdl_round_up(tokens * token_bytes(f, job->w->k), HDL_STREAM_ALIGN);
}

static void choose_format(hdl_gemm_job *job)
{
    const hdl_weight *w = job->w;
    job->codebook_min = 0;
    if (!hdl_wformat_is_int(w->format)) {
        job->format = hdl_gemm_float_format(w->format);
        return;
    }
    for (int i = 0; w->codebook && i < 16; i++)
        job->codebook_min =
            i == 0 || w->codebook[i] < job->codebook_min ? w->codebook[i] : job->codebook_min;
    job->format = hdl_gemm_int_format(w->format, w->codebook);
}

/* The panels of an earlier job that takes its activations in the same form, or NULL. */
static unsigned char *panels_of(const hdl_gemm_job *jobs, uint32_t n, const hdl_gemm_job *job)
{
    for (uint32_t i = 0; i < n; i++)
        if (jobs[i].format->pack_x == job->format->pack_x)
            return jobs[i].x;
    return NULL;
}

uint32_t hdl_gemm_plan(hdl_gemm_job *jobs, const hdl_gemm_job *first, hdl_stream *stream)
{
    uint32_t n = 0;
    hdl_gemm_job job = *first;
    for (; job.w; job.w = job.w->more, n++) {
        uint32_t rows = hdl_weight_rows(job.w);
        HDL_ASSERT_LT(n, HDL_STACK_MAX);
        HDL_ASSERT_EQ(job.w->bytes,
                      hdl_cpu_weight_bytes(job.w->format, rows, job.w->k, job.w->n_leaves));
        choose_format(&job);
        job.x = panels_of(jobs, n, &job);
        job.x_is_others = job.x != NULL;
        if (!job.x)
            job.x = hdl_stream_take(stream, panel_bytes(&job), 1);
        jobs[n] = job;
        job.y += rows;
        job.bias = job.bias ? job.bias + rows : NULL;
    }
    return n;
}

/* Tokens are walked in blocks; a block knows its panel and its kernels. */
typedef struct block {
    const hdl_gemm_variant *variant;
    unsigned char *panel;
    uint32_t first, n_tokens; /* tokens of the job */
} block;

static block block_at(const hdl_gemm_job *job, uint32_t idx)
{
    const hdl_gemm_format *f = job->format;
    uint32_t each = block_tokens(f, job->n_tokens), first = idx * each;
    uint32_t n = hdl_min_u32(each, job->n_tokens - first);
    return (block){.variant = variant_for(f, n),
                   .panel = job->x + first * token_bytes(f, job->w->k),
                   .first = first,
                   .n_tokens = n};
}

void hdl_gemm_pack_token(const hdl_gemm_job *jobs, uint32_t n_jobs, uint32_t token,
                         hdl_gemm_piece piece)
{
    for (const hdl_gemm_job *job = jobs; job < jobs + n_jobs; job++) {
        const hdl_gemm_format *f = job->format;
        block b = block_at(job, token / block_tokens(f, job->n_tokens));
        hdl_pack_x_args a = {.x = piece.x,
                             .panel = b.panel,
                             .block_tokens = b.variant->tokens,
                             .lane = token - b.first,
                             .from = piece.from,
                             .to = piece.to,
                             .ints = piece.ints};
        if (job->x_is_others)
            continue;
        f->pack_x(&a);
        /* Lanes without a token are computed and dropped; zeros keep them from being slow
         * numbers. */
        for (a.lane++, a.x = NULL; token + 1 == job->n_tokens && a.lane < a.block_tokens; a.lane++)
            f->pack_x(&a);
    }
}

/* Outputs of one kernel call: a block of tokens by a few tiles. */
typedef struct tile_out {
    const hdl_gemm_job *job;
    const block *block;
    uint32_t tile, n_tiles;
    hdl_leaf_fn *kernel;
} tile_out;

/* earlier += later, for whole kernel outputs. */
static void add_later(float *earlier, const float *later, uint32_t n)
{
    for (uint32_t i = 0; i < n; i += HDL_LANES)
        v16_store(earlier + i, v16_add(v16_load(earlier + i), v16_load(later + i)));
}

/* The leaf tree of hdl_leaf_push, over whole kernel outputs. The result is in open[0]. */
static void run_leaves(const tile_out *o, float open[][HDL_LEAF_OUT_MAX])
{
    const hdl_weight *w = o->job->w;
    const hdl_gemm_format *f = o->job->format;
    uint32_t leaf_k = w->k / w->n_leaves, n = o->block->variant->tokens * o->n_tiles * HDL_TILE;
    size_t tile_bytes = hdl_tile_bytes(w->format, w->k);
    size_t leaf_x_bytes = token_bytes(f, leaf_k) * o->block->variant->tokens;
    hdl_leaf_args a = {.w = (const unsigned char *)w->data + o->tile * tile_bytes,
                       .w_tile_bytes = tile_bytes,
                       .x = o->block->panel,
                       .k = leaf_k,
                       .codebook = w->codebook,
                       .codebook_min = o->job->codebook_min};
    uint32_t n_open = 0;
    for (uint32_t leaf = 0; leaf < w->n_leaves; leaf++) {
        a.out = open[n_open];
        o->kernel(&a);
        for (uint32_t carry = leaf; carry & 1u; carry >>= 1, n_open--)
            add_later(open[n_open - 1], open[n_open], n);
        n_open++;
        a.w += hdl_tile_bytes(w->format, leaf_k);
        a.x += leaf_x_bytes;
    }
}

static void store(const tile_out *o, const float *out)
{
    const hdl_gemm_job *job = o->job;
    uint32_t row = o->tile * HDL_TILE;
    uint32_t n = hdl_min_u32(o->n_tiles * HDL_TILE, hdl_weight_rows(job->w) - row);
    for (uint32_t t = 0; t < o->block->n_tokens; t++, out += o->n_tiles * HDL_TILE) {
        uint32_t token = o->block->first + t;
        float *y = job->y + (job->y_rows ? job->y_rows[token] : token) * job->y_stride + row;
        for (uint32_t i = 0; i < n; i += HDL_LANES) {
            uint32_t part = hdl_min_u32(n - i, HDL_LANES);
            v16 bias = job->bias ? v16_load_part(job->bias + row + i, part) : v16_zero();
            v16_store_part(y + i, v16_add(v16_load(out + i), bias), part);
        }
    }
}

/* All outputs of a block for some tiles, with the widest kernels that fit. */
static void run_tiles(const hdl_gemm_job *job, const block *b, uint32_t tile, uint32_t n_tiles)
{
    _Alignas(64) float open[HDL_TREE_DEPTH][HDL_LEAF_OUT_MAX];
    const hdl_gemm_variant *v = b->variant;
    while (n_tiles > 0) {
        tile_out o = {.job = job, .block = b, .tile = tile, .n_tiles = 1, .kernel = v->tiles1};
        if (n_tiles >= 4 && v->tiles4) {
            o.n_tiles = 4;
            o.kernel = v->tiles4;
        } else if (n_tiles >= 2 && v->tiles2) {
            o.n_tiles = 2;
            o.kernel = v->tiles2;
        }
        HDL_ASSERT_LE(v->tokens * o.n_tiles * HDL_TILE, HDL_LEAF_OUT_MAX);
        run_leaves(&o, open);
        store(&o, open[0]);
        tile += o.n_tiles;
        n_tiles -= o.n_tiles;
    }
}

/* How a job is cut into items: groups of tiles, in each of them blocks of tokens. */
typedef struct cut {
    uint32_t n_tiles, tiles_each, n_groups, n_blocks;
    size_t block_cost, last_cost; /* of one item; the last block may be smaller */
} cut;

/* Loading the weights costs about as much as computing on them for this many tokens. */
enum { LOAD_COST = 4 };

static cut cut_job(const hdl_gemm_job *job, int n_threads)
{
    const hdl_gemm_format *f = job->format;
    uint32_t each = block_tokens(f, job->n_tokens),
             tiles = hdl_div_ceil_u32(hdl_weight_rows(job->w), HDL_TILE);
    cut c = {.n_tiles = tiles, .n_blocks = hdl_div_ceil_u32(job->n_tokens, each)};
    c.tiles_each = tiles >= 2u * HDL_TILE_GROUP * (uint32_t)n_threads ? HDL_TILE_GROUP : 1;
    c.n_groups = hdl_div_ceil_u32(tiles, c.tiles_each);
    uint32_t rest = job->n_tokens - (c.n_blocks - 1) * each;
    c.block_cost = (each + LOAD_COST) * c.tiles_each;
    c.last_cost = (variant_for(f, rest)->tokens + LOAD_COST) * c.tiles_each;
    return c;
}

static size_t group_cost(const cut *c) { return (c->n_blocks - 1) * c->block_cost + c->last_cost; }

enum { NEAR_BYTES = 256 << 10 /* of weights: half of a small second cache */ };

/* Items of one group whose cost begins in [from, to), counted from the group's start. */
static void run_group(const hdl_gemm_job *job, const cut *c, uint32_t group, size_t from, size_t to)
{
    uint32_t tile = group * c->tiles_each, end = hdl_min_u32(tile + c->tiles_each, c->n_tiles);
    uint32_t first =
        (uint32_t)hdl_min_size((from + c->block_cost - 1) / c->block_cost, c->n_blocks);
    uint32_t last = (uint32_t)hdl_min_size((to + c->block_cost - 1) / c->block_cost, c->n_blocks);
    /* As many tiles at a time as stay in the near cache while all tokens pass. */
    size_t all = HDL_TILE_GROUP * hdl_tile_bytes(job->w->format, job->w->k);
    uint32_t step = c->n_blocks > 1 && all > NEAR_BYTES ? 2 : HDL_TILE_GROUP;
    for (; tile < end; tile += step)
        for (uint32_t i = first; i < last; i++) {
            block b = block_at(job, i);
            run_tiles(job, &b, tile, hdl_min_u32(step, end - tile));
        }
}

/* A thread's part of the cost of all jobs, and where it begins. */
typedef struct share {
    size_t from, to; /* cost */
    size_t job;      /* n_jobs: the part is empty */
    size_t job_at;   /* cost before the job */
} share;

/* Threads own equal parts of the cost; an item belongs to the thread in whose part it begins. */
static share share_of(const hdl_gemm_job *jobs, size_t n_jobs, int thread, int n_threads)
{
    size_t total = 0, at = 0;
    for (size_t j = 0; j < n_jobs; j++) {
        cut c = cut_job(&jobs[j], n_threads);
        total += c.n_groups * group_cost(&c);
    }
    size_t each = total / (size_t)n_threads;
    share s = {.from = each * (size_t)thread,
               .to = thread + 1 == n_threads ? total : each * (size_t)(thread + 1)};
    for (; s.job < n_jobs; s.job++, s.job_at = at) {
        cut c = cut_job(&jobs[s.job], n_threads);
        at += c.n_groups * group_cost(&c);
        if (s.from < at)
            break;
    }
    return s;
}

/* Asks memory for the first bytes of the tiles of a group, which no prefetcher can guess. */
static void ask_for(const hdl_gemm_job *job, const cut *c, uint32_t group, size_t bytes)
{
    size_t tile_bytes = hdl_tile_bytes(job->w->format, job->w->k);
    uint32_t tile = group * c->tiles_each, end = hdl_min_u32(tile + c->tiles_each, c->n_tiles);
    const char *w = (const char *)job->w->data + tile * tile_bytes;
    bytes = hdl_min_size(bytes, tile_bytes);
    for (; tile < end; tile++, w += tile_bytes)
        for (size_t i = 0; i < bytes; i += 64)
            _mm_prefetch(w + i, _MM_HINT_T1);
}

enum { ASK_EARLY = 2048, ASK_NEXT = 768 }; /* bytes of a tile */

void hdl_gemm_ask(const hdl_gemm_job *jobs, size_t n_jobs, int thread, int n_threads)
{
    share s = share_of(jobs, n_jobs, thread, n_threads);
    if (s.job == n_jobs)
        return;
    cut c = cut_job(&jobs[s.job], n_threads);
    uint32_t group = (uint32_t)((s.from - s.job_at) / group_cost(&c));
    ask_for(&jobs[s.job], &c, group, ASK_EARLY);
}

void hdl_gemm_run(const hdl_gemm_job *jobs, size_t n_jobs, int thread, int n_threads)
{
    share s = share_of(jobs, n_jobs, thread, n_threads);
    size_t at = s.job_at;
    for (size_t j = s.job; j < n_jobs && at < s.to; j++) {
        cut c = cut_job(&jobs[j], n_threads);
        size_t each = group_cost(&c), end = at + c.n_groups * each;
        uint32_t group = s.from > at ? (uint32_t)((s.from - at) / each) : 0;
        size_t start = at + group * each;
        for (; group < c.n_groups && start < s.to; group++, start += each) {
            if (c.n_blocks == 1 && group + 1 < c.n_groups)
                ask_for(&jobs[j], &c, group + 1, ASK_NEXT);
            else if (c.n_blocks == 1 && j + 1 < n_jobs) {
                cut next = cut_job(&jobs[j + 1], n_threads);
                ask_for(&jobs[j + 1], &next, 0, ASK_NEXT);
            }
            run_group(&jobs[j], &c, group, s.from > start ? s.from - start : 0,
                      hdl_min_size(s.to - start, each));
        }
        at = end;
    }
}
