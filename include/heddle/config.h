/* SPDX-License-Identifier: Apache-2.0 */
/* Every setting of heddle in one table: the scheduler's, the worker's and the local launcher's. The
 * struct, the YAML keys, the flags of `heddle serve`, `heddle-scheduler` and `heddle-worker`, the
 * commented example file and the documentation all come from it.
 *
 * Values are plain data, written once at start by base/config.c (strict: unknown keys, duplicates
 * and ranges are refused) and read-only afterwards; any thread may read them. Strings are owned by
 * the hdl_cfg that loaded them.
 *
 * There are no environment variables: what can be set is here. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Columns: type, field, path, default, min, max, documentation.
 * Field types follow base/config.h: SIZE is bytes, DURATION is microseconds, ENUM is the index into
 * the field's choices. */
/* clang-format off */
#define HDL_CONFIG_LIST(X)                                                                        \
    X(STRING, model_path, "model.path", "", 0, 0,                                                 \
      "model folder (Hugging Face layout) or .gguf file")                                         \
    X(STRING, model_name, "model.name", "", 0, 0,                                                 \
      "name that clients ask for; empty: the folder's name")                                      \
    X(ENUM, model_weights, "model.weights", "auto", 0, 0,                                         \
      "arithmetic of the weights; auto: as the checkpoint has them")                              \
    X(INT, model_max_len, "model.max_len", "0", 0, 16777216,                                      \
      "longest sequence in tokens; 0: what the model declares")                                   \
    X(INT, tp, "parallel.tp", "1", 1, 64,                                                         \
      "tensor parallel ranks")                                                                    \
    X(INT, ep, "parallel.ep", "1", 1, 64,                                                         \
      "expert parallel ranks, spread over the tensor parallel ones")                              \
    X(INT, pp, "parallel.pp", "1", 1, 64,                                                         \
      "pipeline stages")                                                                          \
    X(INT, dp, "parallel.dp", "1", 1, 64,                                                         \
      "replicas (data parallel groups)")                                                          \
    X(ENUM, device, "worker.device", "cpu", 0, 0,                                                 \
      "kind of device that a worker drives")                                                      \
    X(ENUM, numerics, "worker.numerics", "exact", 0, 0,                                           \
      "exact: the same bits in any batch, chunk and layout; fast: on GPUs sums in the order that "\
      "is quickest; a CPU is always exact")                                                       \
    X(STRING, cuda_plugin, "worker.cuda_plugin", "", 0, 0,                                        \
      "the CUDA plugin; empty: libheddle_cuda.so beside the program")                             \
    X(INT, threads, "worker.threads", "0", 0, 1024,                                               \
      "compute threads of a worker; 0: its share of the machine's cores")                         \
    X(LIST, cpus, "worker.cpus", "", 0, 0,                                                        \
      "logical CPUs that the threads are pinned to; empty: chosen by topology")                   \
    X(ENUM, isa, "worker.isa", "auto", 0, 0,                                                      \
      "instruction set of the CPU kernels")                                                       \
    X(STRING, packed_cache, "worker.packed_cache", "", 0, 0,                                      \
      "folder in which packed weights are kept: the next start reads them and converts nothing")  \
    X(ENUM, head_screen, "worker.head_screen", "auto", 0, 0,                                      \
      "beside a bf16 or f32 head its copy in q8, which finds the tokens that a sampler can "      \
      "take; auto: where the copy is at most a fifth of the weights")                             \
    X(STRING, scheduler_address, "worker.scheduler", "", 0, 0,                                    \
      "where a worker dials the scheduler: HOST:PORT or unix:/path")                              \
    X(BOOL, die_with_parent, "worker.die_with_parent", "false", 0, 0,                             \
      "end with the process that started the worker")                                             \
    X(DURATION, redial_us, "worker.redial", "60s", 0, 0,                                          \
      "how long a worker without a scheduler keeps its weights and dials again")                  \
    X(STRING, health_file, "worker.health_file", "", 0, 0,                                        \
      "file in which heddle-worker --probe finds whether the worker lives and is ready")          \
    X(DURATION, coll_timeout_us, "worker.coll_timeout", "30s", 0, 0,                              \
      "deadline of one collective")                                                               \
    X(ENUM, collectives, "worker.collectives", "auto", 0, 0,                                      \
      "how the ranks of a group talk; auto: shared memory on one host, else UCX (the "            \
      "scheduler's), and NCCL between GPUs where it works; nccl: or refuse")                      \
    X(STRING, coll_host, "worker.coll_host", "", 0, 0,                                            \
      "address of this host that its peers on others reach; empty: the one towards the scheduler")\
    X(INT, coll_port, "worker.coll_port", "0", 0, 64511,                                          \
      "first of the 1024 ports for peers on other hosts; 0: any")                                  \
    X(STRING, coll_transports, "worker.coll_transports", "tcp", 0, 0,                             \
      "transports that UCX may use between hosts, as in UCX_TLS")                                 \
    X(STRING, logits_path, "worker.logits_path", "", 0, 0,                                        \
      "file that rank 0 writes asked-for logits to (heddle logits)")                              \
    X(SIZE, kv_bytes, "kv.bytes", "0", 0, 0,                                                      \
      "KV cache of each worker; 0: chosen from free memory")                                      \
    X(ENUM, kv_type, "kv.type", "auto", 0, 0,                                                     \
      "how keys and values are kept; auto: bf16; int8, fp8: half of it, a scale per token and "    \
      "head")                                                                                      \
    X(INT, block_tokens, "kv.block_tokens", "32", 32, 1024,                                       \
      "tokens in a KV block, a power of two")                                                     \
    X(BOOL, prefix_cache, "kv.prefix_cache", "true", 0, 0,                                        \
      "share KV blocks between requests with the same prefix")                                    \
    X(INT, snapshot_tokens, "kv.snapshot_tokens", "0", 0, 1048576,                                \
      "recurrent layers: a prefix can be taken up at multiples of this, besides at the ends of "  \
      "prompts; 0: there alone")                                                                  \
    X(INT, max_seqs, "sched.max_seqs", "256", 1, 16384,                                           \
      "sequences that run at the same time")                                                      \
    X(INT, max_waiting, "sched.max_waiting", "1024", 1, 1048576,                                  \
      "requests that may wait; beyond, 429")                                                      \
    X(INT, step_tokens, "sched.step_tokens", "512", 1, 8192,                                      \
      "token budget of a step")                                                                   \
    X(DURATION, step_us, "sched.step_time", "200ms", 0, 0,                                        \
      "while sequences decode, a step takes prompt tokens for so long at most; 0s: for "          \
      "sched.step_tokens")                                                                        \
    X(INT, chunk_tokens, "sched.chunk_tokens", "0", 0, 8192,                                      \
      "most prompt tokens of one request in a step; 0: the step's budget")                        \
    X(INT, watermark_permille, "sched.watermark_permille", "10", 0, 500,                          \
      "share of the KV pool kept free at admission")                                              \
    X(ENUM, speculate, "sched.speculate", "auto", 0, 0,                                           \
      "guess tokens from the text so far and verify them in one step; ngram: always, or refuse; " \
      "auto: where the model allows it")                                                          \
    X(INT, speculate_tokens, "sched.speculate_tokens", "15", 1, 15,                               \
      "guesses of a sequence in a step at most")                                                  \
    X(INT, speculate_batch, "sched.speculate_batch", "16", 2, 256,                                \
      "tokens of a step that guesses may fill up to; none is made beside so many sequences")      \
    X(STRING, http_host, "http.host", "127.0.0.1", 0, 0,                                          \
      "address that the HTTP API listens on")                                                     \
    X(INT, http_port, "http.port", "8080", 0, 65535,                                              \
      "port of the HTTP API; 0: any free one")                                                    \
    X(INT, http_threads, "http.threads", "1", 1, 64,                                              \
      "event-loop threads of the HTTP API")                                                       \
    X(INT, http_connections, "http.connections", "8192", 1, 1000000,                              \
      "open connections at most")                                                                 \
    X(SIZE, http_body_bytes, "http.body_bytes_max", "32MiB", 1024, 1073741824,                    \
      "largest request body")                                                                     \
    X(DURATION, http_header_us, "http.header_timeout", "10s", 0, 0,                               \
      "deadline for a whole request header")                                                      \
    X(DURATION, http_body_us, "http.body_timeout", "60s", 0, 0,                                   \
      "deadline for a whole request body")                                                        \
    X(DURATION, http_idle_us, "http.idle_timeout", "120s", 0, 0,                                  \
      "idle keep-alive connections are closed after this")                                        \
    X(DURATION, http_ping_us, "http.ping_interval", "10s", 0, 0,                                  \
      "SSE comment that keeps a waiting stream alive")                                            \
    X(DURATION, request_us, "http.request_timeout", "0s", 0, 0,                                   \
      "deadline of a whole request; 0: none")                                                     \
    X(STRING, api_key_file, "http.api_key_file", "", 0, 0,                                        \
      "file of API keys, one KEY or NAME:KEY a line; empty: no key needed")                       \
    X(STRING, http_tls_cert, "http.tls_cert", "", 0, 0,                                           \
      "PEM certificate chain; with tls_key the API speaks HTTPS")                                 \
    X(STRING, http_tls_key, "http.tls_key", "", 0, 0,                                             \
      "PEM private key")                                                                          \
    X(STRING, rpc_listen, "rpc.listen", "127.0.0.1:0", 0, 0,                                      \
      "where workers dial in: HOST:PORT or unix:/path; beyond loopback TLS is required")          \
    X(STRING, rpc_tls_ca, "rpc.tls_ca", "", 0, 0,                                                 \
      "PEM authorities that peers' certificates must come from (mTLS)")                           \
    X(STRING, rpc_tls_cert, "rpc.tls_cert", "", 0, 0,                                             \
      "PEM certificate of this process")                                                          \
    X(STRING, rpc_tls_key, "rpc.tls_key", "", 0, 0,                                               \
      "PEM private key of this process")                                                          \
    X(STRING, rpc_token_file, "rpc.token_file", "", 0, 0,                                         \
      "file with the token that workers present to join")                                         \
    X(DURATION, heartbeat_us, "rpc.heartbeat", "500ms", 0, 0,                                     \
      "interval of heartbeats between scheduler and worker")                                      \
    X(DURATION, hang_us, "rpc.hang", "2s", 0, 0,                                                  \
      "a worker silent for so long counts as lost")                                               \
    X(DURATION, drain_us, "drain.timeout", "30s", 0, 0,                                           \
      "time that admitted requests get to finish at shutdown")                                    \
    X(INT, scale_min, "scale.min", "1", 0, 64,                                                    \
      "replicas that are always wanted; 0: to zero when idle")                                    \
    X(INT, scale_max, "scale.max", "0", 0, 64,                                                    \
      "replicas at most; 0: parallel.dp")                                                         \
    X(INT, scale_queued_tokens, "scale.queued_tokens", "16384", 1, 1073741824,                    \
      "prompt tokens that may wait for each replica before one more is wanted")                   \
    X(INT, scale_requests, "scale.requests", "0", 0, 1048576,                                     \
      "requests for each replica before one more is wanted; 0: sched.max_seqs")                   \
    X(DURATION, scale_up_us, "scale.up_after", "5s", 0, 0,                                        \
      "how long demand must stand before a replica is added; from zero it is at once")            \
    X(DURATION, scale_down_us, "scale.down_after", "5m", 0, 0,                                    \
      "how long fewer replicas must have done before one is given up")                            \
    X(DURATION, scale_zero_us, "scale.zero_after", "10m", 0, 0,                                   \
      "how long nothing must have been asked before the last one is")                             \
    X(STRING, scale_exec, "scale.exec", "", 0, 0,                                                 \
      "program run at each change, with the wanted and present replicas and the reason")          \
    X(STRING, scale_webhook, "scale.webhook", "", 0, 0,                                           \
      "URL that gets the same as JSON by POST")                                                   \
    X(STRING, recorder_path, "recorder.path", "", 0, 0,                                           \
      "ring of scheduler events for `heddle replay`, in two files; empty: off")                   \
    X(SIZE, recorder_bytes, "recorder.bytes", "64MiB", 0, 0,                                      \
      "size of both")                                                                             \
    X(ENUM, log_level, "log.level", "info", 0, 0,                                                 \
      "least level that is logged")                                                               \
    X(ENUM, log_format, "log.format", "text", 0, 0,                                               \
      "text: logfmt lines; json: one object a line")                                              \
    X(STRING, log_file, "log.file", "", 0, 0,                                                     \
      "file for the log; empty: standard error")
