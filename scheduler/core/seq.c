/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/core/seq.h"

/* The page after `prev` (NONE: the first): the next of its sheet, or the first of a new one. */
static uint32_t page_take(hdl_sched *s, hdl_seq_cold *cold, uint32_t prev)
{
    hdl_pages *p = &s->pages;
    uint32_t page = prev + 1;
    if (prev == NONE || (page & p->sheet_mask) == 0) {
        HDL_ASSERT_LT(0, p->n_free);
        page = p->free_head;
        if (page != NONE) {
            p->free_head = p->list[page | p->sheet_mask].next;
        } else {
            page = p->touched;
            p->touched += p->sheet_mask + 1;
        }
        p->n_free--;
    }
    if (prev != NONE)
        p->list[prev].next = page;
    p->list[page].next = NONE;
    p->list[page].block = NONE;
    cold->n_pages++;
    return page;
}

static uint32_t sheet_count(const hdl_sched *s, uint32_t pages)
{
    return (pages + s->pages.sheet_mask) / (s->pages.sheet_mask + 1);
}

/* The page is full: of `tokens`, which are its own or the same elsewhere. */
static void page_seal(hdl_sched *s, hdl_seq_cold *cold, uint32_t page, const hdl_token *tokens)
{
    cold->chain = hdl_hash_chain(cold->chain, tokens, s->bt_mask + 1u);
    s->pages.list[page].hash = cold->chain;
}

static void log_prompt(hdl_sched *s, hdl_seq *seq, const hdl_token *prompt)
{
    hdl_seq_cold *cold = hdl_seq_rest(s, seq);
    uint32_t bt = s->bt_mask + 1u;
    uint32_t page = NONE;
    for (uint32_t at = 0; at < seq->n_prompt; at += bt) {
        page = page_take(s, cold, page);
        uint32_t n = hdl_min_u32(bt, seq->n_prompt - at);
        memcpy(hdl_page_tokens(s, page), prompt + at, n * sizeof *prompt);
        if (n == bt)
            page_seal(s, cold, page, prompt + at);
        if (at == 0)
            cold->head = page;
    }
    seq->tail = page;
}

static void map_insert(hdl_sched *s, uint32_t idx)
{
    uint32_t *bucket = &s->map[hdl_hash_mix(s->seqs[idx].req) & s->map_mask];
    s->cold[idx].map_next = *bucket;
    *bucket = idx;
}

static void map_remove(hdl_sched *s, uint32_t idx)
{
    uint32_t *link = &s->map[hdl_hash_mix(s->seqs[idx].req) & s->map_mask];
    while (*link != idx)
        link = &s->cold[*link].map_next;
    *link = s->cold[idx].map_next;
}

hdl_seq *hdl_seq_find(const hdl_sched *s, hdl_req_id req)
{
    uint32_t idx = s->map[hdl_hash_mix(req.v) & s->map_mask];
    while (idx != NONE && s->seqs[idx].req != req.v)
        idx = s->cold[idx].map_next;
    return idx == NONE ? NULL : &s->seqs[idx];
}

bool hdl_seq_room(const hdl_sched *s, uint32_t n_prompt)
{
    uint32_t need = sheet_count(s, hdl_page_count(s, n_prompt)) +
                    sheet_count(s, hdl_page_count(s, s->config.max_len));
    return s->n_used < s->n_seqs && need <= s->pages.n_free - s->pages.promised;
}

hdl_seq *hdl_seq_new(hdl_sched *s, const hdl_ev_submit *submit)
{
    uint32_t idx = s->seq_free;
    uint32_t gen = 0;
    if (idx != NONE) {
        s->seq_free = s->cold[idx].next;
        gen = s->seqs[idx].gen;
    } else {
        idx = s->seq_touched++;
    }
    s->n_used++;
    hdl_seq *seq = &s->seqs[idx];
    hdl_seq_cold *cold = &s->cold[idx];
    uint32_t n_stop = submit->flags & HDL_SUBMIT_IGNORE_EOS ? 0 : submit->n_stop_ids;
    *seq = (hdl_seq){
        .req = submit->req.v,
        .gen = gen,
        .len = submit->n_prompt,
        .n_prompt = submit->n_prompt,
        .slot = NONE,
        .n_stop = (uint8_t)n_stop,
        .stop = {n_stop > 0 ? submit->stop_ids[0] : -1, n_stop > 1 ? submit->stop_ids[1] : -1},
        .priority = (uint8_t)submit->priority,
        .tenant = (uint16_t)submit->tenant,
        .flags = (uint8_t)submit->flags,
    };
    *cold = (hdl_seq_cold){
        .serial = ++s->serial,
        .arrived_us = s->now_us,
        .deadline_us = submit->deadline_us,
        .salt = submit->salt,
        .chain = hdl_hash_mix(submit->salt ^ 0x6865646c65ull),
        .max_new = submit->max_new,
        .next = NONE,
        .prev = NONE,
        .heap_at = NONE,
        .fork_of = submit->fork_of.v,
        .parent = NONE,
        .forks = NONE,
        .copy_src = NONE,
        .n_stop_ids = submit->n_stop_ids,
    };
    memcpy(cold->stop_ids, submit->stop_ids, submit->n_stop_ids * sizeof cold->stop_ids[0]);
    log_prompt(s, seq, submit->prompt);
    map_insert(s, idx);
    return seq;
}

