/* SPDX-License-Identifier: Apache-2.0 */
/* What the state is made of: private to scheduler/core. Read it beside README.md, whose terms and
 * rules it uses.
 *
 * Everything lives in one block of memory and points by index, never by address, so that decisions
 * cannot depend on where the block lies. Three kinds of records: per sequence (hdl_seq and
 * hdl_seq_cold), per block (hdl_block), and per slot (hdl_slots): dense arrays of what a decode
 * step touches of every running sequence. Rows of a plan go in the order of slots, so that both
 * loops over all sequences walk memory forwards. HDL_NONE_U32 is "no such thing" in every index. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/assert.h"
#include "base/hash.h"
#include "scheduler/core/sched.h"

#include "scheduler/core/pure.h"

#define NONE HDL_NONE_U32

typedef enum hdl_seq_state {
    HDL_SEQ_UNUSED,
    HDL_SEQ_HELD,    /* a fork that waits for its parent's prompt; in no queue */
    HDL_SEQ_WAITING, /* in the queue */
    HDL_SEQ_PREFILL, /* runs; its known tokens are not all planned */
    HDL_SEQ_DECODE,  /* runs; one token a step */
} hdl_seq_state;

typedef struct hdl_seq {
    uint64_t req;
    hdl_token stop[2]; /* the first two stop ids, -1 where there is none */
    uint32_t gen;   /* changes whenever the sequence leaves the running set: what is in flight for
                       it then is void */
    uint32_t len;   /* known tokens: prompt and generated; while it decodes hdl_seq_len knows */
    uint32_t pos;   /* PREFILL: first position that is not planned yet */
    uint32_t acked; /* positions of a prefill whose step is answered */
    uint32_t cur;   /* PREFILL: page of position pos, as long as pos < len */
    uint32_t end;   /* length at which it ends */
    uint32_t n_prompt;
    uint32_t slot;
    uint32_t n_stop; /* 0 when stop ids are ignored */
    uint16_t tenant;
    uint8_t state; /* hdl_seq_state */
    uint8_t priority;
    uint8_t group;
    uint8_t flags; /* HDL_SUBMIT_* */
} hdl_seq;

/* What a request needs on its way, but not at every step. */
typedef struct hdl_seq_cold {
    uint64_t serial; /* order of arrival */
    uint64_t arrived_us, deadline_us, salt;
    uint64_t chain;      /* hash of the last full page of the log and all before it */
    uint64_t fork_of;    /* request whose prompt it shares when that still runs; 0: none */
    uint32_t head, tail; /* first and last page of the log */
    uint32_t n_pages;    /* 0 while it decodes: then its tokens lie with its blocks */
    uint32_t log_resv;   /* sheets promised by the first admission and not held */
    uint32_t max_new, n_cached, n_preempted;
    uint32_t next, prev; /* in its queue, or in its parent's list of forks */
    uint32_t heap_at;    /* place in the deadline heap */
    uint32_t parent;     /* HELD: the sequence that it waits for */
    uint32_t forks;      /* first of those that are HELD for this one */
    uint32_t copy_src; /* pinned block whose content the first plan copies; NONE: nothing to copy */
    bool again;        /* waits in queue.again, not in its tenant's fifo */
    bool admitted; /* at least once: its growth in the log is promised, its tenant has paid for the
                      prompt */
    bool opened;   /* its slot is open on the workers */
} hdl_seq_cold;

_Static_assert(sizeof(hdl_seq) == 64 && sizeof(hdl_seq_cold) <= 128, "one cache line, and two");

/* Of a running sequence: its blocks. */
typedef struct hdl_hold {
    uint32_t n_blocks; /* in its table */
    uint32_t resv;     /* promised by admission and not taken yet */
} hdl_hold;

/* Of a running sequence in a side cache: entries [first, end) of its table; of states, its own at
 * [0, 1). */
typedef struct hdl_side_hold {
    uint32_t first, end;
    uint32_t budget;      /* blocks that it may hold, counted in the pool's `promised` */
    uint32_t copy_src;    /* pinned block or snapshot that its first plan copies; NONE: none */
    uint32_t snapshot;    /* of states: pinned copy that is not published yet; NONE: none */
    uint32_t snapshot_at; /* ... and the blocks of tokens that it stands for */
} hdl_side_hold;

/* Of a running sequence: edges of blocks at which its prefix may be taken up by others, in blocks
 * from the start; 0: none. There states are copied, and the windows before them are kept longer. */
