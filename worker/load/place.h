/* SPDX-License-Identifier: Apache-2.0 */
/* Fills a built model from the tensors of its files: finds every slot's tensor, checks type and
 * shape, and packs this rank's rows, columns and experts in parallel.
 *
 * What is missing, of a wrong shape or unknown is reported before a byte is packed. Cold; the
 * opening thread calls, the stream's threads help. */
#pragma once

#include "worker/load/files.h"
#include "worker/model/build.h"

typedef struct hdl_place_opts {
    hdl_stream *stream;
    void (*progress)(void *arg, uint64_t done, uint64_t total); /* calling thread; may be NULL */
    void *progress_arg;
    const char *packed_cache; /* folder; NULL or "": none */
} hdl_place_opts;

/* files must outlive the model: the embedding is read in place. */
hdl_err hdl_place_weights(hdl_model *model, hdl_files *files, const hdl_place_opts *opts,
                          hdl_errmsg *why) HDL_MUST_CHECK;
