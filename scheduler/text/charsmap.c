/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/text/charsmap.h"

#include <string.h>

#include "scheduler/text/unicode.h"
#include "scheduler/text/utf8.h"

enum { WHOLE_BYTES = 6 }; /* graphemes below this length are looked up whole first */

static uint32_t u32_at(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* A unit of the double array (darts-clone): label in the low byte, bit 8: a value hangs here, bit
 * 9: the offset counts in 256s, offset from bit 10 on. A value has bit 31 set. */
static uint32_t offset_of(uint32_t unit) { return (unit >> 10) << ((unit & 1u << 9) >> 6); }

/* Damage counts as a rule, so that it is met when the character is. */
static bool has_child(const hdl_charsmap *map, unsigned char c)
{
    size_t at = offset_of(u32_at(map->units)) ^ c;
    return at >= map->n_units || (u32_at(map->units + 4 * at) & (1u << 31 | 0xff)) == c;
}

hdl_err hdl_charsmap_init(hdl_charsmap *map, hdl_text bytes, hdl_errmsg *why)
{
    size_t trie = bytes.len >= 4 ? u32_at((const unsigned char *)bytes.p) : 0;
    if (bytes.len < 4 || trie > bytes.len - 4 || trie % 4 != 0 || trie == 0)
        return hdl_fail(HDL_INVALID, why,
                        "precompiled_charsmap: %zu bytes cannot hold the trie of %zu; the file is "
                        "broken",
                        bytes.len, trie);
    *map = (hdl_charsmap){.units = (const unsigned char *)bytes.p + 4,
                          .n_units = trie / 4,
                          .strings = bytes.p + 4 + trie,
                          .n_strings = bytes.len - 4 - trie};
    if (hdl_utf8_valid_prefix(map->strings, map->n_strings) < map->n_strings)
        return hdl_fail(HDL_INVALID, why,
                        "precompiled_charsmap: a replacement is no UTF-8; the file is broken");
    for (unsigned c = 1; c < 128; c++)
        map->ascii[c] = has_child(map, (unsigned char)c);
    return HDL_OK;
}

static hdl_err value_at(const hdl_charsmap *map, size_t at, hdl_text *out)
{
    if (at >= map->n_units)
        return HDL_INVALID;
    size_t from = u32_at(map->units + 4 * at) & 0x7fffffffu;
    if (from >= map->n_strings)
        return HDL_INVALID;
    const char *p = map->strings + from, *end = memchr(p, 0, map->n_strings - from);
    size_t len = end ? (size_t)(end - p) : map->n_strings - from;
    if (hdl_utf8_valid_prefix(p, len) < len) /* it may begin inside a character */
        return HDL_INVALID;
    *out = (hdl_text){p, len};
    return HDL_OK;
}

hdl_err hdl_charsmap_find(const hdl_charsmap *map, hdl_text text, bool longest,
                          hdl_charsmap_hit *hit)
{
    *hit = (hdl_charsmap_hit){0};
    size_t at = offset_of(u32_at(map->units));
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.p[i];
        at ^= c;
        if (c == 0)
            break;
        if (at >= map->n_units)
            return HDL_INVALID;
        uint32_t unit = u32_at(map->units + 4 * at);
        if ((unit & (1u << 31 | 0xff)) != c)
            break;
        at ^= offset_of(unit);
        if ((unit >> 8 & 1) == 0)
            continue;
        HDL_TRY(value_at(map, at, &hit->with));
        hit->len = i + 1;
        if (!longest)
            break;
    }
    return HDL_OK;
}

/* A replacement of the beginning replaces all: that is how the original reads its own table. */
static hdl_err rewrite(const hdl_charsmap *map, hdl_text part, bool *done, hdl_buf *out)
{
    hdl_charsmap_hit hit;
    HDL_TRY(hdl_charsmap_find(map, part, false, &hit));
    *done = hit.len > 0;
    return *done ? hdl_buf_append(out, hit.with.p, hit.with.len) : HDL_OK;
}

static hdl_err character(const hdl_charsmap *map, hdl_text text, hdl_buf *out)
{
    bool done;
    HDL_TRY(rewrite(map, text, &done, out));
    return done ? HDL_OK : hdl_buf_append(out, text.p, text.len);
}

static hdl_err grapheme(const hdl_charsmap *map, hdl_text text, hdl_buf *out)
{
    bool done = false;
    if (text.len < WHOLE_BYTES)
        HDL_TRY(rewrite(map, text, &done, out));
    for (size_t at = 0; at < text.len && !done;) {
        size_t from = at;
        hdl_utf8_next(text.p, &at);
        HDL_TRY(character(map, (hdl_text){text.p + from, at - from}, out));
    }
    return HDL_OK;
}

/* Most graphemes are one character: most of them need no pattern. Returns the end of those that
 * begin at `from`. Whether the last character stands alone is up to what follows it. */
static size_t find_run(hdl_text text, size_t from)
{
    size_t last = from;
    for (size_t at = from; at < text.len;) {
        size_t start = at;
        if (!hdl_unicode_stands_alone(hdl_utf8_next(text.p, &at)))
            return last;
        last = start;
    }
    return text.len;
}

static hdl_err rewrite_run(const hdl_charsmap *map, hdl_text text, hdl_buf *out)
{
    for (size_t at = 0; at < text.len;) {
        size_t from = at;
        while (at < text.len && (unsigned char)text.p[at] < 128 && !map->ascii[(int)text.p[at]])
            at++;
        if (at > from)
            HDL_TRY(hdl_buf_append(out, text.p + from, at - from));
        if (at == text.len)
            break;
        from = at;
        hdl_utf8_next(text.p, &at);
        HDL_TRY(character(map, (hdl_text){text.p + from, at - from}, out));
    }
    return HDL_OK;
}

hdl_err hdl_charsmap_graphemes(const hdl_charsmap *map, hdl_regex_scan *graphemes, hdl_buf *out)
{
    const hdl_text text = graphemes->subject;
    for (bool found;;) {
        size_t from = graphemes->from, end = find_run(text, from);
        HDL_TRY(rewrite_run(map, (hdl_text){text.p + from, end - from}, out));
        graphemes->from = end;
        if (end == text.len)
            return HDL_OK;
        HDL_TRY(hdl_regex_next(graphemes, &found));
        if (!found)
            return HDL_OK;
        hdl_text one = {text.p + graphemes->start, graphemes->end - graphemes->start};
        HDL_TRY(grapheme(map, one, out));
    }
}
