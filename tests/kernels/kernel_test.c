/* SPDX-License-Identifier: Apache-2.0 */
#include "kernel_test.h"
#include "plugin.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct kt_mem {
    struct kt_mem *next;
} kt_mem;

enum { SCRATCH_BYTES = 64 << 20, REPORTS_MAX = 20, ALIGN = 64 };

static const kt_suite *const suites[] = {
#define SUITE(name) &kt_##name,
    KT_SUITE_LIST(SUITE)
#undef SUITE
};

void *kt_alloc(kt *t, size_t bytes)
{
    void *shared = t->is_device ? kt_plugin_alloc(bytes) : NULL;
    if (shared)
        return shared;
    size_t size = (bytes + 2 * ALIGN - 1) / ALIGN * ALIGN;
    kt_mem *mem = aligned_alloc(ALIGN, size);
    if (!mem)
        abort();
    memset(mem, 0, size);
    mem->next = t->mem;
    t->mem = mem;
    return (char *)mem + ALIGN;
}

static void free_case(kt *t)
{
    while (t->mem) {
        kt_mem *mem = t->mem;
        t->mem = mem->next;
        free(mem);
    }
    kt_plugin_free_all();
}

float kt_normal(kt *t)
{
    double u = 1.0 - hdl_rng_unit(&t->rng), v = hdl_rng_unit(&t->rng);
    return (float)(sqrt(-2 * log(u)) * cos(6.283185307179586 * v));
}

float *kt_floats(kt *t, size_t n, float scale)
{
    float *x = KT_NEW(t, float, n);
    for (size_t i = 0; i < n; i++)
        x[i] = kt_normal(t) * scale;
    return x;
}

uint32_t kt_range(kt *t, uint32_t lo, uint32_t hi)
{
    return (uint32_t)hdl_rng_range(&t->rng, lo, hi);
}

bool kt_chance(kt *t, uint32_t percent) { return hdl_rng_chance(&t->rng, percent, 100); }

hdl_weight kt_pack(kt *t, const hdl_ops *ops, hdl_wformat format, hdl_tensor rows,
                   uint32_t n_leaves)
{
    hdl_weight w = {.format = format,
                    .n = (uint32_t)rows.shape[0],
                    .k = (uint32_t)rows.shape[1],
                    .n_leaves = n_leaves};
    w.bytes = ops->weight_bytes(format, w.n, w.k, n_leaves);
    kt_check(t, w.bytes > 0, "weight_bytes supports the shape");
    w.data = kt_alloc(t, w.bytes);
    memset(w.data, 0xa5, w.bytes); /* packing writes every byte that kernels read */
    /* In two parts, as loaders do. */
    hdl_source all = hdl_source_of_tensor(&rows);
    hdl_window part = {.n_rows = w.n / 3, .n_cols = w.k};
    ops->weight_pack(&(hdl_pack_args){.src = hdl_source_part(&all, part), .dst = &w});
    part = (hdl_window){.row_at = part.n_rows, .n_rows = w.n - part.n_rows, .n_cols = w.k};
    ops->weight_pack(
        &(hdl_pack_args){.src = hdl_source_part(&all, part), .dst = &w, .row_at = part.row_at});
    return w;
}

static void report(kt *t, const char *what, const char *detail)
{
    if (++t->failures > REPORTS_MAX)
        return;
    printf("FAIL %s case %d: %s: %s\n     repeat: heddle_test_kernels%s%s --only %s --case %d "
           "--seed %llu\n",
           t->suite, t->case_idx, what, detail, t->plugin ? " --plugin " : "",
           t->plugin ? t->plugin : "", t->suite, t->case_idx, (unsigned long long)t->seed);
}

void kt_check(kt *t, bool ok, const char *what)
{
    t->checks++;
    if (!ok)
        report(t, what, "does not hold");
}

void kt_same(kt *t, const char *what, const float *want, const float *got, size_t n)
{
    char detail[128];
    t->checks++;
    if (memcmp(want, got, n * sizeof *want) == 0)
        return;
    for (size_t i = 0; i < n; i++)
        if (memcmp(&want[i], &got[i], sizeof *want) != 0) {
            snprintf(detail, sizeof detail, "[%zu] of %zu: %a, expected %a", i, n, (double)got[i],
                     (double)want[i]);
            report(t, what, detail);
            return;
        }
}

void kt_agree(kt *t, const char *what, kt_pair p)
{
    char detail[128];
    float largest = 0;
    if (!t->is_device || p.bound == 0.0f) {
        kt_same(t, what, p.want, p.got, p.n);
        return;
    }
    if (p.stream == 0)
        t->first = p.got;
    else
        kt_same(t, what, t->first, p.got, p.n);
    t->checks++;
    for (size_t i = 0; i < p.n; i++)
        largest = fmaxf(largest, fabsf(p.want[i]));
    for (size_t i = 0; i < p.n; i++)
        if (!(fabsf(p.want[i] - p.got[i]) <= p.bound * largest)) {
            snprintf(detail, sizeof detail, "[%zu] of %zu: %.9g, expected %.9g +- %.3g", i, p.n,
                     (double)p.got[i], (double)p.want[i], (double)(p.bound * largest));
            report(t, what, detail);
            return;
        }
}

void kt_same_bytes(kt *t, const char *what, const void *want, const void *got, size_t bytes)
{
    t->checks++;
    if (memcmp(want, got, bytes) != 0)
        report(t, what, "bytes differ");
}

