/* SPDX-License-Identifier: Apache-2.0 */
/* The deterministic simulator of the scheduler core: one world per seed, driven on a virtual clock.
 *
 * env.c draws the circumstances from the seed, oracle.c knows what every request must answer,
 * worker.c plays the workers with a KV cache of prefix hashes, client.c judges every action,
 * fault.c makes trouble, world.c turns the crank. Nothing here reads a clock or allocates by
 * chance: the same seed gives the same run. One thread. */
#pragma once

#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/rng.h"
#include "scheduler/core/sched.h"

enum { SIM_REQS_MAX = 400, SIM_GROUPS_MAX = 4, SIM_TENANTS_MAX = 5, SIM_LEN_MAX = 256 };

/* What this seed is about: a few dozen draws, most of them often off, so that every combination
 * turns up. */
typedef struct sim_env {
    hdl_sched_config config;
    uint32_t n_blocks[HDL_CACHE_GROUPS_MAX]; /* of a group at its first RANK_UP */
    uint32_t n_reqs;
    uint32_t vocab;
    uint32_t n_families; /* of shared prefixes */
    uint32_t prompt_max, new_max;
    uint32_t gap_us;  /* mean time between arrivals */
    uint32_t burst;   /* requests that arrive together */
    uint32_t step_us; /* mean duration of a step */
    uint32_t n_tenants, n_priorities, n_salts;
    /* chances in permille */
    uint32_t p_fork, p_turn, p_cancel, p_deadline, p_score, p_logits, p_no_cache, p_history, p_stop;
    uint32_t p_copy; /* a token is the one `copy_back` before it, so that guesses come true */
    uint32_t copy_back;
    uint32_t p_slow, p_lost, p_dup, p_bad, p_rank_lost, p_jump, p_shrink, p_huge;
    bool drain;
    bool hog;          /* tenant 0 floods the queue */
    uint64_t quiet_us; /* no faults from here on */
} sim_env;

typedef enum sim_end { SIM_LIVE, SIM_DONE, SIM_REFUSED } sim_end;

typedef struct sim_req {
    hdl_ev_submit submit;
    hdl_token tokens[SIM_LEN_MAX + 1]; /* prompt, then what the oracle says */
    uint64_t hash[SIM_LEN_MAX + 2];    /* of the first n tokens */
    uint64_t seed;
    uint32_t n_known; /* tokens whose hash is computed */
    bool submitted, cancelled, opened, admitted;
    sim_end end;
    uint32_t n_emitted;
    uint32_t limit; /* of the group that it was last opened in */
    bool in_fifo;   /* waits, never admitted: the fairness checker's view */
    bool stopped;   /* emitted a stop id: DONE must be next */
} sim_req;

typedef struct sim_slot {
    bool open;
    uint32_t req;   /* index */
    hdl_token last; /* sampled last */
    /* Entries [first, end) of its table in each cache group. */
    uint32_t first[HDL_CACHE_GROUPS_MAX], end[HDL_CACHE_GROUPS_MAX];
    uint32_t table[HDL_CACHE_GROUPS_MAX][SIM_LEN_MAX + 1];
} sim_slot;

typedef struct sim_flight {
    const hdl_plan *plan; /* the core's own arrays, read when the step is executed */
    uint64_t step, epoch;
} sim_flight;

typedef struct sim_group {
    bool up;
    uint64_t epoch, last_step;
    uint32_t n_blocks[HDL_CACHE_GROUPS_MAX], max_len;
    uint64_t answer_us; /* when the last result will come; they come in order */
    sim_slot *slots;    /* [max_seqs] */
    /* Of each cache group [blocks * block_tokens] hash of the prefix up to and with that token, 0:
     * never written; of states [blocks], of the prefix that the state stands after. */
    uint64_t *kv[HDL_CACHE_GROUPS_MAX];
    uint64_t *stamp[HDL_CACHE_GROUPS_MAX]; /* of each: 2 * global step read, + 1 written */
    uint32_t n_flight;
    sim_flight flight[HDL_PLANS_IN_FLIGHT];
    hdl_result_row *last_rows; /* of the last result, for duplicates */
    uint32_t n_last_rows;
} sim_group;

