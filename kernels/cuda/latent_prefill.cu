/* SPDX-License-Identifier: Apache-2.0 */
/* Latent attention whose keys and values are made: for every row, position and head
 *   k = [W_uk c, rotated part], v = W_uv c      bf16, in scratch, as a cache of blocks of 32
 * and then attention (attention.cu) over them, with heads of nope + rope and v numbers: 192 + 128
 * products for a query, head and key of DeepSeek-V3, where the absorbed form takes 576 + 512.
 * `numerics: fast` alone; the worker chooses it for steps of long rows.
 *
 * latent_rows gives each row its blocks; latent_expand makes 64 keys of a head in a block of
 * threads, the latents (16 keys a warp) being mma's first operand; latent_queries puts a query's
 * two parts side by side. Limits: dims of nope and v even and at most 128, rope at most 64, weights
 * of bf16, HDL_LATENT_PREFILL_KEYS positions of all rows together.
 *
 * Roof: the tensor cores; expanding costs 2 rank (nope + v) for a key and head, little against a
 * row's n (nope + rope + v) where rows have some hundred tokens. Bits: a sum over the rank in
 * another order than ref's may round to the other bf16: within 2^-8 of ref's largest output.
 * Against the absorbed form, which rounds the query's nope part and the result to bf16 where this
 * rounds keys and values: within 2^-6 of the largest. */
#include "kernels/cuda/attention.h"
#include "kernels/cuda/kv_store.h"
#include "kernels/cuda/weight.h"

enum {
    KEYS = 64,
    STEP = 32,
    THREADS = 256,
    DIM_MAX = CUDA_LATENT_PREFILL_DIM_MAX,
    TILES = DIM_MAX / 8 / 2
};
enum { ROW_TOKENS = 256 }; /* a worker comes with rows of so many at least (block_mla.c) */
enum { BLOCK = HDL_ATTN_TILE, ROW_BLOCKS = KEYS / BLOCK, PAD = 8 };

struct latent_job {
    hdl_latent_prefill_args a;
    uint32_t dim, block_shift;
    bool wide;
    /* Scratch. */
    hdl_attn_row *rows; /* [n_rows] over the expanded blocks */
    uint32_t *table;    /* [n_blocks] i at i */
    uint32_t n_blocks;
    const hdl_weight *k_b, *v_b; /* of the device */
    uint16_t *k, *v;             /* [n_blocks, n_heads, BLOCK, dim] */
    float *q;                    /* [n_tokens, n_heads, dim] */
};

struct latent_shared {
    alignas(16) uint16_t c[KEYS][STEP + PAD];
    alignas(16) uint16_t k_b[STEP][DIM_MAX + PAD]; /* rows of the rank */
    alignas(16) uint16_t v_b[DIM_MAX][STEP + PAD]; /* rows of the value */
};

/* One block; rows are few, as each is long. */
GPU_KERNEL(256) latent_rows(latent_job job)
{
    for (uint32_t i = gpu_thread(); i < job.n_blocks; i += gpu_threads())
        job.table[i] = i;
    uint32_t first = 0;
    for (uint32_t r = 0; r < job.a.n_rows; r++) {
        hdl_attn_row row = job.a.rows[r];
        uint32_t n = hdl_div_ceil_u32(row.pos + row.n_tokens, KEYS) * ROW_BLOCKS;
        row.table = job.table + first;
        if (gpu_thread() == 0)
            job.rows[r] = row;
        first += n;
    }
}

GPU_KERNEL(256) latent_queries(latent_job job)
{
    const hdl_latent_prefill_args *a = &job.a;
    uint32_t own = a->nope_dim + a->rope_dim, row = a->rank + a->rope_dim;
    size_t token = gpu_block_y(), n = (size_t)a->n_heads * job.dim;
    for (size_t i = gpu_index(); i < n; i += gpu_indices()) {
        uint32_t head = (uint32_t)(i / job.dim), d = (uint32_t)(i % job.dim);
        float v = 0;
        if (d < a->nope_dim)
            v = a->q[token * a->q_stride + (size_t)head * own + d];
        else if (d < own)
            v = a->q_latent[(token * a->n_heads + head) * row + a->rank + d - a->nope_dim];
        job.q[token * n + i] = v;
    }
}

