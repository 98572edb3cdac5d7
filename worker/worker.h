/* SPDX-License-Identifier: Apache-2.0 */
/* One rank: its weights, its cache, its collectives, and the step that runs a plan.
 *
 * Life: open (loads and keeps weights) -> join an epoch -> step 1, 2, 3 ... of that epoch -> join
 * the next epoch (all sequences forgotten, weights kept) -> ... -> close. Owner: the step thread
 * makes every call but hdl_worker_abort and the getters, which any thread may make after open.
 * After join nothing in hdl_worker_step allocates.
 *
 * Invariant: the scheduler is the only allocator of slots and blocks; a worker bounds-checks each
 * plan before it touches anything. Not here: processes, gRPC, configuration (main.c, control). */
#pragma once

#include <heddle/coll.h>
#include <heddle/config.h>
#include <heddle/device.h>
#include <heddle/model.h>
#include <heddle/plan.h>
#include <heddle/request.h>

typedef struct hdl_worker hdl_worker;

/* Called on the opening thread while weights are read, at most some 20 times a second; the last
 * call has done == total. */
typedef void hdl_worker_progress_fn(void *arg, uint64_t bytes_done, uint64_t bytes_total);

/* Collectives between the devices of several ranks: where there are some, never, or an error where
 * there are none. */
typedef enum hdl_nccl { HDL_NCCL_AUTO, HDL_NCCL_NEVER, HDL_NCCL_REQUIRED } hdl_nccl;

/* Weights without files, for measurements: how each matrix is held, and what fills the built model,
 * its embedding too. The model's configuration is read all the same. */
struct hdl_model;
struct hdl_wkinds;
typedef struct hdl_worker_made {
    const struct hdl_wkinds *kinds;
    hdl_err (*fill)(void *arg, struct hdl_model *model, hdl_errmsg *why);
    void *arg;
} hdl_worker_made;

typedef struct hdl_worker_opts {
    const char *model_path;      /* folder */
    const hdl_worker_made *made; /* borrowed for the call; NULL: the folder's files */
    hdl_layout layout;           /* zeroes read as 1; dp does not concern a rank */
    uint32_t rank;               /* of the group */
    hdl_wformat weights;         /* HDL_WFORMAT_COUNT: auto, as the files store them */

    /* Cache: n_blocks for each group of pages, or what fits in kv_bytes, or (both 0) enough for
     * max_seqs sequences of max_len, at most 1 GiB. */
    uint64_t kv_bytes;
    uint32_t n_blocks;
    uint32_t block_tokens; /* 0: the model's, HDL_BLOCK_TOKENS as a rule */
    hdl_kv_type kv_type;

    uint32_t max_seqs;    /* slots; 0: 256 */
    uint32_t step_tokens; /* of one plan, all rows together; 0: 512 */
    uint32_t max_len;     /* of a sequence; 0: the model's */

    /* Device: the CPU, or a GPU through its plugin (borrowed; process lifetime). */
    const hdl_plugin *plugin;
    uint32_t gpu; /* index */
    bool fast;    /* numerics: fast; a CPU is exact nevertheless */
    hdl_nccl nccl;
    uint32_t gpu_order; /* tests: hdl_plugin_opts.order */
    uint32_t graphs;    /* tests: hdl_graphs_use (graph.h); 0: where the device has them */
    uint32_t n_threads; /* 0: 1 */
    const int *cpus;    /* [n_cpus] to pin to; NULL: not pinned; borrowed for the call */
    uint32_t n_cpus;
    hdl_isa isa;
    hdl_head_screen head_screen;
    const char *packed_cache; /* folder of the packed cache; NULL or "": none */

    /* Rank 0 appends the logits of HDL_ROW_LOGITS rows, f32 [token, vocab] in order of position;
     * NULL: such rows are refused. */
    const char *logits_dump_path;
    hdl_worker_progress_fn *progress; /* may be NULL */
    void *progress_arg;
} hdl_worker_opts;

/* HDL_UNSUPPORTED with `no CUDA backend: ...` when the device that the configuration names cannot
 * be driven here: another one never takes its place in silence. */
