/* SPDX-License-Identifier: Apache-2.0 */
/* Every configuration of tests/golden/models: NAME.json and NAME.bin. test_golden compares each
 * with transformers, test_layouts its bits on all layouts. */
#pragma once

#define RIG_GOLDENS HDL_SOURCE_DIR "/tests/golden/models/"

// clang-format off
/*    id                name */
#define RIG_GOLDEN_LIST(X)                                                                         \
    X(llama,             "llama")                                                                  \
    X(llama_bias,        "llama-bias")                                                             \
    X(llama3_tied,       "llama3-tied")                                                            \
    X(mistral_window,    "mistral-window")                                                         \
    X(mistral_tied,      "mistral-tied")                                                           \
    X(mistral3,          "mistral3")                                                               \
    X(ministral,         "ministral")                                                              \
    X(ministral_tied,    "ministral-tied")                                                         \
    X(ministral3,        "ministral3")                                                             \
    X(ministral3_odd,    "ministral3-odd")                                                         \
    X(qwen2,             "qwen2")                                                                  \
    X(qwen2_yarn,        "qwen2-yarn")                                                             \
    X(qwen3,             "qwen3")                                                                  \
    X(qwen3_bias,        "qwen3-bias")                                                             \
    X(gemma2,            "gemma2")                                                                 \
    X(gemma2_odd,        "gemma2-odd")                                                             \
    X(gemma3,            "gemma3")                                                                 \
    X(gemma3_odd,        "gemma3-odd")                                                             \
    X(gemma3_image,      "gemma3-image")                                                           \
    X(phi3,              "phi3")                                                                   \
    X(phi3_long,         "phi3-long")                                                              \
    X(bitnet,            "bitnet")                                                                 \
    X(bitnet_bias,       "bitnet-bias")                                                            \
    X(bitnet_ternary,    "bitnet-ternary")                                                         \
    X(olmo2,             "olmo2")                                                                  \
    X(olmo2_shared,      "olmo2-shared")                                                           \
    X(mixtral,           "mixtral")                                                                \
    X(mixtral_window,    "mixtral-window")                                                         \
    X(qwen2moe,          "qwen2moe")                                                               \
    X(qwen2moe_odd,      "qwen2moe-odd")                                                           \
    X(qwen3moe,          "qwen3moe")                                                               \
    X(qwen3moe_mixed,    "qwen3moe-mixed")                                                         \
    X(glm4moe,           "glm4moe")                                                                \
    X(glm4moe_air,       "glm4moe-air")                                                            \
    X(glm4moe_groups,    "glm4moe-groups")                                                         \
    X(minimaxm2,         "minimaxm2")                                                              \
    X(minimaxm2_odd,     "minimaxm2-odd")                                                          \
    X(gptoss,            "gptoss")                                                                 \
    X(gptoss_odd,        "gptoss-odd")                                                             \
    X(llama4_scout,      "llama4-scout")                                                           \
    X(llama4_odd,        "llama4-odd")                                                             \
    X(llama4_maverick,   "llama4-maverick")                                                        \
    X(deepseek_v2,       "deepseek-v2")                                                            \
    X(deepseek_v2_lite,  "deepseek-v2-lite")                                                       \
    X(deepseek_v3,       "deepseek-v3")                                                            \
    X(kimi_k2,           "kimi-k2")                                                                \
    X(kimi_k25,          "kimi-k25")                                                               \
    X(mistral4,          "mistral4")                                                               \
    X(mistral4_odd,      "mistral4-odd")                                                           \
    X(mistral3_mla,      "mistral3-mla")                                                           \
    X(qwen3next,         "qwen3next")                                                              \
    X(qwen3next_odd,     "qwen3next-odd")                                                          \
    X(qwen35,            "qwen35")                                                                 \
    X(qwen35moe,         "qwen35moe")                                                              \
    X(qwen35_vl,         "qwen35-vl")                                                              \
    X(qwen35_odd,        "qwen35-odd")                                                             \
    X(qwen35moe_odd,     "qwen35moe-odd")                                                          \
    X(qwen35moe_vl,      "qwen35moe-vl")
// clang-format on
