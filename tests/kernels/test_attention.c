/* SPDX-License-Identifier: Apache-2.0 */
/* attention: levels and threads equal ref; a chunk equals its tokens one by one; ref stays near the
 * plain softmax in double, with windows, chunks, caps and sinks; places of the cache that no query
 * may see (NaN here) are never used. FP8 gives the bits of BF16 over the same numbers. */
#include <math.h>

#include "kernels/numeric.h"
#include "paged.h"

static const struct {
    kt_step_shape step;
    uint32_t window, latent, chunk;
    float softcap, sink; /* sink: mean of the sinks; 0: none */
    hdl_kv_type type;
} shapes[] = {
    {.step = {4, 2, 32, 32, 1, {0}, {1}}},
    {.step = {4, 1, 64, 32, 3, {5, 40, 0}, {1, 7, 33}}},
    {.step = {8, 2, 128, 64, 4, {100, 31, 511, 0}, {2, 1, 3, 65}}},
    {.step = {6, 2, 48, 16, 2, {3, 600}, {20, 5}}},
    {.step = {2, 1, 36, 32, 2, {3, 9}, {20, 5}}},
    {.step = {4, 2, 64, 32, 2, {1100, 7}, {1, 1}}},
    {.step = {4, 4, 32, 32, 1, {500}, {40}}},
    {.step = {4, 2, 32, 32, 2, {500, 2}, {40, 70}}, .window = 100},
    {.step = {4, 2, 64, 32, 1, {1600}, {1}}, .window = 520},
    {.step = {80, 1, 32, 32, 2, {30, 0}, {3, 1}}},
    {.step = {4, 1, 32, 32, 1, {990}, {60}}, .window = 17},
    {.step = {3, 1, 48, 32, 2, {40, 0}, {2, 35}},
     .latent = 32}, /* latent: a value is the start of its key */
    {.step = {2, 1, 40, 32, 2, {40, 0}, {2, 5}}, .latent = 24},
    {.step = {70, 1, 576, 32, 2, {530, 3}, {1, 2}}, .latent = 512},
    {.step = {16, 1, 576, 64, 1, {506}, {16}}, .latent = 512},
    {.step = {4, 2, 64, 32, 3, {5, 40, 600}, {1, 7, 3}}, .softcap = 2},
    {.step = {4, 2, 256, 32, 2, {40, 0}, {1, 9}}, .window = 33, .softcap = 5},
    {.step = {4, 2, 36, 32, 2, {3, 9}, {20, 5}}, .window = 6, .softcap = 1, .sink = 1},
    {.step = {8, 2, 32, 32, 2, {100, 0}, {1, 70}}, .sink = 5},
    {.step = {4, 2, 64, 32, 1, {1600}, {1}}, .sink = -3},
    {.step = {4, 2, 32, 32, 2, {30, 700}, {70, 9}}, .chunk = 96},
    {.step = {2, 2, 64, 16, 1, {1030}, {1}}, .chunk = 512},
    {.step = {4, 1, 64, 32, 2, {1010, 0}, {40, 1}},
     .window = 40,
     .chunk = 512,
     .softcap = 3,
     .sink = 2},
    /* Several splits, in as many ways as devices cut them: chunks, few and many rows, both kinds of
     * rows in one step. */
    {.step = {8, 8, 32, 32, 1, {1000}, {40}}},
    {.step = {64, 64, 32, 32, 1, {530}, {1}}, .window = 40},
    {.step = {32, 1, 64, 32, 4, {1500, 40, 700, 1030}, {2, 1, 16, 1}}, .window = 900},
    {.step = {4, 2, 256, 32, 3, {530, 3, 1020}, {20, 1, 1}}},
    {.step = {20, 1, 48, 32, 3, {530, 3, 1020}, {20, 1, 1}}, .latent = 32},
    {.type = HDL_KV_INT8, .step = {4, 2, 32, 32, 1, {0}, {1}}},
    {.type = HDL_KV_INT8, .step = {4, 1, 64, 32, 3, {5, 40, 0}, {1, 7, 33}}},
    {.type = HDL_KV_INT8, .step = {8, 2, 128, 64, 4, {100, 31, 511, 0}, {2, 1, 3, 65}}},
    {.type = HDL_KV_INT8, .step = {2, 1, 36, 32, 2, {3, 9}, {20, 5}}},
    {.type = HDL_KV_INT8, .step = {6, 2, 48, 32, 2, {1100, 600}, {1, 5}}},
    {.type = HDL_KV_INT8, .step = {4, 2, 32, 32, 2, {500, 2}, {40, 70}}, .window = 100},
    {.type = HDL_KV_INT8, .step = {4, 2, 64, 32, 1, {1600}, {1}}, .window = 520},
    {.type = HDL_KV_INT8, .step = {80, 1, 32, 32, 2, {30, 0}, {3, 1}}},
    {.type = HDL_KV_INT8, .step = {4, 1, 32, 32, 1, {990}, {60}}, .window = 17},
    {.type = HDL_KV_INT8, .step = {4, 2, 256, 32, 2, {40, 0}, {1, 9}}, .window = 33, .softcap = 5},
    {.type = HDL_KV_INT8,
     .step = {4, 2, 36, 32, 2, {3, 9}, {20, 5}},
     .window = 6,
     .softcap = 1,
     .sink = 1},
    {.type = HDL_KV_INT8, .step = {8, 2, 32, 32, 2, {100, 0}, {1, 70}}, .sink = 5},
    {.type = HDL_KV_INT8, .step = {7, 1, 80, 128, 2, {30, 700}, {70, 9}}, .chunk = 96},
    {.type = HDL_KV_FP8, .step = {4, 2, 32, 32, 1, {0}, {1}}},
    {.type = HDL_KV_FP8, .step = {4, 1, 64, 32, 3, {5, 40, 0}, {1, 7, 33}}},
    {.type = HDL_KV_FP8, .step = {8, 2, 128, 64, 4, {100, 31, 511, 0}, {2, 1, 3, 65}}},
    {.type = HDL_KV_FP8, .step = {2, 1, 36, 32, 2, {3, 9}, {20, 5}}, .window = 6, .sink = 1},
    {.type = HDL_KV_FP8, .step = {6, 2, 48, 128, 2, {1100, 600}, {1, 5}}},
    {.type = HDL_KV_FP8, .step = {4, 2, 32, 32, 2, {500, 2}, {40, 70}}, .window = 100},
    {.type = HDL_KV_FP8, .step = {4, 2, 256, 32, 2, {40, 0}, {1, 9}}, .window = 33, .softcap = 5},
    {.type = HDL_KV_FP8, .step = {7, 1, 80, 128, 2, {30, 700}, {70, 9}}, .chunk = 96},
    {.type = HDL_KV_FP8, .step = {2, 1, 40, 32, 2, {40, 0}, {2, 5}}, .latent = 24},
    {.type = HDL_KV_FP8, .step = {70, 1, 576, 32, 2, {530, 3}, {1, 2}}, .latent = 512},
    {.type = HDL_KV_FP8, .step = {16, 1, 576, 64, 1, {506}, {16}}, .latent = 512},
};

