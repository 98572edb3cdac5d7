/* SPDX-License-Identifier: Apache-2.0 */
/* The options that say how a model is run, the same for serve, run, generate and logits: each row
 * sets a key of include/heddle/config.h. Spellings of vLLM are aliases where the meaning is the
 * same, and are refused with the nearest equivalent where it is not. */
#pragma once

#include <heddle/config.h>

#include "base/config.h"
#include "cli/cli.h"

#define CLI_REFUSED(name_, hint)                                                                   \
    {                                                                                              \
        .name = name_, .value = "V", .refuse = hint                                                \
    }

#define CLI_ENGINE_OPTIONS                                                                         \
    {.name = "tp",                                                                                 \
     .value = "N",                                                                                 \
     .config = "parallel.tp",                                                                      \
     .group = "Layout",                                                                            \
     .aliases = "tensor-parallel-size",                                                            \
     .doc = "tensor parallel ranks"},                                                              \
        {.name = "ep",                                                                             \
         .value = "N",                                                                             \
         .config = "parallel.ep",                                                                  \
         .group = "Layout",                                                                        \
         .aliases = "expert-parallel-size",                                                        \
         .doc = "expert parallel ranks, over the same workers"},                                   \
        {.name = "pp",                                                                             \
         .value = "N",                                                                             \
         .config = "parallel.pp",                                                                  \
         .group = "Layout",                                                                        \
         .aliases = "pipeline-parallel-size",                                                      \
         .doc = "pipeline stages"},                                                                \
        {.name = "dp",                                                                             \
         .value = "N",                                                                             \
         .config = "parallel.dp",                                                                  \
         .group = "Layout",                                                                        \
         .aliases = "data-parallel-size",                                                          \
         .doc = "replicas"},                                                                       \
        {.name = "device",                                                                         \
         .value = "KIND",                                                                          \
         .config = "worker.device",                                                                \
         .group = "Device",                                                                        \
         .doc = "cpu or cuda"},                                                                    \
        {.name = "threads",                                                                        \
         .value = "N",                                                                             \
         .config = "worker.threads",                                                               \
         .group = "Device",                                                                        \
         .doc = "compute threads of each worker (0: its share of the cores)"},                     \
        {.name = "isa",                                                                            \
         .value = "LEVEL",                                                                         \
         .config = "worker.isa",                                                                   \
         .group = "Device",                                                                        \
         .doc = "auto, ref, avx2 or avx512"},                                                      \
        {.name = "packed-cache",                                                                   \
         .value = "DIR",                                                                           \
         .config = "worker.packed_cache",                                                          \
         .group = "Device",                                                                        \
         .doc = "keep packed weights there: the next start reads them and converts nothing"},      \
        {.name = "weights",                                                                        \
         .value = "FORMAT",                                                                        \
         .config = "model.weights",                                                                \
         .group = "Model",                                                                         \
         .aliases = "quantization,q",                                                              \
         .doc = "auto, f32, bf16 or q8 (quantised at load)"},                                      \
        {.name = "max-len",                                                                        \
         .value = "N",                                                                             \
         .config = "model.max_len",                                                                \
         .group = "Model",                                                                         \
         .aliases = "max-model-len,ctx-size",                                                      \
         .doc = "longest sequence, in tokens"},                                                    \
        {.name = "kv-bytes",                                                                       \
         .value = "SIZE",                                                                          \
         .config = "kv.bytes",                                                                     \
         .group = "Cache and batch",                                                               \
         .aliases = "kv-cache-memory-bytes",                                                       \
         .doc = "KV cache of each worker, such as 4GiB"},                                          \
        {.name = "max-seqs",                                                                       \
         .value = "N",                                                                             \
         .config = "sched.max_seqs",                                                               \
         .group = "Cache and batch",                                                               \
         .aliases = "max-num-seqs,parallel",                                                       \
         .doc = "sequences that run at the same time"},                                            \
        {.name = "step-tokens",                                                                    \
         .value = "N",                                                                             \
         .config = "sched.step_tokens",                                                            \
         .group = "Cache and batch",                                                               \
         .aliases = "max-num-batched-tokens",                                                      \
         .doc = "token budget of a step"},                                                         \
        {.name = "chunk",                                                                          \
         .value = "N",                                                                             \
         .config = "sched.chunk_tokens",                                                           \
         .group = "Cache and batch",                                                               \
         .doc = "most prompt tokens of one request in a step"},                                    \
        {.name = "log-level",                                                                      \
         .value = "LEVEL",                                                                         \
         .config = "log.level",                                                                    \
         .group = "Log",                                                                           \
         .doc = "error, warn, info or debug (default: warn)"},                                     \
        CLI_REFUSED("gpu-memory-utilization", "say the cache's size instead: --kv-bytes SIZE"),    \
        CLI_REFUSED("block-size", "set kv.block_tokens in the configuration file"),                \
        CLI_REFUSED("dtype", "say --weights bf16 or f32"),                                         \
        CLI_REFUSED("enforce-eager", "heddle has no other mode on this device; leave it out"),     \
        CLI_REFUSED("enable-expert-parallel", "say how many ways: --ep N"),                        \
        CLI_REFUSED("swap-space", "a preempted sequence is computed again; leave it out"),         \
        CLI_REFUSED("trust-remote-code", "heddle runs no code of a model; leave it out"),          \
        CLI_REFUSED("n-gpu-layers", "a worker drives one device: --device cpu or cuda")

/* Configuration of a command: defaults, then --config FILE if the spec has one and it is given,
 * then the options. *cfg owns the strings of *config. Close with hdl_cfg_close. */
hdl_err cli_config_open(hdl_cfg **cfg, hdl_config *config, const hdl_args *args,
                        hdl_errmsg *why) HDL_MUST_CHECK;
