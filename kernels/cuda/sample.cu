/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens from logits [n_tasks, vocab], by every parameter of a request, with log-probabilities.
 *
 * sample_peaks, over all of the GPU, finds the largest logit of parts of each row: of a greedy
 * request nothing else is needed. sample_chains has a block for each task that stands by itself,
 * which walks the tasks that hang on it, since each knows the history that the one before left.
 * Bias and penalties make a changed copy of the row in `work`; marks of the history are counted in
 * its place first. Roof: memory of the logits, once, for greedy; else a block's arithmetic, some
 * six walks over a row (about 0.1 ms for 128k tokens, whatever the number of tasks up to the
 * multiprocessors'). Limits: vocab <= HDL_SAMPLE_VOCAB_MAX. Bits: as ref, log-probabilities too:
 * sums are of integers. */
#include "kernels/cuda/sample.h"

#include "kernels/cuda/cuda.h"

extern "C" {
#include "base/rng.h"
}

enum {
    PEAKS_THREADS = 256,
    PEAKS_PART = 4096, /* logits of a part, unless there were too many */
    BIASES = ((int)HDL_LOGIT_BIAS_MAX + SAMPLE_THREADS - 1) / SAMPLE_THREADS, /* of a thread */
};
static_assert(sizeof(sample_best) == 2 * sizeof(float), "hdl_sample_work_bytes");

/* Of task i. */
GPU_DEVICE float *changed_of(const hdl_sample_args *a, uint32_t i)
{
    return (float *)((char *)a->work + i * hdl_sample_work_bytes(1, a->vocab));
}
GPU_DEVICE sample_best *peaks_of(const hdl_sample_args *a, uint32_t i)
{
    return (sample_best *)(changed_of(a, i) + (a->vocab + 3) / 4 * 4);
}

GPU_DEVICE sample_best best_between(const float *z, uint32_t from, uint32_t to)
{
    sample_best b = {0, HDL_NONE_U32};
    for (uint32_t i = from + gpu_thread(); i < to; i += gpu_threads())
        b = sample_better(b, sample_best_at(z[i], i));
    return b;
}

GPU_KERNEL(256) sample_peaks(hdl_sample_args a)
{
    uint32_t task = gpu_block_y(), part = gpu_block_x();
    if (a.tasks[task].slot == HDL_NONE_U32)
        return;
    uint32_t each = (a.vocab + gpu_blocks_x() - 1) / gpu_blocks_x(), from = part * each;
    sample_best b =
        best_between(a.logits + (size_t)task * a.vocab, from, hdl_min_u32(from + each, a.vocab));
    b = sample_best_of(gpu_shared<sample_best>(), b);
    if (gpu_thread() == 0)
        peaks_of(&a, task)[part] = b;
}

/* ---- bias and penalties ------------------------------------------------------------------- */

GPU_DEVICE void count_history(const hdl_sample_args *a, const hdl_sample_tenant *t, uint32_t slot,
                              uint32_t *marks)
{
    const hdl_token *history = a->state.histories + (size_t)slot * a->state.max_history;
    uint32_t n = t->n_history, n_prompt = hdl_min_u32(t->n_prompt, n);
    for (uint32_t i = gpu_thread(); i < a->vocab; i += gpu_threads())
        marks[i] = 0;
    gpu_sync();
    for (uint32_t i = gpu_thread(); i < n_prompt; i += gpu_threads())
        marks[history[i]] = HDL_SAMPLE_SEEN;
    gpu_sync();
    for (uint32_t i = n_prompt + gpu_thread(); i < n; i += gpu_threads())
        gpu_atomic_add(&marks[history[i]], 1);
    gpu_sync();
}

/* A biased logit, for the token's first entry; of others HDL_NONE_U32. */
GPU_DEVICE uint32_t biased(const hdl_bias *bias, uint32_t n, uint32_t mine, const float *logits,
                           float *z)
{
    if (mine >= n)
        return HDL_NONE_U32;
    hdl_token token = bias[mine].token;
    *z = logits[token];
    for (uint32_t i = 0; i < n; i++) {
        if (bias[i].token != token)
            continue;
        if (i < mine)
            return HDL_NONE_U32;
        *z += bias[i].bias;
    }
    return (uint32_t)token;
}

/* Writes what the token is drawn from; all threads. */
GPU_DEVICE void adjust(const hdl_sample_args *a, const hdl_sample_tenant *t, uint32_t slot,
                       const float *logits, float *z)
{
    const hdl_bias *bias = a->state.biases + (size_t)slot * HDL_LOGIT_BIAS_MAX;
    uint32_t *marks = (uint32_t *)z; /* each becomes the logit that it marks */
    float changed[BIASES];
    uint32_t token[BIASES];
    if (t->keeps_history)
        count_history(a, t, slot, marks);
    GPU_UNROLL
    for (uint32_t b = 0; b < BIASES; b++) {
        uint32_t mine = b * SAMPLE_THREADS + gpu_thread();
        token[b] = biased(bias, t->params.n_bias, mine, logits, &changed[b]);
        if (token[b] != HDL_NONE_U32 && t->keeps_history)
            changed[b] = hdl_sample_penalise(&t->params, changed[b], marks[token[b]]);
    }
    gpu_sync();
    for (uint32_t i = gpu_thread(); i < a->vocab; i += gpu_threads())
        z[i] = t->keeps_history ? hdl_sample_penalise(&t->params, logits[i], marks[i]) : logits[i];
    gpu_sync();
    GPU_UNROLL
    for (uint32_t b = 0; b < BIASES; b++)
        if (token[b] != HDL_NONE_U32)
            z[token[b]] = changed[b];
    gpu_sync();
}

/* ---- one task ----------------------------------------------------------------------------- */

/* What the filters keep, of a row that has been counted. */
GPU_DEVICE uint64_t kept_mass(sample_memory *m, const sample_view *v, const hdl_sample_tenant *t,
                              uint64_t total)
{
    const hdl_sampling *s = &t->params;
    sample_weight kept = {v->vocab, total};
    if (s->top_k > 0 && (uint32_t)s->top_k < v->vocab)
        kept = sample_shortest(m, v, (uint32_t)s->top_k, false).weight;
    if (s->top_p < 1)
        kept = sample_shortest(m, v, hdl_sample_share(kept.mass, s->top_p), true).weight;
    if (s->min_p > 0) {
        sample_weight likely = {0, 0};
        float least = v->most + t->log_min_p;
        for (uint32_t i = gpu_thread(); i < v->vocab; i += gpu_threads()) {
            float z = sample_value(v, i);
            likely.count += z >= least;
            likely.mass += z >= least ? sample_mass_of(v, z) : 0;
        }
        likely.count = sample_add(m, likely.count);
        likely.mass = sample_add(m, likely.mass);
        if (likely.count == 0)
            likely = sample_shortest(m, v, 1, false).weight;
        kept = likely.count < kept.count ? likely : kept;
    }
    return kept.mass;
}

GPU_DEVICE uint32_t draw(sample_memory *m, const sample_view *v, const hdl_sample_tenant *t,
                         uint32_t pos)
{
    const hdl_sampling *s = &t->params;
    uint32_t key[2] = {(uint32_t)s->seed, (uint32_t)(s->seed >> 32)};
    uint32_t ctr[4] = {pos, 0, 0, 0}, word[4];
    hdl_philox(ctr, key, word);
    if (s->top_k <= 0 && s->top_p >= 1 && s->min_p <= 0)
        return sample_draw_all(m, v, hdl_sample_target(sample_chunks(m, v), word[0]));
    uint64_t mass = kept_mass(m, v, t, sample_first(m, v));
    sample_prefix p = sample_shortest(m, v, hdl_sample_target(mass, word[0]) + 1, true);
    return sample_last(m, v, &p);
}

/* raw: the largest of the logits as they are. */
GPU_DEVICE hdl_token sample_one(const hdl_sample_args *a, sample_memory *m, uint32_t i,
                                sample_best raw)
{
    hdl_sample_task task = a->tasks[i];
    const hdl_sample_tenant *t = &a->state.tenants[task.slot];
    sample_view v = {a->logits + (size_t)i * a->vocab, a->vocab, t->params.temperature, 0};
    if (t->params.n_bias != 0 || t->keeps_history) {
        float *z = changed_of(a, i);
        adjust(a, t, task.slot, v.z, z);
        v.z = z;
        raw = sample_best_of(m->bests, best_between(z, 0, a->vocab));
    }
    if (raw.key == HDL_NONE_U32)
        return HDL_SAMPLE_NO_NUMBER;
    if (v.temperature < HDL_TEMPERATURE_MIN)
        return (hdl_token)raw.id;
    v.most = hdl_sample_of_key(raw.key) / v.temperature;
    return hdl_sample_is_finite(v.most) ? (hdl_token)draw(m, &v, t, task.pos)
                                        : (hdl_token)HDL_SAMPLE_NO_NUMBER;
}

/* The best of the list, or of the row, that comes after `last` in the order. */
GPU_DEVICE sample_best next_best(sample_memory *m, const sample_view *v, bool listed,
                                 sample_best last)
{
    uint32_t n = listed ? m->n_list : v->vocab;
    sample_best best = {0, HDL_NONE_U32};
    for (uint32_t i = gpu_thread(); i < n; i += gpu_threads()) {
        sample_best b =
            listed ? sample_best_at(m->list.z[i], m->list.id[i]) : sample_best_at(v->z[i], i);
        if (b.key < last.key || (b.key == last.key && b.id > last.id))
            best = sample_better(best, b);
    }
    return sample_best_of(m->bests, best);
}

/* Log-probabilities of the token and of the n best; returns their number. */
GPU_DEVICE uint32_t add_probs(sample_memory *m, const sample_view *v, hdl_token token,
                              uint32_t n_top, hdl_logprob *probs)
{
    n_top = hdl_min_u32(n_top, v->vocab);
    uint64_t total = n_top == 0 ? sample_chunks(m, v) : sample_first(m, v);
    double norm = hdl_sample_norm(v->most, total);
    bool writes = gpu_thread() == 0, listed = false;
    if (writes) {
        probs[0].token = token;
        probs[0].logprob = (float)((double)v->z[token] - norm);
    }
    if (n_top > 0) {
        sample_weight none = {0, 0};
        uint32_t bucket = sample_find(m, &m->first, none, n_top, false);
        listed = m->before.count + m->first.count[bucket] <= SAMPLE_LIST;
        if (listed)
            sample_gather(m, v, 0, bucket);
    }
    sample_best last = {HDL_NONE_U32, 0};
    for (uint32_t n = 1; n <= n_top; n++) {
        last = next_best(m, v, listed, last);
        if (writes) {
            probs[n].token = (hdl_token)last.id;
            probs[n].logprob = (float)((double)v->z[last.id] - norm);
        }
    }
    return 1 + n_top;
}

GPU_DEVICE void put_row(const hdl_sample_args *a, uint32_t i, hdl_token token, uint32_t n_probs)
{
    hdl_result_row row;
    memset(&row, 0, sizeof row);
    row.slot = a->tasks[i].slot;
    row.pos = a->tasks[i].pos;
    row.token = token;
    row.scored = token != HDL_SAMPLE_VOID && a->tasks[i].score >= 0;
    row.n_probs = n_probs & 31;
    a->out[i] = row;
}

/* One thread. */
GPU_DEVICE void remember(const hdl_sample_args *a, uint32_t slot, hdl_token token)
{
    hdl_sample_tenant *t = &a->state.tenants[slot];
    a->state.last[slot] = token;
    if (t->keeps_history && t->n_history < a->state.max_history)
        a->state.histories[(size_t)slot * a->state.max_history + t->n_history++] = token;
}

GPU_DEVICE hdl_token run_task(const hdl_sample_args *a, sample_memory *m, uint32_t i,
                              uint32_t n_peaks)
{
    hdl_sample_task task = a->tasks[i];
    const hdl_sampling *s = &a->state.tenants[task.slot].params;
    sample_best raw = {0, HDL_NONE_U32};
    for (uint32_t part = 0; part < n_peaks; part++)
        raw = sample_better(raw, peaks_of(a, i)[part]);
    sample_view v = {a->logits + (size_t)i * a->vocab, a->vocab, 1, hdl_sample_of_key(raw.key)};
    hdl_token token = raw.key == HDL_NONE_U32 ? (hdl_token)HDL_SAMPLE_NO_NUMBER
                      : task.score >= 0       ? task.score
                                              : sample_one(a, m, i, raw);
    uint32_t n_probs = 0;
    if (token >= 0 && (task.score >= 0 || s->n_logprobs >= 0))
        n_probs = add_probs(m, &v, token, s->n_logprobs > 0 ? (uint32_t)s->n_logprobs : 0,
                            a->probs + (size_t)i * HDL_ROW_PROBS_MAX);
    gpu_sync();
    if (gpu_thread() == 0) {
        put_row(a, i, token, n_probs);
        if (token >= 0 && task.score < 0)
            remember(a, task.slot, token);
    }
    gpu_sync();
    return token;
}

GPU_KERNEL(512) sample_chains(hdl_sample_args a, uint32_t n_peaks)
{
    sample_memory *m = gpu_shared<sample_memory>();
    uint32_t i = gpu_block_x();
    hdl_token before = HDL_SAMPLE_VOID;
    if (a.tasks[i].guess >= 0)
        return;
    do {
        hdl_token guess = a.tasks[i].guess;
        if (a.tasks[i].slot != HDL_NONE_U32 && (guess < 0 || guess == before)) {
            before = run_task(&a, m, i, n_peaks);
        } else {
            before = HDL_SAMPLE_VOID;
            if (gpu_thread() == 0)
                put_row(&a, i, before, 0);
        }
        i++;
    } while (i < a.n_tasks && a.tasks[i].guess >= 0);
}

void hdl_cuda_sample(const hdl_sample_args *a, hdl_stream *stream)
{
    HDL_ASSERT_LE(a->vocab, HDL_SAMPLE_VOCAB_MAX);
    gpu_grid g;
    g.x = hdl_min_u32(HDL_SAMPLE_PEAKS, gpu_div_up(a->vocab, PEAKS_PART));
    g.y = a->n_tasks;
    g.threads = PEAKS_THREADS;
    g.shared = PEAKS_THREADS / GPU_WARP * sizeof(sample_best);
    uint32_t n_peaks = g.x;
    GPU_LAUNCH(stream, g, sample_peaks, *a);
    g.x = a->n_tasks;
    g.y = 1;
    g.threads = SAMPLE_THREADS;
    g.shared = sizeof(sample_memory);
    GPU_LAUNCH(stream, g, sample_chains, *a, n_peaks);
}
