/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/core/deadline.h"

static bool before(const hdl_sched *s, uint32_t a, uint32_t b)
{
    const hdl_seq_cold *x = &s->cold[a], *y = &s->cold[b];
    return x->deadline_us != y->deadline_us ? x->deadline_us < y->deadline_us
                                            : x->serial < y->serial;
}

static void place(hdl_sched *s, uint32_t at, uint32_t idx)
{
    s->deadlines[at] = idx;
    s->cold[idx].heap_at = at;
}

/* Puts idx where the hole at `at` should go, moving others up or down. */
static void settle(hdl_sched *s, uint32_t at, uint32_t idx)
{
    while (at > 0 && before(s, idx, s->deadlines[(at - 1) / 2])) {
        place(s, at, s->deadlines[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= s->n_deadlines)
            break;
        if (child + 1 < s->n_deadlines && before(s, s->deadlines[child + 1], s->deadlines[child]))
            child++;
        if (!before(s, s->deadlines[child], idx))
            break;
        place(s, at, s->deadlines[child]);
        at = child;
    }
    place(s, at, idx);
}

void hdl_deadline_add(hdl_sched *s, hdl_seq *seq)
{
    if (hdl_seq_rest(s, seq)->deadline_us == 0)
        return;
    settle(s, s->n_deadlines++, hdl_seq_idx(s, seq));
}

void hdl_deadline_remove(hdl_sched *s, hdl_seq *seq)
{
    uint32_t at = hdl_seq_rest(s, seq)->heap_at;
    if (at == NONE)
        return;
    hdl_seq_rest(s, seq)->heap_at = NONE;
    uint32_t last = s->deadlines[--s->n_deadlines];
    if (at < s->n_deadlines)
        settle(s, at, last);
}

hdl_seq *hdl_deadline_first(const hdl_sched *s)
{
    return s->n_deadlines ? &s->seqs[s->deadlines[0]] : NULL;
}
