/* SPDX-License-Identifier: Apache-2.0 */
/* Values of GGUF metadata by key and type. */
#include <string.h>

#include "base/assert.h"
#include "base/cursor.h"
#include "base/gguf_part.h"

static bool is_float(hdl_gguf_type type) { return type == HDL_GGUF_F32 || type == HDL_GGUF_F64; }

static bool is_int(hdl_gguf_type type)
{
    return hdl_gguf_type_bytes(type) != 0 && !is_float(type) && type != HDL_GGUF_BOOL;
}

static bool is_signed(hdl_gguf_type type)
{
    return type == HDL_GGUF_I8 || type == HDL_GGUF_I16 || type == HDL_GGUF_I32 ||
           type == HDL_GGUF_I64;
}

/* The element's bits, unsigned. */
static uint64_t bits_at(const hdl_gguf_kv *kv, uint64_t idx)
{
    size_t width = hdl_gguf_type_bytes(kv->type);
    HDL_ASSERT(idx < kv->count && width != 0);
    hdl_cursor c = hdl_cursor_of(kv->data + idx * width, width);
    return hdl_cursor_le_(&c, width);
}

int64_t hdl_gguf_int_at(const hdl_gguf_kv *kv, uint64_t idx)
{
    HDL_ASSERT(!is_float(kv->type));
    uint64_t bits = bits_at(kv, idx);
    if (!is_signed(kv->type))
        return bits > INT64_MAX ? INT64_MAX : (int64_t)bits;
    uint64_t sign = UINT64_C(1) << (8 * hdl_gguf_type_bytes(kv->type) - 1);
    return (int64_t)((bits ^ sign) - sign);
}

double hdl_gguf_float_at(const hdl_gguf_kv *kv, uint64_t idx)
{
    if (!is_float(kv->type))
        return (double)hdl_gguf_int_at(kv, idx);
    uint64_t bits = bits_at(kv, idx);
    if (kv->type == HDL_GGUF_F64) {
        double value;
        memcpy(&value, &bits, sizeof(value));
        return value;
    }
    uint32_t low = (uint32_t)bits;
    float value;
    memcpy(&value, &low, sizeof(value));
    return (double)value;
}

bool hdl_gguf_kv_u64(const hdl_gguf_kv *kv, uint64_t *out)
{
    if (kv->is_array || !is_int(kv->type))
        return false;
    uint64_t bits = bits_at(kv, 0);
    if (is_signed(kv->type) && hdl_gguf_int_at(kv, 0) < 0)
        return false;
    *out = bits;
    return true;
}

bool hdl_gguf_next_string(const hdl_gguf_kv *kv, size_t *at, hdl_gguf_str *out)
{
    HDL_ASSERT(kv->type == HDL_GGUF_STRING && *at <= kv->bytes);
    hdl_cursor c = hdl_cursor_of(kv->data + *at, kv->bytes - *at);
    uint64_t len = hdl_cursor_u64(&c);
    const unsigned char *text = hdl_cursor_bytes(&c, (size_t)len);
    if (!text)
        return false;
    *out = (hdl_gguf_str){.data = (const char *)text, .len = (size_t)len};
    *at += c.at;
    return true;
}

static hdl_err find(const hdl_gguf *g, const char *key, const hdl_gguf_kv **kv, hdl_errmsg *why)
{
    *kv = hdl_gguf_find(g, key);
    if (*kv)
        return HDL_OK;
    return hdl_fail(HDL_NOTFOUND, why,
                    "the file has no %s; its converter should have written it; convert the model "
                    "again",
                    key);
}

static hdl_err fail_type(const char *key, const char *expected, hdl_errmsg *why)
{
    return hdl_fail(HDL_INVALID, why,
                    "%s is not %s; its value has another type or sign; convert the model again",
                    key, expected);
}

hdl_err hdl_gguf_u64(const hdl_gguf *g, const char *key, uint64_t *out, hdl_errmsg *why)
{
    const hdl_gguf_kv *kv;
    HDL_TRY(find(g, key, &kv, why));
    return hdl_gguf_kv_u64(kv, out) ? HDL_OK : fail_type(key, "a count", why);
}

hdl_err hdl_gguf_f64(const hdl_gguf *g, const char *key, double *out, hdl_errmsg *why)
{
    const hdl_gguf_kv *kv;
    HDL_TRY(find(g, key, &kv, why));
    if (kv->is_array || !(is_int(kv->type) || is_float(kv->type)))
        return fail_type(key, "a number", why);
    *out = hdl_gguf_float_at(kv, 0);
    return HDL_OK;
}

hdl_err hdl_gguf_bool(const hdl_gguf *g, const char *key, bool *out, hdl_errmsg *why)
{
    const hdl_gguf_kv *kv;
    HDL_TRY(find(g, key, &kv, why));
    if (kv->is_array || kv->type != HDL_GGUF_BOOL)
        return fail_type(key, "a truth value", why);
    *out = kv->data[0] != 0;
    return HDL_OK;
}

hdl_err hdl_gguf_string(const hdl_gguf *g, const char *key, hdl_gguf_str *out, hdl_errmsg *why)
{
    const hdl_gguf_kv *kv;
    size_t at = 0;
    HDL_TRY(find(g, key, &kv, why));
    if (kv->is_array || kv->type != HDL_GGUF_STRING || !hdl_gguf_next_string(kv, &at, out))
        return fail_type(key, "a text", why);
    return HDL_OK;
}

hdl_err hdl_gguf_array(const hdl_gguf *g, hdl_gguf_want want, const hdl_gguf_kv **out,
                       hdl_errmsg *why)
{
    const hdl_gguf_kv *kv;
    HDL_TRY(find(g, want.key, &kv, why));
    bool fits = kv->type == want.type || (want.type == HDL_GGUF_I64 && is_int(kv->type)) ||
                (want.type == HDL_GGUF_F64 && (is_int(kv->type) || is_float(kv->type)));
    if (!kv->is_array || !fits)
        return fail_type(want.key, "an array of the right type", why);
    *out = kv;
    return HDL_OK;
}
