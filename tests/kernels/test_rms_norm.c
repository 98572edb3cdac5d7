/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>

#include "kernel_test.h"

static const struct {
    uint32_t dim, n_tokens;
} shapes[] = {{64, 1}, {100, 7}, {2048, 33}, {1, 2}, {15, 3}, {4096, 64}};

/* f32 sums of squares over 16 lanes: dim / 16 roundings each, and a few more. */
static void check_exact(kt *t, const hdl_rms_norm_args *a)
{
    size_t n = (size_t)a->n_tokens * a->dim;
    double *want = KT_NEW(t, double, n), *bound = KT_NEW(t, double, n);
    for (size_t tok = 0; tok < a->n_tokens; tok++) {
        double sum = 0;
        for (size_t i = 0; i < a->dim; i++)
            sum += pow((double)a->x[tok * a->dim + i], 2);
        for (size_t i = 0; i < a->dim; i++) {
            size_t at = tok * a->dim + i;
            want[at] = (double)a->x[at] / sqrt(sum / a->dim + (double)a->eps) * (double)a->w[i];
            bound[at] = (a->dim / 16 + 12) * 0x1p-24 * fabs(want[at]);
        }
    }
    kt_near(t, "ref against the exact norm", (kt_exact){want, bound, n}, a->out);
}

static void test(kt *t, int c)
{
    uint32_t dim = shapes[c].dim, n_tokens = shapes[c].n_tokens;
    size_t n = (size_t)n_tokens * dim;
    hdl_rms_norm_args a = {.x = kt_floats(t, n, 3),
                           .w = kt_floats(t, dim, 1),
                           .n_tokens = n_tokens,
                           .dim = dim,
                           .eps = 1e-6f};
    float *want = a.out = KT_NEW(t, float, n);
    t->ref->rms_norm(&a, t->streams[0]);
    check_exact(t, &a);
    KT_EACH(t, level, stream)
    {
        float *in_place = a.out = KT_NEW(t, float, n);
        hdl_rms_norm_args b = a;
        memcpy(in_place, a.x, n * sizeof *in_place);
        b.x = in_place;
        t->levels[level]->rms_norm(&b, t->streams[stream]);
        kt_same(t, kt_name(t, "rms_norm in place", level, stream), want, in_place, n);
    }
}

const kt_suite kt_rms_norm = {"rms_norm", HDL_ARRAY_LEN(shapes), test};
