/* SPDX-License-Identifier: Apache-2.0 */
/* A view of numbers in memory: pointer, element type, shape, strides. Owns nothing; valid as long
 * as what it views. */
#pragma once

#include <heddle/types.h>

enum { HDL_TENSOR_DIMS_MAX = 4 };

typedef struct hdl_tensor {
    void *data; /* borrowed */
    hdl_dtype dtype;
    uint32_t n_dims;
    int64_t shape[HDL_TENSOR_DIMS_MAX]; /* outermost first */
    int64_t
        stride[HDL_TENSOR_DIMS_MAX]; /* in elements; the innermost is 1 for all tensors of today */
} hdl_tensor;

static inline hdl_tensor hdl_tensor_2d(void *data, hdl_dtype dtype, int64_t rows, int64_t cols)
{
    return (hdl_tensor){
        .data = data, .dtype = dtype, .n_dims = 2, .shape = {rows, cols}, .stride = {cols, 1}};
}

static inline hdl_tensor hdl_tensor_1d(void *data, hdl_dtype dtype, int64_t n)
{
    return (hdl_tensor){.data = data, .dtype = dtype, .n_dims = 1, .shape = {n}, .stride = {1}};
}
