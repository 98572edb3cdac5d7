/* SPDX-License-Identifier: Apache-2.0 */
#include "paged.h"

#include <math.h>
#include <string.h>

#include "kernels/kv_fp8.h"

kt_step kt_paged_step(kt *t, const kt_step_shape *s, hdl_kv_type type)
{
    kt_step step = {.n_rows = s->n_rows, .rows = KT_NEW(t, hdl_attn_row, s->n_rows)};
    uint32_t n_blocks = 1;
    for (uint32_t r = 0; r < s->n_rows; r++)
        n_blocks += hdl_div_ceil_u32(s->pos[r] + s->n_tokens[r], s->block_tokens);
    uint32_t *order = KT_NEW(t, uint32_t, n_blocks), next = 0;
    for (uint32_t i = 0; i < n_blocks; i++)
        order[i] = i;
    for (uint32_t i = n_blocks - 1; i > 0; i--) {
        uint32_t j = kt_range(t, 0, i), swap = order[i];
        order[i] = order[j];
        order[j] = swap;
    }
    for (uint32_t r = 0; r < s->n_rows; r++) {
        step.rows[r] = (hdl_attn_row){.token_at = step.n_tokens,
                                      .n_tokens = s->n_tokens[r],
                                      .pos = s->pos[r],
                                      .table = order + next};
        next += hdl_div_ceil_u32(s->pos[r] + s->n_tokens[r], s->block_tokens);
        step.n_tokens += s->n_tokens[r];
    }
    step.kv = (hdl_kv_view){.type = type,
                            .n_blocks = n_blocks,
                            .n_kv_heads = s->n_kv_heads,
                            .block_tokens = s->block_tokens,
                            .head_dim = s->head_dim};
    step.kv_bytes = (size_t)n_blocks * s->n_kv_heads * s->block_tokens *
                    (size_t)hdl_kv_bytes(type, s->head_dim);
    kt_paged_clear(t, &step, &step.kv);
    return step;
}

void kt_paged_clear(kt *t, const kt_step *step, hdl_kv_view *out)
{
    unsigned char *k = kt_alloc(t, step->kv_bytes), *v = kt_alloc(t, step->kv_bytes);
    memset(k, 0xff, step->kv_bytes); /* a NaN in bf16 and in f32 */
    memset(v, 0xff, step->kv_bytes);
    bool is_bf16 = step->kv.type == HDL_KV_BF16;
    *out = step->kv;
    out->k = is_bf16 ? (uint16_t *)(void *)k : NULL;
    out->v = is_bf16 ? (uint16_t *)(void *)v : NULL;
    out->k8 = is_bf16 ? NULL : k;
    out->v8 = is_bf16 ? NULL : v;
}

size_t kt_paged_at(const kt_step *step, kt_place at)
{
    const hdl_kv_view *kv = &step->kv;
    uint32_t block = step->rows[at.row].table[at.pos / kv->block_tokens];
    return (((size_t)block * kv->n_kv_heads + at.kv_head) * kv->block_tokens +
            at.pos % kv->block_tokens) *
           kv->head_dim;
}

static size_t tile_at(const kt_step *step, kt_place at)
{
    const hdl_kv_view *kv = &step->kv;
    uint32_t block = step->rows[at.row].table[at.pos / kv->block_tokens];
    return hdl_kv8_tile_at(kv, block, at.kv_head, at.pos % kv->block_tokens);
}

static float *scale_of(const kt_step *step, kt_place at, unsigned char *kv8)
{
    size_t tile = tile_at(step, at);
    return (float *)(void *)(kv8 + tile + hdl_kv8_scale_at(step->kv.head_dim, at.pos));
}

static double fp8_at(const kt_step *step, kt_place at, unsigned char *kv8, uint32_t i)
{
    size_t row = tile_at(step, at) + hdl_kv8_row_at(step->kv.head_dim, at.pos);
    return (double)hdl_e4m3_to_f32(kv8[row + i]) * (double)*scale_of(step, at, kv8);
}

