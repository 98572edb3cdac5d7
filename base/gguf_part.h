/* SPDX-License-Identifier: Apache-2.0 */
/* The parse of one GGUF file's bytes: gguf.c's other half, and of nobody else's use. Views borrow
 * the bytes; the arrays and names are owned. */
#pragma once

#include "base/arena.h"
#include "base/gguf.h"

typedef struct hdl_gguf_part {
    hdl_gguf_kv *kvs; /* owned; sorted by key once parsed */
    size_t n_kvs;
    hdl_gguf_tensor *tensors; /* owned; in the file's order */
    size_t n_tensors;
    hdl_pool_arena names;
} hdl_gguf_part;

/* Leaves part to be freed in any case. HDL_CORRUPT, HDL_UNSUPPORTED, HDL_NOMEM. */
hdl_err hdl_gguf_part_parse(hdl_gguf_part *part, const void *bytes, size_t len,
                            hdl_errmsg *why) HDL_MUST_CHECK;
void hdl_gguf_part_free(hdl_gguf_part *part);

/* NULL: there is none. */
const hdl_gguf_kv *hdl_gguf_part_find(const hdl_gguf_part *part, const char *key);
/* True with the value when kv is one integer >= 0. */
bool hdl_gguf_kv_u64(const hdl_gguf_kv *kv, uint64_t *out);
/* Bytes of one element, or 0 of strings and arrays. */
size_t hdl_gguf_type_bytes(hdl_gguf_type type);
