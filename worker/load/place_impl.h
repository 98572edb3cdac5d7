/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of place.h: place_slots.c turns what the files hold of each slot into jobs with a
 * destination in the model, place.c runs the jobs. Owner: one hdl_place_weights
 * call. */
#pragma once

#include <stdatomic.h>

#include "worker/load/place.h"
#include "worker/model/arch.h"

/* Some rows of one tensor on their way to one place. */
typedef struct hdl_place_job {
    hdl_source src;
    hdl_weight *dst; /* NULL: a vector */
    float *vec;
    size_t col_step;  /* of a table: from one column to the next in vec */
    float plus;       /* added to each element of a vector */
    bool neg_exp;     /* of x the file has -exp(x) */
    uint32_t row_at;  /* in dst */
    const char *name; /* of the tensor; borrowed: the files' */
} hdl_place_job;

/* What became of the matrices of one encoding in one format. */
typedef struct hdl_place_sum {
    uint64_t file_bytes, memory_bytes;
    bool exact;
} hdl_place_sum;

typedef struct hdl_placer {
    hdl_model *model;
    hdl_files *files;
    const hdl_place_opts *opts;
    hdl_errmsg *why;
    hdl_place_job *jobs; /* owned */
    size_t n_jobs, jobs_size;
    const char *name; /* of the tensor whose jobs are added */
    uint64_t bytes_total;
    hdl_place_sum sums[HDL_ENC_COUNT][HDL_WFORMAT_COUNT];
    _Atomic size_t next;
    _Atomic size_t broken; /* a job whose scales are no numbers; SIZE_MAX: none */
    _Atomic bool lost;     /* the device took something no more */
    _Atomic uint64_t bytes_done;
    uint64_t shown_us; /* thread 0: when progress was last told */
} hdl_placer;

/* Jobs for one slot in all its layers and experts. */
hdl_err hdl_place_add_slot(hdl_placer *p, hdl_wslot slot) HDL_MUST_CHECK;
