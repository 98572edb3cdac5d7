/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/text/stop.h"

#include "base/rng.h"
#include "text_help.h"

/* The first end of any string; of several that end there the longest. SIZE_MAX: none. */
static size_t naive(const char *text, size_t len, const hdl_stop_text *stops, size_t n,
                    size_t *which)
{
    for (size_t end = 1; end <= len; end++) {
        size_t best = SIZE_MAX;
        for (size_t i = 0; i < n; i++)
            if (stops[i].len <= end &&
                memcmp(text + end - stops[i].len, stops[i].text, stops[i].len) == 0 &&
                (best == SIZE_MAX || stops[i].len > stops[best].len))
                best = i;
        if (best != SIZE_MAX) {
            *which = best;
            return end;
        }
    }
    return SIZE_MAX;
}

/* Bytes at the end of text that begin some stop string: what must be held back, and no byte more.
 */
static size_t held_suffix(const char *text, size_t len, const hdl_stop_text *stops, size_t n)
{
    size_t best = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 1; k < stops[i].len && k <= len; k++)
            if (k > best && memcmp(text + len - k, stops[i].text, k) == 0)
                best = k;
    return best;
}

/* Pushes text cut after the bits of `cuts`, checks after every piece. */
static void check(const char *text, size_t len, const hdl_stop_set *set, const hdl_stop_text *stops,
                  size_t n, uint32_t cuts, bool include)
{
    hdl_stop stop;
    hdl_buf out;
    size_t which = SIZE_MAX, end = naive(text, len, stops, n, &which), from = 0;
    hdl_buf_init(&out, 1 << 16);
    hdl_stop_init(&stop, set, include);
    for (size_t at = 1; at <= len; at++) {
        if (at < len && !(cuts >> at & 1))
            continue;
        assert_ok(hdl_stop_push(&stop, text + from, at - from, &out));
        from = at;
        bool matched = end <= at;
        assert_int_equal(hdl_stop_matched(&stop), matched);
        size_t sent = matched ? (include ? end : end - stops[which].len)
                              : at - held_suffix(text, at, stops, n);
        assert_int_equal(out.len, sent);
        assert_memory_equal(hdl_buf_data(&out), text, sent);
        if (matched)
            assert_int_equal(stops[stop.matched].len, stops[which].len);
    }
    assert_ok(hdl_stop_flush(&stop, &out));
    if (end == SIZE_MAX) {
        assert_int_equal(out.len, len);
        assert_memory_equal(hdl_buf_data(&out), text, len);
    }
    hdl_buf_deinit(&out);
}

static void check_all_texts(const hdl_stop_text *stops, size_t n, hdl_rng *rng)
{
    enum { LEN = 9 };
    hdl_stop_set *set;
    assert_ok(hdl_stop_set_new(&set, stops, n, NULL));
    for (uint32_t word = 0; word < 1u << LEN; word++) {
        char text[LEN];
        for (int i = 0; i < LEN; i++)
            text[i] = word >> i & 1 ? 'b' : 'a';
        check(text, LEN, set, stops, n, UINT32_MAX, word & 1); /* byte by byte */
        check(text, LEN, set, stops, n, 0, word & 2);          /* at once */
        check(text, LEN, set, stops, n, (uint32_t)hdl_rng_u64(rng), word & 4);
    }
    hdl_stop_set_free(set);
}

/* All texts of 9 letters a or b against many sets of strings over the same letters. */
static void equals_the_naive_matcher(void **state)
{
    hdl_rng rng;
    (void)state;
    hdl_rng_init(&rng, 3);
    for (int round = 0; round < 300; round++) {
        char pool[4][8];
        hdl_stop_text stops[4];
        size_t n = hdl_rng_range(&rng, 1, 4);
        for (size_t i = 0; i < n; i++) {
            stops[i] = (hdl_stop_text){pool[i], hdl_rng_range(&rng, 1, 6)};
            for (size_t k = 0; k < stops[i].len; k++)
                pool[i][k] = hdl_rng_chance(&rng, 1, 2) ? 'a' : 'b';
        }
        check_all_texts(stops, n, &rng);
    }
}

static void wrong_sets_are_refused(void **state)
{
    hdl_stop_set *set;
    hdl_errmsg why = {""};
    char longest[HDL_STOP_STRING_BYTES_MAX + 1];
    hdl_stop_text many[HDL_STOP_STRINGS_MAX + 1];
    (void)state;
    memset(longest, 'x', sizeof longest);
    assert_err(hdl_stop_set_new(&set, &(hdl_stop_text){"", 0}, 1, &why), INVALID);
    assert_has(why.text, "stop: string 0 has 0 bytes");
    assert_err(hdl_stop_set_new(&set, &(hdl_stop_text){longest, sizeof longest}, 1, &why), INVALID);
    for (size_t i = 0; i <= HDL_STOP_STRINGS_MAX; i++)
        many[i] = (hdl_stop_text){"x", 1};
    assert_err(hdl_stop_set_new(&set, many, HDL_STOP_STRINGS_MAX + 1, &why), INVALID);
    assert_ok(
        hdl_stop_set_new(&set, &(hdl_stop_text){longest, HDL_STOP_STRING_BYTES_MAX}, 1, &why));
    hdl_stop_set_free(set);
}

static void an_empty_set_lets_all_through(void **state)
{
    hdl_stop_set *set;
    hdl_stop stop;
    hdl_buf out;
    (void)state;
    hdl_buf_init(&out, 100);
    assert_ok(hdl_stop_set_new(&set, NULL, 0, NULL));
    for (int i = 0; i < 2; i++) {
        hdl_stop_init(&stop, i ? set : NULL, false);
        assert_ok(hdl_stop_push(&stop, "text", 4, &out));
        assert_ok(hdl_stop_flush(&stop, &out));
        assert_false(hdl_stop_matched(&stop));
    }
    assert_string_equal(hdl_buf_cstr(&out), "texttext");
    hdl_stop_set_free(set);
    hdl_buf_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_the_naive_matcher),
        cmocka_unit_test(wrong_sets_are_refused),
        cmocka_unit_test(an_empty_set_lets_all_through),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
