/* SPDX-License-Identifier: Apache-2.0 */
/* What a step must read and compute at least, from the model's shape. Pure; any thread. */
#pragma once

#include <heddle/model.h>

typedef struct hdl_bench_step {
    hdl_wformat format;
    uint32_t n_tokens, n_sampled; /* of the step; tokens whose logits are computed */
    uint32_t n_seqs;
    uint32_t context;  /* cached tokens that a token attends to */
    double head_share; /* of the head's bytes that are read */
} hdl_bench_step;

/* bytes: weights once (of the experts, as many as the tokens are expected to choose when routing is
 * uniform) and the cache of each sequence once. flop: two per multiply-add of the linears and of
 * attention. */
typedef struct hdl_bench_cost {
    double bytes, flop;
} hdl_bench_cost;

hdl_bench_cost hdl_bench_model_cost(const hdl_model_desc *desc, const hdl_shard *shard,
                                    hdl_bench_step step);
