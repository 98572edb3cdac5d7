/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/numeric.h"
#include "kernels/ref/ref.h"

size_t hdl_ref_scratch_bytes(const hdl_ops_extent *e)
{
    /* linear: per token its input as f32 and as int8, and a struct; moe_experts adds one token's
     * input and activations around a linear of one token. Each piece may lose up to an alignment.
     */
    size_t tokens = e->n_tokens, k_max = hdl_max_u32(e->k_max, hdl_max_u32(e->hidden, e->inter));
    k_max = hdl_max_u32((uint32_t)k_max, e->moe_inter);
    return tokens * (k_max * 5 + 64) + (size_t)e->moe_inter * 12 + (size_t)e->hidden * 4 +
           16 * (size_t)HDL_STREAM_ALIGN;
}

#define HDL_REF_MEMBER(op, args) .op = hdl_ref_##op,
static const hdl_ops ops_ref = {.name = "ref",
                                .limits = HDL_LIMITS_CPU,
                                HDL_OP_LIST(HDL_REF_MEMBER).linear_screened =
                                    hdl_ref_linear_screened,
                                .weight_bytes = hdl_ref_weight_bytes,
                                .weight_pack = hdl_ref_weight_pack,
                                .scratch_bytes = hdl_ref_scratch_bytes};
#undef HDL_REF_MEMBER

const hdl_ops *hdl_ops_ref(void) { return &ops_ref; }