/* clang-format on */

/* Choices of the ENUM fields, in the order of their enums. */
#define HDL_CHOICES_model_weights "auto", "f32", "bf16", "q8", "q4"
#define HDL_CHOICES_device                                                                         \
    "cpu", "cuda", "cuda:0", "cuda:1", "cuda:2", "cuda:3", "cuda:4", "cuda:5", "cuda:6", "cuda:7", \
        "cuda:8", "cuda:9", "cuda:10", "cuda:11", "cuda:12", "cuda:13", "cuda:14", "cuda:15"
#define HDL_CHOICES_numerics    "exact", "fast"
#define HDL_CHOICES_isa         "auto", "ref", "avx2", "avx512"
#define HDL_CHOICES_head_screen "auto", "on", "off"
#define HDL_CHOICES_collectives "auto", "shm", "ucx", "nccl"
#define HDL_CHOICES_kv_type     "auto", "bf16", "int8", "fp8"
#define HDL_CHOICES_speculate   "auto", "off", "ngram"
#define HDL_CHOICES_log_level   "error", "warn", "info", "debug"
#define HDL_CHOICES_log_format  "text", "json"

typedef enum hdl_weights_choice {
    HDL_WEIGHTS_AUTO,
    HDL_WEIGHTS_F32,
    HDL_WEIGHTS_BF16,
    HDL_WEIGHTS_Q8,
    HDL_WEIGHTS_Q4
} hdl_weights_choice;

