/* SPDX-License-Identifier: Apache-2.0 */
/* Where each weight of a slot lies in the file is asked of the loader: it reads a file whose every
 * element is its own index. So the data that are made from the answers have the converter's
 * checksums only if the loader's tables of names and forms are right. */
#include "rig_gguf.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/gguf.h"
#include "base/hash.h"
#include "worker/load/files.h"

enum { DATA_MAX = 16 << 20 };

typedef struct maker {
    unsigned char *file; /* owned; head, then data */
    size_t head_len, data_len;
    float *data;         /* in file */
    float *want;         /* owned; [data_len / 4] */
    unsigned char *made; /* owned; [data_len / 4]: some slot has said what belongs there */
    hdl_gguf *gguf;      /* of file */
    const unsigned char *sums, *own; /* behind the head: checksums; data of rope_* */
    hdl_model_desc *hf, *desc;       /* owned; as config.json says and as the file's keys do */
    hdl_files *hf_files;             /* the same model as safetensors: what belongs where */
} maker;

static float *data_of(const maker *m, const hdl_gguf_tensor *t)
{
    return m->data + ((const unsigned char *)t->data - (const unsigned char *)m->data) / 4;
}

/* Index of the tensor in the order of the file, which the checksums follow. */
static size_t order_of(const maker *m, const hdl_gguf_tensor *t)
{
    size_t before = 0;
    for (size_t i = 0; i < hdl_gguf_tensor_count(m->gguf); i++)
        before += (const char *)hdl_gguf_tensor_at(m->gguf, i)->data < (const char *)t->data;
    return before;
}

static void open_head(maker *m, rig_head head)
{
    hdl_errmsg why = {0};
    uint64_t n = 0;
    memcpy(&n, head.bytes + 8, sizeof(n));
    m->file = calloc(1, head.len + DATA_MAX);
    assert_non_null(m->file);
    /* How long the head is follows from where the parser finds the first tensor. */
    memcpy(m->file, head.bytes, head.len);
    if (hdl_gguf_open_bytes(&m->gguf, m->file, head.len + DATA_MAX, &why) != HDL_OK)
        fail_msg("%s", why.text);
    assert_int_equal(hdl_gguf_tensor_count(m->gguf), n);
    const unsigned char *first = NULL, *last = NULL;
    for (size_t i = 0; i < n; i++) {
        const hdl_gguf_tensor *t = hdl_gguf_tensor_at(m->gguf, i);
        const unsigned char *at = t->data;
        assert_int_equal(t->type, 0);
        first = !first || at < first ? at : first;
        last = !last || at + t->bytes > last ? at + t->bytes : last;
    }
    m->head_len = (size_t)(first - m->file);
    m->data_len = (size_t)(last - first);
    m->data = (float *)(void *)(m->file + m->head_len);
    m->sums = (const unsigned char *)head.bytes + m->head_len;
    m->own = m->sums + 4 * n;
    m->want = calloc(m->data_len / 4, sizeof(float));
    m->made = calloc(m->data_len / 4, 1);
    assert_non_null(m->want);
    assert_non_null(m->made);
    memset(m->data, 0, m->data_len);
}

/* No weights, or computed from them. */
static bool is_own(const char *name)
{
    size_t len = strlen(name);
    return strncmp(name, "rope_", 5) == 0 || (len > 6 && strcmp(name + len - 6, ".ssm_a") == 0);
}

/* Tensors that the converter made come as they are, in the order of the file. */
static void copy_own(maker *m)
{
    for (size_t k = 0; k < hdl_gguf_tensor_count(m->gguf); k++)
        for (size_t i = 0; i < hdl_gguf_tensor_count(m->gguf); i++) {
            const hdl_gguf_tensor *t = hdl_gguf_tensor_at(m->gguf, i);
            if (order_of(m, t) != k || !is_own(t->name))
                continue;
            memcpy(data_of(m, t), m->own, t->bytes);
            memset(m->made + (data_of(m, t) - m->data), 1, t->bytes / 4);
            memcpy(m->want + (data_of(m, t) - m->data), m->own, t->bytes);
            m->own += t->bytes;
        }
}

static void write_file(const maker *m, const char *path)
{
    hdl_errmsg why = {0};
    hdl_fs_bytes bytes = {.data = m->file, .len = m->head_len + m->data_len};
    assert_int_equal(hdl_fs_write_atomic(path, bytes, &why), HDL_OK);
}

/* Row of the file's source that holds row r of the slot. */
static uint32_t file_row(const hdl_found *f, uint32_t r)
{
    uint32_t each = f->heads.each;
    if (each != 0)
        return hdl_found_head_row(&f->heads, r / each) + r % each;
    if (f->pairs == 0)
        return r;
    uint32_t in_head = r % f->pairs, half = f->pairs / 2;
    return r - in_head + (in_head < half ? 2 * in_head : 2 * (in_head - half) + 1);
}

static hdl_found find(hdl_files *files, const hdl_model_desc *desc, hdl_weight_at at)
{
    hdl_errmsg why = {0};
    hdl_found found;
    if (hdl_files_find(files, (hdl_files_ask){desc, at}, &found, &why) != HDL_OK)
        fail_msg("%s", why.text);
    return found;
}

/* Norms that config.json's model stores as w - 1 are whole in GGUF files. */
static float plus(const maker *m, hdl_wslot slot)
{
    bool norm = strstr(hdl_slot_info_of(slot)->name, "NORM") && slot != HDL_WSLOT_GDN_NORM;
    return norm && m->hf->norm_plus_one && !m->desc->norm_plus_one ? 1.0f : 0.0f;
}

