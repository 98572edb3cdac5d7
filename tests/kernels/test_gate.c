/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>

#include "kernel_test.h"

static const struct {
    uint32_t dim, gate_dim, n_tokens, pad;
} shapes[] = {
    {64, 64, 1, 0}, {100, 1, 7, 0}, {2048, 2048, 33, 256}, {17, 17, 5, 3}, {768, 1, 2, 1}};

static void test(kt *t, int c)
{
    uint32_t dim = shapes[c].dim, n = shapes[c].n_tokens, gate_dim = shapes[c].gate_dim;
    size_t stride = gate_dim + shapes[c].pad, count = (size_t)n * dim;
    float *x = kt_floats(t, count, 2), *gate = kt_floats(t, n * stride, 4);
    gate[0] = 200; /* beyond both ends of exp */
    gate[(n - 1) * stride] = -200;
    double *exact = KT_NEW(t, double, count), *bound = KT_NEW(t, double, count);
    for (size_t i = 0; i < count; i++) {
        double g = (double)gate[i / dim * stride + (gate_dim == 1 ? 0 : i % dim)];
        exact[i] = (double)x[i] / (1 + exp(-g));
        bound[i] = 0x1p-21 * fabs(exact[i]) + 1e-35; /* exp: 2 ulp; three roundings */
    }
    hdl_gate_args a = {
        .gate = gate, .gate_stride = stride, .n_tokens = n, .dim = dim, .gate_dim = gate_dim};
    float *want = a.x = KT_NEW(t, float, count);
    memcpy(want, x, count * sizeof *x);
    t->ref->gate(&a, t->streams[0]);
    kt_near(t, "ref against libm", (kt_exact){exact, bound, count}, want);
    KT_EACH(t, level, stream)
    {
        a.x = KT_NEW(t, float, count);
        memcpy(a.x, x, count * sizeof *x);
        t->levels[level]->gate(&a, t->streams[stream]);
        kt_same(t, kt_name(t, "gate", level, stream), want, a.x, count);
    }
}

const kt_suite kt_gate = {"gate", HDL_ARRAY_LEN(shapes), test};
