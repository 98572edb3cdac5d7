/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/text/base64.h"

static int digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool hdl_base64_decode(hdl_text text, unsigned char *out, size_t *n)
{
    size_t padding = 0;
    *n = 0;
    while (padding < 2 && padding < text.len && text.p[text.len - 1 - padding] == '=')
        padding++;
    if (text.len % 4 != 0)
        return false;
    uint32_t bits = 0;
    for (size_t i = 0; i < text.len; i++) {
        int d = i < text.len - padding ? digit(text.p[i]) : 0;
        if (d < 0)
            return false;
        bits = bits << 6 | (uint32_t)d;
        if (i % 4 != 3)
            continue;
        size_t bytes = i + 1 == text.len ? 3 - padding : 3;
        uint32_t stray = bytes < 3 ? (1u << 8 * (3 - bytes)) - 1 : 0;
        if ((bits & stray) != 0)
            return false; /* another text means the same bytes */
        for (size_t k = 0; k < bytes; k++)
            out[(*n)++] = (unsigned char)(bits >> (16 - 8 * k));
        bits = 0;
    }
    return true;
}
