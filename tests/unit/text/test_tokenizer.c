/* SPDX-License-Identifier: Apache-2.0 */
/* Opening, refusing, limits. What the ids are is test_golden.c's. */
#include <pthread.h>

#include "text_help.h"

/* tokenizer.json with the byte alphabet and what a case puts into it; NULL: the usual value. */
typedef struct parts {
    const char *model, *merges, *pretok, *normalizer, *post, *decoder, *added;
} parts;

static char *compose(const parts *p, size_t *len)
{
    hdl_buf out;
    hdl_buf_init(&out, 1 << 20);
    hdl_buf_printf(&out, "{\"model\":{%s\"vocab\":{", p->model ? p->model : "\"type\":\"BPE\",");
    for (unsigned b = 0; b < 256; b++) {
        bool prints = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        static unsigned others;
        others = b == 0 ? 0 : others;
        unsigned cp = prints ? b : 256 + others++;
        hdl_buf_printf(&out, "\"\\u%04x\":%u,", cp, b);
    }
    hdl_buf_printf(&out, "\"ab\":256,\"abc\":257},\"merges\":%s}",
                   p->merges ? p->merges : "[\"a b\",[\"ab\",\"c\"]]");
    hdl_buf_printf(&out, ",\"pre_tokenizer\":%s",
                   p->pretok ? p->pretok : "{\"type\":\"ByteLevel\",\"add_prefix_space\":false}");
    hdl_buf_printf(&out, ",\"normalizer\":%s", p->normalizer ? p->normalizer : "null");
    hdl_buf_printf(&out, ",\"post_processor\":%s", p->post ? p->post : "null");
    hdl_buf_printf(&out, ",\"decoder\":%s", p->decoder ? p->decoder : "{\"type\":\"ByteLevel\"}");
    hdl_buf_printf(&out, ",\"added_tokens\":%s}", p->added ? p->added : "[]");
    assert_true(hdl_buf_ok(&out));
    return hdl_buf_steal(&out, len);
}

static hdl_err open_parts(hdl_tokenizer **tok, const parts *p, hdl_errmsg *why)
{
    size_t len;
    char *json = compose(p, &len);
    why->text[0] = '\0';
    hdl_err err = hdl_tokenizer_open_json(tok, json, len, why);
    free(json);
    return err;
}

