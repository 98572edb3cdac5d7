/* SPDX-License-Identifier: Apache-2.0 */
/* Published configurations: parameters, cache and bytes per rank as transformers and the publishers
 * count them, or a refusal that says what is missing. The files lie beside the project
 * (shared/data/configs, not ours to commit); without them the tests that need them are skipped. */
#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "published_dense.h"
#include "rig.h"

#define CONFIGS HDL_SOURCE_DIR "/../shared/data/configs"

/* Which of the active parameters that inspect prints a publisher counts. */
typedef enum counted { ALL, NO_EMBEDDING, NO_VOCABULARY } counted;

/* A publisher's figures in billions, with the digits that they give (NULL: not said). Three digits
 * hold within 0.5 %; of fewer, ours rounds to theirs. */
typedef struct published {
    const char *total;  /* of the text model */
    const char *files;  /* of all tensors in the published files */
    const char *active; /* that one token uses ... */
    counted of;         /* ... of these */
    bool cut;           /* active's further digits are cut off, not rounded */
    const char *bare;   /* files without embeddings and heads */
} published;

typedef struct row {
    const char *file;       /* without .json; or NULL */
    const char *json;       /* the config itself where no file is published beside the project */
    uint64_t total, active; /* of transformers' modules: numel of all, experts times topk / n */
    uint32_t kv_bytes;   /* a token's, in layers that keep every position: reference/models.md, 3 */
    uint64_t rank_bytes; /* weights of rank 3 in bf16 with tp 8, ep 8; 0: refused */
    published says;
} row;

#define GLM_KEYS                                                                                   \
    "\"architectures\":[\"Glm4MoeForCausalLM\"],\"attention_bias\":true,\"head_dim\":128,"         \
    "\"hidden_act\":\"silu\",\"partial_rotary_factor\":0.5,\"max_position_embeddings\":131072,"    \
    "\"model_type\":\"glm4_moe\",\"norm_topk_prob\":true,\"num_attention_heads\":96,"              \
    "\"n_group\":1,\"topk_group\":1,\"n_shared_experts\":1,\"num_experts_per_tok\":8,"             \
    "\"num_key_value_heads\":8,\"rms_norm_eps\":1e-05,\"rope_scaling\":null,"                      \
    "\"rope_theta\":1000000,\"num_nextn_predict_layers\":1,\"tie_word_embeddings\":false,"         \
    "\"torch_dtype\":\"bfloat16\",\"use_cache\":true,\"vocab_size\":151552"
static const char glm45[] =
    "{" GLM_KEYS ",\"hidden_size\":5120,\"intermediate_size\":12288,\"moe_intermediate_size\":1536,"
    "\"n_routed_experts\":160,\"routed_scaling_factor\":2.5,\"first_k_dense_replace\":3,"
    "\"num_hidden_layers\":92,\"use_qk_norm\":true}";
static const char glm45_air[] =
    "{" GLM_KEYS ",\"hidden_size\":4096,\"intermediate_size\":10944,\"moe_intermediate_size\":1408,"
    "\"n_routed_experts\":128,\"routed_scaling_factor\":1.0,\"first_k_dense_replace\":1,"
    "\"num_hidden_layers\":46,\"use_qk_norm\":false}";

#define QWEN2_KEYS                                                                                 \
    "\"architectures\":[\"Qwen2MoeForCausalLM\"],\"model_type\":\"qwen2_moe\","                    \
    "\"decoder_sparse_step\":1,\"hidden_act\":\"silu\",\"norm_topk_prob\":false,"                  \
    "\"rms_norm_eps\":1e-06,\"rope_theta\":1000000.0,\"sliding_window\":65536,"                    \
    "\"tie_word_embeddings\":false,\"torch_dtype\":\"bfloat16\",\"use_sliding_window\":false,"     \
    "\"vocab_size\":151936,\"max_position_embeddings\":32768"
static const char qwen15_a27b[] =
    "{" QWEN2_KEYS
    ",\"hidden_size\":2048,\"intermediate_size\":5632,\"moe_intermediate_size\":1408,"
    "\"num_attention_heads\":16,\"num_key_value_heads\":16,\"num_experts\":60,"
    "\"num_experts_per_tok\":4,\"num_hidden_layers\":24,"
    "\"shared_expert_intermediate_size\":5632,\"max_window_layers\":21}";
