/* SPDX-License-Identifier: Apache-2.0 */
#include "base/gguf.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/assert.h"
#include "base/fs.h"
#include "base/gguf_part.h"
#include "base/hash.h"

enum { PATH_BYTES = 4096, PARTS_MAX = 4096 };

typedef struct gguf_file {
    char *name;     /* owned; without its folder */
    hdl_fs_map map; /* data NULL: bytes of the caller */
    hdl_gguf_part part;
} gguf_file;

struct hdl_gguf {
    gguf_file *files; /* owned */
    size_t n_files;
    hdl_gguf_tensor *tensors; /* owned; sorted by name */
    size_t n_tensors;
    uint64_t total_bytes;
};

static hdl_err fail_nomem(hdl_errmsg *why)
{
    return hdl_fail(HDL_NOMEM, why, "out of memory; the machine is full; stop other programs");
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const hdl_gguf_tensor *)a)->name, ((const hdl_gguf_tensor *)b)->name);
}

/* All parts' tensors in one sorted list. */
static hdl_err collect(hdl_gguf *g, hdl_errmsg *why)
{
    size_t n = 0;
    for (size_t i = 0; i < g->n_files; i++)
        n += g->files[i].part.n_tensors;
    g->tensors = calloc(n ? n : 1, sizeof(*g->tensors));
    if (!g->tensors)
        return fail_nomem(why);
    for (size_t i = 0; i < g->n_files; i++)
        for (size_t j = 0; j < g->files[i].part.n_tensors; j++) {
            hdl_gguf_tensor *t = &g->tensors[g->n_tensors++];
            *t = g->files[i].part.tensors[j];
            t->file = g->files[i].name;
            g->total_bytes += t->bytes;
        }
    qsort(g->tensors, n, sizeof(*g->tensors), by_name);
    for (size_t i = 1; i < n; i++)
        if (by_name(&g->tensors[i - 1], &g->tensors[i]) == 0)
            return hdl_fail(HDL_CORRUPT, why,
                            "tensor %s is in %.80s and in %.80s; a name must be unique; fetch the "
                            "model again",
                            g->tensors[i].name, g->tensors[i - 1].file, g->tensors[i].file);
    return HDL_OK;
}

static hdl_err open_file(gguf_file *file, const char *path, hdl_errmsg *why)
{
    const char *slash = strrchr(path, '/');
    file->name = strdup(slash ? slash + 1 : path);
    if (!file->name)
        return fail_nomem(why);
    HDL_TRY(hdl_fs_map_open(&file->map, path, HDL_FS_NORMAL, why));
    hdl_err err = hdl_gguf_part_parse(&file->part, file->map.data, file->map.len, why);
    if (err != HDL_OK)
        return hdl_fail_prefix(err, why, "%s", path);
    return HDL_OK;
}

/* split.<what> of a part, or if_absent. */
static hdl_err split_value(const hdl_gguf_part *part, const char *key, uint64_t *value,
                           hdl_errmsg *why)
{
    const hdl_gguf_kv *kv = hdl_gguf_part_find(part, key);
    if (kv && !hdl_gguf_kv_u64(kv, value))
        return hdl_fail(HDL_CORRUPT, why,
                        "%s is no count; the parts cannot be put together; fetch the file again",
                        key);
    return HDL_OK;
}

/* Writes the path of part no (from 0), given the first one's, which ends in its own number. */
static hdl_err part_path(char *out, const char *first, uint64_t no, uint64_t count)
{
    char tail[64];
    int n =
        snprintf(tail, sizeof(tail), "-%05" PRIu64 "-of-%05" PRIu64 ".gguf", UINT64_C(1), count);
    size_t len = strlen(first), tail_len = (size_t)n;
    if (len < tail_len || strcmp(first + len - tail_len, tail) != 0)
        return HDL_INVALID;
    n = snprintf(out, PATH_BYTES, "%.*s-%05" PRIu64 "-of-%05" PRIu64 ".gguf", (int)(len - tail_len),
                 first, no + 1, count);
    return n < PATH_BYTES ? HDL_OK : HDL_INVALID;
}

static hdl_err open_part(hdl_gguf *g, const char *path, uint64_t count, hdl_errmsg *why)
{
    gguf_file *file = &g->files[g->n_files];
    uint64_t no = 0, parts = 1;
    g->n_files++;
    HDL_TRY(open_file(file, path, why));
    HDL_TRY(split_value(&file->part, "split.no", &no, why));
    HDL_TRY(split_value(&file->part, "split.count", &parts, why));
    if (no != g->n_files - 1 || parts != count)
        return hdl_fail(HDL_CORRUPT, why,
                        "%s says that it is part %" PRIu64 " of %" PRIu64 "; its name says part "
                        "%zu of %" PRIu64 "; give it back its name, or fetch it again",
                        path, no + 1, parts, g->n_files, count);
    return HDL_OK;
}

static hdl_err open_parts(hdl_gguf *g, const char *first, uint64_t count, hdl_errmsg *why)
{
    char path[PATH_BYTES];
    if (count > PARTS_MAX)
        return hdl_fail(HDL_CORRUPT, why,
                        "%s is one of %" PRIu64 " parts; at most %d are read; fetch it again",
                        first, count, PARTS_MAX);
    gguf_file *grown = realloc(g->files, (size_t)count * sizeof(*grown));
    if (!grown)
        return fail_nomem(why);
    g->files = grown;
    memset(g->files + 1, 0, (size_t)(count - 1) * sizeof(*grown));
    for (uint64_t no = 1; no < count; no++) {
        if (part_path(path, first, no, count) != HDL_OK)
            return hdl_fail(HDL_INVALID, why,
                            "%s is one of %" PRIu64 " parts; their names must end in "
                            "-00001-of-%05" PRIu64 ".gguf and so on; give the first part's path, "
                            "and keep the names",
                            first, count, count);
        HDL_TRY(open_part(g, path, count, why));
    }
    return HDL_OK;
}

