/* SPDX-License-Identifier: Apache-2.0 */
/* Files that say which requests to send: ShareGPT conversations, and the traces of Mooncake,
 * BurstGPT and Azure. Cold; the caller's thread. Broken lines are refused with their number. */
#pragma once

#include "bench/serve/load.h"

typedef struct hdl_trace_row {
    uint64_t at_us; /* from the first row; 0 where the file has no times */
    uint32_t n_input, n_output;
    const char *text;       /* SHAREGPT: the prompt; borrowed from the trace */
    const uint64_t *hashes; /* MOONCAKE: of blocks of 512 tokens; borrowed from the trace */
    uint32_t n_hashes;
} hdl_trace_row;

typedef struct hdl_trace {
    hdl_trace_row *rows; /* owned */
    size_t n;
    void **owned; /* what rows borrow from: owned, freed with the trace */
    size_t n_owned, owned_size;
} hdl_trace;

/* At most spec->n rows of spec->path. */
hdl_err hdl_trace_open(hdl_trace *out, const hdl_load_spec *spec, hdl_errmsg *why) HDL_MUST_CHECK;
void hdl_trace_close(hdl_trace *trace);
