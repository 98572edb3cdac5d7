/* SPDX-License-Identifier: Apache-2.0 */
/* Growable array of token ids with a hard cap: what encoding gives. The caller's; one thread. */
#pragma once

#include <heddle/err.h>
#include <heddle/types.h>

typedef struct hdl_ids {
    hdl_token *v; /* owned: hdl_ids_deinit, or taken with hdl_ids_steal */
    size_t n;     /* ids in use */
    size_t size;  /* ids allocated */
    size_t cap;   /* ids at most */
} hdl_ids;

void hdl_ids_init(hdl_ids *ids, size_t cap);
void hdl_ids_deinit(hdl_ids *ids);
/* HDL_BUSY when the cap is reached. */
hdl_err hdl_ids_grow(hdl_ids *ids) HDL_MUST_CHECK;
static inline hdl_err hdl_ids_push(hdl_ids *ids, hdl_token id)
{
    if (__builtin_expect(ids->n == ids->size, 0))
        HDL_TRY(hdl_ids_grow(ids));
    ids->v[ids->n++] = id;
    return HDL_OK;
}
static inline hdl_err hdl_ids_append(hdl_ids *ids, const hdl_token *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        HDL_TRY(hdl_ids_push(ids, v[i]));
    return HDL_OK;
}
/* The malloc'd array (owned by the caller: free(); NULL when empty), leaving ids empty. */
hdl_token *hdl_ids_steal(hdl_ids *ids, size_t *n);
