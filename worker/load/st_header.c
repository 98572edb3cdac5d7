/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/load/st_header.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/json.h"

/* Element types of the format. Those of less than a byte are left out: their tensors are refused.
 */
typedef struct st_dtype {
    const char *name;
    uint32_t bytes;
    hdl_dtype dtype;
} st_dtype;

static const st_dtype dtypes[] = {
    {"F32", 4, HDL_DTYPE_F32},       {"F16", 2, HDL_DTYPE_F16},      {"BF16", 2, HDL_DTYPE_BF16},
    {"I8", 1, HDL_DTYPE_I8},         {"U8", 1, HDL_DTYPE_U8},        {"I32", 4, HDL_DTYPE_I32},
    {"I64", 8, HDL_DTYPE_I64},       {"BOOL", 1, HDL_DTYPE_COUNT},   {"F8_E4M3", 1, HDL_DTYPE_E4M3},
    {"F8_E5M2", 1, HDL_DTYPE_COUNT}, {"F8_E8M0", 1, HDL_DTYPE_E8M0}, {"I16", 2, HDL_DTYPE_COUNT},
    {"U16", 2, HDL_DTYPE_COUNT},     {"U32", 4, HDL_DTYPE_COUNT},    {"U64", 8, HDL_DTYPE_COUNT},
    {"F64", 8, HDL_DTYPE_COUNT},
};

static const st_dtype *find_dtype(const char *name)
{
    for (size_t i = 0; i < HDL_ARRAY_LEN(dtypes); i++)
        if (strcmp(dtypes[i].name, name) == 0)
            return &dtypes[i];
    return NULL;
}

static hdl_err read_shape(hdl_st_tensor *t, const hdl_jv *entry, uint64_t *n, hdl_errmsg *why)
{
    hdl_jv shape = hdl_jv_get(entry, "shape");
    HDL_TRY(hdl_jv_expect(&shape, HDL_JSON_ARRAY, why));
    size_t n_dims = hdl_jv_len(&shape);
    if (n_dims > HDL_ST_DIMS_MAX)
        return hdl_jv_fail(&shape, why, "has more than %d dimensions", HDL_ST_DIMS_MAX);
    t->n_dims = (uint32_t)n_dims;
    *n = 1;
    for (size_t i = 0; i < n_dims; i++) {
        int64_t d = 0;
        hdl_jv item = hdl_jv_at(&shape, i);
        HDL_TRY(hdl_jv_int(&item, (hdl_jv_range){0, INT64_MAX}, &d, why));
        t->shape[i] = (uint64_t)d;
        if (!hdl_mul_u64(*n, t->shape[i], n))
            return hdl_jv_fail(&shape, why, "is more than any file can hold");
    }
    return HDL_OK;
}

static hdl_err read_offsets(const hdl_jv *entry, uint64_t data_len, uint64_t out[2],
                            hdl_errmsg *why)
{
    hdl_jv offsets = hdl_jv_get(entry, "data_offsets");
    HDL_TRY(hdl_jv_expect(&offsets, HDL_JSON_ARRAY, why));
    if (hdl_jv_len(&offsets) != 2)
        return hdl_jv_fail(&offsets, why, "must hold two numbers");
    for (size_t i = 0; i < 2; i++) {
        int64_t v = 0;
        hdl_jv item = hdl_jv_at(&offsets, i);
        HDL_TRY(hdl_jv_int(&item, (hdl_jv_range){0, INT64_MAX}, &v, why));
        out[i] = (uint64_t)v;
    }
    if (out[0] > out[1] || out[1] > data_len)
        return hdl_jv_fail(&offsets, why,
                           "[%" PRIu64 ", %" PRIu64 ") lies outside the file's %" PRIu64
                           " bytes of data; the file is cut short or damaged; fetch it again",
                           out[0], out[1], data_len);
    return HDL_OK;
}

/* The part of a file behind its header. */
typedef struct st_data {
    const unsigned char *at;
    uint64_t len;
} st_data;

