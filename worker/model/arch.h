/* SPDX-License-Identifier: Apache-2.0 */
/* An architecture as three constant tables: keys of config.json -> description; names of weights
 * -> slots; recipe of a layer -> blocks. arch_list.h lists them; no other file knows an
 * architecture by name.
 *
 * A key that is in neither the architecture's table nor the common one is refused by name: it might
 * change the mathematics. Constant data; any thread. */
#pragma once

#include "base/json.h"
#include "worker/model/slots.h"

/* How a key of config.json is read. */
typedef enum hdl_key_kind {
    HDL_KEY_U32,    /* into the uint32_t at `at`, in [min, max]; null leaves the default */
    HDL_KEY_F32,    /* into the float at `at`, > 0; null leaves the default */
    HDL_KEY_BOOL,   /* into the bool at `at`; null leaves the default */
    HDL_KEY_EXPECT, /* must be the JSON text `text` (or null); anything else is refused with `note`
                     */
    HDL_KEY_CALL,   /* `call` reads it */
    HDL_KEY_SKIP,   /* does not touch the mathematics, or `finish` reads it */
    HDL_KEY_REFUSE, /* known to change the mathematics: refused with `note`, unless null */
} hdl_key_kind;

typedef hdl_err hdl_key_fn(hdl_model_desc *desc, const hdl_jv *value, hdl_errmsg *why);

typedef struct hdl_config_key {
    const char *name;
    hdl_key_kind kind;
    size_t at; /* offset in hdl_model_desc */
    uint32_t min, max;
    const char *text;
    const char *note;
    hdl_key_fn *call;
} hdl_config_key;

#define HDL_K_U32(name_, field_, min_, max_)                                                       \
    {                                                                                              \
        .name = (name_), .kind = HDL_KEY_U32, .at = offsetof(hdl_model_desc, field_),              \
        .min = (min_), .max = (max_)                                                               \
    }
#define HDL_K_F32(name_, field_)                                                                   \
    {                                                                                              \
        .name = (name_), .kind = HDL_KEY_F32, .at = offsetof(hdl_model_desc, field_)               \
    }
#define HDL_K_BOOL(name_, field_)                                                                  \
    {                                                                                              \
        .name = (name_), .kind = HDL_KEY_BOOL, .at = offsetof(hdl_model_desc, field_)              \
    }
#define HDL_K_EXPECT(name_, text_, note_)                                                          \
    {                                                                                              \
        .name = (name_), .kind = HDL_KEY_EXPECT, .text = (text_), .note = (note_)                  \
    }
#define HDL_K_CALL(name_, call_)                                                                   \
    {                                                                                              \
        .name = (name_), .kind = HDL_KEY_CALL, .call = (call_)                                     \
    }
#define HDL_K_SKIP(name_)                                                                          \
    {                                                                                              \
        .name = (name_), .kind = HDL_KEY_SKIP                                                      \
    }
#define HDL_K_REFUSE(name_, note_)                                                                 \
    {                                                                                              \
        .name = (name_), .kind = HDL_KEY_REFUSE, .note = (note_)                                   \
    }

/* Where in its tensor a slot's matrix or vector is, when it is not the whole tensor. */
enum {
    HDL_FORM_STACKED = 1,    /* the tensor holds the experts' one behind the other */
    HDL_FORM_TRANSPOSED = 2, /* columns by rows */
    HDL_FORM_EVEN = 4,       /* rows 0, 2, 4, ... of twice as many */
    HDL_FORM_ODD = 8,        /* rows 1, 3, 5, ... */
    HDL_FORM_PAIRS = 16,     /* the two halves of each head's rows take turns (llama.cpp) */
    HDL_FORM_HEADS = 32,     /* fused slots take turns head by head; of Gated DeltaNet: k head */
    HDL_FORM_HEADS_TRANSPOSED = 64, /* [n_heads, columns, rows of a head] (llama.cpp's attn_k_b) */
    HDL_FORM_TILED = 128,   /* value heads of Gated DeltaNet in llama.cpp's order (hdl_tiles) */
    HDL_FORM_NEG_EXP = 256, /* -exp(x) is stored (llama.cpp's ssm_a) */
};
enum { HDL_FUSED_MAX = 4 };

/* A tensor's name in the files; {l} is the layer, {e} the expert. Several names of one slot: the
 * first that the files have. */
typedef struct hdl_weight_name {
    hdl_wslot slot;
    const char *pattern;
    uint32_t form;                  /* HDL_FORM_* */
    uint32_t n_fused;               /* slots whose rows the tensor holds in this order, this one */
    hdl_wslot fused[HDL_FUSED_MAX]; /* among them; 0: no other's */
} hdl_weight_name;

#define HDL_W(slot_, pattern_) HDL_W_AS(slot_, pattern_, 0)
#define HDL_W_AS(slot_, pattern_, form_)                                                           \
    {                                                                                              \
        .slot = HDL_WSLOT_##slot_, .pattern = (pattern_), .form = (form_)                          \
    }
