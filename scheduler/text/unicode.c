/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/text/unicode.h"

#include <stdlib.h>
#include <string.h>

#include "scheduler/text/unicode_tables.h"
#include "scheduler/text/utf8.h"

/* Hangul syllables are composed by arithmetic (Unicode 3.12). */
enum {
    S_BASE = 0xac00,
    L_BASE = 0x1100,
    V_BASE = 0x1161,
    T_BASE = 0x11a7,
    L_COUNT = 19,
    V_COUNT = 21,
    T_COUNT = 28,
    S_COUNT = L_COUNT * V_COUNT * T_COUNT,
};

static bool special_in_nfc(uint32_t cp)
{
    if (cp < 0x300 || cp >= hdl_uni_special_end)
        return false;
    return hdl_uni_special_bits[hdl_uni_special_page[cp >> 8]][cp >> 5 & 7] >> (cp & 31) & 1;
}

static uint8_t combining_class(uint32_t cp)
{
    if (!special_in_nfc(cp)) /* holds every character with a class */
        return 0;
    uint32_t lo = 0, hi = hdl_uni_combining_n;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        if (hdl_uni_combining[mid].last < cp)
            lo = mid + 1;
        else
            hi = mid;
    }
    bool in = lo < hdl_uni_combining_n && hdl_uni_combining[lo].first <= cp;
    return in ? hdl_uni_combining[lo].combining_class : 0;
}

static const hdl_uni_decomposition *decomposition(uint32_t cp)
{
    uint32_t lo = 0, hi = hdl_uni_decomposed_n;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        if (hdl_uni_decomposed[mid].cp < cp)
            lo = mid + 1;
        else
            hi = mid;
    }
    bool in = lo < hdl_uni_decomposed_n && hdl_uni_decomposed[lo].cp == cp;
    return in ? &hdl_uni_decomposed[lo] : NULL;
}

static bool special_in_nfd(uint32_t cp)
{
    if (cp < 0xc0)
        return false;
    return cp - S_BASE < S_COUNT || decomposition(cp) != NULL || combining_class(cp) != 0;
}

static bool special(hdl_normal_form form, uint32_t cp)
{
    return form == HDL_NFC ? special_in_nfc(cp) : special_in_nfd(cp);
}

/* One character of a segment with its class, so that sorting looks nothing up. */
typedef struct mark {
    uint32_t cp;
    uint8_t class;
} mark;

typedef struct segment {
    mark *v;
    size_t n, size;
} segment;

static hdl_err push(segment *s, uint32_t cp)
{
    if (s->n == s->size) {
        size_t size = s->size ? 2 * s->size : 64;
        mark *v = realloc(s->v, size * sizeof *v);
        if (v == NULL)
            return HDL_NOMEM;
        s->v = v;
        s->size = size;
    }
    s->v[s->n++] = (mark){cp, combining_class(cp)};
    return HDL_OK;
}

/* Depth is that of the table: at most 4. */
static hdl_err decompose(segment *s, uint32_t cp)
{
    uint32_t syllable = cp - S_BASE;
    if (syllable < S_COUNT) {
        HDL_TRY(push(s, L_BASE + syllable / (V_COUNT * T_COUNT)));
        HDL_TRY(push(s, V_BASE + syllable % (V_COUNT * T_COUNT) / T_COUNT));
        return syllable % T_COUNT ? push(s, T_BASE + syllable % T_COUNT) : HDL_OK;
    }
    const hdl_uni_decomposition *d = decomposition(cp);
    if (d == NULL)
        return push(s, cp);
    HDL_TRY(decompose(s, d->a));
    return d->b ? decompose(s, d->b) : HDL_OK;
}

/* Stable sort by class: by insertion for the runs that occur in writing, by counting for those that
 * are an attack. */
static hdl_err sort_run(mark *v, size_t n)
{
    enum { SHORT_RUN = 32 };
    if (n <= SHORT_RUN) {
        for (size_t i = 1; i < n; i++) {
            mark m = v[i];
            size_t at = i;
            for (; at > 0 && v[at - 1].class > m.class; at--)
                v[at] = v[at - 1];
            v[at] = m;
        }
        return HDL_OK;
    }
    mark *sorted = malloc(n * sizeof *sorted);
    if (sorted == NULL)
        return HDL_NOMEM;
    size_t start[257] = {0};
    for (size_t i = 0; i < n; i++)
        start[v[i].class + 1]++;
    for (size_t c = 1; c < 257; c++)
        start[c] += start[c - 1];
    for (size_t i = 0; i < n; i++)
        sorted[start[v[i].class]++] = v[i];
    memcpy(v, sorted, n * sizeof *v);
    free(sorted);
    return HDL_OK;
}

static hdl_err reorder(segment *s)
{
    for (size_t i = 0; i < s->n;) {
        size_t end = i;
        while (end < s->n && s->v[end].class != 0)
            end++;
        if (end - i > 1)
            HDL_TRY(sort_run(s->v + i, end - i));
        i = end > i ? end : i + 1;
    }
    return HDL_OK;
}

