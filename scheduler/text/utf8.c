/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/text/utf8.h"

#include <string.h>

/* Unicode 15, table 3-7: lead byte -> length, and the range of the second byte, which is what
 * excludes overlong forms, surrogates and values beyond U+10FFFF. */
static bool lead(unsigned char b, uint8_t *len, unsigned char *lo, unsigned char *hi)
{
    *lo = 0x80;
    *hi = 0xbf;
    if (b >= 0xc2 && b <= 0xdf) {
        *len = 2;
    } else if (b >= 0xe0 && b <= 0xef) {
        *len = 3;
        *lo = b == 0xe0 ? 0xa0 : 0x80;
        *hi = b == 0xed ? 0x9f : 0xbf;
    } else if (b >= 0xf0 && b <= 0xf4) {
        *len = 4;
        *lo = b == 0xf0 ? 0x90 : 0x80;
        *hi = b == 0xf4 ? 0x8f : 0xbf;
    } else {
        return false;
    }
    return true;
}

hdl_utf8_char hdl_utf8_read(const void *text, size_t n)
{
    const unsigned char *p = text;
    if (p[0] < 0x80)
        return (hdl_utf8_char){.cp = p[0], .bytes = 1, .ok = true};
    uint8_t len;
    unsigned char lo, hi;
    if (!lead(p[0], &len, &lo, &hi))
        return (hdl_utf8_char){.bytes = 1};
    uint32_t cp = p[0] & (0x7fu >> len);
    for (uint8_t i = 1; i < len; i++) {
        if (i == n)
            return (hdl_utf8_char){.bytes = i, .cut_short = true};
        if (p[i] < lo || p[i] > hi)
            return (hdl_utf8_char){.bytes = i};
        cp = cp << 6 | (p[i] & 0x3f);
        lo = 0x80;
        hi = 0xbf;
    }
    return (hdl_utf8_char){.cp = cp, .bytes = len, .ok = true};
}

size_t hdl_utf8_valid_prefix(const char *text, size_t len)
{
    size_t at = 0;
    while (at < len) {
        uint64_t word;
        while (len - at >= sizeof word) {
            memcpy(&word, text + at, sizeof word);
            if (word & 0x8080808080808080u)
                break;
            at += sizeof word;
        }
        if (at == len)
            break;
        hdl_utf8_char c = hdl_utf8_read(text + at, len - at);
        if (!c.ok)
            return at;
        at += c.bytes;
    }
    return len;
}

size_t hdl_utf8_write(uint32_t cp, char out[4])
{
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (char)(0xc0 | cp >> 6);
        out[1] = (char)(0x80 | (cp & 0x3f));
        return 2;
    }
    if (cp < 0x10000) {
        out[0] = (char)(0xe0 | cp >> 12);
        out[1] = (char)(0x80 | (cp >> 6 & 0x3f));
        out[2] = (char)(0x80 | (cp & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | cp >> 18);
    out[1] = (char)(0x80 | (cp >> 12 & 0x3f));
    out[2] = (char)(0x80 | (cp >> 6 & 0x3f));
    out[3] = (char)(0x80 | (cp & 0x3f));
    return 4;
}
