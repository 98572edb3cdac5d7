/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of the CPU backend. Every file of this folder is compiled once per instruction set, with
 * that set's flags and HDL_ISA set to avx2 or avx512; HDL_ISA_NAME keeps the copies apart. Code
 * that runs before cpuid was asked lives outside (ops_cpu.c, device_cpu.c, stream.c). */
#pragma once

#include "base/assert.h"
#include "kernels/cpu/v16.h"
#include "kernels/stream.h"

/* hdl_avx2_foo, hdl_avx512_foo */
#define HDL_ISA_JOIN_(isa, name)  hdl_##isa##_##name
#define HDL_ISA_JOIN(isa, name)   HDL_ISA_JOIN_(isa, name)
#define HDL_ISA_NAME(name)        HDL_ISA_JOIN(HDL_ISA, name)

#define HDL_CPU_DECLARE(op, args) void HDL_ISA_NAME(op)(const args *a, hdl_stream *stream);
HDL_OP_LIST(HDL_CPU_DECLARE)
HDL_CPU_DECLARE(linear_screened, hdl_linear_screened_args)
#undef HDL_CPU_DECLARE

#define hdl_cpu_weight_bytes  HDL_ISA_NAME(weight_bytes)
#define hdl_cpu_weight_pack   HDL_ISA_NAME(weight_pack)
#define hdl_cpu_scratch_bytes HDL_ISA_NAME(scratch_bytes)
size_t hdl_cpu_weight_bytes(hdl_wformat format, uint32_t n, uint32_t k, uint32_t n_leaves);
void hdl_cpu_weight_pack(const hdl_pack_args *a);
size_t hdl_cpu_scratch_bytes(const hdl_ops_extent *e);

/* Panels that linear_heads holds at a time, unless one head needs more. */
enum { HDL_LINEAR_HEADS_BYTES = 4 << 20 };

static inline size_t hdl_round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }
