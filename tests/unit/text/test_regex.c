/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/text/regex.h"

#include "scheduler/text/regex_rewrite.h"
#include "scheduler/text/utf8.h"
#include "text_help.h"

static void refused_patterns_say_why(void **state)
{
    static const struct {
        const char *pattern, *part;
    } cases[] = {
        {"[a&&[^b]]", "intersection"},
        {"[a&&b]", "intersection"},
        {"[^(\\s|[.,!])]", "class inside a class"},
        {"[[:alpha:]]", "class inside a class"},
        {"\\h", "escaped letter"},
        {"\\R", "escaped letter"},
        {"\\X", "escaped letter"},
        {"a\\Kb", "escaped letter"},
        {"(a)\\1", "back-reference"},
        {"(?<name>a)", "kind of group"},
        {"(?P<name>a)", "kind of group"},
        {"(?m:a)", "kind of group"},
        {"(?R)", "kind of group"},
        {"(*UTF)a", "verb"},
        {"a{,3}", "lower bound"},
        {"a{2}?", "lazy"},
        {"a{1,3}+", "possessive interval"},
        {"\\pL", "without braces"},
        {"\\p{L", "unfinished"},
        {"[\\W]", "inside a class"},
        {"[a", "unfinished class"},
        {"[]a]", "first of a class"},
        {"\\x80", "raw byte"},
        {"\\u12", "all its digits"},
        {"a\\", "backslash"},
        {"\\p{NoSuchScript}", "does not compile"},
        {"(a", "does not compile"},
        {"((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((a))))))))))))))"
         "))))))"
         "))))))))))))))))))))))))))))))))))))))))))))))))))))))",
         "does not compile"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hdl_regex *re = NULL;
        hdl_errmsg why = {""};
        assert_err(
            hdl_regex_open(&re, (hdl_text){cases[i].pattern, strlen(cases[i].pattern)}, &why),
            UNSUPPORTED);
        assert_has(why.text, cases[i].part);
    }
}

/* All matches of a pattern as "[a][b]". */
static const char *matches(const char *pattern, const char *text)
{
    static char out[512];
    hdl_regex *re;
    hdl_regex_work *work;
    hdl_errmsg why = {""};
    if (hdl_regex_open(&re, (hdl_text){pattern, strlen(pattern)}, &why) != HDL_OK)
        fail_msg("%s: %s", pattern, why.text);
    assert_ok(hdl_regex_work_new(&work));
    hdl_regex_scan scan = {.regex = re, .work = work, .subject = {text, strlen(text)}};
    out[0] = '\0';
    for (bool found;;) {
        assert_ok(hdl_regex_next(&scan, &found));
        if (!found)
            break;
        size_t n = strlen(out);
        snprintf(out + n, sizeof out - n, "[%.*s]", (int)(scan.end - scan.start),
                 text + scan.start);
    }
    hdl_regex_work_free(work);
    hdl_regex_free(re);
    return out;
}

static void patterns_mean_what_oniguruma_means(void **state)
{
    (void)state;
    /* Han is the script, not its extensions: the comma is common to several. */
    assert_string_equal(matches("\\p{Han}+", "漢字、かな漢"), "[漢字][漢]");
    assert_string_equal(matches("[^\\p{Han}]+", "漢、a漢"), "[、a]");
    assert_string_equal(matches("\\p{^Han}|\\P{Han}", "漢、"), "[、]");
    /* U+180E is no white space; marks and connectors are word characters. */
    assert_string_equal(matches("\\s+", "a \u3000\u180e\u2028b"), "[ \u3000][\u2028]");
    assert_string_equal(matches("[^\\s]+", "a \u180eb"), "[a][\u180eb]");
    assert_string_equal(matches("\\S+", "a \u180eb"), "[a][\u180eb]");
    assert_string_equal(matches("\\w+", "e\u0301_x-y"), "[e\u0301_x][y]");
    assert_string_equal(matches("\\W+", "e\u0301_x-y"), "[-]");
    assert_string_equal(matches("'s\\b", "it's 'sx 's"), "['s]['s]");
    assert_string_equal(matches("a\\B", "ab a"), "[a]");
    /* ^ and $ are line ends. */
    assert_string_equal(matches("^a$", "a\nb\na"), "[a][a]");
    assert_string_equal(matches("\\u00e9|\\x41|\\x{42}", "éAB"), "[é][A][B]");
    assert_string_equal(matches("(?i:'S|'t)", "'s 'T"), "['s]['T]");
    assert_string_equal(matches("\\p{N}{1,3}", "12345"), "[123][45]");
    /* Empty matches: one at each place, none right after a match. */
    assert_string_equal(matches("x*", "axb"), "[][x][]");
    assert_string_equal(matches("", "é"), "[][]");
}

static void a_greedy_pattern_stops_at_the_limit(void **state)
{
    hdl_regex *re;
    hdl_regex_work *work;
    char text[64];
    bool found;
    (void)state;
    memset(text, 'a', sizeof text);
    assert_ok(hdl_regex_open(&re, (hdl_text){"(a|aa)+[bc]", 11}, NULL));
    assert_ok(hdl_regex_work_new(&work));
    hdl_regex_scan scan = {.regex = re, .work = work, .subject = {text, sizeof text}};
    assert_err(hdl_regex_next(&scan, &found), INVALID);
    hdl_regex_work_free(work);
    hdl_regex_free(re);
}

/* Matches may begin where their first byte says nothing about the character. */
static void looking_ahead_by_first_bytes_misses_nothing(void **state)
{
    static const struct {
        const char *pattern, *text, *want;
    } cases[] = {
        {"\\p{N}", "a1\u0663 \u00b2x\u2167\U0001d7ce.", "[1][\u0663][\u00b2][\u2167][\U0001d7ce]"},
        {"\\p{N}{1,3}", "1234\u0663a56", "[123][4\u0663][56]"},
        {"(?i:k)s", "ks Ks KS \u212as", "[ks][Ks][\u212as]"},
        {"[\\r\\n]", "a\r\nb\n", "[\r][\n][\n]"},
        {"\\s+$", "a \u00a0 b \u3000", "[ \u3000]"},
        {"(?<=a)[bc]", "bbacab", "[c][b]"},
        {"[a-z]?", "0a", "[][a]"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_string_equal(matches(cases[i].pattern, cases[i].text), cases[i].want);
}

/* In a group, the pattern is one of whose first bytes nothing is known. */
static void every_number_is_found(void **state)
{
    static const char *const patterns[2] = {"\\p{N}", "(?:\\p{N})"};
    hdl_regex *re[2];
    hdl_regex_work *work;
    hdl_errmsg why;
    char *text = malloc((size_t)4 * 0x110000);
    size_t len = 0, count = 0;
    (void)state;
    assert_non_null(text);
    assert_ok(hdl_regex_work_new(&work));
    for (int i = 0; i < 2; i++)
        assert_ok(hdl_regex_open(&re[i], (hdl_text){patterns[i], strlen(patterns[i])}, &why));
    for (uint32_t cp = 1; cp < 0x110000; cp++)
        if (cp < 0xd800 || cp > 0xdfff)
            len += hdl_utf8_write(cp, text + len);
    hdl_regex_scan a = {.regex = re[0], .work = work, .subject = {text, len}}, b = a;
    b.regex = re[1];
    for (bool found = true, other;; count++) {
        assert_ok(hdl_regex_next(&a, &found));
        assert_ok(hdl_regex_next(&b, &other));
        assert_int_equal(found, other);
        if (!found)
            break;
        assert_int_equal(a.start, b.start);
    }
    assert_true(count > 1000);
    for (int i = 0; i < 2; i++)
        hdl_regex_free(re[i]);
    hdl_regex_work_free(work);
    free(text);
}

/* '|' stands where a cluster ends: Unicode's rules, where those of PCRE2 10.42 differ too. */
static void clusters_are_unicodes(void **state)
{
    static const char *const cases[] = {
        "a|b|",
        "e\u0301|x|",
        "\r\n|\n|",
        "\u2122|\u00a9|", /* pictures */
        "\U0001f600|\U0001f600|a|",
        "\U0001f44d\U0001f3fd|\U0001f44d|", /* a skin tone */
        "\u2764\ufe0f|\u2122\u0301|\u2122|",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467|\u2122|", /* a family, joined */
        "\u24c2\u200d\u200d|\u2122|",
        "\U0001f1e9\U0001f1ea|\U0001f1e9|", /* flags */
        "\U0001f1e9\u0e33\u0301|\u2122\u0903|",
        "\u0600\u2139\u0301|\u0600a|", /* a sign that comes before */
        "\u1112\u1161\u11ab|\ud55c\u11ab|",
    };
    hdl_regex *grapheme;
    hdl_regex_work *work;
    hdl_errmsg why;
    (void)state;
    assert_ok(hdl_regex_open_grapheme(&grapheme, &why));
    assert_ok(hdl_regex_work_new(&work));
    for (size_t i = 0; i < HDL_ARRAY_LEN(cases); i++) {
        char text[64], got[128] = "";
        size_t len = 0;
        for (const char *p = cases[i]; *p != '\0'; p++)
            if (*p != '|')
                text[len++] = *p;
        hdl_regex_scan scan = {.regex = grapheme, .work = work, .subject = {text, len}};
        for (bool found = true;;) {
            assert_ok(hdl_regex_next(&scan, &found));
            if (!found)
                break;
            strncat(got, text + scan.start, scan.end - scan.start);
            strcat(got, "|");
        }
        assert_string_equal(got, cases[i]);
    }
    hdl_regex_work_free(work);
    hdl_regex_free(grapheme);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refused_patterns_say_why),
        cmocka_unit_test(patterns_mean_what_oniguruma_means),
        cmocka_unit_test(a_greedy_pattern_stops_at_the_limit),
        cmocka_unit_test(looking_ahead_by_first_bytes_misses_nothing),
        cmocka_unit_test(every_number_is_found),
        cmocka_unit_test(clusters_are_unicodes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
