/* SPDX-License-Identifier: Apache-2.0 */
/* The formats in which matrices are held, and the arithmetic of each: what every backend of ops.h
 * computes, however it lays weights out. Owner: none, constants and pure functions; any thread. */
#pragma once

#include <heddle/source.h>

/* Arithmetic of a packed matrix.
 *
 *  F32    f32 weights, f32 activations, fma in order of k.
 *  BF16   bf16 weights; activations are rounded to bf16 (nearest even) on entry; products and sums
 *         in f32.
 *  FP8    E4M3 weights with one f32 scale per `group` consecutive k of a row; activations as for
 *         BF16. part = the group's products x * (code / 256), exact, added in order of k from +0;
 *         sum = fma(part, scale * 256, sum), groups in order: divided by 256 a code is a binary16
 *         number of the same digits. 128 is for the blocks that checkpoints use, 64 and 32
 *         for matrices whose leaves or blocks are no multiples of 128.
 *  Q8, Q4 int8 weights, or 4-bit indices into a codebook of sixteen int8 (Q2: 2-bit ones into the
 *         first four of hdl_codebook_t2, which follow one another), with one f32 scale per
 *         `group` consecutive k of a row and, with mins, one f32 min: w = scale * code + min.
 *         Activations become int8 per token and 32 k: x_scale = max|x| / 127, q = nearest even of
 *         x / x_scale. The int32 dot of a group and the sum of its q are exact, then
 *         sum = fma(dot, x_scale * scale, sum) and, with mins, sum = fma(q_sum, x_scale * min,
 * sum), groups in order of k.
 *
 * Floats become Q8 by scale = max|w| / 127 and Q4 (codebook -8..7) by scale = m / -8, m being the
 * number of the group that is farthest from 0; codes are nearest even, clamped. */

/* What ends in H or K holds the numbers of the format of f32 scales beside it (its sibling:
 * Q4, Q8; Q4M of Q4K, Q8_16 of Q6K) in fewer bytes, where they fit exactly: H has f16 scales;
 * K has factors, a scale being an f16 times an int8 (and a min another f16 times an int8), the
 * f16 once for a block. The arithmetic is the sibling's, to the bit.
 *
 * block: k of a row that share what lies before their codes; leaves are multiples of it. */
/*    name   text       bits group mins   scales   block */
#define HDL_WFORMAT_LIST(X)                                                                        \
    X(F32, "f32", 32, 0, false, F32, 1)                                                            \
    X(BF16, "bf16", 16, 0, false, F32, 2)                                                          \
    X(FP8, "fp8", 8, 128, false, F32, 128)                                                         \
    X(FP8_64, "fp8-g64", 8, 64, false, F32, 64)                                                    \
    X(FP8_32, "fp8-g32", 8, 32, false, F32, 32)                                                    \
    X(Q8, "q8", 8, 32, false, F32, 32)                                                             \
    X(Q8M, "q8m", 8, 32, true, F32, 32)                                                            \
    X(Q8_16, "q8-g16", 8, 16, false, F32, 32)                                                      \
    X(Q4, "q4", 4, 32, false, F32, 32)                                                             \
    X(Q4M, "q4m", 4, 32, true, F32, 32)                                                            \
    X(Q4_16, "q4-g16", 4, 16, false, F32, 32)                                                      \
    X(Q4M_16, "q4m-g16", 4, 16, true, F32, 32)                                                     \
    X(Q2, "q2", 2, 32, false, F32, 32)                                                             \
    X(Q8H, "q8h", 8, 32, false, F16, 32)                                                           \
    X(Q4H, "q4h", 4, 32, false, F16, 32)                                                           \
    X(Q4K, "q4k", 4, 32, true, FACTORS, 64)                                                        \
    X(Q6K, "q6k", 6, 16, false, FACTORS, 32)

#define HDL_WFORMAT_ENUM(name, text, bits, group, mins, scales, block) HDL_WFORMAT_##name,
typedef enum hdl_wformat { HDL_WFORMAT_LIST(HDL_WFORMAT_ENUM) HDL_WFORMAT_COUNT } hdl_wformat;
#undef HDL_WFORMAT_ENUM

typedef struct hdl_wformat_info {
    const char *name;
    uint32_t bits, group; /* group 0: no scales */
    bool has_mins;
    hdl_scale_form scales;
    uint32_t block;
} hdl_wformat_info;

static inline const hdl_wformat_info *hdl_wformat_info_of(hdl_wformat format)
{
#define HDL_WFORMAT_INFO(name, text, bits, group, mins, scales, block)                             \
    {text, bits, group, mins, HDL_SCALES_##scales, block},
    static const hdl_wformat_info info[] = {HDL_WFORMAT_LIST(HDL_WFORMAT_INFO)};
#undef HDL_WFORMAT_INFO
    return &info[format];
}

/* Bytes of the scales and minima of a block of one row. */
static inline uint32_t hdl_wformat_head_bytes(const hdl_wformat_info *info)
{
    if (info->group == 0)
        return 0;
    uint32_t groups = info->block / info->group, each = info->has_mins ? 2 : 1;
    switch (info->scales) {
    case HDL_SCALES_F16: return each * groups * 2;
    case HDL_SCALES_FACTORS: return each * (2 + groups);
    default: return each * groups * 4;
    }
}

/* Bytes of n values with their scales; backends may pad. */
static inline uint64_t hdl_wformat_bytes(hdl_wformat format, uint64_t n)
{
    const hdl_wformat_info *info = hdl_wformat_info_of(format);
    return n * info->bits / 8 + n / info->block * hdl_wformat_head_bytes(info);
}

/* The format of the same numbers that every backend has: with f32 scales. */
static inline hdl_wformat hdl_wformat_sibling(hdl_wformat format)
{
    switch (format) {
    case HDL_WFORMAT_Q8H: return HDL_WFORMAT_Q8;
    case HDL_WFORMAT_Q4H: return HDL_WFORMAT_Q4;
    case HDL_WFORMAT_Q4K: return HDL_WFORMAT_Q4M;
    case HDL_WFORMAT_Q6K: return HDL_WFORMAT_Q8_16;
    default: return format;
    }
}

/* Integer arithmetic: codes with a scale per group, int8 activations. */
HDL_INLINE bool hdl_wformat_is_int(hdl_wformat format) { return format >= HDL_WFORMAT_Q8; }
