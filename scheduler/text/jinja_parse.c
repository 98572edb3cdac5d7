/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/text/jinja_parse.h"

#include <string.h>

#include "base/hash.h"
#include "scheduler/text/jinja_run.h"
#include "scheduler/text/utf8.h"

/* Published templates have under 20 KiB; the largest source is parsed in some 20 ms. */
enum { SOURCE_BYTES_MAX = 128 << 10, PROGRAM_BYTES_MAX = 64 << 20, NEST_MAX = 100 };

hdl_err hdl_jparse_fail(const hdl_jparser *p, const char *what)
{
    return hdl_fail(HDL_INVALID, p->why, "chat template, line %u: %s at \"%.*s\"", p->at->line,
                    what, (int)(p->at->text.len < 40 ? p->at->text.len : 40),
                    p->at->text.p ? p->at->text.p : "");
}

hdl_err hdl_jparse_unsupported(const hdl_jparser *p, const char *what)
{
    return hdl_fail(HDL_UNSUPPORTED, p->why,
                    "chat template, line %u: %s is not supported: \"%.*s\"", p->at->line, what,
                    (int)(p->at->text.len < 40 ? p->at->text.len : 40),
                    p->at->text.p ? p->at->text.p : "");
}

static hdl_err too_large(const hdl_jparser *p)
{
    return hdl_fail(HDL_UNSUPPORTED, p->why,
                    "chat template, line %u: it takes more than %d MiB; no published one does; "
                    "repair the model's chat template",
                    p->at->line, PROGRAM_BYTES_MAX >> 20);
}

hdl_err hdl_jparse_node(hdl_jparser *p, hdl_jnode_kind kind, hdl_jnode **out)
{
    hdl_jnode *node = hdl_jmem_alloc(&p->program->mem, sizeof *node);
    if (node == NULL)
        return too_large(p);
    node->kind = kind;
    node->line = p->at->line;
    *out = node;
    return HDL_OK;
}

/* Rooms are powers of two, so that a full one shows in the count. */
hdl_err hdl_jparse_add_item(hdl_jparser *p, hdl_jnode *node, hdl_jnode *item)
{
    size_t n = node->n_items;
    if (n == 0 || (n >= 4 && (n & (n - 1)) == 0)) {
        hdl_jnode **bigger =
            hdl_jmem_alloc(&p->program->mem, (n < 4 ? 4 : 2 * n) * sizeof(hdl_jnode *));
        if (bigger == NULL)
            return too_large(p);
        if (n > 0)
            memcpy(bigger, node->items, n * sizeof(hdl_jnode *));
        node->items = bigger;
    }
    node->items[node->n_items++] = item;
    return HDL_OK;
}

hdl_err hdl_jparse_enter(hdl_jparser *p)
{
    if (p->depth++ < NEST_MAX)
        return HDL_OK;
    return hdl_fail(HDL_UNSUPPORTED, p->why,
                    "chat template, line %u: nested deeper than %d; no published one is; repair "
                    "the model's chat template",
                    p->at->line, NEST_MAX);
}

static size_t name_slot(const hdl_jnames *names, hdl_text word)
{
    size_t at = (size_t)hdl_hash_bytes(word.p, word.len, 2) & (names->size - 1);
    while (names->v[at] != NULL &&
           !(strlen(names->v[at]) == word.len && memcmp(names->v[at], word.p, word.len) == 0))
        at = (at + 1) & (names->size - 1);
    return at;
}

const char *hdl_jnames_find(const hdl_jnames *names, hdl_text word)
{
    return names->size ? names->v[name_slot(names, word)] : NULL;
}

hdl_err hdl_jparse_intern(hdl_jparser *p, hdl_text word, const char **out)
{
    hdl_jnames *names = &p->program->names;
    hdl_jmem *mem = &p->program->mem;
    if (2 * names->n >= names->size) {
        hdl_jnames bigger = {.n = names->n, .size = names->size ? 2 * names->size : 256};
        bigger.v = hdl_jmem_alloc(mem, bigger.size * sizeof *bigger.v);
        if (bigger.v == NULL)
            return too_large(p);
        for (size_t i = 0; i < names->size; i++)
            if (names->v[i] != NULL)
                bigger.v[name_slot(&bigger, (hdl_text){names->v[i], strlen(names->v[i])})] =
                    names->v[i];
        *names = bigger;
    }
    const char **slot = &names->v[name_slot(names, word)];
    if (*slot == NULL) {
        *slot = hdl_pool_arena_copy(&mem->arena, word.p, word.len);
        names->n++;
    }
    *out = *slot;
    return *slot ? HDL_OK : too_large(p);
}

