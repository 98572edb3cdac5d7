/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers as people write them, and "did you mean". Shared by config, args and the command line.
 * Pure; any thread.
 *
 * Parsers take the whole text or refuse: no blanks, no trailing garbage, overflow refused. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* "4GiB" "512k" "1.5G" "4096": KiB MiB GiB TiB and K M G T are powers of 1024, kB MB GB TB
 * powers of 1000; an optional B ends it. */
bool hdl_parse_size(const char *text, uint64_t *bytes);
/* "2s" "150ms" "10us" "5m" "1h" "1.5s"; a bare number is refused, except 0. */
bool hdl_parse_duration(const char *text, uint64_t *us);
/* Decimal, 0x hexadecimal, 0o octal (YAML 1.2 core). */
bool hdl_parse_int(const char *text, int64_t *out);
bool hdl_parse_float(const char *text, double *out);
/* true false (any of the three usual cases); yes, no, on, off, 1 and 0 are refused. */
bool hdl_parse_bool(const char *text, bool *out);

enum { HDL_UNITS_TEXT_BYTES = 32 };
/* "4 GiB", "1.5 MiB", "17 B" into out; returns out. */
const char *hdl_format_size(uint64_t bytes, char out[HDL_UNITS_TEXT_BYTES]);
/* Same, in a form hdl_parse_size reads back exactly: "4GiB", "1536KiB", "17". */
const char *hdl_format_size_exact(uint64_t bytes, char out[HDL_UNITS_TEXT_BYTES]);
/* "2s", "1500ms", "17us", exact. */
const char *hdl_format_duration(uint64_t us, char out[HDL_UNITS_TEXT_BYTES]);

/* Index of the candidate nearest to word by edit distance (transpositions count once), or -1
 * when none is near enough to be what was meant. NULL candidates are skipped. */
int hdl_suggest(const char *word, const char *const *candidates, size_t count);
