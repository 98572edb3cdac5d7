/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/core/journal.h"

#include "scheduler/core/state.h"

/* record: u32 bytes of the body, u32 CRC-32C of it; body: u32 kind, u32 zero, u64 now_us, then by
 * kind; padded to 8. */
enum {
    HEAD_BYTES = 8,
    KIND_DIGEST = 100,
    KIND_RESULT_BY_PLAN = 101,
    KIND_GUESSES = 102,
    PROMPT_MAX = 1 << 26
};
static const uint64_t MAGIC = 0x314c4a4c44444548u; /* "HEDDLJL1" */

typedef struct put {
    unsigned char *out;
    size_t at;
} put;

static void put32(put *p, uint32_t v)
{
    memcpy(p->out + p->at, &v, sizeof v);
    p->at += sizeof v;
}

static void put64(put *p, uint64_t v)
{
    memcpy(p->out + p->at, &v, sizeof v);
    p->at += sizeof v;
}

typedef struct get {
    const unsigned char *in;
    size_t size, at;
    bool failed;
} get;

static uint64_t get_word(get *g, size_t n)
{
    uint64_t v = 0;
    if (g->failed || n > g->size - g->at) {
        g->failed = true;
        return 0;
    }
    memcpy(&v, g->in + g->at, n);
    g->at += n;
    return v;
}

static uint32_t get32(get *g) { return (uint32_t)get_word(g, 4); }
static uint64_t get64(get *g) { return get_word(g, 8); }

static const void *get_array(get *g, size_t count, size_t item_bytes)
{
    if (g->failed || count > (g->size - g->at) / item_bytes) {
        g->failed = true;
        return NULL;
    }
    const void *at = g->in + g->at;
    g->at += count * item_bytes;
    return at;
}

static size_t padded(size_t n) { return (n + 7) / 8 * 8; }

static hdl_token pseudonym(uint64_t key, uint32_t pos, hdl_token token)
{
    uint64_t h = hdl_hash_combine(key, (uint64_t)pos << 32 | (uint32_t)token);
    return (hdl_token)(h & 0x3fffffff);
}

void hdl_journal_header(const hdl_sched_config *config, unsigned char *out)
{
    _Static_assert(sizeof *config <= HDL_JOURNAL_HEADER_BYTES - 16, "configuration fits");
    memset(out, 0, HDL_JOURNAL_HEADER_BYTES);
    put p = {.out = out};
    put64(&p, MAGIC);
    put32(&p, HDL_JOURNAL_VERSION);
    put32(&p, sizeof *config);
    memcpy(out + p.at, config, sizeof *config);
}

hdl_err hdl_journal_open(hdl_journal_reader *r, const void *bytes, size_t size,
                         hdl_sched_config *config, const char **why)
{
    get g = {.in = bytes, .size = size};
    *why = "this is no heddle journal";
    if (get64(&g) != MAGIC || g.failed || size < HDL_JOURNAL_HEADER_BYTES)
        return HDL_CORRUPT;
    *why = "the journal was written by another version of heddle; replay it with that one";
    if (get32(&g) != HDL_JOURNAL_VERSION || get32(&g) != sizeof *config)
        return HDL_UNSUPPORTED;
    memcpy(config, g.in + g.at, sizeof *config);
    /* The one member that is not a plain number: any byte but 0 and 1 would be no bool. */
    unsigned char flag;
    memcpy(&flag, g.in + g.at + offsetof(hdl_sched_config, prefix_cache), 1);
    *why = "the configuration in the journal is damaged";
    if (flag > 1)
        return HDL_CORRUPT;
    const char *problem = hdl_sched_config_problem(config);
    if (problem) {
        *why = problem;
        return HDL_CORRUPT;
    }
    *r = (hdl_journal_reader){.bytes = bytes, .size = size, .at = HDL_JOURNAL_HEADER_BYTES};
    *why = NULL;
    return HDL_OK;
}

size_t hdl_journal_event_bytes(const hdl_event *ev)
{
    size_t array = 0;
    if (ev->kind == HDL_EV_SUBMIT)
        array = (size_t)ev->submit.n_prompt * sizeof(hdl_token);
    else if (ev->kind == HDL_EV_RESULT)
        array = (size_t)ev->result.n_rows * sizeof(hdl_result_row);
    return padded(HEAD_BYTES + 16 + 96 + array);
}

