/* SPDX-License-Identifier: Apache-2.0 */
/* The published chat templates against what transformers makes of them, each with every
 * conversation: digests of the texts, or a refusal by both
 * (tests/golden/text/make_published_templates.py). The templates lie beside the project
 * (shared/data/templates, not ours to commit); without them the test is skipped. */
#include <dirent.h>

#include <openssl/evp.h>

#include "scheduler/text/template.h"

#include "text_help.h"

#define FOLDER "../shared/data/templates"
#define GOLDEN "tests/golden/text/published_templates.json"
#define REPEAT                                                                                     \
    "tests/oracle/templates.py " FOLDER "/%s shows both texts; where transformers or the file "    \
    "itself has changed, tests/golden/text/make_published_templates.py makes the digests anew"

enum { SHA256_BYTES = 32, SHA256_DIGITS = 2 * SHA256_BYTES };

static void sha256(const void *bytes, size_t n, char hex[SHA256_DIGITS + 1])
{
    unsigned char raw[EVP_MAX_MD_SIZE];
    unsigned int len = 0;
    assert_int_equal(EVP_Digest(bytes, n, raw, &len, EVP_sha256(), NULL), 1);
    assert_int_equal(len, SHA256_BYTES);
    for (int i = 0; i < SHA256_BYTES; i++)
        snprintf(hex + 2 * (size_t)i, 3, "%02x", raw[i]);
}

/* NULL for null. */
static const char *text_of(const hdl_jv *object, const char *key)
{
    const char *text = NULL;
    hdl_jv v = hdl_jv_get(object, key);
    assert_true(hdl_jv_present(&v));
    if (hdl_jv_given(&v))
        assert_ok(hdl_jv_string(&v, &text, NULL, NULL));
    return text;
}

static bool flag_of(const hdl_jv *object, const char *key)
{
    bool flag = false;
    hdl_jv v = hdl_jv_get(object, key);
    return hdl_jv_bool(&v, &flag, NULL) == HDL_OK && flag;
}

/* What all renderings share. */
typedef struct rig {
    hdl_json *doc;
    hdl_jv root, chats; /* a value refers to the one that it was taken from */
    hdl_special_texts special;
    int64_t now_us;
    hdl_buf out;
    uint32_t n_equal, n_refused, n_joined; /* refused: by both */
} rig;

static void rig_open(rig *r)
{
    const hdl_jv_range any = {0, INT64_MAX};
    r->doc = read_source_json(GOLDEN);
    r->root = hdl_json_root(r->doc);
    hdl_jv special = hdl_jv_get(&r->root, "special"), now = hdl_jv_get(&r->root, "now");
    r->chats = hdl_jv_get(&r->root, "chats");
    r->special =
        (hdl_special_texts){text_of(&special, "bos_token"), text_of(&special, "eos_token"),
                            text_of(&special, "pad_token"), text_of(&special, "unk_token")};
    assert_ok(hdl_jv_int(&now, any, &r->now_us, NULL));
    hdl_buf_init(&r->out, 1 << 20);
}

static void rig_close(rig *r)
{
    hdl_buf_deinit(&r->out);
    hdl_json_close(r->doc);
}

static hdl_err render(rig *r, const hdl_template *tpl, const hdl_jv *json, hdl_errmsg *why)
{
    hdl_jv messages = hdl_jv_get(json, "messages"), tools = hdl_jv_get(json, "tools"),
           documents = hdl_jv_get(json, "documents"), kwargs = hdl_jv_get(json, "kwargs");
    hdl_buf_clear(&r->out);
    return hdl_template_render(
        tpl,
        &(hdl_chat){.messages = &messages,
                    .tools = hdl_jv_given(&tools) ? &tools : NULL,
                    .documents = hdl_jv_given(&documents) ? &documents : NULL,
                    .kwargs = hdl_jv_given(&kwargs) ? &kwargs : NULL,
                    .special = &r->special,
                    .add_generation_prompt = flag_of(json, "add_generation_prompt"),
                    .continue_final = flag_of(json, "continue_final"),
                    .now_wall_us = (uint64_t)r->now_us},
        &r->out, why);
}