static uint32_t first_seen(const hdl_attention_args *a, uint32_t end)
{
    uint32_t first = a->window && end > a->window ? end - a->window : 0;
    while (a->chunk && first / a->chunk < (end - 1) / a->chunk)
        first++;
    return first;
}

/* exp(score), after the cap. */
static double weight_of(const hdl_attention_args *a, double dot)
{
    double score = dot * (double)a->scale, cap = (double)a->softcap;
    return exp(cap != 0 ? cap * tanh(score / cap) : score);
}

static void check_exact(kt *t, const hdl_attention_args *a, const kt_step *step)
{
    uint32_t dim = a->kv.head_dim, row = step->n_rows - 1, group = a->n_heads / a->kv.n_kv_heads;
    uint32_t value_dim = hdl_attention_value_dim(a);
    uint32_t idx = step->rows[row].n_tokens - 1, head = a->n_heads - 1;
    uint32_t end = step->rows[row].pos + idx + 1;
    uint32_t first = first_seen(a, end);
    size_t at = (step->rows[row].token_at + idx) * (size_t)a->n_heads + head;
    double *want = KT_NEW(t, double, value_dim), *bound = KT_NEW(t, double, value_dim);
    double sum = a->sinks ? exp((double)a->sinks[head]) : 0;
    for (uint32_t pos = first; pos < end; pos++) {
        kt_place kv = {row, pos, head / group};
        double dot = 0;
        for (uint32_t i = 0; i < dim; i++)
            dot += (double)a->q[at * dim + i] * kt_paged_k(step, kv, i);
        double weight = weight_of(a, dot);
        sum += weight;
        for (uint32_t i = 0; i < value_dim; i++)
            want[i] += weight * (a->latent ? kt_paged_k(step, kv, i) : kt_paged_v(step, kv, i));
    }
    for (uint32_t i = 0; i < value_dim; i++) {
        want[i] /= sum;
        bound[i] = 2e-5; /* f32 sums of up to some thousand terms of size about 1 */
        if (a->kv.type == HDL_KV_INT8)
            bound[i] = 1e-3; /* a query of 14 bits moves scores of about 1 by some 1e-4 */
    }
    kt_near(t, "ref against softmax in double", (kt_exact){want, bound, value_dim},
            a->out + at * value_dim);
}

