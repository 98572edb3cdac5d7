/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>

#include "kernel_test.h"

static const struct {
    uint32_t dim, n_tokens, n_parts;
    float spread;
} shapes[] = {{64, 1, 1, 2}, {100, 7, 2, 1e-7f}, {2048, 33, 4, 50}, {1, 5, 1, 1}, {17, 2, 8, 3}};

/* What the op says, by the C library: the step of each token, then the nearest integers. */
static void define(const hdl_int8_rows_args *a, float *want, float *step)
{
    for (uint32_t tok = 0; tok < a->n_tokens; tok++) {
        float largest = 1e-5f;
        for (uint32_t p = 0; p < a->n_parts; p++)
            largest = fmaxf(largest, a->absmax[p * a->n_tokens + tok]);
        float steps = 127.0f / largest;
        step[tok] = 1.0f / steps;
        for (uint32_t i = 0; i < a->dim; i++) {
            float q = nearbyintf(a->x[tok * a->dim + i] * steps);
            want[tok * a->dim + i] = fminf(fmaxf(q, -127), 127);
        }
    }
}

static void test(kt *t, int c)
{
    uint32_t dim = shapes[c].dim, n = shapes[c].n_tokens, parts = shapes[c].n_parts;
    size_t count = (size_t)n * dim;
    float *x = kt_floats(t, count, shapes[c].spread), *absmax = KT_NEW(t, float, n *parts);
    for (uint32_t tok = 0; tok < n; tok++) {
        float *of_part = &absmax[kt_range(t, 0, parts - 1) * n + tok];
        for (uint32_t i = 0; i < dim; i++)
            *of_part = fmaxf(*of_part, fabsf(x[tok * dim + i]));
    }
    hdl_int8_rows_args a = {.x = x, .absmax = absmax, .n_parts = parts, .n_tokens = n, .dim = dim};
    float *want = KT_NEW(t, float, count), *step = KT_NEW(t, float, n);
    define(&a, want, step);
    KT_EACH(t, level, stream)
    {
        float *out = KT_NEW(t, float, count); /* in place */
        memcpy(out, x, count * sizeof *x);
        a.x = a.out = out;
        a.step = KT_NEW(t, float, n);
        t->levels[level]->int8_rows(&a, t->streams[stream]);
        kt_same(t, kt_name(t, "int8_rows", level, stream), want, out, count);
        kt_same(t, kt_name(t, "its steps", level, stream), step, a.step, n);
        float keep = absmax[n - 1];
        absmax[n - 1] = NAN;
        t->levels[level]->int8_rows(&a, t->streams[stream]);
        absmax[n - 1] = keep;
        kt_check(t, isnan(a.step[n - 1]), kt_name(t, "a NaN shows", level, stream));
    }
}

const kt_suite kt_int8_rows = {"int8_rows", HDL_ARRAY_LEN(shapes), test};
