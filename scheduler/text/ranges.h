/* SPDX-License-Identifier: Apache-2.0 */
/* Ranges of bytes of a text, ascending and apart: where a rendered prompt is the chat template's
 * own words, so that special tokens may be read there. The caller's; one thread. */
#pragma once

#include <heddle/err.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct hdl_range {
    size_t at, end; /* at < end */
} hdl_range;

typedef struct hdl_ranges {
    hdl_range *v; /* [n] owned; NULL when n is 0 */
    size_t n, size;
} hdl_ranges;

void hdl_ranges_init(hdl_ranges *ranges);
void hdl_ranges_deinit(hdl_ranges *ranges);
/* [at, end) behind all there are, or touching the last; empty ones are ignored. */
hdl_err hdl_ranges_add(hdl_ranges *ranges, hdl_range range) HDL_MUST_CHECK;
/* Bytes from end on leave the ranges. */
void hdl_ranges_cut(hdl_ranges *ranges, size_t end);
/* Does one range hold all of [at, end)? *cursor speeds up ascending questions; starts as 0. */
bool hdl_ranges_hold(const hdl_ranges *ranges, hdl_range range, size_t *cursor);
