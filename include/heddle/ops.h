/* SPDX-License-Identifier: Apache-2.0 */
/* The operations that a model is made of, and the table through which a worker calls them.
 *
 * Three implementations of one table: `ref` (plain C, the definition), `cpu` (a copy of ref that
 * overrides), `cuda` (the plugin's). Each op is `(args, stream)`: it reads and writes only what
 * args name, allocates nothing (scratch comes from the stream) and is complete, on the CPU, when it
 * returns. Owner: the worker's step thread. A shape or format that a backend lacks is found while
 * loading
 * (`weight_supported`), never at a step; a wrong argument is an assertion.
 *
 * Numerics contract (DESIGN 6), for every op: the result for one token depends on that token's own
 * inputs alone, bit for bit, never on the other rows of the call, on the number of threads, or on
 * where a chunk began (N1). Rows are tokens; activations between ops are f32, row-major and
 * contiguous unless a stride is given. */
#pragma once

#include <heddle/err.h>
#include <heddle/kv.h>
#include <heddle/latent.h>
#include <heddle/limits.h>
#include <heddle/lora.h>
#include <heddle/ops_limits.h>
#include <heddle/rows.h>
#include <heddle/sampling.h>
#include <heddle/screen.h>
#include <heddle/source.h>
#include <heddle/wformat.h>

/* CPU: thread team and scratch. CUDA: a stream and its scratch. Made by the backend's device
 * (device.h). */
typedef struct hdl_stream hdl_stream;

/* ---- weights ---- */

enum { HDL_Q8_GROUP = 32, HDL_LEAF_UNIT = 32 };

/* How a matrix is held: a format and, of Q4 and Q2, the codebook (hdl_codebook_*; compared by
 * address). */
typedef struct hdl_wkind {
    hdl_wformat format;
    const int8_t *codebook; /* [16], static; NULL but for 4 and 2 bits */
} hdl_wkind;

/* W of y = x W^T: n outputs, k inputs, packed by a backend for its own kernels. Rows of different
 * kinds (q, k and v of one projection, say) make a stack: the first rows are here, the others in
 * `more`, with the same k and leaves. */
typedef struct hdl_weight {
    hdl_wformat format;
    uint32_t n;        /* outputs (rows of W) on this rank, those of `more` included */
    uint32_t k;        /* inputs (columns of W) on this rank */
    uint32_t n_leaves; /* leaves of k on this rank (N2), a power of two dividing k / 32; 1 when k is
                          not shared between ranks */
    const int8_t *codebook;
    void *data;   /* packed bytes, 64-byte aligned; borrowed from the worker's weight arena */
    size_t bytes; /* of data */
    const struct hdl_weight *more; /* borrowed likewise; NULL: none */
} hdl_weight;

/* Rows that lie in data. */
HDL_INLINE uint32_t hdl_weight_rows(const hdl_weight *w)
{
    return w->more ? w->n - w->more->n : w->n;
}

/* Leaves of a dimension k that ranks may share: the largest power of two <= HDL_LEAVES_MAX such
 * that every leaf is a multiple of HDL_LEAF_UNIT; 1 when k is not. The whole model's figure; a rank
 * of tp holds leaves / tp of them. */
HDL_INLINE uint32_t hdl_leaf_count(uint32_t k)
{
    uint32_t leaves = HDL_LEAVES_MAX;
    while (leaves > 1 && k % (leaves * HDL_LEAF_UNIT) != 0)
        leaves /= 2;
    return leaves;
}

/* Leaves of the sum over experts: groups of n_experts / leaves consecutive experts. */
HDL_INLINE uint32_t hdl_expert_leaf_count(uint32_t n_experts)
{
    uint32_t leaves = HDL_LEAVES_MAX;
    while (leaves > 1 && n_experts % leaves != 0)
        leaves /= 2;
    return leaves;
}

/* Does a matrix of that encoding keep its values, exactly, when it is held so? */
bool hdl_kind_keeps(hdl_enc encoding, hdl_wkind kind);

