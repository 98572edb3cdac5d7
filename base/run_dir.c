/* SPDX-License-Identifier: Apache-2.0 */
#include "base/run_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"

static const char parent[] = "/tmp", prefix[] = "heddle-run-", lock_name[] = "lock";

/* The lock file of a folder, locked; -1 when there is none, somebody holds it, or it is not ours.
 */
static int lock(const char *folder, int flags)
{
    char path[HDL_RUN_DIR_BYTES + sizeof lock_name];
    struct stat st;
    if (hdl_fs_join(path, sizeof path, folder, lock_name) != HDL_OK)
        return -1;
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | flags, 0600);
    if (fd < 0)
        return -1;
    /* Without a link it has been swept between open and lock. */
    if (flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &st) == 0 && st.st_uid == geteuid() &&
        st.st_nlink > 0)
        return fd;
    close(fd);
    return -1;
}

/* Folders whose owner is dead. One that is being made has no lock file yet, or one that its owner
 * finds gone (see lock). */
static void sweep(void)
{
    DIR *tmp = opendir(parent);
    struct dirent *entry;
    while (tmp && (entry = readdir(tmp))) {
        char path[HDL_RUN_DIR_BYTES];
        struct stat st;
        if (strncmp(entry->d_name, prefix, sizeof prefix - 1) != 0 ||
            hdl_fs_join(path, sizeof path, parent, entry->d_name) != HDL_OK ||
            lstat(path, &st) != 0 || !S_ISDIR(st.st_mode) || st.st_uid != geteuid())
            continue;
        int fd = lock(path, 0);
        if (fd < 0)
            continue;
        (void)!hdl_fs_remove_tree(path);
        close(fd);
    }
    if (tmp)
        closedir(tmp);
}

hdl_err hdl_run_dir_open(hdl_run_dir *dir, hdl_errmsg *why)
{
    sweep();
    for (int i = 0; i < 3; i++) {
        HDL_TRY(hdl_fs_mkdtemp(dir->path, sizeof dir->path, prefix, why));
        dir->lock_fd = lock(dir->path, O_CREAT);
        if (dir->lock_fd >= 0)
            return HDL_OK;
        (void)!hdl_fs_remove_tree(dir->path);
    }
    hdl_err err =
        hdl_fail(HDL_IO, why, "cannot lock a file in %s; %s; check that %s can be written",
                 dir->path, strerror(errno), parent);
    dir->path[0] = '\0';
    return err;
}

void hdl_run_dir_close(hdl_run_dir *dir)
{
    if (dir->path[0] == '\0')
        return;
    (void)!hdl_fs_remove_tree(dir->path);
    close(dir->lock_fd);
    dir->path[0] = '\0';
}
