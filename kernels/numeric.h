/* SPDX-License-Identifier: Apache-2.0 */
/* The scalar arithmetic that defines results: number formats, exp, the lane sum, Q8 groups.
 *
 * ref uses these as they are; cpu/v16.h holds the same formulas for sixteen lanes at once, with the
 * same operations in the same order, so that all instruction-set levels agree bit for bit. fmaf is
 * the correctly rounded one of libm, whatever the machine. Pure functions; any thread. */
#pragma once

#include <heddle/ops.h>
#include <math.h>
#include <string.h>

HDL_INLINE uint32_t hdl_f32_bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

HDL_INLINE float hdl_f32_from_bits(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

HDL_INLINE float hdl_bf16_to_f32(uint16_t h) { return hdl_f32_from_bits((uint32_t)h << 16); }

/* Nearest even; a NaN stays a (quiet) NaN. */
HDL_INLINE uint16_t hdl_bf16_from_f32(float x)
{
    uint32_t u = hdl_f32_bits(x);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)((u >> 16) | 0x40u);
    return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

HDL_INLINE float hdl_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, magnitude = h & 0x7fffu;
    if (magnitude >= 0x7c00u) /* infinity, NaN */
        return hdl_f32_from_bits(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
    if (magnitude < 0x400u) { /* zero, subnormal: magnitude * 2^-24, exact */
        float x = (float)magnitude * 0x1p-24f;
        return sign ? -x : x;
    }
    return hdl_f32_from_bits(sign | (magnitude + ((127u - 15u) << 10)) << 13);
}

/* E4M3 without infinities (OCP 8-bit floating point, "fn"): exponent bias 7, 0x7f and 0xff NaN. */
HDL_INLINE float hdl_e4m3_to_f32(uint8_t b)
{
    uint32_t sign = (uint32_t)(b & 0x80u) << 24, magnitude = b & 0x7fu;
    if (magnitude == 0x7f)
        return hdl_f32_from_bits(sign | 0x7fc00000u);
    if (magnitude < 8) { /* zero, subnormal: magnitude * 2^-9, exact */
        float x = (float)magnitude * 0x1p-9f;
        return sign ? -x : x;
    }
    return hdl_f32_from_bits(sign | (magnitude + ((127u - 7u) << 3)) << 20);
}

/* Nearest even, at most 448 in size; what is not finite becomes NaN. */
HDL_INLINE uint8_t hdl_e4m3_from_f32(float x)
{
    uint32_t bits = hdl_f32_bits(x), sign = bits >> 24 & 0x80u, magnitude = bits & 0x7fffffffu;
    if (magnitude >= 0x7f800000u)
        return (uint8_t)(sign | 0x7fu);
    if (magnitude < (127u - 6u) << 23) /* multiples of 2^-9 */
        return (uint8_t)(sign | (uint32_t)lrintf(hdl_f32_from_bits(magnitude) * 0x1p9f));
    magnitude = hdl_min_u32(magnitude, 0x43e00000u) - ((127u - 7u) << 23);
    return (uint8_t)(sign | (magnitude + 0x7ffffu + (magnitude >> 20 & 1u)) >> 20);
}

/* 2^(b - 127); 255 is NaN. OCP Microscaling Formats 1.0, section 5.4.1. */
HDL_INLINE float hdl_e8m0_to_f32(uint8_t b)
{
    return hdl_f32_from_bits(b == 0 ? 0x00400000u : b == 255 ? 0x7fc00000u : (uint32_t)b << 23);
}

/* exp(x) = 2^n exp(r), n = round(x / ln 2), |r| <= ln 2 / 2. exp(r) is its Taylor polynomial of
 * degree 7, whose remainder r^8 / 8! < 6e-9 is below a tenth of an ulp. ln 2 is split so that
 * n * HIGH is exact. Below MIN the result is +0 (no subnormals), above MAX infinity. */
#define HDL_EXP_MIN      (-87.0f)
#define HDL_EXP_MAX      88.0f
#define HDL_EXP_LOG2E    1.44269504088896341f
#define HDL_EXP_LN2_HIGH 0.693359375f
#define HDL_EXP_LN2_LOW  (-2.12194440054690583e-4f)
HDL_INLINE float hdl_exp(float x)
{
    if (!(x >= HDL_EXP_MIN))
        return x < HDL_EXP_MIN ? 0.0f : x; /* x: NaN */
    if (x > HDL_EXP_MAX)
        return INFINITY;
    float n = rintf(x * HDL_EXP_LOG2E);
    float r = fmaf(n, -HDL_EXP_LN2_HIGH, x);
    r = fmaf(n, -HDL_EXP_LN2_LOW, r);
    float p = 1.0f / 5040;
    p = fmaf(p, r, 1.0f / 720);
    p = fmaf(p, r, 1.0f / 120);
    p = fmaf(p, r, 1.0f / 24);
    p = fmaf(p, r, 1.0f / 6);
    p = fmaf(p, r, 0.5f);
    p = fmaf(p, r, 1.0f);
    p = fmaf(p, r, 1.0f);
    return p * hdl_f32_from_bits((uint32_t)((int32_t)n + 127) << 23);
}

HDL_INLINE float hdl_silu(float g) { return g / (1.0f + hdl_exp(-g)); }

HDL_INLINE float hdl_sigmoid(float x) { return 1.0f / (1.0f + hdl_exp(-x)); }

/* 1 - 2 / (exp(2x) + 1); near 0, where that cancels, the odd Taylor polynomial of degree 9, whose
 * remainder is below 1e-8 of the value. */
#define HDL_TANH_SMALL 0.25f
HDL_INLINE float hdl_tanh(float x)
{
    float s = x * x, p = 62.0f / 2835;
    p = fmaf(p, s, -17.0f / 315);
    p = fmaf(p, s, 2.0f / 15);
    p = fmaf(p, s, -1.0f / 3);
    p = fmaf(p * s, x, x);
    float e = 1.0f - 2.0f / (hdl_exp(2.0f * x) + 1.0f);
    return fabsf(x) < HDL_TANH_SMALL ? p : e;
}

HDL_INLINE float hdl_softcap(float x, float cap) { return cap * hdl_tanh(x / cap); }

/* 0.5 g (1 + tanh(z)) = g / (1 + exp(-2z)), which does not cancel where tanh is near -1. */
#define HDL_GELU_CUBE  0.044715f
#define HDL_GELU_TWICE (-1.59576912160573071f) /* -2 sqrt(2 / pi) */
HDL_INLINE float hdl_gelu(float g)
{
    float z = fmaf(HDL_GELU_CUBE * g * g, g, g);
    return g / (1.0f + hdl_exp(HDL_GELU_TWICE * z));
}

/* What a gated unit does; limit and alpha are of OAI. */
typedef struct hdl_glu_act {
    hdl_glu_kind kind;
    float limit, alpha;
} hdl_glu_act;

/* act(gate) * up. Comparisons are written so that a NaN passes. */
HDL_INLINE float hdl_glu(hdl_glu_act act, float g, float up)
{
    switch (act.kind) {
    case HDL_GLU_SILU: return hdl_silu(g) * up;
    case HDL_GLU_GELU: return hdl_gelu(g) * up;
    case HDL_GLU_RELU2: g = 0.0f > g ? 0.0f : g; return g * g * up;
    case HDL_GLU_OAI: break;
    }
    g = act.limit < g ? act.limit : g;
    up = act.limit < up ? act.limit : up;
    up = -act.limit > up ? -act.limit : up;
    return g / (1.0f + hdl_exp(-(act.alpha * g))) * (up + 1.0f);
}

/* ln(1 + exp(x)) = max(x, 0) + ln(1 + u), u = exp(-|x|) in (0, 1]. With s = u / (2 + u) <= 1 / 3,
 * ln(1 + u) = 2 (s + s^3 / 3 + s^5 / 5 + ...); what is left out after s^15 is below 1e-9. */
HDL_INLINE float hdl_softplus(float x)
{
    float u = hdl_exp(-fabsf(x)), s = u / (2.0f + u), q = s * s, p = 1.0f / 15;
    p = fmaf(p, q, 1.0f / 13);
    p = fmaf(p, q, 1.0f / 11);
    p = fmaf(p, q, 1.0f / 9);
    p = fmaf(p, q, 1.0f / 7);
    p = fmaf(p, q, 1.0f / 5);
    p = fmaf(p, q, 1.0f / 3);
    p = fmaf(p, q, 1.0f);
    return (x > 0.0f ? x : 0.0f) + 2.0f * s * p;
}

/* What a state of Gated DeltaNet is multiplied by before a token. */
HDL_INLINE float hdl_gdn_decay(float a_log, float x)
{
    return hdl_exp(-hdl_exp(a_log) * hdl_softplus(x));
}

/* Largest values that scratch on the C stack is sized for; weight_bytes and the loader refuse more.
 */
enum { HDL_HEAD_DIM_MAX = 576, HDL_EXPERTS_MAX = 1024, HDL_TOPK_MAX = 64 };

/* hdl_ops_limits of the CPU's implementations. */
#define HDL_LIMITS_CPU                                                                             \
    {                                                                                              \
        HDL_HEAD_DIM_MAX, HDL_HEAD_DIM_MAX, HDL_HEAD_DIM_MAX, HDL_HEAD_DIM_MAX, HDL_HEAD_DIM_MAX,  \
            HDL_GDN_TAPS_MAX, HDL_EXPERTS_MAX, HDL_TOPK_MAX, HDL_SAMPLE_VOCAB_MAX, false, 0, 0     \
    }

/* The order in which a sum that no rank shares is taken: element i goes to lane i % 16, lanes add
 * in order of i, and the sixteen lanes are folded in halves. Any vector width up to 16 can do it.
 */
enum { HDL_LANES = 16 };
HDL_INLINE float hdl_lanes_fold(float lane[HDL_LANES])
{
    for (int half = HDL_LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++)
            lane[i] += lane[i + half];
    return lane[0];
}

HDL_INLINE float hdl_square_sum(const float *x, uint32_t dim)
{
    float lane[HDL_LANES] = {0};
    for (uint32_t i = 0; i < dim; i++)
        lane[i % HDL_LANES] += x[i] * x[i];
    return hdl_lanes_fold(lane);
}

/* 1 / sqrt(mean(x^2) + eps) from the sum of squares */
HDL_INLINE float hdl_rms_scale_of(float sumsq, uint32_t dim, float eps)
{
    return 1.0f / sqrtf(sumsq / (float)dim + eps);
}

HDL_INLINE float hdl_rms_scale(const float *x, uint32_t dim, float eps)
{
    return hdl_rms_scale_of(hdl_square_sum(x, dim), dim, eps);
}

/* 1 / sqrt(sum of x^2 + eps) */
HDL_INLINE float hdl_l2_scale(const float *x, uint32_t dim, float eps)
{
    return 1.0f / sqrtf(hdl_square_sum(x, dim) + eps);
}
#define HDL_GDN_L2_EPS 1e-6f

/* One Q8 group. A NaN or an infinity in x makes the scale a NaN or infinite, so that it shows in
 * the result: magnitudes are compared as integers, where NaN > infinity > numbers. */
HDL_INLINE float hdl_q8_scale(const float x[HDL_Q8_GROUP])
{
    uint32_t max = 0;
    for (int i = 0; i < HDL_Q8_GROUP; i++)
        max = hdl_max_u32(max, hdl_f32_bits(x[i]) & 0x7fffffffu);
    return hdl_f32_from_bits(max) / 127.0f;
}

HDL_INLINE int8_t hdl_q8_round(float x, float scale)
{
    float q = scale == 0.0f ? 0.0f : x / scale;
    q = q < 127.0f ? q : 127.0f; /* NaN becomes 127 */
    q = q > -127.0f ? q : -127.0f;
    return (int8_t)lrintf(q);
}

/* A power of two that makes numbers of at most max (bits of it: not negative, or a NaN) integers of
 * about 2^bits, and its inverse. Both 0 where max is nothing; NaNs come of infinities and NaNs. */
typedef struct hdl_fixed {
    float to, from;
} hdl_fixed;

static inline hdl_fixed hdl_fixed_of(uint32_t max, uint32_t bits)
{
    uint32_t exponent = max >> 23;
    if (exponent < 27) /* below 2^-100 */
        return (hdl_fixed){0, 0};
    if (exponent == 255)
        return (hdl_fixed){0, hdl_f32_from_bits(0x7fc00000u)};
    return (hdl_fixed){hdl_f32_from_bits((253 + bits - exponent) << 23),
                       hdl_f32_from_bits((exponent + 1 - bits) << 23)};
}

enum { HDL_FIXED_Q_BITS = 14, HDL_FIXED_WEIGHT_BITS = 15, HDL_FIXED_MAX = 32767 };

/* Nearest even, at most HDL_FIXED_MAX; a NaN becomes that. */
static inline int16_t hdl_fixed_round(float x, float to)
{
    float n = x * to;
    n = n < (float)HDL_FIXED_MAX ? n : (float)HDL_FIXED_MAX;
    return (int16_t)lrintf(n);
}

/* The larger of max and |x|; a NaN is larger than all. */
HDL_INLINE float hdl_absmax(float max, float x)
{
    return hdl_f32_from_bits(hdl_max_u32(hdl_f32_bits(max), hdl_f32_bits(x) & 0x7fffffffu));
}

/* Steps of int8 in 1 for a vector whose largest value this is. */
HDL_INLINE float hdl_int8_steps(float absmax) { return 127.0f / hdl_absmax(absmax, 1e-5f); }

HDL_INLINE float hdl_int8_round(float x, float steps)
{
    float q = x * steps;
    q = q < 127.0f ? q : 127.0f; /* NaN becomes 127 */
    return rintf(q > -127.0f ? q : -127.0f);
}

/* One Q4 group: the number farthest from 0 (the first of equals) becomes -8, so that all sixteen
 * codes are used. Not finite: as for Q8. */
HDL_INLINE float hdl_q4_scale(const float x[HDL_Q8_GROUP])
{
    uint32_t max = 0;
    float farthest = 0;
    for (int i = 0; i < HDL_Q8_GROUP; i++) {
        uint32_t magnitude = hdl_f32_bits(x[i]) & 0x7fffffffu;
        if (magnitude > max) {
            max = magnitude;
            farthest = x[i];
        }
    }
    return farthest / -8.0f;
}

HDL_INLINE int8_t hdl_q4_round(float x, float scale)
{
    float q = scale == 0.0f ? 0.0f : x / scale;
    q = q < 7.0f ? q : 7.0f; /* NaN becomes 7 */
    q = q > -8.0f ? q : -8.0f;
    return (int8_t)lrintf(q);
}

/* Sums of a leaf tree come one leaf after the other; like a binary counter that carries, they are
 * added as soon as two subtrees of equal size are complete. With n (a power of two) pushes the
 * result is the balanced tree ((0 + 1) + (2 + 3)) + ..., and never more than log2(n) + 1 are open.
 */
enum { HDL_TREE_DEPTH = 4 }; /* 8 leaves */
typedef struct hdl_leaf_tree {
    float open[HDL_TREE_DEPTH];
    uint32_t n_open, n_pushed;
} hdl_leaf_tree;

HDL_INLINE void hdl_leaf_push(hdl_leaf_tree *tree, float sum)
{
    for (uint32_t carry = tree->n_pushed++; carry & 1u; carry >>= 1)
        sum = tree->open[--tree->n_open] + sum;
    tree->open[tree->n_open++] = sum;
}
