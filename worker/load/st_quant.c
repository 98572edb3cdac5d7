/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/load/st_quant.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "kernels/numeric.h"

enum { NAME_BYTES = 300, WHOLE = 1 << 30 };

/* The search for one matrix. */
typedef struct search {
    const hdl_st_quant *q;
    const char *base; /* the name without ".weight" */
    hdl_errmsg *why;
    hdl_source *out;
} search;

/* The tensor base + ".weight"? + suffix, or base + suffix; NULL if there is none. */
static const hdl_st_tensor *sibling(const search *s, const char *stem, const char *suffix)
{
    char name[NAME_BYTES];
    int n = snprintf(name, sizeof(name), "%s%s", stem, suffix);
    return n > 0 && (size_t)n < sizeof(name) ? hdl_st_find(s->q->st, name) : NULL;
}

static void use(const search *s, const hdl_st_tensor *t)
{
    s->q->used[t - hdl_st_at(s->q->st, 0)] = 1;
}

/* ---- shapes and types ---------------------------------------------------------------------- */

typedef struct shape {
    uint32_t n;
    uint64_t d[4];
} shape;

static hdl_err damaged(const search *s, const hdl_st_tensor *t, const char *what)
{
    return hdl_fail(HDL_CORRUPT, s->why,
                    "tensor %.160s %s; the files are damaged or of another model; fetch them again",
                    t->name, what);
}

/* Dimensions of one do not count: some writers keep them, others do not. */
static bool is_shape(const hdl_st_tensor *t, shape want)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < t->n_dims; i++) {
        if (t->shape[i] == 1)
            continue;
        while (at < want.n && want.d[at] == 1)
            at++;
        if (at == want.n || want.d[at] != t->shape[i])
            return false;
        at++;
    }
    while (at < want.n && want.d[at] == 1)
        at++;
    return at == want.n;
}

static bool is_float(hdl_dtype dtype)
{
    return dtype == HDL_DTYPE_F32 || dtype == HDL_DTYPE_F16 || dtype == HDL_DTYPE_BF16;
}

static bool is_scale(hdl_dtype dtype)
{
    return is_float(dtype) || dtype == HDL_DTYPE_E4M3 || dtype == HDL_DTYPE_E8M0 ||
           dtype == HDL_DTYPE_U8;
}

static uint64_t div_ceil(uint64_t a, uint64_t b) { return (a + b - 1) / b; }

/* ---- planes ------------------------------------------------------------------------------- */

/* Row-major [experts, rows, row bytes]; the expert's. */
static hdl_plane rows_of(const search *s, const hdl_st_tensor *t, uint64_t rows, uint64_t row_bytes)
{
    return (hdl_plane){.data = (const char *)t->data + s->q->expert * rows * row_bytes,
                       .dtype = t->dtype,
                       .row_step = (int64_t)row_bytes,
                       .col_step = 1};
}

/* Codes along rows, row_bytes each. */
static hdl_err take_codes(search *s, const hdl_st_tensor *t, hdl_enc encoding, uint64_t row_bytes)
{
    uint64_t size = hdl_dtype_bytes(t->dtype);
    shape want = {3, {s->q->experts, s->q->rows, row_bytes / size}};
    shape blocks = {4, {s->q->experts, s->q->rows, row_bytes / 16, 16}}; /* gpt-oss */
    if (row_bytes % size != 0 || (!is_shape(t, want) && !is_shape(t, blocks)))
        return damaged(s, t, "has not the shape of the matrix that it holds");
    use(s, t);
    s->out->encoding = encoding;
    s->out->codes = rows_of(s, t, s->q->rows, row_bytes);
    return HDL_OK;
}

