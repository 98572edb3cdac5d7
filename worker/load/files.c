/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/load/files.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/log.h"
#include "worker/load/safetensors.h"
#include "worker/load/st_quant.h"
#include "worker/model/arch_gguf.h"

enum { NAME_BYTES = 256, DIMS_MAX = HDL_ST_DIMS_MAX };

struct hdl_files {
    hdl_st *st;     /* owned; NULL: gguf */
    hdl_gguf *gguf; /* owned */
    const hdl_gguf_arch *gguf_arch;
    size_t n_tensors;
    unsigned char *used; /* owned; [tensors]: some slot has found it */
};

/* A tensor of any container; shape[n_dims - 1] runs fastest. */
typedef struct tensor {
    const char *name, *type_name;
    const void *data;
    hdl_enc encoding; /* HDL_ENC_COUNT: not supported */
    uint32_t n_dims;
    uint64_t shape[DIMS_MAX];
    size_t idx;
} tensor;

static hdl_err fail_nomem(hdl_errmsg *why)
{
    return hdl_fail(HDL_NOMEM, why, "out of memory; the machine is full; stop other programs");
}

static hdl_err open_container(hdl_files *f, const char *model_path, hdl_errmsg *why)
{
    if (hdl_fs_is_dir(model_path)) {
        HDL_TRY(hdl_st_open(&f->st, model_path, why));
        f->n_tensors = hdl_st_count(f->st);
        return HDL_OK;
    }
    HDL_TRY(hdl_gguf_open(&f->gguf, model_path, why));
    f->n_tensors = hdl_gguf_tensor_count(f->gguf);
    return hdl_gguf_arch_find(f->gguf, &f->gguf_arch, why);
}

hdl_err hdl_files_open(hdl_files **out, const char *model_path, hdl_errmsg *why)
{
    hdl_files *f = calloc(1, sizeof(*f));
    *out = NULL;
    if (!f)
        return fail_nomem(why);
    hdl_err err = open_container(f, model_path, why);
    if (err == HDL_OK) {
        f->used = calloc(f->n_tensors + 1, 1);
        if (!f->used)
            err = fail_nomem(why);
    }
    if (err != HDL_OK) {
        hdl_files_close(f);
        return err;
    }
    *out = f;
    return HDL_OK;
}

void hdl_files_close(hdl_files *f)
{
    if (!f)
        return;
    hdl_st_close(f->st);
    hdl_gguf_close(f->gguf);
    free(f->used);
    free(f);
}

uint64_t hdl_files_stamp(const hdl_files *f)
{
    return f->st ? hdl_st_stamp(f->st) : hdl_gguf_stamp(f->gguf);
}

void hdl_files_forget_pages(hdl_files *f)
{
    if (f->st)
        hdl_st_forget_pages(f->st);
    else
        hdl_gguf_forget_pages(f->gguf);
}

static hdl_enc encoding_of(hdl_dtype dtype)
{
    switch (dtype) {
    case HDL_DTYPE_F32: return HDL_ENC_F32;
    case HDL_DTYPE_F16: return HDL_ENC_F16;
    case HDL_DTYPE_BF16: return HDL_ENC_BF16;
    default: return HDL_ENC_COUNT;
    }
}

/* ggml's numbers of types that can be computed with. */
static hdl_enc encoding_of_ggml(uint32_t type)
{
    static const struct {
        uint32_t type;
        hdl_enc encoding;
    } list[] = {
        {0, HDL_ENC_F32},          {1, HDL_ENC_F16},           {30, HDL_ENC_BF16},
        {2, HDL_ENC_GGML_Q4_0},    {3, HDL_ENC_GGML_Q4_1},     {6, HDL_ENC_GGML_Q5_0},
        {7, HDL_ENC_GGML_Q5_1},    {8, HDL_ENC_GGML_Q8_0},     {10, HDL_ENC_GGML_Q2_K},
        {11, HDL_ENC_GGML_Q3_K},   {12, HDL_ENC_GGML_Q4_K},    {13, HDL_ENC_GGML_Q5_K},
        {14, HDL_ENC_GGML_Q6_K},   {16, HDL_ENC_GGML_IQ2_XXS}, {18, HDL_ENC_GGML_IQ3_XXS},
        {20, HDL_ENC_GGML_IQ4_NL}, {23, HDL_ENC_GGML_IQ4_XS},  {34, HDL_ENC_GGML_TQ1_0},
        {35, HDL_ENC_GGML_TQ2_0},  {39, HDL_ENC_GGML_MXFP4},
    };
    for (size_t i = 0; i < HDL_ARRAY_LEN(list); i++)
        if (list[i].type == type)
            return list[i].encoding;
    return HDL_ENC_COUNT;
}