static void put_submit(put *p, const hdl_ev_submit *ev, uint64_t key)
{
    put64(p, ev->req.v);
    put64(p, hdl_hash_combine(key, ev->salt));
    put64(p, ev->fork_of.v);
    put64(p, ev->deadline_us);
    put32(p, ev->tenant);
    put32(p, ev->priority);
    put32(p, ev->flags);
    put32(p, ev->max_new);
    put32(p, ev->n_stop_ids);
    put32(p, ev->n_prompt);
    for (uint32_t i = 0; i < ev->n_prompt; i++)
        put32(p, (uint32_t)pseudonym(key, i, ev->prompt[i]));
}

/* The plan that a result would be absorbed against, or NULL. */
static const hdl_plan_buf *plan_of(const hdl_sched *s, const hdl_ev_result *ev)
{
    if (ev->group >= s->config.n_groups)
        return NULL;
    const hdl_group *g = &s->groups[ev->group];
    bool oldest = g->in_flight > 0 && ev->step == g->next_step - g->in_flight;
    if (!g->up || ev->epoch != g->epoch || !oldest)
        return NULL;
    return &g->buf[ev->step % HDL_PLANS_IN_FLIGHT];
}

/* A walk over the answers that a plan waits for, in their order: one of each row that samples, and
 * of a row with guesses another one for each that comes true. */
typedef struct walk {
    const hdl_plan_buf *buf;
    uint32_t r; /* row; n_rows: there is no other answer */
    uint32_t i; /* of its answers */
} walk;

static void find_sample(walk *w)
{
    while (w->r < w->buf->plan.n_rows && !(w->buf->rows[w->r].flags & HDL_ROW_SAMPLE))
        w->r++;
}

static walk start_walk(const hdl_plan_buf *buf)
{
    walk w = {.buf = buf};
    find_sample(&w);
    return w;
}

static bool is_over(const walk *w) { return w->r == w->buf->plan.n_rows; }

static hdl_result_row expected(const walk *w)
{
    const hdl_plan_row *row = &w->buf->rows[w->r];
    const uint32_t n = row->flags & HDL_ROW_GUESS ? 1 + w->i : row->n_tokens;
    return (hdl_result_row){.slot = row->slot, .pos = row->pos + n};
}

static void walk_on(walk *w, hdl_token token)
{
    const hdl_plan_row *row = &w->buf->rows[w->r];
    const uint32_t next = w->i + 1;
    if ((row->flags & HDL_ROW_GUESS) && next < row->n_tokens &&
        w->buf->tokens[row->token_at + next] == token) {
        w->i = next;
        return;
    }
    w->i = 0;
    w->r++;
    find_sample(w);
}

/* The row answers what is expected and nothing else, so that its token is all there is to keep. */
static bool answers(const walk *w, const hdl_result_row *res)
{
    if (is_over(w))
        return false;
    const hdl_result_row want = expected(w);
    return !res->scored && res->slot == want.slot && res->pos == want.pos && res->token >= 0;
}

static bool answers_all(const hdl_plan_buf *buf, const hdl_ev_result *ev)
{
    walk w = start_walk(buf);
    for (uint32_t at = 0; at < ev->n_rows; at++) {
        if (!answers(&w, &ev->rows[at]))
            return false;
        walk_on(&w, ev->rows[at].token);
    }
    return is_over(&w);
}

static bool ends(const hdl_sched *s, const hdl_seq *seq, hdl_token token)
{
    for (uint32_t i = 0; seq && i < seq->n_stop; i++)
        if (hdl_seq_stops(s, hdl_seq_idx(s, seq))[i] == token)
            return true;
    return false;
}

static hdl_token veil(const hdl_sched *s, uint64_t key, const hdl_seq *seq,
                      const hdl_result_row *res)
{
    return ends(s, seq, res->token) ? HDL_JOURNAL_STOP : pseudonym(key, res->pos, res->token);
}

static void put_tokens(put *p, const hdl_sched *s, const hdl_ev_result *ev, uint64_t key)
{
    const hdl_plan_buf *buf = plan_of(s, ev);
    walk w = start_walk(buf);
    for (uint32_t i = 0; i < ev->n_rows; i++) {
        put32(p, (uint32_t)veil(s, key, hdl_row_seq(s, buf, w.r), &ev->rows[i]));
        walk_on(&w, ev->rows[i].token);
    }
}

/* As it came. What answers the plan up to the first row that does not is absorbed, so a stop id
 * must stay one there. */
