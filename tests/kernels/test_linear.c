/* SPDX-License-Identifier: Apache-2.0 */
/* linear: all levels and thread counts equal ref bit for bit; a token alone equals the token in a
 * batch; ref itself stays within the rounding bound of the exact sum. */
#include <math.h>

#include "kernel_test.h"
#include "kernels/numeric.h"

typedef struct shape {
    hdl_wformat format;
    uint32_t n, k, n_leaves, n_tokens;
    uint32_t with;
} shape;
enum { BIAS = 1, INTS = 2 }; /* INTS: x holds integers */

#define F32  HDL_WFORMAT_F32
#define BF16 HDL_WFORMAT_BF16
#define Q8   HDL_WFORMAT_Q8
static const shape shapes[] = {
    {BF16, 16, 32, 1, 1, 0},
    {BF16, 64, 64, 2, 3, BIAS},
    {BF16, 100, 96, 1, 5, BIAS},
    {BF16, 1, 2, 1, 1, 0},
    {BF16, 33, 34, 1, 7, 0},
    {BF16, 256, 256, 8, 1, 0},
    {BF16, 200, 256, 4, 12, 0},
    {BF16, 48, 512, 8, 13, BIAS},
    {BF16, 130, 1024, 8, 25, 0},
    {BF16, 320, 160, 1, 64, 0},
    {BF16, 4096, 64, 2, 2, 0},
    {F32, 16, 32, 1, 1, 0},
    {F32, 64, 64, 2, 3, BIAS},
    {F32, 7, 5, 1, 9, BIAS},
    {F32, 128, 256, 8, 12, 0},
    {F32, 65, 33, 1, 30, 0},
    {Q8, 16, 32, 1, 1, 0},
    {Q8, 64, 64, 2, 3, BIAS},
    {Q8, 100, 96, 1, 5, BIAS},
    {Q8, 200, 256, 8, 6, 0},
    {Q8, 48, 512, 8, 13, BIAS},
    {Q8, 130, 1024, 8, 25, 0},
    {Q8, 320, 160, 1, 64, 0},
    {Q8, 4096, 64, 2, 1, 0},
    {Q8, 48, 512, 8, 13, BIAS | INTS},
    {BF16, 33, 64, 2, 5, BIAS | INTS},
    {Q8, 65, 96, 1, 30, INTS},
    {BF16, 700, 320, 2, 100, BIAS},
    {Q8, 700, 320, 2, 100, BIAS},
    {F32, 700, 320, 2, 100, BIAS},
};

typedef struct input {
    const shape *s;
    hdl_tensor w; /* F32 [n, k] */
    float *x;     /* [n_tokens, stride] */
    size_t x_stride, y_stride;
    float *bias;
} input;

static void run(kt *t, const input *in, const hdl_ops *ops, hdl_stream *stream, float *y)
{
    hdl_weight w = kt_pack(t, ops, in->s->format, in->w, in->s->n_leaves);
    ops->linear(&(hdl_linear_args){.x = in->x,
                                   .x_stride = in->x_stride,
                                   .w = &w,
                                   .bias = in->bias,
                                   .y = y,
                                   .y_stride = in->y_stride,
                                   .n_tokens = in->s->n_tokens,
                                   .x_ints = (in->s->with & INTS) != 0},
                stream);
}

/* The operands as the format sees them, exactly, and the largest error of a sum of k rounded terms:
 * (k + 4) * 2^-24 * sum |x w|; Q8 adds half a step of each operand that it rounds. */
