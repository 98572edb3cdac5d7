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
    int now;            /* which of them holds the pieces */
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

static bool starts_with(const hdl_pretok_step *step, const char *p, size_t len)
{
    /* A space at the start counts where it is about to be rewritten. */
    bool space = p[0] == ' ';
    return space || (step->n_space > 0 && len >= step->n_space &&
                     memcmp(p, step->space, step->n_space) == 0);
}

/* Copies a piece, with a space before it where it needs one; spaces as the step writes them. */
static char *copy_piece(const hdl_pretok_step *step, hdl_text piece, bool prefix, char *to)
{
    const char *space = step->n_space ? step->space : " ";
    size_t n_space = step->n_space ? step->n_space : 1;
    if (prefix && !starts_with(step, piece.p, piece.len))
        to = mempcpy(to, space, n_space);
    if (step->n_space == 0)
        return mempcpy(to, piece.p, piece.len);
    const char *from = piece.p, *end = piece.p + piece.len;
    for (const char *hit; (hit = memchr(from, ' ', (size_t)(end - from))) != NULL; from = hit + 1) {
        to = mempcpy(to, from, (size_t)(hit - from));
        to = mempcpy(to, space, n_space);
    }
    return mempcpy(to, from, (size_t)(end - from));
}

static size_t count_spaces(const hdl_pretok_step *step, hdl_text text)
{
    size_t n = 0;
    for (size_t i = 0; i < text.len && step->n_space > 0; i++)
        n += text.p[i] == ' ';
    return n;
}

/* Copies all pieces into the work's own text, with their spaces as the step wants them. */
static hdl_err rewrite_spaces(const hdl_pretok_step *step, hdl_pretok_work *work,
                              hdl_pretok_input *input)
{
    span_list *list = &work->lists[work->now];
    size_t need = 1, each = step->n_space ? step->n_space : 1;
    for (size_t i = 0; i < list->n; i++)
        need += list->v[i].len + each;
    need += count_spaces(step, input->text) * (each - 1);
    if (need >= (size_t)1 << 31)
        return HDL_INVALID;
    char *copy = malloc(need);
    if (copy == NULL)
        return HDL_NOMEM;
    char *at = copy;
    for (size_t i = 0; i < list->n; i++) {
        hdl_text piece = {input->text.p + list->v[i].at, list->v[i].len};
        bool once = step->prefix_once && input->at_start && list->v[i].at == 0;
        char *start = at;
        at = copy_piece(step, piece, step->prefix || once, at);
        list->v[i] = (hdl_span){(uint32_t)(start - copy), (uint32_t)(at - start)};
    }
    free(work->text);
    work->text = copy;
    work->text_max = need;
    input->text = (hdl_text){copy, (size_t)(at - copy)};
    return HDL_OK;
}

static hdl_err run_step(const hdl_pretok_step *step, hdl_pretok_work *work, hdl_text text)
{
    const span_list *in = &work->lists[work->now];
    span_list *out = &work->lists[!work->now];
    work->now = !work->now;
    out->n = 0;
    for (size_t i = 0; i < in->n; i++) {
        hdl_span s = in->v[i];
        hdl_text piece = {text.p + s.at, s.len};
        if (step->behavior == HDL_SPLIT_ISOLATED && !hdl_regex_may_match(step->regex, piece)) {
            HDL_TRY(add_span(out, s.at, s.at + s.len));
            continue;
        }
        hdl_regex_scan scan = {.regex = step->regex, .work = work->regex, .subject = piece};
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

hdl_err hdl_pretok_run(const hdl_pretok *pretok, hdl_pretok_work *work, hdl_pretok_input input,
                       hdl_pieces *out)
{
    HDL_ASSERT(input.text.len < (size_t)1 << 31);
    give_back(work);
    work->now = 0;
    work->lists[0].n = 0;
    HDL_TRY(add_span(&work->lists[0], 0, input.text.len));
    for (uint32_t i = 0; i < pretok->n_steps; i++) {
        const hdl_pretok_step *step = &pretok->steps[i];
        if (step->prefix || step->prefix_once || step->n_space > 0)
            HDL_TRY(rewrite_spaces(step, work, &input));
        if (step->regex != NULL)
            HDL_TRY(run_step(step, work, input.text));
    }
    *out = (hdl_pieces){input.text, work->lists[work->now].v, work->lists[work->now].n};
    return HDL_OK;
}
