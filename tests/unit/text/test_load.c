/* SPDX-License-Identifier: Apache-2.0 */
/* A model folder: which file says what, and what happens when one is broken. */
#include "text_help.h"

typedef struct file {
    const char *name, *text; /* text NULL: the golden tokenizer */
} file;

static void write_folder(char dir[256], const file *files, size_t n)
{
    hdl_errmsg why = {""};
    assert_ok(hdl_fs_mkdtemp(dir, 256, "heddle-text-", &why));
    for (size_t i = 0; i < n; i++) {
        char path[512];
        size_t len = files[i].text ? strlen(files[i].text) : 0;
        char *golden = files[i].text ? NULL : read_source("tests/golden/text/qwen2.json", &len);
        assert_ok(hdl_fs_join(path, sizeof path, dir, files[i].name));
        assert_ok(
            hdl_fs_write_atomic(path, (hdl_fs_bytes){golden ? golden : files[i].text, len}, &why));
        free(golden);
    }
}

static hdl_err open_folder(hdl_tokenizer **tok, const file *files, size_t n, hdl_errmsg *why)
{
    char dir[256];
    write_folder(dir, files, n);
    hdl_err err = hdl_tokenizer_open(tok, dir, why);
    assert_ok(hdl_fs_remove_tree(dir));
    return err;
}

#define OPEN(tok, files, why) open_folder(tok, files, sizeof(files) / sizeof *(files), why)

static void a_tokenizer_alone_is_enough(void **state)
{
    const file files[] = {{"tokenizer.json", NULL}};
    hdl_tokenizer *tok;
    hdl_errmsg why = {""};
    (void)state;
    assert_ok(OPEN(&tok, files, &why));
    const hdl_tok_info *info = hdl_tokenizer_info(tok);
    assert_int_equal(info->n_eos_ids, 0);
    assert_int_equal(info->bos_id, -1);
    assert_null(info->special.eos);
    assert_null(info->chat_template);
    assert_true(info->vocab_size > 1000);
    hdl_tokenizer_free(tok);
}

static void each_file_has_its_say(void **state)
{
    const file files[] = {
        {"tokenizer.json", NULL},
        {"tokenizer_config.json",
         "{\"eos_token\":{\"content\":\"<|im_end|>\"},\"bos_token\":null,\"chat_template\":["
         "{\"name\":\"tool_use\",\"template\":\"no\"},{\"name\":\"default\",\"template\":\"yes\"}]"
         "}"},
        {"special_tokens_map.json", "{\"bos_token\":\"<|begin_of_text|>\",\"eos_token\":\"<|"
                                    "endoftext|>\",\"pad_token\":\"<pad>\"}"},
        {"generation_config.json", "{\"eos_token_id\":[7,9,7,-1]}"},
        {"config.json", "{\"eos_token_id\":11}"},
    };
    hdl_tokenizer *tok;
    hdl_errmsg why = {""};
    (void)state;
    assert_ok(OPEN(&tok, files, &why));
    const hdl_tok_info *info = hdl_tokenizer_info(tok);
    assert_int_equal(info->n_eos_ids, 3);
    assert_int_equal(info->eos_ids[0], 7);
    assert_int_equal(info->eos_ids[1], 9);
    assert_int_equal(info->eos_ids[2], hdl_tokenizer_find(tok, "<|im_end|>"));
    assert_int_equal(info->bos_id, hdl_tokenizer_find(tok, "<|begin_of_text|>"));
    assert_string_equal(info->special.eos, "<|im_end|>");
    assert_string_equal(info->special.pad, "<pad>");
    assert_null(info->special.unk);
    assert_string_equal(info->chat_template, "yes");
    assert_int_equal(info->chat_template_len, 3);
    hdl_tokenizer_free(tok);
}

static void later_places_fill_what_earlier_ones_lack(void **state)
{
    const file files[] = {{"tokenizer.json", NULL},
                          {"tokenizer_config.json", "{\"chat_template\":\"old\"}"},
                          {"config.json", "{\"eos_token_id\":[11]}"},
                          {"chat_template.jinja", "new\n"}};
    hdl_tokenizer *tok;
    hdl_errmsg why = {""};
    (void)state;
    assert_ok(OPEN(&tok, files, &why));
    assert_int_equal(hdl_tokenizer_info(tok)->n_eos_ids, 1);
    assert_int_equal(hdl_tokenizer_info(tok)->eos_ids[0], 11);
    assert_string_equal(hdl_tokenizer_info(tok)->chat_template, "new\n");
    hdl_tokenizer_free(tok);
}

static void broken_folders_say_what_is_wrong(void **state)
{
    hdl_tokenizer *tok;
    hdl_errmsg why = {""};
    (void)state;
    assert_err(hdl_tokenizer_open(&tok, "/nonexistent/model", &why), NOTFOUND);
    assert_has(why.text, "/nonexistent/model/tokenizer.json");
    const file bad_config[] = {{"tokenizer.json", NULL},
                               {"generation_config.json", "{\"eos_token_id\":\"x\"}"}};
    assert_err(OPEN(&tok, bad_config, &why), INVALID);
    assert_has(why.text, "generation_config.json");
    assert_has(why.text, "eos_token_id");
    const file no_json[] = {{"tokenizer.json", NULL}, {"tokenizer_config.json", "{"}};
    assert_err(OPEN(&tok, no_json, &why), INVALID);
    assert_has(why.text, "tokenizer_config.json");
    const file empty[] = {{"tokenizer.json", ""}};
    assert_err(OPEN(&tok, empty, &why), INVALID);
}

/* The bundled model: its own files, as they are shipped. */
static void the_bundled_model_opens(void **state)
{
    char path[512];
    hdl_tokenizer *tok;
    hdl_errmsg why = {""};
    (void)state;
    snprintf(path, sizeof path, "%s/deploy/demo-model", HDL_SOURCE_DIR);
    if (!hdl_fs_exists(path))
        skip();
    if (hdl_tokenizer_open(&tok, path, &why) != HDL_OK)
        fail_msg("%s", why.text);
    const hdl_tok_info *info = hdl_tokenizer_info(tok);
    assert_string_equal(info->special.eos, "<|im_end|>");
    assert_int_equal(info->eos_ids[0], hdl_tokenizer_find(tok, "<|im_end|>"));
    assert_non_null(info->chat_template);
    hdl_tokenizer_free(tok);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tokenizer_alone_is_enough),
        cmocka_unit_test(each_file_has_its_say),
        cmocka_unit_test(later_places_fill_what_earlier_ones_lack),
        cmocka_unit_test(broken_folders_say_what_is_wrong),
        cmocka_unit_test(the_bundled_model_opens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
