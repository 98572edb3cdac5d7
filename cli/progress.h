/* SPDX-License-Identifier: Apache-2.0 */
/* The loading of a model on a terminal: its state, with a bar and bytes while weights are read.
 * Writes over its own line of stderr; says nothing where there is no terminal. One thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct cli_progress {
    char shown[160]; /* what stands there now */
} cli_progress;

/* state: "loading 37 %". NULL: it is over, the line is cleared. total 0: bytes are not known. */
void cli_progress_show(cli_progress *progress, const char *state, uint64_t done, uint64_t total);

/* The line's text, for whoever shows it: "loading [####......]  37 %, 1.2 GiB of 3.4 GiB". */
void cli_progress_text(char *out, size_t size, const char *state, uint64_t done, uint64_t total);
