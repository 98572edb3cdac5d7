/* SPDX-License-Identifier: Apache-2.0 */
/* A step's index arrays where its ops read them. On the CPU that is the batch itself. A device with
 * memory of its own keeps a copy of every block table, of which a step brings what its plan grants,
 * and takes ids, rows and copies anew.
 *
 * Owner: the worker, on its step thread. Nothing allocates after open. */
#pragma once

#include <heddle/device.h>

#include "worker/batch.h"

typedef struct hdl_upload_group {
    uint32_t *tables;    /* of the device [max_seqs, per_seq] */
    hdl_attn_row *rows;  /* of the device [max_seqs] */
    uint32_t *src, *dst; /* of the device [n_blocks] */
} hdl_upload_group;

typedef struct hdl_upload {
    hdl_device *device; /* borrowed; NULL: the batch's arrays serve */
    void *memory;       /* owned, of the device: all below */
    size_t bytes;
    hdl_token *ids; /* of the device [step_tokens] */
    hdl_upload_group groups[HDL_CACHE_GROUPS_MAX];
    hdl_attn_row *rows; /* owned [max_seqs], of the host: on its way */
} hdl_upload;

hdl_err hdl_upload_open(hdl_upload *out, hdl_device *device, const hdl_batch *batch,
                        hdl_errmsg *why) HDL_MUST_CHECK;
void hdl_upload_close(hdl_upload *upload);

/* After hdl_batch_apply of the plan: tokens and (copies[cache], their numbers in the batch's
 * groups) as ops of this step take them. */
typedef struct hdl_uploaded {
    hdl_tokens tokens;
    struct {
        const uint32_t *src, *dst;
    } copies[HDL_CACHE_GROUPS_MAX];
} hdl_uploaded;
hdl_err hdl_upload_step(hdl_upload *upload, const hdl_batch *batch, const hdl_plan *plan,
                        hdl_uploaded *out) HDL_MUST_CHECK;
