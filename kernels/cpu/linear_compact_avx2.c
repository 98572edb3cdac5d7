/* SPDX-License-Identifier: Apache-2.0 */
/* The integer formats whose scales are no f32, for AVX2. */
#include "kernels/cpu/linear_int_avx2.h"

KERNELS(q4h, 4, 32, false, HDL_SCALES_F16, 32, true)
KERNELS(q4hwide, 4, 32, false, HDL_SCALES_F16, 0, false)
KERNELS(q8h, 8, 32, false, HDL_SCALES_F16, 0, false)
KERNELS(q4k, 4, 32, true, HDL_SCALES_FACTORS, 32, true)
KERNELS(q6k, 6, 16, false, HDL_SCALES_FACTORS, 16, true)

const hdl_gemm_format *hdl_gemm_compact_format(hdl_wformat format, const int8_t *codebook)
{
    static const hdl_gemm_format q4h = FORMAT(q4h), q4hwide = FORMAT(q4hwide), q8h = FORMAT(q8h);
    static const hdl_gemm_format q4k = FORMAT(q4k), q6k = FORMAT(q6k);
    switch (format) {
    case HDL_WFORMAT_Q4H: return class_of(codebook) == LINEAR ? &q4h : &q4hwide;
    case HDL_WFORMAT_Q8H: return &q8h;
    case HDL_WFORMAT_Q4K: return &q4k;
    default: return &q6k;
    }
}
