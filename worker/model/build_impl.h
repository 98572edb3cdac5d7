/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of build.c and build_mixers.c: a model is laid out twice, once without memory to measure
 * it, once to set the pointers. Owner: one hdl_model_build call. */
#pragma once

#include "worker/model/build.h"

typedef struct hdl_build {
    hdl_model *model;
    const hdl_wkinds *kinds;
    hdl_head_screen head_screen;
    unsigned char *base; /* NULL: measuring */
    size_t at, n_more;
    size_t bytes[HDL_WFORMAT_COUNT]; /* of matrices */
    bool overflow;
    hdl_err err; /* the first one */
    hdl_errmsg *why;
} hdl_build;

/* NULL unless `has`. */
float *hdl_build_floats_if(hdl_build *b, bool has, size_t n);
/* Memory for the first `rows` rows of w. */
hdl_weight hdl_build_weight(hdl_build *b, hdl_weight w, uint32_t rows);
/* A matrix of one slot; n, k and n_leaves of shape are set. */
hdl_weight hdl_build_matrix(hdl_build *b, hdl_weight_at at, hdl_weight shape);
/* A small matrix of hidden inputs that is F32 whatever the files hold. */
hdl_weight hdl_build_small(hdl_build *b, uint32_t n);

/* Slots whose rows lie one after the other in one matrix. */
enum { HDL_BUILD_FUSED_MAX = 4 };
typedef struct hdl_build_rows {
    uint32_t k, n_leaves, layer, expert, n_parts;
    struct {
        hdl_wslot slot;
        uint32_t rows;
    } parts[HDL_BUILD_FUSED_MAX];
} hdl_build_rows;
/* One matrix if all parts are of one kind, a stack of them else. */
hdl_weight hdl_build_fused(hdl_build *b, hdl_build_rows rows);

/* Mixers other than attention. */
void hdl_build_mla(hdl_build *b, hdl_layer *layer, uint32_t idx);
void hdl_build_gdn(hdl_build *b, hdl_layer *layer, uint32_t idx);