/* Source rows to be packed into dst rows [row_at, row_at + src.n_rows) of its own data. Codes and
 * scales are taken as they are when the kind keeps them (hdl_kind_keeps); values are rounded or
 * quantised else. */
typedef struct hdl_pack_args {
    hdl_source src;  /* [rows, dst->k] */
    hdl_weight *dst; /* format, n, k, n_leaves, data and bytes are set */
    uint32_t row_at;
} hdl_pack_args;

/* ---- ops ---- */

typedef struct hdl_embed_args {
    hdl_source table;     /* [vocab, hidden], in the file; rows are read in place */
    const hdl_token *ids; /* [n_tokens] */
    float *out;           /* [n_tokens, hidden] */
    uint32_t n_tokens;
    float scale; /* multiplies; 0: none */
} hdl_embed_args;

/* out = x / sqrt(mean(x^2) + eps) * w, all in f32; the mean is summed in an order fixed by `dim`
 * alone. out may be x. HF: Qwen3MoeRMSNorm. With sumsq the rank holds a part of the vector: the sum
 * of squares of the whole of it, of whole_dim values, comes from op sumsq and its collective. */
typedef struct hdl_rms_norm_args {
    const float *x;              /* [n_tokens, dim] rows x_stride apart */
    const float *w;              /* [dim]; NULL: ones */
    float *out;                  /* [n_tokens, dim] rows out_stride apart */
    size_t x_stride, out_stride; /* 0: dim */
    const float *sumsq;          /* [n_tokens] rows sumsq_stride apart, or NULL */
    size_t sumsq_stride;
    uint32_t whole_dim;
    uint32_t n_tokens, dim;
    float eps;
} hdl_rms_norm_args;

/* out[t] = sum of x[t]^2 as the balanced tree over n_leaves equal parts of dim, each summed in lane
 * order: this rank's subtree of a norm over a dimension that ranks share (N2). */
typedef struct hdl_sumsq_args {
    const float *x;  /* [n_tokens, dim] rows x_stride apart */
    size_t x_stride; /* >= dim */
    float *out;      /* [n_tokens] rows out_stride apart */
    size_t out_stride;
    uint32_t n_tokens, dim, n_leaves;
} hdl_sumsq_args;

/* y = x W^T (+ bias). Each output is the balanced tree over the weight's leaves of this rank;
 * inside a leaf k is walked in order. When k is shared between ranks, y is this rank's subtree and
 * the collective finishes the tree (bias then belongs to the caller). */
typedef struct hdl_linear_args {
    const float *x;  /* [n_tokens, k] rows x_stride apart */
    size_t x_stride; /* >= k */
    const hdl_weight *w;
    const float *bias; /* [n] or NULL */
    float *y;          /* [n_tokens, n] rows y_stride apart */
    size_t y_stride;
    uint32_t n_tokens;
    bool x_ints; /* x holds integers of at most 127 (int8_rows): formats of integers take them as
                    they are, x_scale 1 */
} hdl_linear_args;

/* out[t] = max |x[t]|; a NaN is larger than all. */
typedef struct hdl_absmax_args {
    const float *x;  /* [n_tokens, dim] rows x_stride apart */
    size_t x_stride; /* >= dim */
    float *out;      /* [n_tokens] */
    uint32_t n_tokens, dim;
} hdl_absmax_args;

/* Activations as int8 with one step for a token, as BitNet was trained (HF:
 * integrations/bitnet.py): steps = 127 / max(largest |x|, 1e-5); out = nearest even of x * steps,
 * within +-127; step[t] = 1 / steps. The largest is that of n_parts lists of absmax: of the ranks
 * that share the vector. */
typedef struct hdl_int8_rows_args {
    const float *x;      /* [n_tokens, dim] */
    float *out;          /* the same shape; may be x */
    const float *absmax; /* [n_parts, n_tokens] */
    float *step;         /* [n_tokens] */
    uint32_t n_parts, n_tokens, dim;
} hdl_int8_rows_args;