typedef enum sim_kind {
    SIM_SUBMIT,
    SIM_CANCEL,
    SIM_ANSWER,
    SIM_DUP,
    SIM_RANK_LOST,
    SIM_RANK_UP,
    SIM_TICK,
    SIM_DRAIN,
    SIM_STALE
} sim_kind;

typedef struct sim_event {
    uint64_t at_us, order;
    sim_kind kind;
    uint32_t a; /* request or group */
    uint64_t b; /* epoch */
} sim_event;

typedef struct sim_world {
    uint64_t seed;
    hdl_rng rng;
    sim_env env;
    hdl_sched *sched;
    void *mem;
    size_t mem_bytes;
    uint64_t now_us, order, global_step;
    int64_t skew_us; /* what the core's clock is off by */
    sim_req *reqs;
    uint32_t n_live, n_submitted, n_to_submit;
    sim_group groups[SIM_GROUPS_MAX];
    sim_event *heap;
    uint32_t n_heap, heap_max;
    bool draining, drained;
    uint64_t core_us;   /* the latest time that the core was told */
    uint32_t len_limit; /* longest sequence of the groups that are up, or the last such */
    uint64_t digest;
    uint64_t n_events, n_checks;
    uint64_t served[SIM_TENANTS_MAX], floor; /* the fairness checker's own books */
    uint32_t tenant_waiting[SIM_TENANTS_MAX];
    int bug;                /* planted in the core: hdl_bug */
    bool canary;            /* flip one bit of the KV once */
    unsigned char *journal; /* every event of this seed, when it is to be replayed */
    size_t journal_bytes, journal_max;
    uint64_t n_fed;
    bool records;
    hdl_result_row *rows; /* scratch of one result */
    jmp_buf fail_at;
    char why[512];
} sim_world;

_Noreturn void sim_fail(sim_world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
#define SIM_CHECK(w, cond, ...)                                                                    \
    do {                                                                                           \
        if (!(cond))                                                                               \
            sim_fail((w), __VA_ARGS__);                                                            \
    } while (0)

/* env.c */
void sim_env_draw(sim_world *w);
/* oracle.c */
void sim_oracle_make(sim_world *w, uint32_t idx);       /* draws request idx */
uint64_t sim_oracle_hash(sim_req *r, uint32_t n);       /* of its first n tokens */
uint64_t sim_hash_next(uint64_t hash, hdl_token token); /* of one token more */
hdl_token sim_oracle_token(const sim_world *w, sim_req *r, uint32_t pos);
uint32_t sim_req_idx(sim_world *w, hdl_req_id id);
/* worker.c */
size_t sim_cells(const sim_world *w, uint32_t cache); /* of a cache group's memory */
void sim_worker_reset(sim_world *w, uint32_t group);
uint32_t sim_worker_run(sim_world *w, uint32_t group,
                        const hdl_plan *plan); /* returns rows in w->rows */
/* client.c */
void sim_client_submit(sim_world *w, uint32_t idx);
void sim_client_take(sim_world *w, const hdl_actions *actions, const hdl_event *ev);
/* fault.c */
void sim_fault_arrange(sim_world *w);
void sim_fault_plan(sim_world *w, uint32_t group,
                    const hdl_plan *plan); /* decides when the answer comes, if at all */
void sim_fault_deform(sim_world *w, uint32_t *n_rows); /* makes a result wrong */
/* world.c */
void sim_push(sim_world *w, uint64_t at_us, sim_kind kind, uint32_t a, uint64_t b);
bool sim_quiet(const sim_world *w);
void sim_count_limit(sim_world *w); /* sets len_limit */
/* Replays the recorded events of the run and compares; NULL or what is wrong. */
const char *sim_replay(sim_world *w);
/* NULL when the seed passes, else why not. With w->records its events are kept for sim_replay. */
const char *sim_run(sim_world *w, uint64_t seed);
void sim_world_free(sim_world *w);