static bool lookup_gguf(const hdl_files *f, const char *name, tensor *out)
{
    const hdl_gguf_tensor *t = hdl_gguf_tensor_find(f->gguf, name);
    if (!t)
        return false;
    *out = (tensor){.name = t->name,
                    .type_name = hdl_ggml_type_of(t->type)->name,
                    .data = t->data,
                    .encoding = encoding_of_ggml(t->type),
                    .n_dims = t->n_dims,
                    .idx = (size_t)(t - hdl_gguf_tensor_at(f->gguf, 0))};
    for (uint32_t i = 0; i < t->n_dims; i++)
        out->shape[i] = t->dims[t->n_dims - 1 - i];
    return true;
}

static bool lookup(const hdl_files *f, const char *name, tensor *out)
{
    if (f->gguf)
        return lookup_gguf(f, name, out);
    const hdl_st_tensor *t = hdl_st_find(f->st, name);
    if (!t)
        return false;
    *out = (tensor){.name = t->name,
                    .type_name = t->dtype_name,
                    .data = t->data,
                    .encoding = encoding_of(t->dtype),
                    .n_dims = t->n_dims,
                    .idx = (size_t)(t - hdl_st_at(f->st, 0))};
    memcpy(out->shape, t->shape, sizeof(out->shape));
    return true;
}

/* ---- forms -------------------------------------------------------------------------------- */

/* What a slot's tensor must look like, and where in it the slot is. */
typedef struct layout {
    const hdl_weight_name *form;
    uint64_t experts; /* matrices that lie behind each other; 1: no stack */
    uint64_t rows;    /* of one, all that are fused in it */
    uint64_t cols;
    uint64_t row_at; /* of the slot among them */
    uint64_t own;    /* rows of the slot */
    hdl_found_heads heads;
    hdl_tiles tiles; /* of columns */
} layout;

/* Value heads of Gated DeltaNet, as rows or as columns. */
static void find_tiles(layout *l, const hdl_model_desc *desc, hdl_wslot slot)
{
    const hdl_gdn_desc *g = &desc->gdn;
    hdl_tiles tiles = {
        .each = 1, .n_groups = g->n_k_heads, .per_group = g->n_v_heads / g->n_k_heads};
    if (tiles.per_group == 1)
        return;
    if (slot == HDL_WSLOT_GDN_OUT) {
        tiles.each = g->v_dim;
        l->tiles = tiles;
        return;
    }
    uint32_t each = (uint32_t)l->own / g->n_v_heads;
    tiles.each = each;
    l->heads =
        (hdl_found_heads){.each = each, .step = each, .first = (uint32_t)l->row_at, .tiles = tiles};
    l->row_at = 0;
    l->own = l->rows;
}

/* The slot's rows by heads, in the whole tensor. k_b is wanted with each head's matrix transposed:
 * some files hold it so, the others are read by columns. */
static void find_heads(layout *l, const hdl_model_desc *desc, hdl_wslot slot)
{
    bool gdn = hdl_slot_info_of(slot)->when == HDL_WHEN_GDN;
    uint32_t n_heads = gdn ? desc->gdn.n_k_heads : desc->n_heads;
    if (l->form->form & HDL_FORM_HEADS_TRANSPOSED) {
        uint64_t cols = l->own / n_heads;
        l->heads = (hdl_found_heads){.each = (uint32_t)l->cols, .step = (uint32_t)l->cols};
        l->own = l->cols * n_heads;
        l->rows = l->cols;
        l->cols = cols;
        l->experts = n_heads;
        return;
    }
    l->heads = (hdl_found_heads){.each = (uint32_t)(l->own / n_heads),
                                 .step = (uint32_t)(l->rows / n_heads),
                                 .first = (uint32_t)(l->row_at / n_heads),
                                 .across = slot == HDL_WSLOT_MLA_K_B};
    l->row_at = 0;
    l->own = l->rows;
    if (l->form->n_fused == 0) { /* alone, with a dimension for the heads */
        l->experts = n_heads;
        l->rows /= n_heads;
    }
}

