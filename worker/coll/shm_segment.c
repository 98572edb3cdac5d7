/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/coll/shm_segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/clock.h"

#define MAGIC 0x68646c73686d3031u /* "hdlshm01" */

enum { NAME_BYTES = 128, POLL_US = 500 };

typedef struct hdl_shm_header {
    _Atomic uint64_t magic; /* set last by rank 0 */
    uint64_t bytes, buffer_bytes;
    uint32_t n_ranks;
    _Atomic uint32_t ready; /* all ranks have attached */
    _Atomic uint32_t attached[HDL_RANKS_MAX];
} hdl_shm_header;

typedef struct opening {
    const hdl_coll_opts *opts;
    const hdl_coll *coll;
    hdl_errmsg *why;
    uint64_t deadline_us;
    char name[NAME_BYTES];
} opening;

/* Places of the arrays; false when the sizes overflow. */
static bool lay_out(hdl_shm_segment *s)
{
    size_t lanes = (size_t)(1 + HDL_COLL_SPLITS_MAX) * s->n_ranks, buffers = 0;
    size_t lanes_at = (sizeof(hdl_shm_header) + 63) & ~(size_t)63;
    size_t boxes_at = lanes_at + lanes * sizeof(hdl_shm_lane);
    size_t buffers_at = boxes_at + lanes * sizeof(hdl_shm_box);
    if (!hdl_mul_size(lanes * 2, s->buffer_bytes, &buffers) ||
        !hdl_add_size(buffers_at, buffers, &s->bytes))
        return false;
    unsigned char *base = (unsigned char *)s->header;
    if (base) {
        s->lanes = (hdl_shm_lane *)(void *)(base + lanes_at);
        s->boxes = (hdl_shm_box *)(void *)(base + boxes_at);
        s->buffers = base + buffers_at;
    }
    return true;
}

static hdl_err map(hdl_shm_segment *s, int fd, hdl_errmsg *why)
{
    void *mem = mmap(NULL, s->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mem == MAP_FAILED)
        return hdl_fail(HDL_NOMEM, why, "cannot map %zu bytes of shared memory; %s; free memory",
                        s->bytes, strerror(errno));
    s->header = mem;
    (void)lay_out(s);
    return HDL_OK;
}

static void unmap(hdl_shm_segment *s)
{
    if (s->header)
        munmap(s->header, s->bytes);
    s->header = NULL;
}

static hdl_err check_wait(const opening *o)
{
    hdl_err err = hdl_coll_stop(o->coll);
    if (err != HDL_OK)
        return hdl_fail(err, o->why,
                        "joining the group was cancelled; another epoch begins; wait "
                        "for it");
    if (hdl_clock_now_us() > o->deadline_us)
        return hdl_fail(HDL_TIMEOUT, o->why,
                        "not all of the %u ranks came to shared memory %s in time; one of them is "
                        "slow or has died; look at its log",
                        o->opts->n_ranks, o->name);
    hdl_clock_sleep_us(POLL_US); /* cold: a group is forming */
    return HDL_OK;
}

/* ---- rank 0 ------------------------------------------------------------------------------- */

static hdl_err create(hdl_shm_segment *s, const opening *o)
{
    (void)shm_unlink(o->name); /* what a crashed group left */
    int fd = shm_open(o->name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0)
        return hdl_fail(HDL_IO, o->why, "cannot create shared memory %s; %s; check /dev/shm",
                        o->name, strerror(errno));
    /* Room is taken now: a full /dev/shm is an error here and would be a SIGBUS later. */
    int no = posix_fallocate(fd, 0, (off_t)s->bytes);
    hdl_err err = HDL_OK;
    if (no != 0)
        err = hdl_fail(HDL_NOMEM, o->why,
                       "no room for %zu bytes of shared memory; %s; enlarge /dev/shm (in a "
                       "container: --shm-size)",
                       s->bytes, strerror(no));
    if (err == HDL_OK)
        err = map(s, fd, o->why);
    close(fd);
    if (err != HDL_OK) {
        (void)shm_unlink(o->name);
        return err;
    }
    s->header->bytes = s->bytes;
    s->header->buffer_bytes = s->buffer_bytes;
    s->header->n_ranks = s->n_ranks;
    atomic_store(&s->header->attached[0], 1);
    atomic_store(&s->header->magic, MAGIC);
    return HDL_OK;
}

