/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "kernel_test.h"

static const struct {
    uint32_t dim, n_tokens;
} shapes[] = {{64, 1}, {100, 7}, {2048, 33}, {1, 5}};

static void test(kt *t, int c)
{
    uint32_t dim = shapes[c].dim, n = shapes[c].n_tokens;
    size_t count = (size_t)n * dim;
    float *x = kt_floats(t, count, 2), *factor = kt_floats(t, n, 1);
    float *want = KT_NEW(t, float, count);
    for (size_t i = 0; i < count; i++)
        want[i] = x[i] * factor[i / dim];
    KT_EACH(t, level, stream)
    {
        hdl_scale_rows_args a = {
            .x = KT_NEW(t, float, count), .factor = factor, .n_tokens = n, .dim = dim};
        memcpy(a.x, x, count * sizeof *x);
        t->levels[level]->scale_rows(&a, t->streams[stream]);
        kt_same(t, kt_name(t, "scale_rows", level, stream), want, a.x, count);
    }
}

const kt_suite kt_scale_rows = {"scale_rows", HDL_ARRAY_LEN(shapes), test};
