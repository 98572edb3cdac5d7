/* SPDX-License-Identifier: Apache-2.0 */
/* Rotary embedding in config.json: rope_theta and rope_scaling of transformers 4 ("type" before
 * 4.43), rope_parameters of transformers 5. Members that no kind knows are refused by name. */
#include <math.h>
#include <string.h>

#include "base/assert.h"
#include "worker/model/arch.h"

static hdl_err read_number(const hdl_jv *v, double *out, hdl_errmsg *why)
{
    HDL_TRY(hdl_jv_double(v, out, why));
    if (!(*out > 0) || !isfinite(*out))
        return hdl_jv_fail(v, why, "must be greater than 0");
    return HDL_OK;
}

/* A member that may be absent or null: *out is left alone. */
static hdl_err read_member(const hdl_jv *obj, const char *key, double *out, hdl_errmsg *why)
{
    hdl_jv v = hdl_jv_get(obj, key);
    return hdl_jv_given(&v) ? read_number(&v, out, why) : HDL_OK;
}

static hdl_err read_len(const hdl_jv *obj, uint32_t *out, hdl_errmsg *why)
{
    int64_t len = 0;
    hdl_jv v = hdl_jv_get(obj, "original_max_position_embeddings");
    HDL_TRY(hdl_jv_int(&v, (hdl_jv_range){1, 1 << 30}, &len, why));
    *out = (uint32_t)len;
    return HDL_OK;
}

static hdl_err need(const hdl_jv *obj, const char *key, double *out, hdl_errmsg *why)
{
    hdl_jv v = hdl_jv_get(obj, key);
    return read_number(&v, out, why);
}

static hdl_err read_llama3(hdl_rope *rope, const hdl_jv *v, hdl_errmsg *why)
{
    rope->kind = HDL_ROPE_LLAMA3;
    HDL_TRY(need(v, "factor", &rope->factor, why));
    HDL_TRY(need(v, "low_freq_factor", &rope->low_freq_factor, why));
    HDL_TRY(need(v, "high_freq_factor", &rope->high_freq_factor, why));
    HDL_TRY(read_len(v, &rope->original_max_len, why));
    /* Equal ones (Llama 4 Scout) leave no wavelengths between. */
    if (rope->high_freq_factor < rope->low_freq_factor)
        return hdl_jv_fail(v, why, "has high_freq_factor < low_freq_factor");
    return HDL_OK;
}

static hdl_err read_linear(hdl_rope *rope, const hdl_jv *v, hdl_errmsg *why)
{
    rope->kind = HDL_ROPE_LINEAR;
    return need(v, "factor", &rope->factor, why);
}

double hdl_arch_yarn_mscale(double factor, double mscale)
{
    return factor <= 1 ? 1.0 : 0.1 * mscale * log(factor) + 1.0;
}

/* HF: _compute_yarn_parameters. */
static hdl_err read_yarn(hdl_rope *rope, const hdl_jv *v, hdl_errmsg *why)
{
    double mscale = 0, mscale_all = 0;
    rope->kind = HDL_ROPE_YARN;
    rope->beta_fast = 32;
    rope->beta_slow = 1;
    rope->truncate = true;
    HDL_TRY(need(v, "factor", &rope->factor, why));
    HDL_TRY(read_len(v, &rope->original_max_len, why));
    HDL_TRY(read_member(v, "beta_fast", &rope->beta_fast, why));
    HDL_TRY(read_member(v, "beta_slow", &rope->beta_slow, why));
    HDL_TRY(read_member(v, "attention_factor", &rope->attn_factor, why));
    HDL_TRY(read_member(v, "mscale", &mscale, why));
    HDL_TRY(read_member(v, "mscale_all_dim", &mscale_all, why));
    hdl_jv truncate = hdl_jv_get(v, "truncate");
    if (hdl_jv_given(&truncate))
        HDL_TRY(hdl_jv_bool(&truncate, &rope->truncate, why));
    if (rope->attn_factor == 0 && mscale > 0 && mscale_all > 0)
        rope->attn_factor = hdl_arch_yarn_mscale(rope->factor, mscale) /
                            hdl_arch_yarn_mscale(rope->factor, mscale_all);
    if (rope->attn_factor == 0)
        rope->attn_factor = hdl_arch_yarn_mscale(rope->factor, 1);
    return HDL_OK;
}

static hdl_err read_factors(const hdl_jv *obj, const char *key, float *out, uint32_t *n,
                            hdl_errmsg *why)
{
    hdl_jv list = hdl_jv_get(obj, key);
    HDL_TRY(hdl_jv_expect(&list, HDL_JSON_ARRAY, why));
    if (hdl_jv_len(&list) > HDL_LONGROPE_MAX)
        return hdl_jv_fail(&list, why, "has more than %d factors", HDL_LONGROPE_MAX);
    *n = (uint32_t)hdl_jv_len(&list);
    for (uint32_t i = 0; i < *n; i++) {
        double factor = 0;
        hdl_jv item = hdl_jv_at(&list, i);
        HDL_TRY(read_number(&item, &factor, why));
        out[i] = (float)factor;
    }
    return HDL_OK;
}

