/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a function on data that nobody vouches for, in a child process that can do nothing but
 * compute and answer: no file, no socket, no new memory, by a seccomp filter. Cold path;
 * a process with one thread, or one that holds no lock that the function takes. */
#pragma once

#include "heddle/err.h"
#include <stddef.h>

typedef struct hdl_confine_answer {
    void *bytes; /* what the function leaves here in the child is here in the parent afterwards */
    size_t size; /* no pointers in it can be trusted */
} hdl_confine_answer;

/* What fn returned and said; HDL_CORRUPT when it broke; HDL_UNSUPPORTED when the kernel has no such
 * thing. */
hdl_err hdl_confine(hdl_err (*fn)(void *arg, hdl_errmsg *why), void *arg, hdl_confine_answer answer,
                    hdl_errmsg *why) HDL_MUST_CHECK;
