/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/text/unicode.h"

#include "base/rng.h"
#include "scheduler/text/regex.h"
#include "scheduler/text/utf8.h"
#include "text_help.h"

static const char *normal(hdl_normal_form form, const char *text)
{
    static char out[256];
    hdl_buf buf;
    hdl_buf_init(&buf, 1 << 20);
    assert_ok(hdl_unicode_normalize(form, (hdl_text){text, strlen(text)}, &buf));
    snprintf(out, sizeof out, "%s", hdl_buf_cstr(&buf));
    hdl_buf_deinit(&buf);
    return out;
}

static void known_forms(void **state)
{
    static const struct {
        const char *text, *nfc, *nfd;
    } cases[] = {
        {"", "", ""},
        {"plain", "plain", "plain"},
        {"e\u0301", "\u00e9", "e\u0301"},
        {"x\u00e9y", "x\u00e9y", "xe\u0301y"},
        {"\u212b", "\u00c5", "A\u030a"},                     /* a singleton */
        {"q\u0307\u0323", "q\u0323\u0307", "q\u0323\u0307"}, /* marks by class */
        {"\u1e9b\u0323", "\u1e9b\u0323", "\u017f\u0323\u0307"},
        {"\u1112\u1161\u11ab", "\ud55c", "\u1112\u1161\u11ab"}, /* Hangul by arithmetic */
        {"\ud558\u11ab", "\ud55c", "\u1112\u1161\u11ab"},
        {"\u0958", "\u0915\u093c", "\u0915\u093c"}, /* excluded from composition */
        {"a\u0315\u0300\u05ae\u0300b", "\u00e0\u05ae\u0300\u0315b", "a\u05ae\u0300\u0300\u0315b"},
        {"\u0301e", "\u0301e", "\u0301e"},
        {"\u0344", "\u0308\u0301", "\u0308\u0301"},
        {"\ufb01", "\ufb01", "\ufb01"}, /* compatibility forms stay */
        /* Younger than Unicode 9, the version of the original's tables: left where it stands. */
        {"\u065b\u07fd", "\u065b\u07fd", "\u065b\u07fd"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_string_equal(normal(HDL_NFC, cases[i].text), cases[i].nfc);
        assert_string_equal(normal(HDL_NFD, cases[i].text), cases[i].nfd);
    }
}

static void append_normal(hdl_normal_form form, const hdl_buf *in, hdl_buf *out)
{
    hdl_buf_clear(out);
    assert_ok(
        hdl_unicode_normalize(form, (hdl_text){(const char *)hdl_buf_data(in), in->len}, out));
}

static void assert_same(const hdl_buf *a, const hdl_buf *b)
{
    assert_int_equal(a->len, b->len);
    assert_memory_equal(hdl_buf_data(a), hdl_buf_data(b), a->len);
}

/* NFC(NFD(x)) = NFC(x), and both forms are their own form; on texts dense in marks, Hangul and
 * compositions. */
static void forms_agree_with_each_other(void **state)
{
    static const uint32_t bases[] = {'a',    'o',    0x41,   0x1100, 0x1161, 0x11a8,
                                     0xac00, 0x300,  0x323,  0x5ae,  0x315,  0xc5,
                                     0x1e9b, 0x915,  0x93c,  0x958,  0x212b, 0x1d15e,
                                     0x4e00, 0xf900, 0x3099, 0x304b, 0x9be,  0x9c7};
    hdl_rng rng;
    hdl_buf text, nfc, nfd, again;
    (void)state;
    hdl_rng_init(&rng, 1);
    hdl_buf_init(&text, 1 << 20);
    hdl_buf_init(&nfc, 1 << 20);
    hdl_buf_init(&nfd, 1 << 20);
    hdl_buf_init(&again, 1 << 20);
    for (int round = 0; round < 20000; round++) {
        hdl_buf_clear(&text);
        for (uint64_t n = hdl_rng_below(&rng, 12); n > 0; n--) {
            char bytes[4];
            uint32_t cp = bases[hdl_rng_below(&rng, sizeof bases / sizeof *bases)];
            if (hdl_rng_chance(&rng, 1, 3))
                cp = (uint32_t)hdl_rng_range(&rng, 0x20, 0x2fff);
            hdl_buf_append(&text, bytes, hdl_utf8_write(cp, bytes));
        }
        append_normal(HDL_NFC, &text, &nfc);
        append_normal(HDL_NFD, &text, &nfd);
        append_normal(HDL_NFC, &nfd, &again);
        assert_same(&nfc, &again);
        append_normal(HDL_NFC, &nfc, &again);
        assert_same(&nfc, &again);
        append_normal(HDL_NFD, &nfc, &again);
        assert_same(&nfd, &again);
        size_t kept = hdl_unicode_normal_prefix(
            HDL_NFC, (hdl_text){(const char *)hdl_buf_data(&text), text.len});
        assert_true(kept <= text.len);
        assert_memory_equal(hdl_buf_data(&text), hdl_buf_data(&nfc), kept);
    }
    hdl_buf_deinit(&text);
    hdl_buf_deinit(&nfc);
    hdl_buf_deinit(&nfd);
    hdl_buf_deinit(&again);
}

/* A quadratic sort of this run would take minutes, so that the suite's timeout is the check. */
static void a_million_marks_are_linear(void **state)
{
    enum { MARKS = 1000000 };
    hdl_buf text, out;
    (void)state;
    hdl_buf_init(&text, 8 << 20);
    hdl_buf_init(&out, 8 << 20);
    hdl_buf_puts(&text, "a");
    for (int i = 0; i < MARKS; i++)
        hdl_buf_puts(&text, i % 2 ? "\u0323" : "\u0315");
    append_normal(HDL_NFC, &text, &out);
    assert_int_equal(out.len,
                     text.len); /* a and one dot below (3 bytes) become one character of 3 */
    hdl_buf_deinit(&text);
    hdl_buf_deinit(&out);
}

static void lower_and_upper(void **state)
{
    static const struct {
        uint32_t upper, lower;
    } pairs[] = {{'A', 'a'},         {'Z', 'z'},       {0xc4, 0xe4},    {0x100, 0x101},
                 {0x178, 0xff},      {0x391, 0x3b1},   {0x410, 0x430},  {0x1e00, 0x1e01},
                 {0x10400, 0x10428}, {0x2160, 0x2170}, {0xff21, 0xff41}};
    uint32_t out[2];
    (void)state;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        assert_int_equal(hdl_unicode_lower(pairs[i].upper, out), 1);
        assert_int_equal(out[0], pairs[i].lower);
        assert_int_equal(hdl_unicode_lower(pairs[i].lower, out), 1);
        assert_int_equal(out[0], pairs[i].lower);
        assert_int_equal(hdl_unicode_upper(pairs[i].lower), pairs[i].upper);
    }
    assert_int_equal(hdl_unicode_lower(0x130, out), 2);
    assert_int_equal(out[1], 0x307);
    assert_int_equal(hdl_unicode_upper('1'), '1');
}

