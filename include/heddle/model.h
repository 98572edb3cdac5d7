/* SPDX-License-Identifier: Apache-2.0 */
/* What a model is, and which part of it a rank holds: plain data, read from config.json by the
 * architecture tables in worker/model. Shared by the worker (which runs it), the command line
 * (`heddle inspect`) and the scheduler's shell (cache cost, longest sequence).
 *
 * A description is a POD without pointers; it is made once, cold, and never changes. Everything
 * here is pure: any thread. It is not the weights: those are a hdl_model of worker/model/build.h.
 */
#pragma once

#include <heddle/cache.h>
#include <heddle/err.h>
#include <heddle/limits.h>
#include <heddle/ops.h>

enum {
    HDL_LAYERS_MAX = 256,
    HDL_EOS_IDS_MAX = 8,
    HDL_MODEL_NAME_BYTES = 64,
};

/* ---- the description ---------------------------------------------------------------------- */

/* What mixes tokens, and what follows it. New mechanisms extend the lists. */
typedef enum hdl_mixer_kind {
    HDL_MIXER_ATTENTION, /* grouped-query attention over K and V pages */
    HDL_MIXER_MLA, /* multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1) */
    HDL_MIXER_GDN, /* Gated DeltaNet (arXiv 2412.06464) */
} hdl_mixer_kind;
typedef enum hdl_ffn_kind { HDL_FFN_DENSE, HDL_FFN_MOE } hdl_ffn_kind;

enum { HDL_ROPES_MAX = 2, HDL_ROPE_NONE = 255 };

/* Slots of worker/model/slots.h as bits, one set for each scheme of quantisation. */
enum { HDL_QUANT_SCHEMES_MAX = 4, HDL_SLOTS_MAX = 128 };
typedef struct hdl_slot_set {
    uint64_t bits[HDL_SLOTS_MAX / 64];
} hdl_slot_set;

typedef struct hdl_layer_desc {
    uint8_t mixer;        /* hdl_mixer_kind */
    uint8_t ffn;          /* hdl_ffn_kind */
    uint8_t cache_group;  /* index in hdl_model_desc.cache_groups */
    uint8_t rope;         /* index in hdl_model_desc.ropes; HDL_ROPE_NONE: not rotated (NoPE) */
    bool q_temp;          /* queries are scaled by position (hdl_model_desc.q_temp) */
    uint16_t cache_layer; /* this layer's index inside that group */
    uint32_t window;      /* positions seen by attention, own included; 0: all */
    uint32_t chunk; /* only positions of the own chunk of so many are seen; 0: all (Llama 4) */
    hdl_slot_set quantised[HDL_QUANT_SCHEMES_MAX]; /* what config.json says of this layer's slots */
} hdl_layer_desc;

/* How the checkpoint stores its matrices (quantization_config). What the files hold decides when
 * they are there; schemes and sets say what to expect of a folder that has config.json alone. */
typedef enum hdl_quant_method {
    HDL_QUANT_NONE,
    HDL_QUANT_FP8,        /* E4M3 with scales of blocks, or of tensors */
    HDL_QUANT_MXFP4,      /* as gpt-oss ships */
    HDL_QUANT_COMPRESSED, /* compressed-tensors, by the format of each module */
    HDL_QUANT_MODELOPT,   /* FP8 or NVFP4 */
    HDL_QUANT_AWQ,
    HDL_QUANT_GPTQ,
    HDL_QUANT_BITNET,
} hdl_quant_method;
typedef struct hdl_quant_scheme {
    hdl_enc encoding;
    uint32_t scale_rows, scale_cols; /* extent of a scale; 0: all */
    hdl_wformat format;              /* that keeps its values, in leaves of 128 inputs */
} hdl_quant_scheme;
typedef struct hdl_quant_desc {
    hdl_quant_method method;
    uint32_t n_schemes;
    hdl_quant_scheme schemes[HDL_QUANT_SCHEMES_MAX];
    hdl_slot_set quantised[HDL_QUANT_SCHEMES_MAX]; /* of the model's slots */
    int32_t zero_add;                              /* GPTQ: zero points are stored less this */
    bool scale_divides;                            /* BitNet: w = code / weight_scale */
    bool int8_inputs; /* ... whose layers see activations as int8, one step for a token */
} hdl_quant_desc;