/* HF: _compute_longrope_parameters. What is missing here follows from the whole file
 * (complete_longrope). */
static hdl_err read_longrope(hdl_rope *rope, const hdl_jv *v, hdl_errmsg *why)
{
    uint32_t n_short = 0;
    rope->kind = HDL_ROPE_LONGROPE;
    HDL_TRY(read_factors(v, "long_factor", rope->long_factors, &rope->n_factors, why));
    HDL_TRY(read_factors(v, "short_factor", rope->short_factors, &n_short, why));
    if (n_short != rope->n_factors)
        return hdl_jv_fail(v, why, "has %u long factors, but %u short ones", rope->n_factors,
                           n_short);
    HDL_TRY(read_member(v, "factor", &rope->factor, why));
    HDL_TRY(read_member(v, "attention_factor", &rope->attn_factor, why));
    hdl_jv len = hdl_jv_get(v, "original_max_position_embeddings");
    if (hdl_jv_given(&len) && rope->original_max_len == 0) /* the one outside goes before */
        HDL_TRY(read_len(v, &rope->original_max_len, why));
    return HDL_OK;
}

/* mrope: three positions for a token, which are one and the same for text. */
static const char common_members[] =
    " rope_theta rope_type type partial_rotary_factor mrope_section mrope_interleaved ";
static const struct {
    const char *name;
    hdl_err (*read)(hdl_rope *rope, const hdl_jv *v, hdl_errmsg *why);
    const char *members; /* each between spaces */
} kinds[] = {
    {"default", NULL, " "},
    {"mrope", NULL, " "},
    {"linear", read_linear, " factor "},
    {"llama3", read_llama3,
     " factor low_freq_factor high_freq_factor original_max_position_embeddings "},
    {"yarn", read_yarn,
     " factor original_max_position_embeddings beta_fast beta_slow attention_factor mscale "
     "mscale_all_dim truncate "},
    {"longrope", read_longrope,
     " factor long_factor short_factor attention_factor original_max_position_embeddings "},
};

/* A name with a space in it would match across two members. */
static bool listed(const char *members, const char *name)
{
    size_t len = strlen(name);
    if (strchr(name, ' ') != NULL)
        return false;
    for (const char *at = strstr(members, name); len > 0 && at; at = strstr(at + 1, name))
        if (at[-1] == ' ' && at[len] == ' ')
            return true;
    return false;
}

/* also: further members that the caller reads. */
static hdl_err check_members(const hdl_jv *v, size_t kind, const char *also, hdl_errmsg *why)
{
    void *iter = NULL;
    hdl_jv m;
    while (hdl_jv_next(v, &iter, &m))
        if (hdl_jv_given(&m) && !listed(common_members, m.key) &&
            !listed(kinds[kind].members, m.key) && !listed(also, m.key))
            return hdl_fail(HDL_UNSUPPORTED, why,
                            "config.json: unknown key \"%.60s\" of rotary scaling \"%s\"; it might "
                            "change the mathematics; remove it if it does not, or report it",
                            m.key, kinds[kind].name);
    return HDL_OK;
}

/* What an architecture's rope object has that others' do not. */
typedef struct dialect {
    const char *also; /* members that the caller reads, each between spaces */
    bool is_phi3;     /* "su" and "yarn" are its earlier names of longrope */
} dialect;

static hdl_err read_rope(hdl_rope *rope, const hdl_jv *v, dialect d, hdl_errmsg *why)
{
    if (!hdl_jv_given(v))
        return HDL_OK;
    HDL_TRY(hdl_jv_expect(v, HDL_JSON_OBJECT, why));
    HDL_TRY(read_member(v, "rope_theta", &rope->theta, why));
    HDL_TRY(read_member(v, "partial_rotary_factor", &rope->partial, why));
    hdl_jv type = hdl_jv_get(v, "rope_type");
    if (!hdl_jv_given(&type))
        type = hdl_jv_get(v, "type");
    const char *name = "default";
    if (hdl_jv_given(&type))
        HDL_TRY(hdl_jv_string(&type, &name, NULL, why));
    if (d.is_phi3 && (strcmp(name, "su") == 0 || strcmp(name, "yarn") == 0))
        name = "longrope";
    for (size_t i = 0; i < HDL_ARRAY_LEN(kinds); i++) {
        if (strcmp(kinds[i].name, name) != 0)
            continue;
        HDL_TRY(check_members(v, i, d.also, why));
        return kinds[i].read ? kinds[i].read(rope, v, why) : HDL_OK;
    }
    return hdl_fail(HDL_UNSUPPORTED, why,
                    "config.json: rotary scaling \"%.40s\" is not supported; default, linear, "
                    "llama3, yarn and longrope are; choose a model that uses one of them",
                    name);
}

