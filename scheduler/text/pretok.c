/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/text/pretok.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

enum { KEEP_SPANS = 1 << 18, KEEP_TEXT_BYTES = 1 << 20 }; /* more is given back after use */

typedef struct span_list {
    hdl_span *v;
    size_t n, size;
} span_list;

/* A match or the gap before one; may be empty. */
typedef struct segment {
    uint32_t at, end;
    bool match;
} segment;

struct hdl_pretok_work {
    hdl_regex_work *regex;
    span_list lists[2]; /* pieces before and after a step */
    segment *segments;  /* of one piece */
    size_t segments_max;
    char *text; /* with the spaces that prefix_space put in */
    size_t text_max;
};

void hdl_pretok_deinit(hdl_pretok *pretok)
{
    for (uint32_t i = 0; i < pretok->n_steps; i++)
        hdl_regex_free(pretok->steps[i].regex);
    *pretok = (hdl_pretok){0};
}

hdl_err hdl_pretok_work_new(hdl_pretok_work **out)
{
    hdl_pretok_work *work = calloc(1, sizeof *work);
    if (work == NULL)
        return HDL_NOMEM;
    hdl_err err = hdl_regex_work_new(&work->regex);
    if (err != HDL_OK) {
        free(work);
        return err;
    }
    *out = work;
    return HDL_OK;
}

void hdl_pretok_work_free(hdl_pretok_work *work)
{
    if (work == NULL)
        return;
    hdl_regex_work_free(work->regex);
    free(work->lists[0].v);
    free(work->lists[1].v);
    free(work->segments);
    free(work->text);
    free(work);
}

hdl_regex_work *hdl_pretok_work_regex(hdl_pretok_work *work) { return work->regex; }

/* Room for one more item. Sizes stay below 2^31 items because texts do. */
static hdl_err grow(void **items, size_t *size, size_t n, size_t item_bytes)
{
    if (n < *size)
        return HDL_OK;
    size_t want = *size < 256 ? 256 : *size * 2;
    void *bigger = realloc(*items, want * item_bytes);
    if (bigger == NULL)
        return HDL_NOMEM;
    *items = bigger;
    *size = want;
    return HDL_OK;
}

static hdl_err add_span(span_list *list, size_t at, size_t end)
{
    if (at == end)
        return HDL_OK;
    if (list->n == list->size)
        HDL_TRY(grow((void **)&list->v, &list->size, list->n, sizeof *list->v));
    list->v[list->n++] = (hdl_span){(uint32_t)at, (uint32_t)(end - at)};
    return HDL_OK;
}

/* The usual step, in one pass: both matches and gaps stand alone. */
static hdl_err split_isolated(hdl_regex_scan *scan, size_t base, span_list *out)
{
    size_t done = 0;
    for (bool found;;) {
        HDL_TRY(hdl_regex_next(scan, &found));
        if (!found)
            return add_span(out, base + done, base + scan->subject.len);
        HDL_TRY(add_span(out, base + done, base + scan->start));
        HDL_TRY(add_span(out, base + scan->start, base + scan->end));
        done = scan->end;
    }
}

static hdl_err add_segment(hdl_pretok_work *work, size_t *n, segment s)
{
    HDL_TRY(grow((void **)&work->segments, &work->segments_max, *n, sizeof *work->segments));
    work->segments[(*n)++] = s;
    return HDL_OK;
}

/* Empty matches are kept: they part their neighbours in the joining behaviours. */
static hdl_err find_segments(hdl_pretok_work *work, hdl_regex_scan *scan, bool invert, size_t *n)
{
    uint32_t done = 0;
    for (bool found;;) {
        HDL_TRY(hdl_regex_next(scan, &found));
        uint32_t start = (uint32_t)(found ? scan->start : scan->subject.len);
        if (done < start)
            HDL_TRY(add_segment(work, n, (segment){done, start, invert}));
        if (!found)
            return HDL_OK;
        done = (uint32_t)scan->end;
        HDL_TRY(add_segment(work, n, (segment){start, done, !invert}));
    }
}

