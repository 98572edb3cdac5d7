/* SPDX-License-Identifier: Apache-2.0 */
#include "base/rng.h"

#include "base/assert.h"
#include "base/hash.h"

float hdl_philox_unit(uint32_t word)
{
    /* 23 bits and the half step make an odd 24-bit integer, which a float holds exactly. */
    return (float)((word >> 9) * 2u + 1u) * 0x1p-24f;
}

void hdl_rng_init(hdl_rng *rng, uint64_t seed)
{
    /* splitmix64: a bijection of distinct states, so that not all four can be zero, the one bad
     * state. */
    for (int i = 0; i < 4; i++)
        rng->s[i] = hdl_hash_mix(seed += 0x9e3779b97f4a7c15u);
}

static inline uint64_t rotl(uint64_t v, int by) { return v << by | v >> (64 - by); }

/* xoshiro256** (Blackman and Vigna 2018). */
uint64_t hdl_rng_u64(hdl_rng *rng)
{
    uint64_t *s = rng->s;
    uint64_t result = rotl(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

uint64_t hdl_rng_below(hdl_rng *rng, uint64_t n)
{
    HDL_ASSERT(n > 0);
    /* Draws below 2^64 mod n are thrown away, which leaves a multiple of n of them. */
    uint64_t reject = (0 - n) % n;
    uint64_t v = hdl_rng_u64(rng);
    while (v < reject)
        v = hdl_rng_u64(rng);
    return v % n;
}

uint64_t hdl_rng_range(hdl_rng *rng, uint64_t lo, uint64_t hi)
{
    HDL_ASSERT_LE(lo, hi);
    uint64_t n = hi - lo + 1;
    return n == 0 ? hdl_rng_u64(rng) : lo + hdl_rng_below(rng, n);
}

int hdl_rng_chance(hdl_rng *rng, uint32_t num, uint32_t den)
{
    return hdl_rng_below(rng, den) < num;
}

double hdl_rng_unit(hdl_rng *rng) { return (double)(hdl_rng_u64(rng) >> 11) * 0x1p-53; }

hdl_rng hdl_rng_fork(hdl_rng *rng)
{
    hdl_rng child;
    hdl_rng_init(&child, hdl_rng_u64(rng));
    return child;
}
