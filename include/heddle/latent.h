/* SPDX-License-Identifier: Apache-2.0 */
/* What op latent_prefill takes (ops.h). Pure data. */
#pragma once

#include <heddle/kv.h>
#include <heddle/rows.h>

struct hdl_weight;

/* Latent attention with every head's keys and values made from the cache's latents c, for rows of
 * many tokens: k = [W_uk c, rotated part], v = W_uv c, products of bf16 as linear's, rounded to
 * bf16; then attention over them as over a cache of BF16. Not the bits of the absorbed form
 * (latent_rope, linear_heads, attention, linear_heads): `numerics: fast` alone. What it takes is in
 * hdl_ops_limits; NULL where those are 0. */
typedef struct hdl_latent_prefill_args {
    const float *q; /* [n_tokens, n_heads, nope_dim + rope_dim] rows q_stride apart; the last
                       rope_dim are not read */
    size_t q_stride;
    const float *q_latent; /* [n_tokens, n_heads, rank + rope_dim] as latent_rope leaves it: the
                              last rope_dim alone are read */
    const struct hdl_weight *k_b; /* [n_heads] each [rank, nope_dim] (n, k), BF16 */
    const struct hdl_weight *v_b; /* [n_heads] each [v_dim, rank], BF16 */
    uint32_t n_heads, nope_dim, rope_dim, rank, v_dim;
    float scale;
    const hdl_attn_row *rows;
    uint32_t n_rows, n_tokens;
    uint32_t n_keys; /* pos + n_tokens of all rows together, <= HDL_LATENT_PREFILL_KEYS */
    hdl_kv_view kv;  /* latent rows; BF16 or FP8 */
    float *out;      /* [n_tokens, n_heads * v_dim] */
} hdl_latent_prefill_args;
enum { HDL_LATENT_PREFILL_KEYS = 16384 };

/* Numbers of a made key, and of a value, as they lie: zeros behind their own. */
HDL_INLINE uint32_t hdl_latent_prefill_dim(uint32_t key_dim, uint32_t v_dim)
{
    return (hdl_max_u32(key_dim, v_dim) + 7) / 8 * 8;
}