/* One row whose tokens come one by one (or in two chunks) gives the same. */
static void check_chunks(kt *t, const hdl_attention_args *a, int level, int stream)
{
    uint32_t width = a->n_heads * hdl_attention_value_dim(a);
    uint32_t q_width = a->n_heads * a->kv.head_dim;
    const hdl_attn_row *row = &a->rows[a->n_rows - 1];
    uint32_t cut = kt_range(t, 0, row->n_tokens - 1);
    const uint32_t from[] = {0, cut}, to[] = {cut, row->n_tokens};
    for (int part = 0; part < 2; part++) {
        hdl_attn_row *chunk = KT_NEW(t, hdl_attn_row, 1);
        *chunk = *row;
        chunk->token_at = 0;
        chunk->pos = row->pos + from[part];
        chunk->n_tokens = to[part] - from[part];
        if (chunk->n_tokens == 0)
            continue;
        size_t token = row->token_at + from[part];
        hdl_attention_args b = *a;
        b.q = a->q + token * q_width;
        b.rows = chunk;
        b.n_rows = 1;
        b.n_tokens = chunk->n_tokens;
        b.out = KT_NEW(t, float, (size_t)chunk->n_tokens *width);
        t->levels[level]->attention(&b, t->streams[stream]);
        kt_same(t, kt_name(t, "a chunk", level, stream), a->out + token * width, b.out,
                (size_t)chunk->n_tokens * width);
    }
}

/* A broken last token of the last row: nobody before it may look at it. */
static void check_nan(kt *t, const hdl_attention_args *a, const kt_step *step, int level)
{
    const hdl_attn_row *row = &a->rows[a->n_rows - 1];
    uint32_t last = row->token_at + row->n_tokens - 1;
    uint32_t width = a->n_heads * hdl_attention_value_dim(a);
    float was[2];
    kt_place at = {a->n_rows - 1, row->pos + row->n_tokens - 1, 0};
    hdl_attention_args b = *a;
    b.out = KT_NEW(t, float, (size_t)a->n_tokens *width);
    kt_paged_break(step, at, was);
    t->levels[level]->attention(&b, t->streams[1]);
    kt_paged_restore(step, at, was);
    kt_check(t, isnan(b.out[(size_t)last * width]), kt_name(t, "a NaN shows", level, 1));
    kt_same(t, kt_name(t, "before a NaN", level, 1), a->out, b.out, (size_t)last * width);
}

/* Keys and values that no query of the last row sees. */
static void poison_unseen(const hdl_attention_args *a, const kt_step *step)
{
    uint32_t row = step->n_rows - 1, first = first_seen(a, step->rows[row].pos + 1);
    for (uint32_t pos = 0; pos < first; pos++)
        for (uint32_t h = 0; h < step->kv.n_kv_heads; h++)
            kt_paged_break(step, (kt_place){row, pos, h}, (float[2]){0});
}

