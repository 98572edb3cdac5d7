/* SPDX-License-Identifier: Apache-2.0 */
/* Spans of floats: the loops that several element-wise ops share. Tails go through partial loads,
 * which compute on zeros and store nothing. */
#pragma once

#include "kernels/cpu/cpu.h"

/* One unit's rows; out may be gate. */
typedef struct hdl_glu_rows {
    const float *gate, *up;
    float *out;
    size_t n;
} hdl_glu_rows;

V16_FN void hdl_glu_loop(const hdl_glu_act act, hdl_glu_rows r)
{
    size_t i = 0;
    for (; i + HDL_LANES <= r.n; i += HDL_LANES)
        v16_store(r.out + i, v16_glu(act, v16_load(r.gate + i), v16_load(r.up + i)));
    if (i < r.n) {
        uint32_t part = (uint32_t)(r.n - i);
        v16 g = v16_load_part(r.gate + i, part), up = v16_load_part(r.up + i, part);
        v16_store_part(r.out + i, v16_glu(act, g, up), part);
    }
}

/* out = act(gate) * up: a loop per kind, so that none asks within it. */
static inline void hdl_glu_span(hdl_glu_act act, hdl_glu_rows r)
{
#define GLU_KIND(name)                                                                             \
    case HDL_GLU_##name: hdl_glu_loop((hdl_glu_act){HDL_GLU_##name, act.limit, act.alpha}, r); break
    switch (act.kind) {
        GLU_KIND(SILU);
        GLU_KIND(GELU);
        GLU_KIND(RELU2);
        GLU_KIND(OAI);
    }
#undef GLU_KIND
}

/* out = x * scale; out may be x */
V16_FN void hdl_scale_span(const float *x, float scale, float *out, size_t n)
{
    v16 s = v16_set1(scale);
    size_t i = 0;
    for (; i + HDL_LANES <= n; i += HDL_LANES)
        v16_store(out + i, v16_mul(v16_load(x + i), s));
    for (; i < n; i++)
        out[i] = x[i] * scale;
}

/* A norm's weights (NULL: ones) and its scale. */
typedef struct hdl_norm_by {
    const float *w;
    float scale;
} hdl_norm_by;

/* out = x * scale * w; out may be x */
V16_FN void hdl_norm_span(const float *x, hdl_norm_by by, float *out, size_t n)
{
    if (!by.w) {
        hdl_scale_span(x, by.scale, out, n);
        return;
    }
    v16 s = v16_set1(by.scale);
    size_t i = 0;
    for (; i + HDL_LANES <= n; i += HDL_LANES)
        v16_store(out + i, v16_mul(v16_mul(v16_load(x + i), s), v16_load(by.w + i)));
    if (i < n) {
        uint32_t part = (uint32_t)(n - i);
        v16 scaled = v16_mul(v16_load_part(x + i, part), s);
        v16_store_part(out + i, v16_mul(scaled, v16_load_part(by.w + i, part)), part);
    }
}