/* Numbers [at, at + 8) of the latent row at pos, zeros behind `end`. */
GPU_DEVICE gpu_u4 latent_part(const latent_job *job, const hdl_attn_row *row, uint32_t pos,
                              uint32_t at, uint32_t end)
{
    const hdl_kv_view *kv = &job->a.kv;
    uint32_t block = row->table[pos >> job->block_shift], in_block = pos & (kv->block_tokens - 1);
    size_t key = ((size_t)block << job->block_shift) + in_block;
    gpu_u4 out = {};
    if (kv->type == HDL_KV_FP8) {
        const unsigned char *tile = kv->k8 + hdl_kv8_tile_at(kv, block, 0, in_block);
        float scale = *(const float *)(tile + hdl_kv8_scale_at(kv->head_dim, in_block));
        const unsigned char *from = tile + hdl_kv8_row_at(kv->head_dim, in_block) + at;
        GPU_UNROLL
        for (uint32_t e = 0; e < 8; e++)
            if (at + e < end)
                out.v[e / 2] |= (uint32_t)hdl_fp8_to_bf16(from[e], scale) << e % 2 * 16;
        return out;
    }
    const uint16_t *from = kv->k + key * kv->head_dim + at;
    if (job->wide && at + 8 <= end)
        return *(const gpu_u4 *)from;
    GPU_UNROLL
    for (uint32_t e = 0; e < 8; e++)
        if (at + e < end)
            out.v[e / 2] |= (uint32_t)from[e] << e % 2 * 16;
    return out;
}

/* What a block makes: positions [pos, pos + KEYS) of a row, as far as there are any. */
struct latent_item {
    const hdl_attn_row *row; /* over the latents */
    uint32_t pos, end;       /* end: of the row */
    uint32_t block;          /* first of the expanded blocks */
};

GPU_DEVICE latent_item latent_item_at(const latent_job *job, uint32_t tile)
{
    latent_item item = {};
    uint32_t first = 0;
    for (uint32_t r = 0; r < job->a.n_rows; r++) {
        const hdl_attn_row *row = &job->a.rows[r];
        uint32_t end = row->pos + row->n_tokens, n = hdl_div_ceil_u32(end, KEYS);
        if (tile < first + n) {
            item = {row, (tile - first) * KEYS, end, tile * ROW_BLOCKS};
            break;
        }
        first += n;
    }
    return item;
}

/* Columns [at, at + STEP) of the rank, of everything. */
GPU_DEVICE void latent_load(const latent_job *job, const latent_item *item, uint32_t head,
                            uint32_t at, latent_shared *m)
{
    enum { PARTS = STEP / 8, WIDE_PARTS = DIM_MAX / 8 };
    const hdl_latent_prefill_args *a = &job->a;
    uint32_t k_cols = (a->nope_dim + WEIGHT_STEP - 1) / WEIGHT_STEP * WEIGHT_STEP;
    uint32_t v_cols = (a->rank + WEIGHT_STEP - 1) / WEIGHT_STEP * WEIGHT_STEP;
    const uint16_t *k_b = (const uint16_t *)job->k_b[head].data;
    const uint16_t *v_b = (const uint16_t *)job->v_b[head].data;
    for (uint32_t i = gpu_thread(); i < KEYS * PARTS; i += THREADS) {
        uint32_t key = i / PARTS, part = i % PARTS * 8, pos = item->pos + key;
        gpu_u4 c = {};
        if (pos < item->end)
            c = latent_part(job, item->row, pos, at + part, a->rank);
        *(gpu_u4 *)&m->c[key][part] = c;
    }
    for (uint32_t i = gpu_thread(); i < STEP * WIDE_PARTS; i += THREADS) {
        uint32_t r = i / WIDE_PARTS, part = i % WIDE_PARTS * 8;
        bool is_there = at + r < a->rank && part < k_cols;
        *(gpu_u4 *)&m->k_b[r][part] =
            is_there ? *(const gpu_u4 *)(k_b + (size_t)(at + r) * k_cols + part) : gpu_u4{};
    }
    for (uint32_t i = gpu_thread(); i < DIM_MAX * PARTS; i += THREADS) {
        uint32_t d = i / PARTS, part = i % PARTS * 8;
        bool is_there = d < a->v_dim; /* behind the rank the packed rows hold zeros */
        *(gpu_u4 *)&m->v_b[d][part] =
            is_there ? *(const gpu_u4 *)(v_b + (size_t)d * v_cols + at + part) : gpu_u4{};
    }
}

