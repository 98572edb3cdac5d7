/* SPDX-License-Identifier: Apache-2.0 */
/* What llama.cpp writes alike for all architectures: keys, tensor names, and the lookups. */
#include "worker/model/arch_gguf.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "worker/model/arch_gguf_list.h"

enum { KEY_BYTES = 160 };

static hdl_err key_theta(hdl_model_desc *desc, const hdl_gguf_kv *kv, hdl_errmsg *why)
{
    double theta = kv->is_array || kv->type == HDL_GGUF_STRING ? 0 : hdl_gguf_float_at(kv, 0);
    if (!(theta > 1) || !isfinite(theta))
        return hdl_fail(HDL_INVALID, why,
                        "%s must be a number greater than 1; the file is damaged; fetch it again",
                        kv->key);
    desc->ropes[0].theta = theta;
    return HDL_OK;
}

/* Widths of values and keys are one field; checked again by every later key. */
static hdl_err key_head_dim(hdl_model_desc *desc, const hdl_gguf_kv *kv, hdl_errmsg *why)
{
    uint32_t n = 0;
    HDL_TRY(hdl_gguf_kv_u32(kv, (hdl_gguf_range){2, 1024}, &n, why));
    if (desc->head_dim != 0 && desc->head_dim != n)
        return hdl_fail(HDL_UNSUPPORTED, why,
                        "%.150s is %u and the width of keys is %u; they must be one here; choose "
                        "another model",
                        kv->key, n, desc->head_dim);
    desc->head_dim = n;
    return HDL_OK;
}

#define NOT_HERE "this architecture is not known to need it"

const hdl_gguf_key hdl_gguf_common_keys[] = {
    HDL_G_U32("block_count", n_layers, 1, HDL_LAYERS_MAX),
    HDL_G_U32("context_length", max_len, 1, 1u << 24),
    HDL_G_U32("embedding_length", hidden, 1, 1u << 17),
    HDL_G_U32("feed_forward_length", inter, 0, 1u << 20),
    HDL_G_U32("attention.head_count", n_heads, 1, 4096),
    HDL_G_U32("attention.head_count_kv", n_kv_heads, 1, 4096),
    HDL_G_CALL("attention.key_length", key_head_dim),
    HDL_G_CALL("attention.value_length", key_head_dim),
    HDL_G_F32("attention.layer_norm_rms_epsilon", norm_eps),
    HDL_G_U32("vocab_size", vocab, 1, 1u << 22),
    HDL_G_U32("rope.dimension_count", ropes[0].dim, 2, 1024),
    HDL_G_CALL("rope.freq_base", key_theta),
    HDL_G_SKIP("rope.scaling.type"), /* these: gguf_rope.c */
    HDL_G_SKIP("rope.scaling.factor"),
    HDL_G_SKIP("rope.scaling.original_context_length"),
    HDL_G_SKIP("rope.scaling.attn_factor"),
    HDL_G_SKIP("rope.scaling.yarn_attn_factor"),
    HDL_G_SKIP("rope.scaling.yarn_beta_fast"),
    HDL_G_SKIP("rope.scaling.yarn_beta_slow"),
    HDL_G_SKIP("rope.scaling.finetuned"), /* says how the model was made */
    HDL_G_EXPECT("rope.scaling.yarn_ext_factor", 1, "YaRN is supported with its ramp alone"),
    HDL_G_EXPECT("expert_count", 0, NOT_HERE),
    HDL_G_EXPECT("expert_used_count", 0, NOT_HERE),
    HDL_G_EXPECT("attention.causal", 1, "attention that looks ahead is not supported"),
    HDL_G_EXPECT("use_parallel_residual", 0, "parallel residual streams are not supported"),
    HDL_G_SKIP("tensor_data_layout"),
    HDL_G_SKIP("nextn_predict_layers"), /* read by gguf_desc.c */
};
const size_t hdl_gguf_common_key_count = HDL_ARRAY_LEN(hdl_gguf_common_keys);

#define STACK HDL_FORM_STACKED

/* Alternatives: what older converters wrote, and the other name of the norm before the feed-forward
 * layer, which some architectures call by where it comes from. */
