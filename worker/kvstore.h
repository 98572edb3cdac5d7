/* SPDX-License-Identifier: Apache-2.0 */
/* The paged KV cache of this rank: one pool of blocks per cache group, a view of it per layer.
 *
 * It knows sizes and places only. Which block belongs to whom is the scheduler's business. Memory
 * is the device's, taken once at open; owner: the worker, on its step thread. */
#pragma once

#include <heddle/device.h>
#include <heddle/model.h>

typedef struct hdl_kvstore {
    hdl_device *device; /* borrowed */
    uint16_t *memory;   /* owned, of the device; bf16 */
    size_t bytes;
    uint32_t n_layers;
    uint32_t n_blocks, block_tokens, n_kv_heads, head_dim;
} hdl_kvstore;

typedef struct hdl_kvstore_opts {
    const hdl_model_desc *desc; /* borrowed: for the call */
    hdl_shard shard;
    hdl_device *device;    /* borrowed: until close */
    uint32_t block_tokens; /* 0: the model's */
    uint32_t n_blocks;     /* 0: as many as fit in kv_bytes */
    uint64_t kv_bytes;     /* 0 (with n_blocks 0): max_seqs of max_len, at most 1 GiB */
    uint32_t max_seqs, max_len;
} hdl_kvstore_opts;

hdl_err hdl_kvstore_open(hdl_kvstore *out, const hdl_kvstore_opts *opts,
                         hdl_errmsg *why) HDL_MUST_CHECK;
void hdl_kvstore_close(hdl_kvstore *kv);

/* Of one layer; layer is its cache_layer. */
hdl_kv_view hdl_kvstore_view(const hdl_kvstore *kv, uint32_t layer);
