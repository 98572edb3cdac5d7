/* SPDX-License-Identifier: Apache-2.0 */
/* Sixteen lanes of f32 (v16) or i32 (v16i): one AVX-512 register, or two of AVX2.
 *
 * Kernels over v16 are written once and compiled per instruction set. Every function does the same
 * IEEE operations per lane on both levels, and the same as its scalar twin in numeric.h, which is
 * what makes ref, AVX2 and AVX-512 agree bit for bit. Only files that are compiled with the flags
 * of an instruction set include this. */
#pragma once

#include <immintrin.h>

#include "kernels/numeric.h"

#define V16_FN static inline __attribute__((always_inline, unused))

/* Before a loop of constant length whose array must end up in registers. A loop of many checks
 * stays one: compilers take minutes to unroll what sanitizers add. For the same reason LEAF_FN,
 * which is compiled for each set of constants otherwise, is then a function that takes them. */
#if defined(__clang__)
#if __has_feature(undefined_behavior_sanitizer)
#define UNROLL _Pragma("clang loop unroll(disable)")
#else
#define UNROLL _Pragma("clang loop unroll(full)")
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define UNROLL _Pragma("GCC unroll 1")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif
#if defined(__SANITIZE_ADDRESS__)
#define LEAF_FN static __attribute__((noinline))
#else
#define LEAF_FN V16_FN
#endif

/* What was loaded before is loaded again after it: compilers would rather keep it in a register,
 * and spill an accumulator for that. */
#define FORGET_LOADS __asm__ volatile("" ::: "memory")

#if defined(__AVX512F__)

typedef __m512 v16;
typedef __m512i v16i;

