/* SPDX-License-Identifier: Apache-2.0 */
/* The places that weights go to: one slot per role, its shape in terms of the description, and how
 * ranks share it. Architectures name slots; shard rules are the same for all of them.
 *
 * Pure data and pure functions over a description and a shard; any thread. A slot is not memory:
 * that is a hdl_weight of build.h. */
#pragma once

#include <heddle/model.h>

/* What a dimension of a weight is. NONE as the second one: a vector. */
typedef enum hdl_dim {
    HDL_DIM_NONE,
    HDL_DIM_HIDDEN,
    HDL_DIM_Q,  /* n_heads * head_dim */
    HDL_DIM_KV, /* n_kv_heads * head_dim */
    HDL_DIM_HEAD,
    HDL_DIM_HEADS,  /* n_heads */
    HDL_DIM_Q_GATE, /* 2 * n_heads * head_dim: each head's query, then its gate */
    HDL_DIM_ONE,
    HDL_DIM_INTER,
    HDL_DIM_SHARED, /* shared_inter */
    HDL_DIM_EXPERTS,
    HDL_DIM_MOE_INTER,
    HDL_DIM_VOCAB,
    HDL_DIM_Q_RANK,    /* mla.q_rank */
    HDL_DIM_KV_RANK,   /* mla.kv_rank */
    HDL_DIM_KV_A,      /* mla.kv_rank + mla.rope_dim */
    HDL_DIM_MLA_Q,     /* n_heads * (nope_dim + rope_dim) */
    HDL_DIM_MLA_NOPE,  /* n_heads * nope_dim */
    HDL_DIM_MLA_V,     /* n_heads * v_dim */
    HDL_DIM_GDN_K,     /* gdn.n_k_heads * gdn.k_dim */
    HDL_DIM_GDN_V,     /* gdn.n_v_heads * gdn.v_dim */
    HDL_DIM_GDN_HEADS, /* gdn.n_v_heads */
    HDL_DIM_GDN_HEAD,  /* gdn.v_dim */
    HDL_DIM_GDN_TAPS,  /* gdn.conv */
} hdl_dim;

typedef enum hdl_scope { HDL_SCOPE_MODEL, HDL_SCOPE_LAYER, HDL_SCOPE_EXPERT } hdl_scope;

/* Which layers or models have the slot. */
typedef enum hdl_when {
    HDL_WHEN_ALWAYS,
    HDL_WHEN_UNTIED,
    HDL_WHEN_PRE_NORM,
    HDL_WHEN_POST_NORM,
    HDL_WHEN_ATTENTION, /* the mixer */
    HDL_WHEN_PLAIN_Q,   /* attention without an output gate */
    HDL_WHEN_GATED_Q,   /* ... with one */
    HDL_WHEN_HEAD_NORM,
    HDL_WHEN_PROJ_NORM,
    HDL_WHEN_QKV_BIAS,
    HDL_WHEN_O_BIAS,
    HDL_WHEN_SINKS,
    HDL_WHEN_ATTN_SUB_NORM,
    HDL_WHEN_DENSE,
    HDL_WHEN_DENSE_BIAS,
    HDL_WHEN_FFN_SUB_NORM,
    HDL_WHEN_MOE,
    HDL_WHEN_ROUTER_BIAS,
    HDL_WHEN_CORRECTION,
    HDL_WHEN_EXPERT_BIAS,
    HDL_WHEN_SHARED,
    HDL_WHEN_SHARED_GATE,
    HDL_WHEN_MLA,
    HDL_WHEN_MLA_PLAIN_Q, /* without q_rank */
    HDL_WHEN_MLA_Q_RANK,
    HDL_WHEN_GDN,
} hdl_when;

/* A dimension that is Q, Q_GATE, KV, HEADS, INTER, SHARED, MOE_INTER, MLA_*, GDN_* (but GDN_HEAD,
 * GDN_TAPS) is cut over ranks wherever it appears; VOCAB only in the head; the others are whole on
 * every rank. EMBED is whole: it is read in place. */
