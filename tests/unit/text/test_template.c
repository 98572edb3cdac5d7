/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/text/template.h"

#include "text_help.h"

/* Renders a template over a chat written as JSON; out is cleared first. */
static hdl_err render(const char *source, const hdl_jv *root, hdl_chat chat, hdl_buf *out,
                      hdl_errmsg *why)
{
    hdl_jv messages = hdl_jv_get(root, "messages"), tools = hdl_jv_get(root, "tools"),
           kwargs = hdl_jv_get(root, "kwargs");
    hdl_template *tpl;
    chat.messages = &messages;
    chat.tools = hdl_jv_given(&tools) ? &tools : NULL;
    chat.kwargs = hdl_jv_given(&kwargs) ? &kwargs : NULL;
    why->text[0] = '\0';
    hdl_buf_clear(out);
    HDL_TRY(hdl_template_open(&tpl, source, strlen(source), why));
    hdl_err err = hdl_template_render(tpl, &chat, out, why);
    hdl_template_free(tpl);
    return err;
}

static void equals_transformers(void **state)
{
    const hdl_special_texts special = {.bos = "<s>", .eos = "</s>"};
    hdl_json *doc = read_source_json("tests/golden/text/templates.json");
    hdl_jv root = hdl_json_root(doc), cases = hdl_jv_get(&root, "cases"),
           chat = hdl_jv_get(&root, "chat");
    hdl_jv now = hdl_jv_get(&root, "now");
    const hdl_jv_range any = {0, INT64_MAX};
    int64_t now_us;
    hdl_buf out;
    (void)state;
    assert_ok(hdl_jv_int(&now, any, &now_us, NULL));
    hdl_buf_init(&out, 1 << 20);
    assert_true(hdl_jv_len(&cases) > 100);
    for (size_t i = 0; i < hdl_jv_len(&cases); i++) {
        hdl_jv item = hdl_jv_at(&cases, i), v = hdl_jv_get(&item, "source"),
               want = hdl_jv_get(&item, "want");
        hdl_errmsg why;
        const char *source, *text = NULL;
        assert_ok(hdl_jv_string(&v, &source, NULL, NULL));
        if (hdl_jv_given(&want))
            assert_ok(hdl_jv_string(&want, &text, NULL, NULL));
        hdl_err err = render(source, &chat,
                             (hdl_chat){.special = &special,
                                        .add_generation_prompt = true,
                                        .now_wall_us = (uint64_t)now_us},
                             &out, &why);
        if ((err == HDL_OK) != (text != NULL))
            fail_msg("%s: %s %s", source, hdl_err_name(err), err ? why.text : hdl_buf_cstr(&out));
        if (text != NULL)
            assert_string_equal(hdl_buf_cstr(&out), text);
        else
            assert_true(strlen(why.text) > 10);
    }
    hdl_buf_deinit(&out);
    hdl_json_close(doc);
}

/* The bundled model's own template, from its own folder. */
static void the_bundled_model_chats_as_in_transformers(void **state)
{
    char path[512];
    hdl_tokenizer *tok;
    hdl_errmsg why = {""};
    hdl_buf out;
    (void)state;
    snprintf(path, sizeof path, "%s/deploy/demo-model", HDL_SOURCE_DIR);
    assert_ok(hdl_tokenizer_open(&tok, path, &why));
    hdl_json *doc = read_source_json("tests/golden/text/templates.json");
    hdl_jv root = hdl_json_root(doc), cases = hdl_jv_get(&root, "bundled");
    hdl_buf_init(&out, 1 << 20);
    assert_true(hdl_jv_len(&cases) >= 4);
    for (size_t i = 0; i < hdl_jv_len(&cases); i++) {
        hdl_jv chat = hdl_jv_at(&cases, i), want = hdl_jv_get(&chat, "want");
        const char *text;
        assert_ok(hdl_jv_string(&want, &text, NULL, NULL));
        assert_ok(render(hdl_tokenizer_info(tok)->chat_template, &chat,
                         (hdl_chat){.add_generation_prompt = true}, &out, &why));
        assert_string_equal(hdl_buf_cstr(&out), text);
    }
    hdl_buf_deinit(&out);
    hdl_json_close(doc);
    hdl_tokenizer_free(tok);
}

/* One template over one chat; fails the test unless it renders to `want`, or is refused with `want`
 * in the message. */
