/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"

static hdl_err fail_path(hdl_errmsg *why, const char *verb, const char *path)
{
    int number = errno;
    hdl_err err = number == ENOENT || number == ENOTDIR ? HDL_NOTFOUND
                  : number == EACCES || number == EPERM ? HDL_DENIED
                  : number == ENOMEM                    ? HDL_NOMEM
                                                        : HDL_IO;
    return hdl_fail(err, why, "cannot %s %s; %s", verb, path, strerror(number));
}

typedef struct regular {
    int fd;
    size_t size;
    uint64_t mtime_ns;
} regular;

/* Opens a regular file for reading and looks at it. */
static hdl_err open_regular(const char *path, regular *out, hdl_errmsg *why)
{
    struct stat st;
    /* O_NONBLOCK: a FIFO in place of the file must not hang the start. */
    out->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (out->fd < 0)
        return fail_path(why, "open", path);
    hdl_err err = HDL_OK;
    if (fstat(out->fd, &st) != 0)
        err = fail_path(why, "look at", path);
    else if (!S_ISREG(st.st_mode))
        err = hdl_fail(HDL_INVALID, why, "cannot read %s; it is %s; name a regular file", path,
                       S_ISDIR(st.st_mode) ? "a folder" : "not a regular file");
    if (err != HDL_OK) {
        close(out->fd);
        out->fd = -1;
        return err;
    }
    out->size = (size_t)st.st_size;
    out->mtime_ns = (uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec;
    return HDL_OK;
}

hdl_err hdl_fs_read(const char *path, size_t max_bytes, char **out, size_t *len, hdl_errmsg *why)
{
    *out = NULL;
    *len = 0;
    regular file;
    HDL_TRY(open_regular(path, &file, why));
    const int fd = file.fd;
    const size_t size = file.size;
    size_t got = 0;
    hdl_err err = HDL_OK;
    char *text = NULL;
    if (size > max_bytes) {
        err = hdl_fail(HDL_INVALID, why, "%s is too long; it has %zu bytes, at most %zu are read",
                       path, size, max_bytes);
        goto done;
    }
    text = malloc(size + 1);
    if (!text) {
        err = hdl_fail(HDL_NOMEM, why, "no memory to read %s; it has %zu bytes", path, size);
        goto done;
    }
    while (got < size) {
        ssize_t n = read(fd, text + got, size - got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            err = fail_path(why, "read", path);
            goto done;
        }
        if (n == 0)
            break; /* it became shorter meanwhile */
        got += (size_t)n;
    }
    text[got] = '\0';
    *out = text;
    *len = got;
    text = NULL;
done:
    free(text);
    close(fd);
    return err;
}

static hdl_err write_all(int fd, hdl_fs_bytes bytes)
{
    const char *p = bytes.data;
    for (size_t left = bytes.len; left > 0;) {
        ssize_t n = write(fd, p, left);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return HDL_IO;
        p += n;
        left -= (size_t)n;
    }
    return HDL_OK;
}

hdl_err hdl_fs_write_atomic(const char *path, hdl_fs_bytes bytes, hdl_errmsg *why)
{
    return hdl_fs_write_parts(path, &bytes, 1, why);
}

hdl_err hdl_fs_write_parts(const char *path, const hdl_fs_bytes *parts, size_t n_parts,
                           hdl_errmsg *why)
{
    char temp[4096];
    int n = snprintf(temp, sizeof temp, "%s.tmpXXXXXX", path);
    if (n < 0 || (size_t)n >= sizeof temp)
        return hdl_fail(HDL_INVALID, why, "path is too long; %.64s...", path);
    int fd = mkostemp(temp, O_CLOEXEC);
    if (fd < 0)
        return fail_path(why, "create a file beside", path);
    hdl_err err = fchmod(fd, 0644) == 0 ? HDL_OK : HDL_IO;
    for (size_t i = 0; i < n_parts && err == HDL_OK; i++)
        err = write_all(fd, parts[i]);
    if (err != HDL_OK || fsync(fd) != 0)
        err = fail_path(why, "write", temp);
    if (close(fd) != 0 && err == HDL_OK)
        err = fail_path(why, "write", temp);
    if (err == HDL_OK && rename(temp, path) != 0)
        err = fail_path(why, "replace", path);
    if (err != HDL_OK)
        unlink(temp);
    return err;
}

hdl_err hdl_fs_map_open(hdl_fs_map *map, const char *path, hdl_fs_advice advice, hdl_errmsg *why)
{
    static const int advices[] = {MADV_NORMAL, MADV_SEQUENTIAL, MADV_RANDOM, MADV_WILLNEED};
    *map = (hdl_fs_map){.data = (const unsigned char *)""};
    regular file;
    HDL_TRY(open_regular(path, &file, why));
    const size_t size = file.size;
    map->mtime_ns = file.mtime_ns;
    hdl_err err = HDL_OK;
    if (size > 0) {
        void *p = mmap(NULL, size, PROT_READ, MAP_SHARED, file.fd, 0);
        if (p == MAP_FAILED) {
            err = fail_path(why, "map", path);
        } else {
            (void)madvise(p, size, advices[advice]); /* a hint */
            map->data = p;
            map->len = size;
        }
    }
    close(file.fd);
    return err;
}

void hdl_fs_map_close(hdl_fs_map *map)
{
    if (map->len > 0)
        munmap((void *)(uintptr_t)map->data, map->len);
    *map = (hdl_fs_map){.data = (const unsigned char *)""};
}

uint64_t hdl_fs_map_stamp(const hdl_fs_map *map)
{
    const size_t page = 4096, samples = 64, step = map->len / samples / page * page;
    uint64_t stamp = hdl_hash_combine(map->len, map->mtime_ns);
    for (size_t i = 0; i < samples && i * step < map->len && (i == 0 || step > 0); i++) {
        size_t left = map->len - i * step;
        stamp = hdl_hash_bytes(map->data + i * step, left < page ? left : page, stamp);
    }
    return stamp;
}

hdl_err hdl_fs_join(char *out, size_t size, const char *dir, const char *name)
{
    size_t len = strlen(dir);
    const char *slash = len == 0 || dir[len - 1] == '/' ? "" : "/";
    int n = name[0] == '/' ? snprintf(out, size, "%s", name)
                           : snprintf(out, size, "%s%s%s", dir, slash, name);
    if (n >= 0 && (size_t)n < size)
        return HDL_OK;
    if (size > 0)
        out[0] = '\0';
    return HDL_INVALID;
}

bool hdl_fs_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0;
}

bool hdl_fs_is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

hdl_err hdl_fs_mkdtemp(char *out, size_t size, const char *prefix, hdl_errmsg *why)
{
    int n = snprintf(out, size, "%s%sXXXXXX", prefix[0] == '/' ? "" : "/tmp/", prefix);
    if (n < 0 || (size_t)n >= size)
        return hdl_fail(HDL_INVALID, why, "path is too long; %.64s...", prefix);
    return mkdtemp(out) ? HDL_OK : fail_path(why, "create folder", out);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

hdl_err hdl_fs_remove_tree(const char *path)
{
    if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) == 0)
        return HDL_OK;
    return errno == ENOENT ? HDL_NOTFOUND : HDL_IO;
}
