/* SPDX-License-Identifier: Apache-2.0 */
/* Weight files that lie: each lie is refused with a reason; folders and indexes; what the loader
 * says about tensors that do not fit the model. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fs.h"
#include "rig.h"
#include "worker/load/safetensors.h"

/* A file from its header's text and a number of data bytes. Caller frees. */
static unsigned char *make_file(const char *header, size_t data, size_t *len)
{
    size_t n = strlen(header), padded = (n + 7) & ~(size_t)7;
    unsigned char *file = calloc(8 + padded + data, 1);
    for (unsigned i = 0; i < 8; i++)
        file[i] = (unsigned char)((uint64_t)padded >> (8 * i));
    memset(file + 8, ' ', padded);
    memcpy(file + 8, header, n);
    *len = 8 + padded + data;
    return file;
}

static hdl_err open_text(const char *header, size_t data, hdl_errmsg *why)
{
    size_t len = 0;
    hdl_st *st = NULL;
    unsigned char *file = make_file(header, data, &len);
    *why = (hdl_errmsg){0};
    hdl_err err = hdl_st_open_bytes(&st, file, len, why);
    hdl_st_close(st);
    free(file);
    return err;
}

static void test_good_file(void **state)
{
    static const char header[] =
        "{\"__metadata__\":{\"format\":\"pt\"},"
        "\"b\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[8,20]},"
        "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
        "\"empty\":{\"dtype\":\"F32\",\"shape\":[0,4],\"data_offsets\":[8,8]},"
        "\"f8\":{\"dtype\":\"F8_E4M3\",\"shape\":[],\"data_offsets\":[20,21]}}";
    size_t len = 0;
    hdl_st *st = NULL;
    hdl_errmsg why = {0};
    unsigned char *file = make_file(header, 21, &len);
    (void)state;
    assert_int_equal(hdl_st_open_bytes(&st, file, len, &why), HDL_OK);
    assert_int_equal(hdl_st_count(st), 4);
    const hdl_st_tensor *b = hdl_st_find(st, "b");
    assert_int_equal(b->dtype, HDL_DTYPE_BF16);
    assert_int_equal(b->shape[1], 3);
    assert_int_equal((const unsigned char *)b->data - (file + len - 21), 8);
    assert_int_equal(hdl_st_find(st, "f8")->dtype, HDL_DTYPE_E4M3);
    assert_null(hdl_st_find(st, "c"));
    assert_int_equal(hdl_st_total_bytes(st), 21);
    hdl_st_close(st);
    free(file);
}

static void test_lies(void **state)
{
#define A "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}"
    static const struct {
        const char *header;
        size_t data;
    } lies[] = {
        {"{" A "}", 7},       /* cut short */
        {"{" A "}", 9},       /* bytes of nobody */
        {"{" A "," A "}", 8}, /* a name twice */
        {"{" A ",\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}", 12},
        {"{" A ",\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8},
        {"{" A ",\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[12,16]}}", 16},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", 8},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 8},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[-8,0]}}", 8},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 8},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,9223372036854775807]}}", 8},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,0]}}", 0},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904],\"data_offsets\":[0,0]}}", 0},
        {"{\"a\":{\"dtype\":\"F31\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8},
        {"{\"a\":{\"dtype\":7,\"shape\":[2],\"data_offsets\":[0,8]}}", 8},
        {"{\"a\":{\"shape\":[2],\"data_offsets\":[0,8]}}", 8},
        {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,8]}}", 8},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]}}", 8},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8,8]}}", 8},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":2,\"data_offsets\":[0,8]}}", 8},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,2],\"data_offsets\":[0,8]}}", 8},
        {"{\"a\":[]}", 0},
        {"{\"__metadata__\":3}", 0},
        {"[]", 0},
        {"{", 0},
        {"", 0},
        {"{\"x\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
         "\"y\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[1,5]}}",
         5}, /* not aligned */
    };