static void check_exact(kt *t, const input *in, const float *y)
{
    const shape *s = in->s;
    size_t n = (size_t)s->n_tokens * s->n;
    double *want = KT_NEW(t, double, n), *bound = KT_NEW(t, double, n);
    float *got = KT_NEW(t, float, n);
    const float *w = in->w.data;
    for (size_t tok = 0; tok < s->n_tokens; tok++)
        for (size_t row = 0; row < s->n; row++) {
            double sum = in->bias ? (double)in->bias[row] : 0, size = fabs(sum), step = 0;
            for (size_t i = 0; i < s->k; i++) {
                float a = in->x[tok * in->x_stride + i], b = w[row * s->k + i];
                if (s->format == HDL_WFORMAT_BF16) {
                    a = hdl_bf16_to_f32(hdl_bf16_from_f32(a));
                    b = hdl_bf16_to_f32(hdl_bf16_from_f32(b));
                }
                if (s->format == HDL_WFORMAT_Q8) {
                    size_t g = i / 32 * 32;
                    const float *x = in->x + tok * in->x_stride + g;
                    double sa = (s->with & INTS) ? 0 : (double)hdl_q8_scale(x);
                    double sb = (double)hdl_q8_scale(w + row * s->k + g);
                    step += 0.51 * (sa * fabs((double)b) + sb * fabs((double)a) + sa * sb);
                }
                sum += (double)a * (double)b;
                size += fabs((double)a * (double)b);
            }
            size_t at = tok * s->n + row;
            want[at] = sum;
            bound[at] = (s->k + 4) * 0x1p-24 * size + step;
            got[at] = y[tok * in->y_stride + row];
        }
    kt_near(t, "ref against the exact sum", (kt_exact){want, bound, n}, got);
}

static void check_alone(kt *t, const input *in, const float *y, int level, int stream)
{
    shape one = *in->s;
    input alone = *in;
    uint32_t token = kt_range(t, 0, one.n_tokens - 1);
    one.n_tokens = 1;
    alone.s = &one;
    alone.x = in->x + token * in->x_stride;
    float *got = KT_NEW(t, float, in->y_stride);
    run(t, &alone, t->levels[level], t->streams[stream], got);
    kt_same(t, kt_name(t, "a token alone", level, stream), y + token * in->y_stride, got, one.n);
}

/* A broken token stays alone: its outputs are not numbers, all others keep their bits. */
static void check_nan(kt *t, const input *in, const float *want, int level, int stream)
{
    const shape *s = in->s;
    uint32_t token = kt_range(t, 0, s->n_tokens - 1), at = kt_range(t, 0, s->k - 1);
    float *x = in->x + token * in->x_stride + at, keep = *x;
    float *got = KT_NEW(t, float, s->n_tokens * in->y_stride);
    bool broken = true;
    *x = NAN;
    run(t, in, t->levels[level], t->streams[stream], got);
    *x = keep;
    for (uint32_t i = 0; i < s->n; i++)
        broken = broken && isnan(got[token * in->y_stride + i]);
    kt_check(t, broken, kt_name(t, "a NaN shows", level, stream));
    for (uint32_t other = 0; other < s->n_tokens; other++)
        if (other != token)
            kt_same(t, kt_name(t, "beside a NaN", level, stream), want + other * in->y_stride,
                    got + other * in->y_stride, s->n);
}

static void test(kt *t, int case_idx)
{
    const shape *s = &shapes[case_idx];
    input in = {.s = s, .x_stride = s->k + kt_range(t, 0, 3), .y_stride = s->n + kt_range(t, 0, 3)};
    in.w = hdl_tensor_2d(kt_floats(t, (size_t)s->n * s->k, 0.1f), HDL_DTYPE_F32, s->n, s->k);
    in.x = kt_floats(t, s->n_tokens * in.x_stride, (s->with & INTS) ? 40.0f : 1.0f);
    for (size_t i = 0; (s->with & INTS) && i < s->n_tokens * in.x_stride; i++)
        in.x[i] = fmaxf(-127, fminf(rintf(in.x[i]), 127));
    in.bias = s->with & BIAS ? kt_floats(t, s->n, 1.0f) : NULL;
    size_t count = s->n_tokens * in.y_stride;
    float *want = KT_NEW(t, float, count);
    run(t, &in, t->ref, t->streams[0], want);
    check_exact(t, &in, want);
    KT_EACH(t, level, stream)
    {
        float *got = KT_NEW(t, float, count);
        run(t, &in, t->levels[level], t->streams[stream], got);
        kt_agree(t, kt_name(t, "linear", level, stream),
                 (kt_pair){want, got, count, kt_sum_bound(s->format, s->k), stream});
        check_alone(t, &in, got, level, stream);
        if (stream == 1 && !(s->with & INTS))
            check_nan(t, &in, got, level, stream);
    }
}

const kt_suite kt_linear = {"linear", HDL_ARRAY_LEN(shapes), test};
