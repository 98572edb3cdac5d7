/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/progress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/units.h"

enum { WIDTH = 30 };

void cli_progress_text(char *out, size_t size, const char *state, uint64_t done, uint64_t total)
{
    char bar[WIDTH + 1], read[HDL_UNITS_TEXT_BYTES], all[HDL_UNITS_TEXT_BYTES];
    if (total == 0 || strncmp(state, "loading", 7) != 0) {
        snprintf(out, size, "%s", state);
        return;
    }
    double part = done < total ? (double)done / (double)total : 1;
    size_t full = (size_t)(part * WIDTH);
    memset(bar, '.', WIDTH);
    memset(bar, '#', full);
    bar[WIDTH] = '\0';
    snprintf(out, size, "loading [%s] %3u %%, %s of %s", bar, (unsigned)(part * 100),
             hdl_format_size(done, read), hdl_format_size(total, all));
}

void cli_progress_show(cli_progress *progress, const char *state, uint64_t done, uint64_t total)
{
    char text[sizeof progress->shown] = "";
    if (!isatty(STDERR_FILENO))
        return;
    if (state)
        cli_progress_text(text, sizeof text, state, done, total);
    if (state && strcmp(progress->shown, text) == 0)
        return;
    memcpy(progress->shown, text, sizeof text);
    fprintf(stderr, "\r\033[K%s%s", text, state ? " " : "");
    fflush(stderr);
}
