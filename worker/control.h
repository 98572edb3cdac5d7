/* SPDX-License-Identifier: Apache-2.0 */
/* The worker's process shell: it dials the scheduler, does what it is told, and dials again when
 * the scheduler is gone.
 *
 * Three threads. Main owns the hdl_control and its loop: dialling, heartbeats, signals, the end.
 * gRPC's thread decodes messages into slots and hands them to the step thread through a ring; an
 * Abort it carries out itself. The step thread owns the hdl_worker and everything slow: loading,
 * joining, steps; it answers on the stream that asked. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include <heddle/config.h>

#include "base/loop.h"
#include "base/notify.h"
#include "base/pulse.h"
#include "base/ring.h"
#include "base/thread.h"
#include "proto/rpc.h"
#include "proto/wire.h"
#include "worker/worker.h"

enum {
    CONTROL_SLOTS = 8, /* messages that the step thread has not dealt with; a polite scheduler
                          needs 2 steps, a join and an assignment */
};

typedef struct hdl_control_slot {
    atomic_bool busy; /* taken by the rpc thread, released by the step thread */
    hdl_arena arena;
    hdl_sched_msg msg;
    hdl_rpc_stream *stream; /* pinned while busy: where the answer goes */
} hdl_control_slot;

/* One dialled connection. */
typedef struct hdl_session {
    struct hdl_control *control;
    hdl_rpc_client *client;
    hdl_rpc_stream *stream; /* pinned */
    hdl_time_us dialled_us;
    _Atomic uint64_t seen_us; /* when the scheduler last said anything; first dialled_us */
    atomic_bool closed;       /* set by the rpc thread, last of all */
    bool dismissed;           /* Goodbye came; with closed */
    hdl_err err;              /* with closed: how it ended */
    char text[HDL_WIRE_TEXT_BYTES];
} hdl_session;

typedef struct hdl_control {
    const hdl_config *config; /* borrowed */
    char token[HDL_WIRE_TEXT_BYTES];
    uint64_t instance; /* of this process's life */
    hdl_loop *loop;

    /* main */
    hdl_session *session; /* owned; NULL between dials */
    hdl_timer timer;
    hdl_time_us lost_us; /* when the last session ended; of the start at first */
    hdl_time_us backoff_us;
    hdl_time_us dial_at_us;
    uint64_t n_heartbeats;
    bool leaving;
    hdl_time_us leave_by_us;
    int exit_code;
    hdl_notify notify;
    hdl_pulse pulse;

    /* any thread */
    _Atomic uint64_t
        step_beat_us;      /* when the step thread last began, ended or got on with an order */
    atomic_bool step_busy; /* it is at an order */
    hdl_control_slot slots[CONTROL_SLOTS];
    void *slot_mem;   /* owned */
    hdl_ring *orders; /* of int, slot numbers for the step thread; -1: end */
    atomic_bool step_done, step_failed;
    _Atomic uint64_t heartbeat_us, hang_us; /* as the scheduler wants them */
    _Atomic uint64_t holds;                 /* key of what is loaded; 0: nothing */
    _Atomic uint64_t epoch;                 /* the last that the scheduler named */
    _Atomic uint64_t aborted;               /* epochs up to this one are over */
    _Atomic uint64_t busy_epoch; /* the epoch that the step thread is in a call for; 0: none */
    pthread_mutex_t worker_lock; /* of the pointer: abort against close */
    hdl_worker *worker;          /* owned by the step thread; written under the lock */

    /* step thread */
    hdl_thread step_thread;
    uint64_t coll_timeout_us;                   /* as assigned */
    uint64_t joined;                            /* epoch whose steps are taken; 0: none */
    hdl_rpc_stream *asked[HDL_PLANS_IN_FLIGHT]; /* pinned: who asked for the steps that the worker
                                                   is at, oldest first */
    uint32_t n_steps;
    hdl_wire_encoder encoder;
    hdl_rpc_stream *progress_stream; /* borrowed: during open */
    hdl_time_us progress_us;
} hdl_control;

/* Runs until a signal, the scheduler's goodbye or an error that cannot be mended; returns the exit
 * status. Signals are blocked by the caller. */
int hdl_control_run(const hdl_config *config);

/* control_step.c */
void hdl_control_step_main(void *control);
/* Ends the collectives of epochs up to `epoch`, now and until the step thread has noticed. Any
 * thread. */
void hdl_control_abort(hdl_control *control, uint64_t epoch);
