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

/* HF: _compute_yarn_parameters, whose attention factor the converter leaves to the reader. */
static hdl_err yarn(hdl_model_desc *desc, const hdl_gguf *gguf, hdl_errmsg *why)
{
    hdl_rope *rope = &desc->ropes[0];
    double attn = 1;
    hdl_err err;
    rope->kind = HDL_ROPE_YARN;
    rope->truncate = true;
    rope->beta_fast = 32;
    rope->beta_slow = 1;
    rope->original_max_len = desc->max_len;
    HDL_TRY(positive(gguf, "rope.scaling.factor", &rope->factor, why));
    if ((err = positive(gguf, "rope.scaling.yarn_beta_fast", &rope->beta_fast, why)) != HDL_OK &&
        err != HDL_NOTFOUND)
        return err;
    if ((err = positive(gguf, "rope.scaling.yarn_beta_slow", &rope->beta_slow, why)) != HDL_OK &&
        err != HDL_NOTFOUND)
        return err;
    err = hdl_gguf_arch_u32(gguf, "rope.scaling.original_context_length", &rope->original_max_len,
                            why);
    if (err != HDL_OK && err != HDL_NOTFOUND)
        return err;
    if ((err = positive(gguf, "rope.scaling.attn_factor", &attn, why)) != HDL_OK &&
        err != HDL_NOTFOUND)
        return err;
    rope->attn_factor = attn * (rope->factor > 1 ? 0.1 * log(rope->factor) + 1 : 1);
    return HDL_OK;
}

/* One divisor for each frequency. */
static hdl_err read_factors(hdl_rope *rope, uint32_t head_dim, const hdl_gguf_tensor *t,
                            hdl_errmsg *why)
{
    uint32_t half = (rope->dim != 0 ? rope->dim : head_dim) / 2;
    if (t->type != 0 || t->dims[0] != half || t->bytes != (uint64_t)half * sizeof(float) ||
        half > HDL_LONGROPE_MAX)
        return hdl_fail(
            HDL_CORRUPT, why,
            "tensor %s must hold %u values of F32; it does not fit the model; fetch the "
            "file again",
            t->name, half);
    memcpy(rope->long_factors, t->data, (size_t)t->bytes);
    memcpy(rope->short_factors, t->data, (size_t)t->bytes);
    rope->n_factors = half;
    for (uint32_t i = 0; i < half; i++)
        if (!(rope->long_factors[i] > 0) || !isfinite(rope->long_factors[i]))
            return hdl_fail(HDL_CORRUPT, why,
                            "tensor %s holds a factor that is not greater than 0; it is damaged; "
                            "fetch the file again",
                            t->name);
    rope->kind = HDL_ROPE_LONGROPE;
    return HDL_OK;
}

hdl_err hdl_gguf_rope(hdl_model_desc *desc, const hdl_gguf *gguf, hdl_errmsg *why)
{
    hdl_rope *rope = &desc->ropes[0];
    const hdl_gguf_kv *kv = hdl_gguf_arch_kv(gguf, "rope.scaling.type");
    const hdl_gguf_tensor *factors = hdl_gguf_tensor_find(gguf, "rope_freqs.weight");
    uint32_t head_dim = desc->head_dim;
    if (head_dim == 0 && desc->n_heads != 0)
        head_dim = desc->hidden / desc->n_heads;
    if (factors)
        HDL_TRY(read_factors(rope, head_dim, factors, why));
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
