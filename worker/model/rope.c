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
    if (wavelength < high || low == high)
        return freq;
    double smooth = (rope->original_max_len / wavelength - rope->low_freq_factor) /
                    (rope->high_freq_factor - rope->low_freq_factor);
    return (1 - smooth) * freq / rope->factor + smooth * freq;
}

/* The dimension whose wavelength makes `turns` turns over the original length. */
static double yarn_dim(const hdl_rope *rope, double turns)
{
    return rope->dim * log(rope->original_max_len / (turns * 2 * 3.14159265358979323846)) /
           (2 * log(rope->theta));
}

/* HF: _compute_yarn_parameters. Fast dimensions are kept, slow ones interpolated, those between
 * blended by a ramp over the dimension. */
static double yarn(const hdl_rope *rope, uint32_t i, double freq)
{
    double low = yarn_dim(rope, rope->beta_fast), high = yarn_dim(rope, rope->beta_slow);
    if (rope->truncate) {
        low = floor(low);
        high = ceil(high);
    }
    low = fmax(low, 0);
    high = fmin(high, rope->dim - 1.0);
    if (low == high)
        high += 0.001;
    double ramp = fmin(fmax((i - low) / (high - low), 0), 1);
    return freq / rope->factor * ramp + freq * (1 - ramp);
}

static float frequency(const hdl_rope *rope, uint32_t max_len, uint32_t i)
{
    float freq = (float)(1.0 / pow(rope->theta, 2.0 * i / rope->dim));
    switch (rope->kind) {
    case HDL_ROPE_PLAIN: return freq;
    case HDL_ROPE_LINEAR: return (float)(freq / rope->factor);
    case HDL_ROPE_LLAMA3: return (float)llama3(rope, freq);
    case HDL_ROPE_YARN: return (float)yarn(rope, i, freq);
    case HDL_ROPE_LONGROPE: break;
    }
    bool is_long = max_len > rope->original_max_len;
    return freq / (is_long ? rope->long_factors[i] : rope->short_factors[i]);
}

enum { HALF_MAX = 512 }; /* config.json may ask for heads of 1024 at most */

void hdl_rope_fill(const hdl_rope *rope, hdl_rope_part part)
{
    uint32_t half = rope->dim / 2;
    float freq[HALF_MAX], scale = rope->attn_factor > 0 ? (float)rope->attn_factor : 1.0f;
    HDL_ASSERT_LE(half, HALF_MAX);
    for (uint32_t i = 0; i < half; i++)
        freq[i] = frequency(rope, part.max_len, i);
    for (uint32_t pos = part.from; pos < part.to; pos++) {
        for (uint32_t i = 0; i < half; i++) {
            float angle = (float)pos * freq[i];
            part.cos[(size_t)pos * half + i] = (float)(cos((double)angle)) * scale;
            part.sin[(size_t)pos * half + i] = (float)(sin((double)angle)) * scale;
        }
    }
}

void hdl_q_temp_fill(const hdl_q_temp *temp, hdl_rope_part part, float *out)
{
    for (uint32_t pos = part.from; pos < part.to; pos++) {
        double chunk = floor((pos + temp->offset) / temp->floor_scale);
        out[pos] = (float)(1 + temp->beta * log1p(chunk));
    }
}
