/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/load/packed.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/log.h"

/* A page of header, a CRC-32C for each chunk, padding to a page, the memory. Little-endian. */
enum { VERSION = 2, PAGE = 4096, PATH_BYTES = 4096 };
static const size_t CHUNK = (size_t)4 << 20;

typedef struct header {
    char magic[8];
    uint32_t version, header_crc; /* of the header with 0 here, and of the chunks' CRCs */
    uint64_t key[2];
    uint64_t bytes, payload_at;
} header;
_Static_assert(sizeof(header) <= PAGE, "a page");

typedef struct pass {
    const unsigned char *from;
    unsigned char *to; /* NULL: CRCs are written */
    size_t bytes, n_chunks;
    uint32_t *crcs;
    _Atomic size_t next, bad;
} pass;

static size_t n_chunks_of(size_t bytes) { return bytes / CHUNK + (bytes % CHUNK != 0); }

/* Reading copies a chunk when its CRC is right. */
static void run_chunks(void *arg, uint32_t thread, uint32_t n_threads)
{
    pass *p = arg;
    (void)thread;
    (void)n_threads;
    for (size_t i; (i = atomic_fetch_add(&p->next, 1)) < p->n_chunks;) {
        size_t at = i * CHUNK, n = p->bytes - at < CHUNK ? p->bytes - at : CHUNK;
        uint32_t crc = hdl_crc32c(0, p->from + at, n);
        if (!p->to)
            p->crcs[i] = crc;
        else if (p->crcs[i] == crc)
            memcpy(p->to + at, p->from + at, n);
        else
            atomic_fetch_add(&p->bad, 1);
    }
}

static uint32_t header_crc(const header *h, const uint32_t *crcs, size_t n_chunks)
{
    header plain = *h;
    plain.header_crc = 0;
    return hdl_crc32c(hdl_crc32c(0, &plain, sizeof plain), crcs, n_chunks * sizeof *crcs);
}

static header header_of(const hdl_packed *c)
{
    size_t bytes = c->model->weight_bytes, table = n_chunks_of(bytes) * sizeof(uint32_t);
    header h = {.magic = "HDLPACK",
                .version = VERSION,
                .key = {c->key[0], c->key[1]},
                .bytes = bytes,
                .payload_at = PAGE + (table + PAGE - 1) / PAGE * PAGE};
    return h;
}

static bool path_of(const hdl_packed *c, char *path, size_t size)
{
    char name[64];
    snprintf(name, sizeof name, "%016" PRIx64 "%016" PRIx64 ".hdlpack", c->key[0], c->key[1]);
    return hdl_fs_join(path, size, c->folder, name) == HDL_OK;
}

/* NULL: the file is what it should be, up to the chunks themselves. */
static const char *problem_of(const hdl_packed *c, const hdl_fs_map *map)
{
    header want = header_of(c), h;
    if (map->len < PAGE)
        return "it is shorter than a header";
    memcpy(&h, map->data, sizeof h);
    want.header_crc = h.header_crc;
    if (memcmp(&h, &want, sizeof h) != 0)
        return "its header is another one's";
    if (map->len != h.payload_at + h.bytes)
        return "its length is not what its header says";
    if (header_crc(&h, (const uint32_t *)(const void *)(map->data + PAGE), n_chunks_of(h.bytes)) !=
        h.header_crc)
        return "its header is damaged";
    return NULL;
}

static void say_unusable(const char *path, const char *problem)
{
    HDL_LOG(WARN, LOAD, "packed_cache_unusable", "path=%s why=%s", HDL_LOG_QUOTE(path),
            HDL_LOG_QUOTE(problem));
}

bool hdl_packed_read(const hdl_packed *c)
{
    char path[PATH_BYTES];
    hdl_fs_map map;
    hdl_errmsg why;
    if (!c->folder || c->folder[0] == '\0' || !path_of(c, path, sizeof path) ||
        !hdl_fs_exists(path))
        return false;
    if (hdl_fs_map_open(&map, path, HDL_FS_WILLNEED, &why) != HDL_OK) {
        say_unusable(path, why.text);
        return false;
    }
    const char *problem = problem_of(c, &map);
    if (!problem) {
        header h = header_of(c);
        pass p = {.from = map.data + h.payload_at,
                  .to = c->model->memory,
                  .bytes = h.bytes,
                  .n_chunks = n_chunks_of(h.bytes),
                  .crcs = (uint32_t *)(uintptr_t)(map.data + PAGE)};
        hdl_stream_run(c->stream, run_chunks, &p);
        problem = atomic_load(&p.bad) ? "its content is damaged" : NULL;
    }
    hdl_fs_map_close(&map);
    if (problem)
        say_unusable(path, problem);
    return !problem;
}

void hdl_packed_write(const hdl_packed *c)
{
    char path[PATH_BYTES];
    hdl_errmsg why;
    if (!c->folder || c->folder[0] == '\0')
        return;
    uint64_t start_us = hdl_clock_now_us();
    header h = header_of(c);
    unsigned char *front = calloc(1, h.payload_at);
    if (!front || !path_of(c, path, sizeof path)) {
        free(front);
        return;
    }
    pass p = {.from = c->model->memory,
              .bytes = h.bytes,
              .n_chunks = n_chunks_of(h.bytes),
              .crcs = (uint32_t *)(void *)(front + PAGE)};
    hdl_stream_run(c->stream, run_chunks, &p);
    h.header_crc = header_crc(&h, p.crcs, p.n_chunks);
    memcpy(front, &h, sizeof h);
    const hdl_fs_bytes parts[] = {{front, h.payload_at}, {c->model->memory, h.bytes}};
    if (hdl_fs_write_parts(path, parts, HDL_ARRAY_LEN(parts), &why) == HDL_OK)
        HDL_LOG(INFO, LOAD, "packed_cache_written", "path=%s bytes=%" PRIu64 " took_us=%" PRIu64,
                HDL_LOG_QUOTE(path), h.payload_at + h.bytes, hdl_clock_now_us() - start_us);
    else
        HDL_LOG(WARN, LOAD, "packed_cache_not_written", "why=%s", HDL_LOG_QUOTE(why.text));
    free(front);
}
