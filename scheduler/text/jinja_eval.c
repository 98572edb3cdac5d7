/* SPDX-License-Identifier: Apache-2.0 */
/* Statements of chat templates, scopes, limits. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "scheduler/text/jinja_run.h"

hdl_err hdl_jfail(hdl_jrun *run, hdl_err err, const char *fmt, ...)
{
    char text[384];
    va_list list;
    va_start(list, fmt);
    vsnprintf(text, sizeof text, fmt, list);
    va_end(list);
    return hdl_fail(err, run->why, "chat template, line %u: %s", run->line, text);
}

hdl_err hdl_jlimit(hdl_jrun *run, const char *fmt, ...)
{
    char text[192];
    va_list list;
    va_start(list, fmt);
    vsnprintf(text, sizeof text, fmt, list);
    va_end(list);
    return hdl_jfail(run, HDL_BUSY,
                     "%s; a rendering that does more is stopped; shorten the conversation, or "
                     "repair the model's chat template",
                     text);
}

hdl_err hdl_jstep(hdl_jrun *run, size_t n)
{
    if (hdl_jsteps_add(&run->mem.steps, n))
        return HDL_OK;
    return hdl_jlimit(run, "more than %llu steps", (unsigned long long)run->mem.steps.max);
}

hdl_err hdl_jenter(hdl_jrun *run)
{
    HDL_TRY(hdl_jstep(run, 1));
    if (run->depth++ < HDL_JRUN_DEPTH_MAX)
        return HDL_OK;
    return hdl_jlimit(run, "nested deeper than %d", HDL_JRUN_DEPTH_MAX);
}

hdl_jframe *hdl_jframe_new(hdl_jrun *run, hdl_jframe *parent)
{
    hdl_jframe *frame = hdl_jmem_alloc(&run->mem, sizeof *frame);
    if (frame != NULL)
        frame->parent = parent;
    return frame;
}

/* Scopes are short; one of thousands of names costs what walking it takes. */
hdl_jval *hdl_jframe_find(hdl_jrun *run, const char *name)
{
    hdl_jval *found = NULL;
    size_t looked = 0;
    for (hdl_jframe *frame = run->frame; frame != NULL && found == NULL; frame = frame->parent) {
        for (size_t i = 0; i < frame->n && found == NULL; i++)
            found = frame->names[i] == name ? &frame->values[i] : NULL;
        looked += 4 + frame->n;
    }
    (void)hdl_jsteps_add(&run->mem.steps, looked / 16); /* the next step finds them used up */
    return found;
}

hdl_err hdl_jframe_set(hdl_jrun *run, hdl_jframe *frame, const char *name, hdl_jval v)
{
    HDL_TRY(hdl_jstep(run, frame->n / 16));
    for (size_t i = 0; i < frame->n; i++) {
        if (frame->names[i] == name) {
            frame->values[i] = v;
            return HDL_OK;
        }
    }
    if (frame->n == frame->size) {
        size_t size = frame->size ? 2 * frame->size : 4;
        const char **names = hdl_jmem_array(&run->mem, size, sizeof *names);
        hdl_jval *values = hdl_jmem_array(&run->mem, size, sizeof *values);
        if (names == NULL || values == NULL)
            return HDL_BUSY;
        if (frame->n > 0) {
            memcpy(names, frame->names, frame->n * sizeof *names);
            memcpy(values, frame->values, frame->n * sizeof *values);
        }
        frame->names = names;
        frame->values = values;
        frame->size = size;
    }
    frame->names[frame->n] = name;
    frame->values[frame->n++] = v;
    return HDL_OK;
}

static hdl_err assign(hdl_jrun *run, const hdl_jnode *target, const hdl_jval *v)
{
    if (target->kind == HDL_JN_NAME)
        return hdl_jframe_set(run, run->frame, target->name, *v);
    if (target->kind == HDL_JN_ATTR) {
        hdl_jval *ns = hdl_jframe_find(run, target->a->name);
        if (ns == NULL || ns->kind != HDL_J_NAMESPACE)
            return hdl_jfail(run, HDL_INVALID, "cannot set %s.%s: %s is no namespace",
                             target->a->name, target->name, target->a->name);
        return hdl_jdict_set(&run->mem, ns->dict, hdl_jcstr(target->name), *v);
    }
    hdl_jlist *items;
    HDL_TRY(hdl_jiterate(run, v, &items));
    if (items->n != target->n_items)
        return hdl_jfail(run, HDL_INVALID, "%zu values for %zu names", items->n, target->n_items);
    for (size_t i = 0; i < items->n; i++)
        HDL_TRY(assign(run, target->items[i], &items->v[i]));
    return HDL_OK;
}