static const char qwen2_57b[] =
    "{" QWEN2_KEYS
    ",\"hidden_size\":3584,\"intermediate_size\":18944,\"moe_intermediate_size\":2560,"
    "\"num_attention_heads\":28,\"num_key_value_heads\":4,\"num_experts\":64,"
    "\"num_experts_per_tok\":8,\"num_hidden_layers\":28,"
    "\"shared_expert_intermediate_size\":20480,\"max_window_layers\":28}";

#define QWEN3_32B      32762123264, 32762123264, 256 << 10, 7998590976
#define QWEN3_235B     235093634560, 22190763520, 188 << 10, 58904197120
#define QWEN3_30B      30532122624, 3353032704, 96 << 10, 7628382208
#define LLAMA_70B      70553706496, 70553706496, 320 << 10, 17380704256
#define MINIMAX_M2     228689764864, 11030553088, 248 << 10, 57203248128
#define DEEPSEEK_V3    671026419200, 37552297472, 61 * 576 * 2, 169543948288
#define KIMI_K2        1026408232448, 32861500928, 61 * 576 * 2, 258547701760
#define MINIMAX_ACTIVE .active = "10", .of = NO_EMBEDDING
#define DEEPSEEK_SAYS  .total = "671", .files = "685", .active = "37", .of = NO_EMBEDDING
#define KIMI_SAYS      .total = "1.0e3", .active = "32", .of = NO_EMBEDDING
#define SAYS(...)                                                                                  \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }

