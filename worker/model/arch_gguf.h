/* SPDX-License-Identifier: Apache-2.0 */
/* What llama.cpp's converter writes into a GGUF file about an architecture of arch_list.h: its keys
 * -> description, its tensor names -> slots. The second pair of tables beside arch.h's, with the
 * same rule: a key of the architecture that no table knows is refused by name.
 *
 * Keys are looked up without their "<architecture>." prefix, first in the entry's own table, then
 * in the common one; tensor names likewise. Constant data and cold functions; any thread. */
#pragma once

#include "base/gguf.h"
#include "worker/model/arch.h"

typedef hdl_err hdl_gguf_key_fn(hdl_model_desc *desc, const hdl_gguf_kv *kv, hdl_errmsg *why);

typedef struct hdl_gguf_key {
    const char *name; /* after the prefix */
    hdl_key_kind kind;
    size_t at; /* offset in hdl_model_desc */
    uint32_t min, max;
    double expected; /* HDL_KEY_EXPECT: a number, or 0 and 1 for a truth value */
    const char *note;
    hdl_gguf_key_fn *call;
} hdl_gguf_key;

#define HDL_G_U32(name_, field_, min_, max_)                                                       \
    {                                                                                              \
        .name = (name_), .kind = HDL_KEY_U32, .at = offsetof(hdl_model_desc, field_),              \
        .min = (min_), .max = (max_)                                                               \
    }
#define HDL_G_F32(name_, field_)                                                                   \
    {                                                                                              \
        .name = (name_), .kind = HDL_KEY_F32, .at = offsetof(hdl_model_desc, field_)               \
    }
#define HDL_G_BOOL(name_, field_)                                                                  \
    {                                                                                              \
        .name = (name_), .kind = HDL_KEY_BOOL, .at = offsetof(hdl_model_desc, field_)              \
    }
#define HDL_G_EXPECT(name_, expected_, note_)                                                      \
    {                                                                                              \
        .name = (name_), .kind = HDL_KEY_EXPECT, .expected = (expected_), .note = (note_)          \
    }
#define HDL_G_CALL(name_, call_)                                                                   \
    {                                                                                              \
        .name = (name_), .kind = HDL_KEY_CALL, .call = (call_)                                     \
    }
#define HDL_G_SKIP(name_)                                                                          \
    {                                                                                              \
        .name = (name_), .kind = HDL_KEY_SKIP                                                      \
    }
#define HDL_G_REFUSE(name_, note_)                                                                 \
    {                                                                                              \
        .name = (name_), .kind = HDL_KEY_REFUSE, .note = (note_)                                   \
    }

typedef struct hdl_gguf_arch {
    const char *name; /* general.architecture */
    const hdl_arch *arch;
    /* Is it this one of the architectures that share the name? NULL: yes. */
    bool (*is)(const hdl_gguf *gguf);
    const hdl_gguf_key *keys;
    size_t n_keys;
    const hdl_weight_name *names; /* before the common ones */
    size_t n_names;
    /* What no table says: keys that depend on each other, tensors whose presence says something.
     * NULL: none. */
    hdl_err (*finish)(hdl_model_desc *desc, const hdl_gguf *gguf, hdl_errmsg *why);
} hdl_gguf_arch;

extern const hdl_gguf_key hdl_gguf_common_keys[];
extern const size_t hdl_gguf_common_key_count;
extern const hdl_weight_name hdl_gguf_common_names[];
extern const size_t hdl_gguf_common_name_count;

/* HDL_UNSUPPORTED with what is missing when the file is of no architecture that is known. */
hdl_err hdl_gguf_arch_find(const hdl_gguf *gguf, const hdl_gguf_arch **out,
                           hdl_errmsg *why) HDL_MUST_CHECK;

/* Parts of descriptions that several architectures have (worker/load/gguf_rope.c):
 * yarn_log_multiplier into *log_mul (0: not there), which also says that cos and sin keep their
 * size; temperature_scale into q_temp; biases by whether their tensors are there; a factor for each
 * frequency. */
hdl_err hdl_gguf_yarn_log_mul(hdl_model_desc *desc, const hdl_gguf *gguf, double *log_mul,
                              hdl_errmsg *why) HDL_MUST_CHECK;
hdl_err hdl_gguf_q_temp(hdl_model_desc *desc, const hdl_gguf *gguf, hdl_errmsg *why) HDL_MUST_CHECK;
hdl_err hdl_gguf_find_biases(hdl_model_desc *desc, const hdl_gguf *gguf,
                             hdl_errmsg *why) HDL_MUST_CHECK;
hdl_err hdl_gguf_rope_factors(hdl_model_desc *desc, const hdl_gguf_tensor *t, float *out,
                              hdl_errmsg *why) HDL_MUST_CHECK;

/* Values of keys by their name after the prefix; as hdl_gguf_u64 and hdl_gguf_f64. */
hdl_err hdl_gguf_arch_u32(const hdl_gguf *gguf, const char *name, uint32_t *out,
                          hdl_errmsg *why) HDL_MUST_CHECK;
hdl_err hdl_gguf_arch_f64(const hdl_gguf *gguf, const char *name, double *out,
                          hdl_errmsg *why) HDL_MUST_CHECK;
const hdl_gguf_kv *hdl_gguf_arch_kv(const hdl_gguf *gguf, const char *name); /* NULL: none */
bool hdl_gguf_has(const hdl_gguf *gguf, const char *tensor);
/* "blk.<layer>.<what>"; NULL: there is none. */
const hdl_gguf_tensor *hdl_gguf_layer_tensor(const hdl_gguf *gguf, uint32_t layer,
                                             const char *what);

/* A value as a count in [min, max]; a list serves when all its elements are the same. */
typedef struct hdl_gguf_range {
    uint32_t min, max;
} hdl_gguf_range;
hdl_err hdl_gguf_kv_u32(const hdl_gguf_kv *kv, hdl_gguf_range range, uint32_t *out,
                        hdl_errmsg *why) HDL_MUST_CHECK;