bool hdl_jparse_skip_op(hdl_jparser *p, const char *text)
{
    bool is = hdl_jparse_op(p, text);
    p->at += is;
    return is;
}

bool hdl_jparse_skip_word(hdl_jparser *p, const char *text)
{
    bool is = hdl_jparse_word(p, text);
    p->at += is;
    return is;
}

hdl_err hdl_jparse_expect_op(hdl_jparser *p, const char *text)
{
    if (hdl_jparse_skip_op(p, text))
        return HDL_OK;
    return hdl_fail(HDL_INVALID, p->why,
                    "chat template, line %u: \"%s\" is missing before \"%.*s\"", p->at->line, text,
                    (int)(p->at->text.len < 40 ? p->at->text.len : 40),
                    p->at->text.p ? p->at->text.p : "");
}

hdl_err hdl_jparse_expect_name(hdl_jparser *p, const char **out)
{
    if (p->at->kind != HDL_JT_NAME)
        return hdl_jparse_fail(p, "a name is missing");
    HDL_TRY(hdl_jparse_intern(p, p->at->text, out));
    p->at++;
    return HDL_OK;
}

static hdl_err expect_end(hdl_jparser *p)
{
    if (p->at->kind != HDL_JT_BLOCK_END)
        return hdl_jparse_fail(p, "the tag goes on where it should end");
    p->at++;
    return HDL_OK;
}

static hdl_err parse_body(hdl_jparser *p, const char *const *ends, hdl_jnode **out);

static const char *const END_FOR[] = {"else", "endfor", NULL}, *const END_IF[] = {"elif", "else",
                                                                                  "endif", NULL};

/* Statements up to {% word %}, which is taken. */
static hdl_err parse_until(hdl_jparser *p, const char *word, hdl_jnode **out)
{
    const char *const ends[] = {word, NULL};
    HDL_TRY(expect_end(p));
    HDL_TRY(parse_body(p, ends, out));
    p->at++;
    return expect_end(p);
}

static hdl_err parse_branches(hdl_jparser *p, hdl_jnode *node)
{
    for (;;) {
        HDL_TRY(hdl_jparse_tuple(p, &node->a));
        HDL_TRY(expect_end(p));
        HDL_TRY(parse_body(p, END_IF, &node->body));
        if (!hdl_jparse_skip_word(p, "elif"))
            break;
        HDL_TRY(hdl_jparse_node(p, HDL_JN_IF, &node->other));
        node = node->other;
    }
    if (hdl_jparse_skip_word(p, "else"))
        return parse_until(p, "endif", &node->other);
    p->at++; /* endif */
    return expect_end(p);
}

/* Jinja too lets a missing filter inside an if pass until it is reached: published templates ask
 * first whether their renderer is the one that has it. */
static hdl_err parse_if(hdl_jparser *p, hdl_jnode *node)
{
    p->branches++;
    HDL_TRY(parse_branches(p, node));
    p->branches--;
    return HDL_OK;
}

static hdl_err parse_for(hdl_jparser *p, hdl_jnode *node)
{
    HDL_TRY(hdl_jparse_target(p, &node->target));
    if (!hdl_jparse_skip_word(p, "in"))
        return hdl_jparse_fail(p, "\"in\" is missing");
    /* The iterable is an expression without if-else: what follows "if" is the loop's filter. */
    HDL_TRY(hdl_jparse_iterable(p, &node->a));
    if (hdl_jparse_skip_word(p, "if"))
        HDL_TRY(hdl_jparse_expr(p, &node->b));
    if (hdl_jparse_word(p, "recursive"))
        return hdl_jparse_unsupported(p, "a recursive loop");
    HDL_TRY(expect_end(p));
    p->loops++;
    HDL_TRY(parse_body(p, END_FOR, &node->body));
    p->loops--;
    if (hdl_jparse_skip_word(p, "else"))
        return parse_until(p, "endfor", &node->other);
    p->at++; /* endfor */
    return expect_end(p);
}

static hdl_err parse_set(hdl_jparser *p, hdl_jnode *node)
{
    HDL_TRY(hdl_jparse_target(p, &node->target));
    if (hdl_jparse_skip_op(p, "=")) {
        HDL_TRY(hdl_jparse_tuple(p, &node->a));
        return expect_end(p);
    }
    node->kind = HDL_JN_SET_BLOCK;
    if (hdl_jparse_skip_op(p, "|"))
        HDL_TRY(hdl_jparse_filters(p, NULL, &node->a));
    return parse_until(p, "endset", &node->body);
}

