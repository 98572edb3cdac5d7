/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>

#include "kernels/numeric.h"
#include "lora.h"

static const lora_case cases[] = {
    {1, 32, 64, 1, 16, 2},  {1, 32, 4100, 1, 64, 3}, {9, 32, 256, 1, 8, 2}, {40, 32, 96, 1, 1, 5},
    {17, 32, 50, 1, 17, 3}, {33, 32, 300, 1, 33, 9}, {8, 32, 7, 1, 4, 1},   {70, 32, 64, 1, 16, 40},
};

static void check_sense(kt *t, const hdl_lora_expand_args *a, const float *before)
{
    for (uint32_t row = 0; row < a->rows.n_tokens; row++)
        for (uint32_t i = 0; i < a->n; i++) {
            uint32_t which = a->rows.of_row[row];
            const hdl_lora *l = which == HDL_NONE_U32 ? NULL : &a->rows.adapters[which];
            double want = (double)before[row * a->y_stride + i], size = fabs(want);
            for (uint32_t r = 0; l && r < l->rank; r++) {
                double product = (double)l->scale *
                                 (double)hdl_bf16_to_f32(l->b[(size_t)r * a->n + i]) *
                                 (double)a->h[row * a->rank_max + r];
                want += product;
                size += fabs(product);
            }
            kt_check(t, fabs(want - (double)a->y[row * a->y_stride + i]) <= size * 1e-5,
                     "y + scale B h");
        }
}

static void test(kt *t, int c)
{
    const lora_case *s = &cases[c];
    size_t stride = s->n + kt_range(t, 0, 5), n_y = s->n_tokens * stride;
    const float *before = kt_floats(t, n_y, 1);
    hdl_lora_expand_args args = {.rows = lora_rows_of(t, s),
                                 .h = kt_floats(t, (size_t)s->n_tokens * s->rank_max, 1),
                                 .rank_max = s->rank_max,
                                 .n = s->n,
                                 .y = KT_NEW(t, float, n_y),
                                 .y_stride = stride};
    const float *want = args.y;
    memcpy(args.y, before, n_y * sizeof *before);
    t->ref->lora_expand(&args, t->streams[0]);
    check_sense(t, &args, before);
    KT_EACH(t, level, stream)
    {
        hdl_lora_expand_args got = args;
        got.y = KT_NEW(t, float, n_y);
        memcpy(got.y, before, n_y * sizeof *before);
        t->levels[level]->lora_expand(&got, t->streams[stream]);
        kt_same(t, kt_name(t, "y", level, stream), want, got.y, n_y);
    }
}

const kt_suite kt_lora_expand = {"lora_expand", HDL_ARRAY_LEN(cases), test};