/* Scales of blocks of rows x cols (0: all), row-major. */
static void take_grid(search *s, const hdl_st_tensor *t, uint64_t rows, uint64_t cols)
{
    uint64_t size = hdl_dtype_bytes(t->dtype);
    uint64_t high = rows ? div_ceil(s->q->rows, rows) : 1,
             wide = cols ? div_ceil(s->q->cols, cols) : 1;
    use(s, t);
    s->out->scales = rows_of(s, t, high, wide * size);
    s->out->scales.col_step = (int64_t)size;
    s->out->scale_rows = rows ? (uint32_t)rows : WHOLE;
    s->out->scale_cols = cols ? (uint32_t)cols : WHOLE;
}

static bool is_grid(const search *s, const hdl_st_tensor *t, uint64_t rows, uint64_t cols)
{
    return is_shape(t, (shape){3,
                               {s->q->experts, rows ? div_ceil(s->q->rows, rows) : 1,
                                cols ? div_ceil(s->q->cols, cols) : 1}});
}

/* Scales of blocks as config.json says, of rows, or of the whole matrix; blocks of a row that
 * divide it evenly in any case (MXFP8). */
static hdl_err take_scales(search *s, const hdl_st_tensor *t)
{
    const hdl_quant_desc *q = s->q->quant;
    if (!is_scale(t->dtype))
        return damaged(s, t, "is of a type that scales are not");
    for (uint32_t i = 0; i < q->n_schemes; i++) {
        uint32_t rows = q->schemes[i].scale_rows, cols = q->schemes[i].scale_cols;
        if (cols != 0 && is_grid(s, t, rows, cols)) {
            take_grid(s, t, rows, cols);
            return HDL_OK;
        }
    }
    if (is_grid(s, t, 0, 0))
        take_grid(s, t, 0, 0);
    else if (is_grid(s, t, 1, 0))
        take_grid(s, t, 1, 0);
    else
        return damaged(s, t, "has not the shape of its matrix's scales");
    return HDL_OK;
}

/* Scales of `cols` columns of a row each. */
static hdl_err take_row_scales(search *s, const hdl_st_tensor *t, uint64_t cols)
{
    if (!is_scale(t->dtype) || !is_grid(s, t, 1, cols))
        return damaged(s, t, "has not the shape or type of its matrix's scales");
    take_grid(s, t, 1, cols);
    return HDL_OK;
}

/* One number, or one for each expert. */
static hdl_err take_scalar(search *s, const hdl_st_tensor *t, float *out)
{
    if (!is_float(t->dtype) || !is_shape(t, (shape){1, {s->q->experts}}))
        return damaged(s, t, "is not one number");
    const hdl_tensor view =
        hdl_tensor_1d((void *)(uintptr_t)t->data, t->dtype, (int64_t)s->q->experts);
    hdl_source source = hdl_source_of_tensor(&view);
    hdl_source_values(&source, (hdl_span){.row = s->q->expert, .n = 1}, out);
    if (!(*out > 0) || *out > 3e38f)
        return damaged(s, t, "holds a scale that is no number above 0");
    use(s, t);
    return HDL_OK;
}

static hdl_err check_columns(const search *s, const hdl_st_tensor *t, uint64_t unit)
{
    if (s->q->cols % unit == 0)
        return HDL_OK;
    return hdl_fail(HDL_UNSUPPORTED, s->why,
                    "tensor %.160s has rows of %" PRIu64 " values; quantised ones must be "
                    "multiples of %" PRIu64 " here; choose another quantisation of the model",
                    t->name, s->q->cols, unit);
}

static hdl_err odd_group(const search *s, const hdl_st_tensor *t, uint64_t group)
{
    return hdl_fail(HDL_UNSUPPORTED, s->why,
                    "tensor %.160s has a scale for every %" PRIu64 " values; groups must be "
                    "multiples of %d here; choose another quantisation of the model",
                    t->name, group, HDL_SOURCE_UNIT);
}

/* ---- encodings ---------------------------------------------------------------------------- */

