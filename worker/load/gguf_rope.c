/* SPDX-License-Identifier: Apache-2.0 */
/* Rotary scaling as llama.cpp stores it: its kind and factor in keys; where each frequency has a
 * factor of its own (llama3), these in a tensor. */
#include <math.h>
#include <string.h>

#include "worker/load/gguf_desc.h"

static bool is_text(hdl_gguf_str s, const char *text)
{
    return s.len == strlen(text) && memcmp(s.data, text, s.len) == 0;
}

static hdl_err positive(const hdl_gguf *gguf, const char *name, double *out, hdl_errmsg *why)
{
    HDL_TRY(hdl_gguf_arch_f64(gguf, name, out, why));
    if (!(*out > 0))
        return hdl_fail(HDL_INVALID, why,
                        "%s must be greater than 0; the file is damaged; fetch it again", name);
    return HDL_OK;
}

/* ... and nothing when the key is absent. */
static hdl_err perhaps(const hdl_gguf *gguf, const char *name, double *out, hdl_errmsg *why)
{
    hdl_err err = positive(gguf, name, out, why);
    return err == HDL_NOTFOUND ? HDL_OK : err;
}

/* HF: _compute_yarn_parameters, whose attention factor the converter leaves to the reader unless
 * config.json has one. */
static hdl_err yarn(hdl_model_desc *desc, const hdl_gguf *gguf, hdl_errmsg *why)
{
    hdl_rope *rope = &desc->ropes[0];
    rope->kind = HDL_ROPE_YARN;
    rope->truncate = true;
    rope->beta_fast = 32;
    rope->beta_slow = 1;
    rope->original_max_len = desc->max_len;
    HDL_TRY(positive(gguf, "rope.scaling.factor", &rope->factor, why));
    HDL_TRY(perhaps(gguf, "rope.scaling.yarn_beta_fast", &rope->beta_fast, why));
    HDL_TRY(perhaps(gguf, "rope.scaling.yarn_beta_slow", &rope->beta_slow, why));
    hdl_err err = hdl_gguf_arch_u32(gguf, "rope.scaling.original_context_length",
                                    &rope->original_max_len, why);
    if (err != HDL_OK && err != HDL_NOTFOUND)
        return err;
    rope->attn_factor = hdl_arch_yarn_mscale(rope->factor, 1);
    return perhaps(gguf, "rope.scaling.yarn_attn_factor", &rope->attn_factor, why);
}

hdl_err hdl_gguf_yarn_log_mul(hdl_model_desc *desc, const hdl_gguf *gguf, double *log_mul,
                              hdl_errmsg *why)
{
    hdl_err err = hdl_gguf_arch_f64(gguf, "rope.scaling.yarn_log_multiplier", log_mul, why);
    if (err == HDL_NOTFOUND)
        return HDL_OK;
    HDL_TRY(err);
    if (*log_mul != 0)
        desc->ropes[0].attn_factor = 1;
    return HDL_OK;
}

hdl_err hdl_gguf_q_temp(hdl_model_desc *desc, const hdl_gguf *gguf, hdl_errmsg *why)
{
    double beta = 0;
    uint32_t len = desc->ropes[0].original_max_len;
    hdl_err err = hdl_gguf_arch_f64(gguf, "attention.temperature_scale", &beta, why);
    if (err == HDL_NOTFOUND || (err == HDL_OK && beta == 0))
        return HDL_OK;
    HDL_TRY(err);
    err = hdl_gguf_arch_u32(gguf, "attention.temperature_length", &len, why);
    if (err != HDL_OK && err != HDL_NOTFOUND)
        return err;
    if (len == 0)
        return hdl_fail(HDL_INVALID, why,
                        "attention.temperature_scale has no length to scale from; the file is "
                        "damaged; fetch it again");
    desc->q_temp = (hdl_q_temp){.beta = beta, .floor_scale = len};
    for (uint32_t i = 0; i < HDL_LAYERS_MAX; i++)
        desc->layers[i].q_temp = true;
    return HDL_OK;
}

hdl_err hdl_gguf_find_biases(hdl_model_desc *desc, const hdl_gguf *gguf, hdl_errmsg *why)
{
    (void)why;
    desc->qkv_bias = hdl_gguf_has(gguf, "blk.0.attn_q.bias");
    desc->o_bias = hdl_gguf_has(gguf, "blk.0.attn_output.bias");
    desc->ffn_bias = hdl_gguf_has(gguf, "blk.0.ffn_down.bias");
    return HDL_OK;
}

/* One divisor for each frequency. */
hdl_err hdl_gguf_rope_factors(hdl_model_desc *desc, const hdl_gguf_tensor *t, float *out,
                              hdl_errmsg *why)
{
    hdl_rope *rope = &desc->ropes[0];
    uint32_t dim = rope->dim != 0 ? rope->dim : desc->head_dim;
    if (dim == 0 && desc->n_heads != 0)
        dim = desc->hidden / desc->n_heads;
    uint32_t half = dim / 2;
    if (t->type != 0 || t->dims[0] != half || t->bytes != (uint64_t)half * sizeof(float) ||
        half > HDL_LONGROPE_MAX)
        return hdl_fail(
            HDL_CORRUPT, why,
            "tensor %s must hold %u values of F32; it does not fit the model; fetch the "
            "file again",
            t->name, half);
    memcpy(out, t->data, (size_t)t->bytes);
    for (uint32_t i = 0; i < half; i++)
        if (!(out[i] > 0) || !isfinite(out[i]))
            return hdl_fail(HDL_CORRUPT, why,
                            "tensor %s holds a factor that is not greater than 0; it is damaged; "
                            "fetch the file again",
                            t->name);
    rope->n_factors = half;
    rope->kind = HDL_ROPE_LONGROPE;
    return HDL_OK;
}

hdl_err hdl_gguf_rope(hdl_model_desc *desc, const hdl_gguf *gguf, hdl_errmsg *why)
{
    hdl_rope *rope = &desc->ropes[0];
    const hdl_gguf_kv *kv = hdl_gguf_arch_kv(gguf, "rope.scaling.type");
    const hdl_gguf_tensor *factors = hdl_gguf_tensor_find(gguf, "rope_freqs.weight");
    if (factors) {
        HDL_TRY(hdl_gguf_rope_factors(desc, factors, rope->long_factors, why));
        memcpy(rope->short_factors, rope->long_factors, sizeof(rope->long_factors));
    }
    if (!kv)
        return HDL_OK;
    hdl_gguf_str type;
    HDL_TRY(hdl_gguf_string(gguf, kv->key, &type, why));
    if (is_text(type, "none"))
        return HDL_OK;
    if (is_text(type, "linear") && !factors) {
        rope->kind = HDL_ROPE_LINEAR;
        return positive(gguf, "rope.scaling.factor", &rope->factor, why);
    }
    if (is_text(type, "yarn") && !factors)
        return yarn(desc, gguf, why);
    return hdl_fail(HDL_UNSUPPORTED, why,
                    "rotary scaling \"%.*s\" is not supported for this architecture; linear and "
                    "yarn are; choose another model",
                    type.len < 40 ? (int)type.len : 40, type.data);
}
