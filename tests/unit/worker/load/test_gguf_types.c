/* SPDX-License-Identifier: Apache-2.0 */
/* Models whose matrices are of each ggml type. Expanded to f32 they are the dequantised model bit
 * for bit; as they are, within what int8 activations cost; and so on every layout, whose slices end
 * within blocks. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/gguf.h"
#include "rig_gguf.h"

enum { N_TOKENS = 24, VOCAB = 97 };

static char dir[64], quantised[96], values[96];

static float *run(const char *path, hdl_wformat weights, hdl_layout layout)
{
    static hdl_token ids[N_TOKENS];
    for (int i = 0; i < N_TOKENS; i++)
        ids[i] = (i * 37 + i * i * 5 + 11) % VOCAB;
    rig_logits_opts o = {.worker = {.model_path = path, .weights = weights, .layout = layout},
                         .ids = ids,
                         .n = N_TOKENS,
                         .chunk = 11};
    return rig_logits(&o, VOCAB);
}

static double distance(const float *a, const float *b)
{
    double diff = 0, norm = 0;
    for (size_t i = 0; i < (size_t)N_TOKENS * VOCAB; i++) {
        diff += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        norm += (double)b[i] * b[i];
    }
    return sqrt(diff / norm);
}

static const hdl_layout one = {1, 1, 1, 1};

static void check(rig_gguf_spec spec, double allowed)
{
    const char *type = hdl_ggml_type_of(spec.type)->name;
    rig_write_gguf(quantised, &spec);
    spec.values = true;
    rig_write_gguf(values, &spec);
    size_t bytes = (size_t)N_TOKENS * VOCAB * sizeof(float);
    float *want = run(values, HDL_WFORMAT_COUNT, one);
    float *expanded = run(quantised, HDL_WFORMAT_F32, one);
    float *got = run(quantised, HDL_WFORMAT_COUNT, one);
    if (memcmp(want, expanded, bytes) != 0)
        fail_msg("%s expanded to f32: distance %g from the dequantised model, must be 0", type,
                 distance(expanded, want));
    double d = distance(got, want);
    if (!(d < allowed))
        fail_msg("%s: distance %g from the dequantised model, %g allowed", type, d, allowed);
    static const hdl_layout layouts[] = {{2, 1, 1, 1}, {4, 1, 1, 1}, {2, 2, 1, 1}, {2, 4, 1, 1}};
    for (int i = 0; i < (spec.n_experts ? 4 : 2); i++) {
        float *cut = run(quantised, HDL_WFORMAT_COUNT, layouts[i]);
        if (memcmp(cut, got, bytes) != 0)
            fail_msg("%s: tp %u ep %u differs from tp 1", type, layouts[i].tp, layouts[i].ep);
        free(cut);
    }
    rig_covered("gguf", type, spec.n_experts ? "moe" : "logits");
    free(want);
    free(expanded);
    free(got);
}

static const rig_gguf_spec dense = {
    .hidden = 256, .inter = 512, .n_layers = 2, .n_heads = 8, .n_kv_heads = 4, .vocab = VOCAB};

static void test_type(void **state)
{
    rig_gguf_spec spec = dense;
    spec.type = *(const uint32_t *)*state;
    check(spec, 1e-2);
}

static void test_moe(void **state)
{
    rig_gguf_spec spec = dense;
    spec.type = *(const uint32_t *)*state;
    spec.n_experts = 4;
    spec.inter = 256;
    check(spec, 1e-2);
}

/* Q4_K_M: q and k are of one type and v of another, though they are one matrix in memory. */
static void test_mixed(void **state)
{
    rig_gguf_spec spec = dense;
    (void)state;
    spec.type = 12;
    spec.larger = 14;
    check(spec, 1e-2);
    spec.n_experts = 4;
    spec.inter = 256;
    check(spec, 1e-2);
    spec.type = 16; /* a codebook beside integers with minima */
    spec.larger = 10;
    check(spec, 1e-2);
}

