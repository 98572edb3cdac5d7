/* SPDX-License-Identifier: Apache-2.0 */
/* Layout, all little-endian: "GGUF", u32 version, u64 tensors, u64 values; values of (string key,
 * u32 type, value); tensors of (string name, u32 dims, u64 each, u32 type, u64 offset); padding to
 * the alignment; data. A string is u64 bytes and the bytes; an array is u32 type, u64 count, and
 * the elements. Version 3 differs from 2 in that it may be big-endian, which is refused. */
#include "base/gguf_part.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/cursor.h"
#include "base/utf8.h"

enum {
    KVS_MAX = 1 << 16,
    TENSORS_MAX = 1 << 20,
    KEY_BYTES_MAX = 65535,
    NAME_BYTES_MAX = 255,
    NAMES_BYTES_MAX = 512 << 20,
    KV_BYTES_MIN = 8 + 1 + 4 + 1,
    TENSOR_BYTES_MIN = 8 + 1 + 4 + 4 + 8,
    ALIGNMENT_DEFAULT = 32,
    ALIGNMENT_MIN = 8, /* so that every value of a tensor can be read in place */
    ALIGNMENT_MAX = 1 << 20,
};

#define FETCH "fetch the file again"

typedef struct reader {
    hdl_gguf_part *part;
    hdl_cursor c;
    hdl_errmsg *why;
} reader;

static hdl_err fail_nomem(const reader *r)
{
    return hdl_fail(HDL_NOMEM, r->why, "out of memory; the machine is full; stop other programs");
}

static hdl_err fail_short(const reader *r, const char *what)
{
    return hdl_fail(HDL_CORRUPT, r->why, "the file ends within %.200s; it is cut short; " FETCH,
                    what);
}

/* A string that may stand in a message, copied with a NUL behind it. */
static hdl_err read_name(reader *r, const char **out, const char *what, size_t bytes_max)
{
    uint64_t len = hdl_cursor_u64(&r->c);
    if (r->c.failed || len > hdl_cursor_left(&r->c))
        return fail_short(r, what);
    if (len > bytes_max)
        return hdl_fail(HDL_CORRUPT, r->why,
                        "%s has %" PRIu64 " bytes; more than %zu are no name; " FETCH, what, len,
                        bytes_max);
    const unsigned char *text = hdl_cursor_bytes(&r->c, (size_t)len);
    if (!hdl_utf8_is_name(text, (size_t)len))
        return hdl_fail(
            HDL_CORRUPT, r->why,
            "%s is empty, no UTF-8 or holds control characters; the file is damaged; " FETCH, what);
    *out = hdl_pool_arena_copy(&r->part->names, (const char *)text, (size_t)len);
    return *out ? HDL_OK : fail_nomem(r);
}

/* count is foreign; each string is at least its length. */
static bool skip_strings(hdl_cursor *c, uint64_t count)
{
    if (count > hdl_cursor_left(c) / 8)
        return false;
    for (uint64_t i = 0; i < count && !c->failed; i++) {
        uint64_t len = hdl_cursor_u64(c);
        if (len > hdl_cursor_left(c))
            return false;
        (void)hdl_cursor_bytes(c, (size_t)len);
    }
    return !c->failed;
}

static hdl_err read_elements(reader *r, hdl_gguf_kv *kv)
{
    size_t start = r->c.at, width = hdl_gguf_type_bytes(kv->type);
    kv->data = r->c.failed ? NULL : r->c.bytes + start;
    if (kv->type == HDL_GGUF_STRING) {
        if (!skip_strings(&r->c, kv->count))
            return fail_short(r, kv->key);
    } else if (r->c.failed || kv->count > hdl_cursor_left(&r->c) / width) {
        return fail_short(r, kv->key);
    } else {
        (void)hdl_cursor_bytes(&r->c, (size_t)kv->count * width);
    }
    kv->bytes = r->c.at - start;
    if (kv->type == HDL_GGUF_BOOL)
        for (size_t i = 0; i < kv->bytes; i++)
            if (kv->data[i] > 1)
                return hdl_fail(HDL_CORRUPT, r->why,
                                "%.150s is a truth value of %d; only 0 and 1 are; " FETCH, kv->key,
                                kv->data[i]);
    return HDL_OK;
}

static hdl_err read_kv(reader *r, hdl_gguf_kv *kv)
{
    HDL_TRY(read_name(r, &kv->key, "a metadata key", KEY_BYTES_MAX));
    uint32_t type = hdl_cursor_u32(&r->c);
    kv->count = 1;
    kv->is_array = type == HDL_GGUF_ARRAY;
    if (kv->is_array) {
        type = hdl_cursor_u32(&r->c);
        kv->count = hdl_cursor_u64(&r->c);
    }
    if (r->c.failed)
        return fail_short(r, kv->key);
    if (kv->is_array && type == HDL_GGUF_ARRAY)
        return hdl_fail(HDL_UNSUPPORTED, r->why,
                        "%.150s is an array of arrays; no known model has such; write it flat",
                        kv->key);
    if (type >= HDL_GGUF_TYPE_COUNT)
        return hdl_fail(HDL_CORRUPT, r->why,
                        "%.150s has value type %" PRIu32 "; the format knows 0 to %d; " FETCH,
                        kv->key, type, HDL_GGUF_TYPE_COUNT - 1);
    kv->type = (hdl_gguf_type)type;
    return read_elements(r, kv);
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const hdl_gguf_kv *)a)->key, ((const hdl_gguf_kv *)b)->key);
}

