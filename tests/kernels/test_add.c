/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "kernel_test.h"

static const size_t sizes[] = {1, 15, 64, 1000, 70001};

static void test(kt *t, int c)
{
    size_t n = sizes[c];
    float *x = kt_floats(t, n, 1), *y = kt_floats(t, n, 1), *want = KT_NEW(t, float, n);
    for (size_t i = 0; i < n; i++)
        want[i] = x[i] + y[i];
    KT_EACH(t, level, stream)
    {
        float *got = KT_NEW(t, float, n);
        memcpy(got, x, n * sizeof *x);
        t->levels[level]->add(&(hdl_add_args){.x = got, .y = y, .n = n}, t->streams[stream]);
        kt_same(t, kt_name(t, "add", level, stream), want, got, n);
    }
}

const kt_suite kt_add = {"add", HDL_ARRAY_LEN(sizes), test};
