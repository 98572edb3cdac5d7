/* SPDX-License-Identifier: Apache-2.0 */
/* GGUF files whose container is sound and whose model is not: each is refused with its reason, and
 * unknown keys and tensors by name. What breaks the container is in tests/unit/base/test_gguf.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/gguf.h"
#include "rig_gguf.h"

static char dir[64], path[96];
static char *file; /* owned: a good one, to be changed */
static size_t len;

static const rig_gguf_spec dense = {.hidden = 64,
                                    .inter = 128,
                                    .n_layers = 2,
                                    .n_heads = 8,
                                    .n_kv_heads = 4,
                                    .vocab = 40,
                                    .type = 8};

static void read_good(rig_gguf_spec spec)
{
    rig_write_gguf(path, &spec);
    free(file);
    file = rig_read(path, &len);
}

static char *find(const char *text)
{
    char *at = memmem(file, len, text, strlen(text));
    assert_non_null(at);
    return at;
}

/* The u32 (or f32) of a key; its type stands before it. */
static void set_value(const char *key, uint32_t value)
{
    memcpy(find(key) + strlen(key) + 4, &value, sizeof(value));
}

/* Another word of the same length. */
static void rename_as(const char *from, const char *to)
{
    assert_int_equal(strlen(from), strlen(to));
    memcpy(find(from), to, strlen(to));
}

static void refused(hdl_err want, const char *word)
{
    hdl_errmsg why = {0};
    hdl_worker *w = NULL;
    hdl_fs_bytes bytes = {.data = file, .len = len};
    assert_int_equal(hdl_fs_write_atomic(path, bytes, &why), HDL_OK);
    hdl_worker_opts opts = {.model_path = path, .weights = HDL_WFORMAT_COUNT};
    hdl_err err = hdl_worker_open(&w, &opts, &why);
    hdl_worker_close(w);
    if (err != want || !strstr(why.text, word) || !strchr(why.text, ';'))
        fail_msg("%s (%s), expected %s with \"%s\"", hdl_err_name(err), why.text,
                 hdl_err_name(want), word);
}

static void test_good(void **state)
{
    hdl_errmsg why = {0};
    hdl_worker *w = NULL;
    (void)state;
    read_good(dense);
    hdl_worker_opts opts = {.model_path = path, .weights = HDL_WFORMAT_COUNT};
    if (hdl_worker_open(&w, &opts, &why) != HDL_OK)
        fail_msg("%s", why.text);
    hdl_worker_close(w);
}

static void test_values(void **state)
{
    static const struct {
        const char *key;
        uint32_t value;
        hdl_err err;
        const char *word;
    } lies[] = {
        {"llama.block_count", 0, HDL_INVALID, "llama.block_count is 0"},
        {"llama.block_count", 257, HDL_INVALID, "llama.block_count is 257"},
        {"llama.block_count", UINT32_MAX, HDL_INVALID, "llama.block_count"},
        {"llama.block_count", 3, HDL_CORRUPT, "blk.2"},
        {"llama.context_length", 0, HDL_INVALID, "llama.context_length"},
        {"llama.context_length", UINT32_MAX, HDL_INVALID, "llama.context_length"},
        {"llama.embedding_length", 0, HDL_INVALID, "llama.embedding_length"},
        {"llama.embedding_length", 128, HDL_CORRUPT, "they do not belong together"},
        {"llama.embedding_length", 1 << 30, HDL_INVALID, "llama.embedding_length"},
        {"llama.feed_forward_length", 0, HDL_INVALID, "feed_forward_length"},
        {"llama.feed_forward_length", 160, HDL_CORRUPT, "160"},
        {"llama.attention.head_count_kv", 3, HDL_INVALID, "3 KV heads"},
        {"llama.attention.head_count_kv", 8, HDL_CORRUPT, "attn_k.weight"},
        {"llama.attention.layer_norm_rms_epsilon", 0, HDL_INVALID, "rms_epsilon"},
        {"llama.attention.layer_norm_rms_epsilon", 0x7fc00000, HDL_INVALID, "rms_epsilon"},
        {"llama.attention.layer_norm_rms_epsilon", 0x7f800000, HDL_INVALID, "rms_epsilon"},
        {"llama.attention.layer_norm_rms_epsilon", 0xbf800000, HDL_INVALID, "rms_epsilon"},
    };
    (void)state;
    for (size_t i = 0; i < HDL_ARRAY_LEN(lies); i++) {
        read_good(dense);
        set_value(lies[i].key, lies[i].value);
        refused(lies[i].err, lies[i].word);
    }
}

