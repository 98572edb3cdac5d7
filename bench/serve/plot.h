/* SPDX-License-Identifier: Apache-2.0 */
/* The rows of a sweep as one SVG: throughput, time to first token and inter-token latency over the
 * swept value. Plain SVG 1.1 text, readable on light and dark paper. Pure. */
#pragma once

#include "bench/serve/report.h"

typedef struct hdl_load_row {
    double at; /* swept value: clients or requests a second */
    hdl_load_figures figures;
} hdl_load_row;

typedef struct hdl_load_plot {
    const char *title;
    const char *axis; /* "concurrent requests" or "requests/s" */
    const hdl_load_row *rows;
    size_t n;
} hdl_load_plot;

hdl_err hdl_load_svg(hdl_buf *out, const hdl_load_plot *plot);
