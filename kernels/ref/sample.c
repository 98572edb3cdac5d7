/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/sample.h"

#include "base/assert.h"
#include "base/rng.h"
#include "kernels/ref/ref.h"

/* Logits that a token is drawn from: z / temperature. */
typedef struct view {
    const float *z;
    uint32_t vocab;
    float temperature, most; /* most: the largest of z / temperature */
} view;

/* The first `count` tokens of the order: those of a larger key, and `ties` of those that have it,
 * lowest ids first. */
typedef struct prefix {
    uint32_t key;
    uint64_t ties, count, mass;
} prefix;

/* False: a number is not finite. */
static bool find_largest(const float *z, uint32_t vocab, uint32_t *best)
{
    *best = 0;
    for (uint32_t i = 0; i < vocab; i++) {
        if (!hdl_sample_is_finite(z[i]))
            return false;
        *best = z[i] > z[*best] ? i : *best;
    }
    return true;
}

static float value(const view *v, uint32_t i) { return v->z[i] / v->temperature; }

static uint64_t mass(const view *v, float z)
{
    return hdl_sample_mass(hdl_sample_exp(z - v->most));
}

/* All tokens whose key is at least this one. */
static prefix from_key(const view *v, uint32_t key)
{
    prefix p = {.key = key};
    for (uint32_t i = 0; i < v->vocab; i++) {
        float z = value(v, i);
        if (hdl_sample_key(z) < key)
            continue;
        p.ties += hdl_sample_key(z) == key;
        p.count++;
        p.mass += mass(v, z);
    }
    return p;
}

/* The shortest prefix whose count, or mass, reaches `want`. */
static prefix shortest(const view *v, uint64_t want, bool by_mass)
{
    uint32_t key = 0;
    for (uint32_t bit = 1u << 31; bit != 0; bit >>= 1) {
        prefix p = from_key(v, key | bit);
        if ((by_mass ? p.mass : p.count) >= want)
            key |= bit;
    }
    prefix p = from_key(v, key);
    uint64_t each = by_mass ? mass(v, hdl_sample_of_key(key)) : 1;
    uint64_t spare = ((by_mass ? p.mass : p.count) - want) / each; /* ties that are not needed */
    p.ties -= spare;
    p.count -= spare;
    p.mass -= spare * mass(v, hdl_sample_of_key(key));
    return p;
}

static hdl_token last_of(const view *v, const prefix *p)
{
    uint64_t ties = 0;
    for (uint32_t i = 0;; i++) {
        ties += hdl_sample_key(value(v, i)) == p->key;
        if (ties == p->ties)
            return (hdl_token)i;
    }
}

static prefix keep(const view *v, const hdl_sample_tenant *t)
{
    const hdl_sampling *s = &t->params;
    prefix all = from_key(v, 0), kept = all;
    if (s->top_k > 0 && (uint32_t)s->top_k < v->vocab)
        kept = shortest(v, (uint32_t)s->top_k, false);
    if (s->top_p < 1)
        kept = shortest(v, hdl_sample_share(kept.mass, s->top_p), true);
    if (s->min_p > 0) {
        prefix likely = from_key(v, hdl_sample_key(v->most + t->log_min_p));
        if (likely.count == 0)
            likely = shortest(v, 1, false);
        kept = likely.count < kept.count ? likely : kept;
    }
    return kept;
}

static hdl_token draw(const view *v, const hdl_sample_tenant *t, uint32_t pos)
{
    const hdl_sampling *s = &t->params;
    uint32_t key[2] = {(uint32_t)s->seed, (uint32_t)(s->seed >> 32)};
    uint32_t ctr[4] = {pos, 0, 0, 0}, word[4];
    hdl_philox(ctr, key, word);
    prefix kept = keep(v, t);
    uint64_t target = hdl_sample_target(kept.mass, word[0]), sum = 0;
    if (s->top_k > 0 || s->top_p < 1 || s->min_p > 0) {
        kept = shortest(v, target + 1, true);
        return last_of(v, &kept);
    }
    for (uint32_t i = 0;; i++) { /* nothing is left out: in order of id */
        sum += mass(v, value(v, i));
        if (sum > target)
            return (hdl_token)i;
    }
}

/* What the token is drawn from: the logits with bias and penalties. */
static void adjust(const hdl_sample_args *a, const hdl_sample_tenant *t, uint32_t slot, float *z)
{
    const hdl_bias *bias = a->state.biases + (size_t)slot * HDL_LOGIT_BIAS_MAX;
    const hdl_token *history = a->state.histories + (size_t)slot * a->state.max_history;
    for (uint32_t i = 0; i < t->params.n_bias; i++)
        z[bias[i].token] += bias[i].bias;
    for (uint32_t i = 0; t->keeps_history && i < t->n_history; i++) {
        uint32_t mark = HDL_SAMPLE_SEEN, before = 0;
        for (uint32_t j = 0; j < t->n_history; j++) {
            mark += history[j] == history[i] && j >= t->n_prompt;
            before += history[j] == history[i] && j < i;
        }
        if (before == 0)
            z[history[i]] = hdl_sample_penalise(&t->params, z[history[i]], mark);
    }
}