static hdl_err read_tensor(hdl_st_tensor *t, const hdl_jv *entry, st_data data, hdl_errmsg *why)
{
    HDL_TRY(hdl_jv_expect(entry, HDL_JSON_OBJECT, why));
    t->name = entry->key;
    hdl_jv dtype = hdl_jv_get(entry, "dtype");
    HDL_TRY(hdl_jv_string(&dtype, &t->dtype_name, NULL, why));
    const st_dtype *type = find_dtype(t->dtype_name);
    if (!type)
        return hdl_jv_fail(&dtype, why, "is a type that this version does not know");
    t->dtype = type->dtype;
    uint64_t n = 0, bytes = 0, offsets[2];
    HDL_TRY(read_shape(t, entry, &n, why));
    HDL_TRY(read_offsets(entry, data.len, offsets, why));
    if (!hdl_mul_u64(n, type->bytes, &bytes) || bytes != offsets[1] - offsets[0])
        return hdl_jv_fail(entry, why,
                           "holds %" PRIu64 " bytes, but its shape and type need another number; "
                           "the file is damaged; fetch it again",
                           offsets[1] - offsets[0]);
    t->data = data.at + offsets[0];
    t->bytes = bytes;
    /* Data is read in place, so elements must lie at multiples of their size. Writers pad the
     * header to 8 bytes since 2022. */
    if (bytes != 0 && (uintptr_t)t->data % (type->bytes < 4 ? type->bytes : 4) != 0)
        return hdl_jv_fail(entry, why,
                           "is not aligned; the file was written by an old tool; save the model "
                           "again with a current safetensors library");
    return HDL_OK;
}

static hdl_err read_all(hdl_st_header *h, st_data data, hdl_errmsg *why)
{
    hdl_jv root = hdl_json_root(h->doc);
    HDL_TRY(hdl_jv_expect(&root, HDL_JSON_OBJECT, why));
    size_t n = hdl_jv_len(&root);
    h->tensors = calloc(n ? n : 1, sizeof(*h->tensors));
    if (!h->tensors)
        return hdl_fail(HDL_NOMEM, why, "out of memory; the machine is full; stop other programs");
    void *iter = NULL;
    hdl_jv entry;
    while (hdl_jv_next(&root, &iter, &entry)) {
        if (strcmp(entry.key, "__metadata__") == 0)
            HDL_TRY(hdl_jv_expect(&entry, HDL_JSON_OBJECT, why));
        else
            HDL_TRY(read_tensor(&h->tensors[h->n_tensors++], &entry, data, why));
    }
    return HDL_OK;
}

/* By place; empty tensors before the one that starts where they lie. */
static int by_place(const void *a, const void *b)
{
    const hdl_st_tensor *x = a, *y = b;
    if (x->data != y->data)
        return x->data < y->data ? -1 : 1;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? -1 : 1;
    return 0;
}

/* The tensors must fill the data without hole or overlap, as the format says. */
static hdl_err check_places(hdl_st_header *h, st_data data, hdl_errmsg *why)
{
    qsort(h->tensors, h->n_tensors, sizeof(*h->tensors), by_place);
    const unsigned char *end = data.at;
    for (size_t i = 0; i < h->n_tensors; i++) {
        const hdl_st_tensor *t = &h->tensors[i];
        if (t->data != end)
            return hdl_fail(HDL_CORRUPT, why,
                            "tensor %.120s %s; the file is damaged or forged; fetch it again",
                            t->name,
                            (const unsigned char *)t->data < end ? "overlaps the one before it"
                                                                 : "follows a hole in the data");
        end += t->bytes;
    }
    if (end != data.at + data.len)
        return hdl_fail(HDL_CORRUPT, why,
                        "%zu bytes at the end belong to no tensor; the file is damaged; fetch it "
                        "again",
                        (size_t)(data.at + data.len - end));
    return HDL_OK;
}

static uint64_t read_u64_le(const unsigned char *p)
{
    uint64_t v = 0;
    for (int i = 7; i >= 0; i--)
        v = v << 8 | p[i];
    return v;
}

hdl_err hdl_st_header_parse(hdl_st_header *out, const unsigned char *file, size_t len,
                            hdl_errmsg *why)
{
    *out = (hdl_st_header){0};
    uint64_t header_len = len >= 8 ? read_u64_le(file) : 0;
    if (len < 8 || header_len > HDL_ST_HEADER_BYTES_MAX || header_len > len - 8)
        return hdl_fail(HDL_CORRUPT, why,
                        "no safetensors file of %zu bytes; its header would be %" PRIu64
                        " bytes long; the file is cut short or of another format; fetch it again",
                        len, header_len);
    st_data data = {.at = file + 8 + header_len, .len = len - 8 - header_len};
    hdl_err err = hdl_json_parse((const char *)file + 8, (size_t)header_len,
                                 HDL_ST_HEADER_BYTES_MAX, &out->doc, why);
    if (err == HDL_OK)
        err = read_all(out, data, why);
    if (err == HDL_OK)
        err = check_places(out, data, why);
    if (err == HDL_OK)
        return HDL_OK;
    hdl_st_header_free(out);
    return err == HDL_NOMEM ? err : HDL_CORRUPT;
}

void hdl_st_header_free(hdl_st_header *header)
{
    if (header->doc)
        hdl_json_close(header->doc);
    free(header->tensors);
    *header = (hdl_st_header){0};
}