const hdl_weight_name hdl_gguf_common_names[] = {
    HDL_W(EMBED, "token_embd.weight"),
    HDL_W(FINAL_NORM, "output_norm.weight"),
    HDL_W(LM_HEAD, "output.weight"),
    HDL_W(ATTN_NORM, "blk.{l}.attn_norm.weight"),
    HDL_W(Q, "blk.{l}.attn_q.weight"),
    HDL_W_FUSED(Q, "blk.{l}.attn_qkv.weight", 0, 3, HDL_WSLOT_Q, HDL_WSLOT_K, HDL_WSLOT_V),
    HDL_W(Q_GATE, "blk.{l}.attn_q.weight"),
    HDL_W(K, "blk.{l}.attn_k.weight"),
    HDL_W_FUSED(K, "blk.{l}.attn_qkv.weight", 0, 3, HDL_WSLOT_Q, HDL_WSLOT_K, HDL_WSLOT_V),
    HDL_W(V, "blk.{l}.attn_v.weight"),
    HDL_W_FUSED(V, "blk.{l}.attn_qkv.weight", 0, 3, HDL_WSLOT_Q, HDL_WSLOT_K, HDL_WSLOT_V),
    HDL_W(O, "blk.{l}.attn_output.weight"),
    HDL_W(Q_BIAS, "blk.{l}.attn_q.bias"),
    HDL_W(K_BIAS, "blk.{l}.attn_k.bias"),
    HDL_W(V_BIAS, "blk.{l}.attn_v.bias"),
    HDL_W(O_BIAS, "blk.{l}.attn_output.bias"),
    HDL_W(Q_NORM, "blk.{l}.attn_q_norm.weight"),
    HDL_W(K_NORM, "blk.{l}.attn_k_norm.weight"),
    HDL_W(Q_PROJ_NORM, "blk.{l}.attn_q_norm.weight"),
    HDL_W(K_PROJ_NORM, "blk.{l}.attn_k_norm.weight"),
    HDL_W(SINKS, "blk.{l}.attn_sinks.weight"),
    HDL_W(ATTN_SUB_NORM, "blk.{l}.attn_sub_norm.weight"),
    HDL_W(ATTN_POST_NORM, "blk.{l}.post_attention_norm.weight"),
    HDL_W(FFN_NORM, "blk.{l}.ffn_norm.weight"),
    HDL_W(FFN_NORM, "blk.{l}.post_attention_norm.weight"),
    HDL_W(GATE, "blk.{l}.ffn_gate.weight"),
    HDL_W(UP, "blk.{l}.ffn_up.weight"),
    HDL_W(DOWN, "blk.{l}.ffn_down.weight"),
    HDL_W(GATE_BIAS, "blk.{l}.ffn_gate.bias"),
    HDL_W(UP_BIAS, "blk.{l}.ffn_up.bias"),
    HDL_W(DOWN_BIAS, "blk.{l}.ffn_down.bias"),
    HDL_W(FFN_SUB_NORM, "blk.{l}.ffn_sub_norm.weight"),
    HDL_W(ROUTER, "blk.{l}.ffn_gate_inp.weight"),
    HDL_W(ROUTER_BIAS, "blk.{l}.ffn_gate_inp.bias"),
    HDL_W(CORRECTION, "blk.{l}.exp_probs_b.bias"),
    HDL_W_AS(EXPERT_GATE, "blk.{l}.ffn_gate_exps.weight", STACK),
    HDL_W_FUSED(EXPERT_GATE, "blk.{l}.ffn_gate_up_exps.weight", STACK, 2, HDL_WSLOT_EXPERT_GATE,
                HDL_WSLOT_EXPERT_UP),
    HDL_W(EXPERT_GATE, "blk.{l}.ffn_gate.{e}.weight"),
    HDL_W_AS(EXPERT_UP, "blk.{l}.ffn_up_exps.weight", STACK),
    HDL_W_FUSED(EXPERT_UP, "blk.{l}.ffn_gate_up_exps.weight", STACK, 2, HDL_WSLOT_EXPERT_GATE,
                HDL_WSLOT_EXPERT_UP),
    HDL_W(EXPERT_UP, "blk.{l}.ffn_up.{e}.weight"),
    HDL_W_AS(EXPERT_DOWN, "blk.{l}.ffn_down_exps.weight", STACK),
    HDL_W(EXPERT_DOWN, "blk.{l}.ffn_down.{e}.weight"),
    HDL_W_AS(EXPERT_GATE_BIAS, "blk.{l}.ffn_gate_exps.bias", STACK),
    HDL_W_AS(EXPERT_UP_BIAS, "blk.{l}.ffn_up_exps.bias", STACK),
    HDL_W_AS(EXPERT_DOWN_BIAS, "blk.{l}.ffn_down_exps.bias", STACK),
    HDL_W(SHARED_GATE, "blk.{l}.ffn_gate_shexp.weight"),
    HDL_W(SHARED_UP, "blk.{l}.ffn_up_shexp.weight"),
    HDL_W(SHARED_DOWN, "blk.{l}.ffn_down_shexp.weight"),
    HDL_W(SHARED_ON, "blk.{l}.ffn_gate_inp_shexp.weight"),
    HDL_W(FFN_POST_NORM, "blk.{l}.post_ffw_norm.weight"),
};
const size_t hdl_gguf_common_name_count = HDL_ARRAY_LEN(hdl_gguf_common_names);

/* ---- lookups ------------------------------------------------------------------------------ */

