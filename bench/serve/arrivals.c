/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "base/rng.h"
#include "bench/serve/load.h"

static double normal(hdl_rng *rng)
{
    double u = 1 - hdl_rng_unit(rng), v = hdl_rng_unit(rng);
    return sqrt(-2 * log(u)) * cos(2 * 3.14159265358979323846 * v);
}

/* Gamma of the given shape and mean 1. Marsaglia and Tsang, "A simple method for generating gamma
 * variables" (2000); shapes below 1 by their section 6. */
static double gamma_gap(hdl_rng *rng, double shape)
{
    if (shape < 1) {
        double u = 1 - hdl_rng_unit(rng);
        return gamma_gap(rng, shape + 1) * (shape + 1) / shape * pow(u, 1 / shape);
    }
    double d = shape - 1.0 / 3, c = 1 / sqrt(9 * d);
    for (;;) {
        double x = normal(rng), v = 1 + c * x;
        if (v <= 0)
            continue;
        v = v * v * v;
        double u = 1 - hdl_rng_unit(rng);
        if (log(u) < 0.5 * x * x + d - d * v + d * log(v))
            return d * v / shape;
    }
}

void hdl_load_arrive(hdl_load_set *set, const hdl_load_spec *spec)
{
    hdl_rng rng;
    double at = 0;
    if (spec->arrivals == HDL_LOAD_TRACE)
        return;
    hdl_rng_init(&rng, spec->seed ^ 0x5eed5eedu);
    for (size_t i = 0; i < set->n; i++) {
        set->items[i].at_us = (uint64_t)at;
        if (spec->rate <= 0)
            continue;
        double gap = spec->arrivals == HDL_LOAD_CONSTANT ? 1 : gamma_gap(&rng, spec->burstiness);
        at += gap * 1e6 / spec->rate;
    }
}
