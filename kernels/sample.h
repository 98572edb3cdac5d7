/* SPDX-License-Identifier: Apache-2.0 */
/* The arithmetic of sampling that every implementation shares: the worker's sampler on the CPU, and
 * op sample as ref and on devices.
 *
 * A token's mass is exp(z - largest z) as an integer of 2^-45: sums of integers do not depend on
 * their order, so that threads of any number may take them, and shares of a sum are exact.
 * HDL_SAMPLE_VOCAB_MAX of them fit 64 bits. What is below 2^-46 of the best has no mass and is
 * never drawn, which the draw's 23 bits could not have seen either.
 *
 * The order of tokens is by logit, descending, then by id; every filter keeps a prefix of it. Pure;
 * any thread. */
#pragma once

#include <heddle/sampling.h>

#include "kernels/numeric.h"

/* exp(x), x <= 0, within 2 ulp; never below exp(-87). exp(x) = 2^n exp(r), r = x - n ln 2 in
 * [-0.35, 0.35], exp(r) by its Taylor polynomial of degree 6 (error below 2e-8). No branches and no
 * fma, so that compilers make vectors of it on any machine. */
HDL_INLINE float hdl_sample_exp(float x)
{
    x = x < -87.0f ? -87.0f : x;
    float shifted = x * 1.44269504f + 12582912.0f; /* 1.5 * 2^23: the sum's last bit is 1 */
    float n = shifted - 12582912.0f;
    float r = x - n * 0.693359375f - n * -2.12194440e-4f;
    float e = 1.0f / 720;
    e = e * r + 1.0f / 120;
    e = e * r + 1.0f / 24;
    e = e * r + 1.0f / 6;
    e = e * r + 0.5f;
    e = e * r + 1.0f;
    e = e * r + 1.0f;
    return e * hdl_f32_from_bits((hdl_f32_bits(shifted) + 127u) << 23);
}

/* p in [0, 1] in units of 2^-45, nearest even: of doubles from 128 to 256 the last bit is that. */
enum { HDL_SAMPLE_MASS_BITS = 45 };
HDL_INLINE uint64_t hdl_sample_mass(float p)
{
    double shifted = (double)p + 128.0, from = 128.0;
    uint64_t bits, zero;
    memcpy(&bits, &shifted, sizeof bits);
    memcpy(&zero, &from, sizeof zero);
    return bits - zero;
}

/* The least mass that is the share top_p of `of`: at least 1, at most `of`. */
HDL_INLINE uint64_t hdl_sample_share(uint64_t of, float top_p)
{
    double share = (double)of * (double)top_p;
    uint64_t whole = (uint64_t)share;
    whole += (double)whole < share;
    return whole == 0 ? 1 : whole < of ? whole : of;
}

/* floor(of * u), u = the odd 24-bit number of hdl_philox_unit / 2^24: less than `of` > 0. The draw
 * is the first token with which the sum is larger. */
HDL_INLINE uint64_t hdl_sample_target(uint64_t of, uint32_t word)
{
    uint64_t unit = (uint64_t)(word >> 9) * 2 + 1;
    return (of >> 24) * unit + ((of & 0xffffff) * unit >> 24);
}

/* ln(x) of a normal x > 0, within 2e-16 of it and of 1: x = 2^e m, m in [sqrt(1/2), sqrt(2)), s =
 * (m - 1) / (m + 1), ln m = 2 (s + s^3 / 3 + ... + s^21 / 21). */
HDL_INLINE double hdl_sample_log(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int32_t e = (int32_t)(bits >> 52) - 1023;
    bits = (bits & 0xfffffffffffffu) | (uint64_t)1023 << 52;
    double m, p = 0;
    memcpy(&m, &bits, sizeof m);
    if (m > 1.4142135623730951) {
        m *= 0.5;
        e++;
    }
    double s = (m - 1) / (m + 1), s2 = s * s;
    for (int k = 21; k > 0; k -= 2)
        p = p * s2 + 1.0 / k;
    return 2 * s * p + (double)e * 0.69314718055994531;
}

/* The logarithm of the sum of exp(z), from the largest z and the sum of masses. */
HDL_INLINE double hdl_sample_norm(float most, uint64_t total)
{
    return (double)most + hdl_sample_log((double)total * 0x1p-45);
}

/* A logit whose token occurred (mark != 0): the low bits count it in the output. */
#define HDL_SAMPLE_SEEN 0x80000000u
HDL_INLINE float hdl_sample_penalise(const hdl_sampling *p, float z, uint32_t mark)
{
    uint32_t count = mark & ~HDL_SAMPLE_SEEN;
    if (mark == 0)
        return z;
    z = z > 0 ? z / p->repetition_penalty : z * p->repetition_penalty;
    if (count != 0)
        z -= p->frequency_penalty * (float)count + p->presence_penalty;
    return z;
}

HDL_INLINE bool hdl_sample_is_finite(float z)
{
    return (hdl_f32_bits(z) & 0x7f800000u) != 0x7f800000u;
}

/* Integers in the order of finite floats, the zeros being one number; and back. */
HDL_INLINE uint32_t hdl_sample_key(float z)
{
    uint32_t bits = hdl_f32_bits(z + 0.0f);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
HDL_INLINE float hdl_sample_of_key(uint32_t key)
{
    return hdl_f32_from_bits(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

/* Tokens by their distance from the largest logit, in eighths; the last bucket holds the rest. */
enum { HDL_SAMPLE_BUCKETS = 1024, HDL_SAMPLE_BUCKETS_PER_UNIT = 8 };
HDL_INLINE uint32_t hdl_sample_bucket(float most, float z)
{
    float distance = (most - z) * (float)HDL_SAMPLE_BUCKETS_PER_UNIT;
    return distance < HDL_SAMPLE_BUCKETS - 1 ? (uint32_t)distance : HDL_SAMPLE_BUCKETS - 1;
}
