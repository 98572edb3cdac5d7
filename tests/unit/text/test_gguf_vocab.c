/* SPDX-License-Identifier: Apache-2.0 */
/* Tokenizers of GGUF files: published vocabularies with the ids that they must give (where the
 * folder with them is at hand), and small files made here. */
#include "base/gguf.h"
#include "scheduler/text/detok.h"
#include "text_help.h"

#define DATA HDL_SOURCE_DIR "/../shared/data/vocab"

static char *read_data(const char *name, const char *ending, size_t *len)
{
    char path[512], *text = NULL;
    hdl_errmsg why = {""};
    snprintf(path, sizeof path, DATA "/ggml-vocab-%s.gguf%s", name, ending);
    if (hdl_fs_read(path, 1 << 20, &text, len, &why) != HDL_OK)
        fail_msg("%s", why.text);
    return text;
}

static void check_case(const char *name, const hdl_tokenizer *tok, const char *text, size_t len,
                       const char *want)
{
    hdl_tok_scratch *scratch;
    hdl_ids ids;
    hdl_errmsg why = {""};
    assert_ok(hdl_tok_scratch_new(&scratch));
    hdl_ids_init(&ids, 10000);
    hdl_encode_args args = {.text = text, .len = len, .scratch = scratch};
    assert_ok(hdl_tokenizer_encode(tok, &args, &ids, &why));
    const char *at = want;
    for (size_t i = 0; i <= ids.n; i++) {
        char *end;
        long id = strtol(at, &end, 10);
        if ((end == at) != (i == ids.n) || (i < ids.n && id != ids.v[i]))
            fail_msg("%s: \"%.*s\": id %zu is %d, of [%s]", name, (int)len, text, i,
                     i < ids.n ? ids.v[i] : -1, want);
        at = end;
    }
    hdl_ids_deinit(&ids);
    hdl_tok_scratch_free(scratch);
}

/* Cases are parted by a line of their own; the ids of each are one line. */
static size_t check_vocabulary(const char *name)
{
    static const char mark[] = "\n__ggml_vocab_test__\n";
    char path[512];
    size_t n_texts, n_ids, n = 0;
    hdl_tokenizer *tok;
    hdl_errmsg why = {""};
    snprintf(path, sizeof path, DATA "/ggml-vocab-%s.gguf", name);
    if (hdl_tokenizer_open(&tok, path, &why) != HDL_OK)
        fail_msg("%s", why.text);
    char *texts = read_data(name, ".inp", &n_texts), *lines = read_data(name, ".out", &n_ids);
    char *text = texts, *line = lines;
    for (bool more = true; more; n++) {
        char *end = memmem(text, n_texts - (size_t)(text - texts), mark, sizeof mark - 1);
        more = end != NULL;
        end = more ? end : texts + n_texts;
        line[strcspn(line, "\n")] = '\0';
        check_case(name, tok, text, (size_t)(end - text), line);
        text = end + sizeof mark - 1;
        line += strlen(line) + 1;
    }
    free(texts);
    free(lines);
    hdl_tokenizer_free(tok);
    return n;
}

static void published_vocabularies(void **state)
{
    static const char *const names[] = {"deepseek-llm", "falcon", "gpt-2", "llama-spm", "phi-3"};
    (void)state;
    if (!hdl_fs_is_dir(DATA)) {
        print_message("skipped: there is no " DATA "\n");
        skip();
    }
    for (size_t i = 0; i < HDL_ARRAY_LEN(names); i++)
        assert_true(check_vocabulary(names[i]) > 40);
}

static bool same_ids(const hdl_ids *ids, const hdl_jv *want)
{
    const hdl_jv_range any = {0, INT32_MAX};
    bool same = ids->n == hdl_jv_len(want);
    for (size_t i = 0; i < ids->n && same; i++) {
        hdl_jv v = hdl_jv_at(want, i);
        int64_t id = -1;
        same = hdl_jv_int(&v, any, &id, NULL) == HDL_OK && id == ids->v[i];
    }
    return same;
}

static void check_line(const char *name, const hdl_tokenizer *tok, const hdl_jv *line,
                       const hdl_jv *row)
{
    hdl_jv want = hdl_jv_get(row, "ids"), other = hdl_jv_get(row, "text");
    hdl_encode_args args = {0};
    hdl_ids ids;
    hdl_buf out;
    hdl_errmsg why = {""};
    const char *text;
    size_t len;
    hdl_ids_init(&ids, 10000);
    hdl_buf_init(&out, 1 << 20);
    assert_ok(hdl_jv_string(line, &args.text, &args.len, NULL));
    assert_ok(hdl_jv_string(hdl_jv_given(&other) ? &other : line, &text, &len, NULL));
    assert_ok(hdl_tok_scratch_new(&args.scratch));
    assert_ok(hdl_tokenizer_encode(tok, &args, &ids, &why));
    if (!same_ids(&ids, &want))
        fail_msg("%s: \"%s\": other ids than expected", name, args.text);
    assert_ok(hdl_tokenizer_decode(tok, &(hdl_decode_args){ids.v, ids.n, false}, &out));
    if (out.len != len || memcmp(hdl_buf_data(&out), text, len) != 0)
        fail_msg("%s: decoded as \"%s\", not \"%s\"", name, hdl_buf_cstr(&out), text);
    hdl_tok_scratch_free(args.scratch);
    hdl_ids_deinit(&ids);
    hdl_buf_deinit(&out);
}

/* tests/golden/text/make_gguf.py: against SentencePiece and Hugging Face. */
static void small_files_are_the_originals(void **state)
{
    static const char *const names[] = {"llama", "t5", "qwen35", "tekken"};
    hdl_json *lines = read_source_json("tests/golden/text/family_lines.json");
    hdl_jv texts = hdl_json_root(lines);
    (void)state;
    for (size_t k = 0; k < HDL_ARRAY_LEN(names); k++) {
        char path[512];
        hdl_tokenizer *tok;
        hdl_errmsg why = {""};
        snprintf(path, sizeof path, "tests/golden/text/%s.gguf.ids", names[k]);
        hdl_json *doc = read_source_json(path);
        hdl_jv rows = hdl_json_root(doc);
        snprintf(path, sizeof path, HDL_SOURCE_DIR "/tests/golden/text/%s.gguf", names[k]);
        if (hdl_tokenizer_open(&tok, path, &why) != HDL_OK)
            fail_msg("%s", why.text);
        assert_true(hdl_jv_len(&rows) >= 150 && hdl_jv_len(&rows) == hdl_jv_len(&texts));
        for (size_t i = 0; i < hdl_jv_len(&rows); i++) {
            hdl_jv row = hdl_jv_at(&rows, i), text = hdl_jv_at(&texts, i);
            if (hdl_jv_given(&row))
                check_line(names[k], tok, &text, &row);
        }
        hdl_tokenizer_free(tok);
        hdl_json_close(doc);
    }
    hdl_json_close(lines);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(published_vocabularies),
                                       cmocka_unit_test(small_files_are_the_originals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