/*    slot              scope   rows       columns    when */
// clang-format off
#define HDL_WSLOT_LIST(X)                                                                          \
    X(EMBED,            MODEL,  VOCAB,     HIDDEN,    ALWAYS)                                      \
    X(FINAL_NORM,       MODEL,  HIDDEN,    NONE,      ALWAYS)                                      \
    X(LM_HEAD,          MODEL,  VOCAB,     HIDDEN,    UNTIED)                                      \
    X(ATTN_NORM,        LAYER,  HIDDEN,    NONE,      PRE_NORM)                                    \
    X(Q,                LAYER,  Q,         HIDDEN,    PLAIN_Q)                                     \
    X(Q_GATE,           LAYER,  Q_GATE,    HIDDEN,    GATED_Q)                                     \
    X(K,                LAYER,  KV,        HIDDEN,    ATTENTION)                                   \
    X(V,                LAYER,  KV,        HIDDEN,    ATTENTION)                                   \
    X(O,                LAYER,  HIDDEN,    Q,         ATTENTION)                                   \
    X(Q_BIAS,           LAYER,  Q,         NONE,      QKV_BIAS)                                    \
    X(K_BIAS,           LAYER,  KV,        NONE,      QKV_BIAS)                                    \
    X(V_BIAS,           LAYER,  KV,        NONE,      QKV_BIAS)                                    \
    X(O_BIAS,           LAYER,  HIDDEN,    NONE,      O_BIAS)                                      \
    X(Q_NORM,           LAYER,  HEAD,      NONE,      HEAD_NORM)                                   \
    X(K_NORM,           LAYER,  HEAD,      NONE,      HEAD_NORM)                                   \
    X(Q_PROJ_NORM,      LAYER,  Q,         NONE,      PROJ_NORM)                                   \
    X(K_PROJ_NORM,      LAYER,  KV,        NONE,      PROJ_NORM)                                   \
    X(SINKS,            LAYER,  HEADS,     NONE,      SINKS)                                       \
    X(ATTN_SUB_NORM,    LAYER,  Q,         NONE,      ATTN_SUB_NORM)                               \
    X(ATTN_POST_NORM,   LAYER,  HIDDEN,    NONE,      POST_NORM)                                   \
    X(FFN_NORM,         LAYER,  HIDDEN,    NONE,      PRE_NORM)                                    \
    X(GATE,             LAYER,  INTER,     HIDDEN,    DENSE)                                       \
    X(UP,               LAYER,  INTER,     HIDDEN,    DENSE)                                       \
    X(DOWN,             LAYER,  HIDDEN,    INTER,     DENSE)                                       \
    X(GATE_BIAS,        LAYER,  INTER,     NONE,      DENSE_BIAS)                                  \
    X(UP_BIAS,          LAYER,  INTER,     NONE,      DENSE_BIAS)                                  \
    X(DOWN_BIAS,        LAYER,  HIDDEN,    NONE,      DENSE_BIAS)                                  \
    X(FFN_SUB_NORM,     LAYER,  INTER,     NONE,      FFN_SUB_NORM)                                \
    X(ROUTER,           LAYER,  EXPERTS,   HIDDEN,    MOE)                                         \
    X(ROUTER_BIAS,      LAYER,  EXPERTS,   NONE,      ROUTER_BIAS)                                 \
    X(CORRECTION,       LAYER,  EXPERTS,   NONE,      CORRECTION)                                  \
    X(EXPERT_GATE,      EXPERT, MOE_INTER, HIDDEN,    MOE)                                         \
    X(EXPERT_UP,        EXPERT, MOE_INTER, HIDDEN,    MOE)                                         \
    X(EXPERT_DOWN,      EXPERT, HIDDEN,    MOE_INTER, MOE)                                         \
    X(EXPERT_GATE_BIAS, EXPERT, MOE_INTER, NONE,      EXPERT_BIAS)                                 \
    X(EXPERT_UP_BIAS,   EXPERT, MOE_INTER, NONE,      EXPERT_BIAS)                                 \
    X(EXPERT_DOWN_BIAS, EXPERT, HIDDEN,    NONE,      EXPERT_BIAS)                                 \
    X(SHARED_GATE,      LAYER,  SHARED,    HIDDEN,    SHARED)                                      \
    X(SHARED_UP,        LAYER,  SHARED,    HIDDEN,    SHARED)                                      \
    X(SHARED_DOWN,      LAYER,  HIDDEN,    SHARED,    SHARED)                                      \
    X(SHARED_ON,        LAYER,  ONE,       HIDDEN,    SHARED_GATE)                                 \
    X(FFN_POST_NORM,    LAYER,  HIDDEN,    NONE,      POST_NORM)                                   \
    X(MLA_Q,            LAYER,  MLA_Q,     HIDDEN,    MLA_PLAIN_Q)                                 \
    X(MLA_Q_A,          LAYER,  Q_RANK,    HIDDEN,    MLA_Q_RANK)                                  \
    X(MLA_Q_A_NORM,     LAYER,  Q_RANK,    NONE,      MLA_Q_RANK)                                  \
    X(MLA_Q_B,          LAYER,  MLA_Q,     Q_RANK,    MLA_Q_RANK)                                  \
    X(MLA_KV_A,         LAYER,  KV_A,      HIDDEN,    MLA)                                         \
    X(MLA_KV_A_NORM,    LAYER,  KV_RANK,   NONE,      MLA)                                         \
    X(MLA_K_B,          LAYER,  MLA_NOPE,  KV_RANK,   MLA)                                         \
    X(MLA_V_B,          LAYER,  MLA_V,     KV_RANK,   MLA)                                         \
    X(MLA_O,            LAYER,  HIDDEN,    MLA_V,     MLA)                                         \
    X(GDN_Q,            LAYER,  GDN_K,     HIDDEN,    GDN)                                         \
    X(GDN_K,            LAYER,  GDN_K,     HIDDEN,    GDN)                                         \
    X(GDN_V,            LAYER,  GDN_V,     HIDDEN,    GDN)                                         \
    X(GDN_Z,            LAYER,  GDN_V,     HIDDEN,    GDN)                                         \
    X(GDN_B,            LAYER,  GDN_HEADS, HIDDEN,    GDN)                                         \
    X(GDN_A,            LAYER,  GDN_HEADS, HIDDEN,    GDN)                                         \
    X(GDN_CONV_Q,       LAYER,  GDN_K,     GDN_TAPS,  GDN)                                         \
    X(GDN_CONV_K,       LAYER,  GDN_K,     GDN_TAPS,  GDN)                                         \
    X(GDN_CONV_V,       LAYER,  GDN_V,     GDN_TAPS,  GDN)                                         \
    X(GDN_A_LOG,        LAYER,  GDN_HEADS, NONE,      GDN)                                         \
    X(GDN_DT_BIAS,      LAYER,  GDN_HEADS, NONE,      GDN)                                         \
    X(GDN_NORM,         LAYER,  GDN_HEAD,  NONE,      GDN)                                         \
    X(GDN_OUT,          LAYER,  HIDDEN,    GDN_V,     GDN)
