/* SPDX-License-Identifier: Apache-2.0 */
/* GGUF files in a small language of their own, so that a lie is one line: words separated by
 * spaces; w:n is the number n in w bytes, s:text a string with its length, =text bare bytes, z:n
 * zero bytes, p:n padding to a multiple. */
#include "unit.h"

#include <inttypes.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/gguf.h"

enum { FILE_MAX = 1 << 17 };

static hdl_errmsg why;
static unsigned char file[FILE_MAX] __attribute__((aligned(32)));

static size_t put_word(size_t at, const char *word, size_t len)
{
    uint64_t n = len > 2 ? strtoull(word + 2, NULL, 0) : 0;
    size_t text = len - (word[0] == '=' ? 1 : 2);
    bool skips = word[0] == 'z' || word[0] == 'p';
    assert_true(at + len + 16 + (skips ? n : 0) < FILE_MAX);
    switch (word[0]) {
    case 'z': return at + (size_t)n;
    case 'p': return (at + (size_t)n - 1) / (size_t)n * (size_t)n;
    case 's':
        for (unsigned i = 0; i < 8; i++)
            file[at++] = (unsigned char)((uint64_t)text >> (8 * i));
        memcpy(file + at, word + 2, text);
        return at + text;
    case '=': memcpy(file + at, word + 1, text); return at + text;
    default:
        for (int i = 0; i < word[0] - '0'; i++)
            file[at++] = (unsigned char)(n >> (8 * i));
        return at;
    }
}

static size_t make(const char *spec)
{
    size_t at = 0;
    memset(file, 0, sizeof file);
    for (const char *word = spec; *word != '\0';) {
        size_t len = strcspn(word, " ");
        at = put_word(at, word, len);
        word += len + (word[len] == ' ');
    }
    return at;
}

/* What is wrong is a message of three parts. */
static void check_refused(const char *spec, hdl_err expected)
{
    hdl_gguf *g = NULL;
    size_t len = make(spec);
    /* Of its own size, so that a sanitizer sees a read past the end. */
    unsigned char *exact = malloc(len ? len : 1);
    memcpy(exact, file, len);
    why = (hdl_errmsg){0};
    hdl_err err = hdl_gguf_open_bytes(&g, exact, len, &why);
    if (err != expected)
        fail_msg("%s: %s (%s), expected %s", spec, hdl_err_name(err), why.text,
                 hdl_err_name(expected));
    const char *semicolon = strchr(why.text, ';');
    assert_non_null(semicolon);
    assert_non_null(strchr(semicolon + 1, ';'));
    assert_null(g);
    free(exact);
}

#define HEAD(tensors, kvs) "=GGUF 4:3 8:" #tensors " 8:" #kvs " "
#define U32(key, value)    "s:" key " 4:4 4:" #value " "
/* One F32 tensor of 2x3, at its place. */
#define T23(name, offset) "s:" name " 4:2 8:2 8:3 4:0 8:" #offset " "

