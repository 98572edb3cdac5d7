/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/run_dir.h"

static hdl_errmsg why;

static void test_opens_and_closes(void **state)
{
    (void)state;
    hdl_run_dir none = {0}, dir;
    hdl_run_dir_close(&none);
    assert_ok(hdl_run_dir_open(&dir, &why));
    hdl_run_dir copy = dir;
    assert_true(hdl_fs_is_dir(dir.path));
    hdl_run_dir_close(&dir);
    assert_false(hdl_fs_exists(copy.path));
}

/* The folder of a process that ended without a word is removed by the next one; that of a living
 * one is not. */
static void test_sweeps_after_the_dead(void **state)
{
    (void)state;
    int ends[2];
    hdl_run_dir alive, dead = {0}, next;
    assert_ok(hdl_run_dir_open(&alive, &why));
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        close(alive.lock_fd); /* what exec would do */
        bool ok = hdl_run_dir_open(&dead, &why) == HDL_OK;
        _exit(ok && write(ends[1], &dead, sizeof dead) == sizeof dead ? 0 : 1);
    }
    int status;
    assert_int_equal(read(ends[0], &dead, sizeof dead), sizeof dead);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_ok(hdl_run_dir_open(&next, &why));
    assert_false(hdl_fs_exists(dead.path));
    assert_true(hdl_fs_is_dir(alive.path));
    hdl_run_dir_close(&next);
    hdl_run_dir_close(&alive);
    close(ends[0]);
    close(ends[1]);
}

/* A folder of that name without a lock may be one that is being made. */
static void test_leaves_what_has_no_lock(void **state)
{
    (void)state;
    char path[64];
    hdl_run_dir dir;
    assert_ok(hdl_fs_mkdtemp(path, sizeof path, "heddle-run-", &why));
    assert_ok(hdl_run_dir_open(&dir, &why));
    assert_true(hdl_fs_is_dir(path));
    hdl_run_dir_close(&dir);
    assert_ok(hdl_fs_remove_tree(path));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_opens_and_closes),
        cmocka_unit_test(test_sweeps_after_the_dead),
        cmocka_unit_test(test_leaves_what_has_no_lock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
