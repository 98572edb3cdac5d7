/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/record/state_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/hash.h"
#include "scheduler/core/journal.h"

enum { PAGE_BYTES = 4096 };

static const uint64_t MAGIC = 0x315453454c444548u; /* "HEDLEST1" */
static const uint64_t LAST_PAGE = UINT64_MAX;      /* then the checksum of all before it */

/* The file's first bytes; then pages, each behind its number; LAST_PAGE; the checksum. */
typedef struct head {
    uint64_t magic;
    uint32_t version, config_bytes;
    uint64_t state_bytes, n_events, digest;
    hdl_sched_config config;
} head;

static void fill_head(head *h, const hdl_state_image *image)
{
    memset(h, 0, sizeof *h); /* padding too: the reader compares bytes */
    h->magic = MAGIC;
    h->version = HDL_JOURNAL_VERSION;
    h->config_bytes = sizeof h->config;
    h->state_bytes = hdl_sched_bytes(image->config);
    h->n_events = image->mark.n_events;
    h->digest = image->mark.digest;
    memcpy(&h->config, image->config, sizeof h->config);
}

/* -- writing --------------------------------------------------------------------------------- */

typedef struct sink {
    FILE *file;
    uint32_t crc;
    bool failed;
} sink;

static void put(sink *s, const void *bytes, size_t n)
{
    s->crc = hdl_crc32c(s->crc, bytes, n);
    s->failed = s->failed || fwrite(bytes, 1, n, s->file) != n;
}

static bool is_zero(const unsigned char *bytes, size_t n)
{
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, n - 1) == 0;
}

static void put_pages(sink *s, const hdl_state_image *image)
{
    const size_t bytes = hdl_sched_bytes(image->config);
    const unsigned char *state = image->state;
    for (uint64_t at = 0; at < bytes && !s->failed; at += PAGE_BYTES) {
        const size_t n = bytes - at < PAGE_BYTES ? (size_t)(bytes - at) : (size_t)PAGE_BYTES;
        const uint64_t page = at / PAGE_BYTES;
        if (is_zero(state + at, n))
            continue;
        put(s, &page, sizeof page);
        put(s, state + at, n);
    }
    put(s, &LAST_PAGE, sizeof LAST_PAGE);
    const uint32_t crc = s->crc;
    put(s, &crc, sizeof crc);
}

hdl_err hdl_state_write(const char *path, const hdl_state_image *image, hdl_errmsg *why)
{
    char temp[4096];
    int n = snprintf(temp, sizeof temp, "%s.new", path);
    if (n < 0 || (size_t)n >= sizeof temp)
        return hdl_fail(HDL_INVALID, why, "the path is too long; %.64s...", path);
    int fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    sink s = {.file = fd < 0 ? NULL : fdopen(fd, "w")};
    if (!s.file) {
        int saved = errno;
        if (fd >= 0)
            close(fd);
        return hdl_fail(HDL_IO, why, "cannot write %s; %s", temp, strerror(saved));
    }
    head h;
    fill_head(&h, image);
    put(&s, &h, sizeof h);
    put_pages(&s, image);
    bool bad = fclose(s.file) != 0 || s.failed || rename(temp, path) != 0;
    if (bad) {
        int saved = errno;
        (void)unlink(temp);
        return hdl_fail(HDL_IO, why, "cannot write %s; %s", path, strerror(saved));
    }
    return HDL_OK;
}

/* -- reading --------------------------------------------------------------------------------- */

static bool read_pages(const unsigned char *at, size_t left, const hdl_state_image *image)
{
    const uint64_t bytes = hdl_sched_bytes(image->config);
    uint64_t page;
    for (;;) {
        if (left < sizeof page)
            return false;
        memcpy(&page, at, sizeof page);
        at += sizeof page;
        left -= sizeof page;
        if (page == LAST_PAGE)
            return left == 0;
        if (page > (bytes - 1) / PAGE_BYTES)
            return false;
        const uint64_t from = page * PAGE_BYTES;
        const size_t n = bytes - from < PAGE_BYTES ? (size_t)(bytes - from) : (size_t)PAGE_BYTES;
        if (left < n)
            return false;
        memcpy((unsigned char *)image->state + from, at, n);
        at += n;
        left -= n;
    }
}

static hdl_err read_map(const hdl_fs_map *map, const hdl_state_image *image)
{
    head want, have;
    uint32_t crc;
    if (map->len < sizeof have + sizeof crc)
        return HDL_CORRUPT;
    const size_t body = map->len - sizeof crc;
    memcpy(&have, map->data, sizeof have);
    memcpy(&crc, map->data + body, sizeof crc);
    fill_head(&want, image);
    if (memcmp(&have, &want, sizeof have) != 0)
        return HDL_NOTFOUND;
    if (hdl_crc32c(0, map->data, body) != crc)
        return HDL_CORRUPT;
    return read_pages(map->data + sizeof have, body - sizeof have, image) ? HDL_OK : HDL_CORRUPT;
}

hdl_err hdl_state_read(const char *path, const hdl_state_image *image, hdl_errmsg *why)
{
    hdl_fs_map map;
    HDL_TRY(hdl_fs_map_open(&map, path, HDL_FS_SEQUENTIAL, why));
    hdl_err err = read_map(&map, image);
    hdl_fs_map_close(&map);
    if (err == HDL_NOTFOUND)
        return hdl_fail(err, why, "%s belongs to another recording", path);
    if (err != HDL_OK)
        return hdl_fail(err, why, "%s is damaged; copy it again", path);
    return HDL_OK;
}
