/* SPDX-License-Identifier: Apache-2.0 */
/* Request path 9 of 14: plan -> index arrays. */
#include "worker/batch.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/checked.h"

enum {
    ROW_FLAGS = HDL_ROW_SAMPLE | HDL_ROW_FEEDBACK | HDL_ROW_SCORE | HDL_ROW_LOGITS,
};

static uint32_t *table_of(const hdl_batch *b, uint32_t slot)
{
    return b->tables + (size_t)slot * b->blocks_per_seq;
}

hdl_err hdl_batch_open(hdl_batch *out, const hdl_batch_opts *opts, hdl_errmsg *why)
{
    *out = (hdl_batch){.opts = *opts};
    out->blocks_per_seq = hdl_div_ceil_u32(opts->max_len, opts->block_tokens);
    size_t seqs = opts->max_seqs, tokens = opts->step_tokens, blocks = opts->n_blocks;
    out->slots = calloc(seqs, sizeof(*out->slots));
    /* Large and mostly untouched: the kernel gives pages only to tables in use. */
    out->tables = calloc(seqs * out->blocks_per_seq, sizeof(*out->tables));
    out->closed = calloc(seqs, sizeof(*out->closed));
    out->opened = calloc(seqs, sizeof(*out->opened));
    out->rowed = calloc(seqs, sizeof(*out->rowed));
    out->written = calloc(blocks, sizeof(*out->written));
    out->ids = calloc(tokens, sizeof(*out->ids));
    out->rows = calloc(seqs, sizeof(*out->rows));
    out->wants = calloc(tokens, sizeof(*out->wants));
    out->copy_src = calloc(blocks, sizeof(*out->copy_src));
    out->copy_dst = calloc(blocks, sizeof(*out->copy_dst));
    if (out->slots && out->tables && out->closed && out->opened && out->rowed && out->written &&
        out->ids && out->rows && out->wants && out->copy_src && out->copy_dst)
        return HDL_OK;
    hdl_batch_close(out);
    return hdl_fail(HDL_NOMEM, why,
                    "no memory for %u sequences of %u tokens; the machine is full; lower max_seqs",
                    opts->max_seqs, opts->max_len);
}

void hdl_batch_close(hdl_batch *b)
{
    free(b->slots);
    free(b->tables);
    free(b->closed);
    free(b->opened);
    free(b->rowed);
    free(b->written);
    free(b->ids);
    free(b->rows);
    free(b->wants);
    free(b->copy_src);
    free(b->copy_dst);
    *b = (hdl_batch){0};
}

void hdl_batch_reset(hdl_batch *b)
{
    memset(b->slots, 0, b->opts.max_seqs * sizeof(*b->slots));
    b->n_tokens = b->n_rows = b->n_wants = b->n_copies = 0;
}

/* ---- checking ----------------------------------------------------------------------------- */

#define BAD(why, ...) return hdl_fail(HDL_BUG, why, "bad plan: " __VA_ARGS__)

static bool token_ok(const hdl_batch *b, hdl_token id)
{
    return id >= 0 && (uint32_t)id < b->opts.vocab;
}

static hdl_err check_closes(hdl_batch *b, const hdl_plan *p, hdl_errmsg *why)
{
    for (uint32_t i = 0; i < p->n_closes; i++) {
        uint32_t slot = p->closes[i];
        if (slot >= b->opts.max_seqs || !b->slots[slot].open || b->closed[slot] == b->mark)
            BAD(why, "close %u names slot %u, which is not open", i, slot);
        b->closed[slot] = b->mark;
    }
    return HDL_OK;
}

static hdl_err check_opens(hdl_batch *b, const hdl_plan *p, hdl_errmsg *why)
{
    for (uint32_t i = 0; i < p->n_opens; i++) {
        const hdl_plan_open *o = &p->opens[i];
        if (o->slot >= b->opts.max_seqs || b->opened[o->slot] == b->mark)
            BAD(why, "open %u names slot %u, which is out of range or opened twice", i, o->slot);
        if (b->slots[o->slot].open && b->closed[o->slot] != b->mark)
            BAD(why, "open %u names slot %u, which is still open", i, o->slot);
        if (!hdl_range_ok(o->history_at, o->n_history, p->n_tokens) ||
            o->n_history > b->opts.max_len + 1)
            BAD(why, "open %u has a history out of range", i);
        for (uint32_t j = 0; j < o->n_history; j++)
            if (!token_ok(b, p->tokens[o->history_at + j]))
                BAD(why, "open %u has a token outside the vocabulary", i);
        b->opened[o->slot] = b->mark;
    }
    return HDL_OK;
}

