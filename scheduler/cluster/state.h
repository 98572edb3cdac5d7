/* SPDX-License-Identifier: Apache-2.0 */
/* Private to scheduler/cluster: the brain's state, and what its files know of each other.
 *
 * Two threads meet here. The rpc thread decodes what workers say into a connection's message slots
 * and pushes a hdl_note; the brain owns everything else. Fields that both touch are atomics and say
 * so. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include <heddle/config.h>
#include <heddle/request.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/loop.h"
#include "base/ring.h"
#include "base/run_dir.h"
#include "base/thread.h"
#include "proto/health.h"
#include "proto/rpc.h"
#include "proto/wire.h"
#include "scheduler/cluster/cluster.h"
#include "scheduler/cluster/scaler.h"
#include "scheduler/core/sched.h"
#include "scheduler/record/recorder.h"

enum {
    CONNS_MAX = 1024, /* worker connections, spares included */
    CONN_SLOTS = 8,   /* messages of a worker that the brain has not read; a polite one needs 4 */
    INBOX_COUNT = 4096,
    REFORM_DELAY_US = 50000,       /* after an error without a loss: the loss may be on its way */
    REFORM_DELAY_MAX_US = 5000000, /* doubled up to this while joining keeps failing */
    LATE_RETRY_US = 10000,         /* between attempts to deliver an end to a full sink */
    TURN_WAIT_US = 2000,           /* most time that a turn waits for full sinks */
};

/* -- connections ----------------------------------------------------------------------------- */

typedef struct hdl_slot {
    atomic_bool busy; /* taken by the rpc thread, released by the brain */
    hdl_arena arena;
    hdl_worker_msg msg;
} hdl_slot;

typedef enum hdl_conn_state {
    HDL_CONN_NEW,     /* has not said Hello */
    HDL_CONN_SPARE,   /* waits for a rank to be free */
    HDL_CONN_LOADING, /* has an assignment */
    HDL_CONN_READY,   /* holds its shard, in no epoch */
    HDL_CONN_JOINING, /* was told an epoch */
    HDL_CONN_JOINED,  /* takes steps */
    HDL_CONN_GONE,    /* counts as lost; its stream is ending */
} hdl_conn_state;

typedef struct hdl_conn {
    /* both threads */
    hdl_rpc_stream *stream;   /* pinned */
    _Atomic uint64_t seen_us; /* when it last said anything */
    _Atomic uint64_t bytes_done, bytes_total;
    _Atomic uint32_t step_us, coll_us; /* of its last step */
    _Atomic uint32_t number;           /* its rank over all groups; NONE: it has none yet */
    hdl_slot slots[CONN_SLOTS];
    void *slot_mem; /* owned */

    /* brain */
    hdl_conn_state state;
    struct hdl_conn *next, *prev; /* all of them */
    uint32_t group, rank;         /* of its assignment */
    hdl_msg_hello hello;
    hdl_msg_ready ready;
} hdl_conn;

/* -- groups ---------------------------------------------------------------------------------- */

typedef enum hdl_group_state { HDL_GROUP_FORMING, HDL_GROUP_JOINING, HDL_GROUP_UP } hdl_group_state;

/* What the brain must remember of a step on its way. */
typedef struct hdl_scored {
    uint32_t slot;
    hdl_req_id req;
} hdl_scored;

typedef struct hdl_flight {
    uint64_t step; /* 0: free */
    hdl_time_us sent_us;
    uint32_t n_scored;
    hdl_scored *scored; /* [max_seqs] owned; rows that return scores of the prompt */
} hdl_flight;

typedef struct hdl_cluster_group {
    hdl_group_state state;
    uint64_t epoch; /* current, or the last one */
    hdl_conn *ranks[HDL_RANKS_MAX];
    uint64_t tested[HDL_RANKS_MAX]; /* what passed the self-test as this rank, see registry.c */
    uint32_t n_joined, n_fails;     /* failed attempts in a row */
    bool self_test;                 /* of the epoch that forms */
    uint32_t n_doors;               /* ranks that listen, while a group over hosts forms */
    char doors[HDL_RANKS_MAX][HDL_WIRE_NAME_BYTES]; /* where; "": not yet */
    hdl_time_us form_at_us;                         /* not before */
    bool too_large;      /* a step could not be sent: the epoch is to end */
    hdl_time_us lost_us; /* when it ended; 0: tokens have flowed since */
    hdl_time_us last_result_us;
    hdl_flight flights[HDL_PLANS_IN_FLIGHT];
    hdl_req_id *slot_req; /* [max_seqs] owned; who holds a slot since its last open */
} hdl_cluster_group;