/* x[t] *= factor[t] */
typedef struct hdl_scale_rows_args {
    float *x;            /* [n_tokens, dim] */
    const float *factor; /* [n_tokens] */
    uint32_t n_tokens, dim;
} hdl_scale_rows_args;

/* y[t, i] = x[t, i] W[i]^T: every head of a token has a matrix of its own. All matrices are of one
 * format, n and k, with one leaf; each product is that of linear. */
typedef struct hdl_linear_heads_args {
    const float *x; /* head i of token t: [k] at x + t * x_stride + i * x_head */
    size_t x_stride, x_head;
    const hdl_weight *w; /* [n_heads] */
    float *y;            /* head i of token t: [n] at y + t * y_stride + i * y_head */
    size_t y_stride, y_head;
    uint32_t n_heads, n_tokens;
} hdl_linear_heads_args;

/* Norms of q and k. HEAD: RMS norm of each head before RoPE (Qwen3). PROJECTION: RMS norm of all
 * heads together before RoPE (OLMo 2, MiniMax-M2): the block's business, the op does nothing.
 * L2_AFTER: RMS norm of each head without weights after RoPE, where the layer has RoPE (Llama 4).
 */
typedef enum hdl_qk_norm {
    HDL_QK_NORM_NONE,
    HDL_QK_NORM_HEAD,
    HDL_QK_NORM_PROJECTION,
    HDL_QK_NORM_L2_AFTER
} hdl_qk_norm;

/* Splits qkv, norms (HEAD, L2_AFTER), rotates q and k (half-split "NeoX" pairs i, i + rope_dim/2,
 * or interleaved pairs 2i, 2i + 1), scales q by its position's factor, stores q in f32 and k, v as
 * the cache's type has them (kv.h) at (table[pos / block_tokens], pos % block_tokens). HF:
 * Qwen3MoeAttention, apply_rotary_pos_emb; Llama4TextAttention. */
typedef struct hdl_qkv_rope_args {
    const float *qkv; /* [n_tokens, (n_heads + 2 n_kv_heads) * head_dim]: all q heads, all k heads,
                         all v heads */
    const float *q_norm; /* [head_dim] or NULL */
    const float *k_norm; /* [head_dim] or NULL */
    bool l2_after;       /* norm without weights, after the rotation */
    float norm_eps;
    const float *rope_cos; /* [max_len, rope_dim / 2] */
    const float *rope_sin;
    const float *q_scale; /* [max_len] or NULL */
    bool interleaved;
    uint32_t rope_dim;        /* <= head_dim; the rest passes unrotated; 0: no rotation */
    size_t qkv_stride;        /* of a token in qkv; 0: as its shape says */
    uint32_t n_heads;         /* on this rank; kv.n_kv_heads is this rank's too */
    const hdl_attn_row *rows; /* [n_rows] */
    uint32_t n_rows, n_tokens;
    hdl_kv_view kv;
    float *q; /* [n_tokens, n_heads, head_dim] out */
} hdl_qkv_rope_args;

/* Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1) before its absorbed
 * product. Of each token: the norm of the first `rank` values of kv, then its last rope_dim ones
 * rotated, go into the cache as one row, bf16 (nearest even). Of each query head: the last rope_dim
 * values are rotated into q_latent behind the place of the product; all of it is multiplied by the
 * position's factor, the first nope_dim values in place. HF: DeepseekV3Attention, rope_interleave.
 */
typedef struct hdl_latent_rope_args {
    const float *kv; /* [n_tokens, rank + rope_dim] rows kv_stride apart */
    size_t kv_stride;
    const float *kv_norm; /* [rank] */
    float norm_eps;
    float *q; /* [n_tokens, n_heads, nope_dim + rope_dim] rows q_stride apart */
    size_t q_stride;
    const float *q_scale;  /* [max_len] or NULL */
    const float *rope_cos; /* [max_len, rope_dim / 2] */
    const float *rope_sin;
    bool interleaved;
    uint32_t n_heads, nope_dim, rope_dim, rank;
    const hdl_attn_row *rows; /* [n_rows] */
    uint32_t n_rows, n_tokens;
    hdl_kv_view kv_cache; /* head_dim = rank + rope_dim, one head, no v */
    float *q_latent;      /* [n_tokens, n_heads, rank + rope_dim]; the last rope_dim are written */
} hdl_latent_rope_args;

