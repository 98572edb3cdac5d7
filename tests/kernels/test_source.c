/* SPDX-License-Identifier: Apache-2.0 */
/* Sources: a strided, transposed or cut window reads the numbers that a plain loop finds, and packs
 * to the bytes of a plain copy of them. */
#include <string.h>

#include "kernel_test.h"
#include "kernels/numeric.h"

static const struct {
    hdl_dtype dtype;
    uint32_t rows, cols; /* of the whole matrix */
    hdl_window window;
    bool transposed;
} shapes[] = {
    {HDL_DTYPE_F32, 20, 96, {0, 20, 0, 96}, false},
    {HDL_DTYPE_F32, 33, 64, {4, 20, 32, 32}, true},
    {HDL_DTYPE_F16, 40, 128, {1, 3, 64, 64}, false},
    {HDL_DTYPE_F16, 18, 34, {0, 18, 0, 34}, true},
    {HDL_DTYPE_BF16, 50, 70, {5, 45, 2, 66}, false},
    {HDL_DTYPE_BF16, 7, 600, {0, 7, 0, 600}, true},
    {HDL_DTYPE_BF16, 80, 640, {3, 70, 32, 544}, true},
    {HDL_DTYPE_F32, 36, 320, {0, 36, 0, 320}, true},
};

static float number(const void *data, hdl_dtype dtype, size_t i)
{
    if (dtype == HDL_DTYPE_F32)
        return ((const float *)data)[i];
    uint16_t h = ((const uint16_t *)data)[i];
    return dtype == HDL_DTYPE_F16 ? hdl_f16_to_f32(h) : hdl_bf16_to_f32(h);
}

static void *numbers(kt *t, hdl_dtype dtype, size_t n)
{
    if (dtype == HDL_DTYPE_F32)
        return kt_floats(t, n, 1);
    uint16_t *half = KT_NEW(t, uint16_t, n);
    for (size_t i = 0; i < n; i++)
        half[i] = (uint16_t)(kt_range(t, 0, 1) << 15 | kt_range(t, 0x3000, 0x4fff));
    return half;
}

static void check_packed(kt *t, hdl_wformat format, const hdl_source *part, hdl_tensor copy)
{
    for (int level = 0; level < t->n_levels; level++) {
        const hdl_ops *ops = t->levels[level];
        if (ops->weight_bytes(format, part->n_rows, part->n_cols, 1) == 0)
            continue;
        hdl_weight plain = kt_pack(t, ops, format, copy, 1), odd = plain;
        odd.data = kt_alloc(t, odd.bytes);
        memset(odd.data, 0xa5, odd.bytes);
        ops->weight_pack(&(hdl_pack_args){.src = *part, .dst = &odd});
        kt_same_bytes(t, kt_name(t, "packed window", level, 0), plain.data, odd.data, odd.bytes);
    }
}

static void test(kt *t, int c)
{
    uint32_t rows = shapes[c].rows, cols = shapes[c].cols;
    hdl_window w = shapes[c].window;
    hdl_tensor all = hdl_tensor_2d(numbers(t, shapes[c].dtype, (size_t)rows * cols),
                                   shapes[c].dtype, rows, cols);
    if (shapes[c].transposed) {
        all.stride[0] = 1;
        all.stride[1] = rows;
    }
    float *want = KT_NEW(t, float, (size_t)w.n_rows *w.n_cols);
    float *got = KT_NEW(t, float, (size_t)w.n_rows *w.n_cols);
    hdl_source whole = hdl_source_of_tensor(&all), part = hdl_source_part(&whole, w);
    for (uint32_t r = 0; r < w.n_rows; r++) {
        for (uint32_t k = 0; k < w.n_cols; k++)
            want[r * w.n_cols + k] =
                number(all.data, all.dtype,
                       (size_t)((w.row_at + r) * all.stride[0] + (w.col_at + k) * all.stride[1]));
        uint32_t cut = kt_range(t, 0, w.n_cols);
        hdl_source_values(&part, (hdl_span){r, 0, cut}, got + r * w.n_cols);
        hdl_source_values(&part, (hdl_span){r, cut, w.n_cols - cut}, got + r * w.n_cols + cut);
    }
    kt_same(t, "values of a window", want, got, (size_t)w.n_rows * w.n_cols);
    kt_check(t,
             hdl_source_bytes(&part) == (uint64_t)w.n_rows * w.n_cols * hdl_dtype_bytes(all.dtype),
             "bytes of a window");
    hdl_tensor copy = hdl_tensor_2d(want, HDL_DTYPE_F32, w.n_rows, w.n_cols);
    check_packed(t, HDL_WFORMAT_F32, &part, copy);
    check_packed(t, HDL_WFORMAT_BF16, &part, copy);
    check_packed(t, HDL_WFORMAT_Q8, &part, copy);
}

const kt_suite kt_source = {"source", HDL_ARRAY_LEN(shapes), test};
