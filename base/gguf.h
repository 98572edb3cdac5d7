/* SPDX-License-Identifier: Apache-2.0 */
/* GGUF files, versions 2 and 3: metadata and tensors, read in place.
 *
 * The file is mapped, never copied: values and tensors are borrowed until hdl_gguf_close, and so
 * are the copies of keys and names (which are NUL-terminated and fit into a message). Foreign
 * bytes: every size and count is checked before use and a file that lies is refused whole; what a
 * hdl_gguf holds lies inside its file, and walking it cannot fail. Parts of a split file
 * (x-00001-of-00003.gguf) are opened together; the metadata are the first part's. Opening is cold
 * and single-threaded; afterwards any thread may read. It knows no architecture: keys are
 * worker/model's and scheduler/text's. */
#pragma once

#include <heddle/err.h>
#include <stdint.h>

typedef enum hdl_gguf_type {
    HDL_GGUF_U8,
    HDL_GGUF_I8,
    HDL_GGUF_U16,
    HDL_GGUF_I16,
    HDL_GGUF_U32,
    HDL_GGUF_I32,
    HDL_GGUF_F32,
    HDL_GGUF_BOOL,
    HDL_GGUF_STRING,
    HDL_GGUF_ARRAY,
    HDL_GGUF_U64,
    HDL_GGUF_I64,
    HDL_GGUF_F64,
    HDL_GGUF_TYPE_COUNT
} hdl_gguf_type;

enum { HDL_GGUF_DIMS_MAX = 4 };

typedef struct hdl_gguf_kv {
    const char *key;
    hdl_gguf_type type; /* of the value; of an array its elements', never HDL_GGUF_ARRAY */
    bool is_array;
    uint64_t count;            /* of elements; 1 when it is no array */
    const unsigned char *data; /* the first element; not aligned */
    size_t bytes;
} hdl_gguf_kv;

/* Any bytes: a token of a vocabulary need be no UTF-8. Not NUL-terminated. */
typedef struct hdl_gguf_str {
    const char *data;
    size_t len;
} hdl_gguf_str;

typedef struct hdl_gguf_tensor {
    const char *name;
    const char *file; /* name of its file, for messages */
    uint32_t type;    /* as hdl_ggml_type_of knows it */
    uint32_t n_dims;
    uint64_t dims[HDL_GGUF_DIMS_MAX]; /* dims[0] runs fastest: the length of a row; unused ones 1 */
    uint64_t row_bytes;
    uint64_t bytes;
    const void *data; /* aligned to 8 bytes at least */
} hdl_gguf_tensor;

typedef struct hdl_gguf hdl_gguf;

/* path names the file, or the first part of a split one. */
hdl_err hdl_gguf_open(hdl_gguf **out, const char *path, hdl_errmsg *why) HDL_MUST_CHECK;
/* One file's bytes from memory (borrowed: until close; aligned to 8); for tests and fuzzing. */
hdl_err hdl_gguf_open_bytes(hdl_gguf **out, const void *bytes, size_t len,
                            hdl_errmsg *why) HDL_MUST_CHECK;
void hdl_gguf_close(hdl_gguf *gguf);

size_t hdl_gguf_kv_count(const hdl_gguf *gguf);
const hdl_gguf_kv *hdl_gguf_kv_at(const hdl_gguf *gguf, size_t idx);     /* by key */
const hdl_gguf_kv *hdl_gguf_find(const hdl_gguf *gguf, const char *key); /* NULL: there is none */

/* A value by key. HDL_NOTFOUND without it, HDL_INVALID when its type or sign is another; both with
 * a message and *out untouched, so that a caller with a default may ignore HDL_NOTFOUND. Any width
 * of integer serves an integer, either width of float or an integer serves a float. */
hdl_err hdl_gguf_u64(const hdl_gguf *gguf, const char *key, uint64_t *out,
                     hdl_errmsg *why) HDL_MUST_CHECK;
hdl_err hdl_gguf_f64(const hdl_gguf *gguf, const char *key, double *out,
                     hdl_errmsg *why) HDL_MUST_CHECK;
hdl_err hdl_gguf_bool(const hdl_gguf *gguf, const char *key, bool *out,
                      hdl_errmsg *why) HDL_MUST_CHECK;
hdl_err hdl_gguf_string(const hdl_gguf *gguf, const char *key, hdl_gguf_str *out,
                        hdl_errmsg *why) HDL_MUST_CHECK;
/* An array of that type; I64 stands for any integer type, F64 for any number. */
typedef struct hdl_gguf_want {
    const char *key;
    hdl_gguf_type type;
} hdl_gguf_want;
hdl_err hdl_gguf_array(const hdl_gguf *gguf, hdl_gguf_want want, const hdl_gguf_kv **out,
                       hdl_errmsg *why) HDL_MUST_CHECK;

/* Element idx < count of an integer (a truth value counts; above INT64_MAX reads as that), or of
 * any number; asserted. */
int64_t hdl_gguf_int_at(const hdl_gguf_kv *kv, uint64_t idx);
double hdl_gguf_float_at(const hdl_gguf_kv *kv, uint64_t idx);
/* Strings are walked: *at is 0 at first. False after the last one. */
bool hdl_gguf_next_string(const hdl_gguf_kv *kv, size_t *at, hdl_gguf_str *out);

size_t hdl_gguf_tensor_count(const hdl_gguf *gguf);
const hdl_gguf_tensor *hdl_gguf_tensor_at(const hdl_gguf *gguf, size_t idx); /* by name */
const hdl_gguf_tensor *hdl_gguf_tensor_find(const hdl_gguf *gguf, const char *name);
uint64_t hdl_gguf_total_bytes(const hdl_gguf *gguf); /* of all tensors */
/* Drops the pages that reading brought into this process; they stay in the page cache. */
void hdl_gguf_forget_pages(hdl_gguf *gguf);
/* hdl_fs_map_stamp of all files. */
uint64_t hdl_gguf_stamp(const hdl_gguf *gguf);

typedef struct hdl_ggml_type {
    const char *name; /* "Q4_K" */
    uint32_t block_values;
    uint32_t block_bytes;
} hdl_ggml_type;

/* NULL: no type that the format's definition has. */
const hdl_ggml_type *hdl_ggml_type_of(uint32_t type);
