/* SPDX-License-Identifier: Apache-2.0 */
/* One forward pass over the tokens of a step, and the logits of those rows that want them.
 *
 * Blocks (block_*.c) read the residual stream x, write into it, and make the collective calls that
 * their layout needs: every rank of the group runs the same blocks in the same order, so the calls
 * match. Buffers are taken once for the largest step. Owner: the step thread. Numerics: DESIGN 6;
 * the residual and all activations are f32. */
#pragma once

#include <heddle/coll.h>

#include "worker/carve.h"
#include "worker/kvstore.h"
#include "worker/model/build.h"

/* Communicators of a rank; a part of one rank is a communicator too. Borrowed: of the epoch. */
typedef struct hdl_groups {
    hdl_coll *world;  /* all ranks of the group */
    hdl_coll *tp;     /* ranks that share heads, dense layers and the vocabulary */
    hdl_coll *moe_tp; /* ranks that share the inner dimension of the same experts */
    hdl_coll *ep;     /* ranks that hold different experts */
    /* The same ranks, for what lies on their devices; NULL: the hosts' carry that too. */
    const hdl_plugin_colls *colls;
    hdl_plugin_coll *dev_world, *dev_tp, *dev_moe_tp, *dev_ep;
} hdl_groups;

/* The tokens of one step as the blocks see them; made by batch.c. */
typedef struct hdl_tokens {
    const hdl_token *ids; /* [n_tokens] */
    uint32_t n_tokens, n_rows;
    uint32_t row_least; /* tokens of the shortest row; 0: not known */
    uint64_t n_keys;    /* pos + n_tokens of all rows together */
    /* [n_rows] for each cache group: the same tokens, that group's tables. */
    const hdl_attn_row *rows[HDL_CACHE_GROUPS_MAX];
    const uint32_t *n_live; /* [1] of the device: tokens from here on are padding; NULL: none is */
} hdl_tokens;

typedef struct hdl_forward {
    const hdl_model *model; /* borrowed */
    hdl_kvstore *kv;        /* borrowed */
    hdl_stream *stream;     /* borrowed */
    hdl_device *device;     /* borrowed */
    hdl_groups groups;      /* set at each epoch */
    uint32_t n_tokens_max, n_logits_max;
    bool fast;    /* numerics: fast, on a device */
    void *memory; /* owned, of the device: the buffers below */
    size_t memory_bytes;
    float *x;        /* [n_tokens_max, hidden] residual stream */
    float *h;        /* [n_tokens_max, hidden] normed, then a block's output */
    float *qkv;      /* [n_tokens_max, rows of qkv: (n_heads + 2 n_kv_heads) head_dim, gates] */
    float *q;        /* [n_tokens_max, n_heads head_dim]; of Gated DeltaNet q, k, v behind the
                        convolution */
    float *attn;     /* [n_tokens_max, n_heads head_dim] */
    float *q_latent; /* [n_tokens_max, n_heads, kv_rank + rope_dim] */
    float *latent;   /* [n_tokens_max, n_heads, kv_rank] */
    float *ba;       /* [n_tokens_max, 2 n_v_heads] of Gated DeltaNet */
    float *sumsq;    /* [n_tokens_max, 2] of norms over what ranks share */
    float *absmax;   /* [tp, n_tokens_max] of activations that become int8 */
    float *step;     /* [n_tokens_max] their steps */
    float *gate_up;  /* [n_tokens_max, 2 inter], of a dense layer or the shared expert */
    float *act;      /* [n_tokens_max, inter] */
    float *shared;   /* [n_tokens_max, hidden] output of the shared expert */
    float *on;       /* [n_tokens_max] its gate */
    float *router;   /* [n_tokens_max, n_experts] */
    float *weights;  /* [n_tokens_max, topk] */
    uint32_t *ids;   /* [n_tokens_max, topk] */
    float *ye;       /* [n_tokens_max, topk, hidden] */
    float *last;     /* [n_logits_max, hidden] rows that want logits, normed */
    float *part;     /* [n_logits_max, vocab_padded] this rank's logits */
    /* Where devices merge: all ranks' parts; rank 0: [n_logits_max, vocab], and which row of the
     * parts is which piece of it. */
    float *parts, *whole;
    hdl_token *merge_ids;
    /* Of the host; where the device's memory is the host's, part_host is part. */
    void *pinned; /* owned: those below that are not in memory */
    size_t pinned_bytes;
    float *part_host; /* part, for the host */
    float *gathered;  /* [tp, n_logits_max, vocab_padded] rank 0 with tp > 1 */
    float *logits;    /* [n_logits_max, vocab] rank 0 */
    /* Of the head's screen: tokens, logits that they wanted, tiles computed for them. */
    uint64_t n_screened, n_kept, n_screened_tiles;
    float *bounce; /* [HDL_BOUNCE_FLOATS] on its way through the host; NULL: no need */
} hdl_forward;

