/* SPDX-License-Identifier: Apache-2.0 */
/* GGUF files as llama.cpp's converter writes them: the same weights give the same logits as in
 * safetensors, bit for bit. tests/golden/gguf/make.py says how the heads are made. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/fs.h"
#include "rig_gguf.h"

#define GOLDEN HDL_SOURCE_DIR "/tests/golden/"

enum { N_TOKENS = 40 };

static float *run(const char *model, uint32_t vocab, hdl_layout layout)
{
    static hdl_token ids[N_TOKENS];
    for (int i = 0; i < N_TOKENS; i++)
        ids[i] = (i * 37 + i * i * 5 + 11) % (int)vocab;
    rig_logits_opts o = {
        .worker = {.model_path = model, .weights = HDL_WFORMAT_F32, .layout = layout},
        .ids = ids,
        .n = N_TOKENS,
        .chunk = 11};
    return rig_logits(&o, vocab);
}

static double distance(const float *a, const float *b, size_t n)
{
    double diff = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        diff += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        norm += (double)b[i] * b[i];
    }
    return sqrt(diff / norm);
}

/* Ranks find their own parts of what the file has in an order of its own. */
static void check_layouts(const char *gguf, const hdl_model_desc *desc, const float *want)
{
    static const hdl_layout layouts[] = {{2, 1, 1, 1}, {2, 2, 1, 1}, {1, 2, 1, 1}};
    for (size_t i = 0; i < HDL_ARRAY_LEN(layouts); i++) {
        hdl_errmsg why = {0};
        if (hdl_layout_check(desc, &layouts[i], &why) != HDL_OK)
            continue;
        float *got = run(gguf, desc->vocab, layouts[i]);
        if (memcmp(got, want, sizeof(*got) * N_TOKENS * desc->vocab) != 0)
            fail_msg("%s: other logits on tp %u ep %u than on one rank", desc->arch, layouts[i].tp,
                     layouts[i].ep);
        free(got);
    }
}

/* allowed: 0 where both descriptions are the same numbers. */
static void check(const char *name, double allowed)
{
    char path[512], model[256], dir[256], gguf[300];
    size_t len = 0;
    static hdl_model_desc desc;
    hdl_errmsg why = {0};
    snprintf(path, sizeof(path), GOLDEN "gguf/%s.json", name);
    if (!hdl_fs_exists(path))
        snprintf(path, sizeof(path), GOLDEN "models/%s.json", name);
    char *config = rig_read(path, &len);
    snprintf(path, sizeof(path), GOLDEN "gguf/%s.head", name);
    char *head = rig_read(path, &len);
    rig_make_model(model, config, HDL_DTYPE_F32);
    rig_make_gguf(dir, model, config, (rig_head){head, len});
    snprintf(gguf, sizeof(gguf), "%s/model.gguf", dir);
    assert_int_equal(hdl_model_desc_load(&desc, gguf, &why), HDL_OK);
    hdl_layout one = {1, 1, 1, 1};
    float *want = run(model, desc.vocab, one), *got = run(gguf, desc.vocab, one);
    double d = distance(got, want, (size_t)N_TOKENS * desc.vocab);
    if (!(d <= allowed))
        fail_msg("%s: distance %g between GGUF and safetensors, %g allowed", name, d, allowed);
    check_layouts(gguf, &desc, got);
    rig_covered("gguf", desc.arch, "f32");
    free(want);
    free(got);
    free(config);
    free(head);
    rig_remove(model);
    rig_remove(dir);
}

/* llama3 scaling is stored as a factor for each frequency, mscale_all_dim as a tenth, and decays of
 * recurrent states as -exp(A_log): rounded to f32. */
#define GOLDEN_LIST(X)                                                                             \
    X(llama, "llama", 0)                                                                           \
    X(llama3_tied, "llama3-tied", 1e-5)                                                            \
    X(llama_bias, "llama-bias", 0)                                                                 \
    X(ministral3, "ministral3", 0)                                                                 \
    X(mistral3, "mistral3", 0)                                                                     \
    X(qwen2, "qwen2", 0)                                                                           \
    X(qwen2_yarn, "qwen2-yarn", 0)                                                                 \
    X(qwen3_bias, "qwen3-bias", 0)                                                                 \
    X(gemma2, "gemma2", 0)                                                                         \
    X(gemma3, "gemma3", 0)                                                                         \
    X(phi3, "phi3", 0)                                                                             \
    X(phi3_long, "phi3-long", 0)                                                                   \
    X(olmo2, "olmo2", 0)                                                                           \
    X(olmo2_shared, "olmo2-shared", 0)                                                             \
    X(deepseek_v2, "deepseek-v2", 1e-5)                                                            \
    X(deepseek_v2_lite, "deepseek-v2-lite", 0)                                                     \
    X(deepseek_v3, "deepseek-v3", 0)                                                               \
    X(kimi_k2, "kimi-k2", 0)                                                                       \
    X(mistral3_mla, "mistral3-mla", 0)                                                             \
    X(mixtral, "mixtral", 0)                                                                       \
    X(qwen2moe, "qwen2moe", 0)                                                                     \
    X(qwen3, "qwen3", 0)                                                                           \
    X(qwen3moe, "qwen3moe", 0)                                                                     \
    X(glm4moe, "glm4moe", 0)                                                                       \
    X(glm4moe_air, "glm4moe-air", 0)                                                               \
    X(glm4moe_groups, "glm4moe-groups", 0)                                                         \
    X(minimaxm2, "minimaxm2", 0)                                                                   \
    X(gptoss, "gptoss", 0)                                                                         \
    X(llama4_scout, "llama4-scout", 1e-5)                                                          \
    X(llama4_maverick, "llama4-maverick", 0)                                                       \
    X(bitnet, "bitnet", 0)                                                                         \
    X(qwen3next, "qwen3next", 1e-5)                                                                \
    X(qwen35, "qwen35", 1e-5)                                                                      \
    X(qwen35moe, "qwen35moe", 1e-5)                                                                \
    X(qwen35moe_vl, "qwen35moe-vl", 1e-5)

#define GOLDEN_TEST(id, name, allowed)                                                             \
    static void test_##id(void **state)                                                            \
    {                                                                                              \
        (void)state;                                                                               \
        check(name, allowed);                                                                      \
    }
GOLDEN_LIST(GOLDEN_TEST)

int main(void)
{
    const struct CMUnitTest tests[] = {
#define ENTRY(id, name, allowed) cmocka_unit_test(test_##id),
        GOLDEN_LIST(ENTRY)
#undef ENTRY
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