typedef struct hdl_snaps {
    uint32_t last;   /* the last edge of a block in what was known at its admission */
    uint32_t branch; /* where others parted from what it shares: the third one shall find all */
} hdl_snaps;

/* Of a running sequence: what is known of the content of its blocks. */
typedef struct hdl_filing {
    uint64_t chain;  /* hash of the last full block and all before it */
    uint64_t parent; /* publication of block n_pub - 1, 0 for none */
    uint32_t n_pub;  /* blocks published, or found to be published by others */
    uint32_t from;   /* known tokens at the admission: those from here on come from results */
    bool publishes;
    uint8_t group;
} hdl_filing;

/* Of a sequence that decodes: what it guesses from, see guess.h. */
typedef struct hdl_guessing {
    uint32_t src; /* the token at src + i is the guess for position at + i; NONE: no lead */
    uint32_t at;
    uint32_t rest; /* no guess is made for positions before this one */
    uint8_t level; /* its rows hold 2^level tokens */
    uint8_t fails; /* rows in a row whose first guess was wrong */
} hdl_guessing;

/* What a step touches of a running sequence, by slot. `recent` holds what results brought last, and
 * a token goes from there to its block with its neighbours, a whole block or HDL_FLUSH of them at
 * once. It lies in tiles of HDL_TILE steps: [HDL_RECENT / HDL_TILE][max_seqs][HDL_TILE]. With one
 * step in a row of its own, collecting the tokens of a sequence touches a cache line for each; with
 * those of a sequence side by side, writing one for each sequence touches a line for each. */
enum { HDL_FLUSH = 32, HDL_RECENT = 2 * HDL_FLUSH, HDL_TILE = 4 };
typedef struct hdl_slots {
    /* Of those that decode, each in an array of its own, so that loops over them are vector code.
     * In step n a sequence computes position base + n: it moves on by one with every step, so
     * nothing has to be written for that; and the token of position p was sampled by step p - 1 -
     * base. When guesses came true, base grows by their number (hdl_recent_shift). */
    uint32_t *base;
    uint32_t *len; /* known tokens */
    uint32_t *end;
    uint32_t *n_prompt;
    hdl_token *stop[2]; /* HDL_STOP_MANY in the second: there are more, ask the record */
    uint64_t *req;
    uint16_t *tenant;
    /* Of all that run. */
    uint32_t *seq;
    uint64_t *key; /* priority, then serial: who yields to whom */
    hdl_hold *hold;
    hdl_filing *filing;
    hdl_token *recent;
    uint32_t *tables; /* [max_seqs, table_len] block ids */
    uint32_t table_len;
    hdl_side_hold *side[HDL_CACHE_GROUPS_MAX];
    uint32_t *side_tables[HDL_CACHE_GROUPS_MAX]; /* [max_seqs, table_len]; of states [max_seqs] */
    hdl_snaps *snaps;                            /* NULL: there are no sides */
    hdl_guessing *guessing;                      /* NULL: nobody guesses */
    uint32_t n_words;                            /* of a bitmap of slots */
} hdl_slots;
enum { HDL_STOP_MANY = -2 };

/* A page of a token log: block_tokens tokens. A sequence has a log while it waits and while its
 * known tokens are computed; then they lie with its blocks. */
typedef struct hdl_page {
    uint32_t next;
    uint32_t unused;
    uint64_t hash; /* of a full page and all before it */
} hdl_page;

/* Pages are handed out in sheets of neighbours, so that walking a log reads few lines; what is free
 * and promised is counted in sheets. */
typedef struct hdl_pages {
    uint32_t total, touched; /* pages; those beyond `touched` have never been used */
    uint32_t sheet_mask;     /* pages of a sheet - 1 */
    uint32_t n_free;
    uint32_t promised;  /* of the free ones, to admitted sequences */
    uint32_t free_head; /* first page of a free sheet, whose last page links to the next */
    hdl_page *list;
    hdl_token *tokens; /* [total, block_tokens] */
} hdl_pages;

/* Half a cache line. Held: ref > 0. Cached: ref == 0 and published. Else free. */
typedef struct hdl_block {
    uint32_t ref;    /* sequences that hold it, and pins */
    uint32_t link;   /* free: the next in the free list; cached: its place in kv.lru, modulo 2^32 */
    uint64_t hash;   /* full: of its tokens and all before them */
    uint64_t parent; /* published: publication of the block before, 0 for the first */
    uint32_t version; /* publications so far: with the block's number, the name of the last one */
    uint16_t pins;
    bool published;
} hdl_block;

