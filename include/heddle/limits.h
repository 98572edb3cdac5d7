/* SPDX-License-Identifier: Apache-2.0 */
/* Every fixed limit of the system in one table. Memory is sized from these (and from the configured
 * values that stay below them) at start; a limit reached at run time is HDL_BUSY or a refused
 * request, never a crash. */
#pragma once

/* clang-format off */
#define HDL_LIMIT_LIST(X)                                                                         \
/*    name                   value     meaning */                                                 \
    X(BLOCK_TOKENS,          32,       "tokens in a KV block unless the model says otherwise")    \
    X(CACHE_GROUPS_MAX,      4,        "cache groups of a model")                                 \
    X(SEQS_MAX,              16384,    "running sequences of a scheduler (configured by max_seqs)")\
    X(GROUPS_MAX,            64,       "data-parallel groups of one scheduler")                   \
    X(RANKS_MAX,             64,       "ranks of one group")                                      \
    X(LEAVES_MAX,            8,        "leaves of a reduction tree (numerics contract N2)")       \
    X(PLANS_IN_FLIGHT,       2,        "steps of a group that may be unanswered")                 \
    X(STEP_TOKENS_MAX,       8192,     "tokens of one step (configured by step_tokens)")          \
    X(TENANTS_MAX,           256,      "tenants with a fair share of their own")                  \
    X(PRIORITIES,            8,        "request priorities, 0 is most urgent")                    \
    X(STOP_IDS_MAX,          16,       "token ids that end a request")                            \
    X(STOP_STRINGS_MAX,      16,       "stop strings of a request")                               \
    X(STOP_STRING_BYTES_MAX, 512,      "bytes of one stop string")                                \
    X(LOGIT_BIAS_MAX,        1024,     "logit_bias entries of a request")                         \
    X(TOP_LOGPROBS_MAX,      20,       "top_logprobs of a request")                               \
    X(CHOICES_MAX,           16,       "n of a request")                                          \
    X(PROMPTS_MAX,           64,       "prompts of one completions request")                      \
    X(HTTP_LINE_BYTES_MAX,   8192,     "request line or one header line")                         \
    X(HTTP_HEADER_BYTES_MAX, 32768,    "all header lines together")                               \
    X(HTTP_HEADERS_MAX,      100,      "header lines of a request")                               \
    X(HTTP_BODY_BYTES_MAX,   33554432, "body of a request (configured by http.body_bytes_max)")   \
    X(JSON_DEPTH_MAX,        64,       "nesting of a request body")                               \
    X(JSON_VALUES_MAX,       4194304,  "values of a JSON text, each of some 40 bytes in memory")  \
    X(SSE_BACKLOG_BYTES_MAX, 262144,   "unsent bytes of one stream before the reader is dropped") \
    X(RPC_MESSAGE_BYTES_MAX, 16777216, "one control message")
/* clang-format on */

#define HDL_LIMIT_ENUM(name, value, meaning) HDL_##name = (value),
enum { HDL_LIMIT_LIST(HDL_LIMIT_ENUM) };
#undef HDL_LIMIT_ENUM
