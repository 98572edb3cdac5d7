/* SPDX-License-Identifier: Apache-2.0 */
/* The packed cache: what is read from it is what packing writes, bit for bit; whatever is not of
 * these files, this shard and these kernels is not read; a damaged file is seen. */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/hash.h"
#include "rig.h"

enum { N_TOKENS = 8, VOCAB = 97 };

static char model[256], cache[64];

static int setup(void **state)
{
    hdl_errmsg why;
    (void)state;
    rig_make_model(model, rig_config_moe, HDL_DTYPE_BF16);
    return hdl_fs_mkdtemp(cache, sizeof cache, "heddle-packed-", &why) == HDL_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    rig_remove(model);
    return hdl_fs_remove_tree(cache) == HDL_OK ? 0 : -1;
}

/* Files in the cache; the name of the last one seen. */
static unsigned count(char name[330])
{
    unsigned n = 0;
    DIR *dir = opendir(cache);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));)
        if (e->d_name[0] != '.') {
            n++;
            if (name)
                snprintf(name, 330, "%s/%s", cache, e->d_name);
        }
    closedir(dir);
    return n;
}

static float *logits(hdl_worker_opts worker)
{
    static const hdl_token ids[N_TOKENS] = {1, 5, 9, 2, 40, 96, 0, 7};
    worker.model_path = model;
    worker.n_threads = 2;
    rig_logits_opts opts = {.worker = worker, .ids = ids, .n = N_TOKENS};
    return rig_logits(&opts, VOCAB);
}

static const hdl_worker_opts plain = {.weights = HDL_WFORMAT_COUNT};
static const hdl_worker_opts cached = {.weights = HDL_WFORMAT_COUNT, .packed_cache = cache};

static void check_same(hdl_worker_opts a, hdl_worker_opts b)
{
    float *want = logits(a), *got = logits(b);
    assert_memory_equal(want, got, N_TOKENS * VOCAB * sizeof *want);
    free(want);
    free(got);
}

static void overwrite(const char *path, long at, char byte)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

/* Every bit of a byte turned over: whatever stood there, it is another one now. */
static void damage(const char *path, long at)
{
    unsigned char byte;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    close(fd);
    overwrite(path, at, (char)~byte);
}

static ino_t inode(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_ino;
}

static void test_second_start(void **state)
{
    char path[330];
    (void)state;
    check_same(plain, cached);
    assert_int_equal(count(path), 1);
    ino_t first = inode(path);
    check_same(plain, cached);
    assert_int_equal(count(NULL), 1);
    assert_int_equal(inode(path), first); /* read, not written anew */
}

/* What stands in the file, with its sums made right, is what runs. */
static void test_is_read(void **state)
{
    enum { CRC_AT = 12, BYTES_AT = 32, PAYLOAD_AT = 40, HEADER = 48, PAGE = 4096, CHUNK = 4 << 20 };
    char path[330];
    size_t len;
    uint64_t bytes, payload;
    (void)state;
    float *want = logits(cached);
    assert_int_equal(count(path), 1);
    unsigned char *file = (unsigned char *)rig_read(path, &len);
    memcpy(&bytes, file + BYTES_AT, sizeof bytes);
    memcpy(&payload, file + PAYLOAD_AT, sizeof payload);
    assert_int_equal(len, payload + bytes);
    assert_true(bytes <= CHUNK); /* one sum */
    memset(file + payload + bytes / 2, 0x3f, 256);
    uint32_t crc = hdl_crc32c(0, file + payload, bytes), zero = 0;
    memcpy(file + PAGE, &crc, sizeof crc);
    memcpy(file + CRC_AT, &zero, sizeof zero);
    crc = hdl_crc32c(hdl_crc32c(0, file, HEADER), file + PAGE, sizeof crc);
    memcpy(file + CRC_AT, &crc, sizeof crc);
    hdl_errmsg why;
    assert_int_equal(hdl_fs_write_atomic(path, (hdl_fs_bytes){file, len}, &why), HDL_OK);
    float *got = logits(cached);
    assert_memory_not_equal(want, got, N_TOKENS * VOCAB * sizeof *want);
    free(file);
    free(want);
    free(got);
}

/* In the place of the file something that is none: packed as ever, and a line in the log. */
static void test_in_the_way(void **state)
{
    char path[330];
    (void)state;
    free(logits(cached));
    assert_int_equal(count(path), 1);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    check_same(plain, cached);
}

static void test_damage(void **state)
{
    char path[330];
    (void)state;
    free(logits(cached));
    assert_int_equal(count(path), 1);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    const long places[] = {0, 9, 17, 24, 4096, 8192, (long)st.st_size - 1};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        ino_t before = inode(path);
        damage(path, places[i]);
        check_same(plain, cached);
        assert_int_not_equal(inode(path), before); /* seen, and written anew */
    }
    assert_int_equal(truncate(path, st.st_size - 1), 0);
    check_same(plain, cached);
    assert_int_equal(truncate(path, 100), 0);
    check_same(plain, cached);
    assert_int_equal(count(NULL), 1);
}

static void test_others_are_others(void **state)
{
    (void)state;
    free(logits(cached));
    hdl_worker_opts q8 = cached, ref = cached, tp2 = cached, q8_plain = plain, tp2_plain = plain;
    q8.weights = q8_plain.weights = HDL_WFORMAT_Q8;
    ref.isa = HDL_ISA_REF;
    tp2.layout = tp2_plain.layout = (hdl_layout){.tp = 2, .ep = 2};
    check_same(q8_plain, q8);
    assert_int_equal(count(NULL), 2);
    free(logits(ref));
    assert_int_equal(count(NULL), 3);
    check_same(tp2_plain, tp2);
    assert_int_equal(count(NULL), 5); /* two ranks */
    check_same(tp2_plain, tp2);
    check_same(q8_plain, q8);
    assert_int_equal(count(NULL), 5);
}

/* The same names and sizes, other weights: as when a model is updated in place. */
static void test_new_weights(void **state)
{
    (void)state;
    char path[330];
    float *before = logits(cached);
    snprintf(path, sizeof path, "%s/model.safetensors", model);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    for (long at = st.st_size / 2; at < st.st_size / 2 + 512; at += 2)
        overwrite(path, at, 0x11);
    float *after = logits(cached), *want = logits(plain);
    assert_memory_equal(want, after, N_TOKENS * VOCAB * sizeof *want);
    assert_memory_not_equal(before, after, N_TOKENS * VOCAB * sizeof *want);
    assert_int_equal(count(NULL), 2);
    free(before);
    free(after);
    free(want);
}

/* A folder that is not there costs a line in the log. */
static void test_no_folder(void **state)
{
    (void)state;
    hdl_worker_opts gone = cached;
    gone.packed_cache = "/nonexistent/heddle";
    check_same(plain, gone);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_second_start, setup, teardown),
        cmocka_unit_test_setup_teardown(test_is_read, setup, teardown),
        cmocka_unit_test_setup_teardown(test_in_the_way, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damage, setup, teardown),
        cmocka_unit_test_setup_teardown(test_others_are_others, setup, teardown),
        cmocka_unit_test_setup_teardown(test_new_weights, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_folder, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
