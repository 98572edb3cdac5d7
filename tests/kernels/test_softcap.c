/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>

#include "kernel_test.h"

static const struct {
    uint32_t n;
    float cap, spread;
} shapes[] = {{1, 30, 10}, {1000, 30, 20}, {4097, 50, 200}, {333, 1, 0.3f}};

static void test(kt *t, int c)
{
    uint32_t n = shapes[c].n;
    float cap = shapes[c].cap, *x = kt_floats(t, n, shapes[c].spread);
    double *exact = KT_NEW(t, double, n), *bound = KT_NEW(t, double, n);
    for (uint32_t i = 0; i < n; i++) {
        exact[i] = (double)cap * tanh((double)x[i] / (double)cap);
        /* Where tanh is not small: exp of 2 ulp and three roundings of numbers below 2. */
        bound[i] = (double)cap * 0x1p-21 * fmin(1, fabs((double)x[i] / (double)cap) * 8);
    }
    hdl_softcap_args a = {.n = n, .cap = cap};
    float *want = a.x = KT_NEW(t, float, n);
    memcpy(want, x, n * sizeof *x);
    t->ref->softcap(&a, t->streams[0]);
    kt_near(t, "ref against libm", (kt_exact){exact, bound, n}, want);
    KT_EACH(t, level, stream)
    {
        a.x = KT_NEW(t, float, n);
        memcpy(a.x, x, n * sizeof *x);
        t->levels[level]->softcap(&a, t->streams[stream]);
        kt_same(t, kt_name(t, "softcap", level, stream), want, a.x, n);
    }
}

const kt_suite kt_softcap = {"softcap", HDL_ARRAY_LEN(shapes), test};