static layout layout_of(const hdl_model_desc *desc, hdl_wslot slot, const hdl_weight_name *form)
{
    const hdl_slot_info *info = hdl_slot_info_of(slot);
    uint64_t own = hdl_dim_size(desc, info->rows);
    layout l = {.form = form, .experts = 1, .rows = own, .cols = hdl_dim_size(desc, info->cols)};
    if (form->form & HDL_FORM_STACKED)
        l.experts = desc->n_experts;
    if (form->form & (HDL_FORM_EVEN | HDL_FORM_ODD))
        l.rows *= 2;
    bool before = true;
    for (uint32_t i = 0; i < form->n_fused; i++) {
        uint64_t rows = hdl_dim_size(desc, hdl_slot_info_of(form->fused[i])->rows);
        before = before && form->fused[i] != slot;
        l.row_at += before ? rows : 0;
        l.rows += form->fused[i] != slot ? rows : 0;
    }
    l.own = own;
    if (form->form & (HDL_FORM_HEADS | HDL_FORM_HEADS_TRANSPOSED))
        find_heads(&l, desc, slot);
    if (form->form & HDL_FORM_TILED)
        find_tiles(&l, desc, slot);
    return l;
}

/* Dimensions of one do not count: some writers keep them, others do not. */
static uint32_t squeeze(const uint64_t *in, uint32_t n, uint64_t *out)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; i++)
        if (in[i] != 1)
            out[kept++] = in[i];
    return kept;
}

static void show_shape(char *out, size_t size, const uint64_t *shape, uint32_t n)
{
    size_t at = 0;
    snprintf(out, size, "1");
    for (uint32_t i = 0; i < n && at < size; i++)
        at += (size_t)snprintf(out + at, size - at, "%s%" PRIu64, i ? " x " : "", shape[i]);
}

static hdl_err check(const tensor *t, const layout *l, hdl_errmsg *why)
{
    bool swap = (l->form->form & HDL_FORM_TRANSPOSED) != 0;
    const uint64_t asked[] = {l->experts, swap ? l->cols : l->rows, swap ? l->rows : l->cols};
    uint64_t want[3], got[DIMS_MAX];
    uint32_t n_want = squeeze(asked, 3, want), n_got = squeeze(t->shape, t->n_dims, got);
    if (n_want != n_got || memcmp(want, got, n_want * sizeof(*want)) != 0) {
        char is[96], should[96];
        show_shape(is, sizeof(is), got, n_got);
        show_shape(should, sizeof(should), want, n_want);
        return hdl_fail(HDL_CORRUPT, why,
                        "tensor %.120s is %s; the model's description asks for %s; they do not "
                        "belong together; fetch the model again",
                        t->name, is, should);
    }
    const hdl_codec *codec = t->encoding < HDL_ENC_COUNT ? hdl_codec_of(t->encoding) : NULL;
    bool odd =
        l->cols % (codec ? codec->block_cols : 1) != 0 || l->tiles.each % HDL_SOURCE_UNIT != 0;
    if (!codec || (codec->block_cols != 1 && (swap || l->heads.across || odd)))
        return hdl_fail(HDL_UNSUPPORTED, why,
                        "tensor %.120s is of type %.20s; that is not supported here; use the bf16 "
                        "release of the model",
                        t->name, t->type_name);
    return HDL_OK;
}

static hdl_source source_of(const tensor *t, const layout *l, uint32_t expert)
{
    const hdl_codec *codec = hdl_codec_of(t->encoding);
    bool swap = (l->form->form & HDL_FORM_TRANSPOSED) != 0;
    int64_t row = (int64_t)(l->cols / codec->block_cols * codec->block_bytes);
    int64_t col = codec->block_bytes;
    if (swap) {
        row = codec->block_bytes;
        col = (int64_t)l->rows * codec->block_bytes;
    }
    uint64_t at = l->form->form & HDL_FORM_STACKED ? (uint64_t)expert * l->rows * l->cols : 0;
    const char *data = (const char *)t->data + at / codec->block_cols * codec->block_bytes;
    hdl_source s = {.encoding = t->encoding,
                    .row_at = (uint32_t)l->row_at,
                    .n_rows = (uint32_t)l->own,
                    .n_cols = (uint32_t)l->cols,
                    .whole_rows = (uint32_t)l->rows,
                    .scale_mul = 1,
                    .scale_div = 1,
                    .tiles = l->tiles};
    if (l->form->form & (HDL_FORM_EVEN | HDL_FORM_ODD)) {
        data += l->form->form & HDL_FORM_ODD ? row : 0;
        row *= 2;
    }
    s.codes = (hdl_plane){.data = data, .row_step = row, .col_step = col};
    return s;
}

