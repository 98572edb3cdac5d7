/* SPDX-License-Identifier: Apache-2.0 */
/* The scalar definitions: exp against libm, number formats over all their values, Q8 groups. */
#include <math.h>

#include "kernel_test.h"
#include "kernels/kv_fp8.h"

/* One rounding of the last addition and of the scaling, the rest is below: 2 ulp is the bound. */
static void test_exp(kt *t)
{
    bool ok = true;
    uint32_t n = t->is_long ? 20000000 : 200000;
    for (uint32_t i = 0; i <= n; i++) {
        float x = -87.0f + 175.0f * ((float)i / (float)n);
        double want = exp((double)x), got = (double)hdl_exp(x);
        ok = ok && fabs(got - want) <= want * 0x1p-22;
    }
    kt_check(t, ok, "exp within 2 ulp of libm");
    kt_check(t, hdl_exp(0.0f) == 1.0f && hdl_exp(-0.0f) == 1.0f, "exp(0) = 1");
    kt_check(t, hdl_exp(-INFINITY) == 0.0f && hdl_exp(-88.0f) == 0.0f, "exp of the very small");
    kt_check(t, isinf(hdl_exp(89.0f)) && isinf(hdl_exp(INFINITY)), "exp of the very large");
    kt_check(t, isnan(hdl_exp(NAN)), "exp(NaN)");
}

/* exp to 2 ulp, three roundings of numbers below 2; where the polynomial is taken, its remainder of
 * 1e-8 and five roundings that shrink with x. */
static void test_tanh(kt *t)
{
    bool ok = true;
    for (int i = -200000; i <= 200000; i++) {
        float x = (float)i * 1e-4f;
        double want = tanh((double)x), got = (double)hdl_tanh(x);
        ok = ok && fabs(got - want) <= fabs(want) * 0x1p-20;
    }
    kt_check(t, ok, "tanh within 2^-20 of libm");
    kt_check(t, hdl_tanh(INFINITY) == 1.0f && hdl_tanh(-INFINITY) == -1.0f, "tanh at its ends");
    kt_check(t, isnan(hdl_tanh(NAN)) && isnan(hdl_gelu(NAN)), "tanh, gelu(NaN)");
    kt_check(t, hdl_gelu(-1e9f) == 0.0f && hdl_gelu(1e9f) == 1e9f, "gelu of the large");
}

static void test_softplus(kt *t)
{
    bool ok = true;
    for (int i = 0; i < 40000; i++) {
        float x = -40.0f + (float)i * 0.002f;
        double want = log1p(exp((double)x));
        ok = ok && fabs((double)hdl_softplus(x) - want) <= want * 0x1p-21;
    }
    kt_check(t, ok, "softplus within 2^-21 of libm");
    kt_check(t, hdl_softplus(-200.0f) == 0.0f && hdl_softplus(200.0f) == 200.0f,
             "softplus at its ends");
    kt_check(t, isnan(hdl_softplus(NAN)), "softplus(NaN)");
    kt_check(t, hdl_gdn_decay(5.0f, 50.0f) == 0.0f && hdl_gdn_decay(-9.0f, -90.0f) == 1.0f,
             "decays lie in [0, 1]");
}

static void test_formats(kt *t)
{
    bool bf16 = true, f16 = true;
    for (uint32_t h = 0; h < 65536; h++) {
        float x = hdl_bf16_to_f32((uint16_t)h);
        bf16 = bf16 && (isnan(x) ? isnan(hdl_bf16_to_f32(hdl_bf16_from_f32(x)))
                                 : hdl_bf16_from_f32(x) == h);
        uint32_t exponent = h >> 10 & 31u, mantissa = h & 1023u;
        double want =
            exponent ? ldexp(1024.0 + mantissa, (int)exponent - 25) : ldexp((double)mantissa, -24);
        float y = hdl_f16_to_f32((uint16_t)h);
        if (exponent == 31)
            f16 = f16 && (mantissa ? isnan(y) : isinf(y));
        else
            f16 = f16 && (double)y == (h & 0x8000u ? -want : want);
    }
    kt_check(t, bf16, "bf16 to f32 and back");
    kt_check(t, f16, "f16 to f32");
    kt_check(t, hdl_bf16_from_f32(1.00390625f) == 0x3f80, "halfway rounds to even, down");
    kt_check(t, hdl_bf16_from_f32(1.01171875f) == 0x3f82, "halfway rounds to even, up");
}

static void test_q8(kt *t)
{
    float x[HDL_Q8_GROUP] = {0};
    kt_check(t, hdl_q8_scale(x) == 0 && hdl_q8_round(0, 0) == 0, "a group of zeros");
    x[5] = -2.54f;
    float scale = hdl_q8_scale(x);
    kt_check(t, hdl_q8_round(-2.54f, scale) == -127, "the largest is 127 steps");
    x[6] = NAN;
    kt_check(t, isnan(hdl_q8_scale(x)), "a NaN shows in the scale");
    x[6] = INFINITY;
    kt_check(t, isinf(hdl_q8_scale(x)), "an infinity shows in the scale");
}

