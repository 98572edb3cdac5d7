/* SPDX-License-Identifier: Apache-2.0 */
/* The tensors of a model of the rig, for those of its files that write them. */
#pragma once

#include <heddle/model.h>

typedef struct rig_tensor {
    char name[128];
    uint64_t shape[3];
    uint32_t n_dims;
    float mean; /* vectors lie around it */
} rig_tensor;

/* All tensors of a description, one entry for each however many slots it holds; their number. */
size_t rig_tensors(const hdl_model_desc *desc, rig_tensor *out, size_t max);
uint64_t rig_tensor_count(const rig_tensor *t);
/* Element i, as rig_weight. */
float rig_tensor_weight(const rig_tensor *t, uint64_t i);
