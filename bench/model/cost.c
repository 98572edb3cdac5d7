/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/model/cost.h"

#include <math.h>

static double bytes_per_value(hdl_wformat format)
{
    const uint32_t n = 1024; /* whole blocks of any format */
    return (double)hdl_wformat_bytes(format, n) / n;
}

/* Values of one layer's matrices: outside the experts, and of one expert. */
static double shared_values(const hdl_model_desc *d, const hdl_shard *s, uint32_t layer)
{
    double qkv = (double)(s->n_heads + 2 * s->n_kv_heads) * d->head_dim * d->hidden;
    double o = (double)s->n_heads * d->head_dim * d->hidden;
    if (d->layers[layer].ffn == HDL_FFN_DENSE)
        return qkv + o + 3.0 * s->inter * d->hidden;
    return qkv + o + (double)d->n_experts * d->hidden + 3.0 * s->shared * d->hidden;
}

/* Positions that a query of the layer sees, of so many before it. */
static double seen(const hdl_layer_desc *layer, double context)
{
    if (layer->window > 0 && context > layer->window)
        return layer->window;
    /* Half of a chunk on average. */
    return layer->chunk > 0 && context > layer->chunk ? layer->chunk / 2.0 : context;
}

static double expected_experts(const hdl_model_desc *d, uint32_t n_tokens)
{
    return d->n_experts * (1 - pow(1 - (double)d->topk / d->n_experts, n_tokens));
}

hdl_bench_cost hdl_bench_model_cost(const hdl_model_desc *d, const hdl_shard *s,
                                    hdl_bench_step step)
{
    double unit = bytes_per_value(step.format);
    double head = (double)s->vocab * d->hidden, expert = 3.0 * s->moe_inter * d->hidden;
    hdl_bench_cost cost = {.bytes = head * unit * step.head_share,
                           .flop = 2 * head * step.n_sampled};
    for (uint32_t i = 0; i < d->n_layers; i++) {
        double shared = shared_values(d, s, i), context = seen(&d->layers[i], step.context);
        double kv = 2.0 * s->n_kv_heads * d->head_dim * context;
        const hdl_cache_group *cache = &d->cache_groups[d->layers[i].cache_group];
        double kv_bytes = kv / d->head_dim * (double)hdl_kv_bytes(cache->type, d->head_dim);
        cost.bytes += shared * unit + kv_bytes * step.n_seqs;
        cost.flop += 2 * shared * step.n_tokens;
        cost.flop += 4.0 * s->n_heads * d->head_dim * context * step.n_tokens;
        if (d->layers[i].ffn == HDL_FFN_MOE) {
            cost.bytes += expected_experts(d, step.n_tokens) * expert * unit;
            cost.flop += 2 * expert * d->topk * step.n_tokens;
        }
    }
    return cost;
}