void hdl_seq_free(hdl_sched *s, hdl_seq *seq)
{
    hdl_seq_cold *cold = hdl_seq_rest(s, seq);
    hdl_pages *p = &s->pages;
    uint32_t next =
        p->list[seq->tail].next; /* made already for a token that is still being sampled */
    uint32_t last = (next != NONE ? next : seq->tail) | p->sheet_mask;
    p->list[last].next = p->free_head;
    p->free_head = cold->head;
    p->n_free += sheet_count(s, cold->n_pages);
    p->promised -= cold->log_resv;

    uint32_t idx = hdl_seq_idx(s, seq);
    map_remove(s, idx);
    seq->state = HDL_SEQ_UNUSED;
    seq->gen++;
    cold->next = s->seq_free;
    s->seq_free = idx;
    s->n_used--;
}

static uint32_t sheets_missing(const hdl_sched *s, const hdl_seq *seq, uint32_t end)
{
    const hdl_seq_cold *cold = hdl_seq_rest(s, seq);
    uint32_t want = sheet_count(s, hdl_page_count(s, end));
    uint32_t have = sheet_count(s, cold->n_pages) + cold->log_resv;
    return want > have ? want - have : 0;
}

bool hdl_log_room(const hdl_sched *s, const hdl_seq *seq, uint32_t end)
{
    return sheets_missing(s, seq, end) <= s->pages.n_free - s->pages.promised;
}

void hdl_log_promise(hdl_sched *s, hdl_seq *seq, uint32_t end)
{
    uint32_t more = sheets_missing(s, seq, end);
    HDL_ASSERT_LE(more, s->pages.n_free - s->pages.promised);
    hdl_seq_rest(s, seq)->log_resv += more;
    s->pages.promised += more;
}

uint32_t hdl_log_next_page(hdl_sched *s, hdl_seq *seq, uint32_t at)
{
    if ((at & s->bt_mask) != 0)
        return seq->tail;
    uint32_t page = s->pages.list[seq->tail].next;
    if (page != NONE)
        return page;
    hdl_seq_cold *cold = hdl_seq_rest(s, seq);
    if ((seq->tail & s->pages.sheet_mask) == s->pages.sheet_mask) {
        HDL_ASSERT_LT(0, cold->log_resv);
        cold->log_resv--;
        s->pages.promised--;
    }
    return page_take(s, cold, seq->tail);
}

void hdl_log_flush(hdl_sched *s, hdl_seq *seq)
{
    uint32_t last = seq->len - 1;
    uint32_t from = hdl_max_u32(last & ~s->bt_mask, last & ~(uint32_t)(HDL_RECENT - 1));
    from = hdl_max_u32(from, seq->n_prompt);
    const hdl_token *recent = s->recent[hdl_seq_idx(s, seq)].at;
    if (seq->len > from)
        memcpy(hdl_page_tokens(s, seq->tail) + (from & s->bt_mask), recent + from % HDL_RECENT,
               (seq->len - from) * sizeof *recent);
    if ((seq->len & s->bt_mask) == 0)
        page_seal(s, hdl_seq_rest(s, seq), seq->tail, hdl_page_tokens(s, seq->tail));
}

uint32_t hdl_log_copy(const hdl_sched *s, uint32_t page, uint32_t at, uint32_t n, hdl_token *out)
{
    uint32_t bt = s->bt_mask + 1u;
    while (n > 0) {
        uint32_t off = at & s->bt_mask;
        uint32_t take = hdl_min_u32(bt - off, n);
        memcpy(out, hdl_page_tokens(s, page) + off, take * sizeof *out);
        out += take;
        at += take;
        n -= take;
        if ((at & s->bt_mask) == 0)
            page = s->pages.list[page].next;
    }
    return page;
}