/* Per-sequence memory of one layout and one rule of life, shared by some of the layers. All groups
 * count in the same tokens and the same block_tokens. */
typedef struct hdl_cache_group {
    hdl_cache_rule rule;
    uint32_t n_layers;
    uint32_t n_heads; /* of the whole model, shared by the tp ranks as KV heads are; LATENT: 1,
                         which every rank has */
    uint32_t k_dim;   /* values of a head's k (bf16); LATENT: of a row; STATE: of a head's state
                         (f32), convolution included */
    uint32_t v_dim;   /* values of a head's v; 0: no v is stored */
    hdl_kv_type type; /* of pages and of latent rows; the latter are not INT8 */
    uint32_t block_tokens;
} hdl_cache_group;

/* Heads of the group on each of tp ranks. */
uint32_t hdl_cache_rank_heads(const hdl_cache_group *group, uint32_t tp);
/* Bytes of a block (of a state) in one layer, with so many heads. */
uint64_t hdl_cache_block_bytes(const hdl_cache_group *group, uint32_t n_heads,
                               uint32_t block_tokens);

typedef enum hdl_rope_kind {
    HDL_ROPE_PLAIN,
    HDL_ROPE_LINEAR,
    HDL_ROPE_LLAMA3,
    HDL_ROPE_YARN,    /* arXiv 2309.00071; HF: _compute_yarn_parameters */
    HDL_ROPE_LONGROPE /* arXiv 2402.13753; HF: _compute_longrope_parameters */
} hdl_rope_kind;
enum { HDL_LONGROPE_MAX = 128 };
typedef struct hdl_rope {
    hdl_rope_kind kind;
    bool interleaved; /* pairs (2i, 2i + 1) instead of (i, i + dim / 2) */
    uint32_t dim;     /* rotated values of a head, even, <= head_dim; the first ones */
    double partial;   /* the share of head_dim that config.json makes dim of; 0: all of it */
    double theta;
    double factor;               /* LINEAR, LLAMA3, YARN, LONGROPE */
    double low_freq_factor;      /* LLAMA3 */
    double high_freq_factor;     /* LLAMA3 */
    uint32_t original_max_len;   /* LLAMA3, YARN, LONGROPE */
    double beta_fast, beta_slow; /* YARN */
    bool truncate;               /* YARN: the correction range is rounded to whole dimensions */
    double attn_factor;          /* YARN, LONGROPE: multiplies cos and sin; 0: 1 */
    /* LONGROPE: divisors of the frequencies. Which of them holds is decided once for a running
     * model, by the longest sequence that it serves (rope.h), never by a sequence's length. */
    float long_factors[HDL_LONGROPE_MAX], short_factors[HDL_LONGROPE_MAX];
    uint32_t n_factors; /* dim / 2 */
} hdl_rope;

/* Scale of a query at position p: 1 + beta * ln(1 + floor((p + offset) / floor_scale)). Llama 4's
 * NoPE layers (HF: Llama4TextAttention, attn_temperature_tuning; offset 1); Ministral 3's
 * llama_4_scaling_beta (offset 0). */
typedef struct hdl_q_temp {
    double beta, floor_scale, offset;
} hdl_q_temp;

/* Multi-head latent attention. */
typedef struct hdl_mla_desc {
    uint32_t q_rank; /* 0: queries are projected directly */
    uint32_t kv_rank, nope_dim, rope_dim, v_dim;
    float norm_eps; /* of the norms of both latents */
} hdl_mla_desc;

/* Gated DeltaNet. */
typedef struct hdl_gdn_desc {
    uint32_t n_k_heads, n_v_heads, k_dim, v_dim; /* n_k_heads divides n_v_heads */
    uint32_t conv;                               /* taps of the causal convolution */
} hdl_gdn_desc;

