/* SPDX-License-Identifier: Apache-2.0 */
/* The reference operations: plain C, one file each, the definition of every op in heddle/ops.h.
 *
 * Written to be read. They run on any machine, split tokens or outputs over the stream's team, and
 * every other backend is tested against them. */
#pragma once

#include "kernels/numeric.h"
#include "kernels/stream.h"

#define HDL_REF_DECLARE(op, args) void hdl_ref_##op(const args *a, hdl_stream *stream);
HDL_OP_LIST(HDL_REF_DECLARE)
HDL_REF_DECLARE(linear_screened, hdl_linear_screened_args)
#undef HDL_REF_DECLARE

size_t hdl_ref_weight_bytes(hdl_wformat format, uint32_t n, uint32_t k, uint32_t n_leaves);
void hdl_ref_weight_pack(const hdl_pack_args *a);
size_t hdl_ref_scratch_bytes(const hdl_ops_extent *e);