static hdl_err read_kvs(reader *r, uint64_t count)
{
    hdl_gguf_part *part = r->part;
    if (count > KVS_MAX || count > hdl_cursor_left(&r->c) / KV_BYTES_MIN)
        return hdl_fail(
            HDL_CORRUPT, r->why,
            "%" PRIu64 " metadata values are announced; the file cannot hold them; " FETCH, count);
    part->kvs = calloc(count ? (size_t)count : 1, sizeof(*part->kvs));
    if (!part->kvs)
        return fail_nomem(r);
    for (; part->n_kvs < count; part->n_kvs++)
        HDL_TRY(read_kv(r, &part->kvs[part->n_kvs]));
    qsort(part->kvs, part->n_kvs, sizeof(*part->kvs), by_key);
    for (size_t i = 1; i < part->n_kvs; i++)
        if (by_key(&part->kvs[i - 1], &part->kvs[i]) == 0)
            return hdl_fail(HDL_CORRUPT, r->why,
                            "key %.150s is there twice; a key must be unique; " FETCH,
                            part->kvs[i].key);
    return HDL_OK;
}

/* Shape and type; offset is what the file says, still to be checked. */
static hdl_err read_tensor(reader *r, hdl_gguf_tensor *t, uint64_t *offset)
{
    uint64_t values = 1;
    HDL_TRY(read_name(r, &t->name, "a tensor's name", NAME_BYTES_MAX));
    t->n_dims = hdl_cursor_u32(&r->c);
    if (!r->c.failed && t->n_dims > HDL_GGUF_DIMS_MAX)
        return hdl_fail(HDL_CORRUPT, r->why,
                        "tensor %s has %" PRIu32 " dimensions; %d are the format's most; " FETCH,
                        t->name, t->n_dims, HDL_GGUF_DIMS_MAX);
    for (uint32_t i = 0; i < HDL_GGUF_DIMS_MAX; i++) {
        t->dims[i] = i < t->n_dims ? hdl_cursor_u64(&r->c) : 1;
        if (!r->c.failed && (t->dims[i] == 0 || !hdl_mul_u64(values, t->dims[i], &values)))
            return hdl_fail(HDL_CORRUPT, r->why,
                            "tensor %s has a dimension of %" PRIu64 "; its size is zero or "
                            "overflows; " FETCH,
                            t->name, t->dims[i]);
    }
    t->type = hdl_cursor_u32(&r->c);
    *offset = hdl_cursor_u64(&r->c);
    if (r->c.failed)
        return fail_short(r, t->name);
    const hdl_ggml_type *type = hdl_ggml_type_of(t->type);
    if (!type)
        return hdl_fail(HDL_UNSUPPORTED, r->why,
                        "tensor %s has type %" PRIu32 "; the type is unknown; convert the file to "
                        "a known one or use a newer heddle",
                        t->name, t->type);
    if (t->dims[0] % type->block_values != 0)
        return hdl_fail(HDL_CORRUPT, r->why,
                        "tensor %s has rows of %" PRIu64 " values; blocks of %s have %" PRIu32
                        "; " FETCH,
                        t->name, t->dims[0], type->name, type->block_values);
    if (!hdl_mul_u64(t->dims[0] / type->block_values, type->block_bytes, &t->row_bytes) ||
        !hdl_mul_u64(values / t->dims[0], t->row_bytes, &t->bytes))
        return hdl_fail(
            HDL_CORRUPT, r->why,
            "tensor %s has more bytes than can be counted; its shape is damaged; " FETCH, t->name);
    return HDL_OK;
}

static hdl_err read_tensors(reader *r, uint64_t *offsets)
{
    hdl_gguf_part *part = r->part;
    for (size_t i = 0; i < part->n_tensors; i++)
        HDL_TRY(read_tensor(r, &part->tensors[i], &offsets[i]));
    return HDL_OK;
}

static hdl_err find_alignment(const reader *r, uint64_t *out)
{
    const hdl_gguf_kv *kv = hdl_gguf_part_find(r->part, "general.alignment");
    *out = ALIGNMENT_DEFAULT;
    if (!kv)
        return HDL_OK;
    if (!hdl_gguf_kv_u64(kv, out) || *out < ALIGNMENT_MIN || *out > ALIGNMENT_MAX ||
        !hdl_is_pow2((size_t)*out))
        return hdl_fail(HDL_CORRUPT, r->why,
                        "general.alignment is no power of two from %d to %d; tensors cannot be "
                        "placed; " FETCH,
                        ALIGNMENT_MIN, ALIGNMENT_MAX);
    return HDL_OK;
}