#undef A
    (void)state;
    for (size_t i = 0; i < HDL_ARRAY_LEN(lies); i++) {
        hdl_errmsg why;
        if (open_text(lies[i].header, lies[i].data, &why) != HDL_CORRUPT)
            fail_msg("lie %zu was believed: %s", i, lies[i].header);
        assert_true(strlen(why.text) > 10);
    }
}

static void test_lying_lengths(void **state)
{
    static const uint64_t lengths[] = {
        0, 1, 9, 100, 100000001u, UINT64_MAX, (uint64_t)1 << 63, UINT64_MAX - 7};
    (void)state;
    for (size_t i = 0; i < HDL_ARRAY_LEN(lengths); i++) {
        unsigned char file[17] = "????????{}      ";
        hdl_st *st = NULL;
        hdl_errmsg why = {0};
        memcpy(file, &lengths[i], 8);
        assert_int_equal(hdl_st_open_bytes(&st, file, 16, &why), HDL_CORRUPT);
        for (size_t len = 0; len < 8; len++)
            assert_int_equal(hdl_st_open_bytes(&st, file, len, &why), HDL_CORRUPT);
    }
}

/* ---- folders ------------------------------------------------------------------------------ */

static void write_text(const char *dir, const char *name, const char *text)
{
    char path[512];
    hdl_errmsg why = {0};
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    hdl_fs_bytes bytes = {.data = text, .len = strlen(text)};
    assert_int_equal(hdl_fs_write_atomic(path, bytes, &why), HDL_OK);
}

static void write_part(const char *dir, const char *name, const char *tensor)
{
    char path[512], header[256];
    size_t len = 0;
    hdl_errmsg why = {0};
    snprintf(header, sizeof(header),
             "{\"%s\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", tensor);
    unsigned char *file = make_file(header, 8, &len);
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    hdl_fs_bytes bytes = {.data = file, .len = len};
    assert_int_equal(hdl_fs_write_atomic(path, bytes, &why), HDL_OK);
    free(file);
}

static hdl_err open_index(const char *dir, const char *map, hdl_errmsg *why)
{
    char text[1024];
    hdl_st *st = NULL;
    *why = (hdl_errmsg){0};
    snprintf(text, sizeof(text), "{\"metadata\":{},\"weight_map\":%s}", map);
    write_text(dir, "model.safetensors.index.json", text);
    hdl_err err = hdl_st_open(&st, dir, why);
    if (err == HDL_OK)
        assert_int_equal(hdl_st_count(st), 2);
    hdl_st_close(st);
    return err;
}

static void test_index(void **state)
{
    char dir[256];
    hdl_errmsg why = {0};
    hdl_st *st = NULL;
    (void)state;
    assert_int_equal(hdl_fs_mkdtemp(dir, sizeof(dir), "heddle-st-", &why), HDL_OK);
    assert_int_equal(hdl_st_open(&st, dir, &why), HDL_NOTFOUND);
    write_part(dir, "m-1.safetensors", "a");
    write_part(dir, "m-2.safetensors", "b");
#define TWO "\"a\":\"m-1.safetensors\",\"b\":\"m-2.safetensors\""
    assert_int_equal(open_index(dir, "{" TWO "}", &why), HDL_OK);
    assert_int_equal(open_index(dir, "{" TWO ",\"c\":\"m-2.safetensors\"}", &why), HDL_CORRUPT);
    assert_int_equal(open_index(dir, "{\"b\":\"m-1.safetensors\"}", &why), HDL_CORRUPT);
    assert_int_equal(open_index(dir, "{\"a\":\"m-3.safetensors\"}", &why), HDL_NOTFOUND);
    static const char *const escapes[] = {
        "{\"a\":\"../m-1.safetensors\"}",
        "{\"a\":\"/etc/m-1.safetensors\"}",
        "{\"a\":\"x/m-1.safetensors\"}",
        "{\"a\":\"m-1.bin\"}",
        "{\"a\":\".safetensors\"}",
        "{\"a\":\"\"}",
        "{\"a\":3}",
        "[]",
    };
    for (size_t i = 0; i < HDL_ARRAY_LEN(escapes); i++)
        assert_int_equal(open_index(dir, escapes[i], &why), HDL_INVALID);
    write_part(dir, "m-2.safetensors", "a"); /* the same name in both files */
    assert_int_equal(open_index(dir, "{" TWO "}", &why), HDL_CORRUPT);
    rig_remove(dir);
}

