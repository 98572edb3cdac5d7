/* SPDX-License-Identifier: Apache-2.0 */
/* All series live in one static array; where a metric starts in it is a compile-time constant
 * made from the list, so an update is an index and an atomic add. A histogram series is its
 * buckets, then +Inf, then the sum. */
#include "base/metrics.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "heddle/types.h"

typedef enum kind { KIND_COUNTER, KIND_GAUGE, KIND_HISTOGRAM } kind;
typedef enum unit { UNIT_NONE, UNIT_SECONDS, UNIT_BYTES } unit;

/* Bucket bounds in microseconds. TTFT, TPOT and REQUEST are those of OpenTelemetry's GenAI
 * conventions; TPOT's floor of 10 ms is too coarse for fast decoding, so the metrics of our own
 * use ITL and STEP. */
#define BUCKETS_NONE
#define BUCKETS_TTFT                                                                               \
    1000, 5000, 10000, 20000, 40000, 60000, 80000, 100000, 250000, 500000, 750000, 1000000,        \
        2500000, 5000000, 7500000, 10000000
#define BUCKETS_TPOT                                                                               \
    10000, 25000, 50000, 75000, 100000, 150000, 200000, 300000, 400000, 500000, 750000, 1000000,   \
        2500000
#define BUCKETS_REQUEST                                                                            \
    10000, 20000, 40000, 80000, 160000, 320000, 640000, 1280000, 2560000, 5120000, 10240000,       \
        20480000, 40960000, 81920000
#define BUCKETS_ITL                                                                                \
    500, 1000, 2000, 3000, 4000, 6000, 8000, 10000, 15000, 20000, 30000, 50000, 75000, 100000,     \
        200000, 500000, 1000000, 5000000
#define BUCKETS_STEP                                                                               \
    100, 200, 500, 1000, 2000, 3000, 5000, 7500, 10000, 15000, 20000, 30000, 50000, 100000,        \
        200000, 500000, 1000000

static const uint64_t buckets_none[1] = {0};
static const uint64_t buckets_ttft[] = {BUCKETS_TTFT};
static const uint64_t buckets_tpot[] = {BUCKETS_TPOT};
static const uint64_t buckets_request[] = {BUCKETS_REQUEST};
static const uint64_t buckets_itl[] = {BUCKETS_ITL};
static const uint64_t buckets_step[] = {BUCKETS_STEP};
#define BOUNDS_NONE    buckets_none
#define BOUNDS_TTFT    buckets_ttft
#define BOUNDS_TPOT    buckets_tpot
#define BOUNDS_REQUEST buckets_request
#define BOUNDS_ITL     buckets_itl
#define BOUNDS_STEP    buckets_step
/* Cells of one series: a counter or gauge is one; a histogram has its bounds, +Inf and the sum. */
#define CELLS_NONE        1
#define CELLS_TTFT        (HDL_ARRAY_LEN(buckets_ttft) + 2)
#define CELLS_TPOT        (HDL_ARRAY_LEN(buckets_tpot) + 2)
#define CELLS_REQUEST     (HDL_ARRAY_LEN(buckets_request) + 2)
#define CELLS_ITL         (HDL_ARRAY_LEN(buckets_itl) + 2)
#define CELLS_STEP        (HDL_ARRAY_LEN(buckets_step) + 2)

#define LABEL_VALUE(text) text,
static const char *const label_values_outcome[] = {HDL_LABEL_OUTCOME_LIST(LABEL_VALUE)};
static const char *const label_values_reason[] = {HDL_LABEL_REASON_LIST(LABEL_VALUE)};
static const char *const label_values_cache[] = {HDL_LABEL_CACHE_LIST(LABEL_VALUE)};
static const char *const label_values_code[] = {HDL_LABEL_CODE_LIST(LABEL_VALUE)};
#define LABEL_NONE_NAME      NULL
#define LABEL_NONE_VALUES    NULL
#define LABEL_NONE_COUNT     1
#define LABEL_OUTCOME_NAME   "outcome"
#define LABEL_OUTCOME_VALUES label_values_outcome
#define LABEL_OUTCOME_COUNT  HDL_ARRAY_LEN(label_values_outcome)
#define LABEL_REASON_NAME    "reason"
#define LABEL_REASON_VALUES  label_values_reason
#define LABEL_REASON_COUNT   HDL_ARRAY_LEN(label_values_reason)
#define LABEL_CODE_NAME      "code"
#define LABEL_CODE_VALUES    label_values_code
#define LABEL_CODE_COUNT     HDL_ARRAY_LEN(label_values_code)
#define LABEL_CACHE_NAME     "cache"
#define LABEL_CACHE_VALUES   label_values_cache
#define LABEL_CACHE_COUNT    HDL_ARRAY_LEN(label_values_cache)
#define LABEL_RANK_NAME      "rank"
#define LABEL_RANK_VALUES    NULL
#define LABEL_RANK_COUNT     HDL_METRIC_RANKS_MAX

