/* SPDX-License-Identifier: Apache-2.0 */
/* The end of the forward pass: logits of some tokens, on the host of rank 0, or on its device where
 * the device samples. Ranks of tp hold a part of the vocabulary each; those behind them, copies of
 * the attention part, have no part in it. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "worker/carve.h"
#include "worker/model/forward.h"

static void cap(hdl_forward *f, float *part, uint32_t n)
{
    const hdl_model *m = f->model;
    hdl_softcap_args args = {
        .x = part, .n = (size_t)n * m->shard.vocab_padded, .cap = m->desc->logit_softcap};
    if (args.cap > 0)
        m->ops->softcap(&args, f->stream);
}

/* Logits of rows of x, this rank's part of them. */
static void run_head(hdl_forward *f, const float *x, float *part, uint32_t n)
{
    const hdl_model *m = f->model;
    hdl_forward_norm(f, m->final_norm, (hdl_forward_io){.in = x, .out = f->last, .n_tokens = n});
    hdl_forward_linear(f, &m->lm_head, (hdl_forward_io){.in = f->last, .out = part, .n_tokens = n});
    cap(f, part, n);
}

/* With more tokens arithmetic is what takes the time. Where more than an eighth of the tiles is to
 * be computed there is little to gain; after some tokens it is known how many a wanted logit takes.
 */
enum { SCREEN_TRIAL = 64, SCREEN_TILES = 8 };

static uint64_t kept(const hdl_forward_ask *ask)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < ask->n; i++)
        n += ask->keep[i];
    return n;
}

bool hdl_forward_screens(const hdl_forward *f, const hdl_forward_ask *ask)
{
    uint64_t tiles = hdl_div_ceil_u32(f->model->head_q8.n, HDL_SCREEN_TILE);
    if (tiles == 0 || ask->n > HDL_SCREEN_TOKENS_MAX || !ask->keep)
        return false;
    return f->n_screened < SCREEN_TRIAL ||
           f->n_screened_tiles * kept(ask) <= f->n_kept * (tiles / SCREEN_TILES);
}

/* Of f->last, into f->part. The largest of a rank's part are a superset of those of all. */
static void screen_head(hdl_forward *f, const hdl_forward_ask *ask)
{
    const hdl_model *m = f->model;
    hdl_forward_norm(f, m->final_norm,
                     (hdl_forward_io){.in = f->last, .out = f->last, .n_tokens = ask->n});
    hdl_linear_args linear = {.x = f->last,
                              .x_stride = m->desc->hidden,
                              .w = &m->lm_head,
                              .y = f->part,
                              .y_stride = m->shard.vocab_padded,
                              .n_tokens = ask->n};
    hdl_linear_screened_args args = {.linear = &linear,
                                     .q8 = &m->head_q8,
                                     .norms = m->head_norms,
                                     .keep = ask->keep,
                                     .n_rows = m->shard.vocab,
                                     .softcap = m->desc->logit_softcap,
                                     .n_tiles = &f->n_screened_tiles};
    m->ops->linear_screened(&args, f->stream);
    f->n_screened += ask->n;
    f->n_kept += kept(ask);
    cap(f, f->part, ask->n);
}

/* ---- to the host -------------------------------------------------------------------------- */

static hdl_err gather(hdl_forward *f, uint32_t n)
{
    const hdl_shard *s = &f->model->shard;
    size_t part = (size_t)n * s->vocab_padded;
    size_t to_root[HDL_RANKS_MAX] = {part * sizeof(float)}, zero[HDL_RANKS_MAX] = {0};
    size_t in[HDL_RANKS_MAX] = {0}, at[HDL_RANKS_MAX] = {0};
    bool root = s->rank == 0;
    for (uint32_t r = 0; root && r < s->tp; r++) {
        in[r] = part * sizeof(float);
        at[r] = r * part * sizeof(float);
    }
    hdl_a2a_args args = {.in = f->part_host,
                         .in_at = zero,
                         .in_bytes = to_root,
                         .out = f->gathered,
                         .out_at = at,
                         .out_bytes = in};
    return hdl_coll_all_to_all_v(f->groups.tp, &args);
}

hdl_err hdl_forward_logits(hdl_forward *f, const hdl_forward_ask *ask)
{
    uint32_t n = ask->n;
    const hdl_model *m = f->model;
    const hdl_shard *s = &m->shard;
    size_t hidden = m->desc->hidden, vocab = m->desc->vocab;
    HDL_ASSERT_LE(n, f->n_logits_max);
    if (s->rank >= s->tp)
        return HDL_OK; /* a copy of the attention part: the first part makes the logits */
    for (uint32_t i = 0; i < n; i++)
        HDL_TRY(hdl_device_copy(f->device, f->last + i * hidden, f->x + ask->token_idx[i] * hidden,
                                hidden * sizeof(float)));
    if (ask->keep)
        screen_head(f, ask);
    else
        run_head(f, f->last, f->part, n);
    if (f->part_host != f->part) {
        size_t bytes = (size_t)n * s->vocab_padded * sizeof(float);
        HDL_TRY(hdl_device_read(f->device, f->part_host, f->part, bytes));
        HDL_TRY(hdl_device_sync(f->device));
    }
    if (s->tp == 1)
        return HDL_OK;
    HDL_TRY(gather(f, n));
    for (uint32_t r = 0; s->rank == 0 && r < s->tp; r++) {
        size_t at = (size_t)r * s->vocab_padded;
        size_t len = at < vocab ? hdl_min_size(s->vocab_padded, vocab - at) : 0;
        for (uint32_t i = 0; i < n && len > 0; i++)
            memcpy(f->logits + i * vocab + at, f->gathered + ((size_t)r * n + i) * s->vocab_padded,
                   len * sizeof(float));
    }
    return HDL_OK;
}