static const struct {
    parts parts;
    hdl_err err;
    const char *says;
} cases[] = {
    {{.model = "\"type\":\"Unigram\","}, HDL_INVALID, "model.vocab must be an array"},
    {{.model = "\"type\":\"WordPiece\","}, HDL_UNSUPPORTED, "WordPiece"},
    {{.model = "\"dropout\":0.1,"}, HDL_UNSUPPORTED, "dropout"},
    {{.model = "\"end_of_word_suffix\":\"</w>\","}, HDL_UNSUPPORTED, "end_of_word_suffix"},
    {{.model = "\"continuing_subword_prefix\":\"##\","},
     HDL_UNSUPPORTED,
     "continuing_subword_prefix"},
    {{.merges = "[\"a b c\"]"}, HDL_INVALID, "model.merges[0]"},
    {{.merges = "[\"ab\"]"}, HDL_INVALID, "model.merges[0]"},
    {{.merges = "[[\"a\",\"b\",\"c\"]]"}, HDL_INVALID, "model.merges[0]"},
    {{.merges = "[\"a z\"]"}, HDL_INVALID, "not in model.vocab"},
    {{.merges = "[\"b a\"]"}, HDL_INVALID, "not in model.vocab"},
    {{.merges = "[\" b\"]"}, HDL_INVALID, "empty"},
    {{.merges = "7"}, HDL_INVALID, "merges"},
    {{.pretok = "null"}, HDL_UNSUPPORTED, "decoder.type is \"ByteLevel\""},
    {{.pretok = "{\"type\":\"Metaspace\"}"}, HDL_UNSUPPORTED, "decoder.type"},
    {{.pretok = "{\"type\":\"Metaspace\",\"replacement\":\"ab\"}"},
     HDL_INVALID,
     "pre_tokenizer.replacement"},
    {{.pretok = "{\"type\":\"Metaspace\",\"prepend_scheme\":\"last\"}"}, HDL_INVALID, "last"},
    {{.pretok = "{\"type\":\"UnicodeScripts\"}"}, HDL_UNSUPPORTED, "UnicodeScripts"},
    {{.pretok = "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"ByteLevel\"},{\"type\":"
                "\"Digits\"}]}"},
     HDL_INVALID,
     "after ByteLevel"},
    {{.pretok =
          "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[a&&b]\"},\"behavior\":\"Isolated\"}"},
     HDL_UNSUPPORTED,
     "&&"},
    {{.pretok = "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"},\"behavior\":\"Sideways\"}"},
     HDL_INVALID,
     "Sideways"},
    {{.pretok = "{\"type\":\"Split\",\"behavior\":\"Isolated\"}"}, HDL_INVALID, "pattern"},
    {{.normalizer = "{\"type\":\"Precompiled\"}"}, HDL_INVALID, "precompiled_charsmap"},
    {{.normalizer = "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAA\"}"},
     HDL_INVALID,
     "base64"},
    {{.normalizer = "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"CAAAAAAA\"}"},
     HDL_INVALID,
     "the file is broken"},
    {{.normalizer = "{\"type\":\"Nmt\"}"}, HDL_UNSUPPORTED, "Nmt"},
    {{.normalizer = "{\"type\":\"Sequence\"}"}, HDL_INVALID, "normalizers"},
    {{.post = "{\"type\":\"BertProcessing\"}"}, HDL_INVALID, "cls"},
    {{.post = "{\"type\":\"Pair\"}"}, HDL_UNSUPPORTED, "Pair"},
    {{.post = "{\"type\":\"TemplateProcessing\",\"single\":[]}"}, HDL_UNSUPPORTED, "no Sequence"},
    {{.post = "{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":\"A\"}},{"
              "\"SpecialToken\":{\"id\":\"x\"}}]}"},
     HDL_INVALID,
     "ids"},
    {{.decoder = "null"}, HDL_UNSUPPORTED, "decoder"},
    {{.decoder = "{\"type\":\"Metaspace\"}"}, HDL_UNSUPPORTED, "Metaspace"},
    {{.decoder = "{\"type\":\"WordPiece\"}"}, HDL_UNSUPPORTED, "WordPiece"},
    {{.decoder = "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Fuse\"},{\"type\":"
                 "\"ByteFallback\"}]}"},
     HDL_UNSUPPORTED,
     "ByteFallback"},
    {{.added = "[{\"id\":1,\"content\":\"<x>\"}]"}, HDL_INVALID, "clashes"},
    {{.added = "[{\"id\":300,\"content\":\"ab\"}]"}, HDL_INVALID, "clashes"},
    {{.added = "[{\"id\":-1,\"content\":\"<x>\"}]"}, HDL_INVALID, "added_tokens[0].id"},
    {{.added = "[{\"id\":4000000,\"content\":\"<x>\"}]"}, HDL_INVALID, "dense"},
    {{.added = "[{\"content\":\"<x>\"}]"}, HDL_INVALID, "added_tokens[0].id"},
    {{.added = "[{\"id\":300,\"content\":\"<x>\",\"special\":1}]"}, HDL_INVALID, "special"},
};

static void what_is_missing_is_refused_by_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hdl_tokenizer *tok = NULL;
        hdl_errmsg why;
        hdl_err err = open_parts(&tok, &cases[i].parts, &why);
        if (err != cases[i].err || strstr(why.text, cases[i].says) == NULL)
            fail_msg("case %zu: %s \"%s\", expected %s with \"%s\"", i, hdl_err_name(err), why.text,
                     hdl_err_name(cases[i].err), cases[i].says);
        assert_null(tok);
    }
    hdl_tokenizer *tok;
    hdl_errmsg why = {""};
    assert_err(hdl_tokenizer_open_json(&tok, "{", 1, &why), INVALID);
    assert_err(hdl_tokenizer_open_json(&tok, "{}", 2, &why), INVALID);
    assert_has(why.text, "model");
}

