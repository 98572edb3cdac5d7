/* SPDX-License-Identifier: Apache-2.0 */
/* What unicode.c knows of Unicode's characters; the tables are written by unicode_gen.py. Constant
 * data. */
#pragma once

#include <stdint.h>

/* Canonical decomposition, one step; b is 0 where there is one character only. Hangul syllables are
 * computed instead. */
typedef struct hdl_uni_decomposition {
    uint32_t cp, a, b;
} hdl_uni_decomposition;
typedef struct hdl_uni_class {
    uint32_t first, last;
    uint8_t combining_class;
} hdl_uni_class;
/* Every step-th character from first to last has its lower case delta further. */
typedef struct hdl_uni_lower_run {
    uint32_t first, last, step;
    int32_t delta;
} hdl_uni_lower_run;

extern const uint32_t hdl_uni_decomposed_n, hdl_uni_composed_n, hdl_uni_combining_n,
    hdl_uni_lower_n;
extern const hdl_uni_decomposition hdl_uni_decomposed[]; /* by cp */
extern const uint16_t hdl_uni_composed[];       /* rows of decomposed that compose, by (a, b) */
extern const hdl_uni_class hdl_uni_combining[]; /* by first; classes other than 0 */
extern const hdl_uni_lower_run hdl_uni_lower[]; /* by first */

/* Characters that NFC may change or that take part in what it does (quick check No or Maybe, or a
 * combining class): 256 a page. */
extern const uint32_t hdl_uni_special_end;
extern const uint8_t hdl_uni_special_page[];
extern const uint32_t hdl_uni_special_bits[][8];
