/* SPDX-License-Identifier: Apache-2.0 */
/* Request path 9 of 14: plan -> index arrays. What is refused is said in batch_check.c. */
#include "worker/batch.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/checked.h"

static bool open_group(hdl_batch_group *g, const hdl_batch_opts *opts,
                       const hdl_cache_capacity *cache)
{
    size_t seqs = opts->max_seqs, blocks = cache->n_blocks;
    bool is_state = hdl_cache_is_state(&cache->rule);
    g->per_seq = is_state ? 1 : hdl_div_ceil_u32(opts->max_len, opts->block_tokens);
    /* Large and mostly untouched: the kernel gives pages only to tables in use. */
    g->tables = calloc(seqs * g->per_seq, sizeof(*g->tables));
    g->written = calloc(blocks, sizeof(*g->written));
    g->granted = calloc(seqs, sizeof(*g->granted));
    g->grant = calloc(seqs, sizeof(*g->grant));
    g->rows = calloc(seqs, sizeof(*g->rows));
    g->src = calloc(blocks, sizeof(*g->src));
    g->dst = calloc(blocks, sizeof(*g->dst));
    return g->tables && g->written && g->granted && g->grant && g->rows && g->src && g->dst;
}

hdl_err hdl_batch_open(hdl_batch *out, const hdl_batch_opts *opts, hdl_errmsg *why)
{
    *out = (hdl_batch){.opts = *opts};
    size_t seqs = opts->max_seqs, tokens = opts->step_tokens;
    HDL_ASSERT_LE(opts->n_caches, (uint32_t)HDL_CACHE_GROUPS_MAX);
    out->slots = calloc(seqs, sizeof(*out->slots));
    out->closed = calloc(seqs, sizeof(*out->closed));
    out->opened = calloc(seqs, sizeof(*out->opened));
    out->rowed = calloc(seqs, sizeof(*out->rowed));
    out->ids = calloc(tokens, sizeof(*out->ids));
    out->wants = calloc(tokens, sizeof(*out->wants));
    bool ok = out->slots && out->closed && out->opened && out->rowed && out->ids && out->wants;
    for (uint32_t g = 0; g < opts->n_caches; g++)
        ok = ok && open_group(&out->groups[g], opts, &opts->caches[g]);
    if (ok)
        return HDL_OK;
    hdl_batch_close(out);
    return hdl_fail(HDL_NOMEM, why,
                    "no memory for %u sequences of %u tokens; the machine is full; lower max_seqs",
                    opts->max_seqs, opts->max_len);
}

void hdl_batch_close(hdl_batch *b)
{
    free(b->slots);
    free(b->closed);
    free(b->opened);
    free(b->rowed);
    free(b->ids);
    free(b->wants);
    for (uint32_t i = 0; i < HDL_CACHE_GROUPS_MAX; i++) {
        hdl_batch_group *g = &b->groups[i];
        free(g->tables);
        free(g->written);
        free(g->granted);
        free(g->grant);
        free(g->rows);
        free(g->src);
        free(g->dst);
    }
    *b = (hdl_batch){0};
}

void hdl_batch_reset(hdl_batch *b)
{
    memset(b->slots, 0, b->opts.max_seqs * sizeof(*b->slots));
    b->n_tokens = b->n_rows = b->n_wants = 0;
    for (uint32_t g = 0; g < b->opts.n_caches; g++)
        b->groups[g].n_copies = 0;
}

static uint32_t *table_of(const hdl_batch_group *g, uint32_t slot)
{
    return g->tables + (size_t)slot * g->per_seq;
}

