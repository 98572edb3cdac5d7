/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "kernel_test.h"

/* Blocks of pages, and of odd sizes, as states may have. */
static const size_t sizes[] = {2 * 32 * 48 * 2, 4, 1348};

static void test(kt *t, int c)
{
    enum { BLOCKS = 7, MOVED = 4 };
    static const uint32_t from[MOVED] = {5, 0, 3, 3}, to[MOVED] = {1, 6, 2, 4};
    size_t block = sizes[c], n = block * BLOCKS;
    unsigned char *before = KT_NEW(t, unsigned char, n);
    for (size_t i = 0; i < n; i++)
        before[i] = (unsigned char)kt_range(t, 0, 255);
    KT_EACH(t, level, stream)
    {
        unsigned char *memory = KT_NEW(t, unsigned char, n), *host = KT_NEW(t, unsigned char, n);
        uint32_t *blocks = KT_NEW(t, uint32_t, MOVED);
        memcpy(memory, before, n);
        memcpy(blocks, from, sizeof from);
        hdl_kv_move_args args = {.memory = memory,
                                 .block_bytes = block,
                                 .n_blocks = BLOCKS,
                                 .blocks = blocks,
                                 .host = host,
                                 .n = MOVED,
                                 .to_host = true};
        t->levels[level]->kv_move(&args, t->streams[stream]);
        kt_same_bytes(t, kt_name(t, "the device's blocks", level, stream), before, memory, n);
        for (uint32_t i = 0; i < MOVED; i++)
            kt_same_bytes(t, kt_name(t, "a block on the host", level, stream),
                          before + from[i] * block, host + i * block, block);
        memcpy(blocks, to, sizeof to);
        args.to_host = false;
        t->levels[level]->kv_move(&args, t->streams[stream]);
        for (uint32_t b = 0; b < BLOCKS; b++) {
            uint32_t was = b;
            for (uint32_t i = 0; i < MOVED; i++)
                was = to[i] == b ? from[i] : was;
            kt_same_bytes(t, kt_name(t, "a block that came back", level, stream),
                          before + was * block, memory + b * block, block);
        }
    }
}

const kt_suite kt_kv_move = {"kv_move", HDL_ARRAY_LEN(sizes), test};