/* The suffix of a scale: three tools, three names. */
static const hdl_st_tensor *find_scale(const search *s)
{
    const hdl_st_tensor *t = sibling(s, s->q->name, "_scale_inv");
    if (!t)
        t = sibling(s, s->q->name, "_scale");
    return t ? t : sibling(s, s->base, ".scale");
}

static hdl_err no_scale(const search *s, const hdl_st_tensor *t)
{
    return damaged(s, t, "has no scales beside it");
}

static hdl_err find_fp8(search *s, const hdl_st_tensor *t)
{
    const hdl_st_tensor *scale = find_scale(s);
    HDL_TRY(take_codes(s, t, HDL_ENC_E4M3, s->q->cols));
    return scale ? take_scales(s, scale) : no_scale(s, t);
}

static hdl_err find_int8(search *s, const hdl_st_tensor *t)
{
    const hdl_st_tensor *scale = find_scale(s), *zero = sibling(s, s->q->name, "_zero_point");
    if (zero)
        return damaged(s, zero, "gives zero points to integers of 8 bits, which is not supported");
    HDL_TRY(check_columns(s, t, HDL_SOURCE_UNIT));
    HDL_TRY(take_codes(s, t, HDL_ENC_INT8, s->q->cols));
    return scale ? take_scales(s, scale) : no_scale(s, t);
}

static hdl_err find_nvfp4(search *s, const hdl_st_tensor *t)
{
    const hdl_st_tensor *scale = sibling(s, s->q->name, "_scale");
    const hdl_st_tensor *mul = sibling(s, s->q->name, "_scale_2");
    const hdl_st_tensor *div = sibling(s, s->q->name, "_global_scale");
    HDL_TRY(check_columns(s, t, HDL_SOURCE_UNIT));
    HDL_TRY(take_codes(s, t, HDL_ENC_NVFP4, s->q->cols / 2));
    if (!scale || (!mul && !div))
        return no_scale(s, t);
    HDL_TRY(take_row_scales(s, scale, 16));
    return mul ? take_scalar(s, mul, &s->out->scale_mul) : take_scalar(s, div, &s->out->scale_div);
}

static hdl_err find_mxfp4(search *s, const hdl_st_tensor *t, const hdl_st_tensor *scale)
{
    HDL_TRY(check_columns(s, t, HDL_SOURCE_UNIT));
    HDL_TRY(take_codes(s, t, HDL_ENC_MXFP4, s->q->cols / 2));
    return scale ? take_row_scales(s, scale, 32) : no_scale(s, t);
}

static hdl_err find_ternary(search *s, const hdl_st_tensor *t)
{
    static const float one = 1;
    const hdl_st_tensor *scale = sibling(s, s->q->name, "_scale");
    if (s->q->experts != 1 || s->q->rows % 4 != 0 ||
        !is_shape(t, (shape){2, {s->q->rows / 4, s->q->cols}}))
        return damaged(s, t, "has not the shape of the matrix that it holds");
    HDL_TRY(check_columns(s, t, HDL_SOURCE_UNIT));
    if (!scale)
        return no_scale(s, t);
    use(s, t);
    s->out->encoding = HDL_ENC_TERNARY;
    s->out->codes = rows_of(s, t, 0, s->q->cols);
    s->out->scales = (hdl_plane){.data = &one, .dtype = HDL_DTYPE_F32};
    s->out->scale_rows = s->out->scale_cols = WHOLE;
    return take_scalar(s, scale,
                       s->q->quant->scale_divides ? &s->out->scale_div : &s->out->scale_mul);
}