static void add_wants(hdl_batch *b, const hdl_plan *p, const hdl_plan_row *r)
{
    for (uint32_t j = 0; j < r->n_tokens; j++) {
        bool last = j + 1 == r->n_tokens;
        hdl_token next = -1;
        uint32_t flags = r->flags & HDL_ROW_LOGITS;
        if ((r->flags & HDL_ROW_SCORE) || ((r->flags & HDL_ROW_GUESS) && !last))
            next = p->tokens[r->token_at + j + 1];
        if (next >= 0)
            flags |= r->flags & HDL_ROW_SCORE;
        if (last || (r->flags & HDL_ROW_GUESS))
            flags |= r->flags & HDL_ROW_SAMPLE;
        if (j > 0)
            flags |= r->flags & HDL_ROW_GUESS;
        if (flags != 0)
            b->wants[b->n_wants++] = (hdl_want){.token_idx = b->n_tokens + j,
                                                .slot = r->slot,
                                                .pos = r->pos + j + 1,
                                                .next = next,
                                                .flags = flags};
    }
}

static void apply_row(hdl_batch *b, const hdl_plan *p, const hdl_plan_row *r)
{
    hdl_slot *s = &b->slots[r->slot];
    s->next_pos = r->pos + r->n_tokens;
    s->started = true;
    s->row_step = p->step;
    memcpy(b->ids + b->n_tokens, p->tokens + r->token_at, r->n_tokens * sizeof(*b->ids));
    if (r->flags & HDL_ROW_FEEDBACK)
        b->ids[b->n_tokens] = s->last;
    if (r->flags & HDL_ROW_SAMPLE) {
        s->has_last = true;
        s->sample_step = p->step;
    }
    add_wants(b, p, r);
    for (uint32_t i = 0; i < b->opts.n_caches; i++) {
        hdl_batch_group *g = &b->groups[i];
        g->rows[b->n_rows] = (hdl_attn_row){.token_at = b->n_tokens,
                                            .n_tokens = r->n_tokens,
                                            .pos = r->pos,
                                            .table = table_of(g, r->slot)};
    }
    b->row_least = b->n_rows == 0 ? r->n_tokens : hdl_min_u32(b->row_least, r->n_tokens);
    b->n_keys += (uint64_t)r->pos + r->n_tokens;
    b->n_rows++;
    b->n_tokens += r->n_tokens;
}

static void apply_grant(hdl_batch *b, const hdl_plan *p, const hdl_plan_grant *grant)
{
    hdl_slot *s = &b->slots[grant->slot];
    uint32_t *table = table_of(&b->groups[grant->cache], grant->slot);
    uint32_t *first = &s->first[grant->cache], *end = &s->end[grant->cache];
    memcpy(table + grant->table_at, p->blocks + grant->block_at, grant->n_blocks * sizeof(*table));
    *first = *end == 0 ? grant->table_at : hdl_min_u32(*first, grant->table_at);
    *end = hdl_max_u32(*end, grant->table_at + grant->n_blocks);
}

void hdl_batch_apply(hdl_batch *b, const hdl_plan *p)
{
    b->n_tokens = b->n_rows = b->n_wants = 0;
    b->row_least = 0;
    b->n_keys = 0;
    for (uint32_t i = 0; i < p->n_closes; i++)
        b->slots[p->closes[i]] = (hdl_slot){0};
    for (uint32_t i = 0; i < p->n_opens; i++)
        b->slots[p->opens[i].slot] = (hdl_slot){.open = true};
    for (uint32_t i = 0; i < p->n_grants; i++)
        apply_grant(b, p, &p->grants[i]);
    for (uint32_t g = 0; g < b->opts.n_caches; g++)
        b->groups[g].n_copies = 0;
    for (uint32_t i = 0; i < p->n_copies; i++) {
        hdl_batch_group *g = &b->groups[p->copies[i].cache];
        g->src[g->n_copies] = p->copies[i].src;
        g->dst[g->n_copies++] = p->copies[i].dst;
    }
    for (uint32_t i = 0; i < p->n_rows; i++)
        apply_row(b, p, &p->rows[i]);
}

void hdl_batch_sampled(hdl_batch *b, const hdl_batch_sample *sample)
{
    hdl_slot *slot = &b->slots[sample->slot];
    if (slot->sample_step != sample->step)
        return;
    slot->last = sample->token;
    slot->last_on_device = false;
    if (slot->row_step == sample->step)
        slot->next_pos = sample->pos;
}
