/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/core/seq.h"

#include "scheduler/core/plant.h"

static uint32_t sheet_count(const hdl_sched *s, uint32_t pages)
{
    return (pages + s->pages.sheet_mask) / (s->pages.sheet_mask + 1);
}

/* One more page at the end of a log: the next of its sheet, or the first of a new one. */
static void page_add(hdl_sched *s, hdl_seq_cold *cold)
{
    hdl_pages *p = &s->pages;
    uint32_t page = cold->tail + 1;
    if (cold->n_pages == 0 || (page & p->sheet_mask) == 0) {
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
    if (cold->n_pages++ == 0)
        cold->head = page;
    else
        p->list[cold->tail].next = page;
    p->list[page].next = NONE;
    cold->tail = page;
}

/* Appends the tokens of positions [at, at + n), where the log holds those before. */
static void log_append(hdl_sched *s, hdl_seq_cold *cold, uint32_t at, const hdl_token *tokens,
                       uint32_t n)
{
    const uint32_t bt = s->bt_mask + 1;
    while (n > 0) {
        uint32_t off = at & s->bt_mask;
        if (off == 0)
            page_add(s, cold);
        uint32_t take = hdl_min_u32(bt - off, n);
        hdl_token *page = hdl_page_tokens(s, cold->tail);
        memcpy(page + off, tokens, take * sizeof *page);
        if (off + take == bt) {
            cold->chain = hdl_hash_chain(cold->chain, take == bt ? tokens : page, bt);
            s->pages.list[cold->tail].hash = cold->chain;
        }
        tokens += take;
        at += take;
        n -= take;
    }
}

static uint64_t chain_seed(uint64_t salt) { return hdl_hash_mix(salt ^ 0x6865646c65ull); }

/* Gives back the pages; how many sheets they were. */
static uint32_t log_drop(hdl_sched *s, hdl_seq_cold *cold)
{
    hdl_pages *p = &s->pages;
    uint32_t sheets = sheet_count(s, cold->n_pages);
    if (sheets == 0)
        return 0;
    p->list[cold->tail | p->sheet_mask].next = p->free_head;
    p->free_head = cold->head;
    p->n_free += sheets;
    cold->n_pages = 0;
    return sheets;
}

void hdl_log_release(hdl_sched *s, hdl_seq *seq)
{
    hdl_seq_cold *cold = hdl_seq_rest(s, seq);
    uint32_t sheets = log_drop(s, cold);
    cold->log_resv += sheets;
    s->pages.promised += sheets;
}

void hdl_recent_copy(const hdl_sched *s, uint32_t slot, uint32_t from, uint32_t to, hdl_token *out)
{
    const size_t stride = (size_t)s->config.max_seqs * HDL_TILE;
    const hdl_token *tiles = s->slots.recent + (size_t)slot * HDL_TILE;
    uint32_t step = from - 1 - s->slots.base[slot];
    while (from < to) {
        const uint32_t at = step % HDL_TILE, n = hdl_min_u32(HDL_TILE - at, to - from);
        const hdl_token *tile = tiles + step % HDL_RECENT / HDL_TILE * stride + at;
        if (n == HDL_TILE)
            memcpy(out, tile, HDL_TILE * sizeof *out);
        else
            for (uint32_t i = 0; i < n; i++)
                out[i] = tile[i];
        out += n;
        step += n;
        from += n;
    }
}

/* Positions before this one lie with the blocks: see flush in absorb.c. */
static uint32_t filed_of(const hdl_sched *s, uint32_t slot, uint32_t len)
{
    return hdl_max_u32(s->slots.filing[slot].from, (len - 1) & ~s->flush_mask);
}

void hdl_recent_shift(hdl_sched *s, uint32_t slot, uint32_t by)
{
    const uint32_t len = s->slots.len[slot], from = filed_of(s, slot, len);
    hdl_token recent[HDL_RECENT];
    if (hdl_planted(s, GUESS_UNSHIFTED)) {
        s->slots.base[slot] += by;
        return;
    }
    hdl_recent_copy(s, slot, from, len, recent);
    s->slots.base[slot] += by;
    for (uint32_t at = from; at < len; at++)
        hdl_recent(s, at - 1 - s->slots.base[slot])[(size_t)slot * HDL_TILE] = recent[at - from];
}

void hdl_log_restore(hdl_sched *s, hdl_seq *seq)
{
    hdl_seq_cold *cold = hdl_seq_rest(s, seq);
    const hdl_kv *kv = &s->groups[seq->group].kv;
    const uint32_t *table = hdl_slot_table(s, seq->slot);
    const uint32_t len = seq->len, bt = s->bt_mask + 1;
    const uint32_t filed = filed_of(s, seq->slot, len);
    hdl_token recent[HDL_RECENT];

    cold->chain = chain_seed(cold->salt);
    for (uint32_t at = 0; at < filed; at += bt)
        log_append(s, cold, at, hdl_block_tokens(s, kv, table[at >> s->bt_shift]),
                   hdl_min_u32(bt, filed - at));
    hdl_recent_copy(s, seq->slot, filed, len, recent);
    log_append(s, cold, filed, recent, len - filed);

    uint32_t sheets = sheet_count(s, cold->n_pages);
    HDL_ASSERT_LE(sheets, cold->log_resv);
    cold->log_resv -= sheets;
    s->pages.promised -= sheets;
}

static void map_insert(hdl_sched *s, uint32_t idx)
{
    uint32_t *bucket = hdl_seq_bucket(s, &s->seqs[idx]);
    s->map_next[idx] = *bucket;
    *bucket = idx;
}

static void map_remove(hdl_sched *s, uint32_t idx)
{
    uint32_t *link = hdl_seq_bucket(s, &s->seqs[idx]);
    while (*link != idx)
        link = &s->map_next[*link];
    *link = s->map_next[idx];
}

hdl_seq *hdl_seq_find(const hdl_sched *s, hdl_req_id req)
{
    uint32_t idx = s->map[hdl_hash_mix(req.v) & s->map_mask];
    while (idx != NONE && s->seqs[idx].req != req.v)
        idx = s->map_next[idx];
    return idx == NONE ? NULL : &s->seqs[idx];
}

bool hdl_seq_room(const hdl_sched *s, uint32_t n_prompt)
{
    uint32_t need = sheet_count(s, hdl_page_count(s, n_prompt)) +
                    sheet_count(s, hdl_page_count(s, s->config.max_len));
    return s->n_used < s->n_seqs && need <= s->pages.n_free - s->pages.promised;
}

/* The record that the next request will get. */
static void look_ahead_free(const hdl_sched *s)
{
    if (s->seq_free == NONE)
        return;
    __builtin_prefetch(&s->seqs[s->seq_free], 1);
    __builtin_prefetch(&s->cold[s->seq_free], 1);
    __builtin_prefetch((const char *)&s->cold[s->seq_free] + 64, 1);
    __builtin_prefetch(hdl_seq_stops(s, s->seq_free), 1);
    __builtin_prefetch(&s->map_next[s->seq_free], 1);
}

hdl_seq *hdl_seq_new(hdl_sched *s, const hdl_ev_submit *submit)
{
    uint32_t idx = s->seq_free;
    uint32_t gen = 0;
    __builtin_prefetch(&s->map[hdl_hash_mix(submit->req.v) & s->map_mask], 1);
    if (idx != NONE) {
        s->seq_free = s->cold[idx].next;
        gen = s->seqs[idx].gen;
        look_ahead_free(s);
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
        .n_stop = n_stop,
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
        .chain = chain_seed(submit->salt),
        .max_new = submit->max_new,
        .next = NONE,
        .prev = NONE,
        .heap_at = NONE,
        .fork_of = submit->fork_of.v,
        .parent = NONE,
        .forks = NONE,
        .copy_src = NONE,
    };
    memcpy(hdl_seq_stops(s, idx), submit->stop_ids, n_stop * sizeof(hdl_token));
    log_append(s, cold, 0, submit->prompt, submit->n_prompt);
    map_insert(s, idx);
    return seq;
}

void hdl_seq_free(hdl_sched *s, hdl_seq *seq)
{
    hdl_seq_cold *cold = hdl_seq_rest(s, seq);
    log_drop(s, cold);
    s->pages.promised -= cold->log_resv;

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

hdl_pages_walk hdl_seq_walk(const hdl_sched *s, const hdl_seq *seq)
{
    if (seq->state != HDL_SEQ_DECODE)
        return (hdl_pages_walk){.page = hdl_seq_rest(s, seq)->head};
    return (hdl_pages_walk){.table = hdl_slot_table(s, seq->slot), .kv = &s->groups[seq->group].kv};
}

const hdl_token *hdl_walk_next(const hdl_sched *s, hdl_pages_walk *walk)
{
    if (walk->table)
        return hdl_block_tokens(s, walk->kv, *walk->table++);
    const hdl_token *tokens = hdl_page_tokens(s, walk->page);
    walk->page = s->pages.list[walk->page].next;
    return tokens;
}
