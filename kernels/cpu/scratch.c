/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cpu/gemm.h"

static size_t moe_bytes(const hdl_ops_extent *e)
{
    size_t choices = (size_t)e->n_tokens * e->topk;
    size_t jobs = hdl_min_size(choices, e->n_experts);
    /* gate and up may be a stack of two kinds, with panels for each. */
    return 2 * hdl_panel_bytes_max(choices, jobs, e->hidden) +
           hdl_panel_bytes_max(choices, jobs, e->moe_inter) +
           choices * (2 * (size_t)e->moe_inter * sizeof(float) + 2 * sizeof(uint32_t)) +
           jobs * (3 * sizeof(hdl_gemm_job) + 2 * sizeof(uint32_t)) +
           ((size_t)e->n_experts + 1) * sizeof(uint32_t);
}

/* States of splits: attention.c takes them for at most 256 query rows. */
static size_t attention_bytes(const hdl_ops_extent *e)
{
    size_t rows = hdl_min_size((size_t)e->n_tokens * e->n_heads, 256);
    size_t splits = hdl_div_ceil_u32(e->max_len, HDL_ATTN_SPLIT);
    return rows * splits * (e->head_dim + 2) * sizeof(float);
}

/* Panels of a group of heads, and a job for each head. */
static size_t heads_bytes(const hdl_ops_extent *e)
{
    size_t one = hdl_panel_bytes_max(e->n_tokens, 1, hdl_max_u32(e->nope_dim, e->latent_rank));
    if (e->latent_rank == 0)
        return 0;
    return (one > HDL_LINEAR_HEADS_BYTES ? one : HDL_LINEAR_HEADS_BYTES) +
           e->n_heads * sizeof(hdl_gemm_job);
}

/* Panels for the screen and for each token, and a list of tiles. */
static size_t screened_bytes(const hdl_ops_extent *e)
{
    size_t n = hdl_min_size(e->n_tokens, HDL_SCREEN_TOKENS_MAX);
    return hdl_panel_bytes_max(2 * n, 1 + n, e->hidden) +
           n * hdl_div_ceil_u32(e->n_max, HDL_TILE) * sizeof(uint32_t);
}

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

size_t hdl_cpu_scratch_bytes(const hdl_ops_extent *e)
{
    uint32_t k = hdl_max_u32(hdl_max_u32(e->k_max, e->hidden), hdl_max_u32(e->inter, e->moe_inter));
    /* A stack of q, k and v may want its input in three forms. */
    size_t most = larger(hdl_panel_bytes_max(e->n_tokens, 1, k),
                         3 * hdl_panel_bytes_max(e->n_tokens, 1, e->hidden));
    most = larger(larger(most, moe_bytes(e)), heads_bytes(e));
    most = larger(most, screened_bytes(e));
    /* Each piece that an op takes may lose up to an alignment. */
    return larger(most, attention_bytes(e)) + 16 * (size_t)HDL_STREAM_ALIGN;
}
