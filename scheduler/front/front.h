/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP side of the scheduler: OpenAI's API, probes and metrics in front of a hdl_engine.
 *
 * hdl_front_open binds, listens and starts its threads at once, before any model is ready: probes
 * answer, /readyz says 503 with the reason until the engine reports ready. Each thread has a loop
 * of its own and owns its connections, their requests and one ring on which the engine's emits
 * arrive, so nothing here takes a lock. Thread 0 also accepts and deals connections out in turn.
 *
 * All functions are called from one thread (main); none of them is a loop thread. What the options
 * point to is borrowed until hdl_front_close. Not here: queueing, admission by KV (scheduler/core),
 * tokenising (scheduler/text). */
#pragma once

#include <heddle/request.h>

#include "scheduler/text/template.h"
#include "scheduler/text/tokenizer.h"

typedef struct hdl_front hdl_front; /* opaque; heap, cold */

/* What the checkpoint's generation_config.json suggests. A NULL pointer in the model, or a
 * temperature below 0, means OpenAI's: temperature 1, nothing filtered. */
typedef struct hdl_front_sampling {
    float temperature, top_p, min_p, repetition_penalty;
    int32_t top_k;
} hdl_front_sampling;

/* Of a model folder; without the file, or for a model in one file, OpenAI's defaults. */
hdl_err hdl_front_sampling_load(hdl_front_sampling *out, const char *model_dir,
                                hdl_errmsg *why) HDL_MUST_CHECK;

/* What is served. Known after the tokenizer is read, which may be after the socket listens. */
typedef struct hdl_front_model {
    const hdl_engine *engine;
    const hdl_tokenizer *tokenizer; /* NULL: token ids only, no text, no chat */
    const hdl_template *chat;       /* NULL: the model has no chat template */
    const char *name;               /* what /v1/models lists and answers carry */
    const char *const *aliases;     /* [n_aliases] names that are taken for it, too */
    uint32_t n_aliases;
    const char *system_fingerprint; /* model, numerics, version; NULL: "heddle-<version>" */
    const hdl_front_sampling *sampling;
} hdl_front_model;

typedef struct hdl_front_opts {
    const char *host;             /* address or name; NULL: 127.0.0.1 */
    uint16_t port;                /* 0: any free one */
    uint32_t n_threads;           /* 0: 1 */
    uint32_t max_connections;     /* 0: 8192; beyond, 503 and close */
    const hdl_front_model *model; /* NULL: told later by hdl_front_set_model */

    const char *tls_cert, *tls_key; /* PEM paths; both or neither */
    const char *api_key_file;       /* NULL or "": no key needed */
    bool metrics_need_key;          /* /metrics asks for a key, too */

    /* 0: the default of heddle/config.h. Times in microseconds. */
    uint64_t body_bytes_max;
    uint64_t header_timeout_us, body_timeout_us, idle_timeout_us;
    uint64_t write_timeout_us;   /* a client that takes nothing for so long is dropped; 0: 60 s */
    uint64_t ping_us;            /* silence after which a stream gets a comment */
    uint64_t request_timeout_us; /* of a whole request; 0: none */
    uint32_t emit_ring;          /* emits that may be on their way to a thread; 0: 16384 */
} hdl_front_opts;

/* Fills every field that is 0 with its default; open does it, too. */
void hdl_front_opts_defaults(hdl_front_opts *opts);

hdl_err hdl_front_open(hdl_front **out, const hdl_front_opts *opts, hdl_errmsg *why) HDL_MUST_CHECK;
/* Once, when open was not told. */
void hdl_front_set_model(hdl_front *front, const hdl_front_model *model);
/* The port that is listened on. */
uint16_t hdl_front_port(const hdl_front *front);
/* From now on /readyz is 503, new API calls are answered 503, answers close their connection. */
void hdl_front_drain(hdl_front *front);
/* API calls whose answer has not been handed over to the kernel. Any thread. */
uint32_t hdl_front_busy(const hdl_front *front);
/* Reads certificate and API keys anew (SIGHUP, changed files). On error the old ones stay. */
hdl_err hdl_front_reload(hdl_front *front, hdl_errmsg *why) HDL_MUST_CHECK;
/* The end has two halves with the engine's own end between them: after stop nothing here calls the
 * engine any more (what ran was cancelled, all connections are closed), but its last emits may
 * still arrive in rings that close takes away. NULL is allowed. */
void hdl_front_stop(hdl_front *front);
void hdl_front_close(hdl_front *front);
