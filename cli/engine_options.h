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
        {.name = "numerics",                                                                       \
         .value = "MODE",                                                                          \
         .config = "worker.numerics",                                                              \
         .group = "Device",                                                                        \
         .doc = "exact, or fast: on GPUs sums in the quickest order"},                             \
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
        {.name = "head-screen",                                                                    \
         .value = "WHEN",                                                                          \
         .config = "worker.head_screen",                                                           \
         .group = "Device",                                                                        \
         .doc = "auto, on or off: a q8 copy of the head that finds what a sampler can take"},      \
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
         .doc = "auto, f32, bf16, q8 or q4 (the last two quantised at load)"},                     \
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
        {.name = "kv-type",                                                                        \
         .value = "TYPE",                                                                          \
         .config = "kv.type",                                                                      \
         .group = "Cache and batch",                                                               \
         .aliases = "kv-cache-dtype",                                                              \
         .doc = "auto, bf16; int8 or fp8: half the bytes, numbers rounded"},                       \
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
        {.name = "step-time",                                                                      \
         .value = "TIME",                                                                          \
         .config = "sched.step_time",                                                              \
         .group = "Cache and batch",                                                               \
         .doc = "most time for prompts in a step that others decode in"},                          \
        {.name = "chunk",                                                                          \
         .value = "N",                                                                             \
         .config = "sched.chunk_tokens",                                                           \
         .group = "Cache and batch",                                                               \
         .doc = "most prompt tokens of one request in a step"},                                    \
        {.name = "speculate",                                                                      \
         .value = "HOW",                                                                           \
         .config = "sched.speculate",                                                              \
         .group = "Cache and batch",                                                               \
         .doc = "guess tokens from the text so far, verify them in one step: auto, off or ngram"}, \
        {.name = "speculate-tokens",                                                               \
         .value = "N",                                                                             \
         .config = "sched.speculate_tokens",                                                       \
         .group = "Cache and batch",                                                               \
         .aliases = "draft-max,draft",                                                             \
         .doc = "guesses of a sequence in a step at most"},                                        \
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
        CLI_REFUSED("cache-type-k", "keys and values are kept alike: --kv-type int8 or fp8"),      \
        CLI_REFUSED("cache-type-v", "keys and values are kept alike: --kv-type int8 or fp8"),      \
        CLI_REFUSED("swap-space", "a preempted sequence is computed again; leave it out"),         \
        CLI_REFUSED("trust-remote-code", "heddle runs no code of a model; leave it out"),          \
        CLI_REFUSED("model-draft", "heddle guesses from the text so far: --speculate ngram"),      \
        CLI_REFUSED("n-gpu-layers", "a worker drives one device: --device cpu or cuda")

/* The same of a server: options of `vllm serve` that other commands do not share. */
#define CLI_SERVE_OPTIONS                                                                          \
    {.name = "enable-prefix-caching",                                                              \
     .config = "kv.prefix_cache",                                                                  \
     .group = "Cache and batch",                                                                   \
     .doc = "reuse the KV cache of equal beginnings, whatever the file says"},                     \
        CLI_REFUSED("no-enable-prefix-caching",                                                    \
                    "set kv.prefix_cache: false in the configuration file"),                       \
        CLI_REFUSED("enable-chunked-prefill",                                                      \
                    "prompts always come in chunks; say how large: --chunk N"),                    \
        CLI_REFUSED("no-enable-chunked-prefill",                                                   \
                    "prompts always come in chunks; say how large: --chunk N"),                    \
        CLI_REFUSED("long-prefill-token-threshold", "say --chunk N"),                              \
        CLI_REFUSED("seed", "each request carries its own \"seed\""),                              \
        CLI_REFUSED("tokenizer", "it is read from MODEL's folder or file; put it there"),          \
        CLI_REFUSED("tokenizer-mode", "the tokenizer's files in MODEL say which it is"),           \
        CLI_REFUSED("load-format", "MODEL says it: a folder of safetensors or a .gguf file"),      \
        CLI_REFUSED("model", "it is the first argument: heddle serve MODEL"),                      \
        CLI_REFUSED("revision", "fetch that revision, then serve its folder"),                     \
        CLI_REFUSED("download-dir", "heddle fetches no model; serve a folder that is here"),       \
        CLI_REFUSED("api-key", "keys do not belong on a command line; --api-key-file F"),          \
        CLI_REFUSED("chat-template", "put it into MODEL as chat_template.jinja"),                  \
        CLI_REFUSED("generation-config", "put generation_config.json into MODEL"),                 \
        CLI_REFUSED("enable-auto-tool-choice",                                                     \
                    "the chat template of MODEL shows the tools; leave it out"),                   \
        CLI_REFUSED("tool-call-parser", "heddle has no choice of parsers; leave it out"),          \
        CLI_REFUSED("reasoning-parser", "heddle has no choice of parsers; leave it out"),          \
        CLI_REFUSED("max-logprobs", "20 is the most, of every request; leave it out"),             \
        CLI_REFUSED("cpu-offload-gb", "spread the model over more workers: --tp N"),               \
        CLI_REFUSED("distributed-executor-backend",                                                \
                    "serve starts its workers itself; on other hosts start heddle-worker"),        \
        CLI_REFUSED("enable-lora", "merge the adapter into the weights first"),                    \
        CLI_REFUSED("speculative-config",                                                          \
                    "say --speculate ngram, and --speculate-tokens N if you wish"),                \
        CLI_REFUSED("uvicorn-log-level", "say --log-level LEVEL"),                                 \
        CLI_REFUSED("disable-log-requests", "only --log-level debug logs requests; leave it out"), \
        CLI_REFUSED("disable-log-stats", "figures are on /metrics, not in the log; leave it out")

/* Configuration of a command: defaults, then --config FILE if the spec has one and it is given,
 * then the options. *cfg owns the strings of *config. Close with hdl_cfg_close. */
hdl_err cli_config_open(hdl_cfg **cfg, hdl_config *config, const hdl_args *args,
                        hdl_errmsg *why) HDL_MUST_CHECK;
