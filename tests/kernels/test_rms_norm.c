/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>

#include "kernel_test.h"

static const struct {
    uint32_t dim, n_tokens;
    bool plain; /* without weights */
    uint32_t pad;
    uint32_t parts; /* of a whole vector that ranks share; 0: the norm is the op's own */
} shapes[] = {
    {64, 1, false, 0, 0},  {100, 7, false, 0, 0},     {2048, 33, false, 0, 0},
    {1, 2, false, 0, 0},   {15, 3, false, 0, 0},      {4096, 64, false, 0, 0},
    {100, 7, true, 28, 0}, {2048, 33, false, 512, 4}, {64, 5, true, 1, 2},
};

/* f32 sums of squares over 16 lanes: dim / 16 roundings each, and a few more. */
static void check_exact(kt *t, const hdl_rms_norm_args *a, const float *got)
{
    size_t n = (size_t)a->n_tokens * a->dim;
    double *want = KT_NEW(t, double, n), *bound = KT_NEW(t, double, n);
    for (size_t tok = 0; tok < a->n_tokens; tok++) {
        const float *x = a->x + tok * a->x_stride;
        double sum = 0, whole = a->sumsq ? a->whole_dim : a->dim;
        for (size_t i = 0; i < a->dim; i++)
            sum += pow((double)x[i], 2);
        if (a->sumsq)
            sum = (double)a->sumsq[tok * a->sumsq_stride];
        for (size_t i = 0; i < a->dim; i++) {
            size_t at = tok * a->dim + i;
            double w = a->w ? (double)a->w[i] : 1;
            want[at] = (double)x[i] / sqrt(sum / whole + (double)a->eps) * w;
            bound[at] = (a->dim / 16 + 12) * 0x1p-24 * fabs(want[at]);
        }
    }
    kt_near(t, "ref against the exact norm", (kt_exact){want, bound, n}, got);
}

/* Sums of whole vectors of which x is a part. */
static float *make_sums(kt *t, const hdl_rms_norm_args *a)
{
    float *sums = KT_NEW(t, float, a->n_tokens * a->sumsq_stride);
    for (size_t i = 0; i < a->n_tokens; i++)
        sums[i * a->sumsq_stride] = (float)a->whole_dim * (9 + kt_normal(t));
    return sums;
}

static void test(kt *t, int c)
{
    uint32_t dim = shapes[c].dim, n_tokens = shapes[c].n_tokens;
    size_t stride = dim + shapes[c].pad, n = (size_t)n_tokens * stride, n_out = n_tokens * dim;
    hdl_rms_norm_args a = {.x = kt_floats(t, n, 3),
                           .w = shapes[c].plain ? NULL : kt_floats(t, dim, 1),
                           .x_stride = stride,
                           .sumsq_stride = 3,
                           .whole_dim = dim * shapes[c].parts,
                           .n_tokens = n_tokens,
                           .dim = dim,
                           .eps = 1e-6f};
    a.sumsq = shapes[c].parts ? make_sums(t, &a) : NULL;
    float *want = a.out = KT_NEW(t, float, n_out); /* out_stride 0: packed */
    t->ref->rms_norm(&a, t->streams[0]);
    check_exact(t, &a, want);
    float *spaced = KT_NEW(t, float, n); /* as it must look in place */
    memcpy(spaced, a.x, n * sizeof *spaced);
    for (size_t tok = 0; tok < n_tokens; tok++)
        memcpy(spaced + tok * stride, want + tok * dim, dim * sizeof *want);
    KT_EACH(t, level, stream)
    {
        float *in_place = KT_NEW(t, float, n);
        hdl_rms_norm_args b = a;
        memcpy(in_place, a.x, n * sizeof *in_place);
        b.x = b.out = in_place;
        b.out_stride = stride;
        b.x_stride = shapes[c].pad ? stride : 0;
        t->levels[level]->rms_norm(&b, t->streams[stream]);
        /* As the check against double: dim roundings at most, half of them in the root. */
        float bound = a.sumsq ? 0 : (float)(dim / 2 + 4) * 0x1p-24f;
        kt_agree(t, kt_name(t, "rms_norm in place", level, stream),
                 (kt_pair){spaced, in_place, n, bound, stream});
    }
}

const kt_suite kt_rms_norm = {"rms_norm", HDL_ARRAY_LEN(shapes), test};
