/* SPDX-License-Identifier: Apache-2.0 */
/* The arithmetic of op linear_screened that its implementations share.
 *
 * The exact kernel computes y = sum w_i x_i with x as its format takes it (F32: as it is, BF16:
 * rounded) and rounding of its own; the screen computes a = sum v_i z_i, v being what Q8 makes of w
 * and z what it makes of the token. With norms |.| of length:
 *
 *   |w.x - v.z| = |(w - v).x + v.(x - z)| <= |w - v| |x| + |v| |x - z|         (Cauchy, Schwarz)
 *
 * A float sum of n rounded terms in any order is off by at most g(n) * sum |terms|, g(n) = n u /
 * (1 - n u), u = 2^-24 (Higham, Accuracy and Stability of Numerical Algorithms, section 4.2), and
 * that sum is at most the product of the two norms. y has at most k + 8 roundings on a term's way
 * (leaves included), a has k / 32 + 8; |w| <= |w - v| + |v|, |z| <= |x| + |x - z|. So |y - a| <= e,
 *
 *   e = |w - v| (1 + g(k)) |x|  +  |v| (|x - z| + g(k) |x| + g(k / 32) (|x| + |x - z|))
 *
 * which is a row's two norms times two numbers of the token. All of them are rounded up by 2^-20,
 * more than what float makes of them. Where a norm is no number, or so large that something might
 * overflow, it counts as infinite, and so does e: such a row is always computed.
 *
 * Let T be the k-th largest a - e. k rows have y >= T, so a row with a + e < T is not among the k
 * largest. What is left out shall stay less after what comes next, whose roundings make numbers
 * equal that are not: T is lowered (hdl_screen_floor) by 2^-20 of itself and by 1e-20, which covers
 * the roundings of a - e and a + e, a division by up to 1e6, and products that a kernel flushes to
 * zero (below 2^-126 times |x| <= 2^40, for each k); with a softcap, by 2^-18 of the cap in the
 * capped number, tanh being within 2^-21. Pure functions; any thread. */
#pragma once

#include "kernels/numeric.h"

#define HDL_SCREEN_UP       (1 + 0x1p-20)
#define HDL_SCREEN_NORM_MAX 0x1p40
#define HDL_SCREEN_BOUND    0x1p100f /* of e: more is infinite */

/* A norm from its square, rounded up. */
HDL_INLINE float hdl_screen_norm(double square)
{
    double norm = sqrt(square) * HDL_SCREEN_UP;
    return norm <= HDL_SCREEN_NORM_MAX ? (float)norm : INFINITY; /* NaN: infinite */
}

/* What a token does to the bounds of rows: e = fma(row's err, err, row's size * size). */
typedef struct hdl_screen_token {
    float err, size;
} hdl_screen_token;

HDL_INLINE double hdl_screen_gamma(uint32_t n) { return n * 0x1p-24 / (1 - n * 0x1p-24); }

HDL_INLINE hdl_screen_token hdl_screen_token_of(const float *x, uint32_t k, hdl_wformat exact)
{
    double square = 0, off = 0;
    for (uint32_t at = 0; at < k; at += HDL_Q8_GROUP) {
        float scale = hdl_q8_scale(x + at);
        for (uint32_t i = at; i < at + HDL_Q8_GROUP; i++) {
            float v = exact == HDL_WFORMAT_BF16 ? hdl_bf16_to_f32(hdl_bf16_from_f32(x[i])) : x[i];
            double d = (double)v - (double)scale * hdl_q8_round(x[i], scale);
            square += (double)v * (double)v;
            off += d * d;
        }
    }
    double norm = (double)hdl_screen_norm(square), diff = (double)hdl_screen_norm(off);
    double sum = hdl_screen_gamma(k + 8), group_sum = hdl_screen_gamma(k / HDL_Q8_GROUP + 8);
    return (hdl_screen_token){
        .err = (float)((1 + sum) * norm * HDL_SCREEN_UP),
        .size = (float)((diff + sum * norm + group_sum * (norm + diff)) * HDL_SCREEN_UP)};
}

/* a - e and a + e. */
typedef struct hdl_screen_range {
    float low, high;
} hdl_screen_range;

HDL_INLINE hdl_screen_range hdl_screen_range_of(float a, hdl_screen_token row, hdl_screen_token t)
{
    float e = fmaf(row.err, t.err, row.size * t.size);
    if (e < HDL_SCREEN_BOUND)
        return (hdl_screen_range){a - e, a + e};
    return (hdl_screen_range){-INFINITY, INFINITY};
}

/* The `keep` largest so far, descending; -infinity where there are none. */
typedef struct hdl_screen_best {
    uint32_t keep;
    float values[HDL_SCREEN_KEEP_MAX];
} hdl_screen_best;

HDL_INLINE void hdl_screen_best_open(hdl_screen_best *b, uint32_t keep)
{
    b->keep = keep;
    for (uint32_t i = 0; i < keep; i++)
        b->values[i] = -INFINITY;
}

HDL_INLINE float hdl_screen_least(const hdl_screen_best *b) { return b->values[b->keep - 1]; }

HDL_INLINE void hdl_screen_best_add(hdl_screen_best *b, float value)
{
    uint32_t at = b->keep - 1;
    if (!(value > b->values[at]))
        return;
    for (; at > 0 && b->values[at - 1] < value; at--)
        b->values[at] = b->values[at - 1];
    b->values[at] = value;
}

/* What a + e must reach, from the k-th largest a - e. */
HDL_INLINE float hdl_screen_floor(float kth, float softcap)
{
    double t = (double)kth;
    if (softcap > 0) {
        double capped = tanh(t / (double)softcap) - 0x1p-18;
        t = capped > -1 ? (double)softcap * atanh(capped) : -INFINITY;
    }
    t -= fabs(t) * 0x1p-20 + 1e-20;
    return t > -0x1p99 ? (float)t : -INFINITY; /* what is kept is more than HDL_SCREENED */
}
