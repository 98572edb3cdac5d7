/* SPDX-License-Identifier: Apache-2.0 */
/* The caches of this rank: one pool of blocks per cache group, a view of it per layer.
 *
 * It knows sizes and places only. Which block belongs to whom is the scheduler's business. Memory
 * is the device's, taken once at open; owner: the worker, on its step thread. */
#pragma once

#include <heddle/device.h>
#include <heddle/model.h>

/* Of one cache group; its layers lie one after the other. */
typedef struct hdl_kvpool {
    hdl_cache_group group;
    uint32_t n_blocks;
    uint32_t n_heads;      /* on this rank */
    uint64_t block_bytes;  /* of one layer */
    unsigned char *memory; /* in the store's */
} hdl_kvpool;

typedef struct hdl_kvstore {
    hdl_device *device; /* borrowed */
    void *memory;       /* owned, of the device */
    size_t bytes;
    uint32_t block_tokens, n_pools;
    hdl_kvpool pools[HDL_CACHE_GROUPS_MAX];
} hdl_kvstore;

typedef struct hdl_kvstore_opts {
    const hdl_model_desc *desc; /* borrowed: for the call */
    hdl_shard shard;
    hdl_device *device;    /* borrowed: until close */
    uint32_t block_tokens; /* 0: the model's */
    uint32_t n_blocks;     /* of each pool of pages; 0: as many as fit in kv_bytes */
    uint64_t kv_bytes; /* 0 (with n_blocks 0): nine tenths of what a device with memory of its own
                          has free; else max_seqs of max_len, at most 1 GiB */
    uint32_t max_seqs, max_len, step_tokens;
} hdl_kvstore_opts;

hdl_err hdl_kvstore_open(hdl_kvstore *out, const hdl_kvstore_opts *opts,
                         hdl_errmsg *why) HDL_MUST_CHECK;
void hdl_kvstore_close(hdl_kvstore *kv);

/* Bytes of the device that open will take at least: kv_bytes where they are given, else what one
 * short sequence needs. */
hdl_err hdl_kvstore_least(const hdl_kvstore_opts *opts, uint64_t *bytes,
                          hdl_errmsg *why) HDL_MUST_CHECK;

/* How n_blocks of every pool is chosen: pure, in kvsplit.c. The pools' groups and sizes are set.
 * INVALID when kv_bytes does not hold one short sequence. */
hdl_err hdl_kvstore_split(hdl_kvstore *kv, const hdl_kvstore_opts *opts,
                          hdl_errmsg *why) HDL_MUST_CHECK;
/* The least that it takes for `opts` without kv_bytes. */
uint64_t hdl_kvstore_split_least(const hdl_kvstore *kv, const hdl_kvstore_opts *opts);

/* Pages of one layer; layer is its cache_layer. */
hdl_kv_view hdl_kvstore_view(const hdl_kvstore *kv, uint32_t cache, uint32_t layer);
/* States of one layer: [n_blocks, n_heads, k_dim]. */
float *hdl_kvstore_states(const hdl_kvstore *kv, uint32_t cache, uint32_t layer);

/* Where blocks of one layer lie, as bytes for a copy: k, then v when there is any. */
typedef struct hdl_kv_part {
    void *memory; /* [n_blocks, block_bytes] */
    size_t block_bytes;
} hdl_kv_part;
uint32_t hdl_kvstore_parts(const hdl_kvstore *kv, uint32_t cache, uint32_t layer,
                           hdl_kv_part out[2]);
