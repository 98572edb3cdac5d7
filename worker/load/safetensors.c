/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/load/safetensors.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/checked.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/json.h"
#include "worker/load/st_header.h"

enum {
    PATH_BYTES = 4096,
    FILES_MAX = 4096,
    INDEX_BYTES_MAX = 64 << 20,
};

#define INDEX_NAME  "model.safetensors.index.json"
#define SINGLE_NAME "model.safetensors"

typedef struct st_file {
    char *name;           /* owned */
    hdl_fs_map map;       /* data NULL: bytes of the caller */
    hdl_st_header header; /* owned */
} st_file;

struct hdl_st {
    st_file *files; /* owned */
    size_t n_files;
    hdl_st_tensor *tensors; /* owned; sorted by name */
    size_t n_tensors;
    uint64_t total_bytes;
};

static int by_name(const void *a, const void *b)
{
    return strcmp(((const hdl_st_tensor *)a)->name, ((const hdl_st_tensor *)b)->name);
}

/* All files' tensors in one sorted array; a name in two files is refused. */
static hdl_err collect(hdl_st *st, hdl_errmsg *why)
{
    size_t n = 0;
    for (size_t i = 0; i < st->n_files; i++)
        n += st->files[i].header.n_tensors;
    st->tensors = calloc(n ? n : 1, sizeof(*st->tensors));
    if (!st->tensors)
        return hdl_fail(HDL_NOMEM, why,
                        "no memory for the list of tensors; the machine is full; "
                        "stop other programs");
    for (size_t i = 0; i < st->n_files; i++) {
        const hdl_st_header *h = &st->files[i].header;
        if (h->n_tensors != 0)
            memcpy(st->tensors + st->n_tensors, h->tensors, h->n_tensors * sizeof(*h->tensors));
        for (size_t j = 0; j < h->n_tensors; j++)
            st->tensors[st->n_tensors + j].file = st->files[i].name;
        st->n_tensors += h->n_tensors;
    }
    qsort(st->tensors, st->n_tensors, sizeof(*st->tensors), by_name);
    for (size_t i = 0; i < st->n_tensors; i++) {
        const hdl_st_tensor *t = &st->tensors[i];
        if (i > 0 && strcmp(t->name, t[-1].name) == 0)
            return hdl_fail(HDL_CORRUPT, why,
                            "tensor %.100s is in %.80s and in %.80s; a name must be unique; remove "
                            "the file that does not belong to the model",
                            t->name, t[-1].file, t->file);
        st->total_bytes += t->bytes;
    }
    return HDL_OK;
}

static hdl_err open_file(st_file *file, const char *folder, const char *name, hdl_errmsg *why)
{
    char path[PATH_BYTES];
    if (hdl_fs_join(path, sizeof(path), folder, name) != HDL_OK)
        return hdl_fail(HDL_INVALID, why, "the model's path is too long; use a shorter one");
    file->name = strdup(name);
    if (!file->name)
        return hdl_fail(HDL_NOMEM, why, "out of memory; the machine is full; stop other programs");
    HDL_TRY(hdl_fs_map_open(&file->map, path, HDL_FS_NORMAL, why));
    hdl_err err = hdl_st_header_parse(&file->header, file->map.data, file->map.len, why);
    if (err != HDL_OK)
        return hdl_fail_prefix(err, why, "%s", path);
    return HDL_OK;
}

/* A name of the weight map must stay inside the folder. */
static bool plain_file_name(const char *name)
{
    size_t len = strlen(name);
    return len > 12 && len < 256 && name[0] != '.' && strchr(name, '/') == NULL &&
           strchr(name, '\\') == NULL && strcmp(name + len - 12, ".safetensors") == 0;
}

static st_file *find_file(hdl_st *st, const char *name)
{
    /* Neighbours in the map mostly share a file. */
    for (size_t i = st->n_files; i-- > 0;)
        if (strcmp(st->files[i].name, name) == 0)
            return &st->files[i];
    return NULL;
}

static hdl_err open_mapped(hdl_st *st, const char *folder, const hdl_jv *entry, hdl_errmsg *why)
{
    const char *name = "";
    HDL_TRY(hdl_jv_string(entry, &name, NULL, why));
    if (!plain_file_name(name))
        return hdl_jv_fail(entry, why, "must be the plain name of a .safetensors file");
    if (find_file(st, name))
        return HDL_OK;
    if (st->n_files == FILES_MAX)
        return hdl_fail(HDL_CORRUPT, why,
                        "more than %d weight files are listed; the index is "
                        "damaged; fetch it again",
                        FILES_MAX);
    st_file *grown = realloc(st->files, (st->n_files + 1) * sizeof(*grown));
    if (!grown)
        return hdl_fail(HDL_NOMEM, why, "out of memory; the machine is full; stop other programs");
    st->files = grown;
    st->files[st->n_files] = (st_file){0};
    return open_file(&st->files[st->n_files++], folder, name, why);
}

/* Every tensor of the index must be in the file that the index names. */
static hdl_err check_index(const hdl_st *st, const hdl_jv *map, hdl_errmsg *why)
{
    void *iter = NULL;
    hdl_jv entry;
    while (hdl_jv_next(map, &iter, &entry)) {
        const char *file = "";
        HDL_TRY(hdl_jv_string(&entry, &file, NULL, why));
        const hdl_st_tensor *t = hdl_st_find(st, entry.key);
        if (!t || strcmp(t->file, file) != 0)
            return hdl_fail(HDL_CORRUPT, why,
                            "tensor %.120s is not in %.80s; the index says that it is; fetch the "
                            "file again",
                            entry.key, file);
    }
    return HDL_OK;
}