static void test_names(void **state)
{
    static const struct {
        const char *from, *to;
        hdl_err err;
        const char *word;
    } lies[] = {
        {"llama.block_count", "llama.block_counx", HDL_UNSUPPORTED, "\"llama.block_counx\""},
        {"llama.block_count", "llamb.block_count", HDL_UNSUPPORTED, "\"llamb.block_count\""},
        {"llama.context_length", "llama.context_lengtj", HDL_UNSUPPORTED, "lengtj"},
        {"llama.attention.head_count", "llama.attention.clamp_kqvX", HDL_UNSUPPORTED, "clamp_kqvX"},
        {"blk.0.attn_q.weight", "blk.0.attn_x.weight", HDL_CORRUPT, "blk.0.attn_q.weight"},
        {"blk.1.ffn_down.weight", "blk.1.ffn_dowm.weight", HDL_CORRUPT, "blk.1.ffn_down.weight"},
        {"token_embd.weight", "token_embe.weight", HDL_INVALID, "vocab_size"},
        {"output_norm.weight", "output_morm.weight", HDL_CORRUPT, "output_norm.weight"},
    };
    (void)state;
    for (size_t i = 0; i < HDL_ARRAY_LEN(lies); i++) {
        read_good(dense);
        rename_as(lies[i].from, lies[i].to);
        refused(lies[i].err, lies[i].word);
    }
    /* A tensor more than the architecture has: the untied head under another name. */
    read_good(dense);
    rename_as("output.weight", "outputs.bias_");
    refused(HDL_UNSUPPORTED, "outputs.bias_");
    /* The architecture itself. */
    read_good(dense);
    memcpy(find("general.architecture") + strlen("general.architecture") + 4 + 8, "mamba", 5);
    refused(HDL_UNSUPPORTED, "\"mamba\"");
}

static void test_extra_keys(void **state)
{
    static const struct {
        const char *key;
        uint32_t value;
        hdl_err err;
        const char *word;
    } lies[] = {
        {"llama.attention.sliding_window", 32, HDL_UNSUPPORTED, "sliding_window"},
        {"llama.attention.clamp_kqv", 8, HDL_UNSUPPORTED, "clamp_kqv"},
        {"llama.logit_scale", 1, HDL_UNSUPPORTED, "logit_scale"},
        {"llama.attention.causal", 0, HDL_UNSUPPORTED, "causal"},
        {"llama.use_parallel_residual", 1, HDL_UNSUPPORTED, "parallel"},
        {"llama.rope.dimension_count", 7, HDL_UNSUPPORTED, "7"},
        {"llama.rope.dimension_count", 16, HDL_UNSUPPORTED, "16"},
        {"llama.rope.freq_base", 0, HDL_INVALID, "freq_base"},
        {"llama.rope.scaling.type", 2, HDL_INVALID, "rope.scaling.type"},
        {"llama.attention.key_length", 0, HDL_INVALID, "key_length"},
        {"llama.attention.key_length", 1 << 20, HDL_INVALID, "key_length"},
        {"llama.attention.value_length", 16, HDL_CORRUPT, "attn_"},
        {"llama.nextn_predict_layers", 2, HDL_INVALID, "all 2 layers"},
        {"general.type", 1, HDL_INVALID, "general.type"},
        {"other.key", 1, HDL_UNSUPPORTED, "\"other.key\""},
    };
    (void)state;
    for (size_t i = 0; i < HDL_ARRAY_LEN(lies); i++) {
        rig_gguf_spec spec = dense;
        spec.extra = lies[i].key;
        spec.extra_value = lies[i].value;
        read_good(spec);
        refused(lies[i].err, lies[i].word);
    }
}