static const hdl_gguf_arch *const archs[] = {
#define ARCH(name) &hdl_gguf_arch_##name,
    HDL_GGUF_ARCH_LIST(ARCH)
#undef ARCH
};

static void join_names(char *out, size_t size)
{
    size_t at = 0;
    for (size_t i = 0; i < HDL_ARRAY_LEN(archs) && at < size; i++)
        if (i == 0 || strcmp(archs[i - 1]->name, archs[i]->name) != 0)
            at += (size_t)snprintf(out + at, size - at, "%s%s", i ? ", " : "", archs[i]->name);
}

hdl_err hdl_gguf_arch_find(const hdl_gguf *gguf, const hdl_gguf_arch **out, hdl_errmsg *why)
{
    hdl_gguf_str name;
    HDL_TRY(hdl_gguf_string(gguf, "general.architecture", &name, why));
    for (size_t i = 0; i < HDL_ARRAY_LEN(archs); i++) {
        *out = archs[i];
        if (strlen((*out)->name) == name.len && memcmp((*out)->name, name.data, name.len) == 0 &&
            (!(*out)->is || (*out)->is(gguf)))
            return HDL_OK;
    }
    char known[256];
    join_names(known, sizeof(known));
    return hdl_fail(HDL_UNSUPPORTED, why,
                    "general.architecture \"%.*s\" is not supported, or not in this variant; GGUF "
                    "files of %s are; choose a model of one of them",
                    name.len < 40 ? (int)name.len : 40, name.data, known);
}

static bool write_key(const hdl_gguf *gguf, const char *name, char *out)
{
    hdl_gguf_str arch;
    if (hdl_gguf_string(gguf, "general.architecture", &arch, NULL) != HDL_OK || arch.len > 64)
        return false;
    return snprintf(out, KEY_BYTES, "%.*s.%s", (int)arch.len, arch.data, name) < KEY_BYTES;
}

const hdl_gguf_kv *hdl_gguf_arch_kv(const hdl_gguf *gguf, const char *name)
{
    char key[KEY_BYTES];
    return write_key(gguf, name, key) ? hdl_gguf_find(gguf, key) : NULL;
}

hdl_err hdl_gguf_arch_u32(const hdl_gguf *gguf, const char *name, uint32_t *out, hdl_errmsg *why)
{
    char key[KEY_BYTES] = "";
    uint64_t value = 0;
    (void)write_key(gguf, name, key);
    HDL_TRY(hdl_gguf_u64(gguf, key, &value, why));
    if (value > UINT32_MAX)
        return hdl_fail(HDL_INVALID, why,
                        "%s is %" PRIu64 "; that cannot be; the file is damaged; fetch it again",
                        key, value);
    *out = (uint32_t)value;
    return HDL_OK;
}

hdl_err hdl_gguf_arch_f64(const hdl_gguf *gguf, const char *name, double *out, hdl_errmsg *why)
{
    char key[KEY_BYTES] = "";
    (void)write_key(gguf, name, key);
    HDL_TRY(hdl_gguf_f64(gguf, key, out, why));
    if (!isfinite(*out))
        return hdl_fail(HDL_INVALID, why, "%s is no number; the file is damaged; fetch it again",
                        key);
    return HDL_OK;
}

bool hdl_gguf_has(const hdl_gguf *gguf, const char *tensor)
{
    return hdl_gguf_tensor_find(gguf, tensor) != NULL;
}

const hdl_gguf_tensor *hdl_gguf_layer_tensor(const hdl_gguf *gguf, uint32_t layer, const char *what)
{
    char name[96];
    snprintf(name, sizeof(name), "blk.%u.%s", layer, what);
    return hdl_gguf_tensor_find(gguf, name);
}

hdl_err hdl_gguf_kv_u32(const hdl_gguf_kv *kv, hdl_gguf_range range, uint32_t *out, hdl_errmsg *why)
{
    if (kv->type == HDL_GGUF_STRING || kv->type == HDL_GGUF_F32 || kv->type == HDL_GGUF_F64 ||
        kv->type == HDL_GGUF_BOOL || kv->count == 0)
        return hdl_fail(HDL_INVALID, why,
                        "%.150s must be a count; the file is damaged; fetch it again", kv->key);
    int64_t n = hdl_gguf_int_at(kv, 0);
    for (uint64_t i = 1; i < kv->count; i++)
        if (hdl_gguf_int_at(kv, i) != n)
            return hdl_fail(HDL_UNSUPPORTED, why,
                            "%.150s differs between layers; that is not supported for this "
                            "architecture; choose another model",
                            kv->key);
    if (n < range.min || n > range.max)
        return hdl_fail(HDL_INVALID, why,
                        "%.150s is %" PRId64
                        "; it must be from %u to %u; the file is damaged or of "
                        "another architecture; fetch it again",
                        kv->key, n, range.min, range.max);
    *out = (uint32_t)n;
    return HDL_OK;
}
