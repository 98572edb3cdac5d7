/* SPDX-License-Identifier: Apache-2.0 */
/* One HTTP connection and the thread that owns it.
 *
 * A connection reads one request, has it answered, reads the next: never two at once, so that
 * answers cannot be mixed up. Bytes of a pipelined request wait unread or in `ahead`. Everything
 * written goes to `out` and leaves in one send at the end of the loop's turn; a client that does
 * not take it is dropped (hdl_conn_flush). A client that goes away, also by closing only its
 * sending half, ends what runs for it at once. Connections die at the end of a turn, so that
 * callers up the stack may still look at them. Owner: one front thread, in every field. */
#pragma once

#include <stdatomic.h>

#include "base/loop.h"
#include "base/pool.h"
#include "base/ring.h"
#include "base/thread.h"
#include "scheduler/front/auth.h"
#include "scheduler/front/front.h"
#include "scheduler/front/http.h"
#include "scheduler/front/tls.h"

typedef struct hdl_conn hdl_conn;
typedef struct hdl_call hdl_call;
typedef struct hdl_job hdl_job;
typedef struct hdl_text_thread hdl_text_thread;
typedef struct hdl_route hdl_route;
typedef struct hdl_front_thread hdl_front_thread;

typedef enum hdl_conn_phase {
    HDL_CONN_READING,   /* a request, or waiting for one */
    HDL_CONN_ANSWERING, /* a call runs; its answer comes later or comes in pieces */
    HDL_CONN_CLOSING,   /* the last answer is in out */
    HDL_CONN_LINGERING, /* all sent and our side shut: reads away what the client still sends */
    HDL_CONN_DEAD       /* to be freed at the end of the turn */
} hdl_conn_phase;

enum { HDL_REQUEST_ID_BYTES = 24, HDL_JOBS_BACK = 2048 /* jobs that may be on their way home */ };

struct hdl_conn {
    hdl_front_thread *thread;
    hdl_conn *prev, *next; /* all of the thread */
    hdl_conn *next_dirty;  /* to be flushed at the end of the turn */
    hdl_conn *idle_prev, *idle_next;
    bool dirty, idle; /* idle: in the thread's list of those between two requests */
    hdl_conn_phase phase;
    hdl_watch watch;
    hdl_timer timer;
    hdl_tls_conn *tls; /* NULL: plain */
    hdl_http http;
    hdl_buf ahead; /* read, but belonging to the next request */
    hdl_buf out;
    uint64_t body_bytes; /* of the request's body, as counted in the front's body_bytes */
    bool saw_head;       /* route and head checks were done for this request */
    bool told_continue;
    bool saw_eof;            /* the client has shut its sending side */
    bool keep_alive;         /* after this answer */
    bool streaming;          /* out is a stream: the backlog limit of a stream holds */
    bool chunked;            /* of the answer */
    size_t chunk_at;         /* in out: where the open chunk begins; SIZE_MAX: none */
    hdl_time_us deadline_us; /* of the phase; 0: none */
    hdl_time_us blocked_us;  /* since then the client takes nothing of out; 0: it does */
    hdl_time_us wrote_us;    /* last time that something was put into out */
    hdl_time_us timer_due_us;
    const hdl_route *route;
    hdl_call *call; /* owned; ANSWERING */
    hdl_job *job;   /* ANSWERING, before there is a call: on the text thread */
    hdl_tenant tenant;
    hdl_time_us arrived_us; /* first byte of the request */
    char request_id[HDL_REQUEST_ID_BYTES];
};

struct hdl_front_thread {
    hdl_front *front;
    uint32_t idx;
    hdl_loop *loop; /* owned */
    hdl_thread thread;
    hdl_ring *emits;    /* owned; hdl_emit, from the engine */
    hdl_ring *handed;   /* owned; int, accepted sockets from thread 0 */
    hdl_ring *finished; /* owned; hdl_job *, from the text thread */
    hdl_conn *conns, *dirty, *dead;
    hdl_conn *idle_first, *idle_last; /* the first has been idle longest */
    hdl_pool choices;                 /* of hdl_choice *: what hdl_sink.user refers to */
    void *choices_mem;
    hdl_tok_scratch *scratch; /* NULL until the first text is tokenised */
    hdl_buf piece;            /* scratch of the token path: text of one token */
    uint64_t id_key, id_count;
    uint64_t date_s;
    char date[32];
    unsigned char read_buf[65536];
};

struct hdl_front {
    hdl_front_opts opts;
    hdl_front_model model_copy;
    _Atomic(const hdl_front_model *) model; /* NULL until told */
    hdl_tls *tls;                           /* NULL: plain */
    hdl_keys *keys;                         /* NULL: no key needed */
    int listen_fd;
    uint16_t port;
    hdl_watch listen_watch; /* of thread 0 */
    hdl_timer listen_timer; /* accepts again after a lack of descriptors */
    uint32_t next_thread;
    _Atomic uint32_t n_conns;
    _Atomic uint32_t n_calls;
    _Atomic uint64_t body_bytes; /* held for requests that have no call yet */
    _Atomic bool draining;
    _Atomic bool was_ready; /* the engine has been ready at least once */
    bool stopped;           /* of the thread that stops and closes */
    hdl_text_thread *text;  /* owned */
    uint32_t n_threads;
    hdl_front_thread *threads; /* [n_threads] */
};

static inline const hdl_front_model *hdl_front_model_of(const hdl_conn *conn)
{
    return atomic_load_explicit(&conn->thread->front->model, memory_order_acquire);
}

/* conn.c: takes over fd, whatever happens. */
void hdl_conn_open(hdl_front_thread *thread, int fd);
/* The client is gone or must go: ends its call, frees everything at the end of the turn. */
void hdl_conn_kill(hdl_conn *conn);
/* Room for another: ends the connection that has waited longest for its next request. False: none
 * waits. */
bool hdl_conns_end_idle(hdl_front_thread *thread);
/* Something was put into out: it leaves at the end of the turn. */
void hdl_conn_touch(hdl_conn *conn);
/* The whole answer is in out. */
void hdl_conn_answered(hdl_conn *conn);
/* An answer will come from the call; NULL: from conn->job. */
void hdl_conn_answer_later(hdl_conn *conn, hdl_call *call);
/* The thread ends: what runs is told so, in one last send, and all connections go. */
void hdl_conns_end(hdl_front_thread *thread);
/* End of a turn. */
void hdl_conns_flush(hdl_front_thread *thread);
void hdl_conns_bury(hdl_front_thread *thread);