/* The prefix index: a hash table of cache lines, so that a search touches one of them and no block
 * but those whose hash agrees. An entry that finds its line full goes to the next. */
enum { HDL_LINE_ENTRIES = 7 };
typedef struct hdl_index_line {
    uint32_t tag[HDL_LINE_ENTRIES];
    uint32_t n_past;                  /* entries that went past this line because it was full */
    uint32_t block[HDL_LINE_ENTRIES]; /* NONE: no entry */
    uint32_t unused;
} hdl_index_line;

_Static_assert(sizeof(hdl_block) == 32 && sizeof(hdl_index_line) == 64, "parts of cache lines");

/* The blocks of one cache of a group; of the main one, the index of those whose content is known.
 * See side.h for the others. */
typedef struct hdl_kv {
    uint32_t total;
    uint32_t n_free;   /* ref 0, content unknown */
    uint32_t n_cached; /* ref 0, published: can be hit, or taken when no free one is left */
    uint32_t promised; /* of both, to admitted sequences */
    uint32_t n_pins;
    uint32_t free_head;
    uint32_t lru_mask;
    uint64_t lru_head, lru_tail; /* places of the oldest entry and of the next one to come */
    uint32_t
        *lru; /* [lru_mask + 1] ring by place; an entry whose block has another place is void */
    uint32_t n_lines;
    hdl_block *blocks;
    hdl_index_line *lines;
    hdl_token *tokens; /* [total, block_tokens] what blocks hold, as far as it is planned; of those
                          that decode, as far as it is flushed */
    /* Main: its sides. Side: the block that belongs to each of the main's, NONE: none. */
    uint32_t n_sides;
    struct hdl_kv *sides;
    uint32_t *of_main;
} hdl_kv;

/* One stay of a sequence in the running set: over as soon as the generations differ. */
typedef struct hdl_stay {
    uint32_t seq, gen;
} hdl_stay;

/* What is looked up in rounds, each asking for what the next one reads, is taken so many at a time:
 * what they ask for fits the first level of cache. */
enum { HDL_ROUND = 32 };

/* So many entries ahead of the one at work, a loop over what lies all over memory asks for it. */
enum { HDL_LOOK_AHEAD = 12 };

typedef struct hdl_run {
    hdl_stay stay;
    uint64_t key; /* priority, then serial: who yields to whom */
} hdl_run;

typedef struct hdl_plan_buf {
    hdl_plan plan; /* what the shell sees; its arrays are those below */
    hdl_plan_row *rows;
    hdl_plan_open *opens;
    hdl_plan_grant *grants;
    uint32_t *closes;
    hdl_plan_copy *copies;
    hdl_token *tokens;
    uint32_t *blocks;
    hdl_stay *who;       /* of the rows behind those that decode: with guesses, and of prefills */
    uint64_t *decodes;   /* bitmap of the slots that decode; their rows stand first, in order */
    uint64_t *live;      /* of them, those whose sequence has not left since: the others are void */
    uint32_t n_decodes;  /* rows of one token, of those that decode */
    uint32_t n_guesses;  /* in all rows */
    uint32_t n_computed; /* tokens of all rows, guesses included */
} hdl_plan_buf;

typedef struct hdl_group {
    bool up;
    uint64_t epoch;     /* of the current or the last life */
    uint64_t next_step; /* number of the next plan */
    uint32_t in_flight;
    uint64_t busy_since_us; /* the worker computes the oldest plan in flight since then */
    uint64_t token_ns;      /* of a step's prompt tokens, measured; 0: not yet */
    bool guesses; /* the newest plan in flight does: no other is made before its answer */
    uint32_t max_len;
    uint32_t n_live;         /* running sequences */
    uint32_t n_prefill;      /* of them in PREFILL */
    uint64_t prefill_tokens; /* known tokens of those that are not planned */
    uint32_t n_run;
    hdl_run *run; /* by key, with leftovers of those that left */
    uint32_t n_prefills;
    hdl_run *prefills; /* those of them in PREFILL, by key, with leftovers too */
    uint64_t *decode;  /* bitmap of slots: who gets a row in the next plan */
    uint32_t n_closes;
    uint32_t *closes;    /* slots to close with the next plan */
    hdl_kv kv;           /* the main cache */
    uint32_t row_tokens; /* longest row of a prefill */
    hdl_kv sides[HDL_CACHE_GROUPS_MAX];
    uint32_t side_cap[HDL_CACHE_GROUPS_MAX]; /* blocks of a side that a sequence holds at most */
    hdl_plan_buf buf[HDL_PLANS_IN_FLIGHT];
} hdl_group;