/* -- requests -------------------------------------------------------------------------------- */

typedef struct hdl_entry {
    hdl_request *req; /* owned; NULL: free */
    uint32_t n_emitted;
    hdl_time_us first_us, last_us;
    bool started; /* a worker has seen it */
    bool deaf;    /* its sink stayed full: nothing but the end is told */
} hdl_entry;

/* Requests by id: open addressing, linear probing, backward-shift deletion. */
typedef struct hdl_requests {
    hdl_entry *entries; /* [mask + 1] owned */
    uint32_t mask, count, max;
} hdl_requests;

hdl_err hdl_requests_init(hdl_requests *requests, uint32_t max) HDL_MUST_CHECK;
void hdl_requests_deinit(hdl_requests *requests); /* frees what is left, without a word */
/* NULL when full or the id is known. */
hdl_entry *hdl_requests_add(hdl_requests *requests, hdl_request *req);
hdl_entry *hdl_requests_find(const hdl_requests *requests, hdl_req_id id);
/* Forgets the entry; the request is the caller's. Moves other entries: pointers go stale. */
hdl_request *hdl_requests_remove(hdl_requests *requests, hdl_entry *entry);

/* The last emit of a request whose sink was full: it must arrive, later. */
typedef struct hdl_late {
    struct hdl_late *next;
    struct hdl_ring *ring;
    hdl_emit emit;
} hdl_late;

/* -- threads' messages ----------------------------------------------------------------------- */

typedef enum hdl_order_kind {
    HDL_ORDER_SUBMIT,
    HDL_ORDER_CANCEL,
    HDL_ORDER_DRAIN,
    HDL_ORDER_STOP
} hdl_order_kind;
typedef struct hdl_order {
    hdl_order_kind kind;
    hdl_req_id id;
    hdl_request *req; /* SUBMIT: owned by the order */
} hdl_order;

/* What the rpc thread tells the brain of a connection: the index of a filled slot, or one of these.
 */
enum { HDL_NOTE_CLOSED = -1, HDL_NOTE_OPENED = -2 };
typedef struct hdl_note {
    hdl_conn *conn;
    int slot;
} hdl_note;

/* -- the cluster ----------------------------------------------------------------------------- */

/* What is told at once when it changes: of ranks and groups, and whether there is anything to do
 * (the push that wakes a replica). Compared as bytes. */
typedef struct hdl_standing {
    uint64_t epochs; /* the sum of them */
    uint32_t n_present, n_ready, n_groups_up;
    uint8_t draining, in_trouble, has_requests, has_missed; /* 0 or 1 */
} hdl_standing;
_Static_assert(sizeof(hdl_standing) == 24, "no padding");

struct hdl_cluster {
    const hdl_config *config;   /* borrowed */
    uint32_t n_groups, n_ranks; /* ranks of one group */
    uint64_t instance;          /* of this scheduler's life; part of collective addresses */
    hdl_run_dir socket_dir;     /* made by us for a unix socket */
    char token[HDL_WIRE_TEXT_BYTES];

    /* any thread */
    atomic_ullong next_req;
    atomic_uint n_conns;
    hdl_ring *inbox; /* of hdl_order, MPSC */
    hdl_ring *notes; /* of hdl_note, SPSC from the rpc thread */
    pthread_mutex_t lock;
    hdl_engine_info info;      /* under lock */
    hdl_rank_status *statuses; /* [n_groups * n_ranks] under lock */

    hdl_rpc_server *server;
    hdl_health_service *health;
    hdl_scaler *scaler;
    size_t slot_bytes;