/* What a and b compose to, or 0. */
static uint32_t composed(uint32_t a, uint32_t b)
{
    if (a - L_BASE < L_COUNT && b - V_BASE < V_COUNT)
        return S_BASE + ((a - L_BASE) * V_COUNT + (b - V_BASE)) * T_COUNT;
    if (a - S_BASE < S_COUNT && (a - S_BASE) % T_COUNT == 0 && b > T_BASE && b - T_BASE < T_COUNT)
        return a + (b - T_BASE);
    uint32_t lo = 0, hi = hdl_uni_composed_n;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        const hdl_uni_decomposition *d = &hdl_uni_decomposed[hdl_uni_composed[mid]];
        if (d->a == a && d->b == b)
            return d->cp;
        if (d->a < a || (d->a == a && d->b < b))
            lo = mid + 1;
        else
            hi = mid;
    }
    return 0;
}

/* Canonical composition: a character joins the last starter unless one of its own or a higher class
 * stands between them. */
static void compose(segment *s)
{
    size_t n = 0, starter = SIZE_MAX;
    uint8_t last_class = 0;
    for (size_t i = 0; i < s->n; i++) {
        mark m = s->v[i];
        bool adjacent = starter != SIZE_MAX && starter + 1 == n;
        bool blocked = starter == SIZE_MAX || (!adjacent && last_class >= m.class);
        uint32_t joined = blocked ? 0 : composed(s->v[starter].cp, m.cp);
        if (joined != 0) {
            s->v[starter].cp = joined;
            continue;
        }
        if (m.class == 0)
            starter = n;
        last_class = m.class;
        s->v[n++] = m;
    }
    s->n = n;
}

static hdl_err normalize_segment(hdl_normal_form form, hdl_text text, segment *s, hdl_buf *out)
{
    s->n = 0;
    for (size_t at = 0; at < text.len;)
        HDL_TRY(decompose(s, hdl_utf8_next(text.p, &at)));
    HDL_TRY(reorder(s));
    if (form == HDL_NFC)
        compose(s);
    for (size_t i = 0; i < s->n; i++) {
        char bytes[4];
        HDL_TRY(hdl_buf_append(out, bytes, hdl_utf8_write(s->v[i].cp, bytes)));
    }
    return HDL_OK;
}

size_t hdl_unicode_normal_prefix(hdl_normal_form form, hdl_text text)
{
    size_t safe = 0; /* the last character may still join with the next one */
    for (size_t at = 0; at < text.len;) {
        size_t start = at;
        if (special(form, hdl_utf8_next(text.p, &at)))
            return safe;
        safe = start;
    }
    return text.len;
}

hdl_err hdl_unicode_normalize(hdl_normal_form form, hdl_text text, hdl_buf *out)
{
    segment s = {0};
    hdl_err err = HDL_OK;
    while (text.len > 0 && err == HDL_OK) {
        size_t keep = hdl_unicode_normal_prefix(form, text);
        err = hdl_buf_append(out, text.p, keep);
        text = (hdl_text){text.p + keep, text.len - keep};
        if (text.len == 0 || err != HDL_OK)
            break;
        /* A starter, what may join it, and all up to the next character that nothing before it can
         * change. */
        size_t end = 0, next = 0;
        hdl_utf8_next(text.p, &end);
        for (next = end; end < text.len && special(form, hdl_utf8_next(text.p, &next)); end = next)
            ;
        err = normalize_segment(form, (hdl_text){text.p, end}, &s, out);
        text = (hdl_text){text.p + end, text.len - end};
    }
    free(s.v);
    return err;
}

size_t hdl_unicode_lower(uint32_t cp, uint32_t out[2])
{
    out[0] = cp;
    if (cp == 0x130) { /* dotted capital I keeps its dot */
        out[0] = 'i';
        out[1] = 0x307;
        return 2;
    }
    for (uint32_t i = 0; i < hdl_uni_lower_n && hdl_uni_lower[i].first <= cp; i++) {
        const hdl_uni_lower_run *r = &hdl_uni_lower[i];
        if (cp <= r->last && (cp - r->first) % r->step == 0)
            out[0] = (uint32_t)((int32_t)cp + r->delta);
    }
    return 1;
}

uint32_t hdl_unicode_upper(uint32_t cp)
{
    for (uint32_t i = 0; i < hdl_uni_lower_n; i++) {
        const hdl_uni_lower_run *r = &hdl_uni_lower[i];
        uint32_t up = (uint32_t)((int32_t)cp - r->delta);
        if (up >= r->first && up <= r->last && (up - r->first) % r->step == 0)
            return up;
    }
    return cp;
}

bool hdl_unicode_is_space(uint32_t cp)
{
    return (cp >= 9 && cp <= 13) || cp == 0x20 || cp == 0x85 || cp == 0xa0 || cp == 0x1680 ||
           (cp >= 0x2000 && cp <= 0x200a) || cp == 0x2028 || cp == 0x2029 || cp == 0x202f ||
           cp == 0x205f || cp == 0x3000;
}

bool hdl_unicode_stands_alone(uint32_t cp)
{
    if (cp < 0x7f)
        return cp >= 0x20;
    if (cp < 0x300)
        return cp > 0xa0 && cp != 0xad;
    if (cp < 0x590)
        return cp >= 0x370 && (cp < 0x483 || cp > 0x489);
    return (cp >= 0x5d0 && cp <= 0x5ea) || (cp >= 0x620 && cp <= 0x64a) ||
           (cp >= 0x1e00 && cp <= 0x200a) || (cp >= 0x2010 && cp <= 0x2027) ||
           (cp >= 0x3000 && cp <= 0x3029) || (cp >= 0x3041 && cp <= 0x3096) ||
           (cp >= 0x309b && cp <= 0x9fff) || (cp >= 0xac00 && cp <= 0xd7a3);
}
