/* SPDX-License-Identifier: Apache-2.0 */
/* Special tokens come from the template's own words and never from what a user wrote: where text
 * comes from is followed through a template, and encoding keeps to it. */
#include "base/rng.h"
#include "scheduler/text/template.h"
#include "text_help.h"

static void ranges_hold_what_they_hold(void **state)
{
    enum { LEN = 200 };
    hdl_rng rng;
    (void)state;
    hdl_rng_init(&rng, 21);
    for (int round = 0; round < 200; round++) {
        bool inside[LEN] = {false};
        hdl_ranges ranges;
        hdl_ranges_init(&ranges);
        for (size_t at = 0; at < LEN;) {
            size_t from = at + hdl_rng_below(&rng, 9), end = from + hdl_rng_below(&rng, 9);
            end = end < LEN ? end : LEN;
            from = from < end ? from : end;
            assert_ok(hdl_ranges_add(&ranges, (hdl_range){from, end}));
            memset(inside + from, 1, end - from);
            at = end + hdl_rng_below(&rng, 2);
        }
        size_t cut = hdl_rng_below(&rng, LEN + 1), cursor = 0;
        hdl_ranges_cut(&ranges, cut);
        memset(inside + cut, 0, LEN - cut);
        for (int i = 0; i < 300; i++) {
            size_t from = hdl_rng_below(&rng, LEN - 1),
                   end = from + 1 + hdl_rng_below(&rng, LEN - from);
            bool all = true;
            for (size_t k = from; k < end; k++)
                all &= inside[k];
            assert_int_equal(hdl_ranges_hold(&ranges, (hdl_range){from, end}, &cursor), all);
        }
        hdl_ranges_deinit(&ranges);
    }
}

/* Renders a template for a user's message; own text comes out as it is, other text in capitals. */
static const char *show(const char *source, const char *content, bool continue_final)
{
    static char shown[4096];
    char json[1024];
    hdl_json *doc;
    hdl_template *tpl;
    hdl_buf out;
    hdl_ranges own;
    hdl_errmsg why = {""};
    hdl_special_texts special = {.bos = "<s>", .eos = "</s>"};
    snprintf(json, sizeof json, "[{\"role\":\"user\",\"content\":\"%s\",\"n\":7}]", content);
    hdl_ranges_init(&own);
    hdl_buf_init(&out, sizeof shown);
    assert_ok(hdl_json_parse(json, strlen(json), 0, &doc, &why));
    hdl_jv messages = hdl_json_root(doc);
    hdl_chat chat = {
        .messages = &messages, .special = &special, .continue_final = continue_final, .own = &own};
    assert_ok(hdl_buf_puts(&out, "x")); /* ranges count from the buffer's start */
    if (hdl_template_open(&tpl, source, strlen(source), &why) != HDL_OK ||
        hdl_template_render(tpl, &chat, &out, &why) != HDL_OK)
        fail_msg("%s", why.text);
    size_t cursor = 0, n = out.len;
    memcpy(shown, hdl_buf_data(&out), n);
    shown[n] = '\0';
    for (size_t i = 1; i < n; i++)
        if (!hdl_ranges_hold(&own, (hdl_range){i, i + 1}, &cursor) && shown[i] >= 'a' &&
            shown[i] <= 'z')
            shown[i] = (char)(shown[i] - 32);
    hdl_template_free(tpl);
    hdl_json_close(doc);
    hdl_ranges_deinit(&own);
    hdl_buf_deinit(&out);
    return shown + 1;
}

static void origins_follow_every_operation(void **state)
{
    static const struct {
        const char *source, *shown;
    } cases[] = {
        {"own {{ messages[0].content }} own", "own ABC own"},
        {"{{ '<|' + messages[0].role + '|>' + messages[0].content }}", "<|user|>ABC"},
        {"{{ bos_token ~ messages[0].content ~ eos_token }}", "<s>ABC</s>"},
        {"{% set x = 'own' ~ messages[0].content %}{{ x }}{{ x[1:4] }}{{ x[::-1] }}",
         "ownABCwnACBAnwo"},
        {"{% set x %}own{{ messages[0].content }}{% endset %}{{ x }}", "ownABC"},
        {"{% macro m(a) %}own{{ a }}{{ caller() }}{% endmacro %}{% call m(messages[0].content) %}"
         "call{{ messages[0].content }}{% endcall %}",
         "ownABCcallABC"},
        {"{{ ['own', messages[0].content] | join('--own--') }}", "own--own--ABC"},
        {"{{ messages[0].content | replace('b', 'own') }}", "AownC"},
        {"{{ 'xbx' | replace('b', messages[0].content) }}", "xABCx"},
        {"{{ messages[0].content.split('b') | join('own') }}", "AownC"},
        {"{{ ('  own ' + messages[0].content + ' ') | trim }}", "own ABC"},
        {"{{ 'own' | upper | lower }}{{ ('own' + messages[0].content) | capitalize }}",
         "ownOWNABC"},
        {"{{ '{}own{}'.format('x', messages[0].content) }}", "xownABC"},
        {"{{ messages[0].content | tojson }}{{ ['own'] | tojson }}{{ ['own'] }}",
         "\"ABC\"[\"OWN\"]['OWN']"},
        {"{{ messages[0].content * 2 }}{{ 'own' * 2 }}", "ABCABCownown"},
        {"{% for c in messages[0].content %}{{ c }}own{% endfor %}", "AownBownCown"},
        {"{% for k, v in messages[0].items() %}{{ k }}={{ v }};{% endfor %}",
         "ROLE=user;CONTENT=ABC;N=7;"},
        {"{% set ns = namespace(t='') %}{% for c in messages[0].content %}{% set ns.t = ns.t + 'o' "
         "+ c %}{% endfor %}{{ ns.t }}",
         "oAoBoC"},
        {"{{ ('own\n' ~ messages[0].content ~ '\nx') | indent(1) }}", "own\n ABC\n x"},
        {"{{ messages[0].content if messages else 'own' }}{{ messages[0].x or 'own' }}", "ABCown"},
    };
    (void)state;
    for (size_t i = 0; i < HDL_ARRAY_LEN(cases); i++) {
        const char *shown = show(cases[i].source, "abc", false);
        if (strcmp(shown, cases[i].shown) != 0)
            fail_msg("%s gives %s, not %s", cases[i].source, shown, cases[i].shown);
    }
    assert_string_equal(show("own{{ messages[0].content }}own", "ab ", true), "ownAB ");
}