/* First cell of each metric, as an enum: each entry is one past the last cell of the one before. */
#define OFFSET(id, kind, unit, label, buckets, name, help)                                         \
    OFFSET_##id, OFFSET_END_##id = OFFSET_##id + LABEL_##label##_COUNT * CELLS_##buckets - 1,
enum { HDL_METRIC_LIST(OFFSET) CELLS_TOTAL };
#undef OFFSET

/* First series of each metric, for the touched flags. */
#define SERIES(id, kind, unit, label, buckets, name, help)                                         \
    SERIES_##id, SERIES_END_##id = SERIES_##id + LABEL_##label##_COUNT - 1,
enum { HDL_METRIC_LIST(SERIES) SERIES_TOTAL };
#undef SERIES

typedef struct metric {
    const char *name;
    const char *help;
    kind kind;
    unit unit;
    const char *label;
    const char *const *label_values; /* NULL: numbered */
    uint32_t label_count;
    const uint64_t *bounds;
    uint32_t cells; /* of one series */
    uint32_t offset;
    uint32_t series;
} metric;

#define ROW(id_, kind_, unit_, label_, buckets_, name_, help_)                                     \
    [HDL_METRIC_##id_] = {.name = name_,                                                           \
                          .help = help_,                                                           \
                          .kind = KIND_##kind_,                                                    \
                          .unit = UNIT_##unit_,                                                    \
                          .label = LABEL_##label_##_NAME,                                          \
                          .label_values = LABEL_##label_##_VALUES,                                 \
                          .label_count = LABEL_##label_##_COUNT,                                   \
                          .bounds = BOUNDS_##buckets_,                                             \
                          .cells = CELLS_##buckets_,                                               \
                          .offset = OFFSET_##id_,                                                  \
                          .series = SERIES_##id_},
static const metric metrics[HDL_METRIC_COUNT] = {HDL_METRIC_LIST(ROW)};
#undef ROW

/* Every access is relaxed: metrics are independent figures and publish no other data. */
static _Atomic uint64_t cells[CELLS_TOTAL];
static _Atomic bool touched[SERIES_TOTAL];
static const char *build_version = "unknown";
static const char *build_role = "unknown";

static _Atomic uint64_t *series_of(const metric *m, uint32_t label_idx)
{
    HDL_ASSERT_LT(label_idx, m->label_count);
    _Atomic bool *seen = &touched[m->series + label_idx];
    /* Read before writing: the flag's line stays shared between cores. */
    if (!atomic_load_explicit(seen, memory_order_relaxed))
        atomic_store_explicit(seen, true, memory_order_relaxed);
    return &cells[m->offset + label_idx * m->cells];
}

static const metric *metric_of(hdl_metric_id id, kind want)
{
    HDL_ASSERT_LT((unsigned)id, (unsigned)HDL_METRIC_COUNT);
    HDL_ASSERT_EQ(metrics[id].kind, want);
    return &metrics[id];
}

void hdl_metric_add(hdl_metric_id id, uint32_t label_idx, uint64_t n)
{
    _Atomic uint64_t *cell = series_of(metric_of(id, KIND_COUNTER), label_idx);
    atomic_fetch_add_explicit(cell, n, memory_order_relaxed);
}

void hdl_metric_set(hdl_metric_id id, uint32_t label_idx, int64_t value)
{
    _Atomic uint64_t *cell = series_of(metric_of(id, KIND_GAUGE), label_idx);
    atomic_store_explicit(cell, (uint64_t)value, memory_order_relaxed);
}

void hdl_metric_observe(hdl_metric_id id, uint32_t label_idx, uint64_t value)
{
    const metric *m = metric_of(id, KIND_HISTOGRAM);
    _Atomic uint64_t *series = series_of(m, label_idx);
    uint32_t bounds_count = m->cells - 2, i = 0;
    while (i < bounds_count && value > m->bounds[i])
        i++;
    atomic_fetch_add_explicit(&series[i], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&series[m->cells - 1], value, memory_order_relaxed);
}

uint32_t hdl_metric_label(hdl_metric_id id, const char *value)
{
    HDL_ASSERT_LT((unsigned)id, (unsigned)HDL_METRIC_COUNT);
    const metric *m = &metrics[id];
    HDL_ASSERT(m->label_values != NULL);
    for (uint32_t i = 0; i < m->label_count; i++)
        if (strcmp(m->label_values[i], value) == 0)
            return i;
    return m->label_count - 1;
}

uint32_t hdl_metric_http_code(int code)
{
    char text[16];
    snprintf(text, sizeof text, "%d", code);
    return hdl_metric_label(HDL_METRIC_HTTP_REQUESTS, text);
}

int64_t hdl_metric_get(hdl_metric_id id, uint32_t label_idx)
{
    HDL_ASSERT_LT((unsigned)id, (unsigned)HDL_METRIC_COUNT);
    const metric *m = &metrics[id];
    HDL_ASSERT_LT(label_idx, m->label_count);
    const _Atomic uint64_t *series = &cells[m->offset + label_idx * m->cells];
    uint32_t n = m->kind == KIND_HISTOGRAM ? m->cells - 1 : 1;
    uint64_t total = 0;
    for (uint32_t i = 0; i < n; i++)
        total += atomic_load_explicit(&series[i], memory_order_relaxed);
    return (int64_t)total;
}

void hdl_metrics_build_info(const char *version, const char *role)
{
    build_version = version;
    build_role = role;
}

/* A value in the metric's unit: microseconds as exact decimal seconds. */
static const char *value_text(const metric *m, uint64_t cell, char out[32])
{
    if (m->kind == KIND_GAUGE && m->unit != UNIT_SECONDS)
        snprintf(out, 32, "%" PRId64, (int64_t)cell);
    else if (m->unit != UNIT_SECONDS)
        snprintf(out, 32, "%" PRIu64, cell);
    else if (cell % 1000000 == 0)
        snprintf(out, 32, "%" PRIu64, cell / 1000000);
    else {
        int n = snprintf(out, 32, "%" PRIu64 ".%06u", cell / 1000000, (unsigned)(cell % 1000000));
        while (out[n - 1] == '0')
            out[--n] = '\0';
    }
    return out;
}

/* `name="value"` or nothing. */
static void label_text(const metric *m, uint32_t idx, char out[64])
{
    out[0] = '\0';
    if (m->label && m->label_values)
        snprintf(out, 64, "%s=\"%s\"", m->label, m->label_values[idx]);
    else if (m->label)
        snprintf(out, 64, "%s=\"%u\"", m->label, idx);
}

static void render_histogram(const metric *m, uint32_t idx, hdl_buf *out)
{
    const _Atomic uint64_t *series = &cells[m->offset + idx * m->cells];
    char label[64], text[32];
    label_text(m, idx, label);
    const char *comma = label[0] ? "," : "";
    uint64_t total = 0;
    for (uint32_t i = 0; i + 2 < m->cells; i++) {
        total += atomic_load_explicit(&series[i], memory_order_relaxed);
        hdl_buf_printf(out, "%s_bucket{%s%sle=\"%s\"} %" PRIu64 "\n", m->name, label, comma,
                       value_text(m, m->bounds[i], text), total);
    }
    total += atomic_load_explicit(&series[m->cells - 2], memory_order_relaxed);
    uint64_t sum = atomic_load_explicit(&series[m->cells - 1], memory_order_relaxed);
    const char *open = label[0] ? "{" : "", *close = label[0] ? "}" : "";
    hdl_buf_printf(out, "%s_bucket{%s%sle=\"+Inf\"} %" PRIu64 "\n", m->name, label, comma, total);
    hdl_buf_printf(out, "%s_sum%s%s%s %s\n", m->name, open, label, close, value_text(m, sum, text));
    hdl_buf_printf(out, "%s_count%s%s%s %" PRIu64 "\n", m->name, open, label, close, total);
}

static void render_value(const metric *m, uint32_t idx, hdl_buf *out)
{
    char label[64], text[32];
    label_text(m, idx, label);
    uint64_t cell = atomic_load_explicit(&cells[m->offset + idx], memory_order_relaxed);
    hdl_buf_printf(out, "%s%s%s%s %s\n", m->name, label[0] ? "{" : "", label, label[0] ? "}" : "",
                   value_text(m, cell, text));
}

hdl_err hdl_metrics_render(hdl_buf *out)
{
    static const char *const kind_text[] = {"counter", "gauge", "histogram"};
    hdl_buf_printf(out,
                   "# HELP heddle_build_info What this process is.\n"
                   "# TYPE heddle_build_info gauge\n"
                   "heddle_build_info{version=\"%s\",role=\"%s\"} 1\n",
                   build_version, build_role);
    for (int id = 0; id < HDL_METRIC_COUNT; id++) {
        const metric *m = &metrics[id];
        hdl_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", m->name, m->help, m->name,
                       kind_text[m->kind]);
        for (uint32_t i = 0; i < m->label_count; i++) {
            if (m->label && !atomic_load_explicit(&touched[m->series + i], memory_order_relaxed))
                continue;
            if (m->kind == KIND_HISTOGRAM)
                render_histogram(m, i, out);
            else
                render_value(m, i, out);
        }
    }
    return hdl_buf_ok(out) ? HDL_OK : HDL_BUSY;
}

void hdl_metrics_reset(void)
{
    for (size_t i = 0; i < CELLS_TOTAL; i++)
        atomic_store_explicit(&cells[i], 0, memory_order_relaxed);
    for (size_t i = 0; i < SERIES_TOTAL; i++)
        atomic_store_explicit(&touched[i], false, memory_order_relaxed);
}