    /* brain */
    hdl_thread thread;
    hdl_loop *loop;
    hdl_timer tick; /* liveness, forming, the core's timer */
    hdl_time_us now_us;
    _Atomic uint64_t turned_us; /* the last turn, for hdl_cluster_turn_age_us */
    hdl_time_us core_timer_us;  /* when the core wants a TICK; 0: never */
    bool stopping, draining, any_deaf;
    hdl_conn *conns;
    hdl_cluster_group *groups; /* [n_groups] owned */
    hdl_requests requests;
    hdl_late *late; /* owned */
    uint64_t n_heartbeats;
    hdl_time_us heartbeat_at_us;
    char trouble[HDL_WIRE_TEXT_BYTES]; /* why the last worker failed to load; "" */
    hdl_wire_encoder encoder;
    const hdl_sampling **sampling_refs; /* [max_seqs] owned */
    void *sched_mem;                    /* owned */
    hdl_sched *sched;                   /* NULL until the first group has said what it holds */
    hdl_recorder *recorder;             /* owned; NULL: off */
    hdl_time_us flush_at_us;
    uint32_t max_seqs, step_tokens, block_tokens, max_len, vocab;
    uint32_t n_caches; /* cache groups of the model, and the most that a group brings of each */
    hdl_cache_capacity caches[HDL_CACHE_GROUPS_MAX];
    hdl_sched_stats stats, counted; /* counted: what the metrics have been told */
    hdl_standing published;
    hdl_time_us publish_at_us; /* not before, unless the standing changes */
    const hdl_result *result;  /* while its event is absorbed */
    hdl_time_us wait_left_us;  /* of TURN_WAIT_US */
};

/* brain.c: feeds one event to the core and does what it wants. */
void hdl_brain_main(void *cluster);
void hdl_brain_feed(hdl_cluster *c, hdl_event *event);
/* The core's memory, sized by what the first complete group holds. */
hdl_err hdl_brain_make_core(hdl_cluster *c, const hdl_cluster_group *group) HDL_MUST_CHECK;

/* answer.c: actions that concern a request. */
void hdl_answer_tokens(hdl_cluster *c, const hdl_act_emit *emit);
void hdl_answer_done(hdl_cluster *c, const hdl_act_done *done);
void hdl_answer_reject(hdl_cluster *c, const hdl_act_reject *reject);
/* Ends a request that the core does not know. */
void hdl_answer_error(hdl_cluster *c, hdl_request *req, hdl_err err, const char *text);
void hdl_answer_scores(hdl_cluster *c, const hdl_flight *flight, const hdl_result *result);
/* Sinks that were full: ends that are owed, requests that nobody reads. */
void hdl_answer_retry(hdl_cluster *c);

/* dispatch.c: plan out, result in. */
void hdl_dispatch_plan(hdl_cluster *c, const hdl_plan *plan);
void hdl_dispatch_result(hdl_cluster *c, hdl_conn *conn, const hdl_result *result);
bool hdl_dispatch_send(hdl_cluster *c, hdl_conn *conn, const hdl_sched_msg *msg);
void hdl_dispatch_forget(hdl_cluster_group *group);

/* registry.c: workers, ranks, epochs. */
void hdl_registry_message(hdl_cluster *c, hdl_conn *conn, const hdl_worker_msg *msg);
void hdl_registry_opened(hdl_cluster *c, hdl_conn *conn);
void hdl_registry_closed(hdl_cluster *c, hdl_conn *conn);
/* Lost workers, groups that may form now. Returns when it wants to be called again. */
hdl_time_us hdl_registry_tick(hdl_cluster *c);
void hdl_registry_end_epoch(hdl_cluster *c, uint32_t group, const char *reason);
void hdl_registry_drop(hdl_cluster *c, hdl_conn *conn, hdl_err err, const char *text);

/* meet.c: how the ranks of an epoch find each other: all that they must know goes out with Join. */
void hdl_meet_begin(hdl_cluster *c, uint32_t group);
void hdl_meet_listening(hdl_cluster *c, hdl_conn *conn, const hdl_msg_listening *listening);

/* control.c: the rpc thread's side. */
hdl_err hdl_control_open(hdl_cluster *c, hdl_errmsg *why) HDL_MUST_CHECK;
void hdl_conn_free(hdl_conn *conn);

/* status.c: what others see of the brain. */
void hdl_status_publish(hdl_cluster *c);
/* The same when it is time, or when the standing of the ranks has changed. Returns when it wants to
 * be called again, so that the last turn before a silence is published too. */
hdl_time_us hdl_status_turn(hdl_cluster *c);