/* ---- the loader --------------------------------------------------------------------------- */

static void open_worker(const char *dir, hdl_wformat weights, hdl_err want, const char *word)
{
    hdl_errmsg why = {0};
    hdl_worker *w = NULL;
    hdl_worker_opts opts = {
        .model_path = dir, .weights = weights, .max_seqs = 2, .n_blocks = 4, .step_tokens = 8};
    assert_int_equal(hdl_worker_open(&w, &opts, &why), want);
    if (want != HDL_OK && !strstr(why.text, word))
        fail_msg("\"%s\" does not name %s", why.text, word);
    hdl_worker_close(w);
}

/* The model's file with one piece of its header replaced by another of the same length. */
static void spoil(const char *dir, const char *from, const char *to)
{
    char path[512];
    size_t len = 0;
    hdl_errmsg why = {0};
    snprintf(path, sizeof(path), "%s/model.safetensors", dir);
    char *file = rig_read(path, &len);
    char *at = memmem(file, len, from, strlen(from));
    assert_non_null(at);
    assert_int_equal(strlen(from), strlen(to));
    memcpy(at, to, strlen(to));
    hdl_fs_bytes bytes = {.data = file, .len = len};
    assert_int_equal(hdl_fs_write_atomic(path, bytes, &why), HDL_OK);
    free(file);
}

static void test_tensors_that_do_not_fit(void **state)
{
    static const struct {
        const char *from, *to, *word;
        hdl_err err;
    } cases[] = {
        {"layers.1.self_attn.k_proj", "layers.1.self_attn.z_proj", "layers.1.self_attn.k_proj",
         HDL_CORRUPT},
        {"\"shape\":[64,128]", "\"shape\":[128,64]", "64 x 128", HDL_CORRUPT},
        {"experts.3.up_proj", "experts.9.up_proj", "experts.3.up_proj", HDL_CORRUPT},
    };
    (void)state;
    for (size_t i = 0; i < HDL_ARRAY_LEN(cases); i++) {
        char dir[256];
        rig_make_model(dir, rig_config_moe, HDL_DTYPE_BF16);
        spoil(dir, cases[i].from, cases[i].to);
        open_worker(dir, HDL_WFORMAT_COUNT, cases[i].err, cases[i].word);
        rig_remove(dir);
    }
}

/* An untied head in the files of a tied model is the embedding once more; anything else that has no
 * place might matter. */
static void test_tensors_without_a_place(void **state)
{
    char dir[256], config[1024];
    (void)state;
    rig_make_model(dir, rig_config_llama, HDL_DTYPE_BF16);
    open_worker(dir, HDL_WFORMAT_Q8, HDL_OK, "");
    snprintf(config, sizeof(config), "%s", rig_config_llama);
    char *at = strstr(config, "\"tie_word_embeddings\":false");
    memcpy(at, "\"tie_word_embeddings\":true ", 27);
    write_text(dir, "config.json", config);
    open_worker(dir, HDL_WFORMAT_COUNT, HDL_OK, "");
    at = strstr(config, "\"num_hidden_layers\":2");
    memcpy(at, "\"num_hidden_layers\":1", 21);
    write_text(dir, "config.json", config);
    open_worker(dir, HDL_WFORMAT_COUNT, HDL_UNSUPPORTED, "layers.1");
    rig_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_file),
        cmocka_unit_test(test_lies),
        cmocka_unit_test(test_lying_lengths),
        cmocka_unit_test(test_index),
        cmocka_unit_test(test_tensors_that_do_not_fit),
        cmocka_unit_test(test_tensors_without_a_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