static void test_values(void **state)
{
    (void)state;
    size_t len =
        make(HEAD(0, 15) "s:u8 4:0 1:255 s:i8 4:1 1:255 s:u16 4:2 2:65535 "
                         "s:i16 4:3 2:65534 s:u32 4:4 4:4294967295 s:i32 4:5 4:4294967293 "
                         "s:f32 4:6 4:0x3fc00000 s:t 4:7 1:1 s:s 4:8 s:text s:empty 4:8 s: "
                         "s:u64 4:10 8:0xffffffffffffffff s:i64 4:11 8:0xfffffffffffffffc "
                         "s:f64 4:12 8:0xc004000000000000 "
                         "s:a.b 4:9 4:8 8:3 s:x s: s:yz s:a.i 4:9 4:3 8:2 2:7 2:65535 ");
    hdl_gguf *g;
    const hdl_gguf_kv *kv;
    assert_ok(hdl_gguf_open_bytes(&g, file, len, &why));
    assert_int_equal(hdl_gguf_kv_count(g), 15);
    assert_string_equal(hdl_gguf_kv_at(g, 0)->key, "a.b");

    static const char *const negative[] = {"i8", "i16", "i32", "i64"};
    for (int i = 0; i < 4; i++) {
        uint64_t n = 5;
        double d = 0;
        assert_int_equal(hdl_gguf_int_at(hdl_gguf_find(g, negative[i]), 0), -1 - i);
        assert_err(hdl_gguf_u64(g, negative[i], &n, &why), INVALID);
        assert_int_equal(n, 5);
        assert_ok(hdl_gguf_f64(g, negative[i], &d, &why));
        assert_true(d == -1.0 - i);
    }
    uint64_t n = 0;
    double d = 0;
    bool truth = false;
    hdl_gguf_str s;
    assert_ok(hdl_gguf_u64(g, "u8", &n, &why));
    assert_int_equal(n, 255);
    assert_ok(hdl_gguf_u64(g, "u64", &n, &why));
    assert_true(n == UINT64_MAX);
    assert_true(hdl_gguf_int_at(hdl_gguf_find(g, "u64"), 0) == INT64_MAX);
    assert_ok(hdl_gguf_f64(g, "f32", &d, &why));
    assert_true(d == 1.5);
    assert_ok(hdl_gguf_f64(g, "f64", &d, &why));
    assert_true(d == -2.5);
    assert_ok(hdl_gguf_bool(g, "t", &truth, &why));
    assert_true(truth);
    assert_ok(hdl_gguf_string(g, "s", &s, &why));
    assert_memory_equal(s.data, "text", s.len);
    assert_ok(hdl_gguf_string(g, "empty", &s, &why));
    assert_int_equal(s.len, 0);

    assert_ok(hdl_gguf_array(g, (hdl_gguf_want){"a.i", HDL_GGUF_I64}, &kv, &why));
    assert_int_equal(hdl_gguf_int_at(kv, 0), 7);
    assert_int_equal(hdl_gguf_int_at(kv, 1), -1);
    assert_ok(hdl_gguf_array(g, (hdl_gguf_want){"a.i", HDL_GGUF_F64}, &kv, &why));
    assert_true(hdl_gguf_float_at(kv, 1) == -1.0);
    assert_ok(hdl_gguf_array(g, (hdl_gguf_want){"a.b", HDL_GGUF_STRING}, &kv, &why));
    static const char *const texts[] = {"x", "", "yz"};
    size_t at = 0;
    for (int i = 0; i < 3; i++) {
        assert_true(hdl_gguf_next_string(kv, &at, &s));
        assert_int_equal(s.len, strlen(texts[i]));
        assert_memory_equal(s.data, texts[i], s.len);
    }
    assert_false(hdl_gguf_next_string(kv, &at, &s));
    hdl_gguf_close(g);
}

static void test_wrong_types(void **state)
{
    (void)state;
    size_t len = make(HEAD(0, 3) U32("n", 1) "s:s 4:8 s:x s:a 4:9 4:8 8:1 s:x ");
    hdl_gguf *g;
    uint64_t n;
    double d;
    bool truth;
    hdl_gguf_str s;
    const hdl_gguf_kv *kv;
    assert_ok(hdl_gguf_open_bytes(&g, file, len, &why));
    assert_err(hdl_gguf_u64(g, "absent", &n, &why), NOTFOUND);
    assert_has(why.text, "no absent;");
    assert_err(hdl_gguf_u64(g, "s", &n, &why), INVALID);
    assert_has(why.text, "s is not a count;");
    assert_err(hdl_gguf_u64(g, "a", &n, &why), INVALID);
    assert_err(hdl_gguf_f64(g, "s", &d, &why), INVALID);
    assert_err(hdl_gguf_bool(g, "n", &truth, &why), INVALID);
    assert_err(hdl_gguf_string(g, "n", &s, &why), INVALID);
    assert_err(hdl_gguf_string(g, "a", &s, &why), INVALID);
    assert_err(hdl_gguf_array(g, (hdl_gguf_want){"a", HDL_GGUF_I64}, &kv, &why), INVALID);
    assert_err(hdl_gguf_array(g, (hdl_gguf_want){"s", HDL_GGUF_STRING}, &kv, &why), INVALID);
    assert_err(hdl_gguf_array(g, (hdl_gguf_want){"n", HDL_GGUF_I64}, &kv, &why), INVALID);
    hdl_gguf_close(g);
}