/* weight_shape of compressed-tensors says what the padding of words hides. */
static hdl_err check_shape_tensor(search *s)
{
    const hdl_st_tensor *t = sibling(s, s->q->name, "_shape");
    if (!t)
        return HDL_OK;
    uint64_t d[2] = {0, 0};
    for (int i = 0; is_shape(t, (shape){1, {2}}) && i < 2; i++) {
        int32_t narrow = 0;
        if (t->dtype == HDL_DTYPE_I64)
            memcpy(&d[i], (const char *)t->data + i * 8, 8);
        if (t->dtype == HDL_DTYPE_I32) {
            memcpy(&narrow, (const char *)t->data + i * 4, 4);
            d[i] = (uint64_t)narrow;
        }
    }
    if (d[0] != s->q->rows || d[1] != s->q->cols)
        return damaged(s, t, "says another shape than config.json");
    use(s, t);
    return HDL_OK;
}

static hdl_err find_packed_ints(search *s, const hdl_st_tensor *t)
{
    const hdl_st_tensor *scale = sibling(s, s->q->name, "_scale");
    const hdl_st_tensor *zero = sibling(s, s->q->name, "_zero_point");
    const hdl_st_tensor *order = sibling(s, s->q->name, "_g_idx");
    bool bytes = is_shape(t, (shape){3, {s->q->experts, s->q->rows, s->q->cols / 4}});
    if (order || (zero && (bytes || s->q->experts != 1)))
        return hdl_fail(HDL_UNSUPPORTED, s->why,
                        "tensor %.160s %s; that is not supported; choose another quantisation of "
                        "the model",
                        order ? order->name : zero->name,
                        order ? "puts columns into groups in an order of their own (actorder)"
                              : "gives zero points to integers of 8 bits or to stacked experts");
    HDL_TRY(check_columns(s, t, HDL_SOURCE_UNIT));
    HDL_TRY(check_shape_tensor(s));
    HDL_TRY(take_codes(s, t,
                       bytes  ? HDL_ENC_INT8
                       : zero ? HDL_ENC_INT4Z
                              : HDL_ENC_INT4,
                       bytes ? s->q->cols : s->q->cols / 2));
    if (!scale)
        return no_scale(s, t);
    HDL_TRY(take_scales(s, scale));
    if (s->out->scale_cols % HDL_SOURCE_UNIT != 0)
        return odd_group(s, t, s->out->scale_cols);
    if (!zero)
        return HDL_OK;
    uint64_t groups = s->out->scale_cols == WHOLE ? 1 : div_ceil(s->q->cols, s->out->scale_cols);
    if (zero->dtype != HDL_DTYPE_I32 || s->out->scale_rows != 1 ||
        !is_shape(zero, (shape){2, {div_ceil(s->q->rows, 8), groups}}))
        return damaged(s, zero, "has not the shape of its matrix's zero points");
    use(s, zero);
    s->out->zeros = (hdl_plane){.data = zero->data, .row_step = (int64_t)groups * 4, .col_step = 4};
    return HDL_OK;
}

/* ---- AWQ, GPTQ ---------------------------------------------------------------------------- */

/* The four tensors of a module, [inputs, outputs]. */
typedef struct transposed {
    const hdl_st_tensor *codes, *zeros, *scales, *order;
    uint64_t groups, group;
} transposed;

