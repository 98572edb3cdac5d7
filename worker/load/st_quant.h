/* SPDX-License-Identifier: Apache-2.0 */
/* Quantised matrices of safetensors files: the tensors that stand for one matrix (codes, scales,
 * zero points, their companions), checked against each other and made a source.
 *
 * Foreign bytes: every shape and type is compared with what the matrix needs before a pointer is
 * made of it. Cold; the opening thread. */
#pragma once

#include <heddle/model.h>

#include "worker/load/safetensors.h"

typedef struct hdl_st_quant {
    const hdl_st *st;
    unsigned char *used; /* [tensors of st]: what is found is marked */
    const hdl_quant_desc *quant;
    const char *name; /* of the matrix, were it not quantised */
    /* Its shape, all that is fused in it included; matrices behind each other, and which one. */
    uint64_t experts, rows, cols;
    uint32_t expert;
} hdl_st_quant;

/* *out: the whole matrix. *codes: the name of its codes' tensor (borrowed: until the files are
 * closed); NULL: the files do not have it. */
hdl_err hdl_st_quant_find(const hdl_st_quant *q, hdl_source *out, const char **codes,
                          hdl_errmsg *why) HDL_MUST_CHECK;

/* Tensors beside quantised matrices that this version has no use for: scales of activations and of
 * the cache. */
bool hdl_st_quant_ignores(const char *name);
