/* SPDX-License-Identifier: Apache-2.0 */
/* Loops of the sampler over the whole vocabulary. Sixteen independent lanes, no branches, no libm:
 * a compiler turns them into vectors of any width, and the results do not depend on the width. */
#include <string.h>

#include "worker/sampler_impl.h"

enum { LANES = 16 };

static uint32_t bits_of(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof(u));
    return u;
}

static float from_bits(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof(x));
    return x;
}

#define EXPONENT 0x7f800000u /* all ones: infinity or no number */

bool hdl_sample_largest(const float *z, uint32_t n, float *most, hdl_token *token)
{
    float best[LANES];
    uint32_t exponent[LANES] = {0}, whole = n / LANES * LANES, i = 0;
    for (uint32_t lane = 0; lane < LANES; lane++)
        best[lane] = z[0];
    for (; i < whole; i += LANES)
        for (uint32_t lane = 0; lane < LANES; lane++) {
            uint32_t e = bits_of(z[i + lane]) & EXPONENT;
            best[lane] = z[i + lane] > best[lane] ? z[i + lane] : best[lane];
            exponent[lane] = e > exponent[lane] ? e : exponent[lane];
        }
    for (; i < n; i++) {
        uint32_t e = bits_of(z[i]) & EXPONENT;
        best[0] = z[i] > best[0] ? z[i] : best[0];
        exponent[0] = e > exponent[0] ? e : exponent[0];
    }
    for (uint32_t lane = 0; lane < LANES; lane++) {
        if (exponent[lane] == EXPONENT)
            return false;
        best[0] = best[lane] > best[0] ? best[lane] : best[0];
    }
    *most = best[0];
    *token = 0;
    while (z[*token] != best[0])
        ++*token;
    return true;
}

/* exp(x) = 2^n exp(r), r = x - n ln 2 in [-0.35, 0.35], exp(r) by its Taylor polynomial of degree 6
 * (error below 2e-8). ln 2 in two parts, so that n ln 2 is exact (Cody and Waite). */
static inline float exp_of(float x)
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
    return e * from_bits((bits_of(shifted) + 127u) << 23);
}

static double fold(const double *sum)
{
    double total = 0;
    for (uint32_t lane = 0; lane < LANES; lane++)
        total += sum[lane];
    return total;
}

double hdl_sample_sum(const float *p, uint32_t n)
{
    double sum[LANES] = {0};
    uint32_t whole = n / LANES * LANES, i = 0;
    for (; i < whole; i += LANES)
        for (uint32_t lane = 0; lane < LANES; lane++)
            sum[lane] += (double)p[i + lane];
    for (uint32_t lane = 0; i + lane < n; lane++)
        sum[lane] += (double)p[i + lane];
    return fold(sum);
}

double hdl_sample_exps(const float *z, uint32_t n, float most, float *p)
{
    for (uint32_t i = 0; i < n; i++)
        p[i] = exp_of(z[i] - most);
    return hdl_sample_sum(p, n);
}
