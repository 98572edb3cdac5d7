/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "kernel_test.h"

static const struct {
    uint32_t inter, n_tokens;
} shapes[] = {{32, 1}, {100, 7}, {768, 64}, {1, 1}, {4864, 5}};

static void test(kt *t, int c)
{
    uint32_t inter = shapes[c].inter, n_tokens = shapes[c].n_tokens;
    size_t n = (size_t)n_tokens * inter;
    float *gate_up = kt_floats(t, 2 * n, 4);
    gate_up[0] = 100; /* beyond both ends of exp */
    if (inter > 2)
        gate_up[1] = -100;
    hdl_glu_args a = {.gate_up = gate_up, .n_tokens = n_tokens, .inter = inter};
    float *want = a.out = KT_NEW(t, float, n);
    double *exact = KT_NEW(t, double, n), *bound = KT_NEW(t, double, n);
    t->ref->glu(&a, t->streams[0]);
    for (size_t i = 0; i < n; i++) {
        double g = (double)gate_up[i / inter * 2 * inter + i % inter];
        double up = (double)gate_up[i / inter * 2 * inter + inter + i % inter];
        exact[i] = g / (1 + exp(-g)) * up;
        bound[i] = 0x1p-21 * fabs(exact[i]) + 1e-35; /* exp: 2 ulp; three roundings */
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
