/* SPDX-License-Identifier: Apache-2.0 */
/* linear_heads: each head's product has the bits of linear alone, on all levels and threads, also
 * where heads are taken in several groups. */
#include "kernel_test.h"

static const struct {
    hdl_wformat format;
    uint32_t n_heads, n, k, n_tokens, gap; /* gap: floats that do not belong to a head */
} shapes[] = {
    {HDL_WFORMAT_BF16, 1, 16, 32, 1, 0},    {HDL_WFORMAT_BF16, 5, 40, 64, 3, 8},
    {HDL_WFORMAT_F32, 3, 33, 17, 14, 3},    {HDL_WFORMAT_Q8, 4, 64, 32, 7, 16},
    {HDL_WFORMAT_BF16, 16, 64, 128, 1, 64}, {HDL_WFORMAT_F32, 9, 32, 512, 600, 0},
};

static void test(kt *t, int c)
{
    uint32_t n_heads = shapes[c].n_heads, n = shapes[c].n, k = shapes[c].k;
    size_t x_head = k + shapes[c].gap, y_head = n + shapes[c].gap, tokens = shapes[c].n_tokens;
    size_t y_count = tokens * n_heads * y_head;
    float *rows = kt_floats(t, (size_t)n_heads * n * k, 1), *want = KT_NEW(t, float, y_count);
    hdl_weight *w = KT_NEW(t, hdl_weight, n_heads);
    hdl_linear_heads_args a = {.x = kt_floats(t, tokens * n_heads * x_head, 1),
                               .x_stride = n_heads * x_head,
                               .x_head = x_head,
                               .w = w,
                               .y = want,
                               .y_stride = n_heads * y_head,
                               .y_head = y_head,
                               .n_heads = n_heads,
                               .n_tokens = shapes[c].n_tokens};
    for (uint32_t h = 0; h < n_heads; h++) {
        hdl_tensor of_head = hdl_tensor_2d(rows + (size_t)h * n * k, HDL_DTYPE_F32, n, k);
        w[h] = kt_pack(t, t->ref, shapes[c].format, of_head, 1);
        t->ref->linear(&(hdl_linear_args){.x = a.x + h * x_head,
                                          .x_stride = a.x_stride,
                                          .w = &w[h],
                                          .y = want + h * y_head,
                                          .y_stride = a.y_stride,
                                          .n_tokens = a.n_tokens},
                       t->streams[0]);
    }
    for (int level = 0; level < t->n_levels; level++) {
        for (uint32_t h = 0; h < n_heads; h++) {
            hdl_tensor of_head = hdl_tensor_2d(rows + (size_t)h * n * k, HDL_DTYPE_F32, n, k);
            w[h] = kt_pack(t, t->levels[level], shapes[c].format, of_head, 1);
        }
        for (int stream = 0; stream < t->n_streams; stream++) {
            a.y = KT_NEW(t, float, y_count);
            t->levels[level]->linear_heads(&a, t->streams[stream]);
            kt_agree(t, kt_name(t, "linear_heads", level, stream),
                     (kt_pair){want, a.y, y_count, kt_sum_bound(shapes[c].format, k), stream});
        }
    }
}

const kt_suite kt_linear_heads = {"linear_heads", HDL_ARRAY_LEN(shapes), test};
