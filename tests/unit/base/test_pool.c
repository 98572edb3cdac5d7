/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "base/pool.h"
#include "base/rng.h"

static char report[2048];

static void test_take_give(void **state)
{
    (void)state;
    enum { COUNT = 3, BYTES = 40 };
    size_t bytes = hdl_pool_bytes(BYTES, COUNT);
    assert_int_equal(bytes % 64, 0);
    void *mem = aligned_alloc(64, bytes);
    hdl_pool pool;
    hdl_pool_init(&pool, mem, BYTES, COUNT);
    hdl_pool_ref refs[COUNT], none;
    for (int i = 0; i < COUNT; i++) {
        unsigned char *slot = hdl_pool_take(&pool, &refs[i]);
        assert_non_null(slot);
        assert_int_equal((uintptr_t)slot % 16, 0);
        memset(slot, 0xff, BYTES);
        assert_ptr_equal(hdl_pool_get(&pool, refs[i]), slot);
    }
    assert_null(hdl_pool_take(&pool, &none));
    assert_null(hdl_pool_find(&pool, none));

    hdl_pool_ref old = refs[1];
    hdl_pool_give(&pool, old);
    assert_null(hdl_pool_find(&pool, old));
    assert_int_equal(hdl_pool_at(&pool, old.idx).gen, 0);
    unsigned char *slot = hdl_pool_take(&pool, &refs[1]);
    assert_int_equal(refs[1].idx, old.idx); /* the same slot */
    assert_null(hdl_pool_find(&pool, old)); /* under another reference */
    assert_int_equal(hdl_pool_at(&pool, old.idx).gen, refs[1].gen);
    for (int i = 0; i < BYTES; i++)
        assert_int_equal(slot[i], 0);
    assert_null(hdl_pool_find(&pool, (hdl_pool_ref){.idx = 99, .gen = 1}));
    assert_null(hdl_pool_find(&pool, (hdl_pool_ref){0}));
    uint64_t word = hdl_pool_ref_word(refs[2]);
    assert_int_not_equal(word, 0);
    assert_ptr_equal(hdl_pool_find(&pool, hdl_pool_ref_of(word)), hdl_pool_get(&pool, refs[2]));
    free(mem);
}

static void test_sizes(void **state)
{
    (void)state;
    assert_int_equal(hdl_pool_bytes(0, 1), 0);
    assert_int_equal(hdl_pool_bytes(SIZE_MAX, 1), 0);
    assert_int_equal(hdl_pool_bytes(SIZE_MAX / 2, 4), 0);
    assert_int_equal(hdl_pool_bytes(8, UINT32_MAX), 0);
}

static void double_give(void)
{
    static _Alignas(64) unsigned char mem[256];
    hdl_pool pool;
    hdl_pool_ref ref;
    hdl_pool_init(&pool, mem, 8, 2);
    hdl_pool_take(&pool, &ref);
    hdl_pool_give(&pool, ref);
    hdl_pool_give(&pool, ref);
}

static void test_double_give(void **state)
{
    (void)state;
    must_abort(double_give, report, sizeof report);
    assert_has(report, "pool.c");
}

/* Every slot is either free or held exactly once, over random takes and gives. */
static void test_model(void **state)
{
    (void)state;
    enum { COUNT = 37 };
    void *mem = aligned_alloc(64, hdl_pool_bytes(64, COUNT));
    hdl_pool pool;
    hdl_pool_init(&pool, mem, 64, COUNT);
    hdl_rng rng;
    hdl_rng_init(&rng, 3);
    hdl_pool_ref held[COUNT];
    uint32_t n_held = 0;
    for (int turn = 0; turn < 20000; turn++) {
        if (hdl_rng_chance(&rng, 1, 2)) {
            hdl_pool_ref ref;
            uint32_t *slot = hdl_pool_take(&pool, &ref);
            assert_int_equal(slot != NULL, n_held < COUNT);
            if (slot) {
                *slot = ref.gen;
                held[n_held++] = ref;
            }
        } else if (n_held > 0) {
            uint32_t i = (uint32_t)hdl_rng_below(&rng, n_held);
            assert_int_equal(*(uint32_t *)hdl_pool_get(&pool, held[i]), held[i].gen);
            hdl_pool_give(&pool, held[i]);
            held[i] = held[--n_held];
        }
        assert_int_equal(pool.free_count, COUNT - n_held);
    }
    free(mem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_take_give),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_double_give),
        cmocka_unit_test(test_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
