/* SPDX-License-Identifier: Apache-2.0 */
/* Request path 11 of 14: logits -> token ids. */
#include "worker/sampler.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/rng.h"
#include "worker/sampler_impl.h"

typedef struct tenant {
    hdl_sampling params; /* .bias points into biases */
    uint32_t n_history, n_prompt;
    bool keeps_history; /* a penalty needs it */
} tenant;

struct hdl_sampler {
    hdl_sampler_opts opts;
    uint32_t history_size;       /* of one slot */
    tenant *tenants;             /* owned [max_seqs] */
    hdl_bias *biases;            /* owned [max_seqs, HDL_LOGIT_BIAS_MAX] */
    hdl_token *histories;        /* owned [max_seqs, history_size] */
    hdl_sample_scratch *scratch; /* owned [n_threads] */
};

static bool open_scratch(hdl_sample_scratch *s, uint32_t vocab)
{
    s->z = calloc(vocab, sizeof(*s->z));
    s->p = calloc(vocab, sizeof(*s->p));
    s->marks = calloc(vocab, sizeof(*s->marks));
    s->kept = calloc(vocab, sizeof(*s->kept));
    return s->z && s->p && s->marks && s->kept;
}

hdl_err hdl_sampler_open(hdl_sampler **out, const hdl_sampler_opts *opts, hdl_errmsg *why)
{
    hdl_sampler *s = calloc(1, sizeof(*s));
    bool ok = s != NULL;
    *out = NULL;
    if (ok) {
        size_t seqs = opts->max_seqs;
        s->opts = *opts;
        s->history_size = opts->max_len + 1;
        s->tenants = calloc(seqs, sizeof(*s->tenants));
        /* Large and mostly untouched: pages come with the first bias or penalty. */
        s->biases = calloc(seqs * HDL_LOGIT_BIAS_MAX, sizeof(*s->biases));
        s->histories = calloc(seqs * s->history_size, sizeof(*s->histories));
        s->scratch = calloc(opts->n_threads, sizeof(*s->scratch));
        ok = s->tenants && s->biases && s->histories && s->scratch;
    }
    for (uint32_t i = 0; ok && i < opts->n_threads; i++)
        ok = open_scratch(&s->scratch[i], opts->vocab);
    if (!ok) {
        hdl_sampler_close(s);
        return hdl_fail(HDL_NOMEM, why,
                        "no memory for the sampling of %u sequences; the machine is full; lower "
                        "max_seqs",
                        opts->max_seqs);
    }
    *out = s;
    return HDL_OK;
}

void hdl_sampler_close(hdl_sampler *s)
{
    if (!s)
        return;
    for (uint32_t i = 0; s->scratch && i < s->opts.n_threads; i++) {
        free(s->scratch[i].z);
        free(s->scratch[i].p);
        free(s->scratch[i].marks);
        free(s->scratch[i].kept);
    }
    free(s->scratch);
    free(s->tenants);
    free(s->biases);
    free(s->histories);
    free(s);
}

/* False for NaN. */
static bool within(float v, float lo, float hi) { return v >= lo && v <= hi; }

hdl_err hdl_sampler_check(const hdl_sampler *s, const hdl_sampling *p, hdl_errmsg *why)
{
    if (!within(p->temperature, 0, 1e6f) || !within(p->top_p, 0, 1) || p->top_p == 0 ||
        !within(p->min_p, 0, 1))
        return hdl_fail(HDL_BUG, why, "sampling with temperature %g, top_p %g, min_p %g",
                        (double)p->temperature, (double)p->top_p, (double)p->min_p);
    if (!within(p->frequency_penalty, -1e3f, 1e3f) || !within(p->presence_penalty, -1e3f, 1e3f) ||
        !within(p->repetition_penalty, 1e-3f, 1e3f))
        return hdl_fail(HDL_BUG, why, "sampling with penalties %g, %g, %g",
                        (double)p->frequency_penalty, (double)p->presence_penalty,
                        (double)p->repetition_penalty);
    if (p->n_logprobs > HDL_TOP_LOGPROBS_MAX || p->n_bias > HDL_LOGIT_BIAS_MAX)
        return hdl_fail(HDL_BUG, why, "sampling with %d logprobs, %u biases", p->n_logprobs,
                        p->n_bias);
    for (uint32_t i = 0; i < p->n_bias; i++)
        if (p->bias[i].token < 0 || (uint32_t)p->bias[i].token >= s->opts.vocab ||
            !within(p->bias[i].bias, -1e6f, 1e6f))
            return hdl_fail(HDL_BUG, why, "sampling with a bias of token %d", p->bias[i].token);
    return HDL_OK;
}