static hdl_err exec_if(hdl_jrun *run, const hdl_jnode *node, hdl_jnode_kind *jump)
{
    for (; node != NULL && node->kind == HDL_JN_IF; node = node->other) {
        hdl_jval v;
        HDL_TRY(hdl_jeval(run, node->a, &v));
        if (hdl_jval_true(&v))
            return hdl_jexec(run, node->body, jump);
        /* An else whose first statement is an if is told from an elif by its own else: both mean
         * the same. */
        if (node->other == NULL || node->other->kind != HDL_JN_IF || node->other->next != NULL)
            return hdl_jexec(run, node->other, jump);
    }
    return HDL_OK;
}

/* An empty scope for the next turn of a loop: the last turn's again unless something holds on to
 * it. */
static hdl_err next_turn(hdl_jrun *run, hdl_jframe *outer, hdl_jframe **frame)
{
    if (*frame == NULL || (*frame)->kept)
        *frame = hdl_jframe_new(run, outer);
    if (*frame == NULL)
        return HDL_BUSY;
    (*frame)->n = 0;
    run->frame = *frame;
    return HDL_OK;
}

/* Items that pass the loop's filter, which sees the loop's variables but not `loop`. */
static hdl_err filter_items(hdl_jrun *run, const hdl_jnode *node, hdl_jframe *outer,
                            hdl_jlist **items)
{
    hdl_jlist *kept;
    hdl_jframe *frame = NULL;
    HDL_TRY(hdl_jlist_new(&run->mem, 0, &kept));
    for (size_t i = 0; i < (*items)->n; i++) {
        hdl_jval pass;
        HDL_TRY(next_turn(run, outer, &frame));
        HDL_TRY(assign(run, node->target, &(*items)->v[i]));
        HDL_TRY(hdl_jeval(run, node->b, &pass));
        if (hdl_jval_true(&pass))
            HDL_TRY(hdl_jlist_push(&run->mem, kept, (*items)->v[i]));
    }
    run->frame = outer;
    *items = kept;
    return HDL_OK;
}

static hdl_err exec_for(hdl_jrun *run, const hdl_jnode *node)
{
    hdl_jframe *outer = run->frame, *frame = NULL;
    const char *loop_name = hdl_jnames_find(&run->program->names, (hdl_text){"loop", 4});
    hdl_jval iterable;
    hdl_jlist *items;
    HDL_TRY(hdl_jeval(run, node->a, &iterable));
    HDL_TRY(hdl_jiterate(run, &iterable, &items));
    if (node->b != NULL)
        HDL_TRY(filter_items(run, node, outer, &items));
    hdl_jloop *loop = hdl_jmem_alloc(&run->mem, sizeof *loop);
    if (loop == NULL)
        return HDL_BUSY;
    *loop = (hdl_jloop){.items = items};
    hdl_jnode_kind jump = HDL_JN_TEXT;
    for (size_t i = 0; i < items->n && jump != HDL_JN_BREAK; i++) {
        jump = HDL_JN_TEXT;
        loop->at = i;
        HDL_TRY(next_turn(run, outer, &frame));
        if (loop_name != NULL)
            HDL_TRY(hdl_jframe_set(run, run->frame, loop_name,
                                   (hdl_jval){.kind = HDL_J_LOOP, .loop = loop}));
        HDL_TRY(assign(run, node->target, &items->v[i]));
        HDL_TRY(hdl_jexec(run, node->body, &jump));
    }
    run->frame = outer;
    return items->n == 0 ? hdl_jexec(run, node->other, &jump) : HDL_OK;
}

hdl_err hdl_jcapture(hdl_jrun *run, const hdl_jnode *body, hdl_jframe *frame, hdl_jval *out)
{
    hdl_buf text;
    hdl_jout inner, *outer = run->out;
    hdl_jframe *outer_frame = run->frame;
    hdl_jnode_kind jump;
    HDL_TRY(hdl_jstep(run, 8)); /* buffers come and go */
    hdl_buf_init(&text, HDL_JRUN_OUTPUT_MAX);
    hdl_jout_init(&inner, &text);
    run->out = &inner;
    run->frame = frame;
    hdl_err err = hdl_jexec(run, body, &jump);
    if (err == HDL_OK)
        err = hdl_jout_string(&inner, &run->mem, out);
    run->out = outer;
    run->frame = outer_frame;
    hdl_jout_deinit(&inner);
    hdl_buf_deinit(&text);
    return err;
}

