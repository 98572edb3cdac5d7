/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "kernel_test.h"

static const struct {
    uint32_t dim, n_leaves, n_tokens, pad;
} shapes[] = {{64, 1, 1, 0}, {128, 4, 7, 3}, {2048, 8, 33, 64}, {96, 2, 5, 0}, {40, 1, 2, 1}};

/* Two ranks' subtrees, added, are the whole tree: what the collective relies on. */
static void check_halves(kt *t, hdl_sumsq_args a, const float *want)
{
    float *lo = KT_NEW(t, float, a.n_tokens), *hi = KT_NEW(t, float, a.n_tokens);
    a.dim /= 2;
    a.n_leaves /= 2;
    a.out_stride = 1;
    a.out = lo;
    t->ref->sumsq(&a, t->streams[0]);
    a.x += a.dim;
    a.out = hi;
    t->ref->sumsq(&a, t->streams[0]);
    for (uint32_t i = 0; i < a.n_tokens; i++)
        lo[i] += hi[i];
    kt_same(t, "sumsq of two ranks", want, lo, a.n_tokens);
}

static void test(kt *t, int c)
{
    uint32_t dim = shapes[c].dim, n = shapes[c].n_tokens;
    size_t stride = dim + shapes[c].pad;
    float *x = kt_floats(t, n * stride, 3), *want = KT_NEW(t, float, n);
    hdl_sumsq_args a = {.x = x,
                        .x_stride = stride,
                        .out = want,
                        .out_stride = 1,
                        .n_tokens = n,
                        .dim = dim,
                        .n_leaves = shapes[c].n_leaves};
    t->ref->sumsq(&a, t->streams[0]);
    double *exact = KT_NEW(t, double, n), *bound = KT_NEW(t, double, n);
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t k = 0; k < dim; k++)
            exact[i] += (double)x[i * stride + k] * x[i * stride + k];
        bound[i] = exact[i] * (dim / 16.0 + 9) * 0x1p-24; /* roundings along the longest path */
    }
    kt_near(t, "ref against double", (kt_exact){exact, bound, n}, want);
    KT_EACH(t, level, stream)
    {
        a.out = KT_NEW(t, float, n * 2);
        a.out_stride = 2;
        t->levels[level]->sumsq(&a, t->streams[stream]);
        for (uint32_t i = 0; i < n; i++)
            a.out[i] = a.out[2 * i];
        kt_agree(t, kt_name(t, "sumsq", level, stream),
                 (kt_pair){want, a.out, n, (float)dim * 0x1p-24f, stream});
    }
    if (a.n_leaves > 1)
        check_halves(t, a, want);
}

const kt_suite kt_sumsq = {"sumsq", HDL_ARRAY_LEN(shapes), test};
