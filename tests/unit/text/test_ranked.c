/* SPDX-License-Identifier: Apache-2.0 */
/* tekken.json and tiktoken.model: the ids that mistral-common and tiktoken give
 * (tests/golden/text/make_ranked.py), and what broken files are told. */
#include "text_help.h"

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
    hdl_jv plain = hdl_jv_get(row, "ids"), special = hdl_jv_get(row, "special"),
           other = hdl_jv_get(row, "text");
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
    if (!same_ids(&ids, &plain))
        fail_msg("%s: \"%s\": other ids than expected", name, args.text);
    assert_ok(hdl_tokenizer_decode(tok, &(hdl_decode_args){ids.v, ids.n, false}, &out));
    if (out.len != len || memcmp(hdl_buf_data(&out), text, len) != 0)
        fail_msg("%s: decoded as \"%s\", not \"%s\"", name, hdl_buf_cstr(&out), text);
    ids.n = 0;
    args.parse_special = true;
    assert_ok(hdl_tokenizer_encode(tok, &args, &ids, &why));
    if (hdl_jv_given(&special) && !same_ids(&ids, &special))
        fail_msg("%s: \"%s\" with special tokens: other ids than expected", name, args.text);
    hdl_tok_scratch_free(args.scratch);
    hdl_ids_deinit(&ids);
    hdl_buf_deinit(&out);
}

static void check_folder(const char *name)
{
    char path[512];
    hdl_tokenizer *tok;
    hdl_errmsg why = {""};
    hdl_json *lines = read_source_json("tests/golden/text/family_lines.json");
    snprintf(path, sizeof path, "tests/golden/text/%s.ranked.ids", name);
    hdl_json *doc = read_source_json(path);
    hdl_jv texts = hdl_json_root(lines), rows = hdl_json_root(doc);
    snprintf(path, sizeof path, HDL_SOURCE_DIR "/tests/golden/text/%s", name);
    if (hdl_tokenizer_open(&tok, path, &why) != HDL_OK)
        fail_msg("%s", why.text);
    assert_true(hdl_jv_len(&rows) >= 150 && hdl_jv_len(&rows) == hdl_jv_len(&texts));
    for (size_t i = 0; i < hdl_jv_len(&rows); i++) {
        hdl_jv row = hdl_jv_at(&rows, i), text = hdl_jv_at(&texts, i);
        check_line(name, tok, &text, &row);
    }
    hdl_tokenizer_free(tok);
    hdl_json_close(doc);
    hdl_json_close(lines);
}

static void ids_are_the_originals(void **state)
{
    (void)state;
    check_folder("mistral");
    check_folder("kimi");
}

static void folders_say_what_ends_an_answer(void **state)
{
    hdl_tokenizer *tok;
    hdl_errmsg why = {""};
    (void)state;
    assert_ok(hdl_tokenizer_open(&tok, HDL_SOURCE_DIR "/tests/golden/text/kimi", &why));
    const hdl_tok_info *info = hdl_tokenizer_info(tok);
    assert_int_equal(info->n_eos_ids, 1);
    assert_int_equal(info->eos_ids[0], hdl_tokenizer_find(tok, "[EOS]"));
    assert_int_equal(info->bos_id, hdl_tokenizer_find(tok, "[BOS]"));
    assert_int_equal(info->vocab_size, (uint32_t)info->bos_id + 256);
    assert_int_equal(hdl_tokenizer_find(tok, "[PAD]"), info->bos_id + 255);
    assert_true(hdl_tokenizer_is_special(tok, info->bos_id + 77));
    hdl_tokenizer_free(tok);
    assert_ok(hdl_tokenizer_open(&tok, HDL_SOURCE_DIR "/tests/golden/text/mistral", &why));
    info = hdl_tokenizer_info(tok);
    assert_string_equal(info->tekken_version, "v3");
    assert_int_equal(info->bos_id, 1);
    assert_int_equal(info->eos_ids[0], 2);
    assert_int_equal(hdl_tokenizer_find(tok, "<SPECIAL_39>"), 39);
    hdl_tokenizer_free(tok);
}

typedef struct file {
    const char *name, *text;
} file;

