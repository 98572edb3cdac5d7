/* SPDX-License-Identifier: Apache-2.0 */
/* The sum that all backends finish the leaf tree with (numerics contract N2). */
#include "base/assert.h"
#include "worker/coll/coll_impl.h"

/* Sums are finished two by two in place of the left one; the size is a power of two. */
void hdl_coll_tree_sum(const float *const *in, uint32_t size, float *out, size_t n)
{
    float part[HDL_RANKS_MAX] = {0};
    HDL_ASSERT(size >= 1 && size <= HDL_RANKS_MAX);
    if (size == 2) {
        for (size_t i = 0; i < n; i++)
            out[i] = in[0][i] + in[1][i];
        return;
    }
    if (size == 4) {
        for (size_t i = 0; i < n; i++)
            out[i] = (in[0][i] + in[1][i]) + (in[2][i] + in[3][i]);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        for (uint32_t r = 0; r < size; r++)
            part[r] = in[r][i];
        for (uint32_t width = size / 2; width > 0; width /= 2)
            for (uint32_t r = 0; r < width; r++)
                part[r] = part[2 * r] + part[2 * r + 1];
        out[i] = part[0];
    }
}