/* A warp: 16 keys by half of the dims of keys and of values. */
GPU_DEVICE void latent_multiply(const latent_shared *m, float (&k)[TILES][4], float (&v)[TILES][4])
{
    uint32_t lane = gpu_lane(), row = gpu_warp() % 4 * 16, dim = gpu_warp() / 4 * (TILES * 8);
    GPU_UNROLL
    for (uint32_t ks = 0; ks < STEP / 16; ks++) {
        uint32_t c[4], b[4];
        gpu_ldmatrix_x4(c, &m->c[row + lane % 16][ks * 16 + lane / 16 * 8]);
        GPU_UNROLL
        for (uint32_t n = 0; n < TILES; n += 2) {
            gpu_ldmatrix_x4_trans(
                b, &m->k_b[ks * 16 + lane / 8 % 2 * 8 + lane % 8][dim + n * 8 + lane / 16 * 8]);
            gpu_mma_bf16(k[n], c, b);
            gpu_mma_bf16(k[n + 1], c, b + 2);
            gpu_ldmatrix_x4(
                b, &m->v_b[dim + n * 8 + lane / 16 * 8 + lane % 8][ks * 16 + lane / 8 % 2 * 8]);
            gpu_mma_bf16(v[n], c, b);
            gpu_mma_bf16(v[n + 1], c, b + 2);
        }
    }
}

/* Where a number of an expanded key lies, or of a value. */
GPU_DEVICE size_t latent_place(const latent_job *job, const latent_item *item, uint32_t head,
                               uint32_t key)
{
    size_t block = item->block + key / BLOCK;
    return ((block * job->a.n_heads + head) * BLOCK + key % BLOCK) * job->dim;
}

GPU_DEVICE void latent_store(const latent_job *job, const latent_item *item, uint32_t head,
                             const float (&k)[TILES][4], const float (&v)[TILES][4])
{
    uint32_t lane = gpu_lane(), dim = gpu_warp() / 4 * (TILES * 8) + lane % 4 * 2;
    GPU_UNROLL
    for (uint32_t half = 0; half < 2; half++) {
        uint32_t key = gpu_warp() % 4 * 16 + half * 8 + lane / 4;
        if (item->pos + key >= item->end)
            continue;
        size_t at = latent_place(job, item, head, key);
        GPU_UNROLL
        for (uint32_t n = 0; n < TILES; n++) {
            uint32_t d = dim + n * 8; /* even, as the dims are */
            if (d < job->a.nope_dim)
                *(uint32_t *)(job->k + at + d) = gpu_pack_bf16(k[n][half * 2], k[n][half * 2 + 1]);
            if (d < job->a.v_dim)
                *(uint32_t *)(job->v + at + d) = gpu_pack_bf16(v[n][half * 2], v[n][half * 2 + 1]);
        }
    }
}

/* The rotated part, and zeros behind it. */
GPU_DEVICE void latent_tail(const latent_job *job, const latent_item *item, uint32_t head)
{
    const hdl_latent_prefill_args *a = &job->a;
    uint32_t n = job->dim - a->nope_dim, row = a->rank + a->rope_dim;
    for (uint32_t i = gpu_thread(); i < KEYS * n; i += THREADS) {
        uint32_t key = i / n, d = i % n;
        if (item->pos + key >= item->end)
            continue;
        gpu_u4 part = {};
        if (d < a->rope_dim)
            part = latent_part(job, item->row, item->pos + key, a->rank + d,
                               hdl_min_u32(row, a->rank + d + 1));
        job->k[latent_place(job, item, head, key) + a->nope_dim + d] = (uint16_t)part.v[0];
    }
}

GPU_KERNEL(THREADS) latent_expand(latent_job job)
{
    latent_shared *m = gpu_shared<latent_shared>();
    latent_item item = latent_item_at(&job, gpu_block_x());
    uint32_t head = gpu_block_y();
    float k[TILES][4] = {}, v[TILES][4] = {};
    if (!item.row)
        return;
    for (uint32_t at = 0; at < job.a.rank; at += STEP) {
        gpu_sync();
        latent_load(&job, &item, head, at, m);
        gpu_sync();
        latent_multiply(m, k, v);
    }
    latent_store(&job, &item, head, k, v);
    latent_tail(&job, &item, head);
}

/* ---- host ---- */

static size_t blocks_max(size_t n_keys, size_t n_rows)
{
    return (n_keys / KEYS + n_rows) * ROW_BLOCKS;
}