static void put_rows(put *p, const hdl_sched *s, const hdl_ev_result *ev, uint64_t key)
{
    const hdl_plan_buf *buf = plan_of(s, ev);
    walk w = {0};
    if (buf)
        w = start_walk(buf);
    for (uint32_t i = 0; i < ev->n_rows; i++) {
        hdl_result_row row = ev->rows[i];
        row.n_probs = 0;
        row.probs_at = 0;
        if (buf && answers(&w, &row)) {
            row.token = veil(s, key, hdl_row_seq(s, buf, w.r), &ev->rows[i]);
            walk_on(&w, ev->rows[i].token);
        } else {
            row.token = row.token < 0 ? -1 : pseudonym(key, row.pos, row.token);
        }
        memcpy(p->out + p->at, &row, sizeof row);
        p->at += sizeof row;
    }
}

static void put_result(put *p, const hdl_ev_result *ev)
{
    put64(p, ev->epoch);
    put64(p, ev->step);
    put32(p, ev->group);
    put32(p, ev->n_rows);
}

static size_t seal(put *p)
{
    size_t end = padded(p->at);
    memset(p->out + p->at, 0, end - p->at);
    uint32_t body = (uint32_t)(end - HEAD_BYTES);
    uint32_t crc = hdl_crc32c(0, p->out + HEAD_BYTES, body);
    p->at = 0;
    put32(p, body);
    put32(p, crc);
    return end;
}

size_t hdl_journal_event(const hdl_sched *s, const hdl_event *ev, uint64_t key, unsigned char *out)
{
    const hdl_plan_buf *buf = ev->kind == HDL_EV_RESULT ? plan_of(s, &ev->result) : NULL;
    bool by_plan = buf && answers_all(buf, &ev->result);
    put p = {.out = out, .at = HEAD_BYTES};
    put32(&p, by_plan ? (uint32_t)KIND_RESULT_BY_PLAN : (uint32_t)ev->kind);
    put32(&p, 0);
    put64(&p, ev->now_us);
    switch (ev->kind) {
    case HDL_EV_SUBMIT: put_submit(&p, &ev->submit, key); break;
    case HDL_EV_CANCEL: put64(&p, ev->cancel.req.v); break;
    case HDL_EV_RESULT:
        put_result(&p, &ev->result);
        (by_plan ? put_tokens : put_rows)(&p, s, &ev->result, key);
        break;
    case HDL_EV_RANK_UP:
    case HDL_EV_RANK_LOST:
        put64(&p, ev->rank.epoch);
        put32(&p, ev->rank.group);
        for (uint32_t i = 0; i < HDL_CACHE_GROUPS_MAX; i++)
            put32(&p, ev->rank.n_blocks[i]);
        put32(&p, ev->rank.max_len);
        break;
    case HDL_EV_TICK:
    case HDL_EV_DRAIN:
    case HDL_EV_COUNT: break;
    }
    return seal(&p);
}

size_t hdl_journal_guess_bytes(const hdl_sched_config *config)
{
    if (config->guess_tokens == 0)
        return 0;
    /* A row has three words and one for each guess, and takes as many tokens of the step and one.
     */
    const size_t words = 2 * (size_t)config->n_groups * config->guess_step_tokens;
    return padded(HEAD_BYTES + 16 + words * sizeof(uint32_t));
}

static void put_guesses(put *p, const hdl_plan *plan, uint64_t key)
{
    for (uint32_t r = 0; r < plan->n_rows; r++) {
        const hdl_plan_row *row = &plan->rows[r];
        if (!(row->flags & HDL_ROW_GUESS))
            continue;
        put32(p, row->slot);
        put32(p, row->pos);
        put32(p, row->n_tokens - 1u);
        for (uint32_t i = 1; i < row->n_tokens; i++)
            put32(p, (uint32_t)pseudonym(key, row->pos + i, plan->tokens[row->token_at + i]));
    }
}

size_t hdl_journal_guesses(const hdl_actions *actions, uint64_t key, unsigned char *out)
{
    put p = {.out = out, .at = HEAD_BYTES + 16};
    for (uint32_t i = 0; i < actions->count; i++)
        if (actions->list[i].kind == HDL_ACT_PLAN)
            put_guesses(&p, actions->list[i].plan.plan, key);
    const uint32_t n_words = (uint32_t)((p.at - HEAD_BYTES - 16) / sizeof(uint32_t));
    if (n_words == 0)
        return 0;
    put head = {.out = out, .at = HEAD_BYTES};
    put32(&head, KIND_GUESSES);
    put32(&head, n_words);
    put64(&head, 0);
    return seal(&p);
}

size_t hdl_journal_digest(uint64_t n_events, uint64_t digest, unsigned char *out)
{
    put p = {.out = out, .at = HEAD_BYTES};
    put32(&p, KIND_DIGEST);
    put32(&p, 0);
    put64(&p, n_events);
    put64(&p, digest);
    return seal(&p);
}