/* Where a cache of BF16 holds the numbers of one of FP8. */
static hdl_kv_view widened(kt *t, const kt_step *step)
{
    kt_step wide = *step;
    wide.kv.type = HDL_KV_BF16;
    wide.kv_bytes = (size_t)step->kv.n_blocks * step->kv.n_kv_heads * step->kv.block_tokens *
                    (size_t)hdl_kv_bytes(HDL_KV_BF16, step->kv.head_dim);
    kt_paged_clear(t, &wide, &wide.kv);
    for (uint32_t r = 0; r < step->n_rows; r++)
        for (uint32_t pos = 0; pos < step->rows[r].pos + step->rows[r].n_tokens; pos++)
            for (uint32_t h = 0; h < step->kv.n_kv_heads; h++)
                for (uint32_t i = 0; i < step->kv.head_dim; i++) {
                    kt_place at = {r, pos, h};
                    size_t to = kt_paged_at(&wide, at) + i;
                    wide.kv.k[to] = hdl_bf16_from_f32((float)kt_paged_k(step, at, i));
                    wide.kv.v[to] = hdl_bf16_from_f32((float)kt_paged_v(step, at, i));
                }
    return wide.kv;
}

/* A device holds q and weights as two bf16, 2^-17 off; scores are sums of terms of up to 20 in all,
 * whose errors differ in sign: some 1e-5. (One bf16 would be 2e-3 off.) INT8: ref rounds queries to
 * 14 bits, as in check_exact. */
static float device_bound(const hdl_attention_args *a)
{
    return a->kv.type == HDL_KV_INT8 ? 1e-3f : 1e-4f;
}

static void test(kt *t, int c)
{
    const kt_step_shape *s = &shapes[c].step;
    kt_step step = kt_paged_step(t, s, shapes[c].type);
    kt_paged_fill(t, &step);
    uint32_t latent = shapes[c].latent;
    size_t n_q = (size_t)step.n_tokens * s->n_heads * s->head_dim;
    hdl_attention_args a = {.q = kt_floats(t, n_q, 1),
                            .rows = step.rows,
                            .n_rows = step.n_rows,
                            .n_tokens = step.n_tokens,
                            .n_heads = s->n_heads,
                            .scale = 1.0f / sqrtf((float)s->head_dim),
                            .softcap = shapes[c].softcap,
                            .window = shapes[c].window,
                            .chunk = shapes[c].chunk,
                            .latent = latent,
                            .kv = step.kv};
    if (latent)
        a.kv.v = NULL;
    size_t n = (size_t)step.n_tokens * s->n_heads * hdl_attention_value_dim(&a);
    if (shapes[c].sink != 0) {
        float *sinks = kt_floats(t, s->n_heads, 1);
        for (uint32_t h = 0; h < s->n_heads; h++)
            sinks[h] += shapes[c].sink;
        a.sinks = sinks;
    }
    poison_unseen(&a, &step);
    float *want = a.out = KT_NEW(t, float, n);
    t->ref->attention(&a, t->streams[0]);
    check_exact(t, &a, &step);
    hdl_attention_args wide = a;
    if (a.kv.type == HDL_KV_FP8)
        wide.kv = widened(t, &step);
    KT_EACH(t, level, stream)
    {
        if (a.kv.type == HDL_KV_FP8) {
            wide.out = KT_NEW(t, float, n);
            t->levels[level]->attention(&wide, t->streams[stream]);
        }
        a.out = KT_NEW(t, float, n);
        t->levels[level]->attention(&a, t->streams[stream]);
        kt_agree(t, kt_name(t, "attention", level, stream),
                 (kt_pair){want, a.out, n, device_bound(&a), stream});
        if (a.kv.type == HDL_KV_FP8)
            kt_same(t, kt_name(t, "over bf16", level, stream), wide.out, a.out, n);
        if (stream == 1)
            check_nan(t, &a, &step, level);
        if (stream == 1 || !t->is_device) /* fibers take long; their orders agree */
            check_chunks(t, &a, level, stream);
    }
}

const kt_suite kt_attention = {"attention", HDL_ARRAY_LEN(shapes), test};