/* ---- on the device ------------------------------------------------------------------------ */

/* Do parts of several ranks come together on devices? */
static bool merges(const hdl_forward *f)
{
    return f->model->shard.tp > 1 && f->model->shard.rank < f->model->shard.tp &&
           !hdl_device_is_host(f->device) && hdl_device_colls(f->device);
}

static size_t n_merge_ids(const hdl_forward *f)
{
    size_t n = f->n_logits_max;
    return n * (n + 1) / 2 * f->model->shard.tp;
}

/* Where the numbers of n rows begin in merge_ids. */
static size_t merge_at(const hdl_forward *f, size_t n)
{
    return n * (n - 1) / 2 * f->model->shard.tp;
}

void hdl_forward_place_merge(hdl_forward *f, hdl_carve *c)
{
    const hdl_shard *s = &f->model->shard;
    size_t rows = merges(f) ? f->n_logits_max : 0, root = s->rank == 0 ? rows : 0;
    f->parts = hdl_carve_take(c, rows * s->tp * s->vocab_padded, sizeof(float));
    f->whole = hdl_carve_take(c, root * f->model->desc->vocab, sizeof(float));
    f->merge_ids = hdl_carve_take(c, root ? n_merge_ids(f) : 0, sizeof *f->merge_ids);
}

/* Row i of part r is row r * n + i of the parts; of the whole it is piece r of row i. */
hdl_err hdl_forward_fill_merge(hdl_forward *f, hdl_errmsg *why)
{
    const hdl_shard *s = &f->model->shard;
    if (!merges(f) || s->rank != 0)
        return HDL_OK;
    hdl_token *ids = malloc(n_merge_ids(f) * sizeof *ids);
    if (!ids)
        return hdl_fail(HDL_NOMEM, why, "out of memory; the machine is full; stop other programs");
    for (uint32_t n = 1; n <= f->n_logits_max; n++)
        for (uint32_t i = 0; i < n * s->tp; i++)
            ids[merge_at(f, n) + i] = (hdl_token)(i % s->tp * n + i / s->tp);
    hdl_err err = hdl_device_write(f->device, f->merge_ids, ids, n_merge_ids(f) * sizeof *ids);
    free(ids);
    return err;
}

/* Rows of a matrix by their numbers: what op embed does with a table. */
typedef struct picked {
    float *from;
    uint32_t n_rows, n_cols;
    const hdl_token *ids; /* [n] of the device */
    uint32_t n;
    float *to;
} picked;

static void pick(hdl_forward *f, const picked *p)
{
    hdl_tensor rows = hdl_tensor_2d(p->from, HDL_DTYPE_F32, p->n_rows, p->n_cols);
    hdl_embed_args args = {
        .table = hdl_source_of_tensor(&rows), .ids = p->ids, .out = p->to, .n_tokens = p->n};
    f->model->ops->embed(&args, f->stream);
}

/* Rank 0: the parts side by side. */
static hdl_err merge(hdl_forward *f, uint32_t n)
{
    const hdl_shard *s = &f->model->shard;
    size_t vocab = f->model->desc->vocab, part = s->vocab_padded;
    const picked pieces = {.from = f->parts,
                           .n_rows = n * s->tp,
                           .n_cols = s->vocab_padded,
                           .ids = f->merge_ids + merge_at(f, n),
                           .n = n * s->tp,
                           .to = f->whole};
    if (part * s->tp == vocab) {
        pick(f, &pieces);
        return HDL_OK;
    }
    for (uint32_t i = 0; i < n * s->tp; i++) { /* a vocabulary of an odd size */
        size_t row = i / s->tp, rank = i % s->tp, at = rank * part;
        size_t len = at < vocab ? hdl_min_size(part, vocab - at) : 0;
        HDL_TRY(hdl_device_copy(f->device, f->whole + row * vocab + at,
                                f->parts + (rank * n + row) * part, len * sizeof *f->whole));
    }
    return HDL_OK;
}

hdl_err hdl_forward_logits_there(hdl_forward *f, const hdl_forward_heads *h, const float **logits)
{
    const hdl_shard *s = &f->model->shard;
    uint32_t hidden = f->model->desc->hidden;
    const picked rows = {.from = f->x,
                         .n_rows = f->n_tokens_max,
                         .n_cols = hidden,
                         .ids = h->heads,
                         .n = h->n,
                         .to = f->last};
    HDL_ASSERT_LE(h->n, f->n_logits_max);
    *logits = s->tp > 1 ? f->whole : f->part;
    if (s->rank >= s->tp)
        return HDL_OK;
    size_t part = (size_t)h->n * s->vocab_padded;
    float *own = s->tp > 1 ? f->parts + s->tp_idx * part : f->part;
    if (h->heads)
        pick(f, &rows);
    run_head(f, h->heads ? f->last : f->x + (size_t)h->at * hidden, own, h->n);
    if (s->tp == 1)
        return HDL_OK;
    HDL_TRY(f->groups.colls->all_gather(f->groups.dev_tp, f->parts, part * sizeof *f->parts));
    return s->rank == 0 ? merge(f, h->n) : HDL_OK;
}