/* A tower of images around the text model: its parameters, and the width of what it says, which a
 * matrix of out_dim x hidden brings to the text model. 0: none, or of unknown size. */
typedef struct hdl_tower {
    uint64_t n_params;
    uint32_t out_dim;
} hdl_tower;

typedef struct hdl_model_desc {
    char arch[HDL_MODEL_NAME_BYTES];  /* "Qwen3MoeForCausalLM": the name in config.json */
    char inner[HDL_MODEL_NAME_BYTES]; /* model_type of the text model where several may be inside */
    uint32_t n_layers, hidden, n_heads, n_kv_heads, head_dim;
    uint32_t inter;                      /* of dense layers; 0 when there are none */
    uint32_t n_experts, topk, moe_inter; /* 0 when no layer is a mixture */
    uint32_t vocab, max_len;
    float norm_eps;
    float attn_scale; /* multiplies q.k */
    hdl_qk_norm qk_norm;
    bool qkv_bias, o_bias, ffn_bias;
    bool attn_sinks;     /* a learned logit per head in the softmax's sum (gpt-oss) */
    bool attn_gate;      /* q_proj also gives a gate per head: attention * sigmoid(gate) */
    float attn_softcap;  /* scores = cap * tanh(scores / cap); 0: none (Gemma 2) */
    float logit_softcap; /* the same on the logits; 0: none */
    float embed_scale;   /* multiplies embeddings; 0: none (Gemma) */
    bool norm_plus_one;  /* norms are stored as w - 1 (Gemma, Qwen3-Next); not the gated one */
    bool pre_norm;       /* of the inputs of both blocks */
    bool post_norm;      /* of the outputs of both blocks, before they join the residual stream */
    bool sub_norm;       /* before o_proj and down_proj (BitNet) */
    hdl_glu_kind glu;
    float glu_limit, glu_alpha; /* of OAI */
    bool tied;                  /* lm_head is the embedding */
    hdl_router_desc router;
    uint32_t shared_inter;  /* inner dimension of the expert that sees every token; 0: none */
    bool shared_gate;       /* ... times sigmoid(gate . x) (Qwen2-MoE) */
    bool expert_bias;       /* gpt-oss */
    bool router_bias;       /* added to the router's logits (gpt-oss) */
    bool router_correction; /* a score correction that only selects (DeepSeek-V3) */
    bool router_on_input;   /* the weight multiplies the expert's input (Llama 4) */
    hdl_q_temp q_temp;
    hdl_mla_desc mla;
    hdl_gdn_desc gdn;
    uint32_t n_ropes;
    hdl_rope ropes[HDL_ROPES_MAX];
    hdl_dtype dtype; /* element type that config.json declares for the weights */
    hdl_quant_desc quant;
    uint32_t bos_id; /* HDL_NONE_U32: none */
    uint32_t n_eos_ids;
    uint32_t eos_ids[HDL_EOS_IDS_MAX];
    uint32_t n_mtp_layers; /* of the files behind the last: predict further tokens, are not run */
    bool mtp_vocab;        /* each of them has its own embedding and head */
    hdl_tower tower;       /* in the same files; is not run */
    uint32_t n_cache_groups;
    hdl_cache_group cache_groups[HDL_CACHE_GROUPS_MAX];
    hdl_layer_desc layers[HDL_LAYERS_MAX];
} hdl_model_desc;

/* Puts the layers into groups: what is alike in mixer, window and chunk shares one. Fills
 * n_cache_groups, cache_groups and each layer's place; called once the layers are described.
 * UNSUPPORTED when the model needs more than HDL_CACHE_GROUPS_MAX. */
hdl_err hdl_cache_groups_make(hdl_model_desc *desc, hdl_errmsg *why) HDL_MUST_CHECK;
/* All pages, with FP8 latent rows too, are kept so from now on. HDL_UNSUPPORTED, with the reason,
 * when the type has nothing to act on: states stay as they are, and INT8 knows no latent rows. */