/* A golden has a digest's first digits; `got` is the whole digest, or NULL for a refusal. */
static bool same(const char *got, const char *want)
{
    assert_true(want == NULL || strlen(want) == 16);
    return got == NULL || want == NULL ? got == want : strncmp(got, want, strlen(want)) == 0;
}

static void check_chat(rig *r, const hdl_jv *row, const hdl_template *tpl, const hdl_jv *chat)
{
    hdl_jv renders = hdl_jv_get(row, "renders");
    const char *title = chat->key, *want = text_of(&renders, title);
    char hex[SHA256_DIGITS + 1], *got = NULL;
    hdl_errmsg why = {""};
    if (render(r, tpl, chat, &why) == HDL_OK) {
        sha256(hdl_buf_data(&r->out), r->out.len, hex);
        got = hex;
    }
    bool joins = !same(got, want) && strcmp(title, "parts") == 0 && flag_of(row, "may_join") &&
                 same(got, text_of(&renders, "parts, joined"));
    if (!same(got, want) && !joins)
        fail_msg("%s, \"%s\": %.16s%s, but transformers: %s; " REPEAT, row->key, title,
                 got ? got : "refused, ", got ? "" : why.text, want ? want : "refused", row->key);
    assert_true(got != NULL || strlen(why.text) > 10);
    r->n_joined += joins;
    r->n_refused += got == NULL;
    r->n_equal += got != NULL && !joins;
}

static void check_template(rig *r, const hdl_jv *row)
{
    char path[512], hex[SHA256_DIGITS + 1];
    size_t len;
    hdl_errmsg why = {""};
    hdl_template *tpl = NULL;
    snprintf(path, sizeof path, FOLDER "/%s", row->key);
    char *source = read_source(path, &len);
    sha256(source, len, hex);
    if (strcmp(hex, text_of(row, "sha256")) != 0)
        fail_msg("%s is not the file that " GOLDEN " was made from; " REPEAT, row->key, row->key);
    if (hdl_template_open(&tpl, source, len, &why) != HDL_OK)
        fail_msg("%s: %s", row->key, why.text);
    hdl_jv renders = hdl_jv_get(row, "renders");
    assert_int_equal(hdl_jv_len(&renders), hdl_jv_len(&r->chats));
    void *iter = NULL;
    for (hdl_jv chat; hdl_jv_next(&r->chats, &iter, &chat);)
        check_chat(r, row, tpl, &chat);
    hdl_template_free(tpl);
    free(source);
}

/* Templates in the folder; 0: there is none. */
static uint32_t count_files(void)
{
    DIR *dir = opendir(HDL_SOURCE_DIR "/" FOLDER);
    uint32_t n = 0;
    for (struct dirent *e = dir ? readdir(dir) : NULL; e; e = readdir(dir)) {
        const char *ext = strrchr(e->d_name, '.');
        n += ext != NULL && strcmp(ext, ".jinja") == 0;
    }
    if (dir != NULL)
        closedir(dir);
    return n;
}

static void equals_transformers(void **state)
{
    rig r = {0};
    void *iter = NULL;
    uint32_t n = count_files();
    (void)state;
    if (n == 0) {
        print_message("skipped: no published templates in " FOLDER "\n");
        skip();
    }
    rig_open(&r);
    hdl_jv rows = hdl_jv_get(&r.root, "templates");
    if (hdl_jv_len(&rows) != n)
        fail_msg(FOLDER " has %u templates and " GOLDEN " %zu; "
                        "make_published_templates.py makes the digests anew",
                 n, hdl_jv_len(&rows));
    for (hdl_jv row; hdl_jv_next(&rows, &iter, &row);)
        check_template(&r, &row);
    print_message("%u templates: %u renderings equal, %u refused by both, %u of joined parts\n", n,
                  r.n_equal, r.n_refused, r.n_joined);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(equals_transformers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
