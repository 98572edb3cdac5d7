/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/model/rope.h"

#include <math.h>

#include "base/assert.h"

/* HF: _compute_llama3_parameters. Long wavelengths are slowed by factor, short ones kept, those
 * between blended. */
static double llama3(const hdl_rope *rope, double freq)
{
    double wavelength = 2 * 3.14159265358979323846 / freq;
    double low = rope->original_max_len / rope->low_freq_factor;
    double high = rope->original_max_len / rope->high_freq_factor;
    if (wavelength > low)
        return freq / rope->factor;
    if (wavelength < high)
        return freq;
    double smooth = (rope->original_max_len / wavelength - rope->low_freq_factor) /
                    (rope->high_freq_factor - rope->low_freq_factor);
    return (1 - smooth) * freq / rope->factor + smooth * freq;
}

static float frequency(const hdl_rope *rope, uint32_t i)
{
    float freq = (float)(1.0 / pow(rope->theta, 2.0 * i / rope->dim));
    switch (rope->kind) {
    case HDL_ROPE_PLAIN: return freq;
    case HDL_ROPE_LINEAR: return (float)(freq / rope->factor);
    case HDL_ROPE_LLAMA3: return (float)llama3(rope, freq);
    }
    return freq;
}

enum { HALF_MAX = 512 }; /* config.json may ask for heads of 1024 at most */

void hdl_rope_fill(const hdl_rope *rope, hdl_rope_part part)
{
    uint32_t half = rope->dim / 2;
    float freq[HALF_MAX];
    HDL_ASSERT_LE(half, HALF_MAX);
    for (uint32_t i = 0; i < half; i++)
        freq[i] = frequency(rope, i);
    for (uint32_t pos = part.from; pos < part.to; pos++) {
        for (uint32_t i = 0; i < half; i++) {
            float angle = (float)pos * freq[i];
            part.cos[(size_t)pos * half + i] = (float)cos((double)angle);
            part.sin[(size_t)pos * half + i] = (float)sin((double)angle);
        }
    }
}
