/* SPDX-License-Identifier: Apache-2.0 */
#include "base/inject.h"

#include <ctype.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/units.h"

enum { POINTS_MAX = 32, NAME_MAX_BYTES = 64 };

typedef enum action { ACTION_ERROR, ACTION_KILL, ACTION_DELAY } action;

typedef struct point {
    char name[NAME_MAX_BYTES];
    uint64_t nth; /* 0: every hit */
    action action;
    hdl_err err;
    hdl_time_us delay_us;
    _Atomic uint64_t hits;
} point;

static point points[POINTS_MAX];
static _Atomic uint32_t points_count;

/* One trimmed piece of the spec up to `end`, copied out. */
static bool take_word(const char **p, const char *stops, char *out, size_t size)
{
    while (isspace((unsigned char)**p))
        (*p)++;
    size_t len = strcspn(*p, stops), kept = len;
    while (kept > 0 && isspace((unsigned char)(*p)[kept - 1]))
        kept--;
    if (kept >= size || kept == 0)
        return false;
    memcpy(out, *p, kept);
    out[kept] = '\0';
    *p += len;
    return true;
}

static bool parse_action(char *text, point *at)
{
    if (strcmp(text, "kill") == 0) {
        at->action = ACTION_KILL;
        return true;
    }
    char *open = strchr(text, '(');
    size_t len = strlen(text);
    if (!open || text[len - 1] != ')')
        return false;
    *open = '\0';
    text[len - 1] = '\0';
    if (strcmp(text, "delay") == 0) {
        at->action = ACTION_DELAY;
        return hdl_parse_duration(open + 1, &at->delay_us);
    }
    if (strcmp(text, "error") != 0)
        return false;
    at->action = ACTION_ERROR;
    for (int err = HDL_OK + 1; err < HDL_ERR_COUNT; err++) {
        if (strcmp(hdl_err_name((hdl_err)err), open + 1) == 0) {
            at->err = (hdl_err)err;
            return true;
        }
    }
    return false;
}

static bool parse_point(const char **p, point *at)
{
    char nth[24] = "1", text[64];
    if (!take_word(p, ":=;", at->name, sizeof at->name))
        return false;
    if (**p == ':') {
        (*p)++;
        if (!take_word(p, "=;", nth, sizeof nth))
            return false;
    }
    int64_t n = 0;
    if (strcmp(nth, "*") != 0 && (!hdl_parse_int(nth, &n) || n < 1))
        return false;
    at->nth = (uint64_t)n;
    if (**p != '=')
        return false;
    (*p)++;
    return take_word(p, ";", text, sizeof text) && parse_action(text, at);
}

hdl_err hdl_inject_arm(const char *spec, hdl_errmsg *why)
{
#ifndef HDL_INJECT_ENABLED
    if (spec[strspn(spec, " ;")] != '\0')
        return hdl_fail(HDL_UNSUPPORTED, why,
                        "fault injection is not compiled in; build with -DHDL_INJECT=ON");
#endif
    for (const char *p = spec; *p;) {
        if (*p == ';' || isspace((unsigned char)*p)) {
            p++;
            continue;
        }
        uint32_t count = atomic_load(&points_count);
        if (count == POINTS_MAX)
            return hdl_fail(HDL_BUSY, why, "more than %d fault injections", POINTS_MAX);
        point at = {0};
        const char *start = p;
        if (!parse_point(&p, &at))
            return hdl_fail(HDL_INVALID, why,
                            "bad fault injection \"%.80s\"; write point:N=error(CODE), "
                            "point:N=kill or point:*=delay(50ms)",
                            start);
        point *slot = &points[count];
        memcpy(slot->name, at.name, sizeof slot->name);
        slot->nth = at.nth;
        slot->action = at.action;
        slot->err = at.err;
        slot->delay_us = at.delay_us;
        atomic_store(&slot->hits, 0);
        /* release: the slot is complete before a hit can find it */
        atomic_store_explicit(&points_count, count + 1, memory_order_release);
    }
    return HDL_OK;
}

void hdl_inject_reset(void) { atomic_store(&points_count, 0); }

static hdl_err fire(const point *at)
{
    HDL_LOG(WARN, BASE, "inject", "point=%s action=%d", at->name, (int)at->action);
    switch (at->action) {
    case ACTION_KILL:
        kill(getpid(), SIGKILL);
        pause(); /* the signal is on its way */
        return HDL_BUG;
    case ACTION_DELAY: hdl_clock_sleep_us(at->delay_us); return HDL_OK;
    case ACTION_ERROR: return at->err;
    }
    return HDL_BUG;
}

hdl_err hdl_inject_hit(const char *name)
{
    /* acquire: pairs with the arm's release */
    uint32_t count = atomic_load_explicit(&points_count, memory_order_acquire);
    hdl_err err = HDL_OK;
    for (uint32_t i = 0; i < count; i++) {
        point *at = &points[i];
        if (strcmp(at->name, name) != 0)
            continue;
        /* relaxed: a count; exactly one hit sees each number */
        uint64_t hit = atomic_fetch_add_explicit(&at->hits, 1, memory_order_relaxed) + 1;
        if (at->nth == 0 || at->nth == hit)
            HDL_KEEP_FIRST(err, fire(at));
    }
    return err;
}

uint64_t hdl_inject_hits(const char *name)
{
    uint32_t count = atomic_load_explicit(&points_count, memory_order_acquire); /* as in hit */
    for (uint32_t i = 0; i < count; i++)
        if (strcmp(points[i].name, name) == 0)
            return atomic_load_explicit(&points[i].hits, memory_order_relaxed); /* a figure */
    return 0;
}