#define HDL_W_FUSED(slot_, pattern_, form_, n_fused_, ...)                                         \
    {                                                                                              \
        .slot = HDL_WSLOT_##slot_, .pattern = (pattern_), .form = (form_), .n_fused = (n_fused_),  \
        .fused = {                                                                                 \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }

enum { HDL_ARCH_SKIPS_MAX = 4 };

typedef struct hdl_arch {
    const char *name;       /* architectures[0] of config.json */
    const char *model_type; /* as transformers writes it; for messages */
    /* Of several entries with one name: the model_type of the text model inside; NULL: any other.
     */
    const char *inner;
    const hdl_config_key *keys;
    size_t n_keys;
    const hdl_weight_name *names;
    size_t n_names;
    /* A text model inside of a bigger one: the member of config.json that describes it. What stands
     * around it is read by the common keys and outer_keys. NULL: the whole file is the text
     * model's.
     */
    const char *text;
    const hdl_config_key *outer_keys;
    size_t n_outer_keys;
    /* How names of tensors begin that the text model does not need; {l}: a layer past the last. */
    const char *skips[HDL_ARCH_SKIPS_MAX];
    hdl_mixer_kind mixer; /* recipe: of every layer, unless finish says otherwise */
    hdl_ffn_kind ffn;
    hdl_router_kind router;
    bool router_renorm; /* default of the description's field */
    hdl_qk_norm qk_norm;
    /* Further defaults, before any key is read (what most models have is set already). NULL: none.
     */
    void (*init)(hdl_model_desc *desc);
    /* What no table says: keys that depend on each other. root is the text model's object. NULL:
     * none. */
    hdl_err (*finish)(hdl_model_desc *desc, const hdl_jv *root, hdl_errmsg *why);
} hdl_arch;

/* Keys that every architecture shares, after its own table. */
extern const hdl_config_key hdl_arch_common_keys[];
extern const size_t hdl_arch_common_key_count;

const hdl_arch *hdl_arch_find(const char *name, const char *inner); /* NULL: none */
const hdl_arch *hdl_arch_of(const hdl_model_desc *desc);
/* What this version lacks for an architecture that hdl_arch_find does not know; for messages. */
const char *hdl_arch_lacks(const char *name);

/* The first entry for a slot; NULL: none. */
const hdl_weight_name *hdl_arch_weight(const hdl_arch *arch, hdl_wslot slot);
/* Tensor name of a place; false when it does not fit. */
bool hdl_weight_name_write(const hdl_weight_name *name, hdl_weight_at at, char *out, size_t size);

/* A tensor of a part that is not run: a tower of images or sound, layers that predict further
 * tokens. */
bool hdl_arch_skips(const hdl_model_desc *desc, const char *tensor);

/* Which layers of Qwen's mixtures are dense: those that mlp_only_layers names, and those whose
 * number from 1 decoder_sparse_step does not divide. */
hdl_err hdl_arch_sparse_layers(hdl_model_desc *desc, const hdl_jv *root, hdl_errmsg *why);

/* Rotary tables (arch_rope.c): a rope_scaling or rope_parameters object (null: nothing); keys that
 * set the first table from one, from rope_theta, from partial_rotary_factor. */
hdl_err hdl_arch_read_rope(hdl_rope *rope, const hdl_jv *v, hdl_errmsg *why);
hdl_key_fn hdl_arch_key_rope, hdl_arch_key_theta, hdl_arch_key_partial;
/* ... that also scales queries by position (Ministral 3); with the names of Phi-3; of three
 * positions a token (Qwen3.5). */
hdl_key_fn hdl_arch_key_rope_and_q_temp, hdl_arch_key_rope_phi3, hdl_arch_key_rope_text;
/* What the tables need besides their own keys: rotated dimensions, LongRoPE's factor. Once, when
 * head_dim is known. */
hdl_err hdl_arch_complete_ropes(hdl_model_desc *desc, hdl_errmsg *why);
/* YaRN's growth of scores with the factor (HF: get_mscale). */
double hdl_arch_yarn_mscale(double factor, double mscale);

/* Reads layer_types, one for each layer: "full_attention", "sliding_attention" (sliding_window
 * positions), "chunked_attention" (attention_chunk_size). *given: the key is there. */
hdl_err hdl_arch_layer_types(hdl_model_desc *desc, const hdl_jv *root, bool *given,
                             hdl_errmsg *why);
/* Every period-th layer sees all, the others sliding_window positions. */
hdl_err hdl_arch_window_period(hdl_model_desc *desc, const hdl_jv *root, uint32_t period,
                               hdl_errmsg *why);
/* Reads sliding_window as a window of every layer (Mistral, Mixtral); null: none. */
hdl_err hdl_arch_window_all(hdl_model_desc *desc, const hdl_jv *value, hdl_errmsg *why);

/* Biases of q, k, v and o. */
hdl_key_fn hdl_arch_key_bias;

/* The size of a tower of images (arch_tower.c): as Llama 4's files have it where config.json does
 * not say, and vision_config of Llama 4 and Gemma 3. */
hdl_tower hdl_arch_llama4_tower(void);
hdl_key_fn hdl_arch_key_llama4_tower, hdl_arch_key_gemma3_tower;
