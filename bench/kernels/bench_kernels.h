/* SPDX-License-Identifier: Apache-2.0 */
/* Speed of single operations: `heddle bench kernels`.
 *
 * Each row is timed in samples; next to each sample stand one pass of the read stream and one burst
 * of the row's arithmetic from registers. Shares are medians of the ratios of such neighbours, so
 * that a machine whose speed changes, or is shared, still gives the same shares. Main thread. */
#pragma once

#include <heddle/plugin.h>
#include <stdio.h>

typedef struct hdl_bench_kernels_opts {
    uint32_t n_threads; /* 0: all CPUs that the process may use */
    hdl_isa isa;
    const hdl_plugin *plugin; /* a GPU through its plugin; NULL: the CPU */
    uint32_t gpu;
    bool fast;        /* numerics: fast */
    bool is_short;    /* a few small shapes, one sample: fibers */
    const char *only; /* rows whose name begins so; NULL: all */
    uint32_t samples; /* per row; 0: 9, short 1 */
    bool json;
    FILE *out; /* NULL: stdout */
} hdl_bench_kernels_opts;

/* Prints a table or one JSON document. 0, or 1 with a message on stderr. */
int hdl_bench_kernels(const hdl_bench_kernels_opts *opts);
