/* SPDX-License-Identifier: Apache-2.0 */
/* The state of a core in a file: where a replay starts that has no birth to start from.
 *
 * Bytes as they lie in memory, without those pages that are all zero, behind the configuration they
 * belong to. It is made of a core that has only seen the recording (shadow.h), so it holds no token
 * and no key. A checksum tells damage; nothing tells malice, so whoever runs such a state runs it
 * confined (replay.c). Cold path; any thread. */
#pragma once

#include "scheduler/core/sched.h"

/* A place in a recording: so many events, and the digest of all actions up to there. */
typedef struct hdl_record_mark {
    uint64_t n_events, digest;
} hdl_record_mark;

typedef struct hdl_state_image {
    const hdl_sched_config *config; /* borrowed */
    void *state;                    /* hdl_sched_bytes(config) of them */
    hdl_record_mark mark;
} hdl_state_image;

/* Replaces the file or leaves the old one. */
hdl_err hdl_state_write(const char *path, const hdl_state_image *image,
                        hdl_errmsg *why) HDL_MUST_CHECK;
/* Fills image->state, whose memory is zero. HDL_NOTFOUND when there is no file, or it belongs to
 * another place or another configuration than image says; HDL_CORRUPT when it is damaged. */
hdl_err hdl_state_read(const char *path, const hdl_state_image *image,
                       hdl_errmsg *why) HDL_MUST_CHECK;