static void test_tensors(void **state)
{
    (void)state;
    /* b: 6 floats, padded to 32; a: two rows of one Q4_K block each; scalar without dimensions. */
    size_t len = make(HEAD(3, 0) T23("b", 0) "s:a 4:2 8:256 8:2 4:12 8:32 s:scalar 4:0 4:1 8:320 "
                                             "p:32 z:24 p:32 z:288 1:1 1:2");
    hdl_gguf *g;
    assert_ok(hdl_gguf_open_bytes(&g, file, len, &why));
    assert_int_equal(hdl_gguf_tensor_count(g), 3);
    const hdl_gguf_tensor *a = hdl_gguf_tensor_at(g, 0);
    assert_string_equal(a->name, "a");
    assert_int_equal(a->row_bytes, 144);
    assert_int_equal(a->bytes, 288);
    assert_int_equal(a->dims[0], 256);
    assert_int_equal(a->dims[2], 1);
    const hdl_gguf_tensor *b = hdl_gguf_tensor_find(g, "b");
    assert_int_equal((const unsigned char *)a->data - (const unsigned char *)b->data, 32);
    const hdl_gguf_tensor *scalar = hdl_gguf_tensor_find(g, "scalar");
    assert_int_equal(scalar->bytes, 2);
    assert_ptr_equal((const unsigned char *)scalar->data + 2, file + len);
    assert_null(hdl_gguf_tensor_find(g, "c"));
    assert_int_equal(hdl_gguf_total_bytes(g), 24 + 288 + 2);
    hdl_gguf_close(g);

    /* An alignment of the file's own; version 2; bytes of nobody at the end. */
    len =
        make("=GGUF 4:2 8:2 8:1 " U32("general.alignment", 8) T23("x", 0) T23("y", 24) "p:8 z:50");
    assert_ok(hdl_gguf_open_bytes(&g, file, len, &why));
    hdl_gguf_close(g);
}