static hdl_err encode(const hdl_tokenizer *tok, const char *text, size_t len, hdl_ids *ids,
                      hdl_errmsg *why)
{
    hdl_tok_scratch *scratch;
    assert_ok(hdl_tok_scratch_new(&scratch));
    hdl_encode_args args = {
        .text = text, .len = len, .scratch = scratch, .add_special = true, .parse_special = true};
    hdl_err err = hdl_tokenizer_encode(tok, &args, ids, why);
    hdl_tok_scratch_free(scratch);
    return err;
}

static void limits_leave_the_ids_as_they_were(void **state)
{
    hdl_tokenizer *tok;
    hdl_errmsg why;
    hdl_ids ids;
    (void)state;
    assert_ok(open_parts(&tok, &(parts){0}, &why));
    hdl_ids_init(&ids, 4);
    assert_ok(encode(tok, "abc", 3, &ids, &why));
    assert_int_equal(ids.n, 1);
    assert_int_equal(ids.v[0], 257);
    assert_err(encode(tok, "x y z", 5, &ids, &why), BUSY);
    assert_has(why.text, "more than 4 tokens");
    assert_int_equal(ids.n, 1);
    assert_err(encode(tok, "ab\xff", 3, &ids, &why), INVALID);
    assert_has(why.text, "byte 2");
    assert_int_equal(ids.n, 1);
    assert_ok(encode(tok, "", 0, &ids, &why));
    assert_int_equal(ids.n, 1);
    size_t n;
    hdl_token *taken = hdl_ids_steal(&ids, &n);
    assert_int_equal(n, 1);
    assert_int_equal(taken[0], 257);
    free(taken);
    hdl_ids_deinit(&ids);
    hdl_tokenizer_free(tok);
}

static void a_template_processor_surrounds_the_text(void **state)
{
    hdl_tokenizer *tok;
    hdl_errmsg why;
    hdl_ids ids;
    parts p = {.post =
                   "{\"type\":\"Sequence\",\"processors\":[{\"type\":\"ByteLevel\"},{\"type\":"
                   "\"TemplateProcessing\",\"single\":["
                   "{\"SpecialToken\":{\"id\":\"<s>\"}},{\"Sequence\":{\"id\":\"A\"}},{"
                   "\"SpecialToken\":{\"id\":\"</s>\"}}],"
                   "\"special_tokens\":{\"<s>\":{\"ids\":[258]},\"</s>\":{\"ids\":[259,259]}}}]}",
               .added = "[{\"id\":258,\"content\":\"<s>\",\"special\":true},{\"id\":259,"
                        "\"content\":\"</s>\",\"special\":true}]"};
    (void)state;
    assert_ok(open_parts(&tok, &p, &why));
    hdl_ids_init(&ids, 100);
    assert_ok(encode(tok, "abc", 3, &ids, &why));
    const hdl_token want[] = {258, 257, 259, 259};
    assert_int_equal(ids.n, 4);
    assert_memory_equal(ids.v, want, sizeof want);
    assert_int_equal(hdl_tokenizer_info(tok)->vocab_size, 260);
    assert_true(hdl_tokenizer_is_special(tok, 258));
    assert_false(hdl_tokenizer_is_special(tok, 257));
    assert_false(hdl_tokenizer_is_special(tok, 9999));
    assert_int_equal(hdl_tokenizer_find(tok, "</s>"), 259);
    assert_int_equal(hdl_tokenizer_find(tok, "nope"), -1);
    const char *bytes;
    size_t len;
    assert_true(hdl_tokenizer_token_bytes(tok, 257, &bytes, &len));
    assert_int_equal(len, 3);
    assert_memory_equal(bytes, "abc", 3);
    assert_false(hdl_tokenizer_token_bytes(tok, 260, &bytes, &len));
    assert_false(hdl_tokenizer_token_bytes(tok, -1, &bytes, &len));
    hdl_ids_deinit(&ids);
    hdl_tokenizer_free(tok);
}