static bool penalises(const hdl_sampling *p)
{
    return p->frequency_penalty != 0 || p->presence_penalty != 0 || p->repetition_penalty != 1;
}

uint32_t hdl_sampler_keep(const hdl_sampling *p)
{
    if (p->n_bias != 0 || p->n_logprobs >= 0 || penalises(p))
        return 0;
    if (p->temperature < HDL_TEMPERATURE_MIN)
        return 1;
    return p->top_k > 0 ? (uint32_t)p->top_k : 0;
}

static hdl_token *history_of(const hdl_sampler *s, uint32_t slot)
{
    return s->histories + (size_t)slot * s->history_size;
}

void hdl_sampler_set(hdl_sampler *s, const hdl_sampler_tenant *t)
{
    HDL_ASSERT_LT(t->slot, s->opts.max_seqs);
    HDL_ASSERT_LE(t->n_history, s->history_size);
    tenant *to = &s->tenants[t->slot];
    hdl_bias *bias = s->biases + (size_t)t->slot * HDL_LOGIT_BIAS_MAX;
    const hdl_sampling *p = t->params;
    *to = (tenant){.params = *p, .n_prompt = t->n_prompt};
    to->params.bias = bias;
    if (p->n_bias != 0)
        memcpy(bias, p->bias, p->n_bias * sizeof(*bias));
    to->keeps_history = penalises(p);
    if (to->keeps_history && t->n_history != 0) {
        memcpy(history_of(s, t->slot), t->history, t->n_history * sizeof(hdl_token));
        to->n_history = t->n_history;
    }
}

/* ---- one token ---------------------------------------------------------------------------- */

/* Two walks over the history: count, then act once per distinct token and clear its mark. */
static void apply_penalties(const hdl_sampler *s, hdl_sample_scratch *x, uint32_t slot)
{
    const tenant *t = &s->tenants[slot];
    const hdl_token *history = history_of(s, slot);
    for (uint32_t i = 0; i < t->n_history; i++) {
        uint32_t *mark = &x->marks[history[i]];
        *mark = (*mark | HDL_SAMPLE_SEEN) + (i >= t->n_prompt);
    }
    for (uint32_t i = 0; i < t->n_history; i++) {
        hdl_token id = history[i];
        if (x->marks[id] == 0)
            continue;
        x->z[id] = hdl_sample_penalise(&t->params, x->z[id], x->marks[id]);
        x->marks[id] = 0;
    }
}

/* The largest raw logit and its token. */
typedef struct largest {
    float most;
    hdl_token token;
} largest;

/* best: of the raw logits on entry; its token is the sampled one afterwards. False when bias or
 * penalties took the logits out of the finite numbers. */
static bool sample(const hdl_sampler *s, hdl_sample_scratch *x, const hdl_sample_job *job,
                   largest *best)
{
    const tenant *t = &s->tenants[job->slot];
    const hdl_sampling *p = &t->params;
    bool greedy = p->temperature < HDL_TEMPERATURE_MIN;
    bool adjusted = p->n_bias != 0 || t->keeps_history;
    if (greedy && !adjusted)
        return true;
    memcpy(x->z, job->logits, s->opts.vocab * sizeof(*x->z));
    for (uint32_t i = 0; i < p->n_bias; i++)
        x->z[p->bias[i].token] += p->bias[i].bias;
    if (t->keeps_history)
        apply_penalties(s, x, job->slot);
    if (adjusted && !hdl_sample_largest(x->z, s->opts.vocab, &best->most, &best->token))
        return false;
    if (greedy)
        return true;
    uint32_t key[2] = {(uint32_t)p->seed, (uint32_t)(p->seed >> 32)};
    uint32_t ctr[4] = {job->pos, 0, 0, 0}, word[4];
    hdl_philox(ctr, key, word);
    hdl_sample_drawn drawn = {.most = best->most, .word = word[0]};
    if (!hdl_sample_draw(x, p, s->opts.vocab, &drawn))
        return false;
    best->token = drawn.token;
    return true;
}

typedef struct scoring {
    uint32_t vocab, n_top;
    float most; /* the largest logit */
} scoring;

