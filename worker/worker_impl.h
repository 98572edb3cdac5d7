/* SPDX-License-Identifier: Apache-2.0 */
/* Inside a worker. Private to worker.c, step.c and self_test.c; owner: the step thread, but for
 * `lock` and what it guards. */
#pragma once

#include <pthread.h>

#include "worker/batch.h"
#include "worker/device_sampler.h"
#include "worker/graph.h"
#include "worker/load/files.h"
#include "worker/sampler.h"
#include "worker/upload.h"
#include "worker/worker.h"

enum { HDL_LOGIT_ROWS = 64 /* rows of one pass through the head */ };

/* A step that was submitted and not collected yet. */
typedef struct hdl_pending {
    uint64_t step, start_us, coll_us; /* coll_us: in collectives of the host */
    uint32_t group, turn;
    uint32_t n_tasks; /* whose results are on their way from the device */
    bool probs;       /* log-probabilities come with them */
} hdl_pending;

struct hdl_worker {
    hdl_worker_opts opts; /* defaults filled in; pointers in it are not kept */
    hdl_model_desc desc;
    hdl_shard shard;
    hdl_files *files; /* owned: the embedding is read in place */
    hdl_device *device;
    hdl_model model;
    hdl_kvstore kv;
    hdl_forward forward;
    hdl_batch batch;
    hdl_upload upload;                 /* batch's arrays where ops read them */
    hdl_sampler *sampler;              /* rank 0; else NULL */
    hdl_device_sampler device_sampler; /* open where the device may sample */
    bool samples_there;                /* it does, in this epoch */
    hdl_graphs graphs;
    int dump_fd; /* -1: none */

    /* The epoch. */
    bool joined;
    uint64_t epoch, step;             /* the last one that was submitted */
    hdl_pending pending[HDL_UPLOADS]; /* oldest first */
    uint32_t n_pending, turn;
    uint64_t collected_us; /* when a step was last collected */
    hdl_groups groups;
    hdl_coll_door *door; /* owned; of the epoch to come */

    /* hdl_worker_abort from other threads. */
    pthread_mutex_t lock;
    hdl_coll *abortable;  /* groups.world while it may be aborted */
    uint32_t cancel_join; /* atomic */

    /* Results, valid until the next step. */
    hdl_result_row *rows; /* owned [step_tokens] */
    hdl_logprob *probs;   /* owned [step_tokens, HDL_ROW_PROBS_MAX] */
    hdl_sample_job *jobs; /* owned [HDL_LOGIT_ROWS] */
    hdl_token *sampled;   /* owned [1 + step_tokens]: error of rank 0, then tokens by want */
    uint32_t n_rows, n_probs, n_sampled;
    hdl_errmsg why; /* of the last refused plan */
};

/* plans.c: `numerics: fast`, once the weights are on the device. */
hdl_err hdl_plans_make(hdl_worker *w, hdl_errmsg *why) HDL_MUST_CHECK;

/* Does the device sample, so that a step need not wait for the host? */
static inline bool hdl_worker_samples_there(const hdl_worker *w) { return w->samples_there; }

/* step_device.c: a step of a device that samples. submit fills *pending; collect puts its results
 * into w->rows and w->probs. */
size_t hdl_step_device_bytes(const hdl_worker *w); /* of the device, that open takes */
hdl_err hdl_step_device_open(hdl_worker *w, hdl_errmsg *why) HDL_MUST_CHECK;
hdl_err hdl_step_device_submit(hdl_worker *w, const hdl_plan *plan, const hdl_sampling *opens,
                               hdl_pending *pending) HDL_MUST_CHECK;
hdl_err hdl_step_device_collect(hdl_worker *w, const hdl_pending *pending) HDL_MUST_CHECK;

/* step.c, for both kinds: the plan's block copies, and logits to the dump. */
void hdl_step_copy_blocks(hdl_worker *w);
hdl_err hdl_step_dump(hdl_worker *w, const hdl_want *wants, uint32_t n) HDL_MUST_CHECK;
/* Wants that go through the head together, from the at-th on. */
uint32_t hdl_step_chunk_of(const hdl_batch *batch, uint32_t at);
