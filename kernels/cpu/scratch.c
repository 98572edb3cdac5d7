/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cpu/gemm.h"

/* Panels of n_tokens with k inputs, whatever the format: at most 4 bytes per element, and a block
 * that is not full pads to the next variant. */
static size_t panels(size_t n_tokens, size_t n_blocks_open, uint32_t k)
{
    size_t tokens = n_tokens + n_blocks_open * HDL_BLOCK_MAX / 2;
    return tokens * hdl_round_up(k, HDL_Q8_GROUP) * 4 + n_blocks_open * HDL_STREAM_ALIGN;
}

static size_t moe_bytes(const hdl_ops_extent *e)
{
    size_t choices = (size_t)e->n_tokens * e->topk;
    size_t jobs = hdl_min_size(choices, e->n_experts);
    /* gate and up may be a stack of two kinds, with panels for each. */
    return 2 * panels(choices, jobs, e->hidden) + panels(choices, jobs, e->moe_inter) +
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

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

size_t hdl_cpu_scratch_bytes(const hdl_ops_extent *e)
{
    uint32_t k = hdl_max_u32(hdl_max_u32(e->k_max, e->hidden), hdl_max_u32(e->inter, e->moe_inter));
    k = hdl_max_u32(k, e->n_heads * e->head_dim);
    /* A stack of q, k and v may want its input in three forms. */
    size_t most = larger(panels(e->n_tokens, 1, k), 3 * panels(e->n_tokens, 1, e->hidden));
    most = larger(most, moe_bytes(e));
    /* Each piece that an op takes may lose up to an alignment. */
    return larger(most, attention_bytes(e)) + 16 * (size_t)HDL_STREAM_ALIGN;
}