static void transpose_plane(hdl_plane *p)
{
    int64_t step = p->row_step;
    p->row_step = p->col_step;
    p->col_step = step;
}

/* Rows for columns, of an encoding whose numbers stand alone. */
static hdl_source transposed(const hdl_source *src)
{
    hdl_source s = *src;
    s.row_at = src->col_at;
    s.n_rows = s.whole_rows = src->n_cols;
    s.col_at = src->row_at;
    s.n_cols = src->n_rows;
    s.scale_rows = src->scale_cols;
    s.scale_cols = src->scale_rows;
    transpose_plane(&s.codes);
    transpose_plane(&s.scales);
    transpose_plane(&s.zeros);
    return s;
}

/* The same of a quantised matrix. Codes that share bytes are read one by one. */
static hdl_source across(const hdl_source *src)
{
    return src->encoding == HDL_ENC_E4M3 ? transposed(src) : hdl_source_turned(src);
}

/* Names of slots, in the order in which they are tried. */
typedef struct names {
    const hdl_weight_name *own, *common;
    size_t n_own, n_common;
} names;

static names names_of(const hdl_files *f, const hdl_model_desc *desc)
{
    const hdl_arch *arch = hdl_arch_of(desc);
    if (!f->gguf)
        return (names){.own = arch->names, .n_own = arch->n_names};
    return (names){.own = f->gguf_arch->names,
                   .n_own = f->gguf_arch->n_names,
                   .common = hdl_gguf_common_names,
                   .n_common = hdl_gguf_common_name_count};
}

/* A name of the slot, and what the files have by it: a tensor, or a quantised matrix. */
typedef struct candidate {
    const hdl_weight_name *form;
    char name[NAME_BYTES];
    bool has_tensor;
    tensor tensor;
    hdl_found quantised; /* name NULL: none */
} candidate;

static bool is_plain(const tensor *t)
{
    return t->encoding == HDL_ENC_F32 || t->encoding == HDL_ENC_F16 || t->encoding == HDL_ENC_BF16;
}

/* Every second row of a whole matrix, from `first` on: codes, and scales unless they are of rows
 * beyond counting. */
static void every_second(hdl_source *s, uint32_t first)
{
    hdl_plane *planes[] = {&s->codes, &s->scales};
    for (size_t i = 0; i < HDL_ARRAY_LEN(planes); i++) {
        if (!planes[i]->data || (i == 1 && s->scale_rows > 1))
            continue;
        planes[i]->data = (const char *)planes[i]->data + first * planes[i]->row_step;
        planes[i]->row_step *= 2;
    }
    s->scale_rows = s->scale_rows > 1 ? s->scale_rows / 2 : s->scale_rows;
}

/* A matrix of several tensors. In such files rows lie behind each other whatever the form of the
 * plain tensor: `name` is what that would be called. */
static hdl_err find_quantised(hdl_files *f, hdl_files_ask ask, candidate *c, hdl_errmsg *why)
{
    layout l = layout_of(ask.desc, ask.at.slot, c->form);
    hdl_st_quant q = {.st = f->st,
                      .used = f->used,
                      .quant = &ask.desc->quant,
                      .name = c->name,
                      .experts = l.experts,
                      .rows = l.rows,
                      .cols = l.cols,
                      .expert = c->form->form & HDL_FORM_STACKED ? ask.at.expert : 0};
    hdl_found *q_found = &c->quantised;
    HDL_TRY(hdl_st_quant_find(&q, &q_found->src, &q_found->name, why));
    if (!q_found->name)
        return HDL_OK;
    if (c->form->form & (HDL_FORM_EVEN | HDL_FORM_ODD))
        every_second(&q_found->src, c->form->form & HDL_FORM_ODD ? 1 : 0);
    q_found->src.row_at = (uint32_t)l.row_at;
    q_found->src.n_rows = (uint32_t)l.own;
    q_found->heads = l.heads;
    if (l.heads.across)
        q_found->src = across(&q_found->src);
    return HDL_OK;
}

