/* SPDX-License-Identifier: Apache-2.0 */
/* The header of one safetensors file: parsing and every check on it. Part of safetensors.c, apart
 * for its fuzz target. Pure but for the heap; any thread. */
#pragma once

#include "worker/load/safetensors.h"

enum { HDL_ST_HEADER_BYTES_MAX = 100000000 /* the format's own limit */ };

struct hdl_json;
typedef struct hdl_st_header {
    struct hdl_json *doc;   /* owned: holds the names */
    hdl_st_tensor *tensors; /* owned; by place in the file */
    size_t n_tensors;
} hdl_st_header;

/* file: the whole file, borrowed: tensors point into it. */
hdl_err hdl_st_header_parse(hdl_st_header *out, const unsigned char *file, size_t len,
                            hdl_errmsg *why) HDL_MUST_CHECK;
void hdl_st_header_free(hdl_st_header *header);