/* Causal attention of the step's tokens over the paged cache (their own k, v are in it already).
 * Query head h reads KV head h / (n_heads / n_kv_heads). Keys are walked in tiles at absolute
 * multiples of HDL_ATTN_TILE, partial softmaxes are combined in a fixed order (N3). scale
 * multiplies q.k. window > 0: only the last `window` positions (own included) are seen.
 * FlashAttention's online softmax (Dao et al. 2022, section 3.1) with tiles fixed to positions.
 *
 * Over INT8 the products are exact integers. A query becomes integers by a power of two that its
 * largest value chooses (hdl_fixed_of, 14 bits): score = dot * (its step * scale) * the key's
 * scale. A query's weights in a tile, times the values' scales, become integers likewise (15 bits),
 * and a tile adds fma(dot, step, sum) to the output. head_dim is even, latent 0, a block whole
 * tiles. */
typedef struct hdl_attention_args {
    const float *q; /* [n_tokens, n_heads, head_dim] */
    const hdl_attn_row *rows;
    uint32_t n_rows, n_tokens, n_heads;
    float scale;
    float softcap; /* scores become cap * tanh(scores / cap) after the scale; 0: none */
    const float
        *sinks;      /* [n_heads] logits that join the softmax's sum and have no value, or NULL */
    uint32_t window; /* 0: unlimited */
    uint32_t chunk;  /* only positions >= pos / chunk * chunk are seen; 0: all */
    uint32_t latent; /* > 0: a key's first so many values are its value, and kv.v is not read (MLA)
                      */
    hdl_kv_view kv;
    float *out; /* [n_tokens, n_heads * value dim] */
} hdl_attention_args;

HDL_INLINE uint32_t hdl_attention_value_dim(const hdl_attention_args *a)
{
    return a->latent ? a->latent : a->kv.head_dim;
}

/* States of recurrent layers: an entry for each sequence, f32. A row's table names its entry; a row
 * at position 0 starts from zeros, whatever the entry holds. */
typedef struct hdl_state_view {
    float *data; /* [n_entries, entry_floats] */
    uint32_t n_entries;
    size_t entry_floats;
} hdl_state_view;

/* What comes before the recurrence of Gated DeltaNet: a causal convolution of each channel over
 * time, y[t] = silu(sum over i of w[i] x[t - taps + 1 + i]), i in order, then an L2 norm of each
 * head of q and k, x / sqrt(sum of x^2 + 1e-6), the sum in lane order; q is divided by sqrt(k_dim)
 * besides. An entry holds the last taps - 1 inputs of a sequence, [taps - 1, channels], at
 * state_at. channels = 2 n_k_heads k_dim + n_v_heads v_dim: all of q, all of k, all of v. HF:
 * Qwen3NextGatedDeltaNet. */
typedef struct hdl_gdn_conv_args {
    const float *x; /* [n_tokens, channels] rows x_stride apart */
    size_t x_stride;
    const float *w; /* [taps, channels] */
    uint32_t taps;  /* 2..HDL_GDN_TAPS_MAX */
    uint32_t n_k_heads, n_v_heads, k_dim, v_dim;
    const hdl_attn_row *rows;
    uint32_t n_rows, n_tokens;
    hdl_state_view state;
    size_t state_at;
    float *y; /* [n_tokens, channels] */
} hdl_gdn_conv_args;
enum { HDL_GDN_TAPS_MAX = 8 };

/* The recurrence of Gated DeltaNet (arXiv 2412.06464, equation 10), token by token in order, so
 * that a chunk gives the bits of its tokens. For v head h, whose q and k are those of k head
 * h / (n_v_heads / n_k_heads), with S [k_dim, v_dim]:
 *   S *= exp(-exp(a_log) softplus(a + dt_bias));  d = (v - S^T k) sigmoid(b);  S += k d^T;
 *   o = S^T q;  out = o / sqrt(mean(o^2) + norm_eps) * norm * silu(z)
 * Sums over k_dim are fma in order. An entry holds S of all v heads, one after the other, from its
 * start. HF: torch_recurrent_gated_delta_rule, Qwen3NextRMSNormGated. */
