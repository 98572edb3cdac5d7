/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "base/hash.h"
#include "base/rng.h"

/* Stored values: a change here breaks every stored prefix hash and recorded event file. */
static void test_vectors(void **state)
{
    (void)state;
    static const int32_t tokens[4] = {1, 2, 3, 4};
    static const char text[] = "the heddle lifts the right warp threads at the right moment";
    assert_int_equal(hdl_hash_bytes("", 0, 0), 0x8a44a8aa19717861);
    assert_int_equal(hdl_hash_bytes("a", 1, 0), 0x772d3abc873c9332);
    assert_int_equal(hdl_hash_bytes(text, sizeof text - 1, 7), 0xbbb5e2b1d6f19fc0);
    assert_int_equal(hdl_hash_chain(0, tokens, 4), 0xcefa8bf391a21794);
    assert_int_equal(hdl_hash_mix(1), 0x5692161d100b05e5);
}

static void test_crc32c(void **state)
{
    (void)state;
    /* RFC 3720, appendix B.4, and the usual check value. */
    unsigned char zeros[32] = {0}, ones[32], rising[32];
    memset(ones, 0xff, sizeof ones);
    for (unsigned i = 0; i < 32; i++)
        rising[i] = (unsigned char)i;
    assert_int_equal(hdl_crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(hdl_crc32c(0, zeros, 32), 0x8a9136aa);
    assert_int_equal(hdl_crc32c(0, ones, 32), 0x62a8ab43);
    assert_int_equal(hdl_crc32c(0, rising, 32), 0x46dd794e);
    for (size_t cut = 0; cut <= 32; cut++) {
        uint32_t crc = hdl_crc32c(0, rising, cut);
        assert_int_equal(hdl_crc32c(crc, rising + cut, 32 - cut), 0x46dd794e);
    }
}

/* Length and every byte count, at any alignment. */
static void test_sensitivity(void **state)
{
    (void)state;
    unsigned char bytes[130] = {0};
    for (size_t n = 0; n <= 100; n++) {
        uint64_t whole = hdl_hash_bytes(bytes, n, 1);
        assert_int_not_equal(whole, hdl_hash_bytes(bytes, n, 2));
        assert_int_not_equal(whole, hdl_hash_bytes(bytes, n + 1, 1));
        for (size_t i = 0; i < n; i++) {
            bytes[i] = 1;
            assert_int_not_equal(whole, hdl_hash_bytes(bytes, n, 1));
            bytes[i] = 0;
        }
        for (size_t shift = 1; shift < 8; shift++)
            assert_int_equal(whole, hdl_hash_bytes(bytes + shift, n, 1));
    }
}

/* Flipping one input bit flips each output bit in about half the cases: with 4096 trials a fair
 * bit lies within 6 standard deviations (0.047) of one half but for one test in 10^8; the seed
 * is fixed. */
static void test_avalanche(void **state)
{
    (void)state;
    enum { TRIALS = 4096 };
    hdl_rng rng;
    hdl_rng_init(&rng, 2026);
    uint32_t flips[64] = {0};
    for (int trial = 0; trial < TRIALS; trial++) {
        uint32_t words[9];
        for (int i = 0; i < 9; i++)
            words[i] = (uint32_t)hdl_rng_u64(&rng);
        uint64_t before = hdl_hash_u32s(words, 9, 0);
        uint64_t bit = hdl_rng_below(&rng, 9 * 32);
        words[bit / 32] ^= 1u << (bit % 32);
        uint64_t changed = before ^ hdl_hash_u32s(words, 9, 0);
        for (int i = 0; i < 64; i++)
            flips[i] += (uint32_t)(changed >> i & 1);
    }
    for (int i = 0; i < 64; i++)
        assert_in_range(flips[i], TRIALS / 2 - 193, TRIALS / 2 + 193);
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* 2^18 small and similar keys: no two 64-bit hashes are equal, and the low bits spread like
 * random ones. */
static void test_collisions(void **state)
{
    (void)state;
    enum { COUNT = 1 << 18, BINS = 1 << 10 };
    uint64_t *hashes = malloc(COUNT * sizeof *hashes);
    uint32_t *bins = calloc(BINS, sizeof *bins);
    assert_true(hashes && bins);
    for (int32_t i = 0; i < COUNT; i++) {
        int32_t tokens[32] = {0};
        tokens[i % 32] = i + 1; /* distinct by value, one word apart */
        hashes[i] = hdl_hash_chain(0, tokens, 32);
        bins[hashes[i] % BINS]++;
    }
    /* 256 a bin on average, standard deviation 16 */
    for (int i = 0; i < BINS; i++)
        assert_in_range(bins[i], 256 - 96, 256 + 96);
    qsort(hashes, COUNT, sizeof *hashes, compare_u64);
    size_t same = 0;
    for (size_t i = 1; i < COUNT; i++)
        same += hashes[i] == hashes[i - 1];
    assert_int_equal(same, 0);
    free(hashes);
    free(bins);
}

static void test_chain(void **state)
{
    (void)state;
    static const int32_t a[2] = {5, 6}, b[2] = {6, 5};
    uint64_t ab = hdl_hash_chain(hdl_hash_chain(0, a, 2), b, 2);
    uint64_t ba = hdl_hash_chain(hdl_hash_chain(0, b, 2), a, 2);
    assert_int_not_equal(ab, ba);
    assert_int_not_equal(hdl_hash_chain(0, a, 1), hdl_hash_chain(0, a, 2));
    assert_int_not_equal(hdl_hash_combine(1, 2), hdl_hash_combine(2, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),     cmocka_unit_test(test_crc32c),
        cmocka_unit_test(test_sensitivity), cmocka_unit_test(test_avalanche),
        cmocka_unit_test(test_collisions),  cmocka_unit_test(test_chain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