/* Which of the model's cache groups is what. */
typedef struct hdl_caches {
    uint32_t main;    /* the first that keeps every position; NONE: a ghost, see side.h */
    uint32_t n_twins; /* others that do: the same block numbers serve them all */
    uint32_t twins[HDL_CACHE_GROUPS_MAX];
    uint32_t n_sides;
    uint32_t sides[HDL_CACHE_GROUPS_MAX];
    hdl_cache_rule rules[HDL_CACHE_GROUPS_MAX]; /* of the sides */
    bool has_states;
    bool is_plain; /* one cache group, the main one */
} hdl_caches;

/* A pin that ends with the plan being built. */
typedef struct hdl_unpin {
    uint32_t side; /* NONE: the main cache */
    uint32_t block;
} hdl_unpin;

typedef struct hdl_list {
    uint32_t head, tail;
} hdl_list;

typedef struct hdl_tenant {
    uint64_t served; /* virtual time: tokens * HDL_SHARE_UNIT / weight */
    uint64_t per_token;
    uint32_t n_waiting; /* in fifo[] */
    hdl_list fifo[HDL_PRIORITIES];
} hdl_tenant;

typedef struct hdl_queue {
    uint32_t n_waiting;                /* WAITING and HELD */
    uint64_t tokens;                   /* known tokens of them */
    uint32_t n_listed[HDL_PRIORITIES]; /* WAITING, by priority */
    uint64_t served_floor; /* a tenant that comes back starts here: idleness earns nothing */
    hdl_list
        again[HDL_PRIORITIES]; /* preempted, requeued, and forks whose parent is ready: by serial */
    uint64_t busy[HDL_PRIORITIES][HDL_TENANTS_MAX / 64]; /* tenants with a non-empty fifo */
} hdl_queue;

typedef struct hdl_rate {
    uint64_t since_us, tokens, per_s;
} hdl_rate;

struct hdl_sched {
    hdl_sched_config config;
    hdl_caches caches;
    uint32_t bt_shift, bt_mask; /* block_tokens is a power of two */
    uint32_t flush_mask;        /* the smaller of block_tokens and HDL_FLUSH, - 1 */
    uint64_t now_us, serial;
    bool draining;
    int bug; /* HDL_PLANT_BUGS builds only; 0 otherwise */

    uint32_t n_seqs; /* capacity of seqs: max_seqs + waiting_max */
    uint32_t n_used;
    uint32_t seq_free; /* list through cold.next */
    uint32_t seq_touched;
    hdl_seq *seqs;
    hdl_seq_cold *cold;
    hdl_slots slots;
    uint32_t map_mask;
    uint32_t *map;       /* request id -> sequence */
    uint32_t *map_next;  /* [n_seqs] the next in the same bucket */
    hdl_token *stop_ids; /* [n_seqs, HDL_STOP_IDS_MAX] */

    uint32_t n_slots_free;
    uint32_t *slots_free;

    uint32_t n_deadlines;
    uint32_t *deadlines; /* heap of sequences by (deadline, serial) */
    uint64_t timer_us;   /* asked for by the last TIMER */

    hdl_pages pages;
    hdl_queue queue;
    hdl_tenant *tenants;
    hdl_group *groups;
    uint32_t *gives; /* scratch of one plan: tokens given to each prefill */
    uint32_t *order; /* scratch: prefills by what remains */
    uint32_t *needy; /* scratch: slots that need a block */
    uint32_t n_unpins;
    hdl_unpin *unpins;        /* scratch: what the plan's copies read and write */
    bool is_told;             /* a replay: guesses are told */
    hdl_told told;            /* ... those of the event at work */
    hdl_plan_row *guess_rows; /* scratch: rows with guesses */
    hdl_token *guess_tokens;  /* ... and their tokens */
    uint32_t n_filled, n_due, n_ending;
    uint32_t *filled;   /* scratch of one result: slots whose prefill has got on */
    uint32_t *due;      /* ... whose newest token is the first of a block, or of HDL_FLUSH */
    uint32_t *ending;   /* ... and those that it may have ended */
    uint32_t *table[2]; /* scratch: the blocks of one sequence */
    hdl_rate rate;
    hdl_sched_stats stats;

    uint32_t n_actions, actions_max;
    hdl_action *actions;
    hdl_new_token *emits; /* what EMIT actions point to */
};