typedef struct hdl_gated_delta_args {
    const float *qkv; /* [n_tokens, channels] as gdn_conv leaves it */
    const float *z;   /* [n_tokens, n_v_heads v_dim] rows z_stride apart */
    const float *ba;  /* [n_tokens, 2 n_v_heads]: b, then a, of all heads */
    size_t z_stride;
    const float *a_log, *dt_bias; /* [n_v_heads] */
    const float *norm;            /* [v_dim] */
    float norm_eps;
    uint32_t n_k_heads, n_v_heads, k_dim, v_dim;
    const hdl_attn_row *rows;
    uint32_t n_rows, n_tokens;
    hdl_state_view state;
    float *out; /* [n_tokens, n_v_heads v_dim] */
} hdl_gated_delta_args;

/* x = x * sigmoid(gate). gate_dim is 1 (one gate for a token) or dim. */
typedef struct hdl_gate_args {
    float *x;          /* [n_tokens, dim] */
    const float *gate; /* [n_tokens, gate_dim] rows gate_stride apart */
    size_t gate_stride;
    uint32_t n_tokens, dim, gate_dim;
} hdl_gate_args;

/* x = cap * tanh(x / cap) */
typedef struct hdl_softcap_args {
    float *x;
    size_t n;
    float cap;
} hdl_softcap_args;

/* out = act(gate) * up. gate_up rows hold gate[inter] then up[inter].
 *  SILU   g / (1 + exp(-g))
 *  GELU   the tanh form, 0.5 g (1 + tanh(sqrt(2 / pi) (g + 0.044715 g^3)))
 *  RELU2  max(g, 0)^2
 *  OAI    g = min(gate, limit), u = clamp(up, -limit, limit): g * sigmoid(alpha g) * (u + 1)
 *         (HF: GptOssExperts) */
typedef enum hdl_glu_kind { HDL_GLU_SILU, HDL_GLU_GELU, HDL_GLU_RELU2, HDL_GLU_OAI } hdl_glu_kind;
typedef struct hdl_glu_args {
    const float *gate_up; /* [n_tokens, 2 * inter] */
    float *out;           /* [n_tokens, inter] */
    uint32_t n_tokens, inter;
    hdl_glu_kind kind;
    float limit, alpha; /* OAI */
} hdl_glu_args;

/* x += y */
typedef struct hdl_add_args {
    float *x;
    const float *y;
    size_t n;
} hdl_add_args;

/* x[t] += row: the bias of a row-parallel linear, after its collective. */
typedef struct hdl_add_row_args {
    float *x;         /* [n_tokens, dim] */
    const float *row; /* [dim] */
    uint32_t n_tokens, dim;
} hdl_add_row_args;

/* Chooses experts. SOFTMAX_TOPK: score = softmax over all in f32 (Qwen3-MoE). SIGMOID_TOPK: score =
 * sigmoid (DeepSeek-V3, GLM-4.5, MiniMax-M2). TOPK_SOFTMAX: the topk largest logits, softmax over
 * those (Mixtral, gpt-oss). TOPK_SIGMOID: the topk largest logits, the sigmoid of each (Llama 4;
 * sigmoids of large logits are equal in f32, logits are not). The topk largest of score +
 * correction are taken (ties: lower id), among the experts of the topk_group best of n_group equal
 * groups; a group is worth the largest of those sums in it, or its two largest added. A weight is
 * the score, divided by the sum of the chosen ones (+ 1e-20) if renorm, times scale. Ids come out
 * in descending order of what chose them. */
