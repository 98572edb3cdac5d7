/* SPDX-License-Identifier: Apache-2.0 */
/* A v head of a row is an item; its state is walked in stripes of columns that stay in the near
 * cache while all tokens of the row pass. Columns lie across lanes and k_dim is walked in order, so
 * every number has one accumulator, as in the reference. The state's decay is done anew in the
 * second pass rather than stored by the first: a multiplication is cheaper than a store. */
#include "kernels/cpu/rowwise.h"
#include "kernels/ref/ref.h"

/* v16 of a stripe: AVX2 keeps two accumulators of two registers and their updates. */
#if defined(__AVX512F__)
enum { STRIPE = 4 };
#else
enum { STRIPE = 2 };
#endif

typedef struct delta_job {
    const hdl_gated_delta_args *a;
    hdl_stream *stream;
} delta_job;

/* Of one v head and row. */
typedef struct delta_head {
    const hdl_gated_delta_args *a;
    const hdl_attn_row *row;
    uint32_t head;
    const float *decay, *beta; /* [n_tokens] */
    float *s;                  /* [k_dim, v_dim] */
} delta_head;

static float *out_at(const delta_head *d, uint32_t idx)
{
    return d->a->out + ((size_t)(d->row->token_at + idx) * d->a->n_v_heads + d->head) * d->a->v_dim;
}

/* One token, columns [col, col + 16 width). */
V16_FN void step_stripe(const delta_head *d, uint32_t idx, uint32_t col, const int width)
{
    const hdl_gated_delta_args *a = d->a;
    size_t keys = (size_t)a->n_k_heads * a->k_dim, stride = a->v_dim;
    const float *qkv = a->qkv + (d->row->token_at + idx) * (2 * keys + a->n_v_heads * stride);
    const float *q = qkv + (size_t)(d->head / (a->n_v_heads / a->n_k_heads)) * a->k_dim;
    const float *k = q + keys, *v = qkv + 2 * keys + d->head * stride + col;
    float *s = d->s + col, *out = out_at(d, idx) + col;
    v16 seen[STRIPE], sum[STRIPE], decay = v16_set1(d->decay[idx]);
    UNROLL for (int i = 0; i < width; i++) seen[i] = v16_zero();
    for (uint32_t j = 0; j < a->k_dim; j++) {
        v16 key = v16_set1(k[j]);
        UNROLL for (int i = 0; i < width; i++) seen[i] =
            v16_fma(v16_mul(v16_load(s + j * stride + i * HDL_LANES), decay), key, seen[i]);
    }
    UNROLL for (int i = 0; i < width; i++)
    {
        v16 change = v16_sub(v16_load(v + i * HDL_LANES), seen[i]);
        seen[i] = v16_mul(change, v16_set1(d->beta[idx]));
        sum[i] = v16_zero();
    }
    for (uint32_t j = 0; j < a->k_dim; j++) {
        v16 key = v16_set1(k[j]), query = v16_set1(q[j]);
        UNROLL for (int i = 0; i < width; i++)
        {
            float *at = s + j * stride + i * HDL_LANES;
            v16 next = v16_fma(key, seen[i], v16_mul(v16_load(at), decay));
            v16_store(at, next);
            sum[i] = v16_fma(next, query, sum[i]);
        }
    }
    UNROLL for (int i = 0; i < width; i++) v16_store(out + i * HDL_LANES, sum[i]);
}

/* out = out / rms(out) * norm * silu(z) */
static void norm_gate(const delta_head *d, uint32_t idx)
{
    const hdl_gated_delta_args *a = d->a;
    const float *z = a->z + (d->row->token_at + idx) * a->z_stride + (size_t)d->head * a->v_dim;
    float *out = out_at(d, idx);
    v16 scale = v16_set1(v16_rms_scale(out, a->v_dim, a->norm_eps));
    for (uint32_t i = 0; i < a->v_dim; i += HDL_LANES) {
        v16 x = v16_mul(v16_mul(v16_load(out + i), scale), v16_load(a->norm + i));
        v16_store(out + i, v16_mul(x, v16_silu(v16_load(z + i))));
    }
}

static void run_head(const delta_head *d)
{
    uint32_t n = d->row->n_tokens, col = 0;
    for (; col + STRIPE * HDL_LANES <= d->a->v_dim; col += STRIPE * HDL_LANES)
        for (uint32_t i = 0; i < n; i++)
            step_stripe(d, i, col, STRIPE);
    for (; col < d->a->v_dim; col += HDL_LANES)
        for (uint32_t i = 0; i < n; i++)
            step_stripe(d, i, col, 1);
    for (uint32_t i = 0; i < n; i++)
        norm_gate(d, i);
}

static void one_item(const delta_job *job, uint32_t item, float *mem)
{
    const hdl_gated_delta_args *a = job->a;
    const hdl_attn_row *row = &a->rows[item / a->n_v_heads];
    uint32_t head = item % a->n_v_heads, entry = row->table[0];
    size_t floats = (size_t)a->k_dim * a->v_dim;
    float *beta = mem + row->n_tokens;
    HDL_ASSERT_LT(entry, a->state.n_entries);
    HDL_ASSERT_LE((size_t)2 * row->n_tokens * sizeof(float), HDL_STREAM_THREAD_BYTES);
    for (uint32_t i = 0; i < row->n_tokens; i++) {
        const float *ba = a->ba + (size_t)(row->token_at + i) * 2 * a->n_v_heads + head;
        mem[i] = hdl_gdn_decay(a->a_log[head], ba[a->n_v_heads] + a->dt_bias[head]);
        beta[i] = hdl_sigmoid(ba[0]);
    }
    delta_head d = {.a = a, .row = row, .head = head, .decay = mem, .beta = beta};
    d.s = a->state.data + entry * a->state.entry_floats + head * floats;
    if (row->pos == 0)
        memset(d.s, 0, floats * sizeof *d.s);
    run_head(&d);
}

static void delta_thread(void *arg, int thread, int n_threads)
{
    const delta_job *job = arg;
    uint32_t n_items = job->a->n_rows * job->a->n_v_heads;
    (void)n_threads;
    for (;;) { /* relaxed: the ticket only divides the work */
        uint32_t item = atomic_fetch_add_explicit(&job->stream->ticket, 1, memory_order_relaxed);
        if (item >= n_items)
            return;
        one_item(job, item, hdl_stream_thread_mem(job->stream, thread));
    }
}

void HDL_ISA_NAME(gated_delta)(const hdl_gated_delta_args *a, hdl_stream *stream)
{
    HDL_ASSERT_EQ(a->n_v_heads % a->n_k_heads, 0);
    if (a->v_dim % HDL_LANES != 0) { /* no such model is known; the bits are the same */
        hdl_ref_gated_delta(a, stream);
        return;
    }
    delta_job job = {.a = a, .stream = stream};
    atomic_store_explicit(&stream->ticket, 0, memory_order_relaxed); /* the team starts after */
    if ((size_t)a->n_tokens * a->n_v_heads * a->k_dim * a->v_dim < 1u << 14)
        delta_thread(&job, 0, 1);
    else
        hdl_team_run(stream->team, delta_thread, &job);
}