/* ( a, b=1 ) of a macro or a call block: items. */
static hdl_err parse_signature(hdl_jparser *p, hdl_jnode *node)
{
    HDL_TRY(hdl_jparse_expect_op(p, "("));
    while (!hdl_jparse_op(p, ")")) {
        hdl_jnode *arg = NULL;
        if (node->n_items > 0)
            HDL_TRY(hdl_jparse_expect_op(p, ","));
        HDL_TRY(hdl_jparse_node(p, HDL_JN_NAME, &arg));
        HDL_TRY(hdl_jparse_expect_name(p, &arg->name));
        if (hdl_jparse_skip_op(p, "="))
            HDL_TRY(hdl_jparse_expr(p, &arg->a));
        HDL_TRY(hdl_jparse_add_item(p, node, arg));
    }
    return hdl_jparse_expect_op(p, ")");
}

/* A macro's body is no part of the loop around it. */
static hdl_err parse_macro(hdl_jparser *p, hdl_jnode *node)
{
    uint32_t loops = p->loops;
    p->loops = 0;
    HDL_TRY(hdl_jparse_expect_name(p, &node->name));
    HDL_TRY(parse_signature(p, node));
    HDL_TRY(parse_until(p, "endmacro", &node->body));
    p->loops = loops;
    return HDL_OK;
}

static hdl_err parse_call_block(hdl_jparser *p, hdl_jnode *node)
{
    uint32_t loops = p->loops;
    p->loops = 0;
    if (hdl_jparse_op(p, "("))
        HDL_TRY(parse_signature(p, node));
    HDL_TRY(hdl_jparse_expr(p, &node->a));
    if (node->a->kind != HDL_JN_CALL)
        return hdl_jparse_fail(p, "a call is missing");
    HDL_TRY(parse_until(p, "endcall", &node->body));
    p->loops = loops;
    return HDL_OK;
}

static hdl_err parse_with(hdl_jparser *p, hdl_jnode *node)
{
    while (p->at->kind != HDL_JT_BLOCK_END) {
        hdl_jnode *set = NULL;
        if (node->n_items > 0)
            HDL_TRY(hdl_jparse_expect_op(p, ","));
        HDL_TRY(hdl_jparse_node(p, HDL_JN_SET, &set));
        HDL_TRY(hdl_jparse_node(p, HDL_JN_NAME, &set->target));
        HDL_TRY(hdl_jparse_expect_name(p, &set->target->name));
        HDL_TRY(hdl_jparse_expect_op(p, "="));
        HDL_TRY(hdl_jparse_expr(p, &set->a));
        HDL_TRY(hdl_jparse_add_item(p, node, set));
    }
    return parse_until(p, "endwith", &node->body);
}

static hdl_err parse_filter_block(hdl_jparser *p, hdl_jnode *node)
{
    HDL_TRY(hdl_jparse_filters(p, NULL, &node->a));
    return parse_until(p, "endfilter", &node->body);
}

static hdl_err parse_generation(hdl_jparser *p, hdl_jnode *node)
{
    return parse_until(p, "endgeneration", &node->body);
}

static hdl_err parse_jump(hdl_jparser *p, hdl_jnode *node)
{
    (void)node;
    return p->loops > 0 ? expect_end(p) : hdl_jparse_fail(p, "break or continue outside a loop");
}

static hdl_err parse_statement(hdl_jparser *p, hdl_jnode **out)
{
    static const struct {
        const char *word;
        hdl_jnode_kind kind;
        hdl_err (*parse)(hdl_jparser *p, hdl_jnode *node);
    } statements[] = {
        {"if", HDL_JN_IF, parse_if},
        {"for", HDL_JN_FOR, parse_for},
        {"set", HDL_JN_SET, parse_set},
        {"macro", HDL_JN_MACRO, parse_macro},
        {"call", HDL_JN_CALL_BLOCK, parse_call_block},
        {"filter", HDL_JN_FILTER_BLOCK, parse_filter_block},
        {"with", HDL_JN_WITH, parse_with},
        {"generation", HDL_JN_BODY, parse_generation},
        {"break", HDL_JN_BREAK, parse_jump},
        {"continue", HDL_JN_CONTINUE, parse_jump},
    };
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
        if (!hdl_jparse_word(p, statements[i].word))
            continue;
        HDL_TRY(hdl_jparse_node(p, statements[i].kind, out));
        p->at++;
        HDL_TRY(hdl_jparse_enter(p));
        HDL_TRY(statements[i].parse(p, *out));
        p->depth--;
        return HDL_OK;
    }
    return hdl_jparse_unsupported(p, "this tag");
}