typedef enum hdl_router_kind {
    HDL_ROUTER_SOFTMAX_TOPK,
    HDL_ROUTER_TOPK_SOFTMAX,
    HDL_ROUTER_SIGMOID_TOPK,
    HDL_ROUTER_TOPK_SIGMOID
} hdl_router_kind;
typedef struct hdl_router_desc {
    hdl_router_kind kind;
    bool renorm;
    bool group_top2;              /* a group is worth its two largest, added (DeepSeek-V3) */
    uint32_t n_group, topk_group; /* 0 or 1: no groups */
    float scale;                  /* 0: 1 */
} hdl_router_desc;
typedef struct hdl_router_args {
    const float *logits;     /* [n_tokens, n_experts] */
    const float *correction; /* [n_experts] or NULL */
    uint32_t n_tokens, n_experts, topk;
    const uint32_t *n_live; /* [1] tokens from here on are padding: HDL_NONE_U32; NULL: none is */
    hdl_router_desc desc;
    uint32_t *ids;  /* [n_tokens, topk] */
    float *weights; /* [n_tokens, topk] */
} hdl_router_args;

/* Runs the local experts [expert_lo, expert_lo + n_local): for every token t and choice j with a
 * local expert e = ids[t, j], ye[t, j] = W_down[e] (silu(gate) * up), gate, up = W_gate_up[e] x[t];
 * this rank's subtree of the down projection when inter is shared. Entries of ye whose expert is
 * not local are not written. Unweighted. Tokens are grouped by expert; N1 holds. */
typedef struct hdl_moe_experts_args {
    const float *x;                         /* [n_tokens, hidden] */
    const uint32_t *ids;                    /* [n_tokens, topk], global expert ids */
    uint32_t n_tokens, topk, hidden, inter; /* inter: this rank's share */
    const hdl_weight
        *gate_up; /* [n_local], each n = 2 * inter (gate rows, then up rows), k = hidden */
    const hdl_weight *down;    /* [n_local], each n = hidden, k = inter */
    const float *gate_up_bias; /* [n_local, 2 * inter] or NULL */
    const float *x_weights;    /* [n_tokens, topk] or NULL: what x is multiplied by (Llama 4) */
    hdl_glu_kind glu;
    float glu_limit, glu_alpha;
    uint32_t expert_lo, n_local;
    float *ye; /* [n_tokens, topk, hidden] */
} hdl_moe_experts_args;

/* y[t] = balanced tree over this rank's expert leaves (groups of n_experts / n_leaves consecutive
 * experts) of the sums, in order of expert id, of weights[t, j] * ye[t, j]. An empty group is +0.
 * expert_lo and n_local are multiples of the group. */
typedef struct hdl_moe_combine_args {
    const float *ye;
    const uint32_t *ids;
    const float *weights;   /* [n_tokens, topk]; NULL: ones */
    const float *down_bias; /* [n_local, hidden] or NULL: added to ye before it is weighted */
    uint32_t n_tokens, topk, hidden;
    uint32_t n_experts,
        n_leaves; /* of the whole model; n_leaves = hdl_expert_leaf_count(n_experts) */
    uint32_t expert_lo, n_local;
    float *y; /* [n_tokens, hidden] */
} hdl_moe_combine_args;

/* Copies whole blocks of one layer, whatever they hold (copy-on-write of pages, snapshots of
 * states). No block is both a source and a destination, none twice a destination. */
typedef struct hdl_kv_copy_args {
    void *memory; /* [n_blocks, block_bytes] */
    size_t block_bytes;
    uint32_t n_blocks;
    const uint32_t *src, *dst; /* [n] */
    uint32_t n;
} hdl_kv_copy_args;

/* Whole blocks of a list, to places of the host's memory one after the other, or back: pages that
 * leave the device for a while. The host's memory is pinned (hdl_device_alloc_pinned). No block
 * comes twice where blocks are written. */
typedef struct hdl_kv_move_args {
    void *memory; /* [n_blocks, block_bytes] of the device */
    size_t block_bytes;
    uint32_t n_blocks;
    const uint32_t *blocks; /* [n] */
    void *host;             /* [n, block_bytes] */
    uint32_t n;
    bool to_host; /* else from it */
} hdl_kv_move_args;