size_t hdl_cuda_latent_prefill_scratch(const hdl_ops_extent *e)
{
    if (!e->fast || e->latent_rank == 0)
        return 0;
    uint32_t own = e->nope_dim + e->head_dim - e->latent_rank;
    size_t dim = hdl_latent_prefill_dim(own, e->latent_v_dim);
    size_t n_rows = e->n_tokens / ROW_TOKENS + 1;
    size_t blocks = blocks_max(HDL_LATENT_PREFILL_KEYS, n_rows);
    return 2 * blocks * e->n_heads * BLOCK * dim * sizeof(uint16_t) + blocks * sizeof(uint32_t) +
           n_rows * sizeof(hdl_attn_row) + 2 * e->n_heads * sizeof(hdl_weight) +
           (size_t)e->n_tokens * e->n_heads * dim * sizeof(float) + 8 * 256;
}

static void attend(const latent_job *job, hdl_stream *stream)
{
    const hdl_latent_prefill_args *a = &job->a;
    hdl_attention_args attention = {};
    attention.q = job->q;
    attention.rows = job->rows;
    attention.n_rows = a->n_rows;
    attention.n_tokens = a->n_tokens;
    attention.n_heads = a->n_heads;
    attention.scale = a->scale;
    attention.kv.k = job->k;
    attention.kv.v = job->v;
    attention.kv.n_blocks = job->n_blocks;
    attention.kv.n_kv_heads = a->n_heads;
    attention.kv.block_tokens = BLOCK;
    attention.kv.head_dim = job->dim;
    attention.out = a->out;
    cuda_attention(&attention, a->v_dim, stream);
}

void hdl_cuda_latent_prefill(const hdl_latent_prefill_args *a, hdl_stream *stream)
{
    latent_job job = {};
    size_t mark = stream->scratch_at;
    HDL_ASSERT_EQ(a->kv.head_dim, a->rank + a->rope_dim);
    HDL_ASSERT(a->k_b->format == HDL_WFORMAT_BF16 && a->v_b->format == HDL_WFORMAT_BF16);
    HDL_ASSERT(a->nope_dim <= DIM_MAX && a->v_dim <= DIM_MAX &&
               a->rope_dim <= CUDA_LATENT_PREFILL_ROPE_MAX);
    HDL_ASSERT(a->nope_dim % 2 == 0 && a->v_dim % 2 == 0);
    HDL_ASSERT_LE(a->n_keys, HDL_LATENT_PREFILL_KEYS);
    job.a = *a;
    job.dim = hdl_latent_prefill_dim(a->nope_dim + a->rope_dim, a->v_dim);
    while (1u << job.block_shift < a->kv.block_tokens)
        job.block_shift++;
    job.wide = a->kv.head_dim % 8 == 0 && (uintptr_t)a->kv.k % 16 == 0;
    job.n_blocks = (uint32_t)blocks_max(a->n_keys, a->n_rows);
    size_t n_kv = (size_t)job.n_blocks * a->n_heads * BLOCK * job.dim;
    job.rows = (hdl_attn_row *)gpu_take(stream, a->n_rows * sizeof *job.rows);
    job.table = (uint32_t *)gpu_take(stream, job.n_blocks * sizeof *job.table);
    job.k_b = (const hdl_weight *)gpu_upload(stream, a->k_b, a->n_heads * sizeof *a->k_b);
    job.v_b = (const hdl_weight *)gpu_upload(stream, a->v_b, a->n_heads * sizeof *a->v_b);
    job.k = (uint16_t *)gpu_take(stream, n_kv * sizeof *job.k);
    job.v = (uint16_t *)gpu_take(stream, n_kv * sizeof *job.v);
    job.q = (float *)gpu_take(stream, (size_t)a->n_tokens * a->n_heads * job.dim * sizeof *job.q);
    gpu_grid g;
    GPU_LAUNCH(stream, g, latent_rows, job);
    g = gpu_grid_for((size_t)a->n_heads * job.dim);
    g.y = a->n_tokens;
    GPU_LAUNCH(stream, g, latent_queries, job);
    g.x = job.n_blocks / ROW_BLOCKS;
    g.y = a->n_heads;
    g.threads = THREADS;
    g.shared = sizeof(latent_shared);
    GPU_LAUNCH(stream, g, latent_expand, job);
    attend(&job, stream);
    stream->scratch_at = mark;
}