static hdl_err check_split(const hdl_gguf *g, hdl_errmsg *why)
{
    uint64_t announced = g->n_tensors;
    HDL_TRY(split_value(&g->files[0].part, "split.tensors.count", &announced, why));
    if (announced != g->n_tensors)
        return hdl_fail(HDL_CORRUPT, why,
                        "the parts hold %zu tensors; %" PRIu64 " are announced; fetch the model "
                        "again",
                        g->n_tensors, announced);
    return HDL_OK;
}

static hdl_err open_all(hdl_gguf *g, const char *path, hdl_errmsg *why)
{
    uint64_t no = 0, count = 1;
    HDL_TRY(open_file(&g->files[0], path, why));
    HDL_TRY(split_value(&g->files[0].part, "split.no", &no, why));
    HDL_TRY(split_value(&g->files[0].part, "split.count", &count, why));
    if (no != 0)
        return hdl_fail(HDL_INVALID, why,
                        "%s is part %" PRIu64 " of %" PRIu64 "; the first part holds what the "
                        "model is; give that one's path",
                        path, no + 1, count);
    if (count > 1)
        HDL_TRY(open_parts(g, path, count, why));
    HDL_TRY(collect(g, why));
    return count > 1 ? check_split(g, why) : HDL_OK;
}

static hdl_gguf *new_gguf(void)
{
    hdl_gguf *g = calloc(1, sizeof(*g));
    if (g)
        g->files = calloc(1, sizeof(*g->files));
    if (!g || !g->files) {
        free(g);
        return NULL;
    }
    g->n_files = 1;
    return g;
}

hdl_err hdl_gguf_open(hdl_gguf **out, const char *path, hdl_errmsg *why)
{
    hdl_gguf *g = new_gguf();
    *out = NULL;
    if (!g)
        return fail_nomem(why);
    hdl_err err = open_all(g, path, why);
    if (err != HDL_OK) {
        hdl_gguf_close(g);
        return err;
    }
    *out = g;
    return HDL_OK;
}

hdl_err hdl_gguf_open_bytes(hdl_gguf **out, const void *bytes, size_t len, hdl_errmsg *why)
{
    hdl_gguf *g = new_gguf();
    hdl_err err = HDL_NOMEM;
    *out = NULL;
    if (!g)
        return fail_nomem(why);
    g->files[0].name = strdup("memory");
    if (!g->files[0].name)
        goto fail;
    HDL_TRY_GOTO(hdl_gguf_part_parse(&g->files[0].part, bytes, len, why), fail);
    HDL_TRY_GOTO(collect(g, why), fail);
    *out = g;
    return HDL_OK;
fail:
    hdl_gguf_close(g);
    return err;
}

void hdl_gguf_close(hdl_gguf *g)
{
    if (!g)
        return;
    for (size_t i = 0; i < g->n_files; i++) {
        hdl_gguf_part_free(&g->files[i].part);
        if (g->files[i].map.data)
            hdl_fs_map_close(&g->files[i].map);
        free(g->files[i].name);
    }
    free(g->files);
    free(g->tensors);
    free(g);
}

size_t hdl_gguf_kv_count(const hdl_gguf *g) { return g->files[0].part.n_kvs; }

const hdl_gguf_kv *hdl_gguf_kv_at(const hdl_gguf *g, size_t idx)
{
    HDL_ASSERT(idx < g->files[0].part.n_kvs);
    return &g->files[0].part.kvs[idx];
}

const hdl_gguf_kv *hdl_gguf_find(const hdl_gguf *g, const char *key)
{
    return hdl_gguf_part_find(&g->files[0].part, key);
}

size_t hdl_gguf_tensor_count(const hdl_gguf *g) { return g->n_tensors; }

const hdl_gguf_tensor *hdl_gguf_tensor_at(const hdl_gguf *g, size_t idx)
{
    HDL_ASSERT(idx < g->n_tensors);
    return &g->tensors[idx];
}

const hdl_gguf_tensor *hdl_gguf_tensor_find(const hdl_gguf *g, const char *name)
{
    hdl_gguf_tensor sought = {.name = name};
    return bsearch(&sought, g->tensors, g->n_tensors, sizeof(sought), by_name);
}

uint64_t hdl_gguf_total_bytes(const hdl_gguf *g) { return g->total_bytes; }

uint64_t hdl_gguf_stamp(const hdl_gguf *g)
{
    uint64_t stamp = g->n_files;
    for (size_t i = 0; i < g->n_files; i++)
        stamp = hdl_hash_combine(stamp, hdl_fs_map_stamp(&g->files[i].map));
    return stamp;
}

void hdl_gguf_forget_pages(hdl_gguf *g)
{
    for (size_t i = 0; i < g->n_files; i++)
        if (g->files[i].map.data && g->files[i].map.len != 0)
            (void)madvise((void *)(uintptr_t)g->files[i].map.data, g->files[i].map.len,
                          MADV_DONTNEED); /* a hint: without it we only look bigger */
}
