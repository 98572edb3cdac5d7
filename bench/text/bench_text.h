/* SPDX-License-Identifier: Apache-2.0 */
/* How fast tokenizers are: `heddle bench text`.
 *
 * Each text is encoded on one core by a scratch that has seen it (warm) and by a new one (first),
 * and its ids are decoded. Beside each speed stands the speed of the check that the same text is
 * UTF-8, measured between the samples: the least that any encoder has to do. Main thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { HDL_BENCH_TEXT_FILES_MAX = 8 };

typedef struct hdl_bench_text_opts {
    const char *const *models; /* [n_models] folders or .gguf files */
    size_t n_models;
    const char
        *texts[HDL_BENCH_TEXT_FILES_MAX + 1]; /* files; NULL ends the list; empty: built in */
    const char *save; /* folder into which the built-in texts are written instead; or NULL */
    uint32_t samples; /* 0: 30 */
    bool json;
    FILE *out; /* NULL: stdout */
} hdl_bench_text_opts;

/* Prints a table or one JSON document. 0, or 1 when a model or text cannot be read. */
int hdl_bench_text(const hdl_bench_text_opts *opts);
