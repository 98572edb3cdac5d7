/* SPDX-License-Identifier: Apache-2.0 */
/* The leaf tree (N2): a weight cut along k over 2, 4, 8 ranks, whose results are added as a
 * balanced tree, gives the bits of the whole weight. Source types pack alike when the values are
 * the same. */
#include <string.h>

#include "kernel_test.h"
#include "kernels/numeric.h"

typedef struct shape {
    hdl_wformat format;
    uint32_t n, k, n_tokens;
} shape;

static const shape shapes[] = {
    {HDL_WFORMAT_BF16, 40, 256, 1}, {HDL_WFORMAT_BF16, 96, 768, 5}, {HDL_WFORMAT_Q8, 40, 256, 1},
    {HDL_WFORMAT_Q8, 96, 768, 5},   {HDL_WFORMAT_F32, 40, 256, 1},  {HDL_WFORMAT_F32, 96, 512, 14},
};

typedef struct input {
    const shape *s;
    hdl_tensor w;   /* F32 [n, k of this rank] */
    const float *x; /* [n_tokens, k], from this rank's first k */
} input;

static float *run(kt *t, int level, const input *in, uint32_t n_leaves)
{
    const shape *s = in->s;
    float *y = KT_NEW(t, float, (size_t)s->n_tokens * s->n);
    hdl_weight packed = kt_pack(t, t->levels[level], s->format, in->w, n_leaves);
    t->levels[level]->linear(&(hdl_linear_args){.x = in->x,
                                                .x_stride = s->k,
                                                .w = &packed,
                                                .y = y,
                                                .y_stride = s->n,
                                                .n_tokens = s->n_tokens},
                             t->streams[1]);
    return y;
}

static void check_ranks(kt *t, int level, const input *in, const float *want)
{
    const shape *s = in->s;
    size_t n = (size_t)s->n_tokens * s->n;
    for (uint32_t ranks = 2; ranks <= HDL_LEAVES_MAX; ranks *= 2) {
        float *part[HDL_LEAVES_MAX] = {0};
        uint32_t k = s->k / ranks;
        for (uint32_t r = 0; r < ranks; r++) {
            input slice = *in;
            slice.w.data = (float *)in->w.data + r * k;
            slice.w.shape[1] = k;
            slice.x = in->x + r * k;
            part[r] = run(t, level, &slice, HDL_LEAVES_MAX / ranks);
        }
        for (uint32_t width = ranks; width > 1; width /= 2)
            for (uint32_t r = 0; r < width / 2; r++)
                for (size_t i = 0; i < n; i++)
                    part[r][i] = part[2 * r][i] + part[2 * r + 1][i];
        kt_same(t, kt_name(t, "tree over ranks", level, 1), want, part[0], n);
    }
}

/* F16 and BF16 files hold values that F32 holds too: the packed bytes must be the same. */
static void check_sources(kt *t, int level, const shape *s, hdl_tensor w)
{
    size_t n = (size_t)s->n * s->k;
    uint16_t *half = KT_NEW(t, uint16_t, n);
    float *wide = KT_NEW(t, float, n);
    for (int type = 0; type < 2; type++) {
        hdl_dtype dtype = type ? HDL_DTYPE_F16 : HDL_DTYPE_BF16;
        for (size_t i = 0; i < n; i++) {
            half[i] = hdl_bf16_from_f32(((float *)w.data)[i]);
            if (type) /* any sign and mantissa, exponents of 2^-6 .. 2^1 */
                half[i] = (uint16_t)((half[i] & 0x83ffu) | (9u + half[i] % 8u) << 10);
            wide[i] = type ? hdl_f16_to_f32(half[i]) : hdl_bf16_to_f32(half[i]);
        }
        hdl_weight a = kt_pack(t, t->levels[level], s->format,
                               hdl_tensor_2d(half, dtype, s->n, s->k), HDL_LEAVES_MAX);
        hdl_weight b = kt_pack(t, t->levels[level], s->format,
                               hdl_tensor_2d(wide, HDL_DTYPE_F32, s->n, s->k), HDL_LEAVES_MAX);
        kt_same_bytes(t, kt_name(t, "packed source types", level, 0), a.data, b.data, a.bytes);
    }
}

static void test(kt *t, int case_idx)
{
    const shape *s = &shapes[case_idx];
    float *rows = kt_floats(t, (size_t)s->n * s->k, 0.1f);
    input in = {.s = s,
                .w = hdl_tensor_2d(rows, HDL_DTYPE_F32, s->n, s->k),
                .x = kt_floats(t, (size_t)s->n_tokens * s->k, 1.0f)};
    for (int level = 0; level < t->n_levels; level++) {
        check_ranks(t, level, &in, run(t, level, &in, HDL_LEAVES_MAX));
        check_sources(t, level, s, in.w);
    }
}

const kt_suite kt_tree = {"tree", HDL_ARRAY_LEN(shapes), test};
