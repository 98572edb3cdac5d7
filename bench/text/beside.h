/* SPDX-License-Identifier: Apache-2.0 */
/* heddle's tokenizers beside Hugging Face's package, in turn and in one run: compare.py, which is
 * part of the program, run by a Python that has the package. It asks `heddle bench text --json` for
 * heddle's side of each round. Main thread; nothing else may be at work, since the process becomes
 * that Python. */
#pragma once

#include <heddle/err.h>

#include "bench/text/bench_text.h"

typedef struct hdl_beside_opts {
    const char *python; /* a path, or a name to look up in PATH */
    const char *heddle; /* path of this program */
    uint32_t rounds;    /* medians are over so many; 0: 5 */
} hdl_beside_opts;

/* Does not return where it works. NOTFOUND: there is no such Python; INVALID: too many models. */
hdl_err hdl_bench_text_beside(const hdl_bench_text_opts *opts, const hdl_beside_opts *beside,
                              hdl_errmsg *why) HDL_MUST_CHECK;
