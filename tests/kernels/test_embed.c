/* SPDX-License-Identifier: Apache-2.0 */
#include "kernel_test.h"

static const struct {
    hdl_dtype dtype;
    uint32_t vocab, hidden, n_tokens;
    float scale;
} shapes[] = {
    {HDL_DTYPE_F32, 10, 64, 1, 0},     {HDL_DTYPE_BF16, 300, 100, 40, 0},
    {HDL_DTYPE_F16, 50, 33, 9, 0},     {HDL_DTYPE_BF16, 7, 5, 3, 0},
    {HDL_DTYPE_BF16, 300, 100, 40, 3}, {HDL_DTYPE_F32, 10, 64, 1, 0.1f},
};

static void test(kt *t, int c)
{
    uint32_t hidden = shapes[c].hidden, n = shapes[c].n_tokens;
    size_t count = (size_t)shapes[c].vocab * hidden;
    uint16_t *half = KT_NEW(t, uint16_t, count);
    for (size_t i = 0; i < count; i++)
        half[i] = (uint16_t)(kt_range(t, 0, 1) << 15 | kt_range(t, 0x3000, 0x4fff));
    void *data = shapes[c].dtype == HDL_DTYPE_F32 ? (void *)kt_floats(t, count, 1) : (void *)half;
    hdl_token *ids = KT_NEW(t, hdl_token, n);
    for (uint32_t i = 0; i < n; i++)
        ids[i] = (hdl_token)kt_range(t, 0, shapes[c].vocab - 1);
    hdl_tensor table = hdl_tensor_2d(data, shapes[c].dtype, shapes[c].vocab, hidden);
    hdl_embed_args a = {.table = hdl_source_of_tensor(&table), .ids = ids, .n_tokens = n};
    float *want = a.out = KT_NEW(t, float, (size_t)n *hidden);
    t->ref->embed(&a, t->streams[0]);
    kt_check(t, want[0] != 0, "embed writes");
    if (shapes[c].scale != 0) {
        hdl_embed_args b = a;
        b.scale = shapes[c].scale;
        b.out = KT_NEW(t, float, (size_t)n *hidden);
        t->ref->embed(&b, t->streams[0]);
        for (size_t i = 0; i < (size_t)n * hidden; i++)
            want[i] *= b.scale;
        kt_same(t, "embed scales", want, b.out, (size_t)n * hidden);
        a.scale = b.scale;
    }
    KT_EACH(t, level, stream)
    {
        a.out = KT_NEW(t, float, (size_t)n *hidden);
        t->levels[level]->embed(&a, t->streams[stream]);
        kt_same(t, kt_name(t, "embed", level, stream), want, a.out, (size_t)n * hidden);
    }
}

const kt_suite kt_embed = {"embed", HDL_ARRAY_LEN(shapes), test};
