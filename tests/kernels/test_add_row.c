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
    float *x = kt_floats(t, count, 2), *row = kt_floats(t, dim, 1);
    float *want = KT_NEW(t, float, count);
    for (size_t i = 0; i < count; i++)
        want[i] = x[i] + row[i % dim];
    KT_EACH(t, level, stream)
    {
        hdl_add_row_args a = {.x = KT_NEW(t, float, count), .row = row, .n_tokens = n, .dim = dim};
        memcpy(a.x, x, count * sizeof *x);
        t->levels[level]->add_row(&a, t->streams[stream]);
        kt_same(t, kt_name(t, "add_row", level, stream), want, a.x, count);
    }
}

const kt_suite kt_add_row = {"add_row", HDL_ARRAY_LEN(shapes), test};