static bool get_submit(get *g, hdl_ev_submit *ev)
{
    *ev = (hdl_ev_submit){.req = {get64(g)}};
    ev->salt = get64(g);
    ev->fork_of.v = get64(g);
    ev->deadline_us = get64(g);
    ev->tenant = get32(g);
    ev->priority = get32(g);
    ev->flags = get32(g);
    ev->max_new = get32(g);
    ev->n_stop_ids = get32(g);
    ev->n_prompt = get32(g);
    if (ev->n_stop_ids > HDL_STOP_IDS_MAX || ev->n_prompt > PROMPT_MAX)
        return false;
    for (uint32_t i = 0; i < ev->n_stop_ids; i++)
        ev->stop_ids[i] = HDL_JOURNAL_STOP;
    ev->prompt = get_array(g, ev->n_prompt, sizeof *ev->prompt);
    return !g->failed;
}

static bool get_result(get *g, hdl_journal_record *rec)
{
    hdl_ev_result *ev = &rec->event.result;
    *ev = (hdl_ev_result){.epoch = get64(g)};
    ev->step = get64(g);
    ev->group = get32(g);
    ev->n_rows = get32(g);
    if (rec->by_plan) {
        rec->n_tokens = ev->n_rows;
        rec->tokens = get_array(g, rec->n_tokens, sizeof *rec->tokens);
    } else {
        ev->rows = get_array(g, ev->n_rows, sizeof *ev->rows);
    }
    return !g->failed;
}

static bool get_record(get *g, hdl_journal_record *rec)
{
    *rec = (hdl_journal_record){0};
    uint32_t kind = get32(g);
    const uint32_t n_words = get32(g);
    rec->event.now_us = get64(g);
    rec->is_guesses = kind == KIND_GUESSES;
    if (rec->is_guesses) {
        rec->guesses = (hdl_told){get_array(g, n_words, sizeof(uint32_t)), n_words};
        return !g->failed;
    }
    rec->by_plan = kind == KIND_RESULT_BY_PLAN;
    if (kind == KIND_DIGEST) {
        rec->is_digest = true;
        rec->n_events = rec->event.now_us;
        rec->digest = get64(g);
        return !g->failed;
    }
    if (kind >= HDL_EV_COUNT && !rec->by_plan)
        return false;
    rec->event.kind = rec->by_plan ? HDL_EV_RESULT : (hdl_event_kind)kind;
    switch (rec->event.kind) {
    case HDL_EV_SUBMIT: return get_submit(g, &rec->event.submit);
    case HDL_EV_CANCEL: rec->event.cancel.req.v = get64(g); break;
    case HDL_EV_RESULT: return get_result(g, rec);
    case HDL_EV_RANK_UP:
    case HDL_EV_RANK_LOST:
        rec->event.rank.epoch = get64(g);
        rec->event.rank.group = get32(g);
        for (uint32_t i = 0; i < HDL_CACHE_GROUPS_MAX; i++)
            rec->event.rank.n_blocks[i] = get32(g);
        rec->event.rank.max_len = get32(g);
        break;
    case HDL_EV_TICK:
    case HDL_EV_DRAIN:
    case HDL_EV_COUNT: break;
    }
    return !g->failed;
}

hdl_err hdl_journal_next(hdl_journal_reader *r, hdl_journal_record *rec)
{
    get head = {.in = r->bytes, .size = r->size, .at = r->at};
    uint32_t body = get32(&head), crc = get32(&head);
    if (head.failed || body > r->size - head.at)
        return HDL_NOTFOUND;
    const unsigned char *at = r->bytes + head.at;
    if (body % 8 != 0 || hdl_crc32c(0, at, body) != crc)
        return HDL_CORRUPT;
    get g = {.in = at, .size = body};
    if (!get_record(&g, rec))
        return HDL_CORRUPT;
    r->at = head.at + body;
    return HDL_OK;
}

bool hdl_journal_rows(const hdl_sched *s, hdl_journal_record *rec, hdl_result_row *rows,
                      uint32_t max)
{
    const hdl_plan_buf *buf = plan_of(s, &rec->event.result);
    if (!buf)
        return false;
    walk w = start_walk(buf);
    for (uint32_t n = 0; n < rec->n_tokens; n++) {
        if (is_over(&w) || n == max)
            return false;
        rows[n] = expected(&w);
        rows[n].token = rec->tokens[n];
        walk_on(&w, rec->tokens[n]);
    }
    rec->event.result.rows = rows;
    rec->event.result.n_rows = rec->n_tokens;
    return is_over(&w);
}
