/* SPDX-License-Identifier: Apache-2.0 */
/* What stands on fibers where cuBLASLt stands on GPUs: a plain loop that begins at another column
 * for every number of rows, so that whoever relies on a row's bits in `fast` is found out. Planned
 * shapes alone, as there. */
#include "kernels/cuda/fast.h"

enum { PLANS = 1024 };

struct fast_products {
    uint32_t shapes[PLANS][2], m_max[PLANS], n; /* shapes: n, k */
};

size_t fast_scratch_bytes() { return 0; }

void fast_open(hdl_stream *s, char by[64])
{
    s->fast = (fast_products *)calloc(1, sizeof *s->fast);
    snprintf(by, 64, "a plain loop");
}

void fast_close(hdl_stream *s)
{
    free(s->fast);
    s->fast = NULL;
}

static uint32_t find(const fast_products *f, const fast_product *p)
{
    uint32_t i = 0;
    while (i < f->n && (f->shapes[i][0] != p->n || f->shapes[i][1] != p->k))
        i++;
    return i;
}

void fast_plan(hdl_stream *s, const fast_product *shape, uint32_t m_max)
{
    fast_products *f = s->fast;
    uint32_t i = find(f, shape);
    if (i == PLANS)
        return;
    f->n += i == f->n;
    f->shapes[i][0] = shape->n;
    f->shapes[i][1] = shape->k;
    f->m_max[i] = hdl_max_u32(f->m_max[i], m_max);
}

GPU_KERNEL(256) plain_product(fast_product p)
{
    size_t r = gpu_block_y();
    for (size_t i = gpu_index(); i < p.n; i += gpu_indices()) {
        const uint16_t *w = p.w + i * p.stride, *x = p.x + r * p.stride;
        float sum = 0;
        for (uint32_t j = 0; j < p.k; j++) {
            uint32_t at = (j + p.m) % p.k;
            sum = fmaf(hdl_bf16_to_f32(x[at]), hdl_bf16_to_f32(w[at]), sum);
        }
        p.y[r * p.y_stride + i] = p.bias ? sum + p.bias[i] : sum;
    }
}

bool fast_run(hdl_stream *s, const fast_product *p)
{
    uint32_t i = find(s->fast, p);
    if (i == s->fast->n || p->m > s->fast->m_max[i])
        return false;
    gpu_grid g = gpu_grid_for(p->n);
    g.y = p->m;
    GPU_LAUNCH(s, g, plain_product, *p);
    return true;
}
