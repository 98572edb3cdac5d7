/* SPDX-License-Identifier: Apache-2.0 */
/* Metrics of this process: one static table (metrics_list.h), atomic updates, Prometheus text
 * 0.0.4.
 *
 *     hdl_metric_add(HDL_METRIC_REQUESTS, hdl_metric_label(HDL_METRIC_REQUESTS, "done"), 1);
 *     hdl_metric_observe(HDL_METRIC_TTFT, 0, now_us - arrived_us);
 *
 * Values are integers: microseconds for SECONDS metrics. label_idx is 0 for a metric without
 * label. Any thread, no lock, no allocation; an update is one relaxed atomic operation (two for
 * a histogram) because readers need no order between metrics. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/metrics_list.h"
#include "heddle/err.h"

#define HDL_METRIC_ENUM(id, kind, unit, label, buckets, name, help) HDL_METRIC_##id,
typedef enum hdl_metric_id { HDL_METRIC_LIST(HDL_METRIC_ENUM) HDL_METRIC_COUNT } hdl_metric_id;
#undef HDL_METRIC_ENUM

/* Counter. */
void hdl_metric_add(hdl_metric_id id, uint32_t label_idx, uint64_t n);
/* Gauge. */
void hdl_metric_set(hdl_metric_id id, uint32_t label_idx, int64_t value);
/* Histogram. */
void hdl_metric_observe(hdl_metric_id id, uint32_t label_idx, uint64_t value);

/* Index of a label value; the last one ("other") when it is not listed. Asserts that the metric
 * has a label. */
uint32_t hdl_metric_label(hdl_metric_id id, const char *value);
/* Of a status code for HDL_METRIC_HTTP_REQUESTS. */
uint32_t hdl_metric_http_code(int code);

/* Momentary value; of a histogram the number of observations. */
int64_t hdl_metric_get(hdl_metric_id id, uint32_t label_idx);

/* Labels of heddle_build_info; static strings. */
void hdl_metrics_build_info(const char *version, const char *role);
/* All metrics, `# HELP` and `# TYPE` first. A series of a labelled metric appears once it was
 * touched. */
hdl_err hdl_metrics_render(hdl_buf *out) HDL_MUST_CHECK;
/* Zeroes everything (tests). */
void hdl_metrics_reset(void);

#define HDL_METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"
