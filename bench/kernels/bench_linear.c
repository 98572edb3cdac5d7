/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "bench/kernels/bench_op.h"

/* Decode must come from memory, as in a model: several weights take turns, so that none is in the
 * cache when its turn comes. */
enum { WEIGHTS_MAX = 32 };
static const size_t TURN_BYTES = 200u << 20, TURN_BYTES_SHORT = 1;

typedef struct weight_set {
    hdl_wformat format;
    uint32_t n, k, leaves, count, turn;
    hdl_weight w[WEIGHTS_MAX];
} weight_set;

typedef struct linear_case {
    hdl_linear_args a;
    weight_set *set;
} linear_case;

static void call(void *args, const hdl_ops *ops, hdl_stream *stream)
{
    linear_case *c = args;
    c->a.w = &c->set->w[c->set->turn++ % c->set->count];
    ops->linear(&c->a, stream);
}

/* A head and its copy. One is enough: no cache holds it. */
typedef struct screened_case {
    hdl_linear_args linear;
    hdl_linear_screened_args a;
    hdl_weight w, q8;
    uint32_t keep[HDL_SCREEN_TOKENS_MAX];
} screened_case;

static void call_screened(void *args, const hdl_ops *ops, hdl_stream *stream)
{
    const screened_case *c = args;
    ops->linear_screened(&c->a, stream);
}

static void call_head(void *args, const hdl_ops *ops, hdl_stream *stream)
{
    const screened_case *c = args;
    ops->linear(&c->linear, stream);
}

/* Rows of one shape share their weights: *set is the last one. */
static void need_set(hdl_bench *b, weight_set **set, const hdl_weight *shape)
{
    hdl_wformat format = shape->format;
    uint32_t k = shape->k, n = shape->n, leaves = shape->n_leaves;
    if (*set && (*set)->format == format && (*set)->k == k && (*set)->n == n &&
        (*set)->leaves == leaves)
        return;
    size_t bytes = b->ops->weight_bytes(format, n, k, leaves);
    size_t turn = b->scale == HDL_BENCH_SHORT ? TURN_BYTES_SHORT : TURN_BYTES;
    weight_set *s = *set = hdl_bench_host(b, sizeof *s);
    *s = (weight_set){.format = format, .n = n, .k = k, .leaves = leaves};
    s->count = (uint32_t)hdl_min_size(turn / bytes + 1, WEIGHTS_MAX);
    for (uint32_t i = 0; i < s->count; i++)
        s->w[i] = hdl_bench_weight(b, format, n, k, leaves);
}

static void add(hdl_bench *b, weight_set **set, const hdl_weight *shape, uint32_t n_tokens)
{
    hdl_wformat format = shape->format;
    uint32_t k = shape->k, n = shape->n;
    if (b->ops->weight_bytes(format, n, k, shape->n_leaves) == 0) /* what the backend lacks */
        return;
    hdl_bench_row *row =
        hdl_bench_add(b, shape->n_leaves == 1 ? "linear %s %ux%ux%u" : "linear %s %ux%ux%u leaves",
                      hdl_wformat_info_of(format)->name, n_tokens, k, n);
    if (!row)
        return;
    need_set(b, set, shape);
    linear_case *c = hdl_bench_host(b, sizeof *c);
    c->set = *set;
    c->a = (hdl_linear_args){.x = hdl_bench_floats(b, (size_t)n_tokens * k),
                             .x_stride = k,
                             .y = hdl_bench_alloc(b, (size_t)n_tokens * n * sizeof(float)),
                             .y_stride = n,
                             .n_tokens = n_tokens};
    for (uint32_t i = 0; i < (*set)->count; i++)
        hdl_bench_plan(b, &(*set)->w[i], n_tokens);
    row->bytes = (double)(*set)->w[0].bytes;
    row->flop = 2.0 * n * k * n_tokens;
    row->arith = hdl_bench_arith(b, format);
    row->call = call;
    row->args = c;
}

static screened_case *new_head(hdl_bench *b, uint32_t k, uint32_t n)
{
    screened_case *c = hdl_bench_host(b, sizeof *c);
    size_t rows = hdl_div_ceil_u32(n, HDL_SCREEN_TILE) * (size_t)HDL_SCREEN_TILE;
    float *norms = hdl_bench_alloc(b, 2 * rows * sizeof *norms);
    if (!norms)
        return NULL;
    *c = (screened_case){.w = hdl_bench_weight(b, HDL_WFORMAT_BF16, n, k, 1),
                         .q8 = hdl_bench_weight(b, HDL_WFORMAT_Q8, n, k, 1),
                         .a.n_rows = n,
                         .a.norms = {norms, norms + rows}};
    hdl_made_norms(&c->w, c->a.norms);
    return c;
}

/* The whole head, and the largest of its outputs: of so many tokens each `keep`. */
static void add_head(hdl_bench *b, const screened_case *head, uint32_t n_tokens, uint32_t keep)
{
    uint32_t k = head->w.k, n = head->w.n;
    hdl_bench_row *row =
        keep == 0 ? hdl_bench_add(b, "head bf16 %ux%ux%u", n_tokens, k, n)
                  : hdl_bench_add(b, "head screened, top %u %ux%ux%u", keep, n_tokens, k, n);
    if (!row)
        return;
    screened_case *c = hdl_bench_host(b, sizeof *c);
    *c = *head;
    c->linear = (hdl_linear_args){.x = hdl_bench_floats(b, (size_t)n_tokens * k),
                                  .x_stride = k,
                                  .w = &c->w,
                                  .y = hdl_bench_alloc(b, (size_t)n_tokens * n * sizeof(float)),
                                  .y_stride = n,
                                  .n_tokens = n_tokens};
    for (uint32_t i = 0; i < n_tokens; i++)
        c->keep[i] = keep;
    c->a.linear = &c->linear;
    c->a.q8 = &c->q8;
    c->a.keep = c->keep;
    row->bytes = (double)(keep == 0 ? c->w.bytes : c->q8.bytes);
    row->flop = 2.0 * n * k * n_tokens;
    row->arith = hdl_bench_arith(b, keep == 0 ? HDL_WFORMAT_BF16 : HDL_WFORMAT_Q8);
    row->call = keep == 0 ? call_head : call_screened;
    row->args = c;
}

