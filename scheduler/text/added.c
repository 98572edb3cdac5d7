/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/text/added.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "scheduler/text/unicode.h"
#include "scheduler/text/utf8.h"

/* \w of the regular expressions that the original uses here (Rust's regex crate). */
static const char WORD[] = "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200c}\\x{200d}]";

hdl_err hdl_added_init(hdl_added_set *set, hdl_pool_arena *arena, uint32_t n_max)
{
    *set = (hdl_added_set){.n_max = n_max};
    set->tokens = hdl_pool_arena_alloc_array(arena, (size_t)n_max + 1, sizeof *set->tokens);
    return set->tokens ? HDL_OK : HDL_NOMEM;
}

void hdl_added_put(hdl_added_set *set, const hdl_added_token *token)
{
    HDL_ASSERT_LT(set->n, set->n_max);
    if (token->text.len > 0)
        set->tokens[set->n++] = *token;
}

static int by_text(const void *a, const void *b)
{
    hdl_text x = ((const hdl_added_token *)a)->text, y = ((const hdl_added_token *)b)->text;
    int order = memcmp(x.p, y.p, x.len < y.len ? x.len : y.len);
    if (order == 0)
        order = (x.len > y.len) - (x.len < y.len);
    hdl_token i = ((const hdl_added_token *)a)->id, j = ((const hdl_added_token *)b)->id;
    return order != 0 ? order : (i > j) - (i < j);
}

hdl_err hdl_added_finish(hdl_added_set *set, hdl_errmsg *why)
{
    qsort(set->tokens, set->n, sizeof *set->tokens, by_text);
    bool single_word = false;
    uint32_t i = 0;
    for (unsigned b = 0; b <= 256; b++) {
        while (i < set->n && (unsigned char)set->tokens[i].text.p[0] < b)
            i++;
        set->first[b] = i;
    }
    for (i = 0; i < set->n; i++) {
        single_word |= set->tokens[i].single_word;
        set->has_special |= set->tokens[i].special;
    }
    return single_word ? hdl_regex_open(&set->word, (hdl_text){WORD, sizeof WORD - 1}, why)
                       : HDL_OK;
}

void hdl_added_deinit(hdl_added_set *set)
{
    hdl_regex_free(set->word);
    set->word = NULL;
}

/* The longest token that the text continues with, or NULL: the range of tokens that share the bytes
 * so far shrinks byte by byte. */
static const hdl_added_token *match_at(const hdl_added_set *set, const char *p, size_t len)
{
    const hdl_added_token *best = NULL;
    uint32_t lo = set->first[(unsigned char)*p], hi = set->first[(unsigned char)*p + 1];
    for (size_t depth = 1; lo < hi; depth++) {
        for (bool first = true; lo < hi && set->tokens[lo].text.len == depth; lo++, first = false)
            best = first ? &set->tokens[lo] : best; /* two texts may be normalised to the same */
        if (depth == len)
            break;
        uint32_t end = hi;
        for (uint32_t a = lo, b = end; (lo = a) < b;) { /* first with a byte >= p[depth] */
            uint32_t mid = a + (b - a) / 2;
            if ((unsigned char)set->tokens[mid].text.p[depth] < (unsigned char)p[depth])
                a = mid + 1;
            else
                b = mid;
        }
        for (uint32_t a = lo, b = end; (hi = a) < b;) { /* first with a byte > p[depth] */
            uint32_t mid = a + (b - a) / 2;
            if ((unsigned char)set->tokens[mid].text.p[depth] <= (unsigned char)p[depth])
                a = mid + 1;
            else
                b = mid;
        }
    }
    return best;
}

static hdl_err is_word(hdl_added_scan *scan, size_t start, size_t end, bool *word)
{
    hdl_regex_scan one = {.regex = scan->set->word,
                          .work = scan->work,
                          .subject = {scan->text.p + start, end - start}};
    return hdl_regex_next(&one, word);
}

static hdl_err inside_word(hdl_added_scan *scan, size_t start, size_t end, bool *inside)
{
    *inside = false;
    if (start > 0)
        HDL_TRY(is_word(scan, hdl_utf8_before(scan->text.p, start), start, inside));
    if (!*inside && end < scan->text.len) {
        size_t next = end;
        hdl_utf8_next(scan->text.p, &next);
        HDL_TRY(is_word(scan, end, next, inside));
    }
    return HDL_OK;
}

/* Widens the match over white space as the token asks, hands it out. */
static void take(hdl_added_scan *scan, const hdl_added_token *t, size_t start)
{
    hdl_text text = scan->text;
    size_t end = start + t->text.len;
    while (t->lstrip && start > scan->done) {
        size_t before = hdl_utf8_before(text.p, start), at = before;
        if (!hdl_unicode_is_space(hdl_utf8_next(text.p, &at)))
            break;
        start = before;
    }
    scan->from = end;
    while (t->rstrip && end < text.len) {
        size_t next = end;
        if (!hdl_unicode_is_space(hdl_utf8_next(text.p, &next)))
            break;
        end = next;
    }
    /* A token may begin in white space that the one before it took with rstrip: no gap then. */
    size_t gap_end = start > scan->done ? start : scan->done;
    scan->gap = (hdl_text){text.p + scan->done, gap_end - scan->done};
    scan->done = end > scan->done ? end : scan->done;
    scan->id = t->id;
}

static bool allowed(hdl_added_scan *scan, size_t at, size_t end)
{
    hdl_range range = {scan->base + at, scan->base + end};
    return scan->special_in == NULL || hdl_ranges_hold(scan->special_in, range, &scan->cursor);
}

/* Where the search goes on behind a token at `at` that lies outside: at the next range at the
 * latest. hdl_ranges_hold has left the cursor at the first range that ends behind `at`. */
static size_t past_outside(const hdl_added_scan *scan, size_t at, size_t end)
{
    for (size_t i = scan->cursor; i < scan->special_in->n; i++) {
        size_t next = scan->special_in->v[i].at;
        if (next > scan->base + at)
            return next - scan->base < end ? next - scan->base : end;
    }
    return end;
}

hdl_err hdl_added_next(hdl_added_scan *scan)
{
    const hdl_added_set *set = scan->set;
    hdl_text text = scan->text;
    for (size_t at = scan->from; set->n > 0 && at < text.len; at++) {
        unsigned char b = (unsigned char)text.p[at];
        if (set->first[b] == set->first[b + 1])
            continue;
        const hdl_added_token *t = match_at(set, text.p + at, text.len - at);
        if (t == NULL)
            continue;
        bool skip = t->special && scan->special_is_text;
        bool outside = t->special && !allowed(scan, at, at + t->text.len);
        if (!skip && !outside && t->single_word)
            HDL_TRY(inside_word(scan, at, at + t->text.len, &skip));
        if (!skip && !outside) {
            take(scan, t, at);
            return HDL_OK;
        }
        at = outside ? past_outside(scan, at, at + t->text.len) - 1 : at + t->text.len - 1;
    }
    scan->gap = (hdl_text){text.p + scan->done, text.len - scan->done};
    scan->from = scan->done = text.len;
    scan->id = -1;
    return HDL_OK;
}