static hdl_err gather(hdl_shm_segment *s, const opening *o)
{
    hdl_err err = HDL_OK;
    for (uint32_t r = 1; r < s->n_ranks && err == HDL_OK; r++)
        while (err == HDL_OK && !atomic_load(&s->header->attached[r]))
            err = check_wait(o);
    if (err == HDL_OK)
        atomic_store(&s->header->ready, 1);
    (void)shm_unlink(o->name);
    return err;
}

/* ---- the others --------------------------------------------------------------------------- */

static bool same_shape(const hdl_shm_segment *s)
{
    return s->header->bytes == s->bytes && s->header->buffer_bytes == s->buffer_bytes &&
           s->header->n_ranks == s->n_ranks;
}

/* One try: *done when this rank has attached and rank 0 has declared the segment ready. What was
 * there may have been a leftover. */
static hdl_err attach_fd(hdl_shm_segment *s, const opening *o, int fd, bool *done)
{
    struct stat st;
    if (fstat(fd, &st) != 0 || st.st_size != (off_t)s->bytes)
        return HDL_OK;
    HDL_TRY(map(s, fd, o->why));
    if (atomic_load(&s->header->magic) != MAGIC || !same_shape(s))
        return HDL_OK;
    if (atomic_exchange(&s->header->attached[o->opts->rank], 1) != 0)
        return HDL_OK;
    for (;;) {
        bool unnamed = fstat(fd, &st) == 0 && st.st_nlink == 0;
        if (atomic_load(&s->header->ready)) {
            *done = true;
            return HDL_OK;
        }
        if (unnamed)
            return HDL_OK;
        hdl_err err = check_wait(o);
        if (err != HDL_OK) {
            (void)shm_unlink(o->name); /* rank 0 may have died before it could */
            return err;
        }
    }
}

static hdl_err attach(hdl_shm_segment *s, const opening *o)
{
    for (;;) {
        bool done = false;
        int fd = shm_open(o->name, O_RDWR | O_CLOEXEC, 0);
        hdl_err err = HDL_OK;
        if (fd >= 0) {
            err = attach_fd(s, o, fd, &done);
            close(fd);
        } else if (errno != ENOENT) {
            err = hdl_fail(HDL_IO, o->why, "cannot open shared memory %s; %s; check /dev/shm",
                           o->name, strerror(errno));
        }
        if (err == HDL_OK && done)
            return HDL_OK;
        unmap(s);
        HDL_TRY(err);
        HDL_TRY(check_wait(o));
    }
}

/* ---- both --------------------------------------------------------------------------------- */

static hdl_err name_of(opening *o)
{
    const char *address = o->opts->address ? o->opts->address : "";
    address += address[0] == '/';
    int n = snprintf(o->name, sizeof(o->name), "/%s", address);
    if (n <= 1 || n >= NAME_BYTES || strchr(address, '/') != NULL)
        return hdl_fail(
            HDL_INVALID, o->why,
            "\"%.64s\" is no name for shared memory; a plain name of at most %d bytes is "
            "needed; correct the address",
            address, NAME_BYTES - 2);
    return HDL_OK;
}

hdl_err hdl_shm_segment_open(hdl_shm_segment **out, const hdl_coll_opts *opts, const hdl_coll *coll,
                             hdl_errmsg *why)
{
    opening o = {.opts = opts,
                 .coll = coll,
                 .why = why,
                 .deadline_us = hdl_clock_now_us() + coll->timeout_us};
    HDL_TRY(name_of(&o));
    hdl_shm_segment *s = calloc(1, sizeof(*s));
    if (!s)
        return hdl_fail(HDL_NOMEM, why, "out of memory; the machine is full; stop other programs");
    s->n_ranks = opts->n_ranks;
    size_t asked = opts->buffer_bytes ? opts->buffer_bytes : HDL_COLL_BUFFER_DEFAULT;
    s->buffer_bytes = asked < 4096 ? 4096 : asked & ~(size_t)4095;
    hdl_err err = HDL_OK;
    if (!lay_out(s))
        err = hdl_fail(HDL_INVALID, why,
                       "buffers of %zu bytes for %u ranks are too large; lower "
                       "them",
                       asked, opts->n_ranks);
    if (err == HDL_OK && opts->rank == 0) {
        err = create(s, &o);
        if (err == HDL_OK)
            err = gather(s, &o);
    } else if (err == HDL_OK) {
        err = attach(s, &o);
    }
    if (err != HDL_OK) {
        hdl_shm_segment_close(s);
        return err;
    }
    *out = s;
    return HDL_OK;
}

void hdl_shm_segment_close(hdl_shm_segment *s)
{
    unmap(s);
    free(s);
}