V16_FN v16 v16_set1(float x) { return _mm512_set1_ps(x); }
V16_FN v16i v16i_set1(int32_t x) { return _mm512_set1_epi32(x); }
V16_FN v16 v16_load(const float *p) { return _mm512_loadu_ps(p); }
V16_FN void v16_store(float *p, v16 x) { _mm512_storeu_ps(p, x); }
V16_FN v16 v16_add(v16 a, v16 b) { return _mm512_add_ps(a, b); }
V16_FN v16 v16_sub(v16 a, v16 b) { return _mm512_sub_ps(a, b); }
V16_FN v16 v16_mul(v16 a, v16 b) { return _mm512_mul_ps(a, b); }
V16_FN v16 v16_div(v16 a, v16 b) { return _mm512_div_ps(a, b); }
V16_FN v16 v16_fma(v16 a, v16 b, v16 c) { return _mm512_fmadd_ps(a, b, c); }
/* a > b ? a : b, so b when a is a NaN; min likewise. */
V16_FN v16 v16_max(v16 a, v16 b) { return _mm512_max_ps(a, b); }
V16_FN v16 v16_min(v16 a, v16 b) { return _mm512_min_ps(a, b); }
V16_FN v16 v16_rint(v16 a)
{
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
V16_FN v16i v16_to_i32(v16 a) { return _mm512_cvtps_epi32(a); }
V16_FN v16 v16_from_i32(v16i a) { return _mm512_cvtepi32_ps(a); }
V16_FN v16i v16_bits(v16 a) { return _mm512_castps_si512(a); }
V16_FN v16 v16_from_bits(v16i a) { return _mm512_castsi512_ps(a); }
V16_FN v16i v16i_add(v16i a, v16i b) { return _mm512_add_epi32(a, b); }
V16_FN v16i v16i_and(v16i a, v16i b) { return _mm512_and_si512(a, b); }
V16_FN v16i v16i_or(v16i a, v16i b) { return _mm512_or_si512(a, b); }
V16_FN v16i v16i_shl(v16i a, int n) { return _mm512_slli_epi32(a, (unsigned)n); }
V16_FN v16i v16i_shr(v16i a, int n) { return _mm512_srli_epi32(a, (unsigned)n); }
V16_FN v16i v16i_max(v16i a, v16i b) { return _mm512_max_epi32(a, b); }
/* x < y ? a : b per lane; b where x or y is a NaN. */
V16_FN v16 v16_where_lt(v16 x, v16 y, v16 a, v16 b)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, y, _CMP_LT_OQ), b, a);
}
V16_FN v16i v16i_where_gt(v16i x, v16i y, v16i a, v16i b)
{
    return _mm512_mask_blend_epi32(_mm512_cmpgt_epi32_mask(x, y), b, a);
}
/* Lanes [lo, hi) of a, the others of b. */
V16_FN v16 v16_where_lanes(uint32_t lo, uint32_t hi, v16 a, v16 b)
{
    return _mm512_mask_blend_ps((__mmask16)((1u << hi) - (1u << lo)), b, a);
}
/* The first n (0..16) lanes; the others are 0 on load and left alone on store. */
V16_FN v16 v16_load_part(const float *p, uint32_t n)
{
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1u), p);
}
V16_FN void v16_store_part(float *p, v16 x, uint32_t n)
{
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1u), x);
}
V16_FN v16i v16i_load_u16(const uint16_t *p)
{
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
V16_FN v16 v16_load_f16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
/* Stores the low 16 bits of each lane. */
V16_FN void v16i_store_u16(uint16_t *p, v16i x)
{
    _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtepi32_epi16(x));
}
/* Stores the low 8 bits of each lane. */
V16_FN void v16i_store_u8(uint8_t *p, v16i x)
{
    _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtepi32_epi8(x));
}
/* p[0] p[0] p[1] p[1] ... p[7] p[7] */
V16_FN v16 v16_load_twice(const float *p)
{
    __m512i at = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    return _mm512_permutexvar_ps(at, _mm512_castps256_ps512(_mm256_loadu_ps(p)));
}
/* Lanes 2i and 2i + 1 change places. */
V16_FN v16 v16_swap_pairs(v16 a) { return _mm512_permute_ps(a, 0xb1); }
/* 32 int8 as 32 int16: the first 16 of them in lanes 0-7. */
V16_FN v16i v16i_load_i8(const void *p)
{
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)p));
}
/* acc += a.low * b.low + a.high * b.high of the int16 halves of each lane. */
V16_FN void v16i_dot16_into(v16i *acc, v16i a, v16i b) { *acc = _mm512_dpwssd_epi32(*acc, a, b); }
V16_FN __m256i v16i_low(v16i a) { return _mm512_castsi512_si256(a); }
V16_FN __m256i v16i_high(v16i a) { return _mm512_extracti64x4_epi64(a, 1); }
V16_FN __m256 v16_low(v16 a) { return _mm512_castps512_ps256(a); }
V16_FN __m256 v16_high(v16 a)
{
    return _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(a), 1));
}

#else /* AVX2 */

typedef struct v16 {
    __m256 lo, hi;
} v16;
typedef struct v16i {
    __m256i lo, hi;
} v16i;

