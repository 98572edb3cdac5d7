/* SPDX-License-Identifier: Apache-2.0 */
/* Which format each matrix gets: what its tensor holds, unless --weights asks for another one.
 * Pure but for the tensors that it asks. Owner: the opening thread. */
#pragma once

#include "worker/load/files.h"

typedef struct hdl_quant {
    hdl_wkinds kinds;
    hdl_files *files;           /* borrowed */
    const hdl_model_desc *desc; /* borrowed */
    hdl_wformat asked;          /* HDL_WFORMAT_COUNT: auto */
    const hdl_ops *ops;         /* of the device, which may lack some formats; NULL: all */
} hdl_quant;
/* kinds.of answers for these files; files, desc and asked are set by the caller. */
hdl_err hdl_quant_kind_of(const hdl_wkinds *kinds, hdl_weight_at at, uint32_t leaf_k,
                          hdl_wkind *out, hdl_errmsg *why) HDL_MUST_CHECK;

/* leaf_k, or the part of it at whose multiples scales may change in what was found. */
uint32_t hdl_quant_unit(const hdl_found *found, uint32_t leaf_k);
/* auto (COUNT) keeps every value exactly. */
hdl_wkind hdl_quant_kind(const hdl_source *s, hdl_wformat asked, uint32_t leaf_k);