hdl_err hdl_cache_groups_keep(hdl_model_desc *desc, hdl_kv_type type,
                              hdl_errmsg *why) HDL_MUST_CHECK;

/* Reads the text of a config.json. UNSUPPORTED with the reason for an architecture or a key that
 * would change the mathematics, INVALID for a value that cannot be. */
hdl_err hdl_model_desc_parse(hdl_model_desc *out, const char *json, size_t len,
                             hdl_errmsg *why) HDL_MUST_CHECK;
/* The same from a model folder. */
hdl_err hdl_model_desc_load(hdl_model_desc *out, const char *model_path,
                            hdl_errmsg *why) HDL_MUST_CHECK;

/* Parameters: all of them, and those that one token uses (topk experts of n_experts). A tied head
 * counts once. Publishers differ on the embedding, of which a token uses one row: embedding is what
 * it adds to both counts, 0 where it is the head too. Some leave out the head as well. published:
 * all of the files, with the layers that predict further tokens and the tower of images where the
 * architecture's table says its size (Llama 4, Gemma 3). */
typedef struct hdl_model_params {
    uint64_t total, active, embedding, head, published;
    uint64_t vocabularies; /* of published: all embeddings and heads */
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
    uint32_t inter_at, inter;        /* 0 also where tp exceeds the leaves and others hold them */
    uint32_t expert_at, n_experts;
    uint32_t shared_at, shared; /* of the shared expert: cut over tp as inter is */
    uint32_t moe_inter_at, moe_inter;
    uint32_t vocab_at, vocab; /* rows of lm_head that exist on this rank */
    uint32_t vocab_padded;    /* the same on every rank: ceil(vocab / tp) */
    /* Of the row-parallel matrices, and of k's projection norm, on this rank. */
    uint32_t o_leaves, down_leaves, shared_leaves, moe_down_leaves, kv_leaves;
    uint32_t gdn_k_heads, gdn_v_heads, gdn_leaves; /* of Gated DeltaNet; cut over tp as heads are */
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
 * cache over all layers. WFORMAT_COUNT: as config.json says that the files store them. */
typedef struct hdl_shard_bytes {
    uint64_t weight_bytes;       /* copied into the device's memory */
    uint64_t mapped_bytes;       /* read in place from the page cache: the embedding */
    uint64_t kv_bytes_per_token; /* on this rank, in groups that keep every position */
    uint64_t kv_bytes_fixed;     /* of a long sequence besides: windows and states */
    uint64_t head_bytes;         /* of the weights: a head of floats; 0: it has none here */
    uint64_t screen_bytes;       /* not of them: that head's copy in q8, if it is made */
} hdl_shard_bytes;
/* screen_bytes where a CPU makes the copy, else 0; choice: hdl_head_screen (config.h). */
uint64_t hdl_shard_screen_bytes(const hdl_shard_bytes *bytes, int choice);
hdl_shard_bytes hdl_shard_count_bytes(const hdl_model_desc *desc, const hdl_shard *shard,
                                      hdl_wformat format);
/* The same of files that are there: every tensor's own type, held as it is or as --weights asks.
 * HDL_NOTFOUND: there are no weights beside the description. */
typedef struct hdl_model_count {
    const char *model_path;
    const hdl_model_desc *desc;
    hdl_layout layout;  /* has passed the check */
    hdl_wformat format; /* COUNT: auto */
} hdl_model_count;
typedef struct hdl_model_stored {
    uint64_t encoding_bytes[HDL_ENC_COUNT]; /* in the files, of tensors that the model uses */
    hdl_shard_bytes ranks[HDL_RANKS_MAX];
} hdl_model_stored;
hdl_err hdl_model_count_stored(hdl_model_stored *out, const hdl_model_count *ask,
                               hdl_errmsg *why) HDL_MUST_CHECK;

/* Of the whole model, each KV head once. */
uint64_t hdl_model_kv_bytes_per_token(const hdl_model_desc *desc);
uint64_t hdl_model_kv_bytes_fixed(const hdl_model_desc *desc);