hdl_err hdl_worker_check_device(const hdl_config *config, hdl_errmsg *why) HDL_MUST_CHECK;

/* Loads the weights of this rank and takes all memory; makes no collective call. */
hdl_err hdl_worker_open(hdl_worker **out, const hdl_worker_opts *opts,
                        hdl_errmsg *why) HDL_MUST_CHECK;
void hdl_worker_close(hdl_worker *worker);

/* Getters; constant after open. */
typedef struct hdl_worker_info {
    uint32_t block_tokens, max_seqs, step_tokens, max_len;
    uint32_t n_caches; /* cache groups, in the model's order */
    hdl_cache_capacity caches[HDL_CACHE_GROUPS_MAX];
    uint64_t weight_bytes, kv_bytes;
    const char *device; /* "cpu-avx2", ... */
    hdl_wformat weights;
} hdl_worker_info;
hdl_worker_info hdl_worker_get_info(const hdl_worker *worker);
const hdl_model_desc *hdl_worker_desc(const hdl_worker *worker);

/* Tokens whose logits went through the head's screen since the worker was opened, the tiles of rows
 * that were computed for them, and all tiles of so many tokens. Of this rank; owner as of steps. */
typedef struct hdl_worker_screened {
    uint64_t tokens, tiles, all_tiles;
} hdl_worker_screened;
hdl_worker_screened hdl_worker_get_screened(const hdl_worker *worker);

/* For measurements between steps (bench/model); owner as the worker's. */
hdl_device *hdl_worker_device(hdl_worker *worker);

/* Opens the door that peers on other hosts come to in the epoch to come; the next join over ucx
 * goes through it. address: what they must dial. */
hdl_err hdl_worker_listen(hdl_worker *worker, const hdl_coll_door_opts *opts,
                          char address[HDL_COLL_ADDRESS_BYTES], hdl_errmsg *why) HDL_MUST_CHECK;

/* Enters an epoch: fresh communicators (opts->rank, n_ranks and door are filled in here), every
 * sequence forgotten, next step is 1. Blocks until all ranks of the group are there, or
 * opts->timeout_us. */
hdl_err hdl_worker_join(hdl_worker *worker, const hdl_coll_opts *opts, uint64_t epoch,
                        hdl_errmsg *why) HDL_MUST_CHECK;

/* A golden prompt alone and inside a batch must give the same bits. All ranks call it after join,
 * before step 1. */
hdl_err hdl_worker_self_test(hdl_worker *worker, hdl_errmsg *why) HDL_MUST_CHECK;

/* Any thread: collectives of the current epoch, a pending join included, return HDL_CANCELLED. The
 * next join starts afresh. */
void hdl_worker_abort(hdl_worker *worker);

/* Runs one plan. opens: [plan->n_opens], the sampling parameters of plan->opens (borrowed for the
 * call). out is filled in any case; out->err and the return value are equal. HDL_BUG or
 * HDL_CORRUPT: the plan was refused and nothing was touched. Arrays of out are valid until the next
 * call. A plan of another epoch, or out of order, is refused with HDL_INVALID. */
hdl_err hdl_worker_step(hdl_worker *worker, const hdl_plan *plan, const hdl_sampling *opens,
                        hdl_result *out);

/* The same in two halves, so that the device need not wait between two steps. submit: the step is
 * on its way, and what the plan holds is not needed any more; refused: filled when it fails, after
 * which nothing can be submitted in this epoch (but for a plan that was refused), while what was
 * submitted before can still be collected. collect: waits for the oldest step. At most
 * hdl_worker_steps_max are submitted and not collected: 2 where the device samples, else 1. */
uint32_t hdl_worker_steps_max(const hdl_worker *worker);
hdl_err hdl_worker_submit(hdl_worker *worker, const hdl_plan *plan, const hdl_sampling *opens,
                          hdl_result *refused);
hdl_err hdl_worker_collect(hdl_worker *worker, hdl_result *out);
/* Would collect return without waiting? */
bool hdl_worker_is_done(const hdl_worker *worker);

/* Lets the device's threads sleep until the next step: called when no plan is queued. */
void hdl_worker_park(hdl_worker *worker);