static void test_lies(void **state)
{
    static const char *const lies[] = {
        "",
        "=GGU",
        "=GGML 4:3 8:0 8:0",
        "=GGUF 4:3 8:0 4:0",
        HEAD(0, 1),
        HEAD(0, 0xffffffffffffffff) U32("a", 1),
        HEAD(0, 65537) "z:100000",
        HEAD(0, 2) U32("a", 1),
        HEAD(0, 2) U32("a", 1) U32("a", 1),
        HEAD(0, 1) "8:0 4:4 4:1 z:20",
        HEAD(0, 1) "8:0xffffffffffffffff =a 4:4 4:1",
        HEAD(0, 1) "8:100 =a 4:4 4:1",
        HEAD(0, 1) "8:2 1:0xc3 1:0x28 4:4 4:1",        /* no UTF-8 */
        HEAD(0, 1) "8:2 1:0xc0 1:0x80 4:4 4:1",        /* overlong */
        HEAD(0, 1) "8:3 1:0xed 1:0xa0 1:0x80 4:4 4:1", /* a surrogate */
        HEAD(0, 1) "8:3 =ab 1:0 4:4 4:1",              /* a NUL */
        HEAD(0, 1) "8:3 =ab 1:10 4:4 4:1",             /* a line feed */
        HEAD(0, 1) "s:a 4:13 4:1",
        HEAD(0, 1) "s:a 4:0xffffffff 4:1",
        HEAD(0, 1) "s:a 4:4 2:1",
        HEAD(0, 1) "s:a 4:7 1:2",
        HEAD(0, 1) "s:a 4:8 8:0xffffffffffffffff =x",
        HEAD(0, 1) "s:a 4:8 8:2 =x",
        HEAD(0, 1) "s:a 4:9 4:4 8:0x4000000000000001 4:1",
        HEAD(0, 1) "s:a 4:9 4:4 8:2 4:1",
        HEAD(0, 1) "s:a 4:9 4:8 8:0x2000000000000001 s:x",
        HEAD(0, 1) "s:a 4:9 4:8 8:2 s:x 8:9 =y",
        HEAD(0, 1) "s:a 4:9 4:7 8:3 1:0 1:1 1:7",
        HEAD(0, 1) "s:a 4:9 4:13 8:0",
        HEAD(0, 1) "s:a 4:9 4:4",
        HEAD(1, 0),
        HEAD(0xffffffffffffffff, 0) T23("a", 0) "p:32 z:24",
        HEAD(3, 0) T23("a", 0) "p:32 z:24",
        HEAD(1, 0) "8:256 z:256 4:1 8:1 4:0 8:0 p:32 z:32",
        HEAD(1, 0) "8:0 4:1 8:1 4:0 8:0 p:32 z:32",
        HEAD(1, 0) "8:1 1:0x80 4:1 8:1 4:0 8:0 p:32 z:32",
        HEAD(1, 0) "s:a 4:5 8:1 8:1 8:1 8:1 8:1 4:0 8:0 p:32 z:4",
        HEAD(1, 0) "s:a 4:0xffffffff 8:1 4:0 8:0 p:32 z:4",
        HEAD(1, 0) "s:a 4:2 8:2 8:0 4:0 8:0 p:32 z:4",
        HEAD(1, 0) "s:a 4:2 8:0x100000000 8:0x100000000 4:0 8:0 p:32 z:4",
        HEAD(1, 0) "s:a 4:1 8:0x4000000000000000 4:0 8:0 p:32 z:4",
        HEAD(1, 0) "s:a 4:4 8:2 8:0x7fffffffffffffff 8:2 8:2 4:0 8:0 p:32 z:4",
        HEAD(1, 0) "s:a 4:1 8:31 4:2 8:0 p:32 z:18", /* no whole block */
        HEAD(1, 0) "s:a 4:1 8:128 4:12 8:0 p:32 z:144",
        HEAD(1, 0) T23("a", 0) "p:32 z:23",
        HEAD(1, 0) T23("a", 0),              /* ends before the data */
        HEAD(1, 0) T23("a", 32) "p:32 z:64", /* a hole */
        HEAD(1, 0) T23("a", 4) "p:32 z:64",  /* not aligned */
        HEAD(1, 0) T23("a", 0xffffffffffffffe0) "p:32 z:64",
        HEAD(2, 0) T23("a", 0) T23("b", 0) "p:32 z:64",  /* overlap */
        HEAD(2, 0) T23("a", 32) T23("b", 0) "p:32 z:64", /* another order */
        HEAD(2, 0) T23("a", 0) T23("b", 24) "p:32 z:64",
        HEAD(2, 0) T23("a", 0) T23("a", 32) "p:32 z:64", /* a name twice */
        HEAD(1, 1) U32("general.alignment", 0) T23("a", 0) "p:32 z:24",
        HEAD(1, 1) U32("general.alignment", 4) T23("a", 0) "p:32 z:24",
        HEAD(1, 1) U32("general.alignment", 48) T23("a", 0) "p:48 z:24",
        HEAD(1, 1) U32("general.alignment", 0x80000000) T23("a", 0) "p:32 z:24",
        HEAD(1, 1) "s:general.alignment 4:8 s:32 " T23("a", 0) "p:32 z:24",
    };
    (void)state;
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++)
        check_refused(lies[i], HDL_CORRUPT);
}