/* The first of the slot's names that the files have. */
static hdl_err find_name(hdl_files *f, hdl_files_ask ask, candidate *c, hdl_errmsg *why)
{
    names list = names_of(f, ask.desc);
    char first[NAME_BYTES] = "";
    bool quantised = f->st && ask.desc->quant.method != HDL_QUANT_NONE &&
                     hdl_slot_info_of(ask.at.slot)->cols != HDL_DIM_NONE;
    *c = (candidate){0};
    for (size_t i = 0; i < list.n_own + list.n_common; i++) {
        c->form = i < list.n_own ? &list.own[i] : &list.common[i - list.n_own];
        if (c->form->slot != ask.at.slot ||
            !hdl_weight_name_write(c->form, ask.at, c->name, sizeof(c->name)))
            continue;
        c->has_tensor = lookup(f, c->name, &c->tensor);
        if (quantised && !(c->has_tensor && is_plain(&c->tensor)))
            HDL_TRY(find_quantised(f, ask, c, why));
        if (c->has_tensor || c->quantised.name)
            return HDL_OK;
        if (first[0] == '\0')
            memcpy(first, c->name, sizeof(first));
    }
    if (first[0] == '\0')
        return hdl_fail(HDL_BUG, why, "%s names no weight for %s; its table is wrong; report this",
                        ask.desc->arch, hdl_slot_info_of(ask.at.slot)->name);
    return hdl_fail(HDL_CORRUPT, why,
                    "tensor %.120s is missing; the files are not complete or not of this model; "
                    "fetch the model again",
                    first);
}

hdl_err hdl_files_find(hdl_files *f, hdl_files_ask ask, hdl_found *out, hdl_errmsg *why)
{
    candidate c;
    HDL_TRY(find_name(f, ask, &c, why));
    *out = c.quantised;
    if (c.quantised.name)
        return HDL_OK;
    layout l = layout_of(ask.desc, ask.at.slot, c.form);
    HDL_TRY(check(&c.tensor, &l, why));
    f->used[c.tensor.idx] = 1;
    hdl_source src = source_of(&c.tensor, &l, ask.at.expert);
    *out = (hdl_found){.src = l.heads.across ? transposed(&src) : src,
                       .name = c.tensor.name,
                       .pairs = c.form->form & HDL_FORM_PAIRS ? ask.desc->head_dim : 0,
                       .heads = l.heads,
                       .neg_exp = (c.form->form & HDL_FORM_NEG_EXP) != 0};
    return HDL_OK;
}

/* Layers after the last predict further tokens and are not run. */
static bool is_later_layer(const hdl_model_desc *desc, const char *name)
{
    unsigned layer = 0;
    return sscanf(name, "blk.%5u.", &layer) == 1 && layer >= desc->n_layers;
}

/* What other files than the weights' say too, or what the description was made of. */
static bool harmless(const hdl_files *f, const hdl_model_desc *desc, const char *name)
{
    size_t len = strlen(name);
    static const char inv[] = "rotary_emb.inv_freq"; /* computed anew from config.json */
    if (f->gguf)
        return strncmp(name, "rope_f", 6) == 0 || /* freqs, factors: read by gguf_rope.c */
               is_later_layer(desc, name);
    if (len >= sizeof(inv) - 1 && strcmp(name + len - (sizeof(inv) - 1), inv) == 0)
        return true;
    const hdl_weight_name *head = hdl_arch_weight(hdl_arch_of(desc), HDL_WSLOT_LM_HEAD);
    return desc->tied && head && strcmp(name, head->pattern) == 0; /* the embedding once more */
}

hdl_err hdl_files_check_unknown(const hdl_files *f, const hdl_model_desc *desc, hdl_errmsg *why)
{
    size_t n_left_out = 0, n_scales = 0;
    for (size_t i = 0; i < f->n_tensors; i++) {
        const char *name =
            f->gguf ? hdl_gguf_tensor_at(f->gguf, i)->name : hdl_st_at(f->st, i)->name;
        if (f->used[i] || harmless(f, desc, name))
            continue;
        if (desc->quant.method != HDL_QUANT_NONE && hdl_st_quant_ignores(name)) {
            n_scales++;
            continue;
        }
        if (!hdl_arch_skips(desc, name))
            return hdl_fail(HDL_UNSUPPORTED, why,
                            "tensor %.120s has no place in %s; leaving it out might give wrong "
                            "text; choose a model of a supported architecture, or report it",
                            name, desc->arch);
        n_left_out++;
    }
    if (n_scales != 0)
        HDL_LOG(INFO, LOAD, "left_out", "tensors=%zu why=scales_of_activations_and_cache",
                n_scales);
    if (n_left_out != 0)
        HDL_LOG(INFO, LOAD, "left_out", "tensors=%zu why=parts_not_run", n_left_out);
    return HDL_OK;
}