/* What heddle inspect says of such a file: every tensor once, and each rank's share of them. */
static void test_count(void **state)
{
    static hdl_model_desc desc;
    static hdl_model_stored stored;
    hdl_errmsg why = {0};
    hdl_gguf *gguf = NULL;
    rig_gguf_spec spec = dense;
    (void)state;
    spec.type = 12;
    rig_write_gguf(quantised, &spec);
    assert_int_equal(hdl_model_desc_load(&desc, quantised, &why), HDL_OK);
    hdl_model_count ask = {.model_path = quantised,
                           .desc = &desc,
                           .layout = {2, 1, 1, 1},
                           .format = HDL_WFORMAT_COUNT};
    assert_int_equal(hdl_model_count_stored(&stored, &ask, &why), HDL_OK);
    assert_int_equal(hdl_gguf_open(&gguf, quantised, &why), HDL_OK);
    uint64_t norms = 4u * 256 * (2 * spec.n_layers + 1), all = hdl_gguf_total_bytes(gguf);
    hdl_gguf_close(gguf);
    assert_int_equal(stored.encoding_bytes[HDL_ENC_F32], norms);
    assert_int_equal(stored.encoding_bytes[HDL_ENC_GGML_Q4_K], all - norms);
    /* Codes of 4 bits and factors: 5 bits each. Of o, whose leaves of 32 are no whole blocks: a
     * scale and a minimum of f32 for 32, 6 bits each. The head has 97 rows. */
    uint64_t layer = 2u * 256 * 256 + 3u * 256 * 512, o = 256u * 256, head = 256u * 97;
    uint64_t both = stored.ranks[0].weight_bytes + stored.ranks[1].weight_bytes;
    assert_int_equal(both, (2 * layer + head) * 5 / 8 + 2 * o * 6 / 8 + 2 * norms);
    assert_int_equal(stored.ranks[1].mapped_bytes, head * 144 / 256);
}

static int setup(void **state)
{
    hdl_errmsg why;
    (void)state;
    if (hdl_fs_mkdtemp(dir, sizeof(dir), "heddle-gguf-", &why) != HDL_OK)
        return -1;
    return hdl_fs_join(quantised, sizeof(quantised), dir, "quantised.gguf") == HDL_OK &&
                   hdl_fs_join(values, sizeof(values), dir, "values.gguf") == HDL_OK
               ? 0
               : -1;
}

static int teardown(void **state)
{
    (void)state;
    return hdl_fs_remove_tree(dir) == HDL_OK ? 0 : -1;
}

#define TYPE_LIST(X)                                                                               \
    X(f16, 1)                                                                                      \
    X(bf16, 30)                                                                                    \
    X(q4_0, 2)                                                                                     \
    X(q4_1, 3)                                                                                     \
    X(q5_0, 6)                                                                                     \
    X(q5_1, 7)                                                                                     \
    X(q8_0, 8)                                                                                     \
    X(q2_k, 10)                                                                                    \
    X(q3_k, 11)                                                                                    \
    X(q4_k, 12)                                                                                    \
    X(q5_k, 13)                                                                                    \
    X(q6_k, 14)                                                                                    \
    X(iq2_xxs, 16)                                                                                 \
    X(iq3_xxs, 18)                                                                                 \
    X(iq4_nl, 20)                                                                                  \
    X(iq4_xs, 23)                                                                                  \
    X(tq1_0, 34)                                                                                   \
    X(tq2_0, 35)                                                                                   \
    X(mxfp4, 39)

int main(void)
{
#define NUMBER(id, type) static uint32_t type_##id = type;
    TYPE_LIST(NUMBER)
#undef NUMBER
    const struct CMUnitTest tests[] = {
#define ENTRY(id, type) {"dense_" #id, test_type, NULL, NULL, &type_##id},
        TYPE_LIST(ENTRY)
#undef ENTRY
            {"moe_q8_0", test_moe, NULL, NULL, &type_q8_0},
        {"moe_q4_k", test_moe, NULL, NULL, &type_q4_k},
        {"moe_q6_k", test_moe, NULL, NULL, &type_q6_k},
        {"moe_mxfp4", test_moe, NULL, NULL, &type_mxfp4},
        cmocka_unit_test(test_mixed),
        cmocka_unit_test(test_count),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
