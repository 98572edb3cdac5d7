/* SPDX-License-Identifier: Apache-2.0 */
/* Quantised checkpoints for the tests of the loader: a model's matrices in any layout of
 * safetensors files, of codes and scales that are functions of name and index, or their values as
 * F32. Written down while they are made, not read back by the code under test. */
#pragma once

#include "rig.h"

typedef enum rig_quant {
    RIG_FP8_BLOCK,   /* weight_scale_inv f32, blocks of 128 x 128 */
    RIG_FP8_UE8M0,   /* the same, scales E8M0 */
    RIG_FP8_TENSOR,  /* weight_scale [1] */
    RIG_FP8_CHANNEL, /* weight_scale [rows, 1] bf16 */
    RIG_MXFP4,       /* gpt-oss: _blocks and _scales of stacked experts */
    RIG_MXFP4_CT,    /* compressed-tensors */
    RIG_NVFP4,       /* modelopt: weight_scale, weight_scale_2 */
    RIG_NVFP4_CT,    /* weight_packed, weight_global_scale */
    RIG_INT4,        /* pack-quantized, groups of 32 */
    RIG_INT4_ZERO,   /* groups of 128, zero points */
    RIG_AWQ,         /* groups of 128 */
    RIG_GPTQ,        /* groups of 64, symmetric */
    RIG_GPTQ_ACT,    /* the same, zero points, columns in an order of their own */
    RIG_GPTQ8,       /* 8 bits, zero points */
    RIG_BITNET,      /* AutoBitLinear */
} rig_quant;

/* quantization_config of the layout, as its tool writes it. */
const char *rig_quant_config(rig_quant kind);
/* A new folder: config.json with the quantization_config (its own, if it has one), or (values)
 * without. Matrices of layers
 * but routers are quantised, of RIG_MXFP4 the experts; all else is BF16 by rig_weight. */
void rig_make_quantised(char dir[256], const char *config_json, rig_quant kind, bool values);
