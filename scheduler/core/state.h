/* SPDX-License-Identifier: Apache-2.0 */
/* What the state is made of: private to scheduler/core. Read it beside README.md, whose terms and
 * rules it uses.
 *
 * Everything lives in one block of memory and points by index, never by address, so that decisions
 * cannot depend on where the block lies. Per sequence there is one cache line of what a decode step
 * touches (hdl_seq) and one record of the rest (hdl_seq_cold). HDL_NONE_U32 is "no such thing" in
 * every index. */
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

/* What a decode step touches, in one cache line. */
typedef struct hdl_seq {
    uint64_t req;
    hdl_token stop[2]; /* the first two stop ids, -1 where there is none */
    uint32_t gen; /* changes whenever the sequence leaves the running set: what is in flight for it
                     then is void */
    uint32_t pos; /* first position that is not planned yet; len + 1 at most, with two samples in
                     flight */
    uint32_t
        acked; /* positions whose step is answered, kept up to date in prefill and on block ends */
    uint32_t len; /* known tokens: prompt and generated */
    uint32_t end; /* length at which it ends */
    uint32_t n_prompt;
    uint32_t slot;
    uint32_t cur;   /* page of position pos, as long as pos < len */
    uint32_t tail;  /* page of position len - 1 */
    uint32_t resv;  /* blocks promised by admission and not taken yet */
    uint8_t state;  /* hdl_seq_state */
    uint8_t n_stop; /* 0 when stop ids are ignored */
    uint8_t priority;
    uint16_t tenant;
    uint8_t group;
    uint8_t flags; /* HDL_SUBMIT_* */
} hdl_seq;

typedef struct hdl_seq_cold {
    uint64_t serial; /* order of arrival */
    uint64_t arrived_us, deadline_us, salt;
    uint64_t chain;      /* hash of the last full page and all before it */
    uint64_t pub_serial; /* of the last published block of its prefix: the parent of the next one */
    uint32_t pub_page;   /* next page to publish */
    uint32_t n_pub;      /* pages published, or found to be published by others */
    uint32_t head;       /* first page of the log */
    uint32_t n_pages;
    uint32_t log_resv; /* sheets promised by the first admission and not taken yet */
    uint32_t
        admitted_len; /* known tokens at the last admission: it may be preempted only beyond that */
    uint32_t max_new, n_cached, n_preempted;
    uint32_t next, prev; /* in its queue, or in its parent's list of forks */
    uint32_t map_next;   /* in the bucket of its request id */
    uint32_t heap_at;    /* place in the deadline heap */
    uint64_t fork_of;    /* request whose prompt it shares when that still runs; 0: none */
    uint32_t parent;     /* HELD: the sequence that it waits for */
    uint32_t forks;      /* first of those that are HELD for this one */
    uint32_t copy_src; /* pinned block whose content the first plan copies; NONE: nothing to copy */
    bool again;        /* waits in queue.again, not in its tenant's fifo */
    bool admitted; /* at least once: its growth in the log is promised, its tenant has paid for the
                      prompt */
    bool opened;   /* its slot is open on the workers */
    uint32_t n_stop_ids;
    hdl_token stop_ids[HDL_STOP_IDS_MAX];
} hdl_seq_cold;

/* The tokens generated last, those of positions p with p / HDL_RECENT == (len - 1) / HDL_RECENT. A
 * token is put here and goes to its page with its neighbours: writing each to its own page at once
 * touched as many memory pages as there are sequences, every step. */
enum { HDL_RECENT = 16 };
typedef struct hdl_recent {
    hdl_token at[HDL_RECENT];
} hdl_recent;

/* A page of a token log: block_tokens tokens, for one KV block. It says which block holds its KV
 * now, so the list of a sequence's pages is its block table. */
