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

/* The angles of a position: cos and sin of `half` pairs, which are (2i, 2i + 1) or (i, i + half).
 */
typedef struct hdl_angles {
    const float *cosine, *sine;
    uint32_t half;
    bool interleaved;
} hdl_angles;

V16_FN void hdl_rotate_halves(hdl_angles at, float *x)
{
    for (uint32_t i = 0; i < at.half; i += HDL_LANES) {
        uint32_t part = hdl_min_u32(at.half - i, HDL_LANES);
        v16 lo = v16_load_part(x + i, part), hi = v16_load_part(x + i + at.half, part);
        v16 c = v16_load_part(at.cosine + i, part), s = v16_load_part(at.sine + i, part);
        v16_store_part(x + i, v16_sub(v16_mul(lo, c), v16_mul(hi, s)), part);
        v16_store_part(x + i + at.half, v16_add(v16_mul(hi, c), v16_mul(lo, s)), part);
    }
}

/* The even lane's sine is negated: x + y * -s is x - y * s. */
V16_FN void hdl_rotate_pairs(hdl_angles at, float *x)
{
    uint32_t i = 0;
    for (; i + HDL_LANES / 2 <= at.half; i += HDL_LANES / 2) {
        v16 v = v16_load(x + 2 * (size_t)i), c = v16_load_twice(at.cosine + i);
        v16 s = v16_negate_even(v16_load_twice(at.sine + i));
        v16_store(x + 2 * (size_t)i, v16_add(v16_mul(v, c), v16_mul(v16_swap_pairs(v), s)));
    }
    for (; i < at.half; i++) {
        float *pair = x + 2 * (size_t)i, lo = pair[0], hi = pair[1];
        pair[0] = lo * at.cosine[i] - hi * at.sine[i];
        pair[1] = hi * at.cosine[i] + lo * at.sine[i];
    }
}

/* Turns the pairs of x, in place. */
V16_FN void hdl_rotate_span(hdl_angles at, float *x)
{
    if (at.interleaved)
        hdl_rotate_pairs(at, x);
    else
        hdl_rotate_halves(at, x);
}

/* Nearest even. */
V16_FN void hdl_store_bf16_span(const float *x, uint16_t *out, uint32_t n)
{
    uint32_t i = 0;
    for (; i + HDL_LANES <= n; i += HDL_LANES)
        v16i_store_u16(out + i, v16_to_bf16(v16_load(x + i)));
    for (; i < n; i++)
        out[i] = hdl_bf16_from_f32(x[i]);
}