static hdl_err parse_print(hdl_jparser *p, hdl_jnode **out)
{
    HDL_TRY(hdl_jparse_node(p, HDL_JN_PRINT, out));
    p->at++;
    HDL_TRY(hdl_jparse_tuple(p, &(*out)->a));
    if (p->at->kind != HDL_JT_PRINT_END)
        return hdl_jparse_fail(p, "the expression goes on where it should end");
    p->at++;
    return HDL_OK;
}

/* Up to a tag that starts with one of `ends` (at is then on that word), or to the end of the source
 * when ends is NULL. */
static hdl_err parse_body(hdl_jparser *p, const char *const *ends, hdl_jnode **out)
{
    hdl_jnode **tail = out;
    *out = NULL;
    for (; p->at->kind != HDL_JT_END; tail = &(*tail)->next) {
        if (p->at->kind == HDL_JT_TEXT) {
            HDL_TRY(hdl_jparse_node(p, HDL_JN_TEXT, tail));
            (*tail)->value = hdl_jslice(p->at->text);
            p->at++;
            continue;
        }
        if (p->at->kind == HDL_JT_PRINT_BEGIN) {
            HDL_TRY(parse_print(p, tail));
            continue;
        }
        p->at++; /* {% */
        for (size_t i = 0; ends != NULL && ends[i] != NULL; i++)
            if (hdl_jparse_word(p, ends[i]))
                return HDL_OK;
        HDL_TRY(parse_statement(p, tail));
    }
    if (ends == NULL)
        return HDL_OK;
    return hdl_fail(HDL_INVALID, p->why, "chat template, line %u: it ends inside a block",
                    p->at->line);
}

static bool is_text(const hdl_jtoken *t, const char *text)
{
    hdl_jval v = t->kind == HDL_JT_STRING ? t->value : hdl_jslice(t->text);
    return (t->kind == HDL_JT_NAME || t->kind == HDL_JT_STRING || t->kind == HDL_JT_OP) &&
           hdl_jval_is(&v, text);
}

static bool asks_kind(const hdl_jtoken *t)
{
    if (!is_text(t, "is"))
        return false;
    t++;
    t += is_text(t, "not");
    return is_text(t, "string") || is_text(t, "iterable") || is_text(t, "sequence") ||
           is_text(t, "mapping");
}

/* A template that loops over a content, or asks what kind of thing it (or a variable set from it)
 * is, takes lists of parts; the others expect a string. END is the last token, so that looking
 * ahead past a known one is safe. */
static bool wants_parts(const hdl_jtokens *tokens)
{
    hdl_text set = {"", 0}; /* the variable last set from a content */
    const hdl_jtoken *tag = tokens->v;
    for (size_t i = 1; i + 1 < tokens->n; i++) {
        const hdl_jtoken *t = &tokens->v[i];
        if (t[-1].kind == HDL_JT_BLOCK_BEGIN || t[-1].kind == HDL_JT_PRINT_BEGIN)
            tag = t;
        bool alias = t->kind == HDL_JT_NAME && t->text.len == set.len &&
                     memcmp(t->text.p, set.p, set.len) == 0;
        if (!is_text(t, "content") && !alias)
            continue;
        if (is_text(tag, "set") && tag[1].kind == HDL_JT_NAME && t > tag + 2)
            set = tag[1].text;
        const hdl_jtoken *next = t + 1;
        next += is_text(next, "]");
        if (is_text(tag, "for") && (next->kind == HDL_JT_BLOCK_END || is_text(next, "if")))
            return true;
        if (asks_kind(next))
            return true;
    }
    return false;
}

hdl_err hdl_jprogram_init(hdl_jprogram *program, hdl_text source, hdl_errmsg *why)
{
    *program = (hdl_jprogram){0};
    hdl_jmem_init(&program->mem, PROGRAM_BYTES_MAX, NULL);
    if (source.len > SOURCE_BYTES_MAX || hdl_utf8_valid_prefix(source.p, source.len) < source.len ||
        memchr(source.p, '\0', source.len) != NULL)
        return hdl_fail(HDL_INVALID, why,
                        "chat template: longer than %d bytes, or not UTF-8 text; no published one "
                        "is; repair the model's chat template",
                        SOURCE_BYTES_MAX);
    hdl_jtokens tokens;
    HDL_TRY(hdl_jlex(&program->mem, source, &tokens, why));
    program->wants_parts = wants_parts(&tokens);
    hdl_jparser p = {.program = program, .at = tokens.v, .why = why};
    return parse_body(&p, NULL, &program->body);
}

void hdl_jprogram_deinit(hdl_jprogram *program) { hdl_jmem_deinit(&program->mem); }
