/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>

#include "kernels/numeric.h"
#include "lora.h"

static const lora_case cases[] = {
    {1, 64, 32, 1, 16, 2},  {1, 4096, 32, 8, 64, 3}, {9, 256, 32, 8, 8, 2}, {40, 96, 32, 1, 1, 5},
    {17, 50, 32, 1, 17, 3}, {33, 512, 32, 4, 33, 9}, {8, 128, 32, 2, 4, 1}, {70, 64, 32, 2, 16, 40},
};

/* By the definition of a product, in double. */
static void check_sense(kt *t, const hdl_lora_shrink_args *a)
{
    for (uint32_t row = 0; row < a->rows.n_tokens; row++)
        for (uint32_t r = 0; r < a->rank_max; r++) {
            uint32_t which = a->rows.of_row[row];
            const hdl_lora *l = which == HDL_NONE_U32 ? NULL : &a->rows.adapters[which];
            double want = 0, size = 0;
            for (uint32_t i = 0; l && r < l->rank && i < a->k; i++) {
                double product = (double)hdl_bf16_to_f32(l->a[(size_t)r * a->k + i]) *
                                 (double)a->x[row * a->x_stride + i];
                want += product;
                size += fabs(product);
            }
            kt_check(t, fabs(want - (double)a->h[row * a->rank_max + r]) <= size * 1e-5, "A x");
        }
}

static void test(kt *t, int c)
{
    const lora_case *s = &cases[c];
    size_t stride = s->k + kt_range(t, 0, 5), n_h = (size_t)s->n_tokens * s->rank_max;
    hdl_lora_shrink_args args = {.rows = lora_rows_of(t, s),
                                 .x = kt_floats(t, s->n_tokens * stride, 1),
                                 .x_stride = stride,
                                 .k = s->k,
                                 .n_leaves = s->n_leaves,
                                 .h = kt_floats(t, n_h, 1),
                                 .rank_max = s->rank_max};
    const float *want = args.h;
    t->ref->lora_shrink(&args, t->streams[0]);
    check_sense(t, &args);
    KT_EACH(t, level, stream)
    {
        hdl_lora_shrink_args got = args;
        got.h = kt_floats(t, n_h, 1);
        t->levels[level]->lora_shrink(&got, t->streams[stream]);
        kt_same(t, kt_name(t, "h", level, stream), want, got.h, n_h);
    }
}

const kt_suite kt_lora_shrink = {"lora_shrink", HDL_ARRAY_LEN(cases), test};
