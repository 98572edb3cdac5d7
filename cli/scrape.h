/* SPDX-License-Identifier: Apache-2.0 */
/* A server's /metrics as numbers: values by name, and quantiles of what a histogram gathered
 * between two scrapes. For `heddle top`. Pure but for the heap; one thread. */
#pragma once

#include <heddle/err.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct hdl_sample {
    const char *name, *labels; /* "heddle_requests_total", "outcome=\"done\""; "" without labels */
    double value;
} hdl_sample;

typedef struct hdl_scrape {
    char *text;          /* owned: what the samples point into */
    hdl_sample *samples; /* owned */
    size_t n;
} hdl_scrape;

/* Takes text (owned: free()), also on error. INVALID: not in Prometheus' text format. */
hdl_err hdl_scrape_parse(hdl_scrape *out, char *text, hdl_errmsg *why) HDL_MUST_CHECK;
void hdl_scrape_free(hdl_scrape *scrape);

/* Sum over the series of a name whose labels contain `labels` ("": all). NaN: there is none. */
double hdl_scrape_sum(const hdl_scrape *scrape, const char *name, const char *labels);

/* Quantile q of a histogram's observations after `before` (NULL: ever), linear within a bucket as
 * PromQL's histogram_quantile; labels as above. NaN: nothing was observed. */
typedef struct hdl_scrape_ask {
    const char *name, *labels; /* without _bucket */
    double q;
} hdl_scrape_ask;
double hdl_scrape_quantile(const hdl_scrape *now, const hdl_scrape *before, hdl_scrape_ask ask);