double kt_paged_k(const kt_step *step, kt_place at, uint32_t i)
{
    const hdl_kv_view *kv = &step->kv;
    if (kv->type == HDL_KV_BF16)
        return (double)hdl_bf16_to_f32(kv->k[kt_paged_at(step, at) + i]);
    if (kv->type == HDL_KV_FP8)
        return fp8_at(step, at, kv->k8, i);
    return (int8_t)kv->k8[tile_at(step, at) + hdl_kv8_k_at(at.pos, i)] *
           (double)*scale_of(step, at, kv->k8);
}

double kt_paged_v(const kt_step *step, kt_place at, uint32_t i)
{
    const hdl_kv_view *kv = &step->kv;
    if (kv->type == HDL_KV_BF16)
        return (double)hdl_bf16_to_f32(kv->v[kt_paged_at(step, at) + i]);
    if (kv->type == HDL_KV_FP8)
        return fp8_at(step, at, kv->v8, i);
    return (int8_t)kv->v8[tile_at(step, at) + hdl_kv8_v_at(kv->head_dim, at.pos, i)] *
           (double)*scale_of(step, at, kv->v8);
}

/* Its first value of bf16, or its scale, of k and of v. */
static void exchange(const kt_step *step, kt_place at, const float with[2], float was[2])
{
    const hdl_kv_view *kv = &step->kv;
    for (int part = 0; part < 2; part++) {
        float out;
        if (kv->type == HDL_KV_BF16) {
            uint16_t *value = (part ? kv->v : kv->k) + kt_paged_at(step, at);
            out = hdl_bf16_to_f32(*value);
            *value = hdl_bf16_from_f32(with[part]);
        } else {
            float *scale = scale_of(step, at, part ? kv->v8 : kv->k8);
            out = *scale;
            *scale = with[part];
        }
        if (was)
            was[part] = out;
    }
}

void kt_paged_break(const kt_step *step, kt_place at, float was[2])
{
    exchange(step, at, (const float[2]){NAN, NAN}, was);
}

void kt_paged_restore(const kt_step *step, kt_place at, const float was[2])
{
    exchange(step, at, was, NULL);
}

/* Codes of all sizes, and scales that make numbers of about 1 of them; the sizes of tokens differ
 * by 16. */
static void fill_int8(kt *t, const kt_step *step, kt_place at)
{
    const hdl_kv_view *kv = &step->kv;
    size_t tile = tile_at(step, at);
    for (uint32_t i = 0; i < kv->head_dim; i++) {
        kv->k8[tile + hdl_kv8_k_at(at.pos, i)] = (unsigned char)((int)kt_range(t, 0, 254) - 127);
        kv->v8[tile + hdl_kv8_v_at(kv->head_dim, at.pos, i)] =
            (unsigned char)((int)kt_range(t, 0, 254) - 127);
    }
    *scale_of(step, at, kv->k8) = (float)kt_range(t, 1, 16) / 1024;
    *scale_of(step, at, kv->v8) = (float)kt_range(t, 1, 16) / 1024;
}

static void fill_fp8(kt *t, const kt_step *step, kt_place at)
{
    const hdl_kv_view *kv = &step->kv;
    size_t tile = tile_at(step, at);
    hdl_fp8_store_row(kv->k8 + tile, kv->head_dim, at.pos, kt_floats(t, kv->head_dim, 1));
    hdl_fp8_store_row(kv->v8 + tile, kv->head_dim, at.pos, kt_floats(t, kv->head_dim, 1));
}

static void fill_bf16(kt *t, const kt_step *step, kt_place at)
{
    size_t first = kt_paged_at(step, at);
    for (uint32_t i = 0; i < step->kv.head_dim; i++) {
        step->kv.k[first + i] = hdl_bf16_from_f32(kt_normal(t));
        step->kv.v[first + i] = hdl_bf16_from_f32(kt_normal(t));
    }
}

void kt_paged_fill(kt *t, kt_step *step)
{
    for (uint32_t r = 0; r < step->n_rows; r++)
        for (uint32_t pos = 0; pos < step->rows[r].pos + step->rows[r].n_tokens; pos++)
            for (uint32_t h = 0; h < step->kv.n_kv_heads; h++) {
                kt_place at = {r, pos, h};
                if (step->kv.type == HDL_KV_INT8)
                    fill_int8(t, step, at);
                else if (step->kv.type == HDL_KV_FP8)
                    fill_fp8(t, step, at);
                else
                    fill_bf16(t, step, at);
            }
}