static void check(const char *source, const char *chat_json, hdl_chat chat, hdl_err want_err,
                  const char *want)
{
    hdl_json *doc;
    hdl_errmsg why;
    hdl_buf out;
    assert_ok(hdl_json_parse(chat_json, strlen(chat_json), 0, &doc, &why));
    hdl_jv root = hdl_json_root(doc);
    hdl_buf_init(&out, 1 << 20);
    hdl_err err = render(source, &root, chat, &out, &why);
    if (err != want_err)
        fail_msg("%s: %s %s", source, hdl_err_name(err), err ? why.text : hdl_buf_cstr(&out));
    if (err == HDL_OK)
        assert_string_equal(hdl_buf_cstr(&out), want);
    else
        assert_has(why.text, want);
    hdl_buf_deinit(&out);
    hdl_json_close(doc);
}

#define CHATML                                                                                     \
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>\n{% endfor %}"                        \
    "{% if add_generation_prompt %}<assistant>{% endif %}"

static void the_final_message_is_continued(void **state)
{
    const char *chat = "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"},{\"role\":"
                       "\"assistant\",\"content\":\"It is \"}]}";
    (void)state;
    check(CHATML, chat, (hdl_chat){.continue_final = true}, HDL_OK,
          "<user>hi</>\n<assistant>It is ");
    check("{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}</>{% endfor %}", chat,
          (hdl_chat){.continue_final = true}, HDL_OK, "<user>hi</><assistant>It is");
    check(CHATML, chat, (hdl_chat){.continue_final = true, .add_generation_prompt = true},
          HDL_INVALID, "exclude each other");
    check("{{ messages[0].content }}", chat, (hdl_chat){.continue_final = true}, HDL_INVALID,
          "cannot be continued");
    check(CHATML, "{\"messages\":[]}", (hdl_chat){.continue_final = true}, HDL_INVALID,
          "no text to continue");
    check(CHATML, "{\"messages\":[{\"role\":\"user\",\"content\":null}]}",
          (hdl_chat){.continue_final = true}, HDL_INVALID, "no text to continue");
    check("{% for p in messages[0].content %}{{ p.text }};{% endfor %}",
          "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{"
          "\"type\":\"text\",\"text\":\"b\"}]}]}",
          (hdl_chat){.continue_final = true}, HDL_OK, "a;b");
}

static void parts_are_joined_where_the_template_takes_strings(void **state)
{
    const char *parts =
        "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
        "{\"type\":\"text\",\"text\":\"b\"}]}]}";
    const char *image = "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\","
                        "\"image_url\":\"x\"}]}]}";
    (void)state;
    check(CHATML, parts, (hdl_chat){0}, HDL_OK, "<user>a\nb</>\n");
    check(CHATML, image, (hdl_chat){0}, HDL_INVALID,
          "messages[0].content has a part that is no text");
    check("{% for p in messages[0]['content'] %}[{{ p.type }}]{% endfor %}", image, (hdl_chat){0},
          HDL_OK, "[image_url]");
    check("{% set c = messages[0].content %}{% if c is string %}s{% else %}{{ c | length }}{% "
          "endif %}",
          parts, (hdl_chat){0}, HDL_OK, "2");
    check(CHATML, "{\"messages\":[7]}", (hdl_chat){0}, HDL_INVALID,
          "messages[0] must be an object");
    check(CHATML, "{\"messages\":{}}", (hdl_chat){0}, HDL_INVALID, "messages");
}

static void variables_come_from_the_request(void **state)
{
    const char *chat = "{\"messages\":[],\"kwargs\":{\"enable_thinking\":false,\"x\":[1]}}";
    (void)state;
    check("{{ enable_thinking }}{{ x }}{{ tools }}{{ documents }}{{ bos_token is defined }}", chat,
          (hdl_chat){0}, HDL_OK, "False[1]NoneNoneFalse");
    check("{{ messages[0].thinking }}{{ messages[0].reasoning_content }}",
          "{\"messages\":[{\"role\":\"assistant\",\"reasoning\":\"hm\"}]}", (hdl_chat){0}, HDL_OK,
          "hmhm");
}