static hdl_err take_transposed(search *s, transposed *m, uint64_t rows_of_word,
                               uint64_t cols_of_word)
{
    uint64_t rows = s->q->rows, cols = s->q->cols, group = s->q->quant->schemes[0].scale_cols;
    m->group = group ? group : cols;
    m->groups = div_ceil(cols, m->group);
    if (s->q->experts != 1 || rows % rows_of_word != 0 || cols % cols_of_word != 0 ||
        m->codes->dtype != HDL_DTYPE_I32 ||
        !is_shape(m->codes, (shape){2, {cols / cols_of_word, rows / rows_of_word}}))
        return damaged(s, m->codes, "has not the shape of the matrix that it holds");
    HDL_TRY(check_columns(s, m->codes, HDL_SOURCE_UNIT));
    if (m->group % HDL_SOURCE_UNIT != 0)
        return odd_group(s, m->codes, m->group);
    if (!m->scales || !m->zeros)
        return no_scale(s, m->codes);
    uint64_t per_zero = rows_of_word > 1 ? rows_of_word : cols_of_word;
    if (!is_float(m->scales->dtype) || !is_shape(m->scales, (shape){2, {m->groups, rows}}))
        return damaged(s, m->scales, "has not the shape or type of its matrix's scales");
    if (m->zeros->dtype != HDL_DTYPE_I32 || rows % per_zero != 0 ||
        !is_shape(m->zeros, (shape){2, {m->groups, rows / per_zero}}))
        return damaged(s, m->zeros, "has not the shape of its matrix's zero points");
    int64_t size = (int64_t)hdl_dtype_bytes(m->scales->dtype);
    use(s, m->codes);
    use(s, m->scales);
    use(s, m->zeros);
    s->out->codes = (hdl_plane){
        .data = m->codes->data, .row_step = 4, .col_step = (int64_t)(rows / rows_of_word) * 4};
    s->out->zeros = (hdl_plane){
        .data = m->zeros->data, .row_step = 4, .col_step = (int64_t)(rows / per_zero) * 4};
    s->out->scales = (hdl_plane){.data = m->scales->data,
                                 .dtype = m->scales->dtype,
                                 .row_step = size,
                                 .col_step = size * (int64_t)rows};
    s->out->scale_rows = 1;
    s->out->scale_cols = (uint32_t)m->group;
    return HDL_OK;
}

/* Column i in group i / group? Else every column's group must exist. */
static hdl_err check_order(search *s, const transposed *m, bool *in_order)
{
    const int32_t *at = m->order->data;
    if (m->order->dtype != HDL_DTYPE_I32 || !is_shape(m->order, (shape){1, {s->q->cols}}))
        return damaged(s, m->order, "does not name a group for every column");
    *in_order = true;
    for (uint64_t i = 0; i < s->q->cols; i++) {
        if (at[i] < 0 || (uint64_t)at[i] >= m->groups)
            return damaged(s, m->order, "names a group that does not exist");
        *in_order = *in_order && (uint64_t)at[i] == i / m->group;
    }
    use(s, m->order);
    return HDL_OK;
}

/* All zero points in the middle: what sym means. */
static bool is_symmetric(const search *s, const transposed *m, uint32_t bits)
{
    uint32_t zero = (1u << (bits - 1)) - (uint32_t)s->q->quant->zero_add, word = 0;
    for (uint32_t i = 0; i < 32; i += bits)
        word |= zero << i;
    for (uint64_t i = 0; i < m->zeros->bytes; i += 4)
        if (memcmp((const char *)m->zeros->data + i, &word, 4) != 0)
            return false;
    return true;
}

static hdl_err find_gptq(search *s, const hdl_st_tensor *codes)
{
    static const hdl_enc encodings[2][3] = {{HDL_ENC_GPTQ4G, HDL_ENC_GPTQ4Z, HDL_ENC_GPTQ4},
                                            {HDL_ENC_GPTQ8G, HDL_ENC_GPTQ8Z, HDL_ENC_GPTQ8}};
    hdl_enc planned = s->q->quant->schemes[0].encoding;
    bool in_order = true;
    uint32_t bits = planned >= HDL_ENC_GPTQ8 ? 8 : 4;
    transposed m = {.codes = codes,
                    .zeros = sibling(s, s->base, ".qzeros"),
                    .scales = sibling(s, s->base, ".scales"),
                    .order = sibling(s, s->base, ".g_idx")};
    HDL_TRY(take_transposed(s, &m, 1, 32 / bits));
    if (m.order)
        HDL_TRY(check_order(s, &m, &in_order));
    s->out->zero_add = s->q->quant->zero_add;
    s->out->col_group = in_order ? NULL : m.order->data;
    s->out->encoding = encodings[bits == 8][!in_order ? 0 : 1 + is_symmetric(s, &m, bits)];
    return HDL_OK;
}

