/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/fs.h"

static char dir[64], path[96];
static hdl_errmsg why;

static int setup(void **state)
{
    (void)state;
    if (hdl_fs_mkdtemp(dir, sizeof dir, "heddle-fs-", &why) != HDL_OK)
        return -1;
    return hdl_fs_join(path, sizeof path, dir, "file") == HDL_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return hdl_fs_remove_tree(dir) == HDL_OK ? 0 : -1;
}

static void test_write_read(void **state)
{
    (void)state;
    char *text;
    size_t len;
    assert_err(hdl_fs_read(path, 100, &text, &len, &why), NOTFOUND);
    assert_has(why.text, path);
    assert_ok(hdl_fs_write_atomic(path, (hdl_fs_bytes){"ab\0c", 4}, &why));
    assert_ok(hdl_fs_read(path, 4, &text, &len, &why));
    assert_int_equal(len, 4);
    assert_memory_equal(text, "ab\0c", 5);
    free(text);
    assert_err(hdl_fs_read(path, 3, &text, &len, &why), INVALID);
    assert_has(why.text, "4 bytes, at most 3");
    assert_null(text);
    assert_ok(hdl_fs_write_atomic(path, (hdl_fs_bytes){"", 0}, &why));
    assert_ok(hdl_fs_read(path, 0, &text, &len, &why));
    assert_string_equal(text, "");
    free(text);
}

static void test_parts(void **state)
{
    (void)state;
    char *text;
    size_t len;
    const hdl_fs_bytes parts[] = {{"one", 3}, {"", 0}, {"two", 3}};
    assert_ok(hdl_fs_write_parts(path, parts, 3, &why));
    assert_ok(hdl_fs_read(path, 10, &text, &len, &why));
    assert_string_equal(text, "onetwo");
    free(text);
}

static uint64_t stamp_of(const char *content, size_t len, time_t mtime)
{
    hdl_fs_map map;
    const struct timespec times[2] = {{mtime, 0}, {mtime, 0}};
    assert_ok(hdl_fs_write_atomic(path, (hdl_fs_bytes){content, len}, &why));
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    assert_ok(hdl_fs_map_open(&map, path, HDL_FS_NORMAL, &why));
    uint64_t stamp = hdl_fs_map_stamp(&map);
    hdl_fs_map_close(&map);
    return stamp;
}

static void test_stamp(void **state)
{
    (void)state;
    enum { LEN = 1 << 20 };
    char *content = calloc(1, LEN);
    uint64_t first = stamp_of(content, LEN, 1000);
    assert_true(stamp_of(content, LEN, 1000) == first);
    assert_true(stamp_of(content, LEN, 1001) != first);
    assert_true(stamp_of(content, LEN - 1, 1000) != first);
    content[LEN / 2] = 1; /* in one of the pages that are looked at */
    assert_true(stamp_of(content, LEN, 1000) != first);
    assert_true(stamp_of("", 0, 1000) != stamp_of("a", 1, 1000));
    free(content);
}

static void test_not_a_file(void **state)
{
    (void)state;
    char *text;
    size_t len;
    hdl_fs_map map;
    assert_err(hdl_fs_read(dir, 100, &text, &len, &why), INVALID);
    assert_has(why.text, "a folder");
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_err(hdl_fs_read(path, 100, &text, &len, &why), INVALID); /* and does not hang */
    assert_err(hdl_fs_map_open(&map, path, HDL_FS_NORMAL, &why), INVALID);
    char missing[160];
    assert_ok(hdl_fs_join(missing, sizeof missing, path, "below"));
    assert_err(hdl_fs_read(missing, 100, &text, &len, &why), NOTFOUND);
    assert_err(hdl_fs_write_atomic("/nonexistent/x", (hdl_fs_bytes){"", 0}, &why), NOTFOUND);
}

static void test_map(void **state)
{
    (void)state;
    hdl_fs_map map;
    assert_err(hdl_fs_map_open(&map, path, HDL_FS_NORMAL, &why), NOTFOUND);
    hdl_fs_map_close(&map); /* safe after a failure */
    assert_ok(hdl_fs_write_atomic(path, (hdl_fs_bytes){"weights", 7}, &why));
    assert_ok(hdl_fs_map_open(&map, path, HDL_FS_SEQUENTIAL, &why));
    assert_int_equal(map.len, 7);
    assert_memory_equal(map.data, "weights", 7);
    hdl_fs_map_close(&map);
    hdl_fs_map_close(&map);
    assert_ok(hdl_fs_write_atomic(path, (hdl_fs_bytes){"", 0}, &why));
    assert_ok(hdl_fs_map_open(&map, path, HDL_FS_WILLNEED, &why));
    assert_int_equal(map.len, 0);
    assert_non_null(map.data);
    hdl_fs_map_close(&map);
}

static void test_paths(void **state)
{
    (void)state;
    char out[8];
    assert_ok(hdl_fs_join(out, sizeof out, "a", "b"));
    assert_string_equal(out, "a/b");
    assert_ok(hdl_fs_join(out, sizeof out, "a/", "b"));
    assert_string_equal(out, "a/b");
    assert_ok(hdl_fs_join(out, sizeof out, "a", "/b"));
    assert_string_equal(out, "/b");
    assert_ok(hdl_fs_join(out, sizeof out, "", "b"));
    assert_string_equal(out, "b");
    assert_err(hdl_fs_join(out, sizeof out, "long", "name"), INVALID);
    assert_string_equal(out, "");
    assert_true(hdl_fs_is_dir(dir));
    assert_false(hdl_fs_exists(path));
    assert_err(hdl_fs_mkdtemp(out, sizeof out, "toolong", &why), INVALID);
    assert_err(hdl_fs_remove_tree("/nonexistent/x"), NOTFOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_write_read, setup, teardown),

        cmocka_unit_test_setup_teardown(test_parts, setup, teardown),

        cmocka_unit_test_setup_teardown(test_stamp, setup, teardown),
        cmocka_unit_test_setup_teardown(test_not_a_file, setup, teardown),
        cmocka_unit_test_setup_teardown(test_map, setup, teardown),
        cmocka_unit_test_setup_teardown(test_paths, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