static hdl_err capture_here(hdl_jrun *run, const hdl_jnode *node, hdl_jval *out)
{
    hdl_jframe *frame = hdl_jframe_new(run, run->frame);
    if (frame == NULL)
        return HDL_BUSY;
    HDL_TRY(hdl_jcapture(run, node->body, frame, out));
    return node->a ? hdl_jfilter_chain(run, node->a, out) : HDL_OK;
}

static hdl_err define(hdl_jrun *run, const hdl_jnode *node, hdl_jval *out)
{
    hdl_jmacro *macro = hdl_jmem_alloc(&run->mem, sizeof *macro);
    if (macro == NULL)
        return HDL_BUSY;
    run->frame->kept = true;
    *macro = (hdl_jmacro){.node = node, .frame = run->frame};
    *out = (hdl_jval){.kind = HDL_J_MACRO, .macro = macro};
    return HDL_OK;
}

/* {% call f(x) %}: f gets the block as the keyword argument `caller`. */
static hdl_err exec_call_block(hdl_jrun *run, const hdl_jnode *node)
{
    const hdl_jnode *call = node->a;
    hdl_jval callee, result, *v = hdl_jmem_array(&run->mem, call->n_items + 1, sizeof *v);
    const char **names = hdl_jmem_array(&run->mem, call->n_items + 1, sizeof *names);
    if (v == NULL || names == NULL)
        return HDL_BUSY;
    HDL_TRY(hdl_jeval(run, call->a, &callee));
    for (size_t i = 0; i < call->n_items; i++) {
        HDL_TRY(hdl_jeval(run, call->items[i], &v[i]));
        names[i] = call->names[i];
    }
    HDL_TRY(define(run, node, &v[call->n_items]));
    names[call->n_items] = "caller";
    HDL_TRY(hdl_jcall(run, &callee, &(hdl_jargs){v, call->n_items + 1, names}, &result));
    return hdl_jout_put(run->out, &run->mem, &result);
}

static hdl_err exec_with(hdl_jrun *run, const hdl_jnode *node, hdl_jnode_kind *jump)
{
    hdl_jframe *outer = run->frame, *frame = hdl_jframe_new(run, outer);
    if (frame == NULL)
        return HDL_BUSY;
    for (size_t i = 0; i < node->n_items; i++) {
        hdl_jval v;
        HDL_TRY(hdl_jeval(run, node->items[i]->a, &v));
        HDL_TRY(hdl_jframe_set(run, frame, node->items[i]->target->name, v));
    }
    run->frame = frame;
    HDL_TRY(hdl_jexec(run, node->body, jump));
    run->frame = outer;
    return HDL_OK;
}

static hdl_err exec_one(hdl_jrun *run, const hdl_jnode *node, hdl_jnode_kind *jump)
{
    hdl_jval v;
    switch (node->kind) {
    case HDL_JN_TEXT: return hdl_jout_put(run->out, &run->mem, &node->value);
    case HDL_JN_PRINT:
        HDL_TRY(hdl_jeval(run, node->a, &v));
        return hdl_jout_put(run->out, &run->mem, &v);
    case HDL_JN_IF: return exec_if(run, node, jump);
    case HDL_JN_FOR: return exec_for(run, node);
    case HDL_JN_SET: HDL_TRY(hdl_jeval(run, node->a, &v)); return assign(run, node->target, &v);
    case HDL_JN_SET_BLOCK:
        HDL_TRY(capture_here(run, node, &v));
        return assign(run, node->target, &v);
    case HDL_JN_FILTER_BLOCK:
        HDL_TRY(capture_here(run, node, &v));
        return hdl_jout_put(run->out, &run->mem, &v);
    case HDL_JN_MACRO:
        HDL_TRY(define(run, node, &v));
        return hdl_jframe_set(run, run->frame, node->name, v);
    case HDL_JN_CALL_BLOCK: return exec_call_block(run, node);
    case HDL_JN_WITH: return exec_with(run, node, jump);
    case HDL_JN_BODY: return hdl_jexec(run, node->body, jump);
    case HDL_JN_BREAK:
    case HDL_JN_CONTINUE: *jump = node->kind; return HDL_OK;
    default: return HDL_BUG;
    }
}

hdl_err hdl_jexec(hdl_jrun *run, const hdl_jnode *body, hdl_jnode_kind *jump)
{
    hdl_jnode_kind own = HDL_JN_TEXT;
    for (; body != NULL && own == HDL_JN_TEXT; body = body->next) {
        run->line = body->line;
        HDL_TRY(hdl_jenter(run));
        HDL_TRY(exec_one(run, body, &own));
        run->depth--;
    }
    if (own != HDL_JN_TEXT)
        *jump = own;
    return HDL_OK;
}