static inline uint32_t hdl_run_max(const hdl_sched_config *config) { return 3 * config->max_seqs; }

static inline uint32_t hdl_page_count(const hdl_sched *s, uint32_t tokens)
{
    return (tokens + s->bt_mask) >> s->bt_shift;
}

/* A state is changed in place by every row, and cannot be taken back. */
static inline bool hdl_may_guess(const hdl_sched *s)
{
    return s->config.guess_tokens > 0 && !s->caches.has_states;
}

/* Entries of a plan's blocks[]. */
static inline uint32_t hdl_plan_blocks_max(const hdl_sched *s)
{
    const uint32_t once =
        s->config.step_tokens + 2 * s->config.max_seqs + hdl_page_count(s, s->config.max_len);
    return once * (1 + s->caches.n_sides);
}

static inline hdl_token *hdl_page_tokens(const hdl_sched *s, uint32_t page)
{
    return s->pages.tokens + ((size_t)page << s->bt_shift);
}

static inline uint32_t hdl_seq_idx(const hdl_sched *s, const hdl_seq *seq)
{
    return (uint32_t)(seq - s->seqs);
}

static inline hdl_seq_cold *hdl_seq_rest(const hdl_sched *s, const hdl_seq *seq)
{
    return &s->cold[hdl_seq_idx(s, seq)];
}

static inline hdl_seq *hdl_slot_seq(const hdl_sched *s, uint32_t slot)
{
    return &s->seqs[s->slots.seq[slot]];
}

/* The blocks of a running sequence. */
static inline uint32_t *hdl_slot_table(const hdl_sched *s, uint32_t slot)
{
    return s->slots.tables + (size_t)slot * s->slots.table_len;
}

/* What the result of a step brought to slot 0; to others, HDL_TILE further on for each. */
static inline hdl_token *hdl_recent(const hdl_sched *s, uint32_t step)
{
    const uint32_t tile = step % HDL_RECENT / HDL_TILE;
    return s->slots.recent + (size_t)tile * s->config.max_seqs * HDL_TILE + step % HDL_TILE;
}

static inline hdl_token *hdl_block_tokens(const hdl_sched *s, const hdl_kv *kv, uint32_t block)
{
    return kv->tokens + ((size_t)block << s->bt_shift);
}

static inline uint32_t hdl_seq_len(const hdl_sched *s, const hdl_seq *seq)
{
    return seq->state == HDL_SEQ_DECODE ? s->slots.len[seq->slot] : seq->len;
}

static inline bool hdl_bit(const uint64_t *bits, uint32_t at)
{
    return bits[at / 64] >> (at % 64) & 1;
}

/* How many bits from this one on are set. */
static inline uint32_t hdl_run_of(uint64_t bits, uint32_t from)
{
    const uint64_t clear = ~(bits >> from);
    return clear ? (uint32_t)__builtin_ctzll(clear) : 64;
}

static inline void hdl_bit_clear(uint64_t *bits, uint32_t at)
{
    bits[at / 64] &= ~(1ull << (at % 64));
}

static inline hdl_token *hdl_seq_stops(const hdl_sched *s, uint32_t idx)
{
    return s->stop_ids + (size_t)idx * HDL_STOP_IDS_MAX;
}

static inline bool hdl_seq_runs(const hdl_seq *seq) { return seq->state >= HDL_SEQ_PREFILL; }

/* The sequence of a row, or NULL when it has left since. */
static inline hdl_seq *hdl_row_seq(const hdl_sched *s, const hdl_plan_buf *buf, uint32_t r)
{
    if (r < buf->n_decodes)
        return hdl_bit(buf->live, buf->rows[r].slot) ? hdl_slot_seq(s, buf->rows[r].slot) : NULL;
    const hdl_stay *who = &buf->who[r - buf->n_decodes];
    return s->seqs[who->seq].gen == who->gen ? &s->seqs[who->seq] : NULL;
}

/* The next free place in the list of actions; its size covers the most that one event can cause. */
static inline hdl_action *hdl_act(hdl_sched *s, hdl_action_kind kind)
{
    HDL_ASSERT_LT(s->n_actions, s->actions_max);
    hdl_action *a = &s->actions[s->n_actions++];
    a->kind = kind;
    return a;
}

static inline void hdl_trace_act(hdl_sched *s, hdl_trace what, uint64_t a, uint64_t b)
{
    hdl_action *act = hdl_act(s, HDL_ACT_TRACE);
    act->trace.what = what;
    act->trace.a = a;
    act->trace.b = b;
}
