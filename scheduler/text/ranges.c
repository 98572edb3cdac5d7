/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/text/ranges.h"

#include <stdlib.h>

#include "base/assert.h"

void hdl_ranges_init(hdl_ranges *ranges) { *ranges = (hdl_ranges){0}; }

void hdl_ranges_deinit(hdl_ranges *ranges)
{
    free(ranges->v);
    *ranges = (hdl_ranges){0};
}

hdl_err hdl_ranges_add(hdl_ranges *ranges, hdl_range range)
{
    hdl_range *last = ranges->n > 0 ? &ranges->v[ranges->n - 1] : NULL;
    HDL_ASSERT(last == NULL || range.at >= last->end);
    if (range.at >= range.end)
        return HDL_OK;
    if (last != NULL && last->end == range.at) {
        last->end = range.end;
        return HDL_OK;
    }
    if (ranges->n == ranges->size) {
        size_t size = ranges->size ? 2 * ranges->size : 16;
        hdl_range *v = realloc(ranges->v, size * sizeof *v);
        if (v == NULL)
            return HDL_NOMEM;
        ranges->v = v;
        ranges->size = size;
    }
    ranges->v[ranges->n++] = range;
    return HDL_OK;
}

void hdl_ranges_cut(hdl_ranges *ranges, size_t end)
{
    while (ranges->n > 0 && ranges->v[ranges->n - 1].at >= end)
        ranges->n--;
    if (ranges->n > 0 && ranges->v[ranges->n - 1].end > end)
        ranges->v[ranges->n - 1].end = end;
}

bool hdl_ranges_hold(const hdl_ranges *ranges, hdl_range range, size_t *cursor)
{
    while (*cursor > 0 && (*cursor >= ranges->n || ranges->v[*cursor].at > range.at))
        (*cursor)--;
    while (*cursor < ranges->n && ranges->v[*cursor].end <= range.at)
        (*cursor)++;
    return *cursor < ranges->n && ranges->v[*cursor].at <= range.at &&
           range.end <= ranges->v[*cursor].end;
}