/* Integers of about 2^bits, back again within half a step; what is nothing or no number. */
static void test_fixed(kt *t)
{
    const uint32_t nan = 0xffc00000u & 0x7fffffffu;
    bool in_range = true, near = true;
    for (int i = 0; i < 2000; i++) {
        float max =
            ldexpf(1 + (float)kt_range(t, 0, 8388607) / 8388608, (int)kt_range(t, 0, 220) - 99);
        float x = max * ((float)kt_range(t, 0, 1000) / 1000);
        for (uint32_t bits = HDL_FIXED_Q_BITS; bits <= HDL_FIXED_WEIGHT_BITS; bits++) {
            hdl_fixed f = hdl_fixed_of(hdl_f32_bits(max), bits);
            int most = hdl_fixed_round(max, f.to), n = hdl_fixed_round(x, f.to);
            in_range =
                in_range && most >= 1 << (bits - 1) && most <= 1 << bits && f.to * f.from == 1;
            near = near && fabsf((float)n * f.from - x) <= f.from; /* the cut at 32767: a step */
        }
    }
    kt_check(t, in_range, "the largest takes all bits");
    kt_check(t, near, "integers are near their numbers");
    kt_check(t, hdl_fixed_round(-3.0f, 0.5f) == -2, "halfway rounds to even, below zero");
    hdl_fixed none = hdl_fixed_of(hdl_f32_bits(0x1p-101f), HDL_FIXED_Q_BITS);
    kt_check(t, none.to == 0 && none.from == 0, "nothing gives nothing");
    kt_check(t, isnan(hdl_fixed_of(nan, HDL_FIXED_Q_BITS).from), "a NaN shows");
    kt_check(t, isnan(hdl_fixed_of(0x7f800000u, HDL_FIXED_Q_BITS).from), "an infinity shows");
}

/* Of all codes the nearest; of two, the even one. */
static bool is_nearest_e4m3(float x)
{
    uint8_t code = hdl_e4m3_from_f32(x);
    double apart = fabs((double)hdl_e4m3_to_f32(code) - (double)x);
    for (uint32_t c = 0; c < 256; c++) {
        double other = fabs((double)hdl_e4m3_to_f32((uint8_t)c) - (double)x);
        if (other < apart || (other == apart && c != code && (code & 1) && !((code ^ c) & 0x80)))
            return false;
    }
    return true;
}

static void test_fp8(kt *t)
{
    bool back = true, nearest = true, fits = true, exact = true;
    for (uint32_t c = 0; c < 256; c++)
        if ((c & 0x7f) != 0x7f)
            back = back && hdl_e4m3_from_f32(hdl_e4m3_to_f32((uint8_t)c)) == c;
    for (int i = 0; i < 4000; i++) {
        float x = ldexpf((float)kt_range(t, 0, 4096) / 2048 - 1, (int)kt_range(t, 0, 18) - 9);
        nearest = nearest && is_nearest_e4m3(x);
        uint32_t code = kt_range(t, 0, 1) << 7 | kt_range(t, 0, 126);
        float max =
            ldexpf(1 + (float)kt_range(t, 0, 8388607) / 8388608, (int)kt_range(t, 0, 220) - 99);
        hdl_fp8_scale s = hdl_fp8_scale_of(hdl_f32_bits(max));
        fits = fits && s.to * s.from == 1 && max * s.to <= 448 &&
               (max * s.to > 224 || s.from == 0x1p-100f);
        float value = hdl_e4m3_to_f32((uint8_t)code) * s.from;
        exact = exact && hdl_bf16_to_f32(hdl_fp8_to_bf16((uint8_t)code, s.from)) == value;
    }
    kt_check(t, back, "E4M3 to f32 and back");
    kt_check(t, nearest, "the nearest code");
    kt_check(t, fits, "the smallest power of two that fits");
    kt_check(t, exact, "a code times its scale is a bf16 number");
    kt_check(t, hdl_e4m3_from_f32(1e9f) == 0x7e && hdl_e4m3_from_f32(-460.0f) == 0xfe,
             "what is too large becomes the largest");
    kt_check(t, hdl_e4m3_from_f32(NAN) == 0x7f && hdl_e4m3_from_f32(-INFINITY) == 0xff,
             "what is not finite becomes NaN");
    kt_check(t, hdl_fp8_scale_of(0).to == 0x1p100f, "the scale of nothing");
    kt_check(t, isnan(hdl_fp8_scale_of(0x7f800000u).from), "an infinity shows in the scale");
}

static void (*const tests[])(kt *) = {test_exp, test_tanh,  test_softplus, test_formats,
                                      test_q8,  test_fixed, test_fp8};

static void test(kt *t, int case_idx) { tests[case_idx](t); }

const kt_suite kt_numeric = {"numeric", HDL_ARRAY_LEN(tests), test};
