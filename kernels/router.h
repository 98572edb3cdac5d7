/* SPDX-License-Identifier: Apache-2.0 */
/* What all forms of the router op share: its argument check and the constant of its contract. Pure;
 * the step thread. */
#pragma once

#include "base/assert.h"
#include "kernels/numeric.h"

/* Joins the sum of the chosen scores, so that scores that are all zero do not become NaNs. */
#define HDL_ROUTER_TINY 1e-20f

/* A token of padding chooses nobody. */
static inline bool hdl_router_skips(const hdl_router_args *a, size_t token)
{
    if (!a->n_live || token < *a->n_live)
        return false;
    for (uint32_t j = 0; j < a->topk; j++) {
        a->ids[token * a->topk + j] = HDL_NONE_U32;
        a->weights[token * a->topk + j] = 0;
    }
    return true;
}

static inline void hdl_router_check(const hdl_router_args *a)
{
    const hdl_router_desc *d = &a->desc;
    HDL_ASSERT(a->topk >= 1 && a->topk <= hdl_min_u32(a->n_experts, HDL_TOPK_MAX));
    HDL_ASSERT_LE(a->n_experts, HDL_EXPERTS_MAX);
    if (d->n_group <= 1)
        return;
    HDL_ASSERT_EQ(a->n_experts % d->n_group, 0);
    uint32_t each = a->n_experts / d->n_group;
    HDL_ASSERT(d->topk_group >= 1 && d->topk_group <= d->n_group);
    HDL_ASSERT(a->topk <= d->topk_group * each && (!d->group_top2 || each >= 2));
}