enum { HDL_BOUNCE_FLOATS = 1 << 20 };

typedef struct hdl_forward_opts {
    const hdl_model *model;
    hdl_kvstore *kv;
    hdl_device *device;
    uint32_t n_tokens_max;
    uint32_t n_logits_max; /* rows of one hdl_forward_logits */
    bool fast;
} hdl_forward_opts;

hdl_err hdl_forward_open(hdl_forward *out, const hdl_forward_opts *opts,
                         hdl_errmsg *why) HDL_MUST_CHECK;
/* Of the device, that open will take; of the model only desc and shard are looked at. SIZE_MAX:
 * more than can be. */
size_t hdl_forward_bytes(const hdl_forward_opts *opts);
void hdl_forward_close(hdl_forward *f);

/* Embeds, runs all layers; leaves the residual stream in f->x. */
hdl_err hdl_forward_run(hdl_forward *f, const hdl_tokens *tokens) HDL_MUST_CHECK;

/* Logits of n <= n_logits_max tokens of the step; on rank 0 of the group they are in f->logits
 * [n, vocab], elsewhere they are not kept. All ranks call with the same tokens. With keep those
 * alone that can be among a token's keep[i] largest, others HDL_SCREENED: only where
 * hdl_forward_screens. */
typedef struct hdl_forward_ask {
    const uint32_t *token_idx; /* [n] in the step */
    const uint32_t *keep;      /* [n] 1..HDL_SCREEN_KEEP_MAX, or NULL: all logits */
    uint32_t n;
} hdl_forward_ask;
hdl_err hdl_forward_logits(hdl_forward *f, const hdl_forward_ask *ask) HDL_MUST_CHECK;
/* Does the model have a screen of its head, and does it pay for these tokens? Logits that matter
 * are the same either way. */
bool hdl_forward_screens(const hdl_forward *f, const hdl_forward_ask *ask);

/* The same where the device samples: of n tokens whose numbers lie on the device, or (heads NULL)
 * of tokens `at` and on. What it launches depends on n and at alone. *logits: [n, vocab] there, on
 * rank 0. Several ranks need collectives between devices. */
typedef struct hdl_forward_heads {
    const hdl_token *heads; /* [n] */
    uint32_t at, n;
} hdl_forward_heads;
hdl_err hdl_forward_logits_there(hdl_forward *f, const hdl_forward_heads *heads,
                                 const float **logits) HDL_MUST_CHECK;
/* Of open: the memory in which ranks' parts of logits come together on devices. */
void hdl_forward_place_merge(hdl_forward *f, hdl_carve *c);
hdl_err hdl_forward_fill_merge(hdl_forward *f, hdl_errmsg *why) HDL_MUST_CHECK;

/* Blocks. Each adds its output to f->x. */
hdl_err hdl_block_attention(hdl_forward *f, const hdl_tokens *t, uint32_t layer) HDL_MUST_CHECK;
hdl_err hdl_block_mla(hdl_forward *f, const hdl_tokens *t, uint32_t layer) HDL_MUST_CHECK;
hdl_err hdl_block_gdn(hdl_forward *f, const hdl_tokens *t, uint32_t layer) HDL_MUST_CHECK;
hdl_err hdl_block_dense(hdl_forward *f, const hdl_tokens *t, uint32_t layer) HDL_MUST_CHECK;
hdl_err hdl_block_moe(hdl_forward *f, const hdl_tokens *t, uint32_t layer) HDL_MUST_CHECK;