static void test_unsupported(void **state)
{
    static const char *const strange[] = {
        "=GGUF 4:1 8:0 8:0",
        "=GGUF 4:4 8:0 8:0",
        "=GGUF 4:0x03000000 8:0 8:0",
        HEAD(0, 1) "s:a 4:9 4:9 8:1 4:4 8:1 4:1",
        HEAD(1, 0) "s:a 4:1 8:32 4:4 8:0 p:32 z:64", /* Q4_2, withdrawn */
        HEAD(1, 0) "s:a 4:1 8:32 4:99 8:0 p:32 z:64",
    };
    (void)state;
    for (size_t i = 0; i < sizeof strange / sizeof strange[0]; i++)
        check_refused(strange[i], HDL_UNSUPPORTED);
}

/* Every beginning of a good file is refused, and so is (or else it stays in bounds) every good
 * file with one byte changed. */
static void test_cut_and_changed(void **state)
{
    (void)state;
    size_t len = make(HEAD(2, 2) "s:a 4:9 4:8 8:2 s:x s:yz " U32("general.alignment", 8)
                          T23("b", 0) "s:c 4:1 8:32 4:8 8:24 p:8 z:58");
    unsigned char *good = malloc(len);
    memcpy(good, file, len);
    hdl_gguf *g;
    for (size_t cut = 0; cut < len; cut++) {
        unsigned char *part = malloc(cut ? cut : 1);
        memcpy(part, good, cut);
        if (hdl_gguf_open_bytes(&g, part, cut, &why) != HDL_CORRUPT)
            fail_msg("the first %zu of %zu bytes were believed", cut, len);
        free(part);
    }
    for (size_t at = 0; at < len; at++)
        for (unsigned flip = 1; flip < 256; flip <<= 1) {
            good[at] = (unsigned char)(good[at] ^ flip);
            if (hdl_gguf_open_bytes(&g, good, len, &why) == HDL_OK) {
                for (size_t i = 0; i < hdl_gguf_tensor_count(g); i++) {
                    const hdl_gguf_tensor *t = hdl_gguf_tensor_at(g, i);
                    const unsigned char *data = t->data;
                    assert_true(data > good && data + t->bytes <= good + len);
                }
                hdl_gguf_close(g);
            }
            good[at] = (unsigned char)(good[at] ^ flip);
        }
    free(good);
}

static void write_part(const char *dir, const char *name, const char *spec)
{
    char path[256];
    size_t len = make(spec);
    assert_ok(hdl_fs_join(path, sizeof path, dir, name));
    assert_ok(hdl_fs_write_atomic(path, (hdl_fs_bytes){file, len}, &why));
}

#define SPLIT(no, count, total)                                                                    \
    "s:split.no 4:2 2:" #no " s:split.count 4:2 2:" #count " s:split.tensors.count 4:5 4:" #total  \
    " "
#define PART(no, name) HEAD(1, 3) SPLIT(no, 2, 2) T23(name, 0) "p:32 z:24"

