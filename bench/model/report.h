/* SPDX-License-Identifier: Apache-2.0 */
/* What a benchmark of a model measured, and its table or JSON document. Main thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* One row. Rates and shares are medians over samples; a share compares a sample with the stream and
 * the peak measured right before and right after it. */
typedef struct hdl_bench_model_row {
    bool prefill;
    uint32_t tokens, batch, context; /* tokens of a step, or of the prompt */
    uint32_t steps, samples;
    const char *skipped; /* why nothing was measured; NULL */
    double tokens_per_s, bytes_per_s, stream_bytes_per_s, stream_share;
    double flop_per_s, peak_flop_per_s, peak_share;
    bool head_screened;
    double head_computed; /* then: tiles of the head that were, of each token's */
    /* Of a GPU; 0 where nothing could be measured. */
    bool has_idle, has_energy;
    double
        host_idle_share; /* of the device's time between the first and the last work of a sample */
    double joule_per_token;
} hdl_bench_model_row;

typedef struct hdl_bench_model_report {
    const char *device, *weights, *peak_by;
    bool is_gpu, fast;
    uint32_t n_threads, n_rows;
    const hdl_bench_model_row *rows;
} hdl_bench_model_report;

void hdl_bench_model_print_table(const hdl_bench_model_report *report, FILE *out);
void hdl_bench_model_print_json(const hdl_bench_model_report *report, FILE *out);
