/* SPDX-License-Identifier: Apache-2.0 */
/* Request path 13 of 14, after detok.c: UTF-8 pieces -> what the client may see;
 * front/sse.c sends it. */
#include "scheduler/text/stop.h"

#include <stdlib.h>
#include <string.h>

/* One string with the failure function of Knuth, Morris and Pratt: fail[i] is the length of the
 * longest proper suffix of the first i bytes that also begins the string. */
typedef struct pattern {
    const char *text; /* in the set's block */
    uint16_t *fail;   /* [len + 1] */
    uint16_t len;
} pattern;

struct hdl_stop_set {
    uint32_t n;
    pattern patterns[HDL_STOP_STRINGS_MAX];
};

_Static_assert(HDL_STOP_STRING_BYTES_MAX < UINT16_MAX, "positions are 16 bits");

static uint16_t advance(const pattern *p, uint16_t at, char c)
{
    while (at > 0 && (at == p->len || p->text[at] != c))
        at = p->fail[at];
    return p->text[at] == c ? (uint16_t)(at + 1) : 0;
}

static void compile(pattern *p)
{
    p->fail[0] = 0;
    p->fail[1] = 0;
    for (uint16_t i = 1; i < p->len; i++)
        p->fail[i + 1] = advance(p, p->fail[i], p->text[i]);
}

hdl_err hdl_stop_set_new(hdl_stop_set **out, const hdl_stop_text *texts, size_t n, hdl_errmsg *why)
{
    if (n > HDL_STOP_STRINGS_MAX)
        return hdl_fail(HDL_INVALID, why, "stop: %zu strings; at most %d are taken", n,
                        HDL_STOP_STRINGS_MAX);
    size_t bytes = sizeof(hdl_stop_set);
    for (size_t i = 0; i < n; i++) {
        if (texts[i].len == 0 || texts[i].len > HDL_STOP_STRING_BYTES_MAX)
            return hdl_fail(HDL_INVALID, why, "stop: string %zu has %zu bytes; 1 to %d are taken",
                            i, texts[i].len, HDL_STOP_STRING_BYTES_MAX);
        bytes += (texts[i].len + 1) * sizeof(uint16_t) + texts[i].len;
    }
    hdl_stop_set *set = calloc(1, bytes);
    if (set == NULL)
        return HDL_NOMEM;
    set->n = (uint32_t)n;
    uint16_t *fail = (uint16_t *)(set + 1);
    for (size_t i = 0; i < n; i++) {
        set->patterns[i] = (pattern){.fail = fail, .len = (uint16_t)texts[i].len};
        fail += texts[i].len + 1;
    }
    char *text = (char *)fail;
    for (size_t i = 0; i < n; i++) {
        memcpy(text, texts[i].text, texts[i].len);
        set->patterns[i].text = text;
        text += texts[i].len;
        compile(&set->patterns[i]);
    }
    *out = set;
    return HDL_OK;
}

void hdl_stop_set_free(hdl_stop_set *set) { free(set); }

void hdl_stop_init(hdl_stop *stop, const hdl_stop_set *set, bool include)
{
    *stop = (hdl_stop){
        .set = set != NULL && set->n > 0 ? set : NULL, .include = include, .matched = -1};
}

/* The string of which the stream now ends with the most bytes: those are held back. */
static uint32_t longest(const hdl_stop *stop)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < stop->set->n; i++)
        if (stop->at[i] > stop->at[best])
            best = i;
    return best;
}

/* True when a string ends with this byte; the longest of them becomes `matched`. */
static bool step(hdl_stop *stop, char c)
{
    const hdl_stop_set *set = stop->set;
    for (uint32_t i = 0; i < set->n; i++) {
        stop->at[i] = advance(&set->patterns[i], stop->at[i], c);
        bool ends = stop->at[i] == set->patterns[i].len;
        if (ends && (stop->matched < 0 || set->patterns[stop->matched].len < set->patterns[i].len))
            stop->matched = (int8_t)i;
    }
    return stop->matched >= 0;
}

hdl_err hdl_stop_push(hdl_stop *stop, const void *text, size_t len, hdl_buf *out)
{
    if (stop->set == NULL)
        return hdl_buf_append(out, text, len);
    if (stop->matched >= 0)
        return HDL_OK;
    /* The stream that is not sent yet: `held` bytes of a stop string, then text. */
    uint32_t i = longest(stop);
    const char *held_text = stop->set->patterns[i].text;
    size_t held = stop->at[i], done = 0;
    while (done < len && !step(stop, ((const char *)text)[done]))
        done++;
    size_t send = held + done;
    if (stop->matched < 0)
        send -= stop->at[longest(stop)];
    else
        send += stop->include ? 1 : 1 - (size_t)stop->set->patterns[stop->matched].len;
    HDL_TRY(hdl_buf_append(out, held_text, send < held ? send : held));
    return send > held ? hdl_buf_append(out, text, send - held) : HDL_OK;
}

hdl_err hdl_stop_flush(hdl_stop *stop, hdl_buf *out)
{
    if (stop->set == NULL || stop->matched >= 0)
        return HDL_OK;
    uint32_t i = longest(stop);
    hdl_err err = hdl_buf_append(out, stop->set->patterns[i].text, stop->at[i]);
    memset(stop->at, 0, sizeof stop->at);
    return err;
}
