/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/core/pace.h"

enum {
    LEAST_TOKENS = 32, /* of prompts: fewer say little about time, and always fit a step */
    KEPT = 3,          /* of four parts, of what was measured before */
};

static const uint64_t token_ns_max = 1000000000;

/* A worker that had nothing to do begins when it is told; else with the answer before. */
void hdl_pace_planned(const hdl_sched *s, hdl_group *g)
{
    if (g->in_flight == 0)
        g->busy_since_us = s->now_us;
}

/* Steps that are mostly prompts: what a token takes in a step of few rows is another thing. */
void hdl_pace_answered(const hdl_sched *s, hdl_group *g, const hdl_plan_buf *buf)
{
    uint64_t us = s->now_us - g->busy_since_us;
    uint32_t n_prompt = buf->n_computed - buf->n_guesses - buf->n_decodes;
    g->busy_since_us = s->now_us;
    if (n_prompt < LEAST_TOKENS || n_prompt < buf->n_decodes)
        return;
    uint64_t ns = us < token_ns_max ? us * 1000 / buf->n_computed : token_ns_max;
    ns = ns < token_ns_max ? ns : token_ns_max;
    g->token_ns = g->token_ns ? (KEPT * g->token_ns + ns) / (KEPT + 1) : ns;
}

uint32_t hdl_pace_step_tokens(const hdl_sched *s, const hdl_group *g, const hdl_plan_buf *buf)
{
    uint32_t most = s->config.step_tokens;
    if (s->config.step_us == 0 || g->token_ns == 0 || buf->plan.n_rows == 0)
        return most;
    uint64_t n = (uint64_t)s->config.step_us * 1000 / g->token_ns;
    uint64_t least = (uint64_t)buf->n_computed + LEAST_TOKENS;
    n = n > least ? n : least;
    return n < most ? (uint32_t)n : most;
}