static void test_experts(void **state)
{
    static const struct {
        const char *key;
        uint32_t value;
        hdl_err err;
        const char *word;
    } lies[] = {
        {"llama.expert_count", 1, HDL_INVALID, "2 of only 1"},
        {"llama.expert_count", 8, HDL_CORRUPT, "8 x 128 x 64"},
        {"llama.expert_count", 1 << 20, HDL_INVALID, "llama.expert_count"},
        {"llama.expert_used_count", 0, HDL_INVALID, "llama.expert_used_count"},
        {"llama.expert_used_count", 5, HDL_INVALID, "5 of only 4"},
        {"llama.expert_count", 0, HDL_UNSUPPORTED, "expert_used_count"},
    };
    (void)state;
    for (size_t i = 0; i < HDL_ARRAY_LEN(lies); i++) {
        rig_gguf_spec spec = dense;
        spec.n_experts = 4;
        read_good(spec);
        set_value(lies[i].key, lies[i].value);
        refused(lies[i].err, lies[i].word);
    }
}

/* A hybrid of the converter's, its data zeros. */
static void read_hybrid(void)
{
    enum { DATA = 1 << 20 };
    free(file);
    char *head = rig_read(HDL_SOURCE_DIR "/tests/golden/gguf/qwen35.head", &len);
    file = calloc(1, len + DATA);
    assert_non_null(file);
    memcpy(file, head, len);
    len += DATA;
    free(head);
}

static void test_recurrent(void **state)
{
    static const struct {
        const char *key;
        uint32_t value;
        hdl_err err;
        const char *word;
    } lies[] = {
        {"qwen35.ssm.inner_size", 0, HDL_INVALID, "ssm.inner_size 0"},
        {"qwen35.ssm.inner_size", 126, HDL_INVALID, "ssm.inner_size 126"},
        {"qwen35.ssm.inner_size", UINT32_MAX - 3, HDL_INVALID, "ssm.inner_size"},
        {"qwen35.ssm.inner_size", 64, HDL_CORRUPT, "attn_qkv.weight"},
        {"qwen35.ssm.group_count", 0, HDL_INVALID, "ssm.group_count"},
        {"qwen35.ssm.group_count", 3, HDL_INVALID, "group_count 3"},
        {"qwen35.ssm.time_step_rank", 0, HDL_INVALID, "ssm.time_step_rank"},
        {"qwen35.ssm.time_step_rank", 8, HDL_CORRUPT, "ssm_"},
        {"qwen35.ssm.state_size", 1 << 20, HDL_INVALID, "ssm.state_size"},
        {"qwen35.ssm.conv_kernel", 1, HDL_INVALID, "ssm.conv_kernel"},
        {"qwen35.full_attention_interval", 0, HDL_INVALID, "full_attention_interval"},
    };
    (void)state;
    for (size_t i = 0; i < HDL_ARRAY_LEN(lies); i++) {
        read_hybrid();
        set_value(lies[i].key, lies[i].value);
        refused(lies[i].err, lies[i].word);
    }
    /* Fewer layers in the list than in the model; a list that is none. */
    static const char list[] = "qwen35.attention.recurrent_layers";
    uint32_t u8 = 0;
    read_hybrid();
    memcpy(find(list) + strlen(list) + 4, &u8, sizeof(u8));
    refused(HDL_INVALID, "recurrent_layers");
    read_hybrid();
    set_value("qwen35.block_count", 6);
    refused(HDL_INVALID, "of 5 layers");
}

/* A norm whose numbers are integers: of the right size, and nothing that can be computed with. */
static void test_tensor_types(void **state)
{
    uint32_t i32 = 26;
    (void)state;
    read_good(dense);
    char *at = find("blk.0.attn_norm.weight");
    memcpy(at + strlen("blk.0.attn_norm.weight") + 4 + 8, &i32, sizeof(i32));
    refused(HDL_UNSUPPORTED, "I32");
}

static int setup(void **state)
{
    hdl_errmsg why;
    (void)state;
    if (hdl_fs_mkdtemp(dir, sizeof(dir), "heddle-gguf-", &why) != HDL_OK)
        return -1;
    return hdl_fs_join(path, sizeof(path), dir, "model.gguf") == HDL_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    free(file);
    return hdl_fs_remove_tree(dir) == HDL_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),         cmocka_unit_test(test_values),
        cmocka_unit_test(test_names),        cmocka_unit_test(test_extra_keys),
        cmocka_unit_test(test_experts),      cmocka_unit_test(test_recurrent),
        cmocka_unit_test(test_tensor_types),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
