/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/text/utf8.h"

#include "text_help.h"

static void every_character_survives(void **state)
{
    (void)state;
    for (uint32_t cp = 0; cp < 0x110000; cp++) {
        if (cp >= 0xd800 && cp < 0xe000)
            continue;
        char bytes[4];
        size_t n = hdl_utf8_write(cp, bytes), at = 0;
        hdl_utf8_char c = hdl_utf8_read(bytes, n);
        if (!c.ok || c.cp != cp || c.bytes != n || hdl_utf8_next(bytes, &at) != cp || at != n)
            fail_msg("U+%04X does not survive", cp);
        assert_int_equal(hdl_utf8_before(bytes, n), 0);
        for (size_t cut = 1; cut < n; cut++) {
            c = hdl_utf8_read(bytes, cut);
            assert_true(!c.ok && c.cut_short && c.bytes == cut);
        }
    }
}

/* Bytes that one U+FFFD stands for, as in Unicode's table of maximal subparts (3.9). */
static void wrong_bytes_are_measured(void **state)
{
    static const struct {
        const char *bytes;
        size_t n, bad;
    } cases[] = {
        {"\x80", 1, 1},
        {"\xff", 1, 1},
        {"\xc0\x80", 2, 1},
        {"\xc1\xbf", 2, 1},
        {"\xe0\x80\x80", 3, 1},
        {"\xed\xa0\x80", 3, 1},
        {"\xf0\x80\x80\x80", 4, 1},
        {"\xf4\x90\x80\x80", 4, 1},
        {"\xf5\x80", 2, 1},
        {"\xe2\x82x", 3, 2},
        {"\xf0\x9f\x98x", 4, 3},
        {"\xc3(", 2, 1},
        {"\xf0\x9fx", 3, 2},
        {"\xe2(", 2, 1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hdl_utf8_char c = hdl_utf8_read(cases[i].bytes, cases[i].n);
        assert_false(c.ok);
        assert_false(c.cut_short);
        assert_int_equal(c.bytes, cases[i].bad);
        assert_int_equal(hdl_utf8_valid_prefix(cases[i].bytes, cases[i].n), 0);
    }
}

static void prefix_stops_where_it_should(void **state)
{
    char text[64];
    (void)state;
    for (size_t at = 0; at < 40; at++) {
        memset(text, 'a', sizeof text);
        text[at] = (char)0xff;
        assert_int_equal(hdl_utf8_valid_prefix(text, 40), at);
        assert_int_equal(hdl_utf8_valid_prefix(text, at), at);
        memcpy(text + at, "\xe4\xbd\xa0", 3);
        assert_int_equal(hdl_utf8_valid_prefix(text, at + 3), at + 3);
        assert_int_equal(hdl_utf8_valid_prefix(text, at + 2), at);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_character_survives),
        cmocka_unit_test(wrong_bytes_are_measured),
        cmocka_unit_test(prefix_stops_where_it_should),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