static void errors_name_the_line(void **state)
{
    const char *chat = "{\"messages\":[]}";
    (void)state;
    check("a\n{% if true %}\n{{ x.y }}{% endif %}", chat, (hdl_chat){0}, HDL_INVALID,
          "line 3: 'x' is undefined");
    check("a\n\n{{ 1 | nope }}", chat, (hdl_chat){0}, HDL_UNSUPPORTED,
          "line 3: this filter is not supported: \"nope\"");
    check("{% import 'x' as y %}", chat, (hdl_chat){0}, HDL_UNSUPPORTED,
          "line 1: this tag is not supported: \"import\"");
    check("{% for x in y recursive %}{% endfor %}", chat, (hdl_chat){0}, HDL_UNSUPPORTED,
          "recursive");
    check("{{ f(*x) }}", chat, (hdl_chat){0}, HDL_UNSUPPORTED, "* and **");
    check("\n{# never ends", chat, (hdl_chat){0}, HDL_INVALID, "line 2: a comment");
    check("{{ raise_exception('Roles must alternate!') }}", chat, (hdl_chat){0}, HDL_INVALID,
          "Roles must alternate!");
}

/* What Python would go on with and heddle does not, or takes otherwise. test_hostile.c has what
 * runs for ever. */
static void numbers_and_depth_are_limited(void **state)
{
    static const struct {
        const char *source, *says;
    } cases[] = {
        {"{% set ns = namespace(a=[], b=[]) %}{% for i in range(999) %}{% set ns.a = [ns.a] %}{% "
         "set ns.b = [ns.b] %}{% endfor %}{{ ns.a == ns.b }}{{ ns.a < ns.b }}",
         "unsupported operand"},
        {"{{ 9223372036854775807 + 1 }}", "cannot be read"},
        {"{{ 999999999999999999 * 999 }}", "64 bits"},
        {"{{ 2 ** 100000000 }}", "64 bits"},
        {"{{ 1 // 0 }}", "division by zero"},
        {"{{ 1 % 0.0 }}", "division by zero"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check(cases[i].source, "{\"messages\":[]}", (hdl_chat){0}, HDL_INVALID, cases[i].says);
}

static void deep_sources_are_refused(void **state)
{
    enum { DEEP = 5000 };
    static const struct {
        const char *open, *close;
    } pairs[] = {{"(", ")"},     {"[", "]"},           {"-", ""},   {"not ", ""},
                 {"{'a':", "}"}, {"1 if 1 else ", ""}, {"x[", "]"}, {"f(", ")"}};
    hdl_buf source;
    (void)state;
    hdl_buf_init(&source, 1 << 20);
    for (size_t k = 0; k < sizeof pairs / sizeof *pairs; k++) {
        hdl_buf_clear(&source);
        hdl_buf_puts(&source, "{{ ");
        for (int i = 0; i < DEEP; i++)
            hdl_buf_puts(&source, pairs[k].open);
        hdl_buf_puts(&source, "1");
        for (int i = 0; i < DEEP; i++)
            hdl_buf_puts(&source, pairs[k].close);
        hdl_buf_puts(&source, " }}");
        check(hdl_buf_cstr(&source), "{\"messages\":[]}", (hdl_chat){0}, HDL_UNSUPPORTED,
              "nested deeper");
    }
    hdl_buf_clear(&source);
    for (int i = 0; i < DEEP; i++)
        hdl_buf_puts(&source, "{% if 1 %}x");
    check(hdl_buf_cstr(&source), "{\"messages\":[]}", (hdl_chat){0}, HDL_UNSUPPORTED,
          "nested deeper");
    hdl_buf_deinit(&source);
}

/* `ns.s = ns.s ~ x`, as many templates build their prompt, stays linear: 300 kB here out of a
 * memory of 256 MiB. */
static void building_a_string_in_a_loop_is_linear(void **state)
{
    (void)state;
    check("{% set ns = namespace(s='') %}{% for i in range(30000) %}{% set ns.s = ns.s ~ 'ten "
          "bytes.' %}{% endfor %}"
          "{{ ns.s | length }}",
          "{\"messages\":[]}", (hdl_chat){0}, HDL_OK, "300000");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_transformers),
        cmocka_unit_test(the_bundled_model_chats_as_in_transformers),
        cmocka_unit_test(the_final_message_is_continued),
        cmocka_unit_test(parts_are_joined_where_the_template_takes_strings),
        cmocka_unit_test(variables_come_from_the_request),
        cmocka_unit_test(errors_name_the_line),
        cmocka_unit_test(numbers_and_depth_are_limited),
        cmocka_unit_test(deep_sources_are_refused),
        cmocka_unit_test(building_a_string_in_a_loop_is_linear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