V16_FN v16 v16_set1(float x) { return (v16){_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
V16_FN v16i v16i_set1(int32_t x) { return (v16i){_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
V16_FN v16 v16_load(const float *p) { return (v16){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
V16_FN void v16_store(float *p, v16 x)
{
    _mm256_storeu_ps(p, x.lo);
    _mm256_storeu_ps(p + 8, x.hi);
}
#define V16_BINARY(name, type, intrinsic)                                                          \
    V16_FN type name(type a, type b)                                                               \
    {                                                                                              \
        return (type){intrinsic(a.lo, b.lo), intrinsic(a.hi, b.hi)};                               \
    }
V16_BINARY(v16_add, v16, _mm256_add_ps)
V16_BINARY(v16_sub, v16, _mm256_sub_ps)
V16_BINARY(v16_mul, v16, _mm256_mul_ps)
V16_BINARY(v16_div, v16, _mm256_div_ps)
/* a > b ? a : b, so b when a is a NaN; min likewise. */
V16_BINARY(v16_max, v16, _mm256_max_ps)
V16_BINARY(v16_min, v16, _mm256_min_ps)
V16_BINARY(v16i_add, v16i, _mm256_add_epi32)
V16_BINARY(v16i_and, v16i, _mm256_and_si256)
V16_BINARY(v16i_or, v16i, _mm256_or_si256)
V16_BINARY(v16i_max, v16i, _mm256_max_epi32)
#undef V16_BINARY
V16_FN v16 v16_fma(v16 a, v16 b, v16 c)
{
    return (v16){_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
V16_FN v16 v16_rint(v16 a)
{
    return (v16){_mm256_round_ps(a.lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
                 _mm256_round_ps(a.hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
V16_FN v16i v16_to_i32(v16 a) { return (v16i){_mm256_cvtps_epi32(a.lo), _mm256_cvtps_epi32(a.hi)}; }
V16_FN v16 v16_from_i32(v16i a)
{
    return (v16){_mm256_cvtepi32_ps(a.lo), _mm256_cvtepi32_ps(a.hi)};
}
V16_FN v16i v16_bits(v16 a) { return (v16i){_mm256_castps_si256(a.lo), _mm256_castps_si256(a.hi)}; }
V16_FN v16 v16_from_bits(v16i a)
{
    return (v16){_mm256_castsi256_ps(a.lo), _mm256_castsi256_ps(a.hi)};
}
V16_FN v16i v16i_shl(v16i a, int n)
{
    return (v16i){_mm256_slli_epi32(a.lo, n), _mm256_slli_epi32(a.hi, n)};
}
V16_FN v16i v16i_shr(v16i a, int n)
{
    return (v16i){_mm256_srli_epi32(a.lo, n), _mm256_srli_epi32(a.hi, n)};
}
/* x < y ? a : b per lane; b where x or y is a NaN. */
V16_FN v16 v16_where_lt(v16 x, v16 y, v16 a, v16 b)
{
    return (v16){_mm256_blendv_ps(b.lo, a.lo, _mm256_cmp_ps(x.lo, y.lo, _CMP_LT_OQ)),
                 _mm256_blendv_ps(b.hi, a.hi, _mm256_cmp_ps(x.hi, y.hi, _CMP_LT_OQ))};
}
V16_FN v16i v16i_where_gt(v16i x, v16i y, v16i a, v16i b)
{
    return (v16i){_mm256_blendv_epi8(b.lo, a.lo, _mm256_cmpgt_epi32(x.lo, y.lo)),
                  _mm256_blendv_epi8(b.hi, a.hi, _mm256_cmpgt_epi32(x.hi, y.hi))};
}
/* All ones in lanes [0, n). */
V16_FN v16i v16i_first(uint32_t n)
{
    __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), count = _mm256_set1_epi32((int)n);
    return (v16i){_mm256_cmpgt_epi32(count, lane),
                  _mm256_cmpgt_epi32(count, _mm256_add_epi32(lane, _mm256_set1_epi32(8)))};
}
/* Lanes [lo, hi) of a, the others of b. */
V16_FN v16 v16_where_lanes(uint32_t lo, uint32_t hi, v16 a, v16 b)
{
    v16i below = v16i_first(lo), upto = v16i_first(hi);
    __m256i in_lo = _mm256_andnot_si256(below.lo, upto.lo);
    __m256i in_hi = _mm256_andnot_si256(below.hi, upto.hi);
    return (v16){_mm256_blendv_ps(b.lo, a.lo, _mm256_castsi256_ps(in_lo)),
                 _mm256_blendv_ps(b.hi, a.hi, _mm256_castsi256_ps(in_hi))};
}
/* The first n (0..16) lanes; the others are 0 on load and left alone on store. */
V16_FN v16 v16_load_part(const float *p, uint32_t n)
{
    v16i in = v16i_first(n);
    return (v16){_mm256_maskload_ps(p, in.lo), _mm256_maskload_ps(p + 8, in.hi)};
}
V16_FN void v16_store_part(float *p, v16 x, uint32_t n)
{
    v16i in = v16i_first(n);
    _mm256_maskstore_ps(p, in.lo, x.lo);
    _mm256_maskstore_ps(p + 8, in.hi, x.hi);
}
V16_FN v16i v16i_load_u16(const uint16_t *p)
{
    return (v16i){_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)),
                  _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)(p + 8)))};
}
V16_FN v16 v16_load_f16(const uint16_t *p)
{
    return (v16){_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p)),
                 _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(p + 8)))};
}
/* Stores the low 16 bits of each lane. */
V16_FN void v16i_store_u16(uint16_t *p, v16i x)
{
    __m256i mask = _mm256_set1_epi32(0xffff);
    __m256i packed =
        _mm256_packus_epi32(_mm256_and_si256(x.lo, mask), _mm256_and_si256(x.hi, mask));
    _mm256_storeu_si256((__m256i *)(void *)p, _mm256_permute4x64_epi64(packed, 0xd8));
}
/* Stores the low 8 bits of each lane. */
V16_FN void v16i_store_u8(uint8_t *p, v16i x)
{
    uint16_t half[16];
    v16i_store_u16(half, v16i_and(x, v16i_set1(0xff)));
    __m128i a = _mm_loadu_si128((const __m128i *)(const void *)half);
    __m128i b = _mm_loadu_si128((const __m128i *)(const void *)(half + 8));
    _mm_storeu_si128((__m128i *)(void *)p, _mm_packus_epi16(a, b));
}
/* p[0] p[0] p[1] p[1] ... p[7] p[7] */
V16_FN v16 v16_load_twice(const float *p)
{
    __m256 x = _mm256_loadu_ps(p);
    return (v16){_mm256_permutevar8x32_ps(x, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3)),
                 _mm256_permutevar8x32_ps(x, _mm256_setr_epi32(4, 4, 5, 5, 6, 6, 7, 7))};
}
/* Lanes 2i and 2i + 1 change places. */
V16_FN v16 v16_swap_pairs(v16 a)
{
    return (v16){_mm256_permute_ps(a.lo, 0xb1), _mm256_permute_ps(a.hi, 0xb1)};
}
/* 32 int8 as 32 int16: the first 16 of them in lanes 0-7. */
V16_FN v16i v16i_load_i8(const void *p)
{
    const __m128i *at = p;
    return (v16i){_mm256_cvtepi8_epi16(_mm_loadu_si128(at)),
                  _mm256_cvtepi8_epi16(_mm_loadu_si128(at + 1))};
}
/* acc += a.low * b.low + a.high * b.high of the int16 halves of each lane. */
V16_FN void v16i_dot16_into(v16i *acc, v16i a, v16i b)
{
    v16i n = {_mm256_madd_epi16(a.lo, b.lo), _mm256_madd_epi16(a.hi, b.hi)};
    /* in place: gcc 12 moves accumulators about otherwise, and then spills them */
    __asm__("vpaddd %1, %0, %0" : "+x"(acc->lo) : "x"(n.lo));
    __asm__("vpaddd %1, %0, %0" : "+x"(acc->hi) : "x"(n.hi));
}
V16_FN __m256i v16i_low(v16i a) { return a.lo; }
V16_FN __m256i v16i_high(v16i a) { return a.hi; }
V16_FN __m256 v16_low(v16 a) { return a.lo; }
V16_FN __m256 v16_high(v16 a) { return a.hi; }

#endif

V16_FN v16 v16_zero(void) { return v16_set1(0.0f); }

/* -x in lanes 0, 2, 4, ...: multiplication by -1 is exact. */
V16_FN v16 v16_negate_even(v16 x)
{
    static const float sign[HDL_LANES] = {-1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1};
    return v16_mul(x, v16_load(sign));
}

/* The sum of hdl_lanes_fold: halves are added until one lane is left. */
V16_FN float v16_fold(v16 a)
{
    __m256 eight = _mm256_add_ps(v16_low(a), v16_high(a));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

/* Largest lane; NaN lanes may be passed over. */
V16_FN float v16_fold_max(v16 a)
{
    __m256 eight = _mm256_max_ps(v16_low(a), v16_high(a));
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

/* Largest lane, signed. */
V16_FN int32_t v16i_fold_max(v16i a)
{
    __m256i eight = _mm256_max_epi32(v16i_low(a), v16i_high(a));
    __m128i four = _mm_max_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    __m128i two = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtsi128_si32(_mm_max_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}

V16_FN v16 v16_load_bf16(const uint16_t *p)
{
    return v16_from_bits(v16i_shl(v16i_load_u16(p), 16));
}

/* hdl_bf16_from_f32 in the low 16 bits of each lane. */
V16_FN v16i v16_to_bf16(v16 x)
{
    v16i u = v16_bits(x), high = v16i_shr(u, 16);
    v16i odd = v16i_and(high, v16i_set1(1));
    v16i rounded = v16i_shr(v16i_add(v16i_add(u, v16i_set1(0x7fff)), odd), 16);
    v16i magnitude = v16i_and(u, v16i_set1(0x7fffffff));
    return v16i_where_gt(magnitude, v16i_set1(0x7f800000), v16i_or(high, v16i_set1(0x40)), rounded);
}

/* hdl_exp of x <= 0 or a NaN */
V16_FN v16 v16_exp_below(v16 x)
{
    v16 n = v16_rint(v16_mul(x, v16_set1(HDL_EXP_LOG2E)));
    v16 r = v16_fma(n, v16_set1(-HDL_EXP_LN2_HIGH), x);
    r = v16_fma(n, v16_set1(-HDL_EXP_LN2_LOW), r);
    v16 p = v16_set1(1.0f / 5040);
    p = v16_fma(p, r, v16_set1(1.0f / 720));
    p = v16_fma(p, r, v16_set1(1.0f / 120));
    p = v16_fma(p, r, v16_set1(1.0f / 24));
    p = v16_fma(p, r, v16_set1(1.0f / 6));
    p = v16_fma(p, r, v16_set1(0.5f));
    p = v16_fma(p, r, v16_set1(1.0f));
    p = v16_fma(p, r, v16_set1(1.0f));
    v16i power = v16i_shl(v16i_add(v16_to_i32(n), v16i_set1(127)), 23);
    p = v16_mul(p, v16_from_bits(power));
    return v16_where_lt(x, v16_set1(HDL_EXP_MIN), v16_zero(), p);
}

/* hdl_exp */
V16_FN v16 v16_exp(v16 x)
{
    return v16_where_lt(v16_set1(HDL_EXP_MAX), x, v16_set1(INFINITY), v16_exp_below(x));
}

/* hdl_silu */
V16_FN v16 v16_silu(v16 g)
{
    v16 e = v16_exp(v16_sub(v16_zero(), g));
    return v16_div(g, v16_add(v16_set1(1.0f), e));
}

/* hdl_sigmoid */
V16_FN v16 v16_sigmoid(v16 x)
{
    v16 one = v16_set1(1.0f), e = v16_exp(v16_sub(v16_zero(), x));
    return v16_div(one, v16_add(one, e));
}

/* hdl_tanh */
V16_FN v16 v16_tanh(v16 x)
{
    v16 s = v16_mul(x, x), p = v16_set1(62.0f / 2835), one = v16_set1(1.0f), two = v16_set1(2.0f);
    p = v16_fma(p, s, v16_set1(-17.0f / 315));
    p = v16_fma(p, s, v16_set1(2.0f / 15));
    p = v16_fma(p, s, v16_set1(-1.0f / 3));
    p = v16_fma(v16_mul(p, s), x, x);
    v16 e = v16_add(v16_exp(v16_mul(two, x)), one);
    e = v16_sub(one, v16_div(two, e));
    v16 magnitude = v16_from_bits(v16i_and(v16_bits(x), v16i_set1(0x7fffffff)));
    return v16_where_lt(magnitude, v16_set1(HDL_TANH_SMALL), p, e);
}

/* hdl_softcap */
V16_FN v16 v16_softcap(v16 x, float cap)
{
    return v16_mul(v16_set1(cap), v16_tanh(v16_div(x, v16_set1(cap))));
}

/* hdl_gelu */
V16_FN v16 v16_gelu(v16 g)
{
    v16 z = v16_fma(v16_mul(v16_mul(v16_set1(HDL_GELU_CUBE), g), g), g, g);
    v16 e = v16_exp(v16_mul(v16_set1(HDL_GELU_TWICE), z));
    return v16_div(g, v16_add(v16_set1(1.0f), e));
}

/* hdl_glu; a constant kind leaves one branch. */
V16_FN v16 v16_glu(hdl_glu_act act, v16 g, v16 up)
{
    switch (act.kind) {
    case HDL_GLU_SILU: return v16_mul(v16_silu(g), up);
    case HDL_GLU_GELU: return v16_mul(v16_gelu(g), up);
    case HDL_GLU_RELU2: g = v16_max(v16_zero(), g); return v16_mul(v16_mul(g, g), up);
    case HDL_GLU_OAI: break;
    }
    v16 one = v16_set1(1.0f);
    g = v16_min(v16_set1(act.limit), g);
    up = v16_min(v16_set1(act.limit), up);
    up = v16_max(v16_set1(-act.limit), up);
    v16 e = v16_exp(v16_sub(v16_zero(), v16_mul(v16_set1(act.alpha), g)));
    return v16_mul(v16_div(g, v16_add(one, e)), v16_add(up, one));
}

/* hdl_square_sum */
V16_FN float v16_square_sum(const float *x, uint32_t dim)
{
    v16 sum = v16_zero();
    uint32_t i = 0;
    for (; i + HDL_LANES <= dim; i += HDL_LANES) {
        v16 v = v16_load(x + i);
        sum = v16_add(sum, v16_mul(v, v));
    }
    if (i < dim) {
        v16 v = v16_load_part(x + i, dim - i);
        sum = v16_add(sum, v16_mul(v, v));
    }
    return v16_fold(sum);
}

/* hdl_rms_scale */
V16_FN float v16_rms_scale(const float *x, uint32_t dim, float eps)
{
    return hdl_rms_scale_of(v16_square_sum(x, dim), dim, eps);
}

/* Integers in -127..127; NaN becomes 127. */
V16_FN v16 v16_int8_clamp(v16 q)
{
    return v16_max(v16_min(q, v16_set1(127.0f)), v16_set1(-127.0f));
}

/* hdl_q8_scale and hdl_q8_round of one group: x as two halves in, integers in -127..127 out. */
V16_FN float v16_q8_group(v16 a, v16 b, v16i out[2])
{
    v16i magnitude = v16i_set1(0x7fffffff);
    v16i bits = v16i_max(v16i_and(v16_bits(a), magnitude), v16i_and(v16_bits(b), magnitude));
    int32_t lane[HDL_LANES], max = 0;
    memcpy(lane, &bits, sizeof lane);
    for (int i = 0; i < HDL_LANES; i++)
        max = lane[i] > max ? lane[i] : max;
    float scale = hdl_f32_from_bits((uint32_t)max) / 127.0f;
    v16 x[2] = {a, b};
    for (int i = 0; i < 2; i++) {
        v16 q = scale == 0.0f ? v16_zero() : v16_div(x[i], v16_set1(scale));
        out[i] = v16_to_i32(v16_int8_clamp(q));
    }
    return scale;
}
