/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "kernel_test.h"

static void test(kt *t, int c)
{
    (void)c;
    hdl_kv_view kv = {.n_blocks = 7, .n_kv_heads = 2, .block_tokens = 32, .head_dim = 48};
    size_t block = 2 * 32 * 48, n = block * kv.n_blocks;
    uint16_t *k = KT_NEW(t, uint16_t, n), *v = KT_NEW(t, uint16_t, n);
    for (size_t i = 0; i < n; i++) {
        k[i] = (uint16_t)kt_range(t, 0, 65535);
        v[i] = (uint16_t)kt_range(t, 0, 65535);
    }
    const uint32_t src[] = {0, 3, 3}, dst[] = {6, 1, 5};
    KT_EACH(t, level, stream)
    {
        kv.k = KT_NEW(t, uint16_t, n);
        kv.v = KT_NEW(t, uint16_t, n);
        memcpy(kv.k, k, n * 2);
        memcpy(kv.v, v, n * 2);
        t->levels[level]->kv_copy(&(hdl_kv_copy_args){.kv = kv, .src = src, .dst = dst, .n = 3},
                                  t->streams[stream]);
        for (uint32_t b = 0; b < kv.n_blocks; b++) {
            uint32_t from = b == 6 ? 0 : b == 1 || b == 5 ? 3 : b;
            kt_same_bytes(t, kt_name(t, "k", level, stream), k + from * block, kv.k + b * block,
                          block * 2);
            kt_same_bytes(t, kt_name(t, "v", level, stream), v + from * block, kv.v + b * block,
                          block * 2);
        }
    }
}

const kt_suite kt_kv_copy = {"kv_copy", 1, test};
