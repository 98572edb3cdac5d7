/* SPDX-License-Identifier: Apache-2.0 */
/* Against what Hugging Face's tokenizers said (tests/golden/text/make.py). */
#include "scheduler/text/detok.h"
#include "text_help.h"

typedef struct line {
    const char *text;
    size_t len;
} line;

static void check_ids(const char *name, size_t i, const hdl_ids *got, const hdl_jv *want)
{
    const hdl_jv_range any = {0, INT32_MAX};
    bool same = got->n == hdl_jv_len(want);
    for (size_t k = 0; k < got->n && same; k++) {
        hdl_jv v = hdl_jv_at(want, k);
        int64_t id;
        assert_ok(hdl_jv_int(&v, any, &id, NULL));
        same = got->v[k] == id;
    }
    if (!same)
        fail_msg("%s: line %zu: %zu ids differ from the %zu expected", name, i, got->n,
                 hdl_jv_len(want));
}

static void check_text(const char *name, size_t i, const hdl_buf *got, line want)
{
    if (got->len != want.len || memcmp(hdl_buf_data(got), want.text, want.len) != 0)
        fail_msg("%s: line %zu: decoded as \"%.*s\", expected \"%s\"", name, i, (int)got->len,
                 (const char *)hdl_buf_data(got), want.text);
}

/* Pushing ids one by one gives the same text, and every piece is valid by itself (hdl_detok's
 * promise). */
static void check_stream(const hdl_tokenizer *tok, const hdl_ids *ids, const hdl_buf *all)
{
    hdl_detok detok;
    hdl_buf stream, piece;
    hdl_buf_init(&stream, 1 << 20);
    hdl_buf_init(&piece, 1 << 20);
    hdl_detok_init(&detok, false);
    for (size_t i = 0; i <= ids->n; i++) {
        hdl_buf_clear(&piece);
        assert_ok(i < ids->n ? hdl_detok_push(&detok, tok, ids->v[i], &piece)
                             : hdl_detok_flush(&detok, tok, &piece));
        hdl_json *doc;
        hdl_buf quoted; /* the strict JSON reader takes valid UTF-8 only */
        hdl_buf_init(&quoted, 1 << 20);
        hdl_buf_puts(&quoted, "\"");
        for (size_t k = 0; k < piece.len; k++)
            if (hdl_buf_data(&piece)[k] >= 0x80)
                hdl_buf_append(&quoted, hdl_buf_data(&piece) + k, 1);
        hdl_buf_puts(&quoted, "\"");
        assert_ok(hdl_json_parse(hdl_buf_cstr(&quoted), quoted.len, 0, &doc, NULL));
        hdl_json_close(doc);
        hdl_buf_deinit(&quoted);
        hdl_buf_append(&stream, hdl_buf_data(&piece), piece.len);
    }
    assert_int_equal(stream.len, all->len);
    assert_memory_equal(hdl_buf_data(&stream), hdl_buf_data(all), all->len);
    hdl_buf_deinit(&stream);
    hdl_buf_deinit(&piece);
}

static void check_line(const char *name, const hdl_tokenizer *tok, hdl_tok_scratch *scratch,
                       size_t i, line text, const hdl_jv *row)
{
    hdl_jv full = hdl_jv_get(row, "ids"), plain = hdl_jv_get(row, "plain"),
           decoded = hdl_jv_get(row, "text");
    hdl_ids ids;
    hdl_buf out;
    hdl_errmsg why = {""};
    hdl_ids_init(&ids, 1 << 20);
    hdl_buf_init(&out, 1 << 20);
    hdl_encode_args args = {
        .text = text.text, .len = text.len, .scratch = scratch, .add_special = true};
    assert_ok(hdl_tokenizer_encode(tok, &args, &ids, &why));
    check_ids(name, i, &ids, hdl_jv_given(&plain) ? &plain : &full);
    ids.n = 0;
    args.parse_special = true;
    assert_ok(hdl_tokenizer_encode(tok, &args, &ids, &why));
    check_ids(name, i, &ids, &full);
    assert_ok(hdl_tokenizer_decode(tok, &(hdl_decode_args){ids.v, ids.n, false}, &out));
    line want = text;
    if (hdl_jv_given(&decoded))
        assert_ok(hdl_jv_string(&decoded, &want.text, &want.len, NULL));
    check_text(name, i, &out, want);
    check_stream(tok, &ids, &out);
    hdl_ids_deinit(&ids);
    hdl_buf_deinit(&out);
}

static void check_golden(const char *name, const hdl_jv *texts, hdl_tok_scratch *scratch)
{
    char path[128];
    snprintf(path, sizeof path, "tests/golden/text/%s.ids", name);
    hdl_json *doc = read_source_json(path);
    hdl_tokenizer *tok = open_golden(name);
    hdl_jv rows = hdl_json_root(doc);
    assert_int_equal(hdl_jv_len(&rows), hdl_jv_len(texts));
    assert_true(hdl_jv_len(&rows) >= 150);
    for (size_t i = 0; i < hdl_jv_len(&rows); i++) {
        hdl_jv row = hdl_jv_at(&rows, i), v = hdl_jv_at(texts, i);
        line text;
        assert_ok(hdl_jv_string(&v, &text.text, &text.len, NULL));
        check_line(name, tok, scratch, i, text, &row);
    }
    hdl_tokenizer_free(tok);
    hdl_json_close(doc);
}

static void check_all(const char *const *names, size_t n, const char *lines_name)
{
    hdl_json *doc = read_source_json(lines_name);
    hdl_jv lines = hdl_json_root(doc);
    hdl_tok_scratch *scratch; /* one for all: it must notice another tokenizer */
    assert_ok(hdl_tok_scratch_new(&scratch));
    for (size_t k = 0; k < n; k++)
        check_golden(names[k], &lines, scratch);
    hdl_tok_scratch_free(scratch);
    hdl_json_close(doc);
}

static void byte_level_is_the_originals(void **state)
{
    static const char *const names[] = {"gpt2",     "gpt2_prefix", "qwen2", "llama3", "o200k",
                                        "deepseek", "starcoder",   "han",   "mixed"};
    (void)state;
    check_all(names, HDL_ARRAY_LEN(names), "tests/golden/text/lines.json");
}

static void families_are_the_originals(void **state)
{
    static const char *const names[] = {"cl100k",        "qwen35",       "tekken", "llama2", "phi3",
                                        "llama2_across", "llama2_new",   "gemma",  "unk",    "t5",
                                        "xlmr",          "unigram_bytes"};
    (void)state;
    check_all(names, HDL_ARRAY_LEN(names), "tests/golden/text/family_lines.json");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(byte_level_is_the_originals),
                                       cmocka_unit_test(families_are_the_originals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
