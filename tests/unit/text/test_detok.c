/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/text/detok.h"

#include "base/rng.h"
#include "scheduler/text/utf8.h"
#include "text_help.h"

/* The definition: valid characters stand, each maximal part of a wrong one is U+FFFD. */
static void naive_lossy(const char *p, size_t n, hdl_buf *out)
{
    while (n > 0) {
        hdl_utf8_char c = hdl_utf8_read(p, n);
        hdl_buf_append(out, c.ok ? p : "\xef\xbf\xbd", c.ok ? c.bytes : 3);
        p += c.bytes;
        n -= c.bytes;
    }
}

/* All sequences of up to 4 bytes of a set that has every kind of lead and trail, as byte tokens one
 * by one. */
static void every_split_of_bytes(void **state)
{
    static const unsigned char kinds[] = {'a',  0x80, 0x8f, 0x90, 0xa0, 0xbf, 0xc1,
                                          0xc3, 0xe0, 0xe2, 0xed, 0xf0, 0xf4, 0xf5};
    enum { KINDS = sizeof kinds };
    hdl_tokenizer *tok = open_golden("gpt2");
    hdl_token of_byte[256];
    hdl_buf out, want;
    (void)state;
    hdl_buf_init(&out, 1 << 10);
    hdl_buf_init(&want, 1 << 10);
    for (hdl_token id = 0; id < (hdl_token)hdl_tokenizer_info(tok)->vocab_size; id++) {
        const char *bytes;
        size_t len;
        if (hdl_tokenizer_token_bytes(tok, id, &bytes, &len) && len == 1)
            of_byte[(unsigned char)bytes[0]] = id;
    }
    for (size_t word = 0; word < (size_t)KINDS * KINDS * KINDS * KINDS; word++) {
        hdl_detok detok;
        char bytes[4];
        hdl_detok_init(&detok, false);
        hdl_buf_clear(&out);
        hdl_buf_clear(&want);
        for (size_t i = 0, rest = word; i < 4; i++, rest /= KINDS) {
            bytes[i] = (char)kinds[rest % KINDS];
            assert_ok(hdl_detok_push(&detok, tok, of_byte[(unsigned char)bytes[i]], &out));
            assert_int_equal(hdl_utf8_valid_prefix((const char *)hdl_buf_data(&out), out.len),
                             out.len);
        }
        assert_ok(hdl_detok_flush(&detok, tok, &out));
        naive_lossy(bytes, 4, &want);
        assert_int_equal(out.len, want.len);
        assert_memory_equal(hdl_buf_data(&out), hdl_buf_data(&want), want.len);
    }
    hdl_buf_deinit(&out);
    hdl_buf_deinit(&want);
    hdl_tokenizer_free(tok);
}

/* Random ids: the stream is the whole, nothing waits that is complete. */
static void check_stream(const char *name)
{
    hdl_tokenizer *tok = open_golden(name);
    hdl_rng rng;
    hdl_buf stream, whole;
    hdl_rng_init(&rng, 5);
    hdl_buf_init(&stream, 1 << 16);
    hdl_buf_init(&whole, 1 << 16);
    for (int round = 0; round < 2000; round++) {
        hdl_token ids[40];
        hdl_detok detok;
        bool skip = round % 2;
        size_t n = hdl_rng_range(&rng, 0, 40);
        hdl_buf_clear(&stream);
        hdl_buf_clear(&whole);
        hdl_detok_init(&detok, skip);
        for (size_t i = 0; i < n; i++) {
            ids[i] = (hdl_token)hdl_rng_below(&rng, hdl_tokenizer_info(tok)->vocab_size +
                                                        2); /* beyond the end too */
            assert_ok(hdl_detok_push(&detok, tok, ids[i], &stream));
        }
        assert_ok(hdl_detok_flush(&detok, tok, &stream));
        assert_ok(hdl_tokenizer_decode(tok, &(hdl_decode_args){ids, n, skip}, &whole));
        assert_int_equal(stream.len, whole.len);
        assert_memory_equal(hdl_buf_data(&stream), hdl_buf_data(&whole), whole.len);
    }
    hdl_buf_deinit(&stream);
    hdl_buf_deinit(&whole);
    hdl_tokenizer_free(tok);
}