void hdl_bench_head(hdl_bench *b)
{
    const uint32_t vocabs[] = {32000, 151936}, keeps[] = {0, 1, 20};
    if (b->scale != HDL_BENCH_CPU || !b->ops->linear_screened)
        return;
    if (b->only && strncmp(b->only, "head", strlen(b->only) < 4 ? strlen(b->only) : 4) != 0)
        return; /* half a gigabyte for nothing */
    for (size_t v = 0; v < HDL_ARRAY_LEN(vocabs); v++) {
        const screened_case *head = new_head(b, 2048, vocabs[v]);
        for (size_t i = 0; head && i < HDL_ARRAY_LEN(keeps); i++)
            for (uint32_t n_tokens = 1; n_tokens <= (keeps[i] > 1 ? 1 : HDL_SCREEN_TOKENS_MAX);
                 n_tokens *= 2)
                add_head(b, head, n_tokens, keeps[i]);
    }
}

/* Matrices of a model: the widest one and the deepest one, and how many tokens meet them. */
typedef struct shapes {
    uint32_t wide_k, wide_n, deep_k, deep_n, deep_tokens[3];
    uint32_t tokens[8]; /* 0 ends */
    uint32_t tokens_of_others[3];
} shapes;

static const shapes of_scale[] = {
    [HDL_BENCH_CPU] = {2048, 5632, 5632, 2048, {512}, {1, 2, 4, 8, 16, 64, 512}, {1, 512}},
    /* Llama-3.1-8B's gate and up together, and down. */
    [HDL_BENCH_GPU] = {4096, 28672, 14336, 4096, {1, 512}, {1, 4, 8, 32, 64, 512, 4096}, {1, 512}},
    [HDL_BENCH_SHORT] = {128, 64, 64, 64, {1}, {1, 9}, {1}},
};

static void add_all(hdl_bench *b, weight_set **set, const hdl_weight *shape, const uint32_t *tokens)
{
    for (size_t i = 0; tokens[i] != 0; i++)
        add(b, set, shape, tokens[i]);
}

/* What the tree of leaves costs, which makes sums the same on all layouts: the deep matrix in one
 * walk over k, which no layout but one rank allows, and in leaves. */
static void add_leaves(hdl_bench *b, weight_set **set, const shapes *s)
{
    const hdl_wformat formats[] = {HDL_WFORMAT_BF16, HDL_WFORMAT_Q8, HDL_WFORMAT_Q4};
    const uint32_t tokens[] = {1, 8, 512};
    for (size_t f = 0; f < HDL_ARRAY_LEN(formats); f++)
        for (size_t i = 0; i < HDL_ARRAY_LEN(tokens); i++) {
            hdl_weight deep = {.format = formats[f], .k = s->deep_k, .n = s->deep_n, .n_leaves = 1};
            if (tokens[i] != s->deep_tokens[0])
                add(b, set, &deep, tokens[i]);
            deep.n_leaves = hdl_leaf_count(s->deep_k);
            add(b, set, &deep, tokens[i]);
        }
}

void hdl_bench_linear(hdl_bench *b)
{
    const hdl_wformat formats[] = {HDL_WFORMAT_BF16, HDL_WFORMAT_Q8,  HDL_WFORMAT_Q4,
                                   HDL_WFORMAT_FP8,  HDL_WFORMAT_Q8H, HDL_WFORMAT_Q4H,
                                   HDL_WFORMAT_Q4K,  HDL_WFORMAT_Q6K};
    const hdl_wformat others[] = {HDL_WFORMAT_FP8_32, HDL_WFORMAT_Q8M,   HDL_WFORMAT_Q8_16,
                                  HDL_WFORMAT_Q4M,    HDL_WFORMAT_Q4_16, HDL_WFORMAT_Q4M_16,
                                  HDL_WFORMAT_Q2};
    const shapes *s = &of_scale[b->scale];
    weight_set *set = NULL;
    for (size_t f = 0; f < HDL_ARRAY_LEN(formats); f++) {
        hdl_weight wide = {.format = formats[f], .k = s->wide_k, .n = s->wide_n, .n_leaves = 1};
        hdl_weight deep = {.format = formats[f], .k = s->deep_k, .n = s->deep_n, .n_leaves = 1};
        add_all(b, &set, &wide, s->tokens);
        add_all(b, &set, &deep, s->deep_tokens);
    }
    for (size_t f = 0; f < HDL_ARRAY_LEN(others); f++) {
        hdl_weight wide = {.format = others[f], .k = s->wide_k, .n = s->wide_n, .n_leaves = 1};
        add_all(b, &set, &wide, s->tokens_of_others);
    }
    if (b->scale == HDL_BENCH_SHORT)
        return;
    if (b->scale == HDL_BENCH_CPU)
        add_leaves(b, &set, s);
    /* Small: what a call costs. */
    add(b, &set, &(hdl_weight){.format = HDL_WFORMAT_BF16, .k = 256, .n = 256, .n_leaves = 1}, 1);
    hdl_weight gate = {
        .format = HDL_WFORMAT_F32, .k = 2048, .n = 128, .n_leaves = 1}; /* of a router */
    add(b, &set, &gate, 1);
    add(b, &set, &gate, 512);
}
