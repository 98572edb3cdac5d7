/* SPDX-License-Identifier: Apache-2.0 */
/* A private folder for as long as a process lives: sockets, generated configuration.
 *
 * Whoever is killed cannot remove its folder; so each holds a lock on a file in its own, and the
 * next one to start removes those of this user whose lock is free. Cold path; any thread. */
#pragma once

#include "heddle/err.h"

enum { HDL_RUN_DIR_BYTES = 64 };

typedef struct hdl_run_dir {
    char path[HDL_RUN_DIR_BYTES]; /* "": none */
    int lock_fd;                  /* owned */
} hdl_run_dir;

/* New folder (0700) in /tmp, after those that the dead left are gone. */
hdl_err hdl_run_dir_open(hdl_run_dir *dir, hdl_errmsg *why) HDL_MUST_CHECK;
/* Removes the folder and what is in it; nothing for a zeroed one. */
void hdl_run_dir_close(hdl_run_dir *dir);
