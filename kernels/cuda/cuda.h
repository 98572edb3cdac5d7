/* SPDX-License-Identifier: Apache-2.0 */
/* The ops of the plugin, one file each, and the table that plugin.cu makes of them. Owner: the step
 * thread; ops only launch. */
#pragma once

#include "kernels/cuda/gpu.h"

#define HDL_CUDA_DECLARE(op, args) void hdl_cuda_##op(const args *a, hdl_stream *stream);
HDL_OP_LIST(HDL_CUDA_DECLARE)
#undef HDL_CUDA_DECLARE

/* What attention's blocks hold (attention.cu), a recurrence's (gated_delta.cu): hdl_ops_limits. */
enum {
    CUDA_HEAD_DIM_MAX = 256,
    CUDA_LATENT_ROW_MAX = 576,
    CUDA_LATENT_RANK_MAX = 512,
    CUDA_GDN_K_MAX = 4096,
    CUDA_GDN_V_MAX = 1024,
    CUDA_LATENT_PREFILL_DIM_MAX = 128,
    CUDA_LATENT_PREFILL_ROPE_MAX = 64,
};

/* Row-major planes whose rows are padded; see weight.h. */
size_t hdl_cuda_weight_bytes(hdl_wformat format, uint32_t n, uint32_t k, uint32_t n_leaves);
void hdl_cuda_weight_pack(const hdl_pack_args *args);
size_t hdl_cuda_scratch_bytes(const hdl_ops_extent *extent);
size_t hdl_cuda_attention_scratch(const hdl_ops_extent *extent);      /* attention's part of it */
size_t hdl_cuda_latent_prefill_scratch(const hdl_ops_extent *extent); /* besides attention's */
/* attention of which only so many numbers of a value are wanted; the rest of its place is not read.
 */
void cuda_attention(const hdl_attention_args *a, uint32_t value_dim, hdl_stream *stream);

/* The device layer's, for weight_pack: host bytes to device memory, done when it returns. Any
 * thread. */
void hdl_cuda_store(void *to, const void *from, size_t bytes);
/* Collectives between devices, of nccl.cu; NULL: built without. */
extern const hdl_plugin_colls *const hdl_cuda_colls;
extern const hdl_plugin_roofs hdl_cuda_roofs; /* of roof.cu */
/* The table's device functions; of device_cuda.cu or fiber/device_fiber.cc. */
extern const hdl_plugin hdl_cuda_device_layer;
