/* SPDX-License-Identifier: Apache-2.0 */
/* Spans of floats: the loops that several element-wise ops share. Tails go through partial loads,
 * which compute on zeros and store nothing. */
#pragma once

#include "kernels/cpu/cpu.h"

/* out = silu(gate) * up */
V16_FN void hdl_glu_span(const float *gate, const float *up, float *out, size_t n)
{
    size_t i = 0;
    for (; i + HDL_LANES <= n; i += HDL_LANES)
        v16_store(out + i, v16_mul(v16_silu(v16_load(gate + i)), v16_load(up + i)));
    if (i < n) {
        uint32_t part = (uint32_t)(n - i);
        v16 act = v16_silu(v16_load_part(gate + i, part));
        v16_store_part(out + i, v16_mul(act, v16_load_part(up + i, part)), part);
    }
}

/* out = x * scale * w; out may be x */
V16_FN void hdl_norm_span(const float *x, const float *w, float scale, float *out, size_t n)
{
    v16 s = v16_set1(scale);
    size_t i = 0;
    for (; i + HDL_LANES <= n; i += HDL_LANES)
        v16_store(out + i, v16_mul(v16_mul(v16_load(x + i), s), v16_load(w + i)));
    if (i < n) {
        uint32_t part = (uint32_t)(n - i);
        v16 scaled = v16_mul(v16_load_part(x + i, part), s);
        v16_store_part(out + i, v16_mul(scaled, v16_load_part(w + i, part)), part);
    }
}