static hdl_token sample(const hdl_sample_args *a, const hdl_sample_task *task, const float *logits,
                        float *z)
{
    const hdl_sample_tenant *t = &a->state.tenants[task->slot];
    view v = {.z = z, .vocab = a->vocab, .temperature = t->params.temperature};
    uint32_t best;
    memcpy(z, logits, a->vocab * sizeof *z);
    adjust(a, t, task->slot, z);
    if (!find_largest(z, a->vocab, &best))
        return HDL_SAMPLE_NO_NUMBER;
    if (v.temperature < HDL_TEMPERATURE_MIN)
        return (hdl_token)best;
    v.most = value(&v, best);
    return hdl_sample_is_finite(v.most) ? draw(&v, t, task->pos) : HDL_SAMPLE_NO_NUMBER;
}

/* The first of the order that is not among the n taken. */
static hdl_token next_best(const view *v, const hdl_logprob *taken, uint32_t n)
{
    hdl_token best = -1;
    for (uint32_t i = 0; i < v->vocab; i++) {
        bool is_taken = false;
        for (uint32_t k = 0; k < n; k++)
            is_taken = is_taken || taken[k].token == (hdl_token)i;
        if (!is_taken && (best < 0 || v->z[i] > v->z[best]))
            best = (hdl_token)i;
    }
    return best;
}

/* Log-probabilities of the token and of the n best. */
static uint32_t add_probs(const view *v, hdl_token token, uint32_t n_top, hdl_logprob *probs)
{
    double norm = hdl_sample_norm(v->most, from_key(v, 0).mass);
    n_top = hdl_min_u32(n_top, v->vocab);
    probs[0].token = token;
    for (uint32_t n = 1; n <= n_top; n++)
        probs[n].token = next_best(v, probs + 1, n - 1);
    for (uint32_t n = 0; n <= n_top; n++)
        probs[n].logprob = (float)((double)v->z[probs[n].token] - norm);
    return 1 + n_top;
}

static hdl_token run_task(const hdl_sample_args *a, uint32_t i)
{
    const hdl_sample_task *task = &a->tasks[i];
    hdl_sample_tenant *t = &a->state.tenants[task->slot];
    view v = {.z = a->logits + (size_t)i * a->vocab, .vocab = a->vocab, .temperature = 1};
    float *z = (float *)((char *)a->work + i * hdl_sample_work_bytes(1, a->vocab));
    bool scored = task->score >= 0;
    uint32_t best, n_probs = 0;
    hdl_token token = HDL_SAMPLE_NO_NUMBER;
    if (find_largest(v.z, v.vocab, &best)) {
        v.most = v.z[best];
        token = scored ? task->score : sample(a, task, v.z, z);
    }
    if (token >= 0 && (scored || t->params.n_logprobs >= 0))
        n_probs =
            add_probs(&v, token, t->params.n_logprobs > 0 ? (uint32_t)t->params.n_logprobs : 0,
                      a->probs + (size_t)i * HDL_ROW_PROBS_MAX);
    a->out[i] = (hdl_result_row){.slot = task->slot,
                                 .pos = task->pos,
                                 .token = token,
                                 .scored = scored,
                                 .n_probs = n_probs & 31};
    if (scored || token < 0)
        return token;
    a->state.last[task->slot] = token;
    if (t->keeps_history && t->n_history < a->state.max_history)
        a->state.histories[(size_t)task->slot * a->state.max_history + t->n_history++] = token;
    return token;
}

/* A task that stands by itself, and those that hang on it. */
static void run_chain(const hdl_sample_args *a, uint32_t i)
{
    hdl_token before = HDL_SAMPLE_VOID;
    do {
        const hdl_sample_task *task = &a->tasks[i];
        if (task->slot != HDL_NONE_U32 && (task->guess < 0 || task->guess == before)) {
            before = run_task(a, i);
        } else {
            before = HDL_SAMPLE_VOID;
            a->out[i] =
                (hdl_result_row){.slot = task->slot, .pos = task->pos, .token = HDL_SAMPLE_VOID};
        }
        i++;
    } while (i < a->n_tasks && a->tasks[i].guess >= 0);
}

static void run_chains(const void *args, size_t from, size_t to)
{
    const hdl_sample_args *a = args;
    for (size_t i = from; i < to; i++)
        if (a->tasks[i].guess < 0)
            run_chain(a, (uint32_t)i);
}

void hdl_ref_sample(const hdl_sample_args *a, hdl_stream *stream)
{
    HDL_ASSERT_LE(a->vocab, HDL_SAMPLE_VOCAB_MAX);
    HDL_ASSERT(a->n_tasks == 0 || a->tasks[0].guess < 0);
    hdl_stream_for(stream, a->n_tasks, 1, run_chains, a);
}