static hdl_err open_folder(hdl_tokenizer **tok, const file *files, size_t n, hdl_errmsg *why)
{
    char dir[256], path[512];
    assert_ok(hdl_fs_mkdtemp(dir, sizeof dir, "heddle-text-", why));
    for (size_t i = 0; i < n; i++) {
        assert_ok(hdl_fs_join(path, sizeof path, dir, files[i].name));
        hdl_fs_bytes bytes = {files[i].text, strlen(files[i].text)};
        assert_ok(hdl_fs_write_atomic(path, bytes, why));
    }
    hdl_err err = hdl_tokenizer_open(tok, dir, why);
    assert_ok(hdl_fs_remove_tree(dir));
    return err;
}

#define KIMI_CONFIG                                                                                \
    "{\"auto_map\":{\"AutoTokenizer\":[\"tokenization_kimi.TikTokenTokenizer\",null]}}"
#define TEKKEN(vocab)                                                                              \
    "{\"config\":{\"pattern\":\"a\",\"default_vocab_size\":3,\"default_num_special_tokens\":1,"    \
    "\"version\":\"v3\"},\"special_tokens\":[{\"rank\":0,\"token_str\":\"<s>\"}],\"vocab\":" vocab \
    "}"

static void broken_files_are_told(void **state)
{
    static const struct {
        file files[2];
        hdl_err err;
        const char *says;
    } cases[] = {
        {{{"tiktoken.model", "YQ== 0\n"}, {"tokenizer_config.json", "{}"}},
         HDL_UNSUPPORTED,
         "Kimi"},
        {{{"tiktoken.model", "YQ== 0\n"}, {"tokenizer_config.json", KIMI_CONFIG}},
         HDL_INVALID,
         "byte 0x00 has no token"},
        {{{"tiktoken.model", "YQ== 0\nYg==\n"}, {"tokenizer_config.json", KIMI_CONFIG}},
         HDL_INVALID,
         "line 2"},
        {{{"tiktoken.model", "YQ== 0\nYQ== 1\n"}, {"tokenizer_config.json", KIMI_CONFIG}},
         HDL_INVALID,
         "twice"},
        {{{"tiktoken.model", "YQ== 0\nYg== 7\n"}, {"tokenizer_config.json", KIMI_CONFIG}},
         HDL_INVALID,
         "rank 7"},
        {{{"tiktoken.model", "YQ= 0\n"}, {"tokenizer_config.json", KIMI_CONFIG}},
         HDL_INVALID,
         "base64"},
        {{{"tekken.json", "{}"}, {"x", ""}}, HDL_INVALID, "config"},
        {{{"tekken.json", TEKKEN("[]")}, {"x", ""}}, HDL_INVALID, "fewer than the 2"},
        {{{"tekken.json", TEKKEN("[{\"rank\":0,\"token_bytes\":\"YQ==\"},{\"rank\":0,"
                                 "\"token_bytes\":\"Yg==\"}]")},
          {"x", ""}},
         HDL_INVALID,
         "clashes"},
        {{{"tekken.json", TEKKEN("[{\"rank\":0,\"token_bytes\":\"!\"},{\"rank\":1,"
                                 "\"token_bytes\":\"Yg==\"}]")},
          {"x", ""}},
         HDL_INVALID,
         "base64"},
        {{{"config.json", "{}"}, {"x", ""}}, HDL_NOTFOUND, "tekken.json"},
    };
    (void)state;
    for (size_t i = 0; i < HDL_ARRAY_LEN(cases); i++) {
        hdl_tokenizer *tok = NULL;
        hdl_errmsg why = {""};
        hdl_err err = open_folder(&tok, cases[i].files, 2, &why);
        if (err != cases[i].err || strstr(why.text, cases[i].says) == NULL)
            fail_msg("case %zu: %s \"%s\", expected %s with \"%s\"", i, hdl_err_name(err), why.text,
                     hdl_err_name(cases[i].err), cases[i].says);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(ids_are_the_originals),
                                       cmocka_unit_test(folders_say_what_ends_an_answer),
                                       cmocka_unit_test(broken_files_are_told)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
