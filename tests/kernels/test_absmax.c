/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "kernel_test.h"

static const struct {
    uint32_t dim, n_tokens, pad;
} shapes[] = {{64, 1, 0}, {100, 7, 3}, {2048, 33, 64}, {1, 5, 0}, {17, 2, 1}};

static void test(kt *t, int c)
{
    uint32_t dim = shapes[c].dim, n = shapes[c].n_tokens;
    size_t stride = dim + shapes[c].pad;
    float *x = kt_floats(t, n * stride, 3), *want = KT_NEW(t, float, n);
    for (uint32_t tok = 0; tok < n; tok++) {
        for (uint32_t i = dim; i < stride; i++)
            x[tok * stride + i] = 1000; /* between the rows: not looked at */
        for (uint32_t i = 0; i < dim; i++)
            want[tok] = fmaxf(want[tok], fabsf(x[tok * stride + i]));
    }
    hdl_absmax_args a = {.x = x, .x_stride = stride, .n_tokens = n, .dim = dim};
    KT_EACH(t, level, stream)
    {
        a.out = KT_NEW(t, float, n);
        t->levels[level]->absmax(&a, t->streams[stream]);
        kt_same(t, kt_name(t, "absmax", level, stream), want, a.out, n);
        float *at = &x[(n - 1) * stride + dim - 1], keep = *at;
        *at = NAN;
        t->levels[level]->absmax(&a, t->streams[stream]);
        *at = keep;
        kt_check(t, isnan(a.out[n - 1]), kt_name(t, "a NaN shows", level, stream));
    }
}

const kt_suite kt_absmax = {"absmax", HDL_ARRAY_LEN(shapes), test};