// clang-format on

#define HDL_WSLOT_ENUM(name, scope, rows, cols, when) HDL_WSLOT_##name,
typedef enum hdl_wslot { HDL_WSLOT_LIST(HDL_WSLOT_ENUM) HDL_WSLOT_COUNT } hdl_wslot;
#undef HDL_WSLOT_ENUM

typedef struct hdl_slot_info {
    const char *name;
    hdl_scope scope;
    hdl_dim rows, cols;
    hdl_when when;
} hdl_slot_info;

/* A slot of one layer and expert (of a model's slot: of none). */
typedef struct hdl_weight_at {
    hdl_wslot slot;
    uint32_t layer, expert;
} hdl_weight_at;

/* How the matrix of a slot is held. Whoever knows the files answers; called twice for each slot
 * while a model is laid out. leaf_k: inputs of one leaf, whose boundaries no group may cross. */
typedef struct hdl_wkinds hdl_wkinds;
struct hdl_wkinds {
    hdl_err (*of)(const hdl_wkinds *kinds, hdl_weight_at at, uint32_t leaf_k, hdl_wkind *out,
                  hdl_errmsg *why);
};

const hdl_slot_info *hdl_slot_info_of(hdl_wslot slot);

/* Size of a dimension in the whole model; 1 for NONE. */
uint32_t hdl_dim_size(const hdl_model_desc *desc, hdl_dim dim);

/* Is this the mixer of some layer? */
bool hdl_desc_has_mixer(const hdl_model_desc *desc, hdl_mixer_kind mixer);
/* Inputs of o_proj, whatever the kind of attention. */
uint32_t hdl_desc_attn_width(const hdl_model_desc *desc);

/* Does layer `layer` (ignored for MODEL slots) have the slot? */
bool hdl_slot_used(const hdl_model_desc *desc, hdl_wslot slot, uint32_t layer);

/* The part of a slot's tensor that a rank reads: rows [row_at, row_at + n_rows) and columns
 * likewise, in the file's numbering. Experts that the rank does not hold are not asked for. */
typedef struct hdl_slice {
    uint32_t row_at, n_rows, col_at, n_cols;
} hdl_slice;
/* Inputs of one leaf of a matrix (N2): all of them where no rank shares them. */
uint32_t hdl_slot_leaf_k(const hdl_model_desc *desc, hdl_wslot slot);
hdl_slice hdl_slot_slice(const hdl_model_desc *desc, const hdl_shard *shard, hdl_wslot slot);
/* head_bytes and screen_bytes of a rank whose rows of lm_head are these. */
void hdl_shard_count_head(hdl_shard_bytes *to, const hdl_shard *shard, hdl_slice head,
                          hdl_wformat format);
