/* SPDX-License-Identifier: Apache-2.0 */
/* UTF-8 as Unicode defines it: no overlong forms, no surrogates, nothing above U+10FFFF. Pure; any
 * thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What stands at the start of n >= 1 bytes. */
typedef struct hdl_utf8_char {
    uint32_t cp; /* the character, when ok */
    uint8_t
        bytes; /* ok: its length. Else: bytes that one U+FFFD stands for (the maximal subpart) */
    bool ok;
    bool cut_short; /* not ok, but more bytes could still make it a character */
} hdl_utf8_char;

hdl_utf8_char hdl_utf8_read(const void *text, size_t n);

/* Of text that is known to be valid; moves *at past the character. */
static inline uint32_t hdl_utf8_next(const char *text, size_t *at)
{
    const unsigned char *p = (const unsigned char *)text + *at;
    if (p[0] < 0x80) {
        *at += 1;
        return p[0];
    }
    if (p[0] < 0xe0) {
        *at += 2;
        return (uint32_t)(p[0] & 0x1f) << 6 | (p[1] & 0x3f);
    }
    if (p[0] < 0xf0) {
        *at += 3;
        return (uint32_t)(p[0] & 0x0f) << 12 | (uint32_t)(p[1] & 0x3f) << 6 | (p[2] & 0x3f);
    }
    *at += 4;
    return (uint32_t)(p[0] & 0x07) << 18 | (uint32_t)(p[1] & 0x3f) << 12 |
           (uint32_t)(p[2] & 0x3f) << 6 | (p[3] & 0x3f);
}

/* Start of the character before `at` (> 0) in valid text. */
static inline size_t hdl_utf8_before(const char *text, size_t at)
{
    do
        at--;
    while (at > 0 && ((unsigned char)text[at] & 0xc0) == 0x80);
    return at;
}

/* Length of the longest valid prefix: len when all is valid. */
size_t hdl_utf8_valid_prefix(const char *text, size_t len);
/* Bytes written (1..4); cp is a character, not a surrogate. */
size_t hdl_utf8_write(uint32_t cp, char out[4]);
