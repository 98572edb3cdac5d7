/* SPDX-License-Identifier: Apache-2.0 */
/* Templates that would run for minutes or take gigabytes: each is stopped by a limit, with an error
 * that says what, why and what to do. How soon: tests/oracle/hostile.py asks the same list. */
#include "scheduler/text/template.h"

#include "text_help.h"

enum { SOURCE_MAX = 128 << 10 };

/* [text, times]: "@" in the text stands for the turn's number. */
static void expand_piece(const hdl_jv *piece, hdl_buf *out)
{
    const hdl_jv_range any = {0, SOURCE_MAX};
    hdl_jv text = hdl_jv_at(piece, 0), times = hdl_jv_at(piece, 1);
    const char *p;
    int64_t n;
    assert_ok(hdl_jv_string(&text, &p, NULL, NULL));
    assert_ok(hdl_jv_int(&times, any, &n, NULL));
    for (int64_t i = 0; i < n; i++)
        for (const char *c = p; *c != '\0'; c++)
            assert_ok(*c == '@' ? hdl_buf_printf(out, "%lld", (long long)i)
                                : hdl_buf_append(out, c, 1));
}

static void expand(const hdl_jv *pieces, hdl_buf *out)
{
    hdl_buf_clear(out);
    for (size_t i = 0; i < hdl_jv_len(pieces); i++) {
        hdl_jv piece = hdl_jv_at(pieces, i);
        const char *text;
        if (hdl_jv_kind(&piece) == HDL_JSON_ARRAY) {
            expand_piece(&piece, out);
            continue;
        }
        assert_ok(hdl_jv_string(&piece, &text, NULL, NULL));
        assert_ok(hdl_buf_puts(out, text));
    }
}

static hdl_err render(const hdl_buf *source, const hdl_jv *messages, hdl_errmsg *why)
{
    hdl_template *tpl;
    hdl_buf out;
    HDL_TRY(hdl_template_open(&tpl, (const char *)hdl_buf_data(source), source->len, why));
    hdl_buf_init(&out, (size_t)64 << 20);
    hdl_err err = hdl_template_render(tpl, &(hdl_chat){.messages = messages}, &out, why);
    hdl_buf_deinit(&out);
    hdl_template_free(tpl);
    return err;
}

static void each_is_stopped_with_an_error_that_helps(void **state)
{
    hdl_json *doc = read_source_json("tests/golden/text/hostile.json"), *none;
    hdl_errmsg why;
    hdl_buf source;
    (void)state;
    assert_ok(hdl_json_parse("[]", 2, 0, &none, &why));
    hdl_jv cases = hdl_json_root(doc), messages = hdl_json_root(none);
    hdl_buf_init(&source, SOURCE_MAX);
    assert_true(hdl_jv_len(&cases) > 90);
    for (size_t i = 0; i < hdl_jv_len(&cases); i++) {
        hdl_jv item = hdl_jv_at(&cases, i), v = hdl_jv_get(&item, "name"),
               says = hdl_jv_get(&item, "says"), pieces = hdl_jv_get(&item, "source");
        const char *name, *want;
        assert_ok(hdl_jv_string(&v, &name, NULL, NULL));
        assert_ok(hdl_jv_string(&says, &want, NULL, NULL));
        expand(&pieces, &source);
        why.text[0] = '\0';
        hdl_err err = render(&source, &messages, &why);
        const char *reason = strstr(why.text, "; "),
                   *remedy = reason ? strstr(reason + 2, "; ") : NULL;
        if ((err != HDL_BUSY && err != HDL_UNSUPPORTED) || strstr(why.text, want) == NULL ||
            remedy == NULL)
            fail_msg("%s: %s \"%s\"; \"%s\" is wanted, and why, and what to do", name,
                     hdl_err_name(err), why.text, want);
    }
    hdl_buf_deinit(&source);
    hdl_json_close(none);
    hdl_json_close(doc);
}

/* A megabyte of conversation is nothing hostile: steps go by what the template does with it, and a
 * long one has more of them. */
static void long_conversations_are_rendered(void **state)
{
    static const char source[] =
        "{% for m in messages %}<{{ m.role }}>{% if '</think>' in m.content %}"
        "{% set c = m.content.split('</think>')[-1].lstrip('\\n') %}{% else %}"
        "{% set c = m.content | trim %}{% endif %}{{ c[0] }}{{ c[1:] }}{{ c.replace('&', 'and') }}"
        "{% if c.startswith('<b>') or c.endswith('</b>') or 'x' ~ c == c %}!{% endif %}"
        "</>\n{% endfor %}";
    enum { TURNS = 4000 };
    hdl_buf chat, text;
    hdl_json *doc;
    hdl_errmsg why;
    (void)state;
    hdl_buf_init(&chat, 16 << 20);
    assert_ok(hdl_buf_puts(&chat, "["));
    for (int i = 0; i < TURNS; i++) {
        assert_ok(hdl_buf_printf(&chat, "%s{\"role\":\"user\",\"content\":\" ", i ? "," : ""));
        for (int k = 0; k < 20; k++)
            assert_ok(hdl_buf_puts(&chat, "It's <b>text</b> & code: if (x < 3) {}\\n<think>"));
        assert_ok(hdl_buf_puts(&chat, "\"}"));
    }
    assert_ok(hdl_buf_puts(&chat, "]"));
    assert_ok(hdl_json_parse((const char *)hdl_buf_data(&chat), chat.len, 0, &doc, &why));
    hdl_jv messages = hdl_json_root(doc);
    hdl_buf_init(&text, sizeof source);
    assert_ok(hdl_buf_append(&text, source, sizeof source - 1));
    hdl_err err = render(&text, &messages, &why);
    if (err != HDL_OK)
        fail_msg("%zu bytes of conversation: %s", chat.len, why.text);
    hdl_buf_deinit(&text);
    hdl_buf_deinit(&chat);
    hdl_json_close(doc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_is_stopped_with_an_error_that_helps),
        cmocka_unit_test(long_conversations_are_rendered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
