/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/cluster/scale_policy.h"

#include <string.h>

static uint64_t div_ceil(uint64_t a, uint64_t b) { return a / b + (a % b != 0); }

uint32_t hdl_scale_wanted(const hdl_scale_policy *policy, const hdl_scale_demand *demand)
{
    uint64_t requests = (uint64_t)demand->running + demand->waiting;
    uint64_t by_tokens = div_ceil(demand->queued_tokens, policy->queued_tokens);
    uint64_t by_requests = div_ceil(requests, policy->requests);
    uint64_t n = by_tokens > by_requests ? by_tokens : by_requests;
    if (n == 0 && (requests > 0 || demand->refused))
        n = 1;
    return (uint32_t)(n < policy->max ? n : policy->max);
}

void hdl_scale_init(hdl_scale_state *state, const hdl_scale_policy *policy, uint64_t now_us)
{
    *state = (hdl_scale_state){.desired = policy->min, .busy_us = now_us, .reason = "start"};
    uint64_t slice_us = policy->down_after_us / HDL_SCALE_SLICES;
    state->slice = now_us / (slice_us ? slice_us : 1);
}

/* Notes what is wanted now; returns the most of all slices. */
static uint32_t remember(hdl_scale_state *s, const hdl_scale_policy *p, uint32_t wanted,
                         uint64_t now_us)
{
    uint64_t slice_us = p->down_after_us / HDL_SCALE_SLICES;
    uint64_t slice = now_us / (slice_us ? slice_us : 1);
    if (slice - s->slice >= HDL_SCALE_SLICES)
        memset(s->most, 0, sizeof s->most);
    for (uint64_t i = s->slice + 1; i <= slice && slice - s->slice < HDL_SCALE_SLICES; i++)
        s->most[i % HDL_SCALE_SLICES] = 0;
    s->slice = slice;
    uint32_t *now = &s->most[slice % HDL_SCALE_SLICES], most = 0;
    *now = wanted > *now ? wanted : *now;
    for (int i = 0; i < HDL_SCALE_SLICES; i++)
        most = s->most[i] > most ? s->most[i] : most;
    return most;
}

static bool change(hdl_scale_state *s, uint32_t desired, const char *reason)
{
    s->desired = desired;
    s->above_since_us = 0;
    s->reason = reason;
    return true;
}

bool hdl_scale_step(hdl_scale_state *s, const hdl_scale_policy *p, const hdl_scale_demand *demand,
                    uint64_t now_us)
{
    uint32_t wanted = hdl_scale_wanted(p, demand);
    if (wanted > 0)
        s->busy_us = now_us;
    uint32_t most = remember(s, p, wanted, now_us);
    if (wanted > s->desired) {
        if (s->above_since_us == 0)
            s->above_since_us = now_us;
        if (s->desired == 0)
            return change(s, wanted, "requests came while there was no replica");
        if (now_us - s->above_since_us >= p->up_after_us)
            return change(s, wanted, "demand stayed above what the replicas can take");
        return false;
    }
    s->above_since_us = 0;
    /* The last replica goes by its own clock. */
    uint32_t floor = p->min > 0 ? p->min : now_us - s->busy_us >= p->zero_after_us ? 0 : 1;
    uint32_t keep = most > floor ? most : floor;
    if (keep < s->desired)
        return change(s, keep, keep == 0 ? "idle" : "fewer replicas would have done for a while");
    return false;
}