static hdl_err open_indexed(hdl_st *st, const char *folder, const hdl_json *doc, hdl_errmsg *why)
{
    hdl_jv root = hdl_json_root(doc);
    hdl_jv map = hdl_jv_get(&root, "weight_map");
    HDL_TRY(hdl_jv_expect(&map, HDL_JSON_OBJECT, why));
    void *iter = NULL;
    hdl_jv entry;
    while (hdl_jv_next(&map, &iter, &entry))
        HDL_TRY(open_mapped(st, folder, &entry, why));
    HDL_TRY(collect(st, why));
    return check_index(st, &map, why);
}

static hdl_err open_index(hdl_st *st, const char *folder, const char *path, hdl_errmsg *why)
{
    char *text = NULL;
    size_t len = 0;
    hdl_json *doc = NULL;
    HDL_TRY(hdl_fs_read(path, INDEX_BYTES_MAX, &text, &len, why));
    hdl_err err = hdl_json_parse(text, len, INDEX_BYTES_MAX, &doc, why);
    if (err == HDL_OK)
        err = open_indexed(st, folder, doc, why);
    hdl_json_close(doc);
    free(text);
    if (err != HDL_OK)
        return hdl_fail_prefix(err, why, "%s", path);
    return HDL_OK;
}

static hdl_err open_single(hdl_st *st, const char *folder, hdl_errmsg *why)
{
    st->files = calloc(1, sizeof(*st->files));
    if (!st->files)
        return hdl_fail(HDL_NOMEM, why, "out of memory; the machine is full; stop other programs");
    st->n_files = 1;
    HDL_TRY(open_file(&st->files[0], folder, SINGLE_NAME, why));
    return collect(st, why);
}

static hdl_err open_folder(hdl_st *st, const char *folder, hdl_errmsg *why)
{
    char path[PATH_BYTES];
    if (hdl_fs_join(path, sizeof(path), folder, INDEX_NAME) != HDL_OK)
        return hdl_fail(HDL_INVALID, why, "the model's path is too long; use a shorter one");
    if (hdl_fs_exists(path))
        return open_index(st, folder, path, why);
    if (hdl_fs_join(path, sizeof(path), folder, SINGLE_NAME) != HDL_OK)
        return hdl_fail(HDL_INVALID, why, "the model's path is too long; use a shorter one");
    if (!hdl_fs_exists(path))
        return hdl_fail(HDL_NOTFOUND, why,
                        "%.200s has no weights; neither " SINGLE_NAME " nor " INDEX_NAME
                        " is there; fetch the model again",
                        folder);
    return open_single(st, folder, why);
}

hdl_err hdl_st_open(hdl_st **out, const char *folder, hdl_errmsg *why)
{
    hdl_st *st = calloc(1, sizeof(*st));
    *out = NULL;
    if (!st)
        return hdl_fail(HDL_NOMEM, why, "out of memory; the machine is full; stop other programs");
    hdl_err err = open_folder(st, folder, why);
    if (err != HDL_OK) {
        hdl_st_close(st);
        return err;
    }
    *out = st;
    return HDL_OK;
}

hdl_err hdl_st_open_bytes(hdl_st **out, const void *bytes, size_t len, hdl_errmsg *why)
{
    hdl_st *st = calloc(1, sizeof(*st));
    hdl_err err = HDL_NOMEM;
    *out = NULL;
    if (!st)
        return hdl_fail(HDL_NOMEM, why, "out of memory; the machine is full; stop other programs");
    st->files = calloc(1, sizeof(*st->files));
    if (!st->files)
        goto fail;
    st->n_files = 1;
    st->files[0].name = strdup("memory");
    if (!st->files[0].name)
        goto fail;
    HDL_TRY_GOTO(hdl_st_header_parse(&st->files[0].header, bytes, len, why), fail);
    HDL_TRY_GOTO(collect(st, why), fail);
    *out = st;
    return HDL_OK;
fail:
    hdl_st_close(st);
    return err;
}

void hdl_st_close(hdl_st *st)
{
    if (!st)
        return;
    for (size_t i = 0; i < st->n_files; i++) {
        hdl_st_header_free(&st->files[i].header);
        if (st->files[i].map.data)
            hdl_fs_map_close(&st->files[i].map);
        free(st->files[i].name);
    }
    free(st->files);
    free(st->tensors);
    free(st);
}

const hdl_st_tensor *hdl_st_find(const hdl_st *st, const char *name)
{
    hdl_st_tensor key = {.name = name};
    return bsearch(&key, st->tensors, st->n_tensors, sizeof(key), by_name);
}

size_t hdl_st_count(const hdl_st *st) { return st->n_tensors; }

const hdl_st_tensor *hdl_st_at(const hdl_st *st, size_t idx) { return &st->tensors[idx]; }

uint64_t hdl_st_total_bytes(const hdl_st *st) { return st->total_bytes; }

uint64_t hdl_st_stamp(const hdl_st *st)
{
    uint64_t stamp = st->n_files;
    for (size_t i = 0; i < st->n_files; i++)
        stamp = hdl_hash_combine(stamp, hdl_fs_map_stamp(&st->files[i].map));
    return stamp;
}

void hdl_st_forget_pages(hdl_st *st)
{
    for (size_t i = 0; i < st->n_files; i++)
        if (st->files[i].map.data && st->files[i].map.len != 0)
            (void)madvise((void *)(uintptr_t)st->files[i].map.data, st->files[i].map.len,
                          MADV_DONTNEED); /* a hint: without it we only look bigger */
}
