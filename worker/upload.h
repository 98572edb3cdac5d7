/* SPDX-License-Identifier: Apache-2.0 */
/* A step's index arrays where its ops read them. On the CPU that is the batch itself. A device with
 * memory of its own keeps every block table and last token; a step brings what is new in one copy
 * of words out of pinned memory, and op batch_build makes of them, there, what batch.c makes here.
 *
 * Invariant: at most HDL_UPLOADS steps are under way: the caller sends a step only when the one
 * HDL_UPLOADS before it is done. Owner: the worker, on its step thread. Nothing allocates after
 * open. */
#pragma once

#include <heddle/device.h>

#include "worker/batch.h"

enum { HDL_UPLOADS = 2 };

typedef struct hdl_upload_group {
    uint32_t *tables;    /* of the device [max_seqs, per_seq] */
    hdl_attn_row *rows;  /* of the device [max_seqs] */
    uint32_t *src, *dst; /* of the device [n_blocks] */
} hdl_upload_group;

typedef struct hdl_upload {
    hdl_device *device;     /* borrowed; NULL: the batch's arrays serve */
    const hdl_batch *batch; /* borrowed */
    void *memory;           /* owned, of the device: all below that is not pinned */
    size_t bytes;
    hdl_token *ids;         /* of the device [step_tokens] */
    hdl_sample_task *tasks; /* of the device [step_tokens], as wants of the batch */
    hdl_token *heads;       /* of the device [step_tokens]: which token a task is of */
    uint32_t *n_live;       /* of the device [1] */
    const hdl_token *last;  /* of the device [max_seqs], borrowed: last sampled there */
    hdl_upload_group groups[HDL_CACHE_GROUPS_MAX];
    uint32_t *words; /* of the device [n_words]: the step's */
    size_t n_words;
    uint32_t *staged[HDL_UPLOADS]; /* owned, pinned [n_words] */
    uint32_t n_blocks_max;         /* granted blocks that the words have room for */
    uint32_t turn;
} hdl_upload;

/* last: set afterwards by whoever samples on the device. */
hdl_err hdl_upload_open(hdl_upload *out, hdl_device *device, const hdl_batch *batch,
                        hdl_errmsg *why) HDL_MUST_CHECK;
void hdl_upload_close(hdl_upload *upload);

/* After hdl_batch_apply of the plan: what it brings is on its way to the device. */
hdl_err hdl_upload_send(hdl_upload *upload, const hdl_plan *plan) HDL_MUST_CHECK;

/* Builds the arrays of the step that was sent, tasks included, and says where they are. */
hdl_tokens hdl_upload_build(hdl_upload *upload);
/* The same for a step of one token a row, with padding up to n_rows. What it launches does not
 * depend on the step: it may be recorded. Only of a device. */
hdl_tokens hdl_upload_build_decode(hdl_upload *upload, uint32_t n_rows);

/* The block copies of the step that was sent. */
typedef struct hdl_upload_copies {
    const uint32_t *src, *dst; /* [n] */
    uint32_t n;
} hdl_upload_copies;
hdl_upload_copies hdl_upload_copies_of(const hdl_upload *upload, uint32_t cache);
