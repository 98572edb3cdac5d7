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

static const char common_members[] = " rope_theta rope_type type partial_rotary_factor ";
static const struct {
    const char *name;
    hdl_err (*read)(hdl_rope *rope, const hdl_jv *v, hdl_errmsg *why);
    const char *members; /* each between spaces */
} kinds[] = {
    {"default", NULL, " "},
    {"linear", read_linear, " factor "},
    {"llama3", read_llama3,
     " factor low_freq_factor high_freq_factor original_max_position_embeddings "},
    {"yarn", read_yarn,
     " factor original_max_position_embeddings beta_fast beta_slow attention_factor mscale "
     "mscale_all_dim truncate "},
};

static bool listed(const char *members, const char *name)
{
    size_t len = strlen(name);
    for (const char *at = strstr(members, name); len > 0 && at; at = strstr(at + 1, name))
        if (at[-1] == ' ' && at[len] == ' ')
            return true;
    return false;
}

static hdl_err check_members(const hdl_jv *v, size_t kind, hdl_errmsg *why)
{
    void *iter = NULL;
    hdl_jv m;
    while (hdl_jv_next(v, &iter, &m))
        if (hdl_jv_given(&m) && !listed(common_members, m.key) &&
            !listed(kinds[kind].members, m.key))
            return hdl_fail(HDL_UNSUPPORTED, why,
                            "config.json: unknown key \"%.60s\" of rotary scaling \"%s\"; it might "
                            "change the mathematics; remove it if it does not, or report it",
                            m.key, kinds[kind].name);
    return HDL_OK;
}

hdl_err hdl_arch_read_rope(hdl_rope *rope, const hdl_jv *v, hdl_errmsg *why)
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
    for (size_t i = 0; i < HDL_ARRAY_LEN(kinds); i++) {
        if (strcmp(kinds[i].name, name) != 0)
            continue;
        HDL_TRY(check_members(v, i, why));
        return kinds[i].read ? kinds[i].read(rope, v, why) : HDL_OK;
    }
    return hdl_fail(HDL_UNSUPPORTED, why,
                    "config.json: rotary scaling \"%.40s\" is not supported; default, linear, "
                    "llama3 and yarn are; choose a model that uses one of them",
                    name);
}

hdl_err hdl_arch_key_rope(hdl_model_desc *desc, const hdl_jv *v, hdl_errmsg *why)
{
    return hdl_arch_read_rope(&desc->ropes[0], v, why);
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