static float value_at(const hdl_found *f, uint32_t row, uint32_t col)
{
    float value = -1;
    hdl_source_values(&f->src, (hdl_span){row, col, 1}, &value);
    return value;
}

/* A row and a column of a slot, of a head where the slot has a matrix for each. */
typedef struct place {
    uint32_t head, row, col;
} place;

static float element(const hdl_found *f, hdl_wslot slot, place at)
{
    if (slot != HDL_WSLOT_MLA_K_B) /* is wanted with each head's matrix transposed */
        return value_at(f, file_row(f, at.row), at.col);
    uint32_t first = hdl_found_head_row(&f->heads, at.head);
    return f->heads.across ? value_at(f, at.row, first + at.col)
                           : value_at(f, first + at.row, at.col);
}

/* What the file (both[0]) has at that place is its own index, or the converter's work. */
static void ask_element(maker *m, const hdl_found *both, hdl_wslot slot, place at)
{
    float idx = element(&both[0], slot, at), want = element(&both[1], slot, at) + plus(m, slot);
    if (both[0].neg_exp) {
        assert_true(fabs(log(-(double)idx) - (double)want) < 1e-6);
        return;
    }
    assert_true(idx >= 0 && (size_t)idx < m->data_len / 4);
    m->want[(size_t)idx] = want;
    m->made[(size_t)idx] = 1;
}

static void ask_slot(maker *m, hdl_files *files, hdl_weight_at at)
{
    const hdl_slot_info *info = hdl_slot_info_of(at.slot);
    hdl_found both[] = {find(files, m->desc, at), find(m->hf_files, m->hf, at)};
    uint32_t rows = hdl_dim_size(m->desc, info->rows), cols = hdl_dim_size(m->desc, info->cols);
    uint32_t n_heads = 1;
    assert_int_equal(rows, hdl_dim_size(m->hf, info->rows));
    assert_int_equal(cols, hdl_dim_size(m->hf, info->cols));
    if (at.slot == HDL_WSLOT_MLA_K_B) {
        n_heads = m->desc->n_heads;
        rows = cols;
        cols = m->desc->mla.nope_dim;
    }
    for (uint32_t h = 0; h < n_heads; h++)
        for (uint32_t r = 0; r < rows; r++)
            for (uint32_t c = 0; c < cols; c++)
                ask_element(m, both, at.slot, (place){h, r, c});
}

static void ask_all(maker *m, const char *path)
{
    hdl_errmsg why = {0};
    hdl_files *files = NULL;
    for (size_t i = 0; i < m->data_len / 4; i++)
        if (!m->made[i])
            m->data[i] = (float)i;
    assert_true(m->data_len / 4 < 1 << 24); /* exact as f32 */
    write_file(m, path);
    if (hdl_model_desc_load(m->desc, path, &why) != HDL_OK ||
        hdl_files_open(&files, path, &why) != HDL_OK)
        fail_msg("%s", why.text);
    for (hdl_wslot slot = 0; slot < HDL_WSLOT_COUNT; slot++) {
        const hdl_slot_info *info = hdl_slot_info_of(slot);
        uint32_t n_layers = info->scope == HDL_SCOPE_MODEL ? 1 : m->desc->n_layers;
        uint32_t n_experts = info->scope == HDL_SCOPE_EXPERT ? m->desc->n_experts : 1;
        for (uint32_t l = 0; l < n_layers; l++)
            for (uint32_t e = 0; e < n_experts && hdl_slot_used(m->desc, slot, l); e++)
                ask_slot(m, files, (hdl_weight_at){slot, l, e});
    }
    if (hdl_files_check_unknown(files, m->desc, &why) != HDL_OK)
        fail_msg("%s", why.text);
    hdl_files_close(files);
}

static void check_sums(const maker *m)
{
    for (size_t i = 0; i < hdl_gguf_tensor_count(m->gguf); i++) {
        const hdl_gguf_tensor *t = hdl_gguf_tensor_at(m->gguf, i);
        uint32_t sum = 0;
        memcpy(&sum, m->sums + 4 * order_of(m, t), sizeof(sum));
        for (size_t k = 0; k < t->bytes / 4; k++)
            if (!m->made[data_of(m, t) - m->data + (ptrdiff_t)k])
                fail_msg("element %zu of %s belongs to no slot", k, t->name);
        if (hdl_crc32c(0, t->data, (size_t)t->bytes) != sum)
            fail_msg("%s: the loader reads it otherwise than the converter wrote it", t->name);
    }
}

void rig_make_gguf(char dir[256], const char *hf_dir, const char *config_json, rig_head head)
{
    hdl_errmsg why = {0};
    char path[300];
    maker m = {.hf = malloc(sizeof(*m.hf)), .desc = malloc(sizeof(*m.desc))};
    if (hdl_model_desc_parse(m.hf, config_json, strlen(config_json), &why) != HDL_OK)
        fail_msg("%s", why.text);
    assert_int_equal(hdl_fs_mkdtemp(dir, 256, "heddle-gguf-", &why), HDL_OK);
    snprintf(path, 300, "%s/model.gguf", dir);
    if (hdl_files_open(&m.hf_files, hf_dir, &why) != HDL_OK)
        fail_msg("%s", why.text);
    open_head(&m, head);
    copy_own(&m);
    ask_all(&m, path);
    memcpy(m.data, m.want, m.data_len);
    check_sums(&m);
    write_file(&m, path);
    hdl_files_close(m.hf_files);
    hdl_gguf_close(m.gguf);
    free(m.file);
    free(m.want);
    free(m.made);
    free(m.hf);
    free(m.desc);
}
