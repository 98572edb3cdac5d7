/* SPDX-License-Identifier: Apache-2.0 */
/* Checked arithmetic for sizes that come from outside (files, the wire, configuration).
 *
 * Each function returns true and stores the result, or returns false and stores 0 when the
 * result does not fit: the caller turns that into a clear hdl_err. Pure; any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HDL_CHECKED_RESULT __attribute__((warn_unused_result)) static inline

HDL_CHECKED_RESULT bool hdl_add_size(size_t a, size_t b, size_t *out)
{
    bool ok = !__builtin_add_overflow(a, b, out);
    *out = ok ? *out : 0;
    return ok;
}

HDL_CHECKED_RESULT bool hdl_mul_size(size_t a, size_t b, size_t *out)
{
    bool ok = !__builtin_mul_overflow(a, b, out);
    *out = ok ? *out : 0;
    return ok;
}

HDL_CHECKED_RESULT bool hdl_add_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    bool ok = !__builtin_add_overflow(a, b, out);
    *out = ok ? *out : 0;
    return ok;
}

HDL_CHECKED_RESULT bool hdl_mul_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    bool ok = !__builtin_mul_overflow(a, b, out);
    *out = ok ? *out : 0;
    return ok;
}

HDL_CHECKED_RESULT bool hdl_add_u32(uint32_t a, uint32_t b, uint32_t *out)
{
    bool ok = !__builtin_add_overflow(a, b, out);
    *out = ok ? *out : 0;
    return ok;
}

HDL_CHECKED_RESULT bool hdl_mul_u32(uint32_t a, uint32_t b, uint32_t *out)
{
    bool ok = !__builtin_mul_overflow(a, b, out);
    *out = ok ? *out : 0;
    return ok;
}

static inline bool hdl_is_pow2(size_t v) { return v != 0 && (v & (v - 1)) == 0; }

/* Rounds up to a multiple of align, a power of two. */
HDL_CHECKED_RESULT bool hdl_align_up_size(size_t v, size_t align, size_t *out)
{
    if (!hdl_is_pow2(align) || !hdl_add_size(v, align - 1, out)) {
        *out = 0;
        return false;
    }
    *out &= ~(align - 1);
    return true;
}

/* True when [offset, offset + bytes) lies inside [0, total). Never overflows. */
static inline bool hdl_range_ok(uint64_t offset, uint64_t bytes, uint64_t total)
{
    return offset <= total && bytes <= total - offset;
}
