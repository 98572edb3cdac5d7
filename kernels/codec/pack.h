/* SPDX-License-Identifier: Apache-2.0 */
/* What packing has in common on all levels: 32 k of one row as codes and scales of a format. Cold;
 * any thread. */
#pragma once

#include <heddle/ops.h>

typedef struct hdl_pack_piece {
    int8_t codes[HDL_SOURCE_UNIT];
    float scales[2], mins[2]; /* one for a group of 32 */
    hdl_factors factors;      /* of formats that hold them */
} hdl_pack_piece;

/* As they are when the kind holds the encoding's codes, else quantised from values: Q8 and Q4 with
 * groups of 32 and without mins alone. at.n is 32. */
void hdl_pack_ints(const hdl_source *s, hdl_span at, hdl_wkind kind, hdl_pack_piece *out);

/* E4M3 codes of at.n columns, at most a group, and their scale * 256: not a number if a code is
 * none. */
float hdl_pack_fp8(const hdl_source *s, hdl_span at, uint8_t *codes);