/* Helpers of the blocks. */
typedef struct hdl_forward_io {
    const float *in;
    float *out;
    uint32_t n_tokens;
    const float *bias; /* of hdl_forward_linear; NULL: none */
    bool ints;         /* in holds integers, to be taken as they are */
} hdl_forward_io;

static inline void hdl_forward_linear(const hdl_forward *f, const hdl_weight *w, hdl_forward_io io)
{
    hdl_linear_args args = {.x = io.in,
                            .x_stride = w->k,
                            .w = w,
                            .bias = io.bias,
                            .y = io.out,
                            .y_stride = w->n,
                            .n_tokens = io.n_tokens,
                            .x_ints = io.ints};
    f->model->ops->linear(&args, f->stream);
}

/* Where the quantisation has int8 activations (BitNet), each of these does its part of them; else
 * they do nothing more than their names say. */
static inline bool hdl_forward_ints(const hdl_forward *f)
{
    return f->model->desc->quant.int8_inputs;
}
/* Outputs of in, which every rank has whole: of what ranks share by columns. out is not in. */
hdl_err hdl_forward_project(hdl_forward *f, const hdl_weight *w, hdl_forward_io io) HDL_MUST_CHECK;
/* This rank's share in h of outputs of in, [n_tokens, w->k], of which every rank has a part; what
 * is in it is lost. */
hdl_err hdl_forward_share(hdl_forward *f, const hdl_weight *w, float *in,
                          uint32_t n_tokens) HDL_MUST_CHECK;
/* The sum of all shares, in h. */
hdl_err hdl_forward_reduce(hdl_forward *f, uint32_t n_tokens) HDL_MUST_CHECK;

/* Of a vector that the tp ranks share: in place, `whole` values on all ranks together. Of its dim
 * values a rank adds those in [own_at, own_at + own) to the sum, n_leaves of it: all of them,
 * unless other ranks hold the same ones. One collective call of one float a token. */
typedef struct hdl_shared_norm {
    float *x;
    const float *w;
    size_t stride;
    uint32_t dim, own_at, own, whole, n_leaves, n_tokens;
} hdl_shared_norm;
hdl_err hdl_forward_shared_norm(hdl_forward *f, hdl_shared_norm norm) HDL_MUST_CHECK;

/* What a rank adds that holds no leaf of a sum: nothing. */
hdl_err hdl_forward_idle(hdl_forward *f, float *out, size_t n) HDL_MUST_CHECK;

/* As hdl_coll_all_reduce and _all_gather (n values of each rank; the caller's stand in their place
 * in out), of numbers that lie where the pass has them. */
hdl_err hdl_forward_all_reduce(hdl_forward *f, hdl_coll *coll, float *buf, size_t n) HDL_MUST_CHECK;
hdl_err hdl_forward_all_gather(hdl_forward *f, hdl_coll *coll, float *out, size_t n) HDL_MUST_CHECK;

/* The end of a block whose output is in h: a bias and a norm where the layer has them, x += h. */
void hdl_forward_join(const hdl_forward *f, const float *bias, const float *post_norm,
                      uint32_t n_tokens);

/* The input of a block: norm(x) in h, or x itself where the model has no norm there. */
const float *hdl_forward_enter(const hdl_forward *f, const float *norm, uint32_t n_tokens);

static inline void hdl_forward_norm(const hdl_forward *f, const float *w, hdl_forward_io io)
{
    hdl_rms_norm_args args = {.x = io.in,
                              .w = w,
                              .out = io.out,
                              .n_tokens = io.n_tokens,
                              .dim = f->model->desc->hidden,
                              .eps = f->model->desc->norm_eps};
    f->model->ops->rms_norm(&args, f->stream);
}

/* x += h */
static inline void hdl_forward_add(const hdl_forward *f, uint32_t n_tokens)
{
    hdl_add_args args = {.x = f->x, .y = f->h, .n = (size_t)n_tokens * f->model->desc->hidden};
    f->model->ops->add(&args, f->stream);
}
