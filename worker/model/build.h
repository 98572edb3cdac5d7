/* SPDX-License-Identifier: Apache-2.0 */
/* A model that can run on this rank: packed weights, norm vectors and rotary tables in one block of
 * device memory, laid out from a description and a shard.
 *
 * hdl_model_build takes the memory and sets every pointer; worker/load/place.c then fills it; after
 * that the model is constant. What the backend cannot do (format, shape) is found here, never at a
 * step. Owner: the worker, on its step thread. */
#pragma once

#include "worker/model/slots.h"
#include <heddle/config.h>
#include <heddle/device.h>

/* Multi-head latent attention, absorbed: a head's part of kv_b_proj is applied to its query (k_b,
 * transposed) and to its result (v_b), so that keys and values are never made. */
typedef struct hdl_mla_layer {
    hdl_weight a;     /* [q rows + kv_rank + rope_dim, hidden]: q_a, or all of q without q_rank */
    hdl_weight q_b;   /* [n_heads (nope_dim + rope_dim), q_rank], with q_rank */
    hdl_weight *k_b;  /* [n_heads] each [kv_rank, nope_dim] */
    hdl_weight *v_b;  /* [n_heads] each [v_dim, kv_rank] */
    float *q_a_norm;  /* [q_rank] */
    float *kv_a_norm; /* [kv_rank] */
} hdl_mla_layer;

/* Gated DeltaNet. */
typedef struct hdl_gdn_layer {
    hdl_weight in; /* [2 n_k_heads k_dim + 2 n_v_heads v_dim, hidden]: q, k, v, z rows */
    hdl_weight ba; /* [2 n_v_heads, hidden]: b, then a rows; F32, because decays multiply */
    float *conv;   /* [taps, channels]: q, k, v */
    float *a_log, *dt_bias; /* [n_v_heads] */
    float *norm;            /* [v_dim] */
} hdl_gdn_layer;

/* Vectors are f32 and NULL where the layer has none. */
typedef struct hdl_layer {
    float *attn_norm, *attn_post_norm, *ffn_norm, *ffn_post_norm; /* [hidden] */
    float *q_norm,
        *k_norm;          /* [head_dim]; of a projection norm [n_heads head_dim], [n_kv_heads ..] */
    float *qkv_bias;      /* [rows of qkv] */
    float *o_bias;        /* [hidden] */
    float *sinks;         /* [n_heads] */
    float *attn_sub_norm; /* [n_heads head_dim] */
    hdl_weight qkv; /* [(n_heads + 2 n_kv_heads) head_dim, hidden]: q, k, v rows; with an output
                       gate n_heads counts twice: a head's query, then its gate */
    hdl_weight o;   /* [hidden, n_heads head_dim]; of MLA n_heads v_dim, of GDN n_v_heads v_dim */
    hdl_mla_layer mla;
    hdl_gdn_layer gdn;
    hdl_weight gate_up;              /* [2 inter, hidden]: gate rows, then up rows; dense layers */
    hdl_weight down;                 /* [hidden, inter] */
    float *gate_up_bias, *down_bias; /* [2 inter], [hidden] */
    float *ffn_sub_norm;             /* [inter] */
    hdl_weight router;               /* [n_experts of the model, hidden]; mixture layers */
    float *router_bias, *correction; /* [n_experts of the model] */
    hdl_weight *expert_gate_up;      /* [n_experts of the rank], each as gate_up */
    hdl_weight *expert_down;
    float *expert_gate_up_bias,
        *expert_down_bias;                  /* [n_experts of the rank, 2 moe_inter], [.., hidden] */
    hdl_weight shared_gate_up, shared_down; /* as gate_up and down, of the shared expert */
    hdl_weight shared_on;                   /* [1, hidden] its gate; F32 */
} hdl_layer;

typedef struct hdl_model {
    const hdl_model_desc *desc; /* borrowed: the worker's */
    hdl_shard shard;
    const hdl_ops *ops;
    hdl_wformat format; /* of most bytes of the matrices */
    uint32_t max_len;   /* rows of the rotary tables */
    hdl_source embed;   /* [vocab, hidden] in the mapped file, or embed_memory; by the loader */
    float *final_norm;  /* [hidden] */
    hdl_weight lm_head; /* [vocab_padded, hidden]; rows past the vocabulary are zero */
    hdl_weight head_q8; /* the same as Q8, for op linear_screened; n 0: there is none */
    hdl_screen_norms head_norms;
    float *rope_cos[HDL_ROPES_MAX], *rope_sin[HDL_ROPES_MAX]; /* [max_len, ropes[i].dim / 2] */
    float *q_temp;                                            /* [max_len] or NULL */
    hdl_layer *layers;                                        /* [n_layers] owned, heap */
    hdl_weight *experts; /* owned, heap: what layers[].expert_* point into */
    hdl_weight *heads;   /* owned, heap: what layers[].mla.k_b and v_b point into */
    hdl_weight *more;    /* owned, heap: later parts of stacked matrices */
    hdl_device *device;  /* borrowed */
    void *memory;        /* owned, of the device */
    void *embed_memory;  /* owned, of the device; NULL: it reads the mapped file */
    size_t embed_bytes;
    size_t memory_bytes;
    size_t weight_bytes; /* at its beginning: what the files fill */
} hdl_model;

/* What a device with memory of its own has, and what must fit beside the weights. The sum is
 * checked before any of it is taken. */
typedef struct hdl_budget {
    uint64_t free; /* bytes; 0: nobody knows, nothing is checked */
    uint64_t activations;
    uint64_t cache; /* as asked for, or the least with which a sequence runs */
} hdl_budget;

typedef struct hdl_model_opts {
    const hdl_model_desc *desc; /* borrowed: until hdl_model_free */
    hdl_shard shard;
    hdl_device *device;
    const hdl_wkinds *kinds; /* borrowed for the call */
    uint32_t max_len;
    hdl_head_screen head_screen;
    hdl_budget budget;
} hdl_model_opts;

hdl_err hdl_model_build(hdl_model *out, const hdl_model_opts *opts, hdl_errmsg *why) HDL_MUST_CHECK;
void hdl_model_free(hdl_model *model);

/* Largest values that ops will meet, for scratch. */
hdl_ops_extent hdl_model_extent(const hdl_model_desc *desc, const hdl_shard *shard,
                                uint32_t n_tokens, uint32_t max_len);
