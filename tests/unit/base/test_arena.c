/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "base/arena.h"
#include "base/checked.h"

static void test_checked(void **state)
{
    (void)state;
    size_t out;
    assert_true(hdl_mul_size(3, 5, &out) && out == 15);
    assert_false(hdl_mul_size(SIZE_MAX, 2, &out));
    assert_int_equal(out, 0);
    assert_false(hdl_add_size(SIZE_MAX, 1, &out));
    assert_true(hdl_align_up_size(17, 16, &out) && out == 32);
    assert_true(hdl_align_up_size(32, 16, &out) && out == 32);
    assert_true(hdl_align_up_size(0, 16, &out) && out == 0);
    assert_false(hdl_align_up_size(SIZE_MAX, 16, &out));
    assert_false(hdl_align_up_size(1, 3, &out)); /* no power of two */
    uint64_t wide;
    assert_false(hdl_mul_u64(UINT64_MAX, UINT64_MAX, &wide));
    assert_true(hdl_add_u64(UINT64_MAX, 0, &wide) && wide == UINT64_MAX);
    uint32_t word;
    assert_false(hdl_add_u32(UINT32_MAX, 1, &word));
    assert_false(hdl_mul_u32(1u << 16, 1u << 16, &word));
    assert_true(hdl_range_ok(0, 10, 10));
    assert_true(hdl_range_ok(10, 0, 10));
    assert_false(hdl_range_ok(11, 0, 10));
    assert_false(hdl_range_ok(5, 6, 10));
    assert_false(hdl_range_ok(UINT64_MAX, 1, 10));
    assert_false(hdl_range_ok(1, UINT64_MAX, 10));
}

static void test_bump(void **state)
{
    (void)state;
    _Alignas(64) unsigned char mem[256];
    hdl_arena arena;
    /* Odd start: alignment is of addresses. */
    hdl_arena_init(&arena, mem + 1, sizeof mem - 1);
    unsigned char *a = hdl_arena_alloc(&arena, 1, 1);
    assert_ptr_equal(a, mem + 1);
    unsigned char *b = hdl_arena_alloc(&arena, 8, 64);
    assert_ptr_equal(b, mem + 64);
    size_t mark = hdl_arena_mark(&arena);
    assert_non_null(hdl_arena_alloc(&arena, 100, 1));
    hdl_arena_rewind(&arena, mark);
    assert_int_equal(hdl_arena_mark(&arena), mark);
    assert_null(hdl_arena_alloc(&arena, sizeof mem, 1));
    assert_null(hdl_arena_alloc(&arena, SIZE_MAX, 1));
    assert_int_equal(hdl_arena_mark(&arena), mark); /* a refusal takes nothing */
    assert_non_null(hdl_arena_alloc(&arena, sizeof mem - 1 - mark, 1));
    assert_null(hdl_arena_alloc(&arena, 1, 1));
    assert_non_null(hdl_arena_alloc(&arena, 0, 1));
    assert_int_equal(arena.used_max, sizeof mem - 1);
    hdl_arena_reset(&arena);
    assert_int_equal(arena.used, 0);
    assert_int_equal(arena.used_max, sizeof mem - 1);
}

static void test_arrays(void **state)
{
    (void)state;
    _Alignas(16) unsigned char mem[128];
    memset(mem, 0xAA, sizeof mem);
    hdl_arena arena;
    hdl_arena_init(&arena, mem, sizeof mem);
    uint32_t *words = HDL_ARENA_ARRAY(&arena, uint32_t, 8);
    for (int i = 0; i < 8; i++)
        assert_int_equal(words[i], 0);
    assert_null(hdl_arena_alloc_array(&arena, SIZE_MAX / 2, 4, 4)); /* the product overflows */
    assert_non_null(HDL_ARENA_NEW(&arena, uint64_t));
    hdl_arena none;
    hdl_arena_init(&none, NULL, 0);
    assert_null(hdl_arena_alloc(&none, 1, 1));
    assert_null(hdl_arena_alloc(&none, 0, 1));
}

static void test_pool_arena(void **state)
{
    (void)state;
    hdl_pool_arena arena;
    hdl_pool_arena_init(&arena, 1 << 20);
    unsigned char *all[200];
    for (size_t i = 0; i < 200; i++) {
        size_t size = 1 + i * 37 % 6000; /* some larger than a chunk */
        all[i] = hdl_pool_arena_alloc(&arena, size);
        assert_non_null(all[i]);
        assert_int_equal((uintptr_t)all[i] % 16, 0);
        for (size_t j = 0; j < size; j++)
            assert_int_equal(all[i][j], 0);
        memset(all[i], (int)i, size);
    }
    for (size_t i = 0; i < 200; i++) /* nobody overlaps */
        assert_int_equal(all[i][i * 37 % 6000], i);
    char *copy = hdl_pool_arena_copy(&arena, "woven", 3);
    assert_string_equal(copy, "wov");
    assert_null(hdl_pool_arena_alloc(&arena, SIZE_MAX));
    assert_null(hdl_pool_arena_alloc_array(&arena, SIZE_MAX, 2));
    assert_null(hdl_pool_arena_copy(&arena, "x", SIZE_MAX));
    assert_null(hdl_pool_arena_alloc(&arena, 2 << 20)); /* over the cap */
    size_t n = 0;
    while (hdl_pool_arena_alloc(&arena, 1000))
        n++;
    assert_in_range(n, 100, 1048);
    assert_true(arena.total_bytes <= arena.cap_bytes);
    hdl_pool_arena_deinit(&arena);
    assert_non_null(hdl_pool_arena_alloc(&arena, 10)); /* usable again */
    hdl_pool_arena_deinit(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_checked),
        cmocka_unit_test(test_bump),
        cmocka_unit_test(test_arrays),
        cmocka_unit_test(test_pool_arena),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
