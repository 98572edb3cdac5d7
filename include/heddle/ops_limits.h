/* SPDX-License-Identifier: Apache-2.0 */
/* What an implementation of ops.h can take. Pure data; any thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* The largest shapes that an implementation's ops take. Whoever loads a model refuses a larger one
 * with the name of what is too large; the ops assert. */
typedef struct hdl_ops_limits {
    uint32_t head_dim;                /* of keys and values that are both stored */
    uint32_t latent_row, latent_rank; /* of latent attention: a cache row, and its value */
    uint32_t gdn_k_dim, gdn_v_dim, gdn_taps;
    uint32_t n_experts, topk;
    uint32_t vocab;   /* of sampling */
    bool blocks_pow2; /* block_tokens has to be a power of two */
    /* Of latent_prefill: parts of a key that are not rotated, and values; rotated ones. Even. */
    uint32_t latent_prefill_dim, latent_prefill_rope;
} hdl_ops_limits;