// clang-format off
static const row rows[] = {
    {"meta-llama--Meta-Llama-3.1-8B", NULL, 8030261248, 8030261248, 128 << 10, 1877229568,
     SAYS(.total = "8.03")},
    {"meta-llama--Meta-Llama-3.1-70B", NULL, LLAMA_70B, SAYS(.total = "70.6")},
    {"nvidia--Llama-3.1-70B-Instruct-FP8", NULL, LLAMA_70B, SAYS(.total = "70.6")},
    {"meta-llama--Meta-Llama-3.1-405B", NULL, 405853388800, 405853388800, 504 << 10, 100953554944,
     SAYS(.total = "405")},
    {"mistralai--Mixtral-8x7B-v0.1", NULL, 46702792704, 12879925248, 128 << 10, 11647860736,
     SAYS(.total = "46.7", .active = "12.9")},
    {"mistralai--Mixtral-8x22B-v0.1", NULL, 140620634112, 39152031744, 224 << 10, 35118931968,
     SAYS(.total = "141", .active = "39")},
    {"Qwen--Qwen3-0.6B", NULL, 596049920, 596049920, 112 << 10, 149258240, SAYS(.total = "0.596")},
    {"Qwen--Qwen3-1.7B", NULL, 1720574976, 1720574976, 112 << 10, 430608384, SAYS(.total = "1.72")},
    {"Qwen--Qwen3-8B", NULL, 8190735360, 8190735360, 144 << 10, 1893257216, SAYS(.total = "8.19")},
    {"Qwen--Qwen3-32B", NULL, QWEN3_32B, SAYS(.total = "32.8")},
    {"Qwen--Qwen3-32B-FP8", NULL, QWEN3_32B, SAYS(.total = "32.8")},
    {"Qwen--Qwen3-32B-FP8-Static-PerTensor", NULL, QWEN3_32B, SAYS(.total = "32.8")},
    {NULL, mistral_nemo, 12247782400, 12247782400, 160 << 10, 2895728640, SAYS(.total = "12.2")},
    {NULL, mistral_small, 23572403200, 23572403200, 160 << 10, 5726883840, SAYS(.total = "23.6")},
    /* Windows as long as the context (phi4_mini too) forget nothing. */
    {NULL, ministral_8b, 8019808256, 8019808256, 144 << 10, 1871855616, SAYS(.total = "8.02")},
    {NULL, llama32_1b, 1235814400, 1235814400, 32 << 10, 309207040, SAYS(.total = "1.24")},
    {NULL, llama32_3b, 3212749824, 3212749824, 112 << 10, 803844096, SAYS(.total = "3.21")},
    {NULL, llama2_7b, 6738415616, 6738415616, 512 << 10, 1652834304, SAYS(.total = "6.74")},
    {NULL, qwen25_7b, 7615616512, 7615616512, 56 << 10, 0, SAYS(.total = "7.62")},
    {NULL, r1_qwen_32b, 32763876352, 32763876352, 256 << 10, 7998918656, SAYS(.total = "32.8")},
    {NULL, gemma2_2b, 2614341888, 2614341888, 52 << 10, 685163520, SAYS(.total = "2.61")},
    {NULL, gemma2_9b, 9241705984, 9241705984, 168 << 10, 2312697856, SAYS(.total = "9.24")},
    {NULL, gemma2_27b, 27227128320, 27227128320, 184 << 10, 6809978880, SAYS(.total = "27.2")},
    {NULL, gemma3_1b, 999885952, 999885952, 4 << 10, 0, SAYS(.total = "1.00")},
    /* With the tower of images. */
    {NULL, gemma3_27b, 27009346304, 27009346304, 80 << 10, 6757415936,
     SAYS(.files = "27.43")},
    {NULL, phi3_mini, 3821079552, 3821079552, 0, 931393536, SAYS(.total = "3.82")},
    {NULL, phi4, 14659507200, 14659507200, 200 << 10, 0, SAYS(.total = "14.7")},
    {NULL, phi4_mini, 3836021760, 3836021760, 128 << 10, 959754240, SAYS(.total = "3.84")},
    {NULL, olmo2_7b, 7298617344, 7298617344, 512 << 10, 1722957824, SAYS(.total = "7.30")},
    {NULL, olmo2_32b, 32234279936, 32234279936, 256 << 10, 7932694528, SAYS(.total = "32.2")},
    /* 20 heads do not divide by 8. */
    {NULL, bitnet_2b4t, 2412820480, 2412820480, 75 << 10, 0, SAYS(.total = "2.41")},
    {NULL, qwen15_a27b, 14315784192, 2689173504, 192 << 10, 0,
     SAYS(.total = "14.3", .active = "2.7")},
    {NULL, qwen2_57b, 57408658944, 14249270784, 56 << 10, 0,
     SAYS(.total = "57.4", .active = "14.2")},
    {"Qwen--Qwen3-30B-A3B", NULL, QWEN3_30B, SAYS(.total = "30.5", .active = "3.3", .cut = true)},
    {"Qwen--Qwen3-30B-A3B-FP8", NULL, QWEN3_30B,
     SAYS(.total = "30.5", .active = "3.3", .cut = true)},
    {"Qwen--Qwen3-235B-A22B", NULL, QWEN3_235B, SAYS(.total = "235", .active = "22")},
    {"Qwen--Qwen3-235B-A22B-FP8", NULL, QWEN3_235B, SAYS(.total = "235", .active = "22")},
    {"nvidia--Qwen3-235B-A22B-NVFP4", NULL, QWEN3_235B, SAYS(.total = "235", .active = "22")},
    {"Qwen--Qwen3-Coder-480B-A35B-Instruct", NULL, 480154875392, 35474765312, 248 << 10,
     120036841472, SAYS(.total = "480", .active = "35")},
    /* Without the embedding and the head (arXiv 2508.06471, table 1), with the layer more that the
     * files hold, which predicts a further token. */
    {NULL, glm45, 352797829024, 33632266144, 368 << 10, 88282902144,
     SAYS(.files = "358", .bare = "355", .active = "32", .of = NO_VOCABULARY)},
    /* Rank 3 holds nothing of the dense layer (2 leaves) nor of the shared experts (4). */
    {NULL, glm45_air, 106852251264, 13424129664, 184 << 10, 26419700224,
     SAYS(.files = "110", .active = "12", .of = NO_VOCABULARY)},
    {"MiniMaxAI--MiniMax-M2.5", NULL, MINIMAX_M2,
     SAYS(.total = "229", .files = "229", MINIMAX_ACTIVE)},
    {"MiniMaxAI--MiniMax-M2.7", NULL, MINIMAX_M2,
     SAYS(.total = "229", .files = "229", MINIMAX_ACTIVE)},
    {"nvidia--MiniMax-M2.7-NVFP4", NULL, MINIMAX_M2,
     SAYS(.total = "229", .files = "229", MINIMAX_ACTIVE)},
    {"deepseek-ai--DeepSeek-V3", NULL, DEEPSEEK_V3, SAYS(DEEPSEEK_SAYS)},
    {"deepseek-ai--DeepSeek-R1", NULL, DEEPSEEK_V3, SAYS(DEEPSEEK_SAYS)},
    {"nvidia--DeepSeek-V3.1-NVFP4", NULL, DEEPSEEK_V3, SAYS(DEEPSEEK_SAYS)},
    {"moonshotai--Kimi-K2-Instruct", NULL, KIMI_K2, SAYS(KIMI_SAYS)},
    {"moonshotai--Kimi-K2.5", NULL, KIMI_K2, SAYS(KIMI_SAYS)},
    /* Without the vision tower and the layer that predicts a further token. */
    {"Qwen--Qwen3.5-397B-A17B", NULL, 396346350336, 17349040896, 30 << 10, 99360636224,
     SAYS(.total = "397", .active = "17")},
    {"Qwen--Qwen3.5-122B-A10B", NULL, 122111526912, 9771288576, 24 << 10, 30512734464,
     SAYS(.total = "122", .active = "10")},
    {"Qwen--Qwen3.5-35B-A3B", NULL, 34660610688, 3454988928, 20 << 10, 8634576832,
     SAYS(.total = "35", .active = "3")},
    {"Qwen--Qwen3.5-27B", NULL, 26895998464, 26895998464, 64 << 10, 6457014528,
     SAYS(.total = "27")},
    /* The model card counts a token's row of the embedding as nothing. */
    {"openai--gpt-oss-20b", NULL, 20914757184, 4187440704, 24 << 10, 5094681600,
     SAYS(.total = "20.91", .active = "3.61", .of = NO_EMBEDDING)},
    {"openai--gpt-oss-120b", NULL, 116829156672, 5711982912, 36 << 10, 29123466624,
     SAYS(.total = "116.83", .active = "5.13", .of = NO_EMBEDDING)},
    /* With the vision tower and its projector. */
    {"meta-llama--Llama-4-Scout-17B-16E-Instruct", NULL, 107769861120, 17172894720, 48 << 10,
     26700451840, SAYS(.files = "109", .active = "17")},
    {"meta-llama--Llama-4-Maverick-17B-128E-Instruct", NULL, 400711848960, 17184691200, 48 << 10,
     99980185600, SAYS(.files = "401.6", .active = "17")},
};
// clang-format on

