/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of place.h: place_find.c turns slots into tensors of the files, place_slots.c turns these
 * into jobs with a destination in the model, place.c runs the jobs. Owner: one hdl_place_weights
 * call. */
#pragma once

#include <stdatomic.h>

#include "worker/load/place.h"
#include "worker/model/arch.h"

/* Some rows of one tensor on their way to one place. */
typedef struct hdl_place_job {
    hdl_tensor src;
    hdl_weight *dst; /* NULL: a vector */
    float *vec;
    float plus;      /* added to each element of a vector */
    uint32_t row_at; /* in dst */
} hdl_place_job;

typedef struct hdl_placer {
    hdl_model *model;
    const hdl_st *st;
    const hdl_place_opts *opts;
    hdl_errmsg *why;
    unsigned char *used; /* owned; [tensors]: some slot names it */
    hdl_place_job *jobs; /* owned */
    size_t n_jobs, jobs_size;
    uint64_t bytes_total;
    _Atomic size_t next;
    _Atomic uint64_t bytes_done;
    uint64_t shown_us; /* thread 0: when progress was last told */
} hdl_placer;

/* The tensor of a place, checked for type and shape, and marked as used. */
hdl_err hdl_place_find(hdl_placer *p, hdl_weight_at at, const hdl_st_tensor **out) HDL_MUST_CHECK;
/* Refuses tensors that no slot has named. */
hdl_err hdl_place_check_unknown(const hdl_placer *p) HDL_MUST_CHECK;
/* Jobs for one slot in all its layers and experts. */
hdl_err hdl_place_add_slot(hdl_placer *p, hdl_wslot slot) HDL_MUST_CHECK;