/* The n best, best first, ties by token id; tops holds logits until the caller normalises. */
static void find_tops(const float *logits, uint32_t vocab, uint32_t n, hdl_logprob *tops)
{
    uint32_t have = 0;
    for (uint32_t i = 0; i < vocab; i++) {
        if (have == n && logits[i] <= tops[n - 1].logprob)
            continue;
        uint32_t at = have < n ? have++ : n - 1;
        while (at > 0 && tops[at - 1].logprob < logits[i]) {
            tops[at] = tops[at - 1];
            at--;
        }
        tops[at] = (hdl_logprob){.token = (hdl_token)i, .logprob = logits[i]};
    }
}

static void add_logprobs(hdl_sample_scratch *x, const hdl_sample_run *run, uint32_t i, scoring want)
{
    const hdl_sample_job *job = &run->jobs[i];
    hdl_result_row *out = &run->out[i];
    hdl_logprob *probs = run->probs + (size_t)i * HDL_ROW_PROBS_MAX;
    uint32_t vocab = want.vocab;
    float most = want.most;
    double norm = hdl_sample_norm(most, hdl_sample_exps(job->logits, vocab, most, x->p));
    const uint32_t n_top = hdl_min_u32(want.n_top, vocab);
    probs[0] = (hdl_logprob){.token = out->token, .logprob = job->logits[out->token]};
    if (n_top > 0)
        find_tops(job->logits, vocab, n_top, probs + 1);
    for (uint32_t k = 0; k <= n_top; k++)
        probs[k].logprob = (float)((double)probs[k].logprob - norm);
    out->n_probs = (1 + n_top) & 31;
}

static bool run_one(hdl_sampler *s, hdl_sample_scratch *x, const hdl_sample_run *run, uint32_t i)
{
    const hdl_sample_job *job = &run->jobs[i];
    const hdl_sampling *p = &s->tenants[job->slot].params;
    hdl_result_row *out = &run->out[i];
    bool scored = job->score >= 0;
    largest raw;
    *out =
        (hdl_result_row){.slot = job->slot, .pos = job->pos, .token = job->score, .scored = scored};
    if (!hdl_sample_largest(job->logits, s->opts.vocab, &raw.most, &raw.token))
        return false;
    float most = raw.most;
    if (!scored) {
        if (!sample(s, x, job, &raw))
            return false;
        out->token = raw.token;
    }
    if (scored || p->n_logprobs >= 0)
        add_logprobs(x, run, i,
                     (scoring){.vocab = s->opts.vocab,
                               .n_top = p->n_logprobs > 0 ? (uint32_t)p->n_logprobs : 0,
                               .most = most});
    return true;
}

/* ---- many, by the stream's threads -------------------------------------------------------- */

typedef struct team_run {
    hdl_sampler *sampler;
    const hdl_sample_run *run;
    _Atomic uint32_t next;
    _Atomic bool bad;
} team_run;

static void remember(hdl_sampler *s, const hdl_result_row *row)
{
    tenant *t = &s->tenants[row->slot];
    if (t->keeps_history && !row->scored && t->n_history < s->history_size)
        history_of(s, row->slot)[t->n_history++] = row->token;
}

/* A job and those that hang on it, one after the other. */
static bool run_chain(hdl_sampler *s, hdl_sample_scratch *x, const hdl_sample_run *run, uint32_t i)
{
    bool stands = true;
    do {
        const hdl_sample_job *job = &run->jobs[i];
        stands = stands && (!job->hangs || run->out[i - 1].token == job->guess);
        if (stands && !run_one(s, x, run, i))
            return false;
        if (stands)
            remember(s, &run->out[i]);
        else
            run->out[i] = (hdl_result_row){.slot = job->slot, .pos = job->pos, .token = -1};
        i++;
    } while (i < run->n && run->jobs[i].hangs);
    return true;
}

static void run_thread(void *arg, uint32_t thread, uint32_t n_threads)
{
    team_run *t = arg;
    hdl_sampler *s = t->sampler;
    (void)n_threads;
    for (;;) {
        uint32_t i = atomic_fetch_add(&t->next, 1);
        if (i >= t->run->n)
            return;
        if (!t->run->jobs[i].hangs && !run_chain(s, &s->scratch[thread], t->run, i))
            atomic_store(&t->bad, true);
    }
}

hdl_err hdl_sampler_run(hdl_sampler *s, hdl_stream *stream, const hdl_sample_run *run)
{
    team_run t = {.sampler = s, .run = run};
    if (run->n == 1)
        run_thread(&t, 0, 1);
    else if (run->n != 0)
        hdl_stream_run(stream, run_thread, &t);
    return atomic_load(&t.bad) ? HDL_DEVICE : HDL_OK;
}
