/* SPDX-License-Identifier: Apache-2.0 */
/* Well-formed UTF-8 (RFC 3629: no overlong form, no surrogate, at most U+10FFFF). Pure; any
 * thread; decoding and classes of characters are scheduler/text's. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Length of the well-formed sequence of two to four bytes at p, or 0; left >= 1. */
static inline size_t hdl_utf8_multibyte(const unsigned char *p, size_t left)
{
    unsigned char lo = 0x80, hi = 0xBF;
    size_t n;
    if (p[0] >= 0xC2 && p[0] <= 0xDF) {
        n = 2;
    } else if (p[0] >= 0xE0 && p[0] <= 0xEF) {
        n = 3;
        lo = p[0] == 0xE0 ? 0xA0 : lo;
        hi = p[0] == 0xED ? 0x9F : hi;
    } else if (p[0] >= 0xF0 && p[0] <= 0xF4) {
        n = 4;
        lo = p[0] == 0xF0 ? 0x90 : lo;
        hi = p[0] == 0xF4 ? 0x8F : hi;
    } else {
        return 0;
    }
    if (left < n || p[1] < lo || p[1] > hi)
        return 0;
    for (size_t i = 2; i < n; i++)
        if (p[i] < 0x80 || p[i] > 0xBF)
            return 0;
    return n;
}

/* Something that may stand in a message as it is: UTF-8 without control characters, not empty. */
static inline bool hdl_utf8_is_name(const void *bytes, size_t len)
{
    const unsigned char *p = bytes;
    for (size_t i = 0; i < len;) {
        size_t n = p[i] >= 0x20 && p[i] < 0x7f ? 1
                   : p[i] >= 0x80              ? hdl_utf8_multibyte(p + i, len - i)
                                               : 0;
        if (n == 0)
            return false;
        i += n;
    }
    return len != 0;
}
