/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "base/buf.h"
#include "base/rng.h"

static void test_append(void **state)
{
    (void)state;
    hdl_buf buf;
    hdl_buf_init(&buf, 1000);
    assert_string_equal(hdl_buf_cstr(&buf), "");
    assert_ok(hdl_buf_puts(&buf, "warp"));
    assert_ok(hdl_buf_printf(&buf, " %d %s", 42, "weft"));
    assert_string_equal(hdl_buf_cstr(&buf), "warp 42 weft");
    hdl_buf_consume(&buf, 5);
    assert_string_equal(hdl_buf_cstr(&buf), "42 weft");
    assert_ok(hdl_buf_append(&buf, NULL, 0));
    hdl_buf_clear(&buf);
    assert_int_equal(buf.len, 0);
    hdl_buf_deinit(&buf);
}

/* A failed append leaves the content and the failure stays until cleared. */
static void test_cap(void **state)
{
    (void)state;
    hdl_buf buf;
    hdl_buf_init(&buf, 10);
    assert_ok(hdl_buf_puts(&buf, "0123456789"));
    assert_err(hdl_buf_puts(&buf, "x"), BUSY);
    assert_false(hdl_buf_ok(&buf));
    assert_int_equal(buf.len, 10);
    assert_memory_equal(hdl_buf_data(&buf), "0123456789", 10);
    assert_string_equal(hdl_buf_cstr(&buf), ""); /* no room for the terminator */
    size_t len;
    assert_null(hdl_buf_steal(&buf, &len));
    hdl_buf_consume(&buf, 4);
    assert_ok(hdl_buf_puts(&buf, "abcd")); /* the front's room is used again */
    assert_memory_equal(hdl_buf_data(&buf), "456789abcd", 10);
    assert_err(hdl_buf_printf(&buf, "%s", "long"), BUSY);
    assert_err(hdl_buf_reserve(&buf, SIZE_MAX), BUSY);
    hdl_buf_clear(&buf);
    assert_true(hdl_buf_ok(&buf));
    hdl_buf_deinit(&buf);
}

static void test_steal(void **state)
{
    (void)state;
    hdl_buf buf;
    hdl_buf_init(&buf, 100);
    hdl_buf_puts(&buf, "xxheddle");
    hdl_buf_consume(&buf, 2);
    size_t len;
    char *text = hdl_buf_steal(&buf, &len);
    assert_string_equal(text, "heddle");
    assert_int_equal(len, 6);
    free(text);
    text = hdl_buf_steal(&buf, &len);
    assert_string_equal(text, "");
    free(text);
    hdl_buf_deinit(&buf);
}

/* Random appends and consumes against a plain copy. */
static void test_model(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 50; seed++) {
        hdl_rng rng;
        hdl_rng_init(&rng, seed);
        static unsigned char model[1 << 16];
        size_t from = 0, to = 0;
        hdl_buf buf;
        hdl_buf_init(&buf, 3000);
        for (int turn = 0; turn < 300; turn++) {
            unsigned char piece[400];
            size_t n = hdl_rng_below(&rng, sizeof piece);
            memset(piece, (int)hdl_rng_below(&rng, 256), n);
            if (hdl_rng_chance(&rng, 1, 2) && to + n <= sizeof model) {
                hdl_err err = hdl_buf_append(&buf, piece, n);
                assert_int_equal(err, to - from + n <= 3000 ? HDL_OK : HDL_BUSY);
                if (err == HDL_OK) {
                    memcpy(model + to, piece, n);
                    to += n;
                }
            } else {
                n = hdl_rng_below(&rng, to - from + 1);
                hdl_buf_consume(&buf, n);
                from += n;
            }
            assert_int_equal(buf.len, to - from);
            assert_memory_equal(hdl_buf_data(&buf), model + from, to - from);
        }
        hdl_buf_deinit(&buf);
    }
}

static void test_cursor(void **state)
{
    (void)state;
    static const unsigned char bytes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
    hdl_cursor c = hdl_cursor_of(bytes, sizeof bytes);
    assert_int_equal(hdl_cursor_u8(&c), 1);
    assert_int_equal(hdl_cursor_u16(&c), 0x0302);
    assert_int_equal(hdl_cursor_u32(&c), 0x07060504);
    assert_int_equal(hdl_cursor_u64(&c), 0x0f0e0d0c0b0a0908);
    assert_int_equal(hdl_cursor_left(&c), 1);
    assert_false(c.failed);
    assert_int_equal(hdl_cursor_u16(&c), 0);
    assert_true(c.failed);
    assert_int_equal(hdl_cursor_u8(&c), 0); /* stays failed, although a byte is left */
    assert_int_equal(hdl_cursor_left(&c), 0);
    assert_null(hdl_cursor_bytes(&c, 0));

    c = hdl_cursor_of(bytes, sizeof bytes);
    char out[3];
    assert_true(hdl_cursor_copy(&c, out, 3));
    assert_memory_equal(out, bytes, 3);
    assert_null(hdl_cursor_bytes(&c, SIZE_MAX)); /* no overflow in the check */
    assert_false(hdl_cursor_copy(&c, out, 1));

    c = hdl_cursor_of(NULL, 0);
    assert_non_null(hdl_cursor_bytes(&c, 0));
    assert_int_equal(hdl_cursor_u8(&c), 0);
    assert_true(c.failed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_append), cmocka_unit_test(test_cap),    cmocka_unit_test(test_steal),
        cmocka_unit_test(test_model),  cmocka_unit_test(test_cursor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
