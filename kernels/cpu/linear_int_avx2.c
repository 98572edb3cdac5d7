/* SPDX-License-Identifier: Apache-2.0 */
/* The integer formats with f32 scales for AVX2. */
#include "kernels/cpu/linear_int_avx2.h"

KERNELS(q8, 8, 32, false, HDL_SCALES_F32, 0, false)
KERNELS(q8m, 8, 32, true, HDL_SCALES_F32, 0, false)
KERNELS(q8_16, 8, 16, false, HDL_SCALES_F32, 0, false)
KERNELS(q4, 4, 32, false, HDL_SCALES_F32, 32, true)
KERNELS(q4m, 4, 32, true, HDL_SCALES_F32, 32, true)
KERNELS(q4_16, 4, 16, false, HDL_SCALES_F32, 32, true)
KERNELS(q4m_16, 4, 16, true, HDL_SCALES_F32, 32, true)
KERNELS(q2, 2, 32, false, HDL_SCALES_F32, 32, true)
KERNELS(q4half, 4, 32, false, HDL_SCALES_F32, 16, false)
KERNELS(q4mhalf, 4, 32, true, HDL_SCALES_F32, 16, false)
KERNELS(q4half_16, 4, 16, false, HDL_SCALES_F32, 16, false)
KERNELS(q4mhalf_16, 4, 16, true, HDL_SCALES_F32, 16, false)
KERNELS(q4wide, 4, 32, false, HDL_SCALES_F32, 0, false)
KERNELS(q4mwide, 4, 32, true, HDL_SCALES_F32, 0, false)
KERNELS(q4wide_16, 4, 16, false, HDL_SCALES_F32, 0, false)
KERNELS(q4mwide_16, 4, 16, true, HDL_SCALES_F32, 0, false)

const hdl_gemm_format *hdl_gemm_int_format(hdl_wformat format, const int8_t *codebook)
{
    static const hdl_gemm_format q8 = FORMAT(q8), q8m = FORMAT(q8m), q8_16 = FORMAT(q8_16);
    static const hdl_gemm_format q2 = FORMAT(q2);
    static const hdl_gemm_format q4[3] = {FORMAT(q4), FORMAT(q4half), FORMAT(q4wide)};
    static const hdl_gemm_format q4m[3] = {FORMAT(q4m), FORMAT(q4mhalf), FORMAT(q4mwide)};
    static const hdl_gemm_format q4_16[3] = {FORMAT(q4_16), FORMAT(q4half_16), FORMAT(q4wide_16)};
    static const hdl_gemm_format q4m_16[3] = {FORMAT(q4m_16), FORMAT(q4mhalf_16),
                                              FORMAT(q4mwide_16)};
    if (hdl_wformat_info_of(format)->scales != HDL_SCALES_F32)
        return hdl_gemm_compact_format(format, codebook);
    switch (format) {
    case HDL_WFORMAT_Q8: return &q8;
    case HDL_WFORMAT_Q8M: return &q8m;
    case HDL_WFORMAT_Q8_16: return &q8_16;
    case HDL_WFORMAT_Q4: return &q4[class_of(codebook)];
    case HDL_WFORMAT_Q4M: return &q4m[class_of(codebook)];
    case HDL_WFORMAT_Q4_16: return &q4_16[class_of(codebook)];
    case HDL_WFORMAT_Q4M_16: return &q4m_16[class_of(codebook)];
    default: return &q2;
    }
}