/* 50,000 added tokens that all begin alike, and text that keeps almost matching them. */
static void many_added_tokens_are_found_quickly(void **state)
{
    enum { TOKENS = 50000, TEXT = 200000 };
    hdl_buf added;
    hdl_tokenizer *tok;
    hdl_errmsg why;
    hdl_ids ids;
    (void)state;
    hdl_buf_init(&added, 64 << 20);
    for (int i = 0; i < TOKENS; i++)
        hdl_buf_printf(
            &added, "%c{\"id\":%d,\"content\":\"<|x%d|>\",\"special\":true,\"normalized\":false}",
            i ? ',' : '[', 300 + i, i);
    hdl_buf_puts(&added, "]");
    hdl_buf json;
    hdl_buf_init(&json, 64 << 20);
    size_t len;
    char *small = compose(&(parts){0}, &len);
    hdl_buf_append(&json, small, len - 3); /* up to the empty list */
    hdl_buf_append(&json, hdl_buf_data(&added), added.len);
    hdl_buf_puts(&json, "}");
    assert_ok(hdl_tokenizer_open_json(&tok, hdl_buf_cstr(&json), json.len, &why));
    char *text = malloc(TEXT + 16);
    for (size_t i = 0; i < TEXT; i++)
        text[i] = "<|x1"[i % 4];
    memcpy(text + TEXT, "<|x49999|>", 10);
    hdl_ids_init(&ids, (size_t)2 * TEXT);
    assert_ok(encode(tok, text, TEXT + 10, &ids, &why));
    assert_int_equal(ids.v[ids.n - 1], 300 + 49999);
    free(text);
    free(small);
    hdl_ids_deinit(&ids);
    hdl_buf_deinit(&added);
    hdl_buf_deinit(&json);
    hdl_tokenizer_free(tok);
}

typedef struct worker {
    const hdl_tokenizer *tok;
    size_t n_ids;
} worker;

static void *encode_often(void *arg)
{
    worker *w = arg;
    hdl_tok_scratch *scratch;
    if (hdl_tok_scratch_new(&scratch) != HDL_OK)
        return NULL;
    for (int i = 0; i < 300; i++) {
        char text[64];
        hdl_ids ids;
        hdl_ids_init(&ids, 1000);
        int len = snprintf(text, sizeof text, "The %d quick foxes <|im_end|> größere", i % 50);
        hdl_encode_args args = {
            .text = text, .len = (size_t)len, .scratch = scratch, .parse_special = true};
        if (hdl_tokenizer_encode(w->tok, &args, &ids, NULL) == HDL_OK)
            w->n_ids += ids.n;
        hdl_ids_deinit(&ids);
    }
    hdl_tok_scratch_free(scratch);
    return NULL;
}

/* For the thread sanitizer: one tokenizer, several threads, a scratch each. */
static void threads_share_a_tokenizer(void **state)
{
    enum { THREADS = 4 };
    hdl_tokenizer *tok = open_golden("qwen2");
    worker w[THREADS];
    pthread_t threads[THREADS];
    (void)state;
    for (int i = 0; i < THREADS; i++) {
        w[i] = (worker){.tok = tok};
        assert_int_equal(pthread_create(&threads[i], NULL, encode_often, &w[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(w[i].n_ids, w[0].n_ids);
    assert_true(w[0].n_ids > 300);
    hdl_tokenizer_free(tok);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_missing_is_refused_by_name),
        cmocka_unit_test(limits_leave_the_ids_as_they_were),
        cmocka_unit_test(a_template_processor_surrounds_the_text),
        cmocka_unit_test(many_added_tokens_are_found_quickly),
        cmocka_unit_test(threads_share_a_tokenizer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
