/* SPDX-License-Identifier: Apache-2.0 */
/* Small file helpers for cold paths. Errors name the path and the system's reason. Any thread;
 * no state. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "heddle/err.h"

/* Whole file as one NUL-terminated heap block (owned by the caller: free()). HDL_NOTFOUND,
 * HDL_IO, and HDL_INVALID when it is longer than max_bytes or no regular file. */
hdl_err hdl_fs_read(const char *path, size_t max_bytes, char **out, size_t *len,
                    hdl_errmsg *why) HDL_MUST_CHECK;

/* Replaces path by a complete new file or leaves the old one: temporary file, fsync, rename. */
typedef struct hdl_fs_bytes {
    const void *data;
    size_t len;
} hdl_fs_bytes;
hdl_err hdl_fs_write_atomic(const char *path, hdl_fs_bytes bytes, hdl_errmsg *why) HDL_MUST_CHECK;
/* The same of several pieces, one behind the other. */
hdl_err hdl_fs_write_parts(const char *path, const hdl_fs_bytes *parts, size_t n,
                           hdl_errmsg *why) HDL_MUST_CHECK;

typedef struct hdl_fs_map {
    const unsigned char *data; /* owned: until hdl_fs_unmap; never NULL, an empty file maps to "" */
    size_t len;
    uint64_t mtime_ns; /* when its content was written last, as the system says */
} hdl_fs_map;
typedef enum hdl_fs_advice {
    HDL_FS_NORMAL,
    HDL_FS_SEQUENTIAL,
    HDL_FS_RANDOM,
    HDL_FS_WILLNEED
} hdl_fs_advice;
/* Read-only shared mapping. A file that shrinks later raises SIGBUS: model folders must not
 * change under us. */
hdl_err hdl_fs_map_open(hdl_fs_map *map, const char *path, hdl_fs_advice advice,
                        hdl_errmsg *why) HDL_MUST_CHECK;
void hdl_fs_map_close(hdl_fs_map *map);
/* Tells one file from another without reading all of it: a hash of its length, its time and 64
 * pages that lie evenly in it. The same on every machine that has a copy with its time. */
uint64_t hdl_fs_map_stamp(const hdl_fs_map *map);

/* dir/name into out; name absolute: name alone. HDL_INVALID when it does not fit. */
hdl_err hdl_fs_join(char *out, size_t size, const char *dir, const char *name) HDL_MUST_CHECK;
bool hdl_fs_exists(const char *path);
bool hdl_fs_is_dir(const char *path);
/* New private folder (0700) "/tmp/<prefix>XXXXXX", or "<prefix>XXXXXX" for an absolute prefix. */
hdl_err hdl_fs_mkdtemp(char *out, size_t size, const char *prefix, hdl_errmsg *why) HDL_MUST_CHECK;
/* Removes a folder and what is in it; follows no symbolic links. */
hdl_err hdl_fs_remove_tree(const char *path) HDL_MUST_CHECK;