/* Joins neighbours in place, so that every segment that stays is a piece; returns how many. */
static size_t join_segments(segment *s, size_t n, hdl_split_behavior behavior)
{
    size_t kept = 0;
    bool before = false; /* was the segment before this one a match */
    if (behavior == HDL_SPLIT_MERGED_NEXT) {
        kept = n;
        for (size_t i = n; i-- > 0;) {
            bool match = s[i].match;
            if (match && !before && kept < n)
                s[kept].at = s[i].at;
            else
                s[--kept] = s[i];
            before = match;
        }
        memmove(s, s + kept, (n - kept) * sizeof *s);
        return n - kept;
    }
    for (size_t i = 0; i < n; i++) {
        bool match = s[i].match;
        bool join = behavior == HDL_SPLIT_CONTIGUOUS ? match == before : match && !before;
        if (join && kept > 0)
            s[kept - 1].end = s[i].end;
        else
            s[kept++] = s[i];
        before = match;
    }
    return kept;
}

static hdl_err split_general(hdl_pretok_work *work, hdl_regex_scan *scan,
                             const hdl_pretok_step *step, size_t base, span_list *out)
{
    size_t n = 0;
    HDL_TRY(find_segments(work, scan, step->invert, &n));
    bool removed = step->behavior == HDL_SPLIT_REMOVED;
    if (!removed)
        n = join_segments(work->segments, n, step->behavior);
    for (size_t i = 0; i < n; i++)
        if (!removed || !work->segments[i].match)
            HDL_TRY(add_span(out, base + work->segments[i].at, base + work->segments[i].end));
    return HDL_OK;
}

/* Copies all pieces into the work's own text, with a space before each that has none. */
static hdl_err prefix_spaces(hdl_pretok_work *work, hdl_text *text, span_list *list)
{
    size_t need = 0;
    for (size_t i = 0; i < list->n; i++)
        need += (size_t)list->v[i].len + 1;
    char *copy = malloc(need + 1);
    if (copy == NULL)
        return HDL_NOMEM;
    size_t at = 0;
    for (size_t i = 0; i < list->n; i++) {
        const char *piece = text->p + list->v[i].at;
        size_t start = at, len = list->v[i].len;
        if (piece[0] != ' ')
            copy[at++] = ' ';
        memcpy(copy + at, piece, len);
        at += len;
        list->v[i] = (hdl_span){(uint32_t)start, (uint32_t)(at - start)};
    }
    free(work->text);
    work->text = copy;
    work->text_max = need;
    *text = (hdl_text){copy, at};
    return HDL_OK;
}

static hdl_err run_step(const hdl_pretok_step *step, hdl_pretok_work *work, hdl_text text, int from)
{
    const span_list *in = &work->lists[from];
    span_list *out = &work->lists[!from];
    out->n = 0;
    for (size_t i = 0; i < in->n; i++) {
        hdl_span s = in->v[i];
        hdl_regex_scan scan = {
            .regex = step->regex, .work = work->regex, .subject = {text.p + s.at, s.len}};
        if (step->behavior == HDL_SPLIT_ISOLATED)
            HDL_TRY(split_isolated(&scan, s.at, out));
        else
            HDL_TRY(split_general(work, &scan, step, s.at, out));
    }
    return HDL_OK;
}

static void give_back(hdl_pretok_work *work)
{
    for (int i = 0; i < 2; i++) {
        if (work->lists[i].size > KEEP_SPANS) {
            free(work->lists[i].v);
            work->lists[i] = (span_list){0};
        }
    }
    if (work->segments_max > KEEP_SPANS) {
        free(work->segments);
        work->segments = NULL;
        work->segments_max = 0;
    }
    if (work->text_max > KEEP_TEXT_BYTES) {
        free(work->text);
        work->text = NULL;
        work->text_max = 0;
    }
}

hdl_err hdl_pretok_run(const hdl_pretok *pretok, hdl_pretok_work *work, hdl_text text,
                       hdl_pieces *out)
{
    HDL_ASSERT(text.len < (size_t)1 << 31);
    give_back(work);
    int now = 0;
    work->lists[now].n = 0;
    HDL_TRY(add_span(&work->lists[now], 0, text.len));
    for (uint32_t i = 0; i < pretok->n_steps; i++) {
        const hdl_pretok_step *step = &pretok->steps[i];
        if (step->prefix_space)
            HDL_TRY(prefix_spaces(work, &text, &work->lists[now]));
        if (step->regex == NULL)
            continue;
        HDL_TRY(run_step(step, work, text, now));
        now = !now;
    }
    *out = (hdl_pieces){text, work->lists[now].v, work->lists[now].n};
    return HDL_OK;
}
