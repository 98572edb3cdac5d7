/* SPDX-License-Identifier: Apache-2.0 */
/* A core in a thread of its own that follows the recording, a closed file at a time, and writes
 * down where it is: so that the next file can be replayed when those before it are gone.
 *
 * It costs the memory of a core and the scheduler's work once more, at the time of a change of
 * files alone. Owner: the recorder; calls are its thread's. */
#pragma once

#include "scheduler/record/state_file.h"

typedef struct hdl_shadow hdl_shadow;

typedef enum hdl_shadow_state {
    HDL_SHADOW_IDLE,
    HDL_SHADOW_BUSY,
    HDL_SHADOW_FAILED /* for good: memory or disk is short, or the recording does not replay */
} hdl_shadow_state;

hdl_err hdl_shadow_open(hdl_shadow **out, hdl_errmsg *why) HDL_MUST_CHECK;
/* Gives up what it is doing. NULL is fine. */
void hdl_shadow_close(hdl_shadow *shadow);
/* Follows the file, which begins where the last one ended, and writes the state at its end. Must
 * not be busy. Never waits. */
void hdl_shadow_follow(hdl_shadow *shadow, const char *file, const char *state_file);
hdl_shadow_state hdl_shadow_look(const hdl_shadow *shadow);
/* Until it is not busy. */
void hdl_shadow_wait(hdl_shadow *shadow);