typedef enum hdl_numerics_choice { HDL_NUMERICS_EXACT, HDL_NUMERICS_FAST } hdl_numerics_choice;

/* cuda: the worker's place on its machine names the GPU, the first one for a single worker. */
typedef enum hdl_device_choice {
    HDL_DEVICE_CPU,
    HDL_DEVICE_CUDA,
    HDL_DEVICE_CUDA_0 /* and those after it */
} hdl_device_choice;

/* Index of the GPU. */
static inline uint32_t hdl_device_gpu(int choice)
{
    return choice > HDL_DEVICE_CUDA ? (uint32_t)(choice - HDL_DEVICE_CUDA_0) : 0;
}

typedef enum hdl_head_screen {
    HDL_HEAD_SCREEN_AUTO,
    HDL_HEAD_SCREEN_ON,
    HDL_HEAD_SCREEN_OFF
} hdl_head_screen;

typedef enum hdl_speculate_choice {
    HDL_SPECULATE_AUTO,
    HDL_SPECULATE_OFF,
    HDL_SPECULATE_NGRAM
} hdl_speculate_choice;

typedef struct hdl_config_list { /* the layout of base/config.h's hdl_cfg_list */
    const char *const *items;
    size_t count;
} hdl_config_list;

typedef enum hdl_collectives_choice {
    HDL_COLLECTIVES_AUTO,
    HDL_COLLECTIVES_SHM,
    HDL_COLLECTIVES_UCX,
    HDL_COLLECTIVES_NCCL
} hdl_collectives_choice;

#define HDL_CONFIG_TYPE_BOOL                                    bool
#define HDL_CONFIG_TYPE_INT                                     int64_t
#define HDL_CONFIG_TYPE_SIZE                                    uint64_t
#define HDL_CONFIG_TYPE_DURATION                                uint64_t
#define HDL_CONFIG_TYPE_STRING                                  const char *
#define HDL_CONFIG_TYPE_ENUM                                    int
#define HDL_CONFIG_TYPE_LIST                                    hdl_config_list

#define HDL_CONFIG_FIELD(type, field, path, def, min, max, doc) HDL_CONFIG_TYPE_##type field;
typedef struct hdl_config {
    HDL_CONFIG_LIST(HDL_CONFIG_FIELD)
} hdl_config;
#undef HDL_CONFIG_FIELD