typedef struct hdl_page {
    uint32_t next;
    uint32_t block;
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

/* One cache line. */
typedef struct hdl_block {
    uint32_t ref; /* sequences that hold it, and pins */
    uint32_t pins;
    uint32_t next;   /* free and not cached: in the free list */
    uint32_t chain;  /* published: next in its hash bucket */
    uint64_t hash;   /* published: of its tokens and all before them */
    uint64_t serial; /* published: number of this publication; 0: not published */
    uint64_t parent; /* published: serial of the block before, 0 for the first */
    uint64_t given;  /* cached: its place in the order of eviction, from 1; 0: not cached */
    uint64_t unused[2];
} hdl_block;

_Static_assert(sizeof(hdl_seq) == 64 && sizeof(hdl_block) == 64, "one cache line");

/* The KV blocks of one group, and the index of those whose content is known. */
typedef struct hdl_kv {
    uint32_t total;
    uint32_t n_free;   /* ref 0, content unknown */
    uint32_t n_cached; /* ref 0, published: can be hit, or taken when no free one is left */
    uint32_t promised; /* of both, to admitted sequences */
    uint32_t free_head;
    uint32_t lru_mask;
    uint64_t lru_head, lru_tail; /* places of the oldest entry and of the next one to come */
    uint32_t
        *lru; /* [lru_mask + 1] ring by place; an entry whose block has another place is void */
    uint32_t bucket_mask;
    uint64_t serial; /* of the last publication */
    hdl_block *blocks;
    uint32_t *bucket;
    hdl_token *tokens; /* [total, block_tokens] of published blocks */
} hdl_kv;

/* One stay of a sequence in the running set: over as soon as the generations differ. */
typedef struct hdl_stay {
    uint32_t seq, gen;
} hdl_stay;

/* So many entries ahead of the one at work, a loop over sequences asks for the memory of the next.
 * Arrays that are looked ahead in are so much longer, and hold valid indices there. */
enum { HDL_LOOK_AHEAD = 24 };

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
    hdl_stay *who;       /* [n_rows] */
    uint32_t n_decodes;  /* rows of one token each that stand first */
    uint32_t n_computed; /* tokens of all rows */
} hdl_plan_buf;

typedef struct hdl_group {
    bool up;
    uint64_t epoch;     /* of the current or the last life */
    uint64_t next_step; /* number of the next plan */
    uint32_t in_flight;
    uint32_t max_len;
    uint32_t n_live;         /* running sequences */
    uint32_t n_prefill;      /* of them in PREFILL */
    uint64_t prefill_tokens; /* known tokens of those that are not planned */
    uint32_t n_run;
    hdl_run *run; /* by (priority, serial), with leftovers of those that left */
    uint32_t n_closes;
    uint32_t *closes; /* slots to close with the next plan */
    hdl_kv kv;
    hdl_plan_buf buf[HDL_PLANS_IN_FLIGHT];
} hdl_group;

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
    uint32_t n_waiting;    /* WAITING and HELD */
    uint64_t tokens;       /* known tokens of them */
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
    uint32_t bt_shift, bt_mask; /* block_tokens is a power of two */
    uint32_t flush_mask;        /* the smaller of block_tokens and HDL_RECENT, - 1 */
    uint64_t now_us, serial;
    bool draining;
    int bug; /* HDL_PLANT_BUGS builds only; 0 otherwise */

    uint32_t n_seqs; /* capacity of seqs: max_seqs + waiting_max */
    uint32_t n_used;
    uint32_t seq_free; /* list through cold.next */
    uint32_t seq_touched;
    hdl_seq *seqs;
    hdl_seq_cold *cold;
    hdl_recent *recent;
    uint32_t map_mask;
    uint32_t *map; /* request id -> sequence */

    uint32_t n_slots_free;
    uint32_t *slots_free;

    uint32_t n_deadlines;
    uint32_t *deadlines; /* heap of sequences by (deadline, serial) */
    uint64_t timer_us;   /* asked for by the last TIMER */

    hdl_pages pages;
    hdl_queue queue;
    hdl_tenant *tenants;
    hdl_group *groups;
    hdl_stay *prefills; /* scratch of one plan */
    uint32_t *gives;    /* scratch: tokens given to each of them */
    uint32_t *order;    /* scratch */
    uint32_t n_filled, n_due, n_ending;
    uint32_t *filled; /* scratch of one result: sequences whose prefill has got on */
    uint32_t *due; /* scratch of one result: sequences whose newest token stands on a page's edge */
    uint32_t *ending;   /* ... and those that it may have ended */
    uint32_t *table[2]; /* scratch: the blocks of one sequence */
    hdl_rate rate;
    hdl_sched_stats stats;

    uint32_t n_actions, actions_max;
    hdl_action *actions;
};

static inline uint32_t hdl_run_max(const hdl_sched_config *config) { return 3 * config->max_seqs; }

static inline uint32_t hdl_page_count(const hdl_sched *s, uint32_t tokens)
{
    return (tokens + s->bt_mask) >> s->bt_shift;
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

static inline bool hdl_seq_runs(const hdl_seq *seq) { return seq->state >= HDL_SEQ_PREFILL; }

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
