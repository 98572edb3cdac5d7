/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "kernel_test.h"

/* Blocks of pages, and of odd sizes, as states may have. */
static const size_t sizes[] = {2 * 32 * 48 * 2, 4, 1348};

static void test(kt *t, int c)
{
    enum { BLOCKS = 7 };
    size_t block = sizes[c], n = block * BLOCKS;
    unsigned char *before = KT_NEW(t, unsigned char, n);
    for (size_t i = 0; i < n; i++)
        before[i] = (unsigned char)kt_range(t, 0, 255);
    const uint32_t src[] = {0, 3, 3}, dst[] = {6, 1, 5};
    KT_EACH(t, level, stream)
    {
        unsigned char *after = KT_NEW(t, unsigned char, n);
        memcpy(after, before, n);
        hdl_kv_copy_args args = {.memory = after,
                                 .block_bytes = block,
                                 .n_blocks = BLOCKS,
                                 .src = src,
                                 .dst = dst,
                                 .n = 3};
        t->levels[level]->kv_copy(&args, t->streams[stream]);
        for (uint32_t b = 0; b < BLOCKS; b++) {
            uint32_t from = b == 6 ? 0 : b == 1 || b == 5 ? 3 : b;
            kt_same_bytes(t, kt_name(t, "block", level, stream), before + from * block,
                          after + b * block, block);
        }
    }
}

const kt_suite kt_kv_copy = {"kv_copy", 3, test};