hdl_err hdl_arch_read_rope(hdl_rope *rope, const hdl_jv *v, hdl_errmsg *why)
{
    return read_rope(rope, v, (dialect){.also = " "}, why);
}

hdl_err hdl_arch_key_rope(hdl_model_desc *desc, const hdl_jv *v, hdl_errmsg *why)
{
    return hdl_arch_read_rope(&desc->ropes[0], v, why);
}

hdl_err hdl_arch_key_rope_phi3(hdl_model_desc *desc, const hdl_jv *v, hdl_errmsg *why)
{
    return read_rope(&desc->ropes[0], v, (dialect){.also = " ", .is_phi3 = true}, why);
}

/* HF: get_llama_4_attn_scale of modeling_ministral3.py. max_position_embeddings stands there once
 * more. */
hdl_err hdl_arch_key_rope_and_q_temp(hdl_model_desc *desc, const hdl_jv *v, hdl_errmsg *why)
{
    dialect d = {.also = " llama_4_scaling_beta max_position_embeddings "};
    double beta = 0;
    HDL_TRY(read_rope(&desc->ropes[0], v, d, why));
    HDL_TRY(read_member(v, "llama_4_scaling_beta", &beta, why));
    if (beta == 0)
        return HDL_OK;
    if (desc->ropes[0].original_max_len == 0)
        return hdl_jv_fail(v, why, "has llama_4_scaling_beta without a length to scale from");
    desc->q_temp = (hdl_q_temp){.beta = beta, .floor_scale = desc->ropes[0].original_max_len};
    for (uint32_t i = 0; i < HDL_LAYERS_MAX; i++)
        desc->layers[i].q_temp = true;
    return HDL_OK;
}

/* HF: Qwen3_5TextRotaryEmbedding. Which of a token's three positions gives a frequency does not
 * matter where they are equal, as those of text are. */
hdl_err hdl_arch_key_rope_text(hdl_model_desc *desc, const hdl_jv *v, hdl_errmsg *why)
{
    dialect d = {.also = " mrope_section mrope_interleaved "};
    return read_rope(&desc->ropes[0], v, d, why);
}

hdl_err hdl_arch_key_theta(hdl_model_desc *desc, const hdl_jv *v, hdl_errmsg *why)
{
    if (!hdl_jv_given(v))
        return HDL_OK;
    HDL_TRY(hdl_jv_double(v, &desc->ropes[0].theta, why));
    if (!(desc->ropes[0].theta > 1) || !isfinite(desc->ropes[0].theta))
        return hdl_jv_fail(v, why, "must be greater than 1");
    return HDL_OK;
}

hdl_err hdl_arch_key_partial(hdl_model_desc *desc, const hdl_jv *v, hdl_errmsg *why)
{
    if (!hdl_jv_given(v))
        return HDL_OK;
    HDL_TRY(read_number(v, &desc->ropes[0].partial, why));
    return desc->ropes[0].partial <= 1 ? HDL_OK : hdl_jv_fail(v, why, "must be at most 1");
}

/* HF: standardize_rope_params, _compute_longrope_parameters: lengths default to the model's. */
static hdl_err complete_longrope(const hdl_model_desc *desc, hdl_rope *rope, hdl_errmsg *why)
{
    if (rope->n_factors != rope->dim / 2)
        return hdl_fail(HDL_INVALID, why,
                        "config.json: longrope has %u factors for %u rotated values of a head; "
                        "it must have one for two; fetch the original file",
                        rope->n_factors, rope->dim);
    if (rope->original_max_len == 0)
        rope->original_max_len = desc->max_len;
    double factor =
        rope->factor > 0 ? rope->factor : (double)desc->max_len / rope->original_max_len;
    if (rope->attn_factor == 0 && factor > 1)
        rope->attn_factor = sqrt(1 + log(factor) / log(rope->original_max_len));
    return HDL_OK;
}

hdl_err hdl_arch_complete_ropes(hdl_model_desc *desc, hdl_errmsg *why)
{
    for (uint32_t i = 0; i < desc->n_ropes; i++) {
        hdl_rope *rope = &desc->ropes[i];
        if (rope->dim == 0)
            rope->dim = (uint32_t)(desc->head_dim * (rope->partial > 0 ? rope->partial : 1.0));
        if (rope->kind == HDL_ROPE_LONGROPE)
            HDL_TRY(complete_longrope(desc, rope, why));
    }
    return HDL_OK;
}