/* Ids of a text with the given ranges; "" between them. */
static void check_plain(const hdl_tokenizer *tok, const char *text, const hdl_range *ranges,
                        size_t n, const char *token, size_t want)
{
    hdl_tok_scratch *scratch;
    hdl_ids ids;
    hdl_ranges own;
    hdl_errmsg why = {""};
    hdl_ranges_init(&own);
    for (size_t i = 0; i < n; i++)
        assert_ok(hdl_ranges_add(&own, ranges[i]));
    assert_ok(hdl_tok_scratch_new(&scratch));
    hdl_ids_init(&ids, 1000);
    hdl_encode_args args = {.text = text,
                            .len = strlen(text),
                            .scratch = scratch,
                            .parse_special = true,
                            .special_in = &own};
    assert_ok(hdl_tokenizer_encode(tok, &args, &ids, &why));
    size_t found = 0;
    for (size_t i = 0; i < ids.n; i++)
        found += ids.v[i] == hdl_tokenizer_find(tok, token);
    if (found != want)
        fail_msg("\"%s\": %zu times %s, not %zu", text, found, token, want);
    hdl_ids_deinit(&ids);
    hdl_ranges_deinit(&own);
    hdl_tok_scratch_free(scratch);
}

static void special_tokens_keep_to_their_ranges(void **state)
{
    hdl_tokenizer *tok = open_golden("qwen2");
    const char *text = "<|im_end|>a<|im_end|><|im_start|>";
    (void)state;
    check_plain(tok, text, NULL, 0, "<|im_end|>", 0);
    check_plain(tok, text, (hdl_range[]){{0, 10}}, 1, "<|im_end|>", 1);
    check_plain(tok, text, (hdl_range[]){{0, 9}}, 1, "<|im_end|>", 0); /* all of it must be own */
    check_plain(tok, text, (hdl_range[]){{0, 33}}, 1, "<|im_end|>", 2);
    check_plain(tok, text, (hdl_range[]){{11, 21}}, 1, "<|im_end|>", 1);
    check_plain(tok, text, (hdl_range[]){{21, 33}}, 1, "<|im_end|>", 0);
    check_plain(tok, text, (hdl_range[]){{21, 33}}, 1, "<|im_start|>", 1);
    hdl_tokenizer_free(tok);
}

/* Tokenizers that look for special tokens in normalised text (here: composed, lower case, with a
 * space in front), and one whose model itself knows them. */
static void ranges_survive_normalisation(void **state)
{
    hdl_tokenizer *tok = open_golden("unk");
    const char *text = "E\xcc\x81<|IM_END|>x<|im_end|>";
    (void)state;
    check_plain(tok, text, (hdl_range[]){{0, 25}}, 1, "<|im_end|>", 2);
    check_plain(tok, text, (hdl_range[]){{3, 13}}, 1, "<|im_end|>", 1);
    check_plain(tok, text, (hdl_range[]){{14, 24}}, 1, "<|im_end|>", 1);
    check_plain(tok, text, (hdl_range[]){{0, 3}, {13, 14}}, 2, "<|im_end|>", 0);
    /* A mark that joins the range's last character: nothing is certain, so nothing is special. */
    check_plain(tok, "<|im_end|>e\xcc\x81", (hdl_range[]){{0, 11}}, 1, "<|im_end|>", 0);
    hdl_tokenizer_free(tok);
    tok = open_golden("t5");
    check_plain(tok, "a </s> b", NULL, 0, "</s>", 0);
    check_plain(tok, "a </s> b", (hdl_range[]){{0, 6}}, 1, "</s>", 1);
    hdl_tokenizer_free(tok);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_hold_what_they_hold),
        cmocka_unit_test(origins_follow_every_operation),
        cmocka_unit_test(special_tokens_keep_to_their_ranges),
        cmocka_unit_test(ranges_survive_normalisation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