static void a_stream_equals_the_whole(void **state)
{
    (void)state;
    check_stream("qwen2");
    check_stream("llama2");
    check_stream("t5");
}

static void special_tokens_are_skipped_when_asked(void **state)
{
    hdl_tokenizer *tok = open_golden("qwen2");
    hdl_token ids[] = {hdl_tokenizer_find(tok, "<|im_start|>"), hdl_tokenizer_find(tok, "a"),
                       hdl_tokenizer_find(tok, "<tool>"), hdl_tokenizer_find(tok, "<|im_end|>")};
    hdl_buf out;
    (void)state;
    hdl_buf_init(&out, 1 << 10);
    assert_ok(hdl_tokenizer_decode(tok, &(hdl_decode_args){ids, 4, true}, &out));
    assert_string_equal(hdl_buf_cstr(&out), "a<tool>"); /* added, but not special */
    hdl_buf_clear(&out);
    assert_ok(hdl_tokenizer_decode(tok, &(hdl_decode_args){ids, 4, false}, &out));
    assert_string_equal(hdl_buf_cstr(&out), "<|im_start|>a<tool><|im_end|>");
    hdl_buf_deinit(&out);
    hdl_tokenizer_free(tok);
}

static hdl_token byte_token(const hdl_tokenizer *tok, unsigned char byte)
{
    char name[8];
    snprintf(name, sizeof name, "<0x%02X>", byte);
    return hdl_tokenizer_find(tok, name);
}

static void push_run(const hdl_tokenizer *tok, hdl_detok *detok, const char *bytes, hdl_buf *out)
{
    for (; *bytes; bytes++)
        assert_ok(hdl_detok_push(detok, tok, byte_token(tok, (unsigned char)*bytes), out));
}

/* Byte fallback: a run comes out when it has ended, all of it text or none of it. */
static void runs_of_byte_tokens(void **state)
{
    hdl_tokenizer *tok = open_golden("llama2");
    hdl_token space = hdl_tokenizer_find(tok, "\xe2\x96\x81"), a = hdl_tokenizer_find(tok, "a");
    hdl_detok detok;
    hdl_buf out;
    (void)state;
    hdl_buf_init(&out, 1 << 12);
    hdl_detok_init(&detok, true);
    assert_ok(hdl_detok_push(&detok, tok, space, &out)); /* the space that encoding put there */
    push_run(tok, &detok, "\xf0\x9f\x98\x80\xc3\xa9", &out);
    assert_string_equal(hdl_buf_cstr(&out), "");
    assert_ok(hdl_detok_push(&detok, tok, a, &out));
    assert_string_equal(hdl_buf_cstr(&out), "\xf0\x9f\x98\x80\xc3\xa9"
                                            "a");
    hdl_buf_clear(&out);
    push_run(tok, &detok, "\xc3\xa9\xc3", &out);
    assert_ok(hdl_detok_push(&detok, tok, space, &out));
    assert_string_equal(hdl_buf_cstr(&out), "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd ");
    hdl_buf_clear(&out);
    push_run(tok, &detok, "ab\xff", &out); /* already wrong: nothing to wait for */
    assert_string_equal(hdl_buf_cstr(&out), "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
    push_run(tok, &detok, "c", &out);
    assert_int_equal(out.len, 12);
    hdl_buf_clear(&out);
    assert_ok(hdl_detok_flush(&detok, tok, &out));
    assert_int_equal(out.len, 0);
    for (int i = 0; i < HDL_DETOK_HELD; i++) /* a run without end is not held for ever */
        push_run(tok, &detok, "\xc3\xa9", &out);
    assert_int_equal(out.len, 2 * HDL_DETOK_HELD);
    hdl_buf_deinit(&out);
    hdl_tokenizer_free(tok);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_split_of_bytes),
        cmocka_unit_test(a_stream_equals_the_whole),
        cmocka_unit_test(special_tokens_are_skipped_when_asked),
        cmocka_unit_test(runs_of_byte_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
