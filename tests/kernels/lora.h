/* SPDX-License-Identifier: Apache-2.0 */
/* Adapters and who names which, for the tests of both ops. */
#pragma once

#include "kernel_test.h"

typedef struct lora_case {
    uint32_t n_tokens, k, n, n_leaves, rank_max, n_adapters;
} lora_case;

static inline uint16_t *lora_numbers(kt *t, size_t n)
{
    uint16_t *x = KT_NEW(t, uint16_t, n);
    for (size_t i = 0; i < n; i++)
        x[i] = hdl_bf16_from_f32(kt_normal(t));
    return x;
}

static inline hdl_lora_rows lora_rows_of(kt *t, const lora_case *c)
{
    hdl_lora *adapters = KT_NEW(t, hdl_lora, c->n_adapters);
    uint32_t *of_row = KT_NEW(t, uint32_t, c->n_tokens);
    for (uint32_t i = 0; i < c->n_adapters; i++) {
        uint32_t rank = i == 0 ? c->rank_max : kt_range(t, 1, c->rank_max);
        adapters[i] = (hdl_lora){.a = lora_numbers(t, (size_t)rank * c->k),
                                 .b = lora_numbers(t, (size_t)rank * c->n),
                                 .rank = rank,
                                 .scale = kt_normal(t)};
    }
    /* The last adapter is named by nobody. */
    for (uint32_t i = 0; i < c->n_tokens; i++)
        of_row[i] = kt_chance(t, 25) ? HDL_NONE_U32 : kt_range(t, 0, c->n_adapters - 1) / 2;
    return (hdl_lora_rows){.adapters = adapters,
                           .of_row = of_row,
                           .n_adapters = c->n_adapters,
                           .n_tokens = c->n_tokens};
}