/* The end of the grapheme cluster that begins the text of two characters. */
static size_t cluster_end(const hdl_regex *grapheme, hdl_regex_work *work, uint32_t a, uint32_t b)
{
    char text[8];
    size_t len = hdl_utf8_write(a, text);
    len += hdl_utf8_write(b, text + len);
    hdl_regex_scan scan = {.regex = grapheme, .work = work, .subject = {text, len}};
    bool found;
    assert_ok(hdl_regex_next(&scan, &found));
    assert_true(found && scan.start == 0);
    return scan.end;
}

static void what_stands_alone_is_a_cluster(void **state)
{
    static const uint32_t others[] = {'a',    0xa9,   0x416,  0x5d0,  0x628,
                                      0x1e00, 0x2014, 0x3042, 0x6f22, 0xac00};
    hdl_regex *grapheme;
    hdl_regex_work *work;
    hdl_errmsg why;
    uint32_t alone = 0;
    (void)state;
    assert_ok(hdl_regex_open_grapheme(&grapheme, &why));
    assert_ok(hdl_regex_work_new(&work));
    for (uint32_t cp = 1; cp < 0x110000; cp++) {
        char bytes[4];
        if ((cp >= 0xd800 && cp < 0xe000) || !hdl_unicode_stands_alone(cp))
            continue;
        alone++;
        for (size_t i = 0; i < HDL_ARRAY_LEN(others); i++) {
            uint32_t other = others[i];
            assert_true(hdl_unicode_stands_alone(other));
            if (cluster_end(grapheme, work, cp, other) != hdl_utf8_write(cp, bytes) ||
                cluster_end(grapheme, work, other, cp) != hdl_utf8_write(other, bytes))
                fail_msg("U+%04X does not stand alone beside U+%04X", cp, other);
        }
    }
    assert_true(alone > 30000);
    static const uint32_t joined[] = {'\n',  '\r',   0xad,   0x301,  0x5b0,
                                      0x64b, 0x200d, 0x3099, 0xfe0f, 0x1f1e6};
    for (size_t i = 0; i < HDL_ARRAY_LEN(joined); i++)
        assert_false(hdl_unicode_stands_alone(joined[i]));
    hdl_regex_work_free(work);
    hdl_regex_free(grapheme);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_forms),
        cmocka_unit_test(forms_agree_with_each_other),
        cmocka_unit_test(a_million_marks_are_linear),
        cmocka_unit_test(lower_and_upper),
        cmocka_unit_test(what_stands_alone_is_a_cluster),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
