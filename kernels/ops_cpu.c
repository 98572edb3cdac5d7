/* SPDX-License-Identifier: Apache-2.0 */
/* The CPU tables: a copy of ref in which every op that has a vector form is replaced, one table per
 * instruction set, chosen by what cpuid (and the kernel's support for the registers) offers. */
#include "kernels/numeric.h"
#include "kernels/ref/ref.h"

#if defined(__x86_64__)

/* Ops with vector forms; the others are small, or memcpy already. */
#define HDL_CPU_OP_LIST(X)                                                                         \
    X(embed, hdl_embed_args)                                                                       \
    X(rms_norm, hdl_rms_norm_args)                                                                 \
    X(sumsq, hdl_sumsq_args)                                                                       \
    X(absmax, hdl_absmax_args)                                                                     \
    X(int8_rows, hdl_int8_rows_args)                                                               \
    X(linear, hdl_linear_args)                                                                     \
    X(linear_heads, hdl_linear_heads_args)                                                         \
    X(linear_screened, hdl_linear_screened_args)                                                   \
    X(qkv_rope, hdl_qkv_rope_args)                                                                 \
    X(latent_rope, hdl_latent_rope_args)                                                           \
    X(attention, hdl_attention_args)                                                               \
    X(gate, hdl_gate_args)                                                                         \
    X(softcap, hdl_softcap_args)                                                                   \
    X(gdn_conv, hdl_gdn_conv_args)                                                                 \
    X(gated_delta, hdl_gated_delta_args)                                                           \
    X(glu, hdl_glu_args)                                                                           \
    X(scale_rows, hdl_scale_rows_args)                                                             \
    X(add, hdl_add_args)                                                                           \
    X(add_row, hdl_add_row_args)                                                                   \
    X(router, hdl_router_args)                                                                     \
    X(moe_experts, hdl_moe_experts_args)                                                           \
    X(moe_combine, hdl_moe_combine_args)                                                           \
    X(lora_shrink, hdl_lora_shrink_args)                                                           \
    X(lora_expand, hdl_lora_expand_args)

#define HDL_CPU_REF_OPS                                                                            \
    .kv_copy = hdl_ref_kv_copy, .kv_move = hdl_ref_kv_move, .batch_build = hdl_ref_batch_build,    \
    .sample = hdl_ref_sample

#define HDL_CPU_LEVEL(isa)                                                                         \
    size_t hdl_##isa##_weight_bytes(hdl_wformat, uint32_t n, uint32_t k, uint32_t n_leaves);       \
    void hdl_##isa##_weight_pack(const hdl_pack_args *);                                           \
    size_t hdl_##isa##_scratch_bytes(const hdl_ops_extent *);
#define HDL_AVX2_DECLARE(op, args)   void hdl_avx2_##op(const args *, hdl_stream *);
#define HDL_AVX512_DECLARE(op, args) void hdl_avx512_##op(const args *, hdl_stream *);
HDL_CPU_LEVEL(avx2)
HDL_CPU_LEVEL(avx512)
HDL_CPU_OP_LIST(HDL_AVX2_DECLARE)
HDL_CPU_OP_LIST(HDL_AVX512_DECLARE)

#define HDL_AVX2_MEMBER(op, args)   .op = hdl_avx2_##op,
#define HDL_AVX512_MEMBER(op, args) .op = hdl_avx512_##op,

static const hdl_ops ops_avx2 = {.name = "cpu-avx2",
                                 .limits = HDL_LIMITS_CPU,
                                 HDL_CPU_OP_LIST(HDL_AVX2_MEMBER) HDL_CPU_REF_OPS,
                                 .weight_bytes = hdl_avx2_weight_bytes,
                                 .weight_pack = hdl_avx2_weight_pack,
                                 .scratch_bytes = hdl_avx2_scratch_bytes};

static const hdl_ops ops_avx512 = {.name = "cpu-avx512",
                                   .limits = HDL_LIMITS_CPU,
                                   HDL_CPU_OP_LIST(HDL_AVX512_MEMBER) HDL_CPU_REF_OPS,
                                   .weight_bytes = hdl_avx512_weight_bytes,
                                   .weight_pack = hdl_avx512_weight_pack,
                                   .scratch_bytes = hdl_avx512_scratch_bytes};

/* F16C came before AVX2: every CPU that has this has that (clang 14 does not know its name). */
static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16");
}

static const hdl_ops *table_of(hdl_isa isa)
{
    if (isa == HDL_ISA_AVX512)
        return has_avx512() ? &ops_avx512 : NULL;
    if (isa == HDL_ISA_AVX2)
        return has_avx2() ? &ops_avx2 : NULL;
    return hdl_ops_ref();
}

#else

static const hdl_ops *table_of(hdl_isa isa) { return isa == HDL_ISA_REF ? hdl_ops_ref() : NULL; }

#endif

const hdl_ops *hdl_ops_cpu(hdl_isa isa, hdl_errmsg *why)
{
    static const char *const names[] = {"auto", "ref", "avx2", "avx512"};
    if (isa == HDL_ISA_AUTO) {
        const hdl_ops *best = NULL;
        for (hdl_isa level = HDL_ISA_AVX512; !best; level--)
            best = table_of(level);
        return best;
    }
    const hdl_ops *ops = table_of(isa);
    if (!ops)
        (void)hdl_fail(HDL_UNSUPPORTED, why,
                       "cannot use instruction set %s; this CPU does not have all of it; use "
                       "worker.isa auto or a lower level",
                       names[isa]);
    return ops;
}