/*      op            args */
#define HDL_OP_LIST(X)                                                                             \
    X(embed, hdl_embed_args)                                                                       \
    X(rms_norm, hdl_rms_norm_args)                                                                 \
    X(sumsq, hdl_sumsq_args)                                                                       \
    X(absmax, hdl_absmax_args)                                                                     \
    X(int8_rows, hdl_int8_rows_args)                                                               \
    X(linear, hdl_linear_args)                                                                     \
    X(linear_heads, hdl_linear_heads_args)                                                         \
    X(qkv_rope, hdl_qkv_rope_args)                                                                 \
    X(latent_rope, hdl_latent_rope_args)                                                           \
    X(attention, hdl_attention_args)                                                               \
    X(latent_prefill, hdl_latent_prefill_args)                                                     \
    X(gdn_conv, hdl_gdn_conv_args)                                                                 \
    X(gated_delta, hdl_gated_delta_args)                                                           \
    X(gate, hdl_gate_args)                                                                         \
    X(softcap, hdl_softcap_args)                                                                   \
    X(glu, hdl_glu_args)                                                                           \
    X(scale_rows, hdl_scale_rows_args)                                                             \
    X(add, hdl_add_args)                                                                           \
    X(add_row, hdl_add_row_args)                                                                   \
    X(router, hdl_router_args)                                                                     \
    X(moe_experts, hdl_moe_experts_args)                                                           \
    X(moe_combine, hdl_moe_combine_args)                                                           \
    X(kv_copy, hdl_kv_copy_args)                                                                   \
    X(kv_move, hdl_kv_move_args)                                                                   \
    X(lora_shrink, hdl_lora_shrink_args)                                                           \
    X(lora_expand, hdl_lora_expand_args)                                                           \
    X(batch_build, hdl_batch_build_args)                                                           \
    X(sample, hdl_sample_args)

#define HDL_OP_MEMBER(op, args) void (*op)(const args *, hdl_stream *);
typedef struct hdl_ops_extent hdl_ops_extent;

typedef struct hdl_ops {
    const char *name; /* "ref", "cpu-avx2", "cpu-avx512", ... */
    hdl_ops_limits limits;
    HDL_OP_LIST(HDL_OP_MEMBER)
    void (*linear_screened)(const hdl_linear_screened_args *, hdl_stream *); /* NULL: none */
    /* Packing, cold: bytes of a packed matrix (0 if format or shape is not supported), and the
     * packing of some of its rows. weight_pack may be called from several loader threads for
     * different rows of one matrix. */
    size_t (*weight_bytes)(hdl_wformat format, uint32_t n, uint32_t k, uint32_t n_leaves);
    void (*weight_pack)(const hdl_pack_args *args);
    /* Upper bound of stream scratch, in bytes, that any op needs for steps of n_tokens with these
     * extents. */
    size_t (*scratch_bytes)(const hdl_ops_extent *extent);
} hdl_ops;
#undef HDL_OP_MEMBER

/* Largest values that ops will meet; from the model, the layout and the limits. */
struct hdl_ops_extent {
    uint32_t n_tokens, n_rows; /* of a step */
    uint32_t hidden, inter, moe_inter, n_heads, n_kv_heads, head_dim, n_experts, topk, n_max,
        k_max; /* this rank's; inter: the larger of a dense layer's and a shared expert's */
    uint32_t latent_rank, nope_dim,
        latent_v_dim; /* of latent attention, or 0; its head_dim is a cache row's */
    uint32_t max_len;
    bool fast; /* numerics: fast */
};

/* Instruction sets of the CPU backend, lowest first. AUTO picks the best that cpuid offers. */
typedef enum hdl_isa { HDL_ISA_AUTO, HDL_ISA_REF, HDL_ISA_AVX2, HDL_ISA_AVX512 } hdl_isa;

const hdl_ops *hdl_ops_ref(void);
/* NULL with a message when the machine lacks the asked level. AVX512 means F, BW, VL, DQ, VNNI and
 * BF16 together. */
const hdl_ops *hdl_ops_cpu(hdl_isa isa, hdl_errmsg *why);
