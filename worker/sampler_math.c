/* SPDX-License-Identifier: Apache-2.0 */
/* Loops of the sampler over the whole vocabulary. Sixteen independent lanes, no branches, no libm:
 * a compiler turns them into vectors of any width, and the results do not depend on the width. */
#include "worker/sampler_impl.h"

enum { LANES = 16 };

#define EXPONENT 0x7f800000u /* all ones: infinity or no number */

bool hdl_sample_largest(const float *z, uint32_t n, float *most, hdl_token *token)
{
    float best[LANES];
    uint32_t exponent[LANES] = {0}, whole = n / LANES * LANES, i = 0;
    for (uint32_t lane = 0; lane < LANES; lane++)
        best[lane] = z[0];
    for (; i < whole; i += LANES)
        for (uint32_t lane = 0; lane < LANES; lane++) {
            uint32_t e = hdl_f32_bits(z[i + lane]) & EXPONENT;
            best[lane] = z[i + lane] > best[lane] ? z[i + lane] : best[lane];
            exponent[lane] = e > exponent[lane] ? e : exponent[lane];
        }
    for (; i < n; i++) {
        uint32_t e = hdl_f32_bits(z[i]) & EXPONENT;
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

uint64_t hdl_sample_sum(const float *p, uint32_t n)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += hdl_sample_mass(p[i]);
    return sum;
}

uint64_t hdl_sample_exps(const float *z, uint32_t n, float most, float *p)
{
    for (uint32_t i = 0; i < n; i++)
        p[i] = hdl_sample_exp(z[i] - most);
    return hdl_sample_sum(p, n);
}
