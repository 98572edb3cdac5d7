/* SPDX-License-Identifier: Apache-2.0 */
#include "paged.h"

#include "kernels/numeric.h"

kt_step kt_paged_step(kt *t, const kt_step_shape *s)
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
    step.kv = (hdl_kv_view){.n_blocks = n_blocks,
                            .n_kv_heads = s->n_kv_heads,
                            .block_tokens = s->block_tokens,
                            .head_dim = s->head_dim};
    step.kv_count = (size_t)n_blocks * s->n_kv_heads * s->block_tokens * s->head_dim;
    step.kv.k = KT_NEW(t, uint16_t, step.kv_count);
    step.kv.v = KT_NEW(t, uint16_t, step.kv_count);
    for (size_t i = 0; i < step.kv_count; i++)
        step.kv.k[i] = step.kv.v[i] = 0x7fc0; /* NaN */
    return step;
}

size_t kt_paged_at(const kt_step *step, uint32_t row, uint32_t pos, uint32_t kv_head)
{
    const hdl_kv_view *kv = &step->kv;
    uint32_t block = step->rows[row].table[pos / kv->block_tokens];
    return (((size_t)block * kv->n_kv_heads + kv_head) * kv->block_tokens +
            pos % kv->block_tokens) *
           kv->head_dim;
}

void kt_paged_fill(kt *t, kt_step *step)
{
    for (uint32_t r = 0; r < step->n_rows; r++)
        for (uint32_t pos = 0; pos < step->rows[r].pos + step->rows[r].n_tokens; pos++)
            for (uint32_t h = 0; h < step->kv.n_kv_heads; h++) {
                size_t at = kt_paged_at(step, r, pos, h);
                for (uint32_t i = 0; i < step->kv.head_dim; i++) {
                    step->kv.k[at + i] = hdl_bf16_from_f32(kt_normal(t));
                    step->kv.v[at + i] = hdl_bf16_from_f32(kt_normal(t));
                }
            }
}
