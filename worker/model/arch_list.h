/* SPDX-License-Identifier: Apache-2.0 */
/* Every architecture. To add a relative of a known family:
 * one file arch_<name>.c, one line here, one golden in tests/golden. */
#pragma once

#include "worker/model/arch.h"

// clang-format off
#define HDL_ARCH_LIST(X)                                                                           \
    X(deepseek_v2)                                                                                 \
    X(deepseek_v3)                                                                                 \
    X(qwen3next)                                                                                   \
    X(qwen35)                                                                                      \
    X(qwen35moe)                                                                                   \
    X(qwen35_vl)                                                                                   \
    X(qwen35moe_vl)                                                                                \
    X(mistral4)                                                                                    \
    X(mistral3_mistral4)                                                                           \
    X(kimi_k25)                                                                                    \
    X(llama)                                                                                       \
    X(mistral)                                                                                     \
    X(mistral3)                                                                                    \
    X(ministral)                                                                                   \
    X(ministral3)                                                                                  \
    X(mixtral)                                                                                     \
    X(gemma2)                                                                                      \
    X(gemma3)                                                                                      \
    X(gemma3text)                                                                                  \
    X(phi3)                                                                                        \
    X(bitnet)                                                                                      \
    X(olmo2)                                                                                       \
    X(qwen2)                                                                                       \
    X(qwen2moe)                                                                                    \
    X(qwen3)                                                                                       \
    X(qwen3moe)                                                                                    \
    X(glm4moe)                                                                                     \
    X(minimaxm2)                                                                                   \
    X(gptoss)                                                                                      \
    X(llama4)                                                                                      \
    X(llama4text)
// clang-format on

#define HDL_ARCH_DECLARE(name) extern const hdl_arch hdl_arch_##name;
HDL_ARCH_LIST(HDL_ARCH_DECLARE)
#undef HDL_ARCH_DECLARE
