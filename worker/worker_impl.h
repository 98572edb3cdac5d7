/* SPDX-License-Identifier: Apache-2.0 */
/* Inside a worker. Private to worker.c, step.c and self_test.c; owner: the step thread, but for
 * `lock` and what it guards. */
#pragma once

#include <pthread.h>

#include "worker/batch.h"
#include "worker/load/files.h"
#include "worker/sampler.h"
#include "worker/upload.h"
#include "worker/worker.h"

enum { HDL_LOGIT_ROWS = 64 /* rows of one pass through the head */ };

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
    hdl_upload upload;    /* batch's arrays where ops read them */
    hdl_sampler *sampler; /* rank 0; else NULL */
    int dump_fd;          /* -1: none */

    /* The epoch. */
    bool joined;
    uint64_t epoch, step; /* the last one that ran */
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
