/* SPDX-License-Identifier: Apache-2.0 */
/* Buffers out of one allocation: the same code runs twice, first measuring, then handing out.
 * Every buffer begins at a multiple of 256 bytes, as devices like it. Cold. */
#pragma once

#include "base/checked.h"

enum { HDL_CARVE_ALIGN = 256 };

typedef struct hdl_carve {
    unsigned char *base; /* NULL: measuring */
    size_t at;           /* bytes so far */
    bool overflow;       /* the sum does not fit a size_t */
} hdl_carve;

static inline void *hdl_carve_take(hdl_carve *c, size_t count, size_t item)
{
    size_t bytes = 0, padded = 0, at = c->at;
    if (!hdl_mul_size(count, item, &bytes) || !hdl_align_up_size(bytes, HDL_CARVE_ALIGN, &padded) ||
        !hdl_add_size(at, padded, &c->at))
        c->overflow = true;
    return c->base ? c->base + at : NULL;
}