static hdl_err check_copies(hdl_batch *b, const hdl_plan *p, hdl_errmsg *why)
{
    if (p->n_copies > b->opts.n_blocks)
        BAD(why, "%u copies", p->n_copies);
    for (uint32_t i = 0; i < p->n_copies; i++) {
        const hdl_plan_copy *c = &p->copies[i];
        if (c->src >= b->opts.n_blocks || c->dst >= b->opts.n_blocks || c->src == c->dst)
            BAD(why, "copy %u of block %u to %u", i, c->src, c->dst);
        if (b->written[c->dst] == b->mark)
            BAD(why, "two copies go to block %u", c->dst);
        b->written[c->dst] = b->mark;
    }
    /* Copies run at once, so none may read what another writes. */
    for (uint32_t i = 0; i < p->n_copies; i++)
        if (b->written[p->copies[i].src] == b->mark)
            BAD(why, "copy %u reads block %u, which another copy writes", i, p->copies[i].src);
    return HDL_OK;
}

/* The slot as it will be when the rows run. */
static hdl_slot slot_at_rows(const hdl_batch *b, uint32_t slot)
{
    if (b->opened[slot] == b->mark)
        return (hdl_slot){.open = true};
    if (b->closed[slot] == b->mark)
        return (hdl_slot){0};
    return b->slots[slot];
}

static hdl_err check_row_tokens(const hdl_batch *b, const hdl_plan *p, uint32_t i, hdl_errmsg *why)
{
    const hdl_plan_row *r = &p->rows[i];
    uint64_t n = (uint64_t)r->n_tokens + ((r->flags & HDL_ROW_SCORE) != 0);
    if (!hdl_range_ok(r->token_at, n, p->n_tokens))
        BAD(why, "row %u has tokens out of range", i);
    for (uint32_t j = (r->flags & HDL_ROW_FEEDBACK) != 0; j < n; j++) {
        hdl_token id = p->tokens[r->token_at + j];
        bool end = j == r->n_tokens && id == -1;
        if (!token_ok(b, id) && !end)
            BAD(why, "row %u has a token outside the vocabulary", i);
    }
    bool both = (r->flags & HDL_ROW_SCORE) && (r->flags & HDL_ROW_SAMPLE);
    if (both && p->tokens[r->token_at + r->n_tokens] != -1)
        BAD(why, "row %u samples a token that it also scores", i);
    return HDL_OK;
}

static hdl_err check_row_blocks(hdl_batch *b, const hdl_plan *p, uint32_t i, hdl_errmsg *why)
{
    const hdl_plan_row *r = &p->rows[i];
    hdl_slot s = slot_at_rows(b, r->slot);
    uint32_t bt = b->opts.block_tokens;
    if (!hdl_range_ok(r->block_at, r->n_blocks, p->n_blocks) || r->table_at > s.n_blocks ||
        (uint64_t)r->table_at + r->n_blocks > b->blocks_per_seq)
        BAD(why, "row %u has blocks out of range", i);
    for (uint32_t j = 0; j < r->n_blocks; j++)
        if (p->blocks[r->block_at + j] >= b->opts.n_blocks)
            BAD(why, "row %u names block %u of %u", i, p->blocks[r->block_at + j],
                b->opts.n_blocks);
    uint32_t n_blocks = hdl_max_u32(s.n_blocks, r->table_at + r->n_blocks);
    if ((uint64_t)r->pos + r->n_tokens > (uint64_t)n_blocks * bt)
        BAD(why, "row %u writes past its %u blocks", i, n_blocks);
    const uint32_t *table = table_of(b, r->slot);
    for (uint32_t k = r->pos / bt; k <= (r->pos + r->n_tokens - 1) / bt; k++) {
        bool fresh = k >= r->table_at && k - r->table_at < r->n_blocks;
        uint32_t block = fresh ? p->blocks[r->block_at + k - r->table_at] : table[k];
        if (b->written[block] == b->mark + 1)
            BAD(why, "row %u writes block %u, which another row writes", i, block);
        b->written[block] = b->mark + 1;
    }
    return HDL_OK;
}

