/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "kernel_test.h"

static const struct {
    uint32_t inter, n_tokens;
    hdl_glu_kind kind;
    float limit, alpha;
} shapes[] = {
    {32, 1, HDL_GLU_SILU, 0, 0},       {100, 7, HDL_GLU_SILU, 0, 0},
    {768, 64, HDL_GLU_SILU, 0, 0},     {1, 1, HDL_GLU_SILU, 0, 0},
    {4864, 5, HDL_GLU_SILU, 0, 0},     {100, 7, HDL_GLU_GELU, 0, 0},
    {768, 64, HDL_GLU_GELU, 0, 0},     {100, 7, HDL_GLU_RELU2, 0, 0},
    {768, 64, HDL_GLU_RELU2, 0, 0},    {100, 7, HDL_GLU_OAI, 7, 1.702f},
    {768, 64, HDL_GLU_OAI, 2, 1.702f},
};

/* The result in double, and the bound: exp to 2 ulp, some roundings. */
static double exact_of(const hdl_glu_args *a, double g, double up, double *bound)
{
    const double root = 0.79788456080286536; /* sqrt(2 / pi) */
    double limit = (double)a->limit, out = 0, spread = 1;
    switch (a->kind) {
    case HDL_GLU_SILU: out = g / (1 + exp(-g)) * up; break;
    case HDL_GLU_GELU: {
        double z = root * (g + 0.044715 * g * g * g);
        out = g / (1 + exp(-2 * z)) * up;
        /* A relative error of z is an absolute one of the exponent. */
        spread = fmin(1 + fabs(z), 100);
        break;
    }
    case HDL_GLU_RELU2: out = g > 0 ? g * g * up : 0; break;
    case HDL_GLU_OAI:
        g = fmin(g, limit);
        up = fmin(fmax(up, -limit), limit);
        out = g / (1 + exp(-(double)a->alpha * g)) * (up + 1);
        spread = 1 + fabs((double)a->alpha * g);
        *bound = 0x1p-23 * fabs(g); /* of up + 1 near 0 */
        break;
    }
    *bound = *bound + 0x1p-21 * spread * fabs(out) + 1e-35;
    return out;
}

static void test(kt *t, int c)
{
    uint32_t inter = shapes[c].inter, n_tokens = shapes[c].n_tokens;
    size_t n = (size_t)n_tokens * inter;
    float *gate_up = kt_floats(t, 2 * n, 4);
    gate_up[0] = 100; /* beyond both ends of exp */
    if (inter > 2)
        gate_up[1] = -100;
    hdl_glu_args a = {.gate_up = gate_up,
                      .n_tokens = n_tokens,
                      .inter = inter,
                      .kind = shapes[c].kind,
                      .limit = shapes[c].limit,
                      .alpha = shapes[c].alpha};
    float *want = a.out = KT_NEW(t, float, n);
    double *exact = KT_NEW(t, double, n), *bound = KT_NEW(t, double, n);
    t->ref->glu(&a, t->streams[0]);
    for (size_t i = 0; i < n; i++) {
        double g = (double)gate_up[i / inter * 2 * inter + i % inter];
        double up = (double)gate_up[i / inter * 2 * inter + inter + i % inter];
        exact[i] = exact_of(&a, g, up, &bound[i]);
    }
    kt_near(t, "ref against libm", (kt_exact){exact, bound, n}, want);
    KT_EACH(t, level, stream)
    {
        a.out = KT_NEW(t, float, n);
        t->levels[level]->glu(&a, t->streams[stream]);
        kt_same(t, kt_name(t, "glu", level, stream), want, a.out, n);
    }
    gate_up[0] = NAN;
    KT_EACH(t, level, stream)
    {
        t->levels[level]->glu(&a, t->streams[stream]);
        kt_check(t, isnan(a.out[0]), kt_name(t, "glu keeps a NaN", level, stream));
    }
}

const kt_suite kt_glu = {"glu", HDL_ARRAY_LEN(shapes), test};