static hdl_model_desc desc;

static char *read_config(const char *file)
{
    char path[512];
    size_t len = 0;
    snprintf(path, sizeof(path), CONFIGS "/%s.json", file);
    return rig_read(path, &len);
}

/* Significant digits of a figure, and what one of its last is worth. */
static uint32_t digits_of(const char *said, double *unit)
{
    uint32_t n = 0;
    for (const char *c = said; *c && *c != 'e'; c++)
        n += *c >= '0' && *c <= '9' && (n > 0 || *c != '0');
    *unit = pow(10, floor(log10(strtod(said, NULL))) + 1 - n);
    return n;
}

static void check_says(const char *name, double ours, const char *said, bool cut)
{
    if (!said)
        return;
    double want = strtod(said, NULL), unit = 0;
    bool same = digits_of(said, &unit) >= 3
                    ? fabs(ours - want) <= 0.005 * want
                    : lround(want / unit) == (cut ? (long)(ours / unit) : lround(ours / unit));
    if (!same)
        fail_msg("%s: %.3f billion, the publisher says %s", name, ours, said);
}

static void check_published(const char *name, const published *says)
{
    hdl_model_params p = hdl_model_count_params(&desc);
    uint64_t active = p.active;
    if (says->of != ALL)
        active -= p.embedding;
    if (says->of == NO_VOCABULARY)
        active -= p.head;
    check_says(name, (double)p.total / 1e9, says->total, false);
    check_says(name, (double)p.published / 1e9, says->files, false);
    check_says(name, (double)(p.published - p.vocabularies) / 1e9, says->bare, false);
    check_says(name, (double)active / 1e9, says->active, says->cut);
}