static hdl_err check_row(hdl_batch *b, const hdl_plan *p, uint32_t i, hdl_errmsg *why)
{
    const hdl_plan_row *r = &p->rows[i];
    if (r->slot >= b->opts.max_seqs || b->rowed[r->slot] == b->mark)
        BAD(why, "row %u names slot %u, which is out of range or has a row", i, r->slot);
    b->rowed[r->slot] = b->mark;
    hdl_slot s = slot_at_rows(b, r->slot);
    if (!s.open)
        BAD(why, "row %u names slot %u, which is not open", i, r->slot);
    if (r->flags & ~(uint32_t)ROW_FLAGS)
        BAD(why, "row %u has unknown flags %#x", i, r->flags);
    if ((r->flags & HDL_ROW_FEEDBACK) && !s.has_last)
        BAD(why, "row %u feeds back a token that slot %u never sampled", i, r->slot);
    if ((r->flags & HDL_ROW_LOGITS) && !b->opts.can_dump)
        BAD(why, "row %u wants its logits dumped, and no file was given for them", i);
    if (r->n_tokens == 0 || (uint64_t)r->pos + r->n_tokens > b->opts.max_len)
        BAD(why, "row %u holds %u tokens at position %u of %u", i, r->n_tokens, r->pos,
            b->opts.max_len);
    if (s.started && r->pos > s.next_pos)
        BAD(why, "row %u starts at position %u; slot %u ends at %u", i, r->pos, r->slot,
            s.next_pos);
    HDL_TRY(check_row_tokens(b, p, i, why));
    return check_row_blocks(b, p, i, why);
}

hdl_err hdl_batch_check(hdl_batch *b, const hdl_plan *p, hdl_errmsg *why)
{
    b->mark += 2;
    if (p->n_rows > b->opts.max_seqs || p->n_opens > b->opts.max_seqs ||
        p->n_closes > b->opts.max_seqs)
        BAD(why, "%u rows, %u opens, %u closes for %u slots", p->n_rows, p->n_opens, p->n_closes,
            b->opts.max_seqs);
    HDL_TRY(check_closes(b, p, why));
    HDL_TRY(check_opens(b, p, why));
    HDL_TRY(check_copies(b, p, why));
    uint64_t n_tokens = 0;
    for (uint32_t i = 0; i < p->n_rows; i++) {
        HDL_TRY(check_row(b, p, i, why));
        n_tokens += p->rows[i].n_tokens;
    }
    if (n_tokens > b->opts.step_tokens)
        BAD(why, "%" PRIu64 " tokens; a step holds %u", n_tokens, b->opts.step_tokens);
    return HDL_OK;
}

/* ---- applying ----------------------------------------------------------------------------- */

static void add_wants(hdl_batch *b, const hdl_plan *p, const hdl_plan_row *r)
{
    for (uint32_t j = 0; j < r->n_tokens; j++) {
        bool last = j + 1 == r->n_tokens;
        hdl_token next = -1;
        uint32_t flags = r->flags & HDL_ROW_LOGITS;
        if (r->flags & HDL_ROW_SCORE)
            next = p->tokens[r->token_at + j + 1];
        if (next >= 0)
            flags |= HDL_ROW_SCORE;
        if (last)
            flags |= r->flags & HDL_ROW_SAMPLE;
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
    uint32_t *table = table_of(b, r->slot);
    if (r->n_blocks != 0)
        memcpy(table + r->table_at, p->blocks + r->block_at, r->n_blocks * sizeof(*table));
    s->n_blocks = hdl_max_u32(s->n_blocks, r->table_at + r->n_blocks);
    s->next_pos = r->pos + r->n_tokens;
    s->started = true;
    memcpy(b->ids + b->n_tokens, p->tokens + r->token_at, r->n_tokens * sizeof(*b->ids));
    if (r->flags & HDL_ROW_FEEDBACK)
        b->ids[b->n_tokens] = s->last;
    add_wants(b, p, r);
    b->rows[b->n_rows++] = (hdl_attn_row){
        .token_at = b->n_tokens, .n_tokens = r->n_tokens, .pos = r->pos, .table = table};
    b->n_tokens += r->n_tokens;
}

void hdl_batch_apply(hdl_batch *b, const hdl_plan *p)
{
    b->n_tokens = b->n_rows = b->n_wants = 0;
    for (uint32_t i = 0; i < p->n_closes; i++)
        b->slots[p->closes[i]] = (hdl_slot){0};
    for (uint32_t i = 0; i < p->n_opens; i++)
        b->slots[p->opens[i].slot] = (hdl_slot){.open = true};
    b->n_copies = p->n_copies;
    for (uint32_t i = 0; i < p->n_copies; i++) {
        b->copy_src[i] = p->copies[i].src;
        b->copy_dst[i] = p->copies[i].dst;
    }
    for (uint32_t i = 0; i < p->n_rows; i++)
        apply_row(b, p, &p->rows[i]);
}