/* The format's one layout: in the table's order, each at the next aligned place. So nothing
 * overlaps and nothing hides between tensors; what follows the last one is nobody's and ignored. */
static hdl_err place_tensors(const reader *r, const uint64_t *offsets)
{
    hdl_gguf_part *part = r->part;
    uint64_t align = 0, next = 0;
    size_t data = 0;
    HDL_TRY(find_alignment(r, &align));
    if (part->n_tensors == 0)
        return HDL_OK;
    if (!hdl_align_up_size(r->c.at, (size_t)align, &data) || data > r->c.size)
        return fail_short(r, "the padding before the tensors");
    for (size_t i = 0; i < part->n_tensors; i++) {
        hdl_gguf_tensor *t = &part->tensors[i];
        if (offsets[i] != next)
            return hdl_fail(HDL_CORRUPT, r->why,
                            "tensor %s is at %" PRIu64 " and not at %" PRIu64 "; tensors follow "
                            "each other at multiples of %" PRIu64 "; " FETCH,
                            t->name, offsets[i], next, align);
        if (!hdl_range_ok(next, t->bytes, r->c.size - data))
            return hdl_fail(HDL_CORRUPT, r->why,
                            "tensor %s needs %" PRIu64 " bytes at %" PRIu64
                            "; the file has %" PRIu64 " there; it is cut short; " FETCH,
                            t->name, t->bytes, next,
                            next < r->c.size - data ? r->c.size - data - next : 0);
        t->data = r->c.bytes + data + next;
        size_t end = (size_t)(next + t->bytes); /* within the file, so it fits */
        if (!hdl_align_up_size(end, (size_t)align, &end))
            return fail_short(r, t->name);
        next = end;
    }
    return HDL_OK;
}

static hdl_err read_header(reader *r, uint64_t *n_tensors, uint64_t *n_kvs)
{
    const unsigned char *magic = hdl_cursor_bytes(&r->c, 4);
    if (!magic || memcmp(magic, "GGUF", 4) != 0)
        return hdl_fail(
            HDL_CORRUPT, r->why,
            "this is no GGUF file; it does not begin with GGUF; check the path, or " FETCH);
    uint32_t version = hdl_cursor_u32(&r->c);
    *n_tensors = hdl_cursor_u64(&r->c);
    *n_kvs = hdl_cursor_u64(&r->c);
    if (r->c.failed)
        return fail_short(r, "its header");
    if (version == UINT32_C(0x02000000) || version == UINT32_C(0x03000000))
        return hdl_fail(HDL_UNSUPPORTED, r->why,
                        "the file is big-endian; it was written for another kind of machine; "
                        "convert it to little-endian");
    if (version < 2 || version > 3)
        return hdl_fail(HDL_UNSUPPORTED, r->why,
                        "the file has GGUF version %" PRIu32 "; 2 and 3 are read; convert the "
                        "model again with a current tool",
                        version);
    return HDL_OK;
}

hdl_err hdl_gguf_part_parse(hdl_gguf_part *part, const void *bytes, size_t len, hdl_errmsg *why)
{
    reader r = {.part = part, .c = hdl_cursor_of(bytes, len), .why = why};
    uint64_t n_tensors = 0, n_kvs = 0;
    *part = (hdl_gguf_part){0};
    hdl_pool_arena_init(&part->names, NAMES_BYTES_MAX);
    HDL_TRY(read_header(&r, &n_tensors, &n_kvs));
    HDL_TRY(read_kvs(&r, n_kvs));
    if (n_tensors > TENSORS_MAX || n_tensors > hdl_cursor_left(&r.c) / TENSOR_BYTES_MIN)
        return hdl_fail(HDL_CORRUPT, why,
                        "%" PRIu64 " tensors are announced; the file cannot hold them; " FETCH,
                        n_tensors);
    uint64_t *offsets = calloc(n_tensors ? (size_t)n_tensors : 1, sizeof(*offsets));
    part->tensors = calloc(n_tensors ? (size_t)n_tensors : 1, sizeof(*part->tensors));
    part->n_tensors = part->tensors ? (size_t)n_tensors : 0;
    hdl_err err = offsets && part->tensors ? read_tensors(&r, offsets) : fail_nomem(&r);
    if (err == HDL_OK)
        err = place_tensors(&r, offsets);
    free(offsets);
    return err;
}

void hdl_gguf_part_free(hdl_gguf_part *part)
{
    hdl_pool_arena_deinit(&part->names);
    free(part->kvs);
    free(part->tensors);
    *part = (hdl_gguf_part){0};
}

const hdl_gguf_kv *hdl_gguf_part_find(const hdl_gguf_part *part, const char *key)
{
    hdl_gguf_kv sought = {.key = key};
    return bsearch(&sought, part->kvs, part->n_kvs, sizeof(sought), by_key);
}
