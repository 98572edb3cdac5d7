/* SPDX-License-Identifier: Apache-2.0 */
/* The table that a worker gets: ops of this folder over the device layer of the build (CUDA, or
 * fibers on the host). */
#include "kernels/cuda/cuda.h"

#ifdef __CUDACC__
#define NAME "cuda"
#else
#define NAME "fiber"
#endif

/* Ops that have kernels; the others are NULL, and whoever loads the plugin says so. */
#define HDL_CUDA_OP_LIST(X)                                                                        \
    X(embed)                                                                                       \
    X(rms_norm)                                                                                    \
    X(sumsq)                                                                                       \
    X(absmax)                                                                                      \
    X(int8_rows)                                                                                   \
    X(linear)                                                                                      \
    X(linear_heads)                                                                                \
    X(moe_experts)                                                                                 \
    X(gate)                                                                                        \
    X(softcap)                                                                                     \
    X(glu)                                                                                         \
    X(scale_rows)                                                                                  \
    X(add)                                                                                         \
    X(add_row)                                                                                     \
    X(kv_move)                                                                                     \
    X(lora_shrink)                                                                                 \
    X(lora_expand)                                                                                 \
    X(kv_copy)                                                                                     \
    X(batch_build)                                                                                 \
    X(attention)                                                                                   \
    X(latent_prefill)                                                                              \
    X(gdn_conv)                                                                                    \
    X(gated_delta)                                                                                 \
    X(qkv_rope)                                                                                    \
    X(latent_rope)                                                                                 \
    X(router)                                                                                      \
    X(moe_combine)                                                                                 \
    X(sample)

static hdl_ops ops;
static hdl_plugin plugin;

static void fill_tables()
{
    ops.name = NAME;
    ops.limits = {CUDA_HEAD_DIM_MAX,
                  CUDA_LATENT_ROW_MAX,
                  CUDA_LATENT_RANK_MAX,
                  CUDA_GDN_K_MAX,
                  CUDA_GDN_V_MAX,
                  HDL_GDN_TAPS_MAX,
                  HDL_EXPERTS_MAX,
                  HDL_TOPK_MAX,
                  HDL_SAMPLE_VOCAB_MAX,
                  true,
                  CUDA_LATENT_PREFILL_DIM_MAX,
                  CUDA_LATENT_PREFILL_ROPE_MAX};
#define HDL_CUDA_MEMBER(op) ops.op = hdl_cuda_##op;
    HDL_CUDA_OP_LIST(HDL_CUDA_MEMBER)
#undef HDL_CUDA_MEMBER
    ops.weight_bytes = hdl_cuda_weight_bytes;
    ops.weight_pack = hdl_cuda_weight_pack;
    ops.scratch_bytes = hdl_cuda_scratch_bytes;
    plugin = hdl_cuda_device_layer;
    plugin.ops = &ops;
    plugin.colls = hdl_cuda_colls;
    plugin.roofs = &hdl_cuda_roofs;
}

extern "C" __attribute__((visibility("default"))) const hdl_plugin *hdl_plugin_get(uint32_t abi)
{
    if (abi != HDL_PLUGIN_ABI)
        return NULL;
    fill_tables();
    return &plugin;
}