static void check_rank(const char *name, uint64_t want)
{
    hdl_layout eight = {.tp = 8, .ep = desc.n_experts > 0 ? 8 : 1, .pp = 1, .dp = 1};
    hdl_errmsg why = {0};
    hdl_err err = hdl_layout_check(&desc, &eight, &why);
    if (want == 0) {
        assert_int_equal(err, HDL_UNSUPPORTED);
        return;
    }
    if (err != HDL_OK)
        fail_msg("%s: %s", name, why.text);
    hdl_shard shard = hdl_shard_of(&desc, &eight, 3);
    uint64_t bytes = hdl_shard_count_bytes(&desc, &shard, HDL_WFORMAT_BF16).weight_bytes;
    if (bytes != want)
        fail_msg("%s: %llu bytes of a rank, %llu expected", name, (unsigned long long)bytes,
                 (unsigned long long)want);
}

static void check_row(const row *r)
{
    hdl_errmsg why = {0};
    char *json = r->file ? read_config(r->file) : NULL;
    const char *text = json ? json : r->json;
    if (hdl_model_desc_parse(&desc, text, strlen(text), &why) != HDL_OK)
        fail_msg("%s: %s", r->file ? r->file : r->json, why.text);
    const char *name = r->file ? r->file : desc.arch;
    hdl_model_params p = hdl_model_count_params(&desc);
    if (p.total != r->total || p.active != r->active)
        fail_msg("%s: %llu parameters, %llu active; %llu and %llu expected", name,
                 (unsigned long long)p.total, (unsigned long long)p.active,
                 (unsigned long long)r->total, (unsigned long long)r->active);
    check_published(name, &r->says);
    assert_int_equal(hdl_model_kv_bytes_per_token(&desc), r->kv_bytes);
    check_rank(name, r->rank_bytes);
    free(json);
}

static void test_digits(void **state)
{
    double unit = 0;
    (void)state;
    assert_int_equal(digits_of("0.596", &unit), 3);
    assert_int_equal(digits_of("1.0e3", &unit), 2);
    assert_true(fabs(unit - 100) < 1e-9);
    assert_int_equal(digits_of("3.3", &unit), 2);
    assert_true(fabs(unit - 0.1) < 1e-12);
}

static void test_inline(void **state)
{
    (void)state;
    for (size_t i = 0; i < HDL_ARRAY_LEN(rows); i++)
        if (rows[i].json)
            check_row(&rows[i]);
}

static bool have_configs(void)
{
    DIR *dir = opendir(CONFIGS);
    if (dir)
        closedir(dir);
    else
        print_message("no " CONFIGS ": published configurations are not tested\n");
    return dir != NULL;
}

static void test_files(void **state)
{
    (void)state;
    if (!have_configs())
        skip();
    for (size_t i = 0; i < HDL_ARRAY_LEN(rows); i++)
        if (rows[i].file)
            check_row(&rows[i]);
}

/* What windows, chunks and recurrent layers keep whatever the length: reference/models.md, 3, but
 * that our recurrent states keep the convolution's inputs as f32: 183 MiB in bf16. */
static void test_windows(void **state)
{
    static const struct {
        const char *file;
        double mib;
    } cases[] = {{"openai--gpt-oss-120b", 4.5},
                 {"Qwen--Qwen3.5-397B-A17B", 45 * (4 + 3 * 12288 * 4 / 1048576.0)},
                 {"meta-llama--Llama-4-Maverick-17B-128E-Instruct", 1152}};
    (void)state;
    if (!have_configs())
        skip();
    for (size_t i = 0; i < HDL_ARRAY_LEN(cases); i++) {
        hdl_errmsg why = {0};
        char *json = read_config(cases[i].file);
        assert_int_equal(hdl_model_desc_parse(&desc, json, strlen(json), &why), HDL_OK);
        assert_true((double)hdl_model_kv_bytes_fixed(&desc) / (1 << 20) == cases[i].mib);
        free(json);
    }
}