static void test_split(void **state)
{
    (void)state;
    static const char first[] = "m-00001-of-00002.gguf", second[] = "m-00002-of-00002.gguf";
    char dir[64], path[128], other[128];
    hdl_gguf *g;
    assert_ok(hdl_fs_mkdtemp(dir, sizeof dir, "heddle-gguf-", &why));
    assert_ok(hdl_fs_join(path, sizeof path, dir, first));
    assert_ok(hdl_fs_join(other, sizeof other, dir, second));
    assert_err(hdl_gguf_open(&g, path, &why), NOTFOUND);
    write_part(dir, first, PART(0, "a"));
    assert_err(hdl_gguf_open(&g, path, &why), NOTFOUND);
    assert_has(why.text, second);
    write_part(dir, second, PART(1, "b"));
    assert_ok(hdl_gguf_open(&g, path, &why));
    assert_int_equal(hdl_gguf_tensor_count(g), 2);
    assert_string_equal(hdl_gguf_tensor_find(g, "b")->file, second);
    hdl_gguf_forget_pages(g);
    hdl_gguf_close(g);

    assert_err(hdl_gguf_open(&g, other, &why), INVALID);
    assert_has(why.text, "is part 2 of 2");
    write_part(dir, second, PART(0, "b"));
    assert_err(hdl_gguf_open(&g, path, &why), CORRUPT);
    assert_has(why.text, "says that it is part 1 of 2");
    write_part(dir, second, PART(1, "a"));
    assert_err(hdl_gguf_open(&g, path, &why), CORRUPT);
    assert_has(why.text, "tensor a is in");
    write_part(dir, second, HEAD(1, 3) SPLIT(1, 3, 2) T23("b", 0) "p:32 z:24");
    assert_err(hdl_gguf_open(&g, path, &why), CORRUPT);
    write_part(dir, second, HEAD(0, 3) SPLIT(1, 2, 2));
    assert_err(hdl_gguf_open(&g, path, &why), CORRUPT);
    assert_has(why.text, "hold 1 tensors");
    write_part(dir, second, "=GGUF 4:3");
    assert_err(hdl_gguf_open(&g, path, &why), CORRUPT);
    assert_has(why.text, second);
    write_part(dir, first, HEAD(1, 3) SPLIT(0, 65535, 2) T23("a", 0) "p:32 z:24");
    assert_err(hdl_gguf_open(&g, path, &why), CORRUPT);
    write_part(dir, first, HEAD(0, 1) "s:split.count 4:8 s:two");
    assert_err(hdl_gguf_open(&g, path, &why), CORRUPT);
    assert_ok(hdl_fs_join(path, sizeof path, dir, "renamed.gguf"));
    write_part(dir, "renamed.gguf", PART(0, "a"));
    assert_err(hdl_gguf_open(&g, path, &why), INVALID);
    assert_has(why.text, "-00001-of-00002.gguf");
    assert_ok(hdl_fs_remove_tree(dir));
}

/* Published vocabularies, where this machine has them. */
static void test_published(void **state)
{
    static const struct {
        const char *name, *model;
        uint64_t tokens;
    } files[] = {
        {"phi-3", "llama", 32064}, {"deepseek-llm", "gpt2", 102400}, {"gpt-2", "gpt2", 50257},
        {"falcon", "gpt2", 65024}, {"llama-spm", "llama", 32000},
    };
    (void)state;
    if (!hdl_fs_is_dir(HDL_SOURCE_DIR "/../shared/data/vocab")) {
        print_message("skipped: ../shared/data/vocab is not there\n");
        skip();
    }
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char path[512];
        hdl_gguf *g;
        hdl_gguf_str s;
        const hdl_gguf_kv *tokens;
        snprintf(path, sizeof path, "%s/../shared/data/vocab/ggml-vocab-%s.gguf", HDL_SOURCE_DIR,
                 files[i].name);
        assert_ok(hdl_gguf_open(&g, path, &why));
        assert_ok(hdl_gguf_string(g, "tokenizer.ggml.model", &s, &why));
        assert_int_equal(s.len, strlen(files[i].model));
        assert_memory_equal(s.data, files[i].model, s.len);
        assert_ok(hdl_gguf_array(g, (hdl_gguf_want){"tokenizer.ggml.tokens", HDL_GGUF_STRING},
                                 &tokens, &why));
        assert_int_equal(tokens->count, files[i].tokens);
        size_t at = 0;
        uint64_t n = 0;
        while (hdl_gguf_next_string(tokens, &at, &s))
            n++;
        assert_int_equal(n, files[i].tokens);
        hdl_gguf_close(g);
    }
}

static void test_types(void **state)
{
    (void)state;
    assert_string_equal(hdl_ggml_type_of(12)->name, "Q4_K");
    assert_int_equal(hdl_ggml_type_of(39)->block_bytes, 17);
    assert_null(hdl_ggml_type_of(4));
    assert_null(hdl_ggml_type_of(42));
    assert_null(hdl_ggml_type_of(UINT32_MAX));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),      cmocka_unit_test(test_wrong_types),
        cmocka_unit_test(test_tensors),     cmocka_unit_test(test_lies),
        cmocka_unit_test(test_unsupported), cmocka_unit_test(test_cut_and_changed),
        cmocka_unit_test(test_split),       cmocka_unit_test(test_published),
        cmocka_unit_test(test_types),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
