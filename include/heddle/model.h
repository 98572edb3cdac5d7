/* SPDX-License-Identifier: Apache-2.0 */
/* What a model is, and which part of it a rank holds: plain data, read from config.json by the
 * architecture tables in worker/model. Shared by the worker (which runs it), the command line
 * (`heddle inspect`) and the scheduler's shell (cache cost, longest sequence).
 *
 * A description is a POD without pointers; it is made once, cold, and never changes. Everything
 * here is pure: any thread. It is not the weights: those are a hdl_model of worker/model/build.h.
 */
#pragma once

#include <heddle/err.h>
#include <heddle/limits.h>
#include <heddle/ops.h>

enum {
    HDL_LAYERS_MAX = 256,
    HDL_CACHE_GROUPS_MAX = 4,
    HDL_EOS_IDS_MAX = 8,
    HDL_MODEL_NAME_BYTES = 64,
};

/* ---- the description ---------------------------------------------------------------------- */

/* What mixes tokens, and what follows it. New mechanisms (MLA, recurrent mixers) extend the lists.
 */
typedef enum hdl_mixer_kind { HDL_MIXER_ATTENTION } hdl_mixer_kind;
typedef enum hdl_ffn_kind { HDL_FFN_DENSE, HDL_FFN_MOE } hdl_ffn_kind;

typedef struct hdl_layer_desc {
    uint8_t mixer;        /* hdl_mixer_kind */
    uint8_t ffn;          /* hdl_ffn_kind */
    uint8_t cache_group;  /* index in hdl_model_desc.cache_groups */
    uint16_t cache_layer; /* this layer's index inside that group */
    uint32_t window;      /* positions seen by attention, own included; 0: all */
} hdl_layer_desc;

/* A kind of per-sequence memory with one page layout. All groups share the token clock. Today one
 * group of full-attention pages; windowed, latent, index-key and recurrent groups join here. */
typedef enum hdl_cache_kind { HDL_CACHE_KV_PAGES } hdl_cache_kind;
typedef struct hdl_cache_group {
    hdl_cache_kind kind;
    uint32_t n_layers;
    uint32_t n_kv_heads; /* of the whole model */
    uint32_t head_dim;
    uint32_t block_tokens;
} hdl_cache_group;

typedef enum hdl_rope_kind { HDL_ROPE_PLAIN, HDL_ROPE_LINEAR, HDL_ROPE_LLAMA3 } hdl_rope_kind;
typedef struct hdl_rope {
    hdl_rope_kind kind;
    uint32_t dim; /* rotated values of a head, even, <= head_dim */
    double theta;
    double factor;             /* LINEAR, LLAMA3 */
    double low_freq_factor;    /* LLAMA3 */
    double high_freq_factor;   /* LLAMA3 */
    uint32_t original_max_len; /* LLAMA3 */
} hdl_rope;

typedef struct hdl_model_desc {
    char arch[HDL_MODEL_NAME_BYTES]; /* "Qwen3MoeForCausalLM": the name in config.json */
    uint32_t n_layers, hidden, n_heads, n_kv_heads, head_dim;
    uint32_t inter;                      /* of dense layers; 0 when there are none */
    uint32_t n_experts, topk, moe_inter; /* 0 when no layer is a mixture */
    uint32_t vocab, max_len;
    float norm_eps;
    float attn_scale; /* multiplies q.k */
    bool qk_norm;     /* RMS norm of each q and k head before RoPE */
    bool tied;        /* lm_head is the embedding */
    hdl_router_kind router;
    bool router_renorm;
    hdl_rope rope;
    hdl_dtype dtype; /* element type that config.json declares for the weights */
    uint32_t bos_id; /* HDL_NONE_U32: none */
    uint32_t n_eos_ids;
    uint32_t eos_ids[HDL_EOS_IDS_MAX];
    uint32_t n_cache_groups;
    hdl_cache_group cache_groups[HDL_CACHE_GROUPS_MAX];
    hdl_layer_desc layers[HDL_LAYERS_MAX];
} hdl_model_desc;

/* Reads the text of a config.json. UNSUPPORTED with the reason for an architecture or a key that
 * would change the mathematics, INVALID for a value that cannot be. */
hdl_err hdl_model_desc_parse(hdl_model_desc *out, const char *json, size_t len,
                             hdl_errmsg *why) HDL_MUST_CHECK;
/* The same from a model folder. */
hdl_err hdl_model_desc_load(hdl_model_desc *out, const char *model_path,
                            hdl_errmsg *why) HDL_MUST_CHECK;

/* Parameters: all of them, and those that one token uses (topk experts of n_experts). A tied head
 * counts once. */
typedef struct hdl_model_params {
    uint64_t total, active;
} hdl_model_params;
hdl_model_params hdl_model_count_params(const hdl_model_desc *desc);

/* ---- layouts ------------------------------------------------------------------------------ */

/* A group of W = max(tp, ep) ranks per pipeline stage; the smaller of tp and ep divides the larger;
 * all are powers of two. tp index = rank % tp: where W > tp the attention part is held W / tp
 * times. Experts: moe_tp = max(1, W / ep) ranks share the inner dimension of the same experts; ep
 * index = rank / moe_tp. dp counts such groups and does not change a rank's part. */
typedef struct hdl_layout {
    uint32_t tp, ep, pp, dp; /* each >= 1 */
} hdl_layout;

/* What one rank of a group holds. Ranges are [at, at + n) in the whole model's numbering. */
typedef struct hdl_shard {
    uint32_t rank, n_ranks; /* of the group: W */
    uint32_t tp, tp_idx;
    uint32_t ep, ep_idx;
    uint32_t moe_tp, moe_tp_idx;
    uint32_t head_at, n_heads;
    uint32_t kv_head_at, n_kv_heads; /* replicated where tp exceeds them */
    uint32_t inter_at, inter;
    uint32_t expert_at, n_experts;
    uint32_t moe_inter_at, moe_inter;
    uint32_t vocab_at, vocab; /* rows of lm_head that exist on this rank */
    uint32_t vocab_padded;    /* the same on every rank: ceil(vocab / tp) */
    uint32_t o_leaves, down_leaves,
        moe_down_leaves; /* of the row-parallel matrices, on this rank */
} hdl_shard;

static inline uint32_t hdl_layout_ranks(const hdl_layout *layout)
{
    return layout->tp > layout->ep ? layout->tp : layout->ep;
}

/* HDL_UNSUPPORTED with the reason and the nearest layout that works when the model cannot be cut
 * so (heads, leaves of the numerics contract N2, experts). */
hdl_err hdl_layout_check(const hdl_model_desc *desc, const hdl_layout *layout,
                         hdl_errmsg *why) HDL_MUST_CHECK;
/* The layout must have passed the check and rank < hdl_layout_ranks. */
hdl_shard hdl_shard_of(const hdl_model_desc *desc, const hdl_layout *layout, uint32_t rank);

/* Bytes of a rank: weights as the portable formats store them (backends may pad), and one token's
 * cache over all layers. WFORMAT_COUNT: as the files store them (desc->dtype). */
typedef struct hdl_shard_bytes {
    uint64_t weight_bytes;       /* copied into the device's memory */
    uint64_t mapped_bytes;       /* read in place from the page cache: the embedding */
    uint64_t kv_bytes_per_token; /* on this rank */
} hdl_shard_bytes;
hdl_shard_bytes hdl_shard_count_bytes(const hdl_model_desc *desc, const hdl_shard *shard,
                                      hdl_wformat format);
/* Of the whole model, each KV head once. */
uint64_t hdl_model_kv_bytes_per_token(const hdl_model_desc *desc);