void kt_near(kt *t, const char *what, kt_exact exact, const float *got)
{
    char detail[128];
    t->checks++;
    for (size_t i = 0; i < exact.n; i++)
        if (!(fabs(exact.want[i] - (double)got[i]) <= exact.bound[i])) {
            snprintf(detail, sizeof detail, "[%zu] of %zu: %.9g, expected %.9g +- %.3g", i, exact.n,
                     (double)got[i], exact.want[i], exact.bound[i]);
            report(t, what, detail);
            return;
        }
}

const char *kt_name(kt *t, const char *what, int level, int stream)
{
    static char name[128];
    snprintf(name, sizeof name, "%s on %s, %s %d", what, t->levels[level]->name,
             t->is_device ? "order" : "threads", stream + (t->is_device ? 0 : 1));
    return name;
}

typedef struct options {
    const char *only, *plugin, *level;
    int case_idx; /* -1: all */
    uint64_t seed;
    uint32_t n_seeds;
    int n_streams;
    bool is_long;
} options;

static void run_suite(kt *t, const kt_suite *s, const options *o)
{
    int before = t->checks;
    for (int c = 0; c < s->n_cases; c++)
        for (uint32_t i = 0; i < o->n_seeds; i++) {
            if (o->case_idx >= 0 && c != o->case_idx)
                continue;
            t->suite = s->name;
            t->case_idx = c;
            t->seed = o->seed + i;
            hdl_rng_init(&t->rng, t->seed * 1000003 + (uint64_t)c);
            s->run(t, c);
            free_case(t);
        }
    printf("%-14s %3d cases, %6d checks\n", s->name, s->n_cases, t->checks - before);
}

static bool parse(int argc, char **argv, options *o)
{
    *o = (options){.case_idx = -1, .seed = 1, .n_seeds = 1, .n_streams = KT_STREAMS};
    for (int i = 1; i < argc; i++) {
        bool has_value = i + 1 < argc;
        if (strcmp(argv[i], "--long") == 0) {
            o->is_long = true;
            o->n_seeds = 20;
        } else if (strcmp(argv[i], "--only") == 0 && has_value) {
            o->only = argv[++i];
        } else if (strcmp(argv[i], "--plugin") == 0 && has_value) {
            o->plugin = argv[++i];
        } else if (strcmp(argv[i], "--level") == 0 && has_value) {
            o->level = argv[++i];
        } else if (strcmp(argv[i], "--case") == 0 && has_value) {
            o->case_idx = atoi(argv[++i]);
        } else if (strcmp(argv[i], "--seed") == 0 && has_value) {
            o->seed = strtoull(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--seeds") == 0 && has_value) {
            o->n_seeds = (uint32_t)strtoul(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--streams") == 0 && has_value) {
            o->n_streams = atoi(argv[++i]);
        } else {
            fprintf(stderr,
                    "usage: heddle_test_kernels [--long] [--only SUITE] [--case N] "
                    "[--seed S] [--seeds N] [--streams N] [--level NAME | --plugin FILE]\n");
            return false;
        }
    }
    return o->n_streams >= 1 && o->n_streams <= KT_STREAMS;
}

static bool open_plugin(kt *t)
{
    t->levels[0] = kt_plugin_open(t, t->plugin);
    t->n_levels = 1;
    t->is_device = true;
    return t->levels[0] != NULL;
}

/* All that this machine has; or the one that was asked for, which then must be there. */
static bool open_levels(kt *t, const char *only)
{
    hdl_errmsg why = {0};
    for (hdl_isa isa = HDL_ISA_REF; isa <= HDL_ISA_AVX512; isa++) {
        const hdl_ops *ops = hdl_ops_cpu(isa, &why);
        if (ops && (!only || strcmp(ops->name, only) == 0))
            t->levels[t->n_levels++] = ops;
        else if (!ops)
            printf("skipped: %s\n", why.text);
    }
    if (t->n_levels == 0)
        printf("FAIL level %s is not among those of this machine\n", only);
    return t->n_levels > 0;
}

int main(int argc, char **argv)
{
    options o;
    kt t = {.ref = hdl_ops_ref()};
    if (!parse(argc, argv, &o))
        return 2;
    t.is_long = o.is_long;
    t.plugin = o.plugin;
    t.n_streams = o.n_streams;
    hdl_errmsg why = {0};
    if (!o.plugin && !open_levels(&t, o.level))
        return 1;
    hdl_device *devices[KT_STREAMS];
    for (int i = 0; i < KT_STREAMS; i++) {
        hdl_cpu_device_opts opts = {.n_threads = (uint32_t)i + 1, .scratch_bytes = SCRATCH_BYTES};
        if (hdl_device_open_cpu(&devices[i], &opts, &why) != HDL_OK) {
            printf("FAIL %s\n", why.text);
            return 1;
        }
        t.streams[i] = hdl_device_stream(devices[i]);
    }
    if (o.plugin && !open_plugin(&t))
        return 1;
    for (size_t s = 0; s < HDL_ARRAY_LEN(suites); s++) {
        if (o.only && strcmp(o.only, suites[s]->name) != 0)
            continue;
        if (!o.plugin || kt_plugin_has(suites[s]->name))
            run_suite(&t, suites[s], &o);
    }
    kt_plugin_close();
    for (int i = 0; i < KT_STREAMS; i++)
        hdl_device_close(devices[i]);
    printf("%d checks, %d failures\n", t.checks, t.failures);
    return t.failures || t.checks == 0;
}
