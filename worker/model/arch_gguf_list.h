/* SPDX-License-Identifier: Apache-2.0 */
/* All architectures of GGUF files; those that share a name stand together, the one that is taken
 * without a condition last. */
#pragma once

#include "worker/model/arch_gguf.h"

// clang-format off
#define HDL_GGUF_ARCH_LIST(X) \
    X(mixtral) \
    X(llama) \
    X(mistral3) \
    X(qwen2) \
    X(gemma2) \
    X(gemma3) \
    X(phi3) \
    X(olmo2) \
    X(deepseek_v3) \
    X(deepseek_v2) \
    X(mistral4) \
    X(qwen2moe) \
    X(qwen3) \
    X(qwen3moe) \
    X(glm4moe) \
    X(minimaxm2) \
    X(gptoss) \
    X(llama4) \
    X(bitnet) \
    X(qwen3next) \
    X(qwen35) \
    X(qwen35moe)
// clang-format on

#define HDL_GGUF_ARCH_DECLARE(name) extern const hdl_gguf_arch hdl_gguf_arch_##name;
HDL_GGUF_ARCH_LIST(HDL_GGUF_ARCH_DECLARE)
#undef HDL_GGUF_ARCH_DECLARE
