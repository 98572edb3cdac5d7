/* SPDX-License-Identifier: Apache-2.0 */
/* The scheduler core: queue, KV allocation and batching as a pure state machine
 * (include/heddle/event.h is its language).
 *
 * Request path 7 (decide) and 12 (absorb) of 14: event -> PLAN, EMIT, DONE, REJECT.
 *
 * Owner: whoever holds the memory; one thread (the brain's). The state lives in one block of the
 * caller's memory, sized at start from the configuration; nothing is allocated later. Same
 * configuration and same events give the same actions on every platform. It is not a client of
 * clocks, sockets or workers: the shell in scheduler/cluster is. */
#pragma once

#include <heddle/cache.h>
#include <heddle/event.h>

typedef struct hdl_sched hdl_sched;

typedef struct hdl_sched_config {
    uint32_t n_groups;       /* data-parallel groups, 1..HDL_GROUPS_MAX */
    uint32_t max_seqs;       /* running sequences, all groups together; also slots on a worker */
    uint32_t waiting_max;    /* requests in the queue; one more is BUSY */
    uint32_t step_tokens;    /* tokens of one step of one group */
    uint32_t max_row_tokens; /* longest prefill chunk of one sequence, <= step_tokens */
    uint32_t
        prefills_max; /* prefills in progress at once in a group, as long as they fill a step */
    uint32_t block_tokens; /* tokens of a KV block, a power of two */
    uint32_t n_caches;     /* cache groups of the model, 1..HDL_CACHE_GROUPS_MAX */
    hdl_cache_capacity caches[HDL_CACHE_GROUPS_MAX]; /* and the most blocks that a RANK_UP brings */
    uint32_t snapshot_tokens; /* states are kept at multiples of this besides at the prompt's end; a
                                 multiple of block_tokens, 0: not */
    uint32_t max_len;    /* the longest sequence (prompt and generated); RANK_UP may lower it */
    uint32_t log_tokens; /* room for the token logs of all requests; 0: enough for max_seqs */
    uint32_t watermark_permille; /* of a group's blocks, kept free by admission for sequences that
                                    grow */
    uint32_t n_tenants;          /* 1..HDL_TENANTS_MAX */
    uint32_t aging_us;           /* waiting so long is worth one priority level; 0: never */
    uint32_t step_us;      /* a step with sequences that decode takes prompt tokens for so long at
                              most, as measured; 0: up to step_tokens */
    uint32_t guess_tokens; /* guesses of a row at most, up to HDL_GUESSES_MAX; 0: none */
    uint32_t guess_step_tokens; /* tokens of a step, guesses included, beyond which none is made */
    bool prefix_cache;
    uint32_t tenant_weight[HDL_TENANTS_MAX]; /* share of a tenant, 1..1000; 0 reads as 1 */
} hdl_sched_config;

/* Blocks of a cache group, of all groups that are up. */
typedef struct hdl_cache_stats {
    uint64_t total, used, cached; /* cached: held by nobody, and of use to a prefix hit */
} hdl_cache_stats;

/* Everything that /metrics, top, the scaler and the tests read. Counters only grow; gauges are of
 * this moment. */
typedef struct hdl_sched_stats {
    /* gauges */
    uint32_t running, waiting, groups_up, plans_in_flight;
    uint32_t max_len;       /* longest sequence that is accepted now */
    uint64_t queued_tokens; /* known tokens of waiting requests */
    hdl_cache_stats caches[HDL_CACHE_GROUPS_MAX];
    uint64_t kv_tokens_total; /* tokens that the pages hold which keep every position */
    uint64_t
        kv_tokens_used; /* of them in use; the same share of them when another cache is fuller */
    uint64_t log_tokens_total, log_tokens_used;
    uint64_t tokens_per_s; /* measured, prefill and decode together */
    bool draining;
    /* counters */
    uint64_t submitted, accepted, rejected, finished[HDL_FINISH_COUNT];
    uint64_t plans, results, stale_results, bad_results;
    uint64_t prefill_tokens, decode_tokens, emitted_tokens;
    uint64_t prefix_query_tokens, prefix_hit_tokens, prefix_evictions;
    uint64_t preemptions, requeues, forks_shared, block_copies;
    uint64_t window_releases;     /* blocks given back because they left their window */
    uint64_t snapshots, restores; /* of states */
    uint64_t guess_rows, guesses,
        guesses_held; /* rows with guesses; guesses; those that came true */
} hdl_sched_stats;

/* Sensible values for a small machine; the caller changes what it knows better. */
void hdl_sched_config_default(hdl_sched_config *config);
/* NULL when the configuration can work, else what is wrong with it, for a person. */
const char *hdl_sched_config_problem(const hdl_sched_config *config);

/* Bytes of the state. The configuration must have no problem. */
size_t hdl_sched_bytes(const hdl_sched_config *config);
/* Builds the state in mem (64-byte aligned, hdl_sched_bytes(config) long). Pages of mem that no
 * request has needed yet are not touched, so a generous log pool costs address space only. */
hdl_sched *hdl_sched_init(void *mem, size_t bytes, const hdl_sched_config *config);

/* Makes a state of what was copied byte by byte from another one of the same configuration: it goes
 * on where that was. What the bytes say is believed. Nothing in a state but the ways to its own
 * arrays depends on where it lies. */
hdl_sched *hdl_sched_adopt(void *mem, size_t bytes, const hdl_sched_config *config);

/* For a replay, before each event: the guesses that the recorded core made in it, for its tokens
 * are not there to be looked up (journal.h). From then on the core makes none of its own. Borrowed
 * until the event is done. Words: slot, position of the row, number of guesses, guesses; again and
 * again. */
typedef struct hdl_told {
    const uint32_t *words;
    uint32_t n_words;
} hdl_told;
void hdl_sched_tell(hdl_sched *sched, hdl_told told);

/* One event in; the list of actions out, valid until the next call. */
void hdl_sched_step(hdl_sched *sched, const hdl_event *event, hdl_actions *actions);

/* True while a request of that id is live. */
bool hdl_sched_knows(const hdl_sched *sched, hdl_req_id req);

void hdl_sched_read_stats(const hdl_sched *sched, hdl_sched_stats *stats);

/* Continues the digest `seed` (0 at the start) over a list of actions: everything that was decided,
 * but no token's value and no text, so that a recorded run and its replay, whose tokens are
 * pseudonyms, agree. */
uint64_t hdl_sched_digest(uint64_t seed, const hdl_actions *actions);

/* Checks every invariant of the state, O(everything): for simulators and tests. NULL when all hold,
 * else the one that does not. */
const char *hdl_sched_check(const hdl_sched *sched);