/* A rank of tp 8, ep 8 as the files store it, as a part of what it would be in bf16: of the
 * quantised matrices, which are nearly all, (8 + 32 / 128) / 16 in FP8 (more where leaves ask for
 * groups of 64 or 32) and (4 + 32 / 32) / 16 in INT4 and MXFP4, scales being f32. nvidia's files
 * without a row here say their format beside config.json. */
static void test_stored(void **state)
{
    static const struct {
        const char *file;
        double least, most;
    } cases[] = {
        {"deepseek-ai--DeepSeek-V3", 0.515, 0.53},
        {"moonshotai--Kimi-K2-Instruct", 0.515, 0.53},
        {"MiniMaxAI--MiniMax-M2.5", 0.515, 0.53},
        {"Qwen--Qwen3-235B-A22B-FP8", 0.515, 0.5625},
        {"moonshotai--Kimi-K2.5", 0.3125, 0.34},
        {"nvidia--MiniMax-M2.7-NVFP4", 0.375, 0.4}, /* a scale for each 16 */
        {"openai--gpt-oss-120b", 0.3125, 0.34},
        {"Qwen--Qwen3.5-397B-A17B", 1, 1},
    };
    hdl_layout eight = {.tp = 8, .ep = 8, .pp = 1, .dp = 1};
    (void)state;
    if (!have_configs())
        skip();
    for (size_t i = 0; i < HDL_ARRAY_LEN(cases); i++) {
        hdl_errmsg why = {0};
        char *json = read_config(cases[i].file);
        assert_int_equal(hdl_model_desc_parse(&desc, json, strlen(json), &why), HDL_OK);
        free(json);
        for (uint32_t rank = 0; rank < 8; rank++) {
            hdl_shard s = hdl_shard_of(&desc, &eight, rank);
            double part = (double)hdl_shard_count_bytes(&desc, &s, HDL_WFORMAT_COUNT).weight_bytes /
                          (double)hdl_shard_count_bytes(&desc, &s, HDL_WFORMAT_BF16).weight_bytes;
            if (!(part >= cases[i].least && part <= cases[i].most))
                fail_msg("%s: rank %u holds %.4f of what it would in bf16, %.4f to %.4f expected",
                         cases[i].file, rank, part, cases[i].least, cases[i].most);
        }
    }
}

static bool in_table(const char *file)
{
    for (size_t i = 0; i < HDL_ARRAY_LEN(rows); i++)
        if (rows[i].file && strcmp(rows[i].file, file) == 0)
            return true;
    return false;
}

/* A file that has no row above is refused, and the message says which architecture it is of. */
static void check_refused(const char *file)
{
    hdl_errmsg why = {0};
    char *json = read_config(file), arch[64] = "";
    hdl_err err = hdl_model_desc_parse(&desc, json, strlen(json), &why);
    const char *at = strstr(json, "\"architectures\"");
    assert_non_null(at);
    assert_int_equal(sscanf(strchr(at, '[') + 1, " \"%63[^\"]", arch), 1);
    if (err == HDL_OK)
        fail_msg("%s is read, but no row of the table says what it should be", file);
    if (err != HDL_UNSUPPORTED || !strstr(why.text, arch) || !strstr(why.text, "; "))
        fail_msg("%s: \"%s\" does not say what is missing for %s", file, why.text, arch);
    free(json);
}

static void test_all_others_are_refused(void **state)
{
    (void)state;
    if (!have_configs())
        skip();
    DIR *dir = opendir(CONFIGS);
    uint32_t n = 0, n_expected = 0;
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        char file[256];
        size_t len = strlen(e->d_name);
        if (len < 6 || len >= sizeof(file) || strcmp(e->d_name + len - 5, ".json") != 0)
            continue;
        snprintf(file, sizeof(file), "%.*s", (int)(len - 5), e->d_name);
        n++;
        if (!in_table(file))
            check_refused(file);
    }
    closedir(dir);
    for (size_t i = 0; i < HDL_ARRAY_LEN(rows); i++)
        n_expected += rows[i].file != NULL;
    assert_true(n >= n_expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_digits), cmocka_unit_test(test_inline),
        cmocka_unit_test(test_files),  cmocka_unit_test(test_windows),
        cmocka_unit_test(test_stored), cmocka_unit_test(test_all_others_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
