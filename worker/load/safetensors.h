/* SPDX-License-Identifier: Apache-2.0 */
/* Tensors of a model folder, read in place: one model.safetensors or the files of a
 * model.safetensors.index.json. Format: 8 bytes little-endian header length, JSON header, data.
 *
 * Files are mapped, never copied; a tensor's data is borrowed until hdl_st_close. Foreign bytes:
 * every offset, size and count is checked before use, and a file that lies is refused whole (holes,
 * overlaps and bytes that belong to no tensor too, as the format's definition demands). Opening is
 * cold and single-threaded; afterwards any thread may read. */
#pragma once

#include <heddle/err.h>
#include <heddle/types.h>

enum { HDL_ST_DIMS_MAX = 8 };

typedef struct hdl_st_tensor {
    const char *name; /* borrowed: until close */
    const void *data; /* borrowed: until close */
    uint64_t bytes;
    const char *dtype_name; /* "BF16", "F8_E4M3", ... */
    hdl_dtype dtype;        /* HDL_DTYPE_COUNT: known to the format, not to us */
    uint32_t n_dims;
    uint64_t shape[HDL_ST_DIMS_MAX];
    const char *file; /* name for messages; borrowed: until close */
} hdl_st_tensor;

typedef struct hdl_st hdl_st;

hdl_err hdl_st_open(hdl_st **out, const char *folder, hdl_errmsg *why) HDL_MUST_CHECK;
/* One file's bytes from memory (borrowed: until close); for tests and fuzzing. */
hdl_err hdl_st_open_bytes(hdl_st **out, const void *bytes, size_t len,
                          hdl_errmsg *why) HDL_MUST_CHECK;
void hdl_st_close(hdl_st *st);

/* NULL: there is none. */
const hdl_st_tensor *hdl_st_find(const hdl_st *st, const char *name);
size_t hdl_st_count(const hdl_st *st);
const hdl_st_tensor *hdl_st_at(const hdl_st *st, size_t idx); /* by name */
uint64_t hdl_st_total_bytes(const hdl_st *st);

/* Drops the pages that loading brought into this process; they stay in the page cache. */
void hdl_st_forget_pages(hdl_st *st);
/* hdl_fs_map_stamp of all files. */
uint64_t hdl_st_stamp(const hdl_st *st);