static hdl_err find_awq(search *s, const hdl_st_tensor *codes)
{
    transposed m = {.codes = codes,
                    .zeros = sibling(s, s->base, ".qzeros"),
                    .scales = sibling(s, s->base, ".scales")};
    s->out->encoding = HDL_ENC_AWQ4;
    return take_transposed(s, &m, 8, 1);
}

/* ---- dispatch ----------------------------------------------------------------------------- */

/* By what stands beside the name; what config.json says tells apart what looks alike. */
static hdl_err find_by_files(search *s, const char **codes)
{
    hdl_quant_method method = s->q->quant->method;
    const hdl_st_tensor *plain = hdl_st_find(s->q->st, s->q->name);
    const hdl_st_tensor *packed = sibling(s, s->q->name, "_packed");
    const hdl_st_tensor *blocks = sibling(s, s->q->name, "_blocks");
    const hdl_st_tensor *words = sibling(s, s->base, ".qweight");
    const hdl_st_tensor *t = plain ? plain : packed ? packed : blocks ? blocks : words;
    *codes = t ? t->name : NULL;
    if (!t)
        return HDL_OK;
    if (t == words && method == HDL_QUANT_AWQ)
        return find_awq(s, t);
    if (t == words && method == HDL_QUANT_GPTQ)
        return find_gptq(s, t);
    if (t == plain && t->dtype == HDL_DTYPE_E4M3)
        return find_fp8(s, t);
    if (t == plain && t->dtype == HDL_DTYPE_I8)
        return find_int8(s, t);
    if (t == plain && t->dtype == HDL_DTYPE_U8)
        return method == HDL_QUANT_BITNET ? find_ternary(s, t) : find_nvfp4(s, t);
    if (t == packed && t->dtype == HDL_DTYPE_I32)
        return find_packed_ints(s, t);
    if (t == packed && t->dtype == HDL_DTYPE_U8)
        return sibling(s, s->q->name, "_global_scale")
                   ? find_nvfp4(s, t)
                   : find_mxfp4(s, t, sibling(s, s->q->name, "_scale"));
    if (t == blocks && t->dtype == HDL_DTYPE_U8)
        return find_mxfp4(s, t, sibling(s, s->q->name, "_scales"));
    *codes = NULL;
    return HDL_OK;
}

hdl_err hdl_st_quant_find(const hdl_st_quant *q, hdl_source *out, const char **codes,
                          hdl_errmsg *why)
{
    static const char tail[] = ".weight";
    char base[NAME_BYTES];
    size_t len = strlen(q->name), n = sizeof(tail) - 1;
    *codes = NULL;
    if (len >= sizeof(base) || q->rows > UINT32_MAX || q->cols > UINT32_MAX)
        return HDL_OK;
    memcpy(base, q->name, len + 1);
    if (len > n && strcmp(base + len - n, tail) == 0)
        base[len - n] = '\0';
    *out = (hdl_source){.n_rows = (uint32_t)q->rows,
                        .n_cols = (uint32_t)q->cols,
                        .whole_rows = (uint32_t)q->rows,
                        .scale_mul = 1,
                        .scale_div = 1};
    search s = {.q = q, .base = base, .why = why, .out = out};
    return find_by_files(&s, codes);
}

bool hdl_st_quant_ignores(const char *name)
{
    static const char *const ends[] = {".input_scale",      ".input_global_scale",
                                       ".activation_scale", "_activation_scale",
                                       ".k_scale",          ".v_scale",
                                       ".q_scale",          ".kv_scale",
                                       ".output_scale",     ".prob_scale"};
    size_t len = strlen(name);
    for (size_t i = 0; i < HDL_ARRAY_LEN(ends); i++) {
        size_t n = strlen(ends[i]);
        if (n <= len && strcmp(name + len - n, ends[i]) == 0)
            return true;
    }
    return false;
}
